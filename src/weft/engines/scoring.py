"""Log-probabilities of given texts, in batches and pieces that bound memory.

Shape suffixes: B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch

SCORE_LOGITS = 2**27
"""Most logits (float32) that scoring holds at a time."""


@dataclass(slots=True)
class Score:
    """A text to score from ``start`` (at least 1) on."""

    ids: list[int]
    start: int
    future: Future[list[float]]


def pop_batch(waiting: list[Score], tokens: int) -> list[Score]:
    """Take the longest texts that make ``tokens`` tokens at most, padding included; one in any case."""
    waiting.sort(key=lambda job: len(job.ids))
    batch = [waiting.pop()]
    longest = len(batch[0].ids)
    while waiting and longest * (len(batch) + 1) <= tokens:
        batch.append(waiting.pop())
    return batch


def log_probabilities(model: Any, jobs: Sequence[Score], vocabulary_size: int) -> list[list[float]]:
    """Nats of each job's ids from its start on, among the first ``vocabulary_size`` ids as in drawing."""
    B, T = len(jobs), max((len(job.ids) for job in jobs), default=0)
    ids_BT = torch.zeros(B, T, dtype=torch.long)
    for row, job in enumerate(jobs):
        ids_BT[row, : len(job.ids)] = torch.tensor(job.ids)
    ids_BT = ids_BT.to(model.device)
    piece = max(1, SCORE_LOGITS // max(1, B * vocabulary_size))
    logps: list[list[float]] = [[] for _ in jobs]
    cache = None
    for start in range(0, T - 1, piece):
        # Right padding under a causal mask: no text sees its padding.
        end = min(start + piece, T - 1)
        output = model(input_ids=ids_BT[:, start:end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logps_BTV = output.logits[..., :vocabulary_size].float().log_softmax(dim=-1)
        logps_BT = logps_BTV.gather(2, ids_BT[:, start + 1 : end + 1].unsqueeze(2)).squeeze(2)
        for row, job in enumerate(jobs):
            first, last = max(job.start - 1, start), min(len(job.ids) - 1, end)
            if first < last:
                logps[row] += logps_BT[row, first - start : last - start].tolist()
    return logps
