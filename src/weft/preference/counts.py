"""What became of a data set's pairs when a policy was applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Counts:
    """Pairs and response tokens of one data set, before and after."""

    pairs: int
    """That are left."""
    too_long: int
    """Dropped: the prompt alone fills ``max_length``."""
    empty: int
    """Dropped: a response has no text."""
    same: int
    """Dropped: no differing token is left."""
    chosen: tuple[int, int]
    """Tokens of the chosen responses that are left, before the cut and after cut and truncation."""
    rejected: tuple[int, int]

    def __str__(self) -> str:
        reasons = {
            f"whose prompt fills max_length {self.too_long:,}": self.too_long,
            f"with an empty response {self.empty:,}": self.empty,
            f"without a differing token {self.same:,}": self.same,
        }
        dropped = ", ".join(reason for reason, number in reasons.items() if number)
        before, after = self.chosen[0] + self.rejected[0], self.chosen[1] + self.rejected[1]
        sides = ", ".join(
            f"{name} {side[0] / max(1, self.pairs):,.0f} -> {side[1] / max(1, self.pairs):,.0f}"
            for name, side in (("chosen", self.chosen), ("rejected", self.rejected))
        )
        return (
            f"{self.pairs:,} pairs, {after / max(1, before):.1%} of the response tokens stay "
            f"(mean {sides})" + (f"; dropped: {dropped}" if dropped else "")
        )


def counted(mapped: Any, *, too_long: int, empty: int) -> Counts | None:
    """Counts of rows that a policy was applied to, before the dropped ones go; ``None`` for a stream."""
    if not isinstance(mapped, Dataset):
        return None
    if len(mapped) == 0:
        return Counts(0, too_long, empty, 0, (0, 0), (0, 0))
    names = ["chosen_tokens", "rejected_tokens", "chosen_kept", "rejected_kept", "weft_same"]
    columns = mapped.select_columns(names).with_format("numpy")[:]
    left = ~np.asarray(columns["weft_same"])
    chosen, rejected = (
        (int(columns[f"{side}_tokens"][left].sum()), int(columns[f"{side}_kept"][left].sum()))
        for side in ("chosen", "rejected")
    )
    return Counts(int(left.sum()), too_long, empty, int((~left).sum()), chosen, rejected)
