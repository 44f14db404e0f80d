"""The seam towards whatever says whether a response is right: a comparison, computer algebra, tests, a judge.

A verifier gives one finished response a verdict. ``wrong`` is said of a response; ``unverifiable`` says that
nobody knows: the prompt brings no right answer that the verifier can use, or judging came to a limit. It does
not know traces, records on disk, or what becomes of a response that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from weft.quality.base import Answered

SAID = 500
"""Most characters of :attr:`Judgement.said`."""


class Verdict(StrEnum):
    """What is known of a response."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNVERIFIABLE = "unverifiable"


class Reason(StrEnum):
    """Why a response is not correct."""

    NO_ANSWER = "no_answer"
    """The prompt brings no right answer."""
    BAD_ANSWER = "bad_answer"
    """The prompt's right answer is none that the verifier can read."""
    NO_RESPONSE = "no_response"
    """The response is empty, or holds nothing of the kind that is looked for."""
    UNPARSABLE = "unparsable"
    """The response gives an answer that cannot be read."""
    DIFFERENT = "different"
    """The response's answer is another."""
    FAILED_TEST = "failed_test"
    """A test of the response's program failed."""
    CRASHED = "crashed"
    """A program ended itself with an error."""
    TIMEOUT = "timeout"
    """Time ran out."""
    MEMORY = "memory"
    """Memory ran out."""
    OUTPUT_LIMIT = "output_limit"
    """More was printed than is read."""
    TOO_LARGE = "too_large"
    """A text is larger than the verifier reads."""
    DISAGREEMENT = "disagreement"
    """The judge's verdict changed with the order of what it was shown."""
    NO_VERDICT = "no_verdict"
    """The judge's answer cannot be read."""
    VERIFIER_ERROR = "verifier_error"
    """The verifier itself failed at this response."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: Reason | None = None
    """``None`` if, and only if, the verdict is ``correct``."""
    said: str = ""
    """For people: what was compared, or what failed. Cut to 500 characters."""

    def __post_init__(self) -> None:
        if (self.reason is None) != (self.verdict is Verdict.CORRECT):
            raise ValueError(f"the verdict {self.verdict} has the reason {self.reason}")
        if len(self.said) > SAID:
            object.__setattr__(self, "said", self.said[: SAID - 1] + "…")


def shown(text: str, most: int = 80) -> str:
    """A text for :attr:`Judgement.said`: on one line, with control characters spelled out, and cut."""
    return repr(text if len(text) <= most else f"{text[: most - 1]}…")


def correct(said: str = "") -> Judgement:
    return Judgement(Verdict.CORRECT, None, said)


def wrong(reason: Reason, said: str = "") -> Judgement:
    return Judgement(Verdict.WRONG, reason, said)


def unverifiable(reason: Reason, said: str = "") -> Judgement:
    return Judgement(Verdict.UNVERIFIABLE, reason, said)


class Verifier(Protocol):
    """Says whether responses are right. It accepts each prompt's own right answer as a response."""

    @property
    def name(self) -> str:
        """As the user named it."""

    async def verify(self, answered: Answered) -> Judgement:
        """The verdict on one response. Calls may overlap.

        It never raises for what a response or a right answer holds: such a verdict is ``unverifiable``.

        Raises:
            RunError: the verifier cannot serve at all.
        """

    def describe(self) -> Mapping[str, object]:
        """All that decides its verdicts, as JSON values, for the manifest."""

    async def close(self) -> None:
        """Give back processes and files. Idempotent."""
