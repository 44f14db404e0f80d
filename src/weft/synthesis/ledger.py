"""What a trace costs, counted while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable

from weft.records import Author, PerAuthor, Usage

Watch = Callable[[Author, int], None]
"""Told of tokens that an engine generated."""


class Ledger:
    """Counts in each model's own tokens; :meth:`usage` is the frozen sum."""

    def __init__(self, watch: Watch | None = None) -> None:
        """``watch`` is told of each request's tokens as they come."""
        self._watch = watch
        self.generated = PerAuthor()
        self.discarded = PerAuthor()
        self.prompt_tokens = PerAuthor()
        self.requests = PerAuthor()
        self.hand_overs = 0
        self.forced = 0
        self.refused = 0
        self._started = time.monotonic()

    def requested(self, author: Author, tokens: int, requests: int = 1) -> None:
        """``requests`` requests, answered with ``tokens`` tokens together."""
        self.requests = self.requests.plus(author, requests)
        self.generated = self.generated.plus(author, tokens)
        if self._watch is not None:
            self._watch(author, tokens)

    def discard(self, author: Author, tokens: int) -> None:
        """``tokens`` that were generated will not be in the trace."""
        self.discarded = self.discarded.plus(author, tokens)

    def prompted(self, author: Author, tokens: int) -> None:
        """A prompt of ``tokens`` tokens was put before the model."""
        self.prompt_tokens = self.prompt_tokens.plus(author, tokens)

    def usage(self, tokens: PerAuthor) -> Usage:
        """All counts; ``tokens`` are the kept ones, in the student's tokens."""
        return Usage(
            tokens=tokens,
            generated=self.generated,
            discarded=self.discarded,
            prompt_tokens=self.prompt_tokens,
            requests=self.requests,
            turns=self.hand_overs + 1,
            forced=self.forced,
            refused=self.refused,
            seconds=round(time.monotonic() - self._started, 3),
        )
