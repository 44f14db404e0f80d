"""How many tokens to ask for at a time."""

from __future__ import annotations

import math

ALONE_TOKENS = 512
"""Tokens per request where one model writes alone: long, yet a loop is found while it is written."""
MOST_TOKENS = 256
"""Most tokens per request where the models write in turn."""


class Pace:
    """How long one author's turns are, to ask for about as much as will be kept."""

    def __init__(self) -> None:
        self._mean = 6.0

    def turn(self, tokens: int) -> None:
        """Learn from a finished turn."""
        self._mean += 0.25 * (tokens - self._mean)

    def size(self, so_far: int) -> int:
        """Tokens to ask for, ``so_far`` tokens into a turn. The two more show where the next word starts."""
        left = self._mean - so_far
        return min(MOST_TOKENS, math.ceil(left) + 2 if left > 0 else max(4, so_far))
