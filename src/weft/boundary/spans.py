"""Texts with their style spans: what an annotator marks, what a classifier learns from and is measured by.

Spans are ranges of characters, so that a file serves tokenizers of every kind. White space belongs to the
word after it.

Invariants of a complete annotation
    - Its spans are in order, apart from each other, not empty, and lie within the text.
    - What no span covers is capability.

It does not know models, prompts or how spans were found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from weft.errors import UserError
from weft.store.lines import read_lines
from weft.store.rows import Kind

SPANS_VERSION = 1
"""Version of the rows; it rises when a column changes its meaning or goes."""

Range = tuple[int, int]
"""Characters from the first up to, not including, the second."""


class AnnotationStatus(StrEnum):
    """What came of one annotation."""

    COMPLETE = "complete"
    NO_ANSWER = "no_answer"
    """The annotator's response did not end, or holds nothing; the reason says why."""
    NOT_JSON = "not_json"
    """Prose, a fence, half a list: anything but JSON alone."""
    NOT_STRINGS = "not_strings"
    """JSON, but no list of strings."""
    EMPTY_SPAN = "empty_span"
    """A span without a letter, digit or sign."""
    NOT_FOUND = "not_found"
    """A span that the text does not hold, as whole words: paraphrased, say."""
    OUT_OF_ORDER = "out_of_order"
    """A span that stands only before the end of the span before it: overlapping, repeated or out of order."""
    ENGINE_ERROR = "engine_error"
    """The engine failed; the only status that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One stretch of thinking and the spans of it that are style."""

    id: str
    """``<trace id>@<start>/<number>``."""
    trace: str
    """The trace that the text is from."""
    group: str
    """The trace's prompt. What shares a group never stands on both sides of a split."""
    start: int
    """Where the text starts in the trace's thinking, in characters."""
    text: str
    style: tuple[Range, ...]
    """Empty where nothing is style, and in rejected annotations."""
    number: int = 0
    """Which of several passes over the same text."""
    status: AnnotationStatus = AnnotationStatus.COMPLETE
    reason: str | None = None
    annotator: str = ""
    answers: tuple[str, ...] = ()
    """What the annotator said, word for word; the last one counts."""

    def to_row(self) -> dict[str, Any]:
        """The JSON row; every row has the same columns of the same types."""
        return {
            "schema": SPANS_VERSION,
            "id": self.id,
            "text": self.text,
            "style": [list(span) for span in self.style],
            "trace": self.trace,
            "group": self.group,
            "start": self.start,
            "number": self.number,
            "status": self.status.value,
            "reason": self.reason or "",
            "annotator": self.annotator,
            "answers": list(self.answers),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: it is of another version, a column is missing or wrong, or spans do not fit the text.
        """
        if "completion" in row:
            raise ValueError("a trace, not an annotation of one")
        if row.get("schema") != SPANS_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {SPANS_VERSION}")
        try:
            annotation = cls(
                id=_text(row, "id"),
                trace=_text(row, "trace"),
                group=_text(row, "group"),
                start=_int(row["start"]),
                text=_text(row, "text"),
                style=tuple((_int(start), _int(end)) for start, end in row["style"]),
                number=_int(row["number"]),
                status=AnnotationStatus(row["status"]),
                reason=_text(row, "reason") or None,
                annotator=_text(row, "annotator"),
                answers=_texts(row["answers"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a row of spans: {type(error).__name__}: {error}") from error
        check_spans(annotation.text, annotation.style)
        return annotation


SPANS = Kind(
    name="annotation",
    maker="weft boundary annotate",
    source="text",
    from_row=Annotation.from_row,
    to_row=Annotation.to_row,
    id=lambda annotation: annotation.id,
    made_from=lambda annotation: [annotation.group, annotation.text],
    status=lambda annotation: annotation.status,
    complete=AnnotationStatus.COMPLETE,
    again=AnnotationStatus.ENGINE_ERROR,
)
"""For a store of annotations; see :class:`weft.store.rows.RowStore`."""


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("answers are no list of texts")
    return tuple(values)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise TypeError(f"{column} is {value!r}, not text")
    return value


def check_spans(text: str, style: Sequence[Range]) -> None:
    """Raises ValueError: the spans are empty, out of order or outside the text."""
    last = 0
    for start, end in style:
        if not last <= start < end <= len(text):
            raise ValueError(
                f"the span from {start} to {end} is empty, out of order or outside the text of "
                f"{len(text)} characters"
            )
        last = end


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The complete annotations of a file, streamed.

    Raises:
        UserError: there is no such file, or a line is no complete annotation.
    """
    ids: set[int] = set()  # by hash: a file may hold a million
    for where, row in read_lines(path, "spans, as `weft boundary annotate` writes them"):
        try:
            annotation = Annotation.from_row(row)
        except (ValueError, AttributeError) as error:
            raise UserError(
                str(error),
                where=where,
                expected="spans, as `weft boundary annotate` writes them",
                remedy="remove this line, or name a file of spans",
            ) from error
        if annotation.status is not AnnotationStatus.COMPLETE:
            raise UserError(
                f"a rejected annotation ({annotation.status})",
                where=where,
                remedy="name the file of the complete ones, without .rejected",
            )
        if hash(annotation.id) in ids:
            raise UserError(
                f"the annotation {annotation.id} is there twice", where=where, remedy="remove this line"
            )
        ids.add(hash(annotation.id))
        yield annotation


def labels(text: str, style: Sequence[Range], pieces: Sequence[str]) -> list[bool]:
    """Whether each piece is style. ``[len(pieces)]``

    A piece is what its first character of ink is; white space alone is what the next ink is, and at the end
    of the text what stands before it.

    Args:
        pieces: the text in parts; joined they equal it.
    """
    starts = [start for start, _ in style]
    flags: list[bool] = []
    position = 0
    for piece in pieces:
        ink = position + len(piece) - len(piece.lstrip())
        if ink == position + len(piece):
            ink = len(text) - len(text[ink:].lstrip())
        if ink == len(text):
            flags.append(bool(style) and style[-1][1] >= len(text.rstrip()) > 0)
        else:
            span = bisect_right(starts, ink) - 1
            flags.append(span >= 0 and ink < style[span][1])
        position += len(piece)
    return flags
