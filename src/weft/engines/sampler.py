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
    """Candidates stand in falling order, tied ones by id: what is drawn does not depend on other rows."""
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    if not temperature:
        return logits_BV.argmax(dim=-1)
    logps_BV = (logits_BV / temperature).log_softmax(dim=-1)
    if top_k and top_k < logps_BV.shape[1]:
        logps_BK, ids_BK = _top(logps_BV, top_k)
        logps_BK = logps_BK.log_softmax(dim=-1)  # top_p is a share of what top_k leaves
        return _pick(logps_BK, ids_BK, sampling, uniform_B)
    if top_p is None or top_p >= 1.0:
        return _pick(logps_BV, None, sampling, uniform_B)
    if logps_BV.shape[1] <= HEAD:
        return _pick(*logps_BV.sort(dim=-1, descending=True, stable=True), sampling, uniform_B)
    # A longer vocabulary is seldom sorted: only for rows whose nucleus may reach past the likeliest.
    logps_BK, ids_BK = _in_order(*logps_BV.topk(HEAD, dim=-1))
    chosen_B = _pick(logps_BK, ids_BK, sampling, uniform_B)
    # Candidates tied at the last place may have lost others of their kind, so they do not count.
    sure_BK = logps_BK.double().exp().masked_fill(logps_BK <= logps_BK[:, -1:], 0.0)
    wide_B = sure_BK.sum(dim=-1) < top_p
    if bool(wide_B.any()):
        all_logps, all_ids = logps_BV[wide_B].sort(dim=-1, descending=True, stable=True)
        chosen_B[wide_B] = _pick(all_logps, all_ids, sampling, uniform_B[wide_B])
    return chosen_B


def _pick(
    logps_BK: torch.Tensor, ids_BK: torch.Tensor | None, sampling: Sampling, uniform_B: torch.Tensor
) -> torch.Tensor:
    """One id for each row among its candidates, which ``top_p`` and ``min_p`` cut further."""
    top_p, min_p = sampling.top_p, sampling.min_p
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


def _top(logps_BV: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``k`` (fewer than V) likeliest of each row; of those tied at the last place, the lowest ids."""
    logps_BK, ids_BK = logps_BV.topk(k + 1, dim=-1)
    more_B = logps_BK[:, k] == logps_BK[:, k - 1]
    logps_BK, ids_BK = logps_BK[:, :k], ids_BK[:, :k].clone()
    last_B1 = logps_BK[:, -1:]
    if bool(more_B.any()):
        all_logps, last = logps_BV[more_B], last_B1[more_B]
        above, tied = all_logps > last, all_logps == last
        taken = above | (
            tied & (tied.cumsum(dim=-1, dtype=torch.int32) <= k - above.sum(dim=-1, keepdim=True))
        )
        ids_BK[more_B] = taken.nonzero()[:, 1].view(-1, k)
        logps_BK = logps_BV.gather(1, ids_BK)
    return _in_order(logps_BK, ids_BK)


def _in_order(logps_BK: torch.Tensor, ids_BK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same candidates in falling order, tied ones by id."""
    ids_BK, order_BK = ids_BK.sort(dim=-1)
    logps_BK, falling_BK = logps_BK.gather(1, order_BK).sort(dim=-1, descending=True, stable=True)
    return logps_BK, ids_BK.gather(1, falling_BK)
