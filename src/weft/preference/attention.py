"""A mask of pairs that knows which of its parts are empty: SDPA over segments on a processor.

Between the halves of a pair, between pairs and above the diagonal a mask of packed pairs is empty: more than
half of it. PyTorch's kernels for processors compute those parts all the same. :class:`PairMask` is the mask
itself, a tensor of truth values that any model may slice, add or move. Only where it arrives at
``scaled_dot_product_attention`` as it was made, the work is done in two calls for each pair: a plain causal
one for the chosen sequence, one for the rest of the rejected one.

Invariant: what comes out is what the kernels give for the tensor, up to rounding; padding gets zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class Segment:
    """One pair in a packed row. All numbers in tokens."""

    row: int
    start: int
    """Where the pair begins; what both sequences share comes first."""
    middle: int
    """Where the chosen sequence ends and the rest of the rejected one begins."""
    end: int
    shared: int


class PairMask(torch.Tensor):
    """Which token of a packed row sees which, ``[Q, 1, W, W]``, and the segments that say the same."""

    segments: tuple[Segment, ...]
    below: tuple[torch.Tensor, ...]
    """For each segment, which keys the rest of the rejected one sees: the shared ones, its own so far."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is scaled_dot_product_attention and len(args) == 3:
                mask = kwargs.get("attn_mask")
                scale, dropout = kwargs.get("scale"), kwargs.get("dropout_p", 0.0)
                known = {"attn_mask", "scale", "dropout_p", "is_causal"}
                # Heads may have been folded into the queries; then these are not the mask's own.
                places = {args[0].size(2), args[1].size(2), mask.size(3)} if isinstance(mask, cls) else set()
                if isinstance(mask, cls) and len(places) == 1 and not dropout and kwargs.keys() <= known:
                    return _attend(args[0], args[1], args[2], mask, scale)
            return func(*args, **kwargs)


def pair_mask(seen: torch.Tensor, segments: Sequence[Segment]) -> PairMask:
    """``seen``, ``[Q, 1, W, W]`` truth values, with the ``segments`` that it was made of."""
    mask = seen.as_subclass(PairMask)
    mask.segments = tuple(segments)
    mask.below = tuple(_below(segment, seen.device) for segment in segments)
    return mask


def _below(segment: Segment, device: torch.device) -> torch.Tensor:
    rest = segment.end - segment.middle
    return torch.ones(rest, segment.shared + rest, dtype=torch.bool, device=device).tril(segment.shared)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: PairMask, scale: float | None
) -> torch.Tensor:
    """Attention of packed rows, ``[Q, heads, W, head]``, two calls for each pair."""
    rows: list[list[torch.Tensor]] = [[] for _ in range(query.size(0))]
    for segment, below in zip(mask.segments, mask.below, strict=True):
        q, k, v = (
            states[segment.row, :, segment.start : segment.end][None] for states in (query, key, value)
        )
        chosen = segment.middle - segment.start
        if chosen:
            first = tuple(states[:, :, :chosen] for states in (q, k, v))
            rows[segment.row].append(
                scaled_dot_product_attention(first[0], first[1], first[2], is_causal=True, scale=scale)
            )
        if segment.end > segment.middle:
            k, v = (torch.cat([s[:, :, : segment.shared], s[:, :, chosen:]], 2) for s in (k, v))
            rows[segment.row].append(
                scaled_dot_product_attention(q[:, :, chosen:], k, v, attn_mask=below, scale=scale)
            )
    width = query.size(2)
    joined = (torch.cat(parts, 2) for parts in rows)
    return torch.cat([torch.nn.functional.pad(row, (0, 0, 0, width - row.size(2))) for row in joined])
