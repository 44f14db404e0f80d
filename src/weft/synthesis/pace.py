"""How many tokens to ask for at a time."""

from __future__ import annotations

import math

ALONE_TOKENS = 512
"""Tokens per request where one model writes alone: long, yet a loop is found while it is written."""
MOST_TOKENS = 256
"""Most tokens per request where the models write in turn."""


class Pace:
    """Asks one author for as much at a time as costs least, by how long its turns have been.

    A turn of m tokens, written k at a time, takes m / k requests and discards k / 2 tokens. If a request
    costs as much as c tokens, the sum c m / k + k / 2 is least at k = sqrt(2 c m).
    """

    def __init__(self, request_tokens: float) -> None:
        """Start from turns of a few words; ``request_tokens`` is c."""
        self._cost = request_tokens
        self._mean = 6.0

    def turn(self, tokens: int) -> None:
        """Learn from a finished turn."""
        self._mean += 0.25 * (tokens - self._mean)

    def size(self, so_far: int) -> int:
        """Tokens to ask for, ``so_far`` tokens into a turn; one more shows what comes after them."""
        return min(MOST_TOKENS, 1 + math.ceil(math.sqrt(2 * self._cost * max(self._mean, so_far))))
