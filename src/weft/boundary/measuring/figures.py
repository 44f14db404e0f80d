"""The figures of one boundary on one set of texts, as a record.

Invariants
    - Every figure carries its interval and the number of cases it is over; what was not measured is ``None``.
    - The JSON keeps its keys whatever was measured.

It does not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.intervals import Figure


@dataclass(frozen=True, slots=True)
class Scores:
    """How well one kind of thing is found."""

    precision: Figure
    recall: Figure
    f1: Figure

    def to_json(self) -> dict[str, Any]:
        return {
            "precision": self.precision.to_json(),
            "recall": self.recall.to_json(),
            "f1": self.f1.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean length of the spans of one class, in tokens, cut off where their text is; ``n`` counts spans."""

    true: Figure
    predicted: Figure

    def to_json(self) -> dict[str, Any]:
        return {"true": self.true.to_json(), "predicted": self.predicted.to_json()}


@dataclass(frozen=True, slots=True)
class Leaks:
    """Tokens that the wrong model would write, as shares of all tokens."""

    capability: Figure
    """Capability called style: the student would write what the teacher should."""
    style: Figure
    """Style called capability: the teacher would write what the student should."""

    def to_json(self) -> dict[str, Any]:
        return {"capability": self.capability.to_json(), "style": self.style.to_json()}


@dataclass(frozen=True, slots=True)
class Bin:
    """Tokens whose probability of style lies in one range."""

    low: float
    high: float
    """Not part of the range, but in the last bin."""
    probability: float | None
    """The mean of their probabilities."""
    style: Figure
    """The share of them that is style."""

    def to_json(self) -> dict[str, Any]:
        return {
            "low": self.low,
            "high": self.high,
            "probability": self.probability,
            "style": self.style.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether probabilities mean what they say."""

    error: Figure
    """Expected calibration error: the mean distance, over tokens, of a bin's mean probability from its share
    of style. Chance adds to distances, so that an interval by resampling lies somewhat high."""
    brier: Figure
    """Mean squared distance of the probability from the truth (0 or 1)."""
    bins: tuple[Bin, ...]
    """The reliability table."""

    def to_json(self) -> dict[str, Any]:
        return {
            "ece": self.error.to_json(),
            "brier": self.brier.to_json(),
            "reliability": [row.to_json() for row in self.bins],
        }


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What another threshold would give."""

    threshold: float
    in_use: bool
    boundary_f1: Figure
    """At a tolerance of one token."""
    leaked: Leaks

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "in_use": self.in_use,
            "boundary_f1": self.boundary_f1.to_json(),
            "leaked": self.leaked.to_json(),
        }


@dataclass(frozen=True, slots=True)
class BoundaryFigures:
    """All figures of one boundary on one set of texts."""

    texts: int
    groups: int
    tokens: int
    """Tokens of which something was said."""
    boundaries: Mapping[int, Scores]
    """By tolerance in tokens."""
    style: Scores
    capability: Scores
    style_spans: Lengths
    capability_spans: Lengths
    leaked: Leaks
    calibration: Calibration | None
    """``None`` for a boundary without probabilities."""
    thresholds: tuple[AtThreshold, ...]
    """Empty for such a boundary."""

    def to_json(self) -> dict[str, Any]:
        """One JSON object; figures are ``{"value", "low", "high", "n"}``."""
        by = {str(tolerance): scores for tolerance, scores in self.boundaries.items()}
        lengths = {"style": self.style_spans.to_json(), "capability": self.capability_spans.to_json()}
        return {
            "texts": self.texts,
            "groups": self.groups,
            "tokens": self.tokens,
            "boundary_f1": {tolerance: scores.f1.to_json() for tolerance, scores in by.items()},
            "boundary_precision": {tolerance: scores.precision.to_json() for tolerance, scores in by.items()},
            "boundary_recall": {tolerance: scores.recall.to_json() for tolerance, scores in by.items()},
            "style": self.style.to_json(),
            "capability": self.capability.to_json(),
            "span_length": lengths,
            "leaked": self.leaked.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "thresholds": [row.to_json() for row in self.thresholds],
        }
