"""What came of making pairs: how many, why others are none, and how both sides differ.

It does not know how pairs are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from weft.store import check_output, check_source, rejected_path


class PairStatus(StrEnum):
    """What became of two texts."""

    COMPLETE = "complete"
    """One is chosen, the other rejected."""
    SAME = "same"
    """They are equal, or one is the beginning of the other: nothing to prefer."""
    EMPTY = "empty"
    """One of them holds no text."""
    TIE = "tie"
    """Both are as good, or not far enough apart."""
    CONTRADICTED = "contradicted"
    """The one that is called rejected has the higher score."""
    UNVERIFIABLE = "unverifiable"
    """How good one of them is could not be told."""
    NOT_SPELLED = "not_spelled"
    """The vocabulary cannot spell one of them."""
    NO_ROOM = "no_room"
    """They leave no room in the model's context."""
    ENGINE_ERROR = "engine_error"
    """An engine failed; the only status that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What one call left on disk, earlier runs included."""

    output: Path
    pairs: int
    counts: Mapping[str, int]
    """Whatever gave no pair, by why: in words for people."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Means over the pairs, such as the lengths of both sides; what was not measured is not there."""
    to_try_again: int = 0
    """Failed by an engine's error; the same call tries them again."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "output": str(self.output),
            "pairs": self.pairs,
            "left_out": dict(self.counts),
            "figures": dict(self.figures),
            "to_try_again": self.to_try_again,
        }


def check_pairs(output: Path, inputs: list[Path], *beside: Path) -> None:
    """Find out what would keep pairs from being written, before anything is opened.

    Args:
        inputs: files that are read; no output may be one of them.
        beside: further outputs.

    Raises:
        UserError: an output cannot be written, or is an input.
    """
    for path in (output, *beside):
        check_output(path, "pair")
        for source in inputs:
            check_source(path, source, "traces")
            check_source(path, rejected_path(source), "traces")
