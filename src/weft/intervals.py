"""Figures with their uncertainty: 95% intervals by resampling groups.

Tokens of one text, and texts of one prompt, are alike; so what is drawn anew is the *group* (a prompt, say),
never the token. A group is a row of sums (numerators, denominators, whatever a figure needs); the rows of one
resample are added up, and a *statistic* turns the sums into a value.

Percentile intervals in a few lines of numpy rather than ``scipy.stats.bootstrap``, since that takes one
statistic at a time and draws anew for each, turns a single undefined resample into an undefined interval, and
warns on data without spread. Here one set of resamples serves all figures of a measurement, so that figures
over the same groups can be compared.

Invariants
    - What was not measured is ``None``, never 0, and its ``n`` is 0 unless the caller says otherwise.
    - The same rows in the same order and the same seed give the same figures.

It does not know what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sums = NDArray[np.float64]
"""Sums over groups, one column for each thing counted. ``[..., columns]``"""

Statistic = Callable[[Sums], NDArray[np.float64]]
"""From sums to values, along the last axis: ``[..., columns] -> [...]``; not a number where undefined."""

LEVEL = 0.95
"""Share of resamples that an interval holds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its 95% interval."""

    value: float | None
    """``None``: not measured, or undefined."""
    low: float | None
    high: float | None
    """``None``: with fewer than two groups nothing is known of the spread."""
    n: int
    """Cases that the value is over."""

    def to_json(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def shown(self, digits: int = 3) -> str:
        """For people: ``0.953 (0.941–0.964)``, ``-0.4 (-0.5 to -0.3)``; a dash where nothing was measured."""
        if self.value is None:
            return "–"
        text = _rounded(self.value, digits)
        if self.low is None or self.high is None:
            return text
        low, high = _rounded(self.low, digits), _rounded(self.high, digits)
        return f"{text} ({low}{' to ' if '-' in low + high else '–'}{high})"


NOT_MEASURED = Figure(None, None, None, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """Rows of groups, added up as they are and over and over as they were drawn."""

    total: Sums
    """``[columns]``"""
    drawn: Sums
    """``[resamples, columns]``; no resamples where there are fewer than two groups."""
    groups: int

    def figure(self, statistic: Statistic, n: float | None = None) -> Figure:
        """The statistic of the rows with its interval.

        Resamples in which it is undefined (a rare class that was not drawn) are left out of the interval.

        Args:
            statistic: see :data:`Statistic`.
            n: cases that the value is over; left out: the groups.
        """
        value = _finite(statistic(self.total))
        cases = round(n) if n is not None else self.groups if value is not None else 0
        if value is None or not len(self.drawn):
            return Figure(value, None, None, cases)
        values = statistic(self.drawn)
        values = values[np.isfinite(values)]
        if not len(values):
            return Figure(value, None, None, cases)
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Figure(value, float(low), float(high), cases)


def resample(rows: ArrayLike, *, seed: int = 0, resamples: int = 1000) -> Resamples:
    """Draw groups with replacement, as many as there are, ``resamples`` times.

    Args:
        rows: sums per group, see :func:`by_group`. ``[groups, columns]``
    """
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"rows of groups have two axes, not {table.ndim}")
    groups, columns = table.shape
    times = resamples if groups > 1 else 0
    drawn = np.empty((times, columns))
    random = np.random.default_rng(seed)
    for at in range(times):
        counts = np.bincount(random.integers(groups, size=groups), minlength=groups)
        drawn[at] = counts @ table
    return Resamples(table.sum(axis=0), drawn, groups)


def bootstrap(rows: ArrayLike, statistic: Statistic, *, seed: int = 0, resamples: int = 1000) -> Figure:
    """One figure: the statistic of the rows' sums, its 95% interval, and the number of groups.

    Args:
        rows: sums per group. ``[groups, columns]``
        statistic: see :data:`Statistic`; for a quotient of sums :func:`ratio`.
    """
    return resample(rows, seed=seed, resamples=resamples).figure(statistic)


def by_group(groups: Sequence[Hashable], rows: ArrayLike) -> Sums:
    """Add up the rows of each group, in the order in which groups first come. ``[groups, columns]``"""
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(groups):
        raise ValueError(f"{len(groups)} names of groups for rows of shape {table.shape}")
    places: dict[Hashable, int] = {}
    index = [places.setdefault(group, len(places)) for group in groups]
    sums = np.zeros((len(places), table.shape[1]))
    np.add.at(sums, index, table)
    return sums


def ratio(top: ArrayLike, bottom: ArrayLike) -> Statistic:
    """The statistic ``sum(top * sums) / sum(bottom * sums)``, undefined where that divides by zero.

    Args:
        top: weight of each column above the line. ``[columns]``
        bottom: weight of each column below the line. ``[columns]``
    """
    above, below = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)

    def quotient(sums: Sums) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((sums @ above) / (sums @ below), dtype=np.float64)

    return quotient


def _rounded(value: float, digits: int) -> str:
    """Without the sign of a zero."""
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
