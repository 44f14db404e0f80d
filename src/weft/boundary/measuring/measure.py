"""Measuring a boundary: the truth of some texts against what was said of them.

Each text is counted into named columns; columns are added up by group, and every figure is a statistic of the
sums (:mod:`weft.intervals`). Whether a piece is style in truth is said by
:func:`weft.boundary.spans.labels`; pieces of which nothing is said are left out on both sides.

It does not know where texts come from or how they were marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from weft.boundary.measuring.figures import (
    AtThreshold,
    Bin,
    BoundaryFigures,
    Calibration,
    Leaks,
    Lengths,
    Scores,
)
from weft.boundary.measuring.marked import Marked
from weft.boundary.measuring.matching import boundary_matches
from weft.boundary.spans import Annotation, labels
from weft.intervals import Figure, Resamples, Sums, by_group, ratio, resample

TOLERANCES = (0, 1, 3)
"""Tokens."""
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
THRESHOLD_TOLERANCE = 1
BINS = 15
"""Of equal width."""

Weights = Mapping[str, float]
"""A sum of columns: each with its weight."""
Flags = NDArray[np.bool_]


def measure(
    texts: Sequence[Annotation],
    marked: Sequence[Marked],
    *,
    threshold: float | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> BoundaryFigures:
    """All figures, with intervals by group.

    Args:
        texts: the truth.
        marked: the same texts as a boundary sees them.
        threshold: the one in use, for the table of thresholds.

    Raises:
        ValueError: pieces do not join to their text, or only some texts have probabilities.
    """
    calibrated = bool(marked) and all(one.probability is not None for one in marked)
    if not calibrated and any(one.probability is not None for one in marked):
        raise ValueError("some texts have probabilities and some have none")
    thresholds = sorted({*THRESHOLDS, *([threshold] if threshold is not None else [])}) if calibrated else []
    counts = [_count(text, one, thresholds) for text, one in zip(texts, marked, strict=True)]
    names = list(counts[0] if counts else _count(Annotation("", "", "", 0, "", ()), Marked((), ()), ()))
    rows = [[count[name] for name in names] for count in counts] or np.zeros((0, len(names)))
    table = by_group([text.group for text in texts], rows)
    sums = _Table(names, resample(table, seed=seed, resamples=resamples))
    return BoundaryFigures(
        texts=len(texts),
        groups=len(table),
        tokens=round(sums.total({"tokens": 1})),
        boundaries={
            tolerance: sums.scores(f"found at {tolerance}", "true boundaries", "predicted boundaries")
            for tolerance in TOLERANCES
        },
        style=sums.scores("style found", "true style", "called style"),
        capability=sums.scores("capability found", "true capability", "called capability"),
        style_spans=sums.lengths("style"),
        capability_spans=sums.lengths("capability"),
        leaked=sums.leaks(""),
        calibration=sums.calibration() if calibrated else None,
        thresholds=tuple(sums.at(value, value == threshold) for value in thresholds),
    )


def _count(text: Annotation, marked: Marked, thresholds: Sequence[float]) -> dict[str, float]:
    """What one text adds to each column."""
    if "".join(marked.pieces) != text.text:
        raise ValueError(f"{text.id}: the pieces that were marked are not this text")
    first = marked.first
    truth = labels(text.text, text.style, marked.pieces)[first:]
    called = [bool(flag) for flag in marked.style[first:]]
    counts = _of_tokens(np.array(truth, dtype=bool), np.array(called, dtype=bool), "")
    for name, flags in (("true", truth), ("called", called)):
        for kind, wanted in (("style", True), ("capability", False)):
            counts[f"{name} {kind} spans"] = _runs(flags, wanted)
    for tolerance in TOLERANCES:
        matches = boundary_matches(truth, called, tolerance)
        counts[f"found at {tolerance}"] = matches.found
        counts["true boundaries"], counts["predicted boundaries"] = matches.of_true, matches.of_predicted
    if marked.probability is not None:
        style = np.array(marked.probability[first:], dtype=np.float64)
        counts |= _of_probabilities(np.array(truth, dtype=bool), style)
        for threshold in thresholds:
            called = (style >= threshold).tolist()
            matches = boundary_matches(truth, called, THRESHOLD_TOLERANCE)
            prefix = f"{threshold} "
            counts |= _of_tokens(np.array(truth, dtype=bool), np.array(called, dtype=bool), prefix)
            counts[f"{prefix}found"] = matches.found
            counts[f"{prefix}predicted boundaries"] = matches.of_predicted
    return counts


def _of_tokens(truth: Flags, called: Flags, prefix: str) -> dict[str, float]:
    counts = {
        "leaked capability": (~truth & called).sum(),
        "leaked style": (truth & ~called).sum(),
    }
    if not prefix:
        counts |= {
            "tokens": len(truth),
            "style found": (truth & called).sum(),
            "true style": truth.sum(),
            "called style": called.sum(),
            "capability found": (~truth & ~called).sum(),
            "true capability": (~truth).sum(),
            "called capability": (~called).sum(),
        }
    return {prefix + name: float(value) for name, value in counts.items()}


def _runs(flags: Sequence[bool], wanted: bool) -> int:
    """How many unbroken runs of one label there are."""
    starts = sum(b == wanted != a for a, b in pairwise(flags))
    return starts + (bool(flags) and flags[0] == wanted)


def _of_probabilities(truth: Flags, style: NDArray[np.float64]) -> dict[str, float]:
    """Squared distances, and for each bin its tokens, probabilities and style."""
    bins = np.minimum((style * BINS).astype(int), BINS - 1)
    counts = {"squared distance": float(((style - truth) ** 2).sum())}
    for name, weights in (("n", np.ones(len(style))), ("p", style), ("style", truth.astype(float))):
        sums = np.bincount(bins, weights=weights, minlength=BINS)
        counts |= {f"bin {number} {name}": float(value) for number, value in enumerate(sums)}
    return counts


class _Table:
    """Resampled sums by the names of their columns."""

    def __init__(self, names: Sequence[str], sums: Resamples) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._sums = sums

    def total(self, weights: Weights) -> float:
        return float(self._sums.total @ self._vector(weights))

    def _vector(self, weights: Weights) -> NDArray[np.float64]:
        vector = np.zeros(len(self._places))
        for name, weight in weights.items():
            vector[self._places[name]] += weight
        return vector

    def quotient(self, top: Weights, bottom: Weights, cases: Weights | None = None) -> Figure:
        """One sum over another; ``cases`` are what it is over, if not the lower sum."""
        n = self.total(bottom if cases is None else cases)
        return self._sums.figure(ratio(self._vector(top), self._vector(bottom)), n)

    def scores(self, found: str, true: str, predicted: str) -> Scores:
        return Scores(
            precision=self.quotient({found: 1}, {predicted: 1}),
            recall=self.quotient({found: 1}, {true: 1}),
            f1=self.f1(found, true, predicted),
        )

    def f1(self, found: str, true: str, predicted: str) -> Figure:
        """Its cases are all that are true or predicted, each pair once."""
        cases = {true: 1, predicted: 1, found: -1}
        return self.quotient({found: 2}, {true: 1, predicted: 1}, cases)

    def lengths(self, kind: str) -> Lengths:
        return Lengths(
            true=self.quotient({f"true {kind}": 1}, {f"true {kind} spans": 1}),
            predicted=self.quotient({f"called {kind}": 1}, {f"called {kind} spans": 1}),
        )

    def leaks(self, prefix: str) -> Leaks:
        return Leaks(
            capability=self.quotient({f"{prefix}leaked capability": 1}, {"tokens": 1}),
            style=self.quotient({f"{prefix}leaked style": 1}, {"tokens": 1}),
        )

    def at(self, threshold: float, in_use: bool) -> AtThreshold:
        prefix = f"{threshold} "
        f1 = self.f1(f"{prefix}found", "true boundaries", f"{prefix}predicted boundaries")
        return AtThreshold(threshold, in_use, f1, self.leaks(prefix))

    def calibration(self) -> Calibration:
        columns = {
            name: [self._places[f"bin {number} {name}"] for number in range(BINS)]
            for name in ("n", "p", "style")
        }

        def distance(sums: Sums) -> NDArray[np.float64]:
            apart = np.abs(sums[..., columns["p"]] - sums[..., columns["style"]]).sum(-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(apart / sums[..., columns["n"]].sum(-1), dtype=np.float64)

        return Calibration(
            error=self._sums.figure(distance, self.total({"tokens": 1})),
            brier=self.quotient({"squared distance": 1}, {"tokens": 1}),
            bins=tuple(self._bin(number) for number in range(BINS)),
        )

    def _bin(self, number: int) -> Bin:
        n = {f"bin {number} n": 1.0}
        tokens = self.total(n)
        mean = self.total({f"bin {number} p": 1}) / tokens if tokens else None
        return Bin(number / BINS, (number + 1) / BINS, mean, self.quotient({f"bin {number} style": 1}, n))
