"""What a student thinks of one text, token by token, and its rows on disk.

Tokens are the student's. The closing tag of thinking and the end of the turn are the template's, not the
text's: they are read but in no array.

This module does not know engines nor what is made of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from weft.store.rows import Kind

READING_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""


class ReadingStatus(StrEnum):
    """How reading a text ended."""

    COMPLETE = "complete"
    EMPTY = "empty"
    """The sample holds no text."""
    TOO_LONG = "too_long"
    """Prompt and text do not fit into the student's context."""
    BAD_PROMPT = "bad_prompt"
    """The student's chat template refuses the messages."""
    INVALID_TEXT = "invalid_text"
    """The student's vocabulary cannot spell the text."""
    IMPOSSIBLE = "impossible"
    """The student gives one of its tokens no probability at all. Its surprise is infinite, and with it would
    be every mean over it: it is left out and counted."""
    ENGINE_ERROR = "engine_error"
    """The engine failed; the only status that the next run tries again."""


class Writer(StrEnum):
    """Who wrote a token."""

    STUDENT = "student"
    TEACHER = "teacher"
    UNKNOWN = "unknown"
    """The data do not say."""


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens in a row by one writer."""

    author: Writer
    tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as the student reads it. Arrays are over tokens: of thinking, then of the response. ``[n]``"""

    id: str
    """``<source>/<sample>``, unique in its file."""
    source: str
    """The set of samples that it is from, by label."""
    sample: str
    """The id that the sample has in its file (of a trace: the trace's id)."""
    prompt: str
    """The prompt's id: intervals are over prompts."""
    digest: str
    """Of prompt and text, so that a finished reading of another text is refused."""
    status: ReadingStatus = ReadingStatus.COMPLETE
    reason: str | None = None
    text: str = ""
    """Thinking followed by the response, without tags."""
    thinking: int = 0
    """Tokens that are thinking; the rest is the response."""
    chars: tuple[int, ...] = ()
    """Characters of ``text`` that end in each token; 0 for tokens that end amid a character. They sum up to
    ``len(text)``."""
    nats: tuple[float, ...] = ()
    """Surprise: the negative log-probability of each token, in nats."""
    ranks: tuple[int, ...] | None = None
    """1 is the token that the student finds likeliest; ``None``: the engine does not say."""
    entropies: tuple[float, ...] | None = None
    """The surprise that the student itself expects there, in nats; ``None``: the engine does not say."""
    style: tuple[float | None, ...] | None = None
    """The probability that a token of thinking is style, 0 or 1 for boundaries that give none; ``None`` for
    tokens of which nothing is said (the response's); the whole is ``None`` if no boundary was asked."""
    authors: tuple[Run, ...] = ()
    """Who wrote the tokens, in order; they sum up to n. A token belongs to the writer of its first byte."""

    @property
    def tokens(self) -> int:
        return len(self.nats)

    def to_row(self) -> dict[str, Any]:
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["authors"] = [asdict(run) for run in self.authors]
        row["reason"] = self.reason or ""
        return {"schema": READING_VERSION, **row}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if row.get("schema") != READING_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {READING_VERSION}")
        try:
            reading = cls(
                **{name: str(row[name]) for name in ("id", "source", "sample", "prompt", "digest", "text")},
                status=ReadingStatus(row["status"]),
                reason=row["reason"] or None,
                thinking=int(row["thinking"]),
                chars=tuple(row["chars"]),
                nats=tuple(float(nats) for nats in row["nats"]),
                ranks=None if row["ranks"] is None else tuple(row["ranks"]),
                entropies=None if row["entropies"] is None else tuple(map(float, row["entropies"])),
                style=None if row["style"] is None else tuple(row["style"]),
                authors=tuple(Run(Writer(run["author"]), int(run["tokens"])) for run in row["authors"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a reading: {type(error).__name__}: {error}") from error
        lengths = {reading.tokens, len(reading.chars), sum(run.tokens for run in reading.authors)}
        lengths |= {len(a) for a in (reading.ranks, reading.entropies, reading.style) if a is not None}
        if len(lengths) != 1 or sum(reading.chars) != len(reading.text):
            raise ValueError("its arrays are not of one length, or not of this text")
        return reading


READINGS: Kind[Reading, ReadingStatus] = Kind(
    name="reading",
    maker="weft gap style",
    source="text",
    from_row=Reading.from_row,
    to_row=Reading.to_row,
    id=lambda reading: reading.id,
    made_from=lambda reading: reading.digest,
    status=lambda reading: reading.status,
    complete=ReadingStatus.COMPLETE,
    again=ReadingStatus.ENGINE_ERROR,
)
