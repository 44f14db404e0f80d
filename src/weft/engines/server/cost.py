"""What a request costs beside its tokens, learned from how long requests take under the load at hand."""

from __future__ import annotations

FEWEST = 100
"""Requests before anything is concluded."""
MEMORY = 0.998
"""Weight of a request at the next one: some five hundred are remembered."""
RANGE = 4.0
"""How far what is learned may lie from the figure that it starts from, as a factor."""
MOST_LEARNED = 64
"""Tokens of the longest requests that are learned from: where one model writes alone, other things count."""


class RequestCost:
    """Fits ``seconds = a + b * tokens`` by least squares and tells ``a / b``: a request's cost in tokens."""

    def __init__(self, tokens: float) -> None:
        """Start from ``tokens``, measured on a server of this kind."""
        self.tokens = tokens
        self._first = tokens
        self._seen = 0
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """A request for ``tokens`` tokens took so long."""
        if not 0 < tokens <= MOST_LEARNED:
            return
        self._seen += 1
        self._n = MEMORY * self._n + 1
        self._x = MEMORY * self._x + tokens
        self._y = MEMORY * self._y + seconds
        self._xx = MEMORY * self._xx + tokens * tokens
        self._xy = MEMORY * self._xy + tokens * seconds
        spread = self._n * self._xx - self._x * self._x
        # Requests of one length tell nothing about what a token costs.
        if self._seen < FEWEST or spread < self._n * self._n:
            return
        slope = (self._n * self._xy - self._x * self._y) / spread
        start = (self._y - slope * self._x) / self._n
        least, most = self._first / RANGE, self._first * RANGE
        self.tokens = most if slope <= 0 else min(most, max(least, start / slope))
