"""The gap itself: over policies, does ranking better go with generating better?

For each policy reward accuracy on the pairs and mean quality of what it writes to their prompts are one
point; the rank correlations of these points are the result::

    spearman    Pearson's correlation of the ranks, ties by their mean rank
    kendall     tau-b: concordant less discordant, over the root of untied pairs in each

Their intervals come from drawing prompts anew, *the same ones for all policies*, and both figures of each
policy from them. They say how sure the correlation of these policies is, not how other policies would do.

Invariants
    - Fewer than :data:`FEWEST` policies correlate always, or never; nothing is said of them.
    - Resamples in which all policies are tied in one of the two are left out.

It does not know engines, pairs or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from weft.gap.ranking.result import GapCorrelation
from weft.intervals import Figure, Statistic, Sums, ratio, resample

Array = NDArray[np.float64]

FEWEST = 3
"""Policies that a correlation needs."""
SUMS = 4
"""Columns of each policy: correct pairs, pairs, summed quality, texts."""


@dataclass(frozen=True, slots=True)
class Points:
    """What one policy's figures are made of: a prompt's id and a number for each case."""

    correct: Sequence[tuple[str, float]]
    """1, 0.5 or 0 for each pair."""
    quality: Sequence[tuple[str, float]]
    """For each judged text."""


def correlate(reward: str, policies: Mapping[str, Points], *, seed: int = 0) -> GapCorrelation | None:
    """Rank correlation of accuracy and quality over policies.

    Args:
        reward: its kind, for the result.
        policies: by name; those without pairs or without judged texts do not count.

    Returns:
        ``None`` for fewer than :data:`FEWEST` policies.
    """
    used = {name: points for name, points in policies.items() if points.correct and points.quality}
    if len(used) < FEWEST:
        return None
    sums: dict[str, Array] = {}
    for at, points in enumerate(used.values()):
        for offset, cases in ((0, points.correct), (2, points.quality)):
            for prompt, value in cases:
                row = sums.setdefault(prompt, np.zeros(SUMS * len(used)))
                row[at * SUMS + offset : at * SUMS + offset + 2] += value, 1
    drawn = resample(np.array(list(sums.values())), seed=seed)

    def each(offset: int) -> dict[str, Figure]:
        return {
            name: drawn.figure(_mean(at, offset, len(used)), drawn.total[at * SUMS + offset + 1])
            for at, name in enumerate(used)
        }

    return GapCorrelation(
        reward=reward,
        policies=len(used),
        spearman=drawn.figure(_over_policies(spearman, len(used)), len(used)),
        kendall=drawn.figure(_over_policies(kendall, len(used)), len(used)),
        accuracy=each(0),
        quality=each(2),
    )


def spearman(first: Array, second: Array) -> Array:
    """Spearman's rho along the last axis; not a number where one is constant. ``[..., n] -> [...]``"""
    return _cosine(*(_centred(rankdata(values, axis=-1)) for values in (first, second)))


def kendall(first: Array, second: Array) -> Array:
    """Kendall's tau-b along the last axis; not a number where one is constant. ``[..., n] -> [...]``"""
    upper = np.triu_indices(first.shape[-1], 1)

    def order(values: Array) -> Array:
        return np.sign(values[..., upper[0]] - values[..., upper[1]])

    return _cosine(order(first), order(second))


def _centred(values: Array) -> Array:
    return np.asarray(values - values.mean(axis=-1, keepdims=True), dtype=np.float64)


def _cosine(first: Array, second: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
        return np.asarray((first * second).sum(axis=-1) / lengths, dtype=np.float64)


def _mean(at: int, offset: int, policies: int) -> Statistic:
    top, bottom = np.zeros(SUMS * policies), np.zeros(SUMS * policies)
    top[at * SUMS + offset], bottom[at * SUMS + offset + 1] = 1, 1
    return ratio(top, bottom)


def _over_policies(measure: Callable[[Array, Array], Array], policies: int) -> Statistic:
    """The correlation of both figures of all policies, from sums."""

    def statistic(sums: Sums) -> Array:
        found = [
            np.stack([_mean(at, offset, policies)(sums) for at in range(policies)], axis=-1)
            for offset in (0, 2)
        ]
        # A policy without a case in a resample has no rank there.
        known = np.isfinite(found[0]).all(axis=-1) & np.isfinite(found[1]).all(axis=-1)
        with np.errstate(invalid="ignore"):
            values = measure(np.nan_to_num(found[0]), np.nan_to_num(found[1]))
        return np.where(known, values, np.nan)

    return statistic
