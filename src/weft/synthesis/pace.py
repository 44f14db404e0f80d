"""How many tokens to ask for at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

ALONE_TOKENS = 512
"""Tokens per request where one model writes alone: long, yet a loop is found while it is written."""
MOST_TOKENS = 256
"""Most tokens per request where the models write in turn."""
PRIOR_TURNS, PRIOR_TOKENS = 8, 8.0
"""Before the first turn, lengths are taken for geometric with this mean; that counts for so many turns."""
LEARN_EVERY = 0.1
"""Sizes are computed anew when there are so many more turns than the last time, as a share."""


class Pace:
    """Asks one author for as much at a time as costs least, by how long its turns have been.

    A request costs as much as c tokens, a discarded token one. Where a turn needs n tokens with probability
    p(n), and s of them have come, the least cost that is still to be expected is, given n > s, ::

        V(s) = min over k of  c + sum over s < n <= s+k of p(n) (s + k - n) + P(n > s+k) V(s + k)

    and the k that attains it is asked for. One pace serves all traces of a run: what it learns of one serves
    the next. Where draws are keyed by position the text does not depend on it.
    """

    def __init__(self, request_tokens: Callable[[], float]) -> None:
        """``request_tokens`` gives c, which may change with an engine's load."""
        self._cost = request_tokens
        lengths_n = np.arange(MOST_TOKENS + 1)
        stay = 1 - 1 / PRIOR_TOKENS
        self._turns_n = np.where(lengths_n > 0, PRIOR_TURNS * (1 - stay) * stay ** (lengths_n - 1.0), 0.0)
        """Turns that needed n tokens; longer ones than the most count there."""
        self._turns = float(PRIOR_TURNS)
        self._learn_at = 0.0
        self._sizes: dict[int, list[int]] = {}
        """The sizes after 0, 1, 2 ... tokens, for each c that occurred (twice its binary logarithm)."""

    def turn(self, tokens: int) -> None:
        """Learn from a finished turn, which needed ``tokens`` tokens until its end could be seen."""
        self._turns_n[min(MOST_TOKENS, max(1, tokens))] += 1
        self._turns += 1

    def size(self, so_far: int) -> int:
        """Tokens to ask for, ``so_far`` tokens into a turn."""
        if self._turns >= self._learn_at:
            self._sizes.clear()
            self._learn_at = self._turns * (1 + LEARN_EVERY)
        cost = self._cost()
        step = round(2 * math.log2(cost))
        if step not in self._sizes:
            self._sizes[step] = self._least_cost(2 ** (step / 2))
        sizes = self._sizes[step]
        if so_far < len(sizes):
            return sizes[so_far]
        return min(MOST_TOKENS, math.ceil(math.sqrt(2 * cost * so_far)))

    def _least_cost(self, c: float) -> list[int]:
        """The best size after 0, 1, 2 ... tokens, from the longest turn backwards."""
        n = len(self._turns_n)
        # Sums over all longer turns, from the longest on, so that no small one is lost beside a large one.
        longer_n = np.append(np.cumsum(self._turns_n[:0:-1])[::-1], 0.0)
        tokens_n = np.append(np.cumsum((self._turns_n * np.arange(n))[:0:-1])[::-1], 0.0)
        cost_n = np.zeros(n)
        sizes = [0] * (n - 1)
        for s in range(n - 2, -1, -1):
            ends = np.arange(s + 1, n)
            discarded = ends * (longer_n[s] - longer_n[ends]) - (tokens_n[s] - tokens_n[ends])
            costs = c + (discarded + longer_n[ends] * cost_n[ends]) / longer_n[s]
            best = int(costs.argmin())
            sizes[s], cost_n[s] = best + 1, costs[best]
        return sizes
