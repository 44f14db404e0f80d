"""How far two annotations of the same texts agree: one annotator asked twice, or two annotators.

Token by token (words, and Chinese and Japanese by character) it is Cohen's kappa, which is 0 where they agree
no more than their shares of style alone would bring about, and 1 where they agree in everything. Hand-over by
hand-over it is the F1 of the boundaries of one against the other's, at tolerances in tokens; it is the same
whichever of the two is taken for the truth. Both say how much chance there is in what a classifier learns
from and is measured by.

It does not know which of the two is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weft.boundary.measuring.marked import in_words
from weft.boundary.measuring.matching import boundary_matches
from weft.boundary.spans import Annotation, labels, read_annotations
from weft.errors import UserError
from weft.intervals import Figure, Sums, by_group, ratio, resample

TOLERANCES = (0, 1, 3)
"""Tokens."""
_CELLS = ((True, True), (True, False), (False, True), (False, False))
"""What the two may say of a token: is it style?"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two annotations of the same windows; 95% intervals are over prompts."""

    windows: int
    """That both annotated."""
    alone: int
    """Windows that one of the two annotated and the other did not, or not completely: in no figure."""
    prompts: int
    tokens: int
    style: tuple[Figure, Figure]
    """The share of tokens that each calls style."""
    agreed: Figure
    """The share of tokens of which both say the same."""
    kappa: Figure
    """Cohen's kappa by token; not measured where both call all tokens the same."""
    boundary_f1: Mapping[int, Figure]
    """By tolerance in tokens."""

    def to_json(self) -> dict[str, Any]:
        """One JSON object; figures are ``{"value", "low", "high", "n"}``."""
        return {
            "windows": self.windows,
            "alone": self.alone,
            "prompts": self.prompts,
            "tokens": self.tokens,
            "style": {
                name: share.to_json() for name, share in zip(("first", "second"), self.style, strict=True)
            },
            "agreed": self.agreed.to_json(),
            "kappa": self.kappa.to_json(),
            "boundary_f1": {str(tolerance): f1.to_json() for tolerance, f1 in self.boundary_f1.items()},
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """The windows that were annotated twice."""

    both: Sequence[tuple[Annotation, Annotation]]
    alone: int
    """Windows that were annotated once."""


def read_pairs(spans: Path, others: Path | None = None) -> Pairs:
    """The windows of which two files hold an annotation each, or one file two passes.

    Windows are the same where trace, place and text are. Of two files equal passes are compared, of one file
    the first pass (number 0) and the second (number 1).

    Raises:
        UserError: a file holds something else, or there is nothing to compare.
    """
    if others is None:
        passes = [(one, one.number) for one in read_annotations(spans) if one.number < 2]
        first = {_window(one): one for one, number in passes if number == 0}
        second = {_window(one): one for one, number in passes if number == 1}
        remedy = "annotate with --passes 2, or name a second file with the same windows"
    else:
        first = {(*_window(one), one.number): one for one in read_annotations(spans)}
        second = {(*_window(one), one.number): one for one in read_annotations(others)}
        remedy = "annotate the same traces with the same --words and --seed"
    both = [(one, second[key]) for key, one in first.items() if key in second]
    alone = len(first) + len(second) - 2 * len(both)
    if not both:
        raise UserError(
            f"no window is annotated twice; {alone:,} are annotated once",
            where=f"{spans} and {others}" if others else str(spans),
            remedy=remedy,
        )
    return Pairs(both, alone)


def _window(annotation: Annotation) -> tuple[object, ...]:
    return annotation.trace, annotation.start, annotation.text


def measure_agreement(pairs: Pairs, *, seed: int = 0, resamples: int = 1000) -> Agreement:
    """All figures of two annotations of the same windows.

    Args:
        seed: of the resamples for the intervals.
    """
    # Columns: the four cells, then for each tolerance the pairs of boundaries, then those of either side.
    rows = [_counts(first, second) for first, second in pairs.both]
    table = by_group([first.group for first, _ in pairs.both], rows)
    sums = resample(table, seed=seed, resamples=resamples)
    width = table.shape[1]
    tokens = _columns(width, 0, 1, 2, 3)
    sides = _columns(width, width - 1)
    total = sums.total
    f1 = {}
    for at, tolerance in enumerate(TOLERANCES, len(_CELLS)):
        cases = total[-1] - total[at]  # all boundaries of either, each pair once
        f1[tolerance] = sums.figure(ratio(2 * _columns(width, at), sides), cases)
    count = float(total @ tokens)
    return Agreement(
        windows=len(pairs.both),
        alone=pairs.alone,
        prompts=len(table),
        tokens=round(count),
        style=(
            sums.figure(ratio(_columns(width, 0, 1), tokens), count),
            sums.figure(ratio(_columns(width, 0, 2), tokens), count),
        ),
        agreed=sums.figure(ratio(_columns(width, 0, 3), tokens), count),
        kappa=sums.figure(_kappa, count),
        boundary_f1=f1,
    )


def _columns(width: int, *places: int) -> NDArray[np.float64]:
    weights = np.zeros(width)
    weights[list(places)] = 1
    return weights


def _counts(first: Annotation, second: Annotation) -> list[int]:
    pieces = [unit.text for unit in in_words(first.text)]
    ours, theirs = (labels(one.text, one.style, pieces) for one in (first, second))
    said = list(zip(ours, theirs, strict=True))
    matches = [boundary_matches(ours, theirs, tolerance) for tolerance in TOLERANCES]
    return [
        *(said.count(cell) for cell in _CELLS),
        *(match.found for match in matches),
        matches[0].of_true + matches[0].of_predicted,
    ]


def _kappa(sums: Sums) -> NDArray[np.float64]:
    """Cohen's kappa from the counts of the four cells, which stand first. ``[..., columns] -> [...]``"""
    from sklearn.metrics import cohen_kappa_score

    ours, theirs = zip(*_CELLS, strict=True)

    def one(cells: Sequence[float]) -> float:
        if sum(cells[:-1]) == 0 or sum(cells[1:]) == 0:
            return float("nan")  # both call everything the same: there is nothing to agree on
        return float(cohen_kappa_score(ours, theirs, sample_weight=cells))

    table = sums[..., : len(_CELLS)]
    return np.array([one(cells) for cells in _each(table)]).reshape(table.shape[:-1])


def _each(table: NDArray[np.float64]) -> Iterator[list[float]]:
    yield from table.reshape(-1, table.shape[-1]).tolist()
