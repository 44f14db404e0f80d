"""What ends a passage, and what holds while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from weft.records import Status
from weft.synthesis.tags import TagFinder


class Event(Enum):
    """What ended a proposal, other than its size."""

    CLOSE = "the passage is closed"
    EOS = "the response was ended inside thinking"
    CONTROL = "a control token stood where text belongs"
    CONTEXT = "the model's context is full"
    INVALID = "tokens that are no valid UTF-8"


STATUS = {
    Event.CLOSE: Status.COMPLETE,
    Event.EOS: Status.EOS_IN_THINKING,
    Event.CONTROL: Status.FOREIGN_TAG,
    Event.CONTEXT: Status.LENGTH,
    Event.INVALID: Status.INVALID_TEXT,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a passage ended; ``reason`` is given unless the status is complete."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Closers:
    """How one author closes the passage."""

    events: Mapping[int, Event]
    """Ids that end a proposal."""
    text: str | None = None
    """A closing tag that the vocabulary has no single id for."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a passage, whoever writes."""

    step: int | None
    """Tokens per request; ``None`` adapts to the turns seen so far."""
    limit: int
    """Most tokens of text, in the student's tokens."""
    loop_tokens: int
    """See :class:`LoopDetector`."""
    tags: TagFinder
    """Finds strings that must not appear as text."""
