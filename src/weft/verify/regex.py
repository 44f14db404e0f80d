"""``regex:PATTERN``: what a pattern finds in the response is the prompt's right answer.

The pattern is searched in the response without what stands before a last ``</think>``; its last match that is
not empty counts, as the last of several answers does elsewhere. What it finds is its first group that took
part, or the whole match where it has none. It is compared with the right answer as it stands, but for white
space at either end.

So the right answer itself is accepted as a response only by a pattern that finds it there.

Patterns are those of the ``regex`` package. One that would search for ever is stopped: the verdict is
``unverifiable``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import regex

from weft.errors import UserError
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, correct, shown, unverifiable, wrong

RULES = 1
"""Version of the rules above."""


class RegexVerifier:
    """A :class:`weft.verify.base.Verifier`; searches in threads."""

    def __init__(self, pattern: str, *, seconds: float = 5.0) -> None:
        """``seconds`` are those of one response, on the clock.

        Raises:
            UserError: the pattern is none.
        """
        if not pattern:
            raise UserError(
                "the pattern is empty", where="verifier regex", remedy=r"give one, as regex:ANSWER (\w+)"
            )
        try:
            self._pattern = regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise UserError(
                f"the pattern {shown(pattern)} cannot be read: {error}",
                where="verifier regex",
                expected="a pattern of Python's regex package",
                remedy="escape characters that mean themselves with a backslash",
            ) from error
        self._source, self._seconds = pattern, seconds

    @property
    def name(self) -> str:
        return f"regex:{self._source}"

    async def verify(self, answered: Answered) -> Judgement:
        right = (answered.answer or "").strip()
        if not right:
            return unverifiable(Reason.NO_ANSWER)
        response = answered.response.rpartition("</think>")[2]
        if not response.strip():
            return wrong(Reason.NO_RESPONSE)
        try:
            # The package lets other threads run while it searches.
            said = await asyncio.to_thread(self._found, response)
        except TimeoutError:
            return unverifiable(Reason.TIMEOUT, f"the pattern searched for {self._seconds:g} seconds")
        except MemoryError:
            return unverifiable(Reason.MEMORY, "the pattern's search ran out of memory")
        if said is None:
            return wrong(Reason.UNPARSABLE, "the pattern finds nothing")
        if said != right:
            return wrong(Reason.DIFFERENT, f"{shown(said)}, not {shown(right)}")
        return correct(shown(said))

    def _found(self, text: str) -> str | None:
        """What the last match gives; ``None`` if there is none.

        Raises:
            TimeoutError: the search takes too long.
        """
        end = time.monotonic() + self._seconds
        last = None
        for match in self._pattern.finditer(text, timeout=self._seconds):
            last = match if match[0] else last
            if time.monotonic() > end:
                raise TimeoutError
        if last is None:
            return None
        groups = [group for group in last.groups() if group is not None]
        return str(groups[0] if groups else last[0]).strip()

    def describe(self) -> Mapping[str, object]:
        return {
            "verifier": "regex",
            "rules": RULES,
            "pattern": self._source,
            "seconds": self._seconds,
            "regex": regex.__version__,
        }

    async def close(self) -> None:
        """Nothing is held."""
