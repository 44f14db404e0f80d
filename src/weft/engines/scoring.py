"""What a model thinks of given texts, in batches and pieces that bound memory.

Shape suffixes: B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from weft.engines.base import Scored

SCORE_LOGITS = 2**26
"""Most logits (float32) of one piece; scoring holds some three times as many numbers."""


LARGE = 512
"""Tokens from which on a pass waits for arithmetic, not for weights."""
ALIKE = 0.8
"""Shortest text of a large batch, as a share of its longest."""


@dataclass(slots=True)
class Score:
    """A text to score from ``start`` (at least 1) on."""

    ids: list[int]
    start: int
    future: Future[Scored]


def pop_batch(waiting: list[Score], tokens: int) -> list[Score]:
    """Take the longest texts that make ``tokens`` tokens at most, padding included; one in any case.

    A batch that is large enough takes no text that would be a fifth padding.
    """
    waiting.sort(key=lambda job: len(job.ids))
    batch = [waiting.pop()]
    longest = len(batch[0].ids)
    while waiting and longest * (len(batch) + 1) <= tokens:
        if longest * len(batch) >= LARGE and len(waiting[-1].ids) < ALIKE * longest:
            break
        batch.append(waiting.pop())
    return batch


def scored(model: Any, jobs: Sequence[Score], vocabulary_size: int) -> list[Scored]:
    """What the model thinks of each job's ids from its start on, among the first ``vocabulary_size`` ids."""
    B, T = len(jobs), max((len(job.ids) for job in jobs), default=0)
    ids_BT = torch.zeros(B, T, dtype=torch.long)
    for row, job in enumerate(jobs):
        ids_BT[row, : len(job.ids)] = torch.tensor(job.ids)
    ids_BT = ids_BT.to(model.device)
    piece = max(1, SCORE_LOGITS // max(1, B * vocabulary_size))
    found: list[_Found] = [_Found() for _ in jobs]
    cache = None
    for start in range(0, T - 1, piece):
        # Right padding under a causal mask: no text sees its padding.
        end = min(start + piece, T - 1)
        output = model(input_ids=ids_BT[:, start:end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logps_BTV = output.logits[..., :vocabulary_size].float().log_softmax(dim=-1)
        own_BT1 = logps_BTV.gather(2, ids_BT[:, start + 1 : end + 1].unsqueeze(2))
        ranks_BT = (logps_BTV > own_BT1).sum(dim=2) + 1
        entropies_BT = torch.special.entr(logps_BTV.exp_()).sum(dim=2)
        for row, job in enumerate(jobs):
            first, last = max(job.start - 1, start), min(len(job.ids) - 1, end)
            if first < last:
                here = slice(first - start, last - start)
                found[row].logps += own_BT1[row, here, 0].tolist()
                found[row].ranks += ranks_BT[row, here].tolist()
                found[row].entropies += entropies_BT[row, here].tolist()
    return [Scored(tuple(one.logps), tuple(one.ranks), tuple(one.entropies)) for one in found]


@dataclass(slots=True)
class _Found:
    """What is known of one text, so far."""

    logps: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
