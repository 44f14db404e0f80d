"""Finding a loop while it is written.

A text has fallen into a loop when its last tokens are one block of up to :data:`LONGEST_PERIOD` tokens,
repeated exactly, at least :data:`REPEATS` times and over at least ``tokens`` tokens. Short legal repeats
(rows of a table, closing brackets, a line of dashes) stay below both. A loop that counts upwards is not exact
and is left to the length limit.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

LONGEST_PERIOD = 512
REPEATS = 4


class LoopDetector:
    """Reads a text token by token and says when it has become a loop."""

    def __init__(self, tokens: int) -> None:
        """Flag loops that span ``tokens`` tokens or more; 0 flags none."""
        periods = np.arange(1, LONGEST_PERIOD + 1)
        # A block repeated m times matches itself, one period back, (m - 1) periods long.
        self._needed = (np.maximum(REPEATS, -(-tokens // periods)) - 1) * periods
        self._off = tokens == 0
        self._names: dict[Hashable, int] = {}
        self._last = np.full(LONGEST_PERIOD, -1, dtype=np.int64)  # the newest first
        self._matched = np.zeros(LONGEST_PERIOD, dtype=np.int64)  # tokens matched so far, by period

    def add(self, token: Hashable) -> int | None:
        """Read one token; the period of the loop (tokens) if the text is one now, else ``None``."""
        if self._off:
            return None
        name = self._names.setdefault(token, len(self._names))
        self._matched += 1
        self._matched *= self._last == name
        self._last[1:] = self._last[:-1].copy()
        self._last[0] = name
        reached = self._matched >= self._needed
        return int(reached.argmax()) + 1 if reached.any() else None
