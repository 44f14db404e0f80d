"""Hand-over places, predicted against true.

Labels are per token: ``True`` is style. A *boundary* is a token whose label differs from that of the token
before it; it has a direction, into style or into capability. The start of a text is none.

Invariants
    - Boundaries match one to one, of the same direction only, and as many as can.
    - What is found rises with the tolerance and never exceeds either side.

It does not know tokenizers, texts or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matches:
    """Counts of boundaries."""

    found: int
    """Pairs of a true and a predicted one."""
    of_true: int
    of_predicted: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.found + other.found, self.of_true + other.of_true, self.of_predicted + other.of_predicted
        )

    @property
    def f1(self) -> float | None:
        """See :func:`f1`."""
        return f1(self.found, self.of_true, self.of_predicted)


def boundaries(labels: Sequence[bool], *, into: bool) -> list[int]:
    """The tokens at which the label turns to ``into``, by position, in order."""
    return [at for at in range(1, len(labels)) if labels[at] == into != labels[at - 1]]


def boundary_matches(truth: Sequence[bool], predicted: Sequence[bool], tolerance: int) -> Matches:
    """Match the boundaries of one text.

    Args:
        truth: whether each token is style.
        predicted: the same, as predicted.
        tolerance: tokens that a predicted boundary may stand before or after the true one.

    Raises:
        ValueError: the two differ in length, or the tolerance is negative.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true labels and {len(predicted)} predicted ones of one text")
    if tolerance < 0:
        raise ValueError(f"a tolerance of {tolerance} tokens")
    total = Matches(0, 0, 0)
    for into in (True, False):
        true, found = boundaries(truth, into=into), boundaries(predicted, into=into)
        total += Matches(_pairs(true, found, tolerance), len(true), len(found))
    return total


def f1(found: int, of_true: int, of_predicted: int) -> float | None:
    """The harmonic mean of precision and recall; ``None`` where there is neither a true nor a predicted one.

    With one side empty it is 0, although precision or recall is then undefined.
    """
    either = of_true + of_predicted
    return 2 * found / either if either else None


def _pairs(true: Sequence[int], predicted: Sequence[int], tolerance: int) -> int:
    """The most pairs at a distance of at most ``tolerance``; both sides in order.

    Taking the first two that fit is best: on a line, crossing pairs can be uncrossed without growing longer,
    and whoever is left behind fits nobody that comes later.
    """
    pairs = i = j = 0
    while i < len(true) and j < len(predicted):
        if abs(true[i] - predicted[j]) <= tolerance:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif true[i] < predicted[j]:
            i += 1
        else:
            j += 1
    return pairs
