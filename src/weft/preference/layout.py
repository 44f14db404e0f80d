"""Padded rows of pairs to packed ones and back, in tensors: ids, positions, masks, scores.

The numbers come from :mod:`weft.preference.packing`. What the two sequences of a pair share is found by
comparing their ids, so prompts that differ are no special case, they only share less; and a response that
begins like the other shares more than its prompt. A token scored in both sequences is scored once.

Shape suffixes: R rows of a batch (the chosen ones, then the rejected ones), P pairs, T tokens of a padded
row, S = T - 1 tokens that have a token before them, Q packed rows of a call, W tokens of a packed row, N
scored tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from weft.preference.attention import Segment, pair_mask
from weft.preference.packing import Packed, Run, apart, one_block, run

ROW = 512
"""Tokens to which rows of several pairs are filled where each row is a call of its own."""
IGNORED = -100
"""The label of a token that is not scored."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one batch is laid out."""

    runs: tuple[Run, ...]
    """``[P]``"""
    calls: tuple[Packed, ...]
    """The rows of each call of the backbone."""
    scored_RS: torch.Tensor
    """Which tokens have a score of their own."""
    same_PS: torch.Tensor
    """Which tokens of the rejected rows have the score of the chosen row."""

    @property
    def positions(self) -> int:
        """Tokens that go through the backbone, padding included."""
        return sum(packed.positions for packed in self.calls)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(pair.longest for pair in self.runs)


def lay_out(
    ids_RT: torch.Tensor, mask_RT: torch.Tensor, labels_RT: torch.Tensor, *, together: bool
) -> Plan | str:
    """The plan of a batch, or why it has none.

    Args:
        ids_RT: token ids, the chosen rows, then the rejected ones
        mask_RT: 1 where a token is, 0 for padding
        labels_RT: ids of the tokens that are scored, elsewhere ``IGNORED``
        together: whether all rows go in one call, or each in a call of its own
    """
    places = torch.arange(ids_RT.size(1), device=ids_RT.device)
    mask = mask_RT.bool()
    chosen, rejected = ids_RT.chunk(2)
    common_P = ((chosen == rejected) & mask.chunk(2)[0] & mask.chunk(2)[1]).int().cumprod(1).sum(1)
    labelled = labels_RT != IGNORED
    # A token at place t is predicted from the t tokens before it; the first one is predicted from nothing.
    needed_R = (labelled * places).amax(1)
    upright = ((mask == (places < mask.sum(1, keepdim=True))).all() & ~(labelled & ~mask).any()).long()
    # The only place at which the numbers leave their device.
    facts = torch.cat([upright[None], common_P, needed_R]).tolist()
    pairs = len(common_P)
    if not facts[0]:
        return "rows are padded on the left, or within"
    if not any(facts[1 + pairs :]):
        return "no token of this batch is scored"
    runs = tuple(
        run(*numbers)
        for numbers in zip(
            facts[1 : 1 + pairs], facts[1 + pairs : 1 + 2 * pairs], facts[1 + 2 * pairs :], strict=True
        )
    )
    lengths = [pair.tokens for pair in runs]
    calls = [one_block(lengths)] if together else apart(lengths, ROW)
    scored_RS = labelled[:, 1:].clone()
    chosen_PS, rejected_PS = labels_RT[:, 1:].chunk(2)
    same_PS = (chosen_PS == rejected_PS) & scored_RS[:pairs] & (places[1:] < common_P[:, None])
    scored_RS[pairs:] &= ~same_PS
    return Plan(runs, tuple(calls), scored_RS, same_PS)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The packed rows of one call of the backbone."""

    source_QW: torch.Tensor
    """Which id of the padded rows stands where, counted through all rows; padding repeats the first."""
    position_QW: torch.Tensor
    pair_QW: torch.Tensor
    """-1 for padding"""
    branch_QW: torch.Tensor
    """0 for what both sequences share, 1 for the rest of the chosen one, 2 for that of the rejected one."""
    place_RT: torch.Tensor
    """Where each token of the padded rows stands, counted through all packed rows; -1 if it does not."""
    segments: tuple[Segment, ...]

    def sees(self, q_row: Any, query: Any, key: Any) -> Any:
        """Whether the token at ``query`` of a row sees the one at ``key``: elementwise, for index tensors."""
        branch = self.branch_QW[q_row, key]
        return (
            (key <= query)
            & (self.pair_QW[q_row, key] == self.pair_QW[q_row, query])
            & ((branch == 0) | (branch == self.branch_QW[q_row, query]))
        )

    def mask(self, attention: str, dtype: torch.dtype) -> Any:
        """The mask as transformers' ``attention`` implementation reads it, ``[Q, 1, W, W]``.

        ``sdpa`` reads truth values, ``eager`` adds numbers of ``dtype``, ``flex_attention`` reads blocks.
        """
        rows, width = self.source_QW.shape
        if attention == "flex_attention":
            from torch.nn.attention.flex_attention import create_block_mask

            def visible(row: Any, head: Any, query: Any, key: Any) -> Any:
                return self.sees(row, query, key)

            return create_block_mask(visible, rows, None, width, width, device=str(self.source_QW.device))
        places = torch.arange(width, device=self.source_QW.device)
        row = torch.arange(rows, device=self.source_QW.device)
        seen = self.sees(row[:, None, None], places[:, None], places[None, :])[:, None]
        if attention == "eager":
            return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return pair_mask(seen, self.segments) if seen.device.type == "cpu" else seen


def call(runs: Sequence[Run], packed: Packed, ids_RT: torch.Tensor) -> Call:
    """The rows of ``packed`` on the device of ``ids_RT``."""
    rows, tokens = ids_RT.shape
    size = (len(packed.rows), packed.width)
    source, position = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
    pair, branch = torch.full(size, -1), torch.zeros(size, dtype=torch.long)
    place = torch.full((rows, tokens), -1)
    segments = []
    for row, numbers in enumerate(packed.rows):
        at = 0
        for number in numbers:
            one, other = runs[number], number + rows // 2
            middle, end = at + one.chosen, at + one.tokens
            chosen, rejected = torch.arange(one.chosen), torch.arange(one.shared, one.rejected)
            source[row, at:middle], source[row, middle:end] = (
                number * tokens + chosen,
                other * tokens + rejected,
            )
            position[row, at:middle], position[row, middle:end] = chosen, rejected
            pair[row, at:end] = number
            branch[row, at + one.shared : middle], branch[row, middle:end] = 1, 2
            start = row * packed.width + at
            place[number, : one.chosen] = start + chosen
            place[other, : one.shared] = start + chosen[: one.shared]
            place[other, one.shared : one.rejected] = start + one.chosen - one.shared + rejected
            segments.append(Segment(row, at, middle, end, one.shared))
            at = end
    device = ids_RT.device
    return Call(
        source.to(device),
        position.to(device),
        pair.to(device),
        branch.to(device),
        place.to(device),
        tuple(segments),
    )


def scatter(values_N: torch.Tensor, where_N: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Scores in the places of padded rows, zeros elsewhere: ``[R, S]``."""
    flat = values_N.new_zeros(plan.scored_RS.numel()).index_copy(0, where_N, values_N)
    chosen, rejected = flat.view(plan.scored_RS.shape).chunk(2)
    return torch.cat([chosen, torch.where(plan.same_PS, chosen, rejected)])
