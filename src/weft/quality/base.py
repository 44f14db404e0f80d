"""The seam towards whatever says how good a response is: a verifier, a reward model, a judge engine.

A quality is a number for one finished response to one prompt; higher is better. It does not know traces,
pairs or policies, nor whether the response was continued from someone's prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from weft.records import Message


@dataclass(frozen=True, slots=True)
class Answered:
    """A response to be judged."""

    messages: tuple[Message, ...]
    """The prompt."""
    response: str
    """What the user reads, without thinking; empty if the model never came to it."""
    answer: str | None = None
    """The right answer, where the prompt brings one."""
    thinking: str = ""
    extra: str = "{}"
    """All other columns of the prompt's row as one JSON object: :attr:`weft.records.Prompt.extra`."""


class Quality(Protocol):
    """Says how good responses are."""

    @property
    def name(self) -> str:
        """As the user named it."""

    @property
    def binary(self) -> bool:
        """Whether it is 1 (right) or 0 (wrong) always."""

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        """The quality of each; ``None`` where it cannot be told (no right answer is known, an answer that
        cannot be parsed). ``[n]``

        What an empty response is worth is the quality's own to say: the worst where that is known, else
        ``None``. Calls may overlap, of one text each; what can share a batch does so in here.

        Raises:
            EngineError: a model that it asks failed.
            RunError: that model cannot serve at all.
        """

    def describe(self) -> Mapping[str, object]:
        """All that decides its numbers, as JSON values, for the manifest."""

    async def close(self) -> None:
        """Give back threads, memory and connections. Idempotent."""
