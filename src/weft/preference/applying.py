"""A prefix policy on one row: the columns that change.

Invariants
    - ``max_length`` applies after a cut, and before weights: a draw is of tokens that are seen.
    - All that decides is a field, so that a data set's fingerprint, which is made of the fields, differs with
      it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft import __version__
from weft.preference.policies import Cut, Pair, PrefixPolicy, Weighing, Whole

POLICY = "prefix_policy"
"""The column that holds the policy's spec."""
ROW = "weft_row"
"""The column that holds the row's number in the data that came in, from 0."""


@dataclass(frozen=True, slots=True)
class Apply:
    """One row in, the columns that change out; picklable, and all that decides is a field."""

    policy: PrefixPolicy
    max_length: int | None = None
    masks: bool = False
    """Give weights of 1 and 0 in place of cutting."""
    keeps_uncut: bool = False
    version: str = __version__

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        prompt, chosen, rejected = row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]
        room = _room(self.max_length, prompt)
        found: dict[str, Any] = {
            POLICY: self.policy.spec,
            "chosen_tokens": len(chosen),
            "rejected_tokens": len(rejected),
        }
        if self.keeps_uncut:
            found["chosen_uncut_ids"] = chosen[:room]
        weights: tuple[list[float], list[float]] | None = None
        if isinstance(self.policy, Weighing):
            # After truncation: what lies beyond is not seen, and a draw from it would be lost.
            chosen, rejected = chosen[:room], rejected[:room]
            weights = self.policy.weights(Pair(prompt, chosen, rejected))
        elif not isinstance(self.policy, Whole):
            lengths = self._lengths(row)
            if self.masks:
                chosen, rejected = chosen[:room], rejected[:room]
                weights = _mask(len(chosen), lengths[0]), _mask(len(rejected), lengths[1])
            else:
                chosen, rejected = chosen[: min(room, lengths[0])], rejected[: min(room, lengths[1])]
        else:
            chosen, rejected = chosen[:room], rejected[:room]
        if weights is not None:
            found["chosen_weights"], found["rejected_weights"] = weights
        return found | _finished(chosen, rejected, weights)

    def _lengths(self, row: dict[str, Any]) -> tuple[int, int]:
        pair = Pair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        if pair.shared == 0:
            return 0, 0
        if isinstance(self.policy, Cut):
            return self.policy.lengths(pair)
        # `consistent`: a judge was asked before.
        kept: Sequence[int] = row["weft_kept"]
        return kept[0], kept[1]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Rows that were cut before: only ``max_length`` is left to apply."""

    max_length: int | None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        room = _room(self.max_length, row["prompt_ids"])
        chosen, rejected = row["chosen_ids"][:room], row["rejected_ids"][:room]
        weights: tuple[list[float], list[float]] | None = None
        found: dict[str, Any] = {}
        if row.get("chosen_weights") is not None:
            weights = row["chosen_weights"][:room], row["rejected_weights"][:room]
            found["chosen_weights"], found["rejected_weights"] = weights
        if row.get("chosen_uncut_ids") is not None:
            found["chosen_uncut_ids"] = row["chosen_uncut_ids"][:room]
        for side, ids in (("chosen", row["chosen_ids"]), ("rejected", row["rejected_ids"])):
            found[f"{side}_tokens"] = row.get(f"{side}_tokens", len(ids))
        return found | _finished(chosen, rejected, weights)


def _room(max_length: int | None, prompt: Sequence[int]) -> int:
    """Tokens that a response may have."""
    return sys.maxsize if max_length is None else max(0, max_length - len(prompt))


def _mask(tokens: int, kept: int) -> list[float]:
    return [1.0] * min(tokens, kept) + [0.0] * max(0, tokens - kept)


def _finished(
    chosen: Sequence[int],
    rejected: Sequence[int],
    weights: tuple[list[float], list[float]] | None,
) -> dict[str, Any]:
    sides = []
    for ids, factors in zip((chosen, rejected), weights or (None, None), strict=True):
        seen = [(token, 1.0) for token in ids] if factors is None else list(zip(ids, factors, strict=True))
        while seen and seen[-1][1] == 0:
            seen.pop()
        sides.append(seen)
    return {
        "chosen_ids": chosen,
        "rejected_ids": rejected,
        "chosen_kept": sum(weight > 0 for _, weight in sides[0]),
        "rejected_kept": sum(weight > 0 for _, weight in sides[1]),
        "weft_same": bool(not sides[0] or not sides[1] or sides[0] == sides[1]),
    }


@dataclass(frozen=True, slots=True)
class Drawn(Whole):
    """Rows stay whole until their epoch's draw; the column names the policy that will make it."""

    of: str

    @property
    def spec(self) -> str:
        return self.of
