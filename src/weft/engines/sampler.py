"""Drawing tokens from logits, one uniform number each.

A draw is the inverse of the cumulative distribution at ``uniform(seed, position)``: a function of the logits
and of that number, so the same text is drawn whatever batch it shares.

Shape suffixes: B rows, V vocabulary, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from weft.records import Sampling

HEAD = 1024
"""Candidates among which a nucleus (top_p) is looked for first."""


def draw(logits_BV: torch.Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """One token id for each row; rows of equal sampling are drawn together.

    Args:
        logits_BV: of any float type; drawn from in float32 at least.
        samplings: all fields set, one for each row.
        uniforms: in [0, 1), one for each row; greedy rows ignore theirs.
    """
    chosen = [0] * len(samplings)
    groups: dict[Sampling, list[int]] = {}
    for row, sampling in enumerate(samplings):
        groups.setdefault(sampling, []).append(row)
    for sampling, rows in groups.items():
        whole = len(groups) == 1
        group_BV = logits_BV if whole else logits_BV[torch.tensor(rows, device=logits_BV.device)]
        uniform_B = torch.tensor(
            [uniforms[row] for row in rows], device=logits_BV.device, dtype=torch.float64
        )
        for row, token in zip(rows, _draw(_wide(group_BV), sampling, uniform_B).tolist(), strict=True):
            chosen[row] = token
    return chosen


def _wide(logits_BV: torch.Tensor) -> torch.Tensor:
    return logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()


def _draw(logits_BV: torch.Tensor, sampling: Sampling, uniform_B: torch.Tensor) -> torch.Tensor:
    temperature, top_p, top_k, min_p = sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p
    if not temperature:
        return logits_BV.argmax(dim=-1)
    logps_BV = (logits_BV / temperature).log_softmax(dim=-1)
    if top_k and top_k < logps_BV.shape[1]:
        logps_BK, ids_BK = logps_BV.topk(top_k, dim=-1)
        logps_BK = logps_BK.log_softmax(dim=-1)  # top_p is a share of what top_k leaves
    elif top_p is not None and top_p < 1.0:
        logps_BK, ids_BK = _likeliest(logps_BV, top_p)
    else:
        logps_BK, ids_BK = logps_BV, None
    weights_BK = logps_BK.double().exp()
    if ids_BK is not None and top_p is not None and top_p < 1.0:
        before_BK = weights_BK.cumsum(dim=-1) - weights_BK
        weights_BK = weights_BK.masked_fill(before_BK >= top_p, 0.0)
    if min_p:
        weights_BK = weights_BK.masked_fill(weights_BK < min_p * weights_BK.amax(dim=-1, keepdim=True), 0.0)
    cumulative_BK = weights_BK.cumsum(dim=-1)
    target_B1 = (uniform_B * cumulative_BK[:, -1]).unsqueeze(1)
    index_B1 = torch.searchsorted(cumulative_BK, target_B1, right=True)
    # Rounding may put the target on the total itself: the last candidate that has any weight is meant.
    last_B1 = (weights_BK > 0).double().cumsum(dim=-1).argmax(dim=-1, keepdim=True)
    index_B1 = torch.minimum(index_B1, last_B1)
    return (index_B1 if ids_BK is None else ids_BK.gather(1, index_B1)).squeeze(1)


def _likeliest(logps_BV: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Candidates in falling order that hold at least ``top_p``; a whole vocabulary is seldom sorted."""
    logps_BK, ids_BK = logps_BV.topk(min(HEAD, logps_BV.shape[1]), dim=-1)
    if bool((logps_BK.exp().sum(dim=-1) >= top_p).all()):
        return logps_BK, ids_BK
    return logps_BV.sort(dim=-1, descending=True, stable=True)
