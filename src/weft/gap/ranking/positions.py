"""Log-probability and entropy of response tokens by their position: where the policy is still undecided.

Places are told apart finely where responses begin: 0, 1, 2-3, 4-7, 8-15 and so on. Intervals are over
prompts, counts over tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from weft.gap.ranking.result import Position
from weft.gap.ranking.rewards import ReadPair, ReadSide, doubling
from weft.intervals import NOT_MEASURED, Figure, Resamples, by_group, ratio, resample

COLUMNS = 3
"""Of one side in one bin: tokens, summed log-probability, summed entropy."""


def positions(pairs: Sequence[ReadPair], *, seed: int = 0) -> tuple[Position, ...]:
    """Mean log-probability and entropy, nats per token, of both responses in each bin."""
    if not pairs:
        return ()
    longest = max(len(side.logps) for pair in pairs for side in pair.sides)
    edges = [0, *doubling(2 * longest)]
    rows = [np.concatenate([_sums(side, edges) for side in pair.sides]) for pair in pairs]
    drawn = resample(by_group([pair.prompt for pair in pairs], rows), seed=seed)
    bins = len(edges) - 1
    entropies = all(side.entropies is not None for pair in pairs for side in pair.sides)
    found = []
    for at in range(bins):
        chosen, rejected = at * COLUMNS, (bins + at) * COLUMNS
        found.append(
            Position(
                edges[at],
                edges[at + 1],
                _mean(drawn, chosen, 1),
                _mean(drawn, rejected, 1),
                _mean(drawn, chosen, 2) if entropies else NOT_MEASURED,
                _mean(drawn, rejected, 2) if entropies else NOT_MEASURED,
            )
        )
    return tuple(found)


def _sums(side: ReadSide, edges: Sequence[int]) -> NDArray[np.float64]:
    """One side's columns, bin after bin. ``[bins * COLUMNS]``"""
    entropies = side.entropies if side.entropies is not None else np.zeros_like(side.logps)
    found = []
    for start, end in pairwise(edges):
        here = slice(start, end)
        found += [float(len(side.logps[here])), float(side.logps[here].sum()), float(entropies[here].sum())]
    return np.array(found)


def _mean(drawn: Resamples, first: int, column: int) -> Figure:
    columns = len(drawn.total)
    top, bottom = np.zeros(columns), np.zeros(columns)
    top[first + column], bottom[first] = 1, 1
    tokens = drawn.total[first]
    return drawn.figure(ratio(top, bottom), tokens) if tokens else NOT_MEASURED
