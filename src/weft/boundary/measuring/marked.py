"""What a boundary says of whole texts: for each piece, whether it is style.

Two sources. A learned classifier gives probabilities for its own tokens. Any other boundary judges the text
as one proposal of the student's: what the student may keep is style.

Invariant: a boundary speaks of all pieces from some place on; only the first ones may lack an answer.

It does not know what is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import regex

from weft.boundary.base import Boundary, Proposal, Verdict
from weft.boundary.classifier.reading import spelled
from weft.errors import UserError
from weft.records import Author
from weft.vocabulary import Unit, Vocabulary

AT_ONCE = 256
"""Texts that are read together."""

_WIDE = r"\p{Han}\p{Hiragana}\p{Katakana}"
_PIECE = regex.compile(rf"\s*(?:[{_WIDE}]|[^\s{_WIDE}]+|\Z)")

Cut = Callable[[str], list[Unit]]
"""A text in pieces; joined they equal it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """One text, marked by a boundary."""

    pieces: tuple[str, ...]
    """Joined they equal the text."""
    style: tuple[bool | None, ...]
    """For each piece whether it is called style; ``None`` at the start, where nothing is said because nothing
    stands before: such pieces count in no figure."""
    probability: tuple[float | None, ...] | None = None
    """For each piece the probability that it is style; ``None`` for boundaries that give none."""

    def __post_init__(self) -> None:
        said = [flag is not None for flag in self.style]
        if len(self.style) != len(self.pieces) or said != sorted(said):
            raise ValueError("one answer for each piece, and none missing after the first that is given")
        if self.probability is not None and [p is not None for p in self.probability] != said:
            raise ValueError("a probability for each piece that an answer is given for, and for no other")

    @property
    def first(self) -> int:
        """The first piece for which an answer is given."""
        return self.style.count(None)


class Probabilities(Protocol):
    """A learned classifier: :class:`weft.boundary.classifier.judge.Classifier`, or a test's."""

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    def probabilities(self, texts: Sequence[str]) -> list[tuple[list[str], list[float | None]]]: ...


def in_words(text: str) -> list[Unit]:
    """The text in words, each with the white space before it; Chinese and Japanese by character.

    White space at the end goes with the last piece. The units have no ids.
    """
    pieces = [match.group() for match in _PIECE.finditer(text) if match.group()]
    if len(pieces) > 1 and pieces[-1].isspace():
        pieces[-2:] = [pieces[-2] + pieces[-1]]
    return [Unit((), piece) for piece in pieces]


def in_tokens(vocabulary: Vocabulary) -> Cut:
    """Cutting into tokens of ``vocabulary``, as classifiers read texts."""

    def cut(text: str) -> list[Unit]:
        try:
            return spelled(vocabulary, text)
        except ValueError as error:
            raise UserError(str(error), remedy="choose a tokenizer that can spell these texts") from error

    return cut


def by_classifier(classifier: Probabilities, texts: Sequence[str]) -> Iterator[Marked]:
    """Mark texts by a learned classifier, in its own tokens.

    Raises:
        UserError: its vocabulary cannot spell a text.
    """
    for start in range(0, len(texts), AT_ONCE):
        try:
            found = classifier.probabilities(texts[start : start + AT_ONCE])
        except ValueError as error:
            raise UserError(
                str(error),
                where=f"boundary {classifier.name}",
                expected="texts that its tokenizer can spell",
                remedy="take out that text, or train on a base with a byte-level tokenizer",
            ) from error
        for pieces, style in found:
            called = tuple(None if p is None else p >= classifier.threshold for p in style)
            yield Marked(tuple(pieces), called, tuple(style))


def by_boundary(boundary: Boundary, texts: Sequence[str], cut: Cut) -> Iterator[Marked]:
    """Mark texts by any boundary that needs no second model.

    Raises:
        TextError: the boundary cannot read a text.
    """
    for start in range(0, len(texts), AT_ONCE):
        pieces = [tuple(unit.text for unit in cut(text)) for text in texts[start : start + AT_ONCE]]
        for one, verdicts in zip(pieces, asyncio.run(_judged(boundary, pieces)), strict=True):
            yield Marked(one, tuple(verdict is Verdict.KEEP for verdict in verdicts[: len(one)]))


async def _judged(boundary: Boundary, texts: Sequence[tuple[str, ...]]) -> list[Sequence[Verdict]]:
    names = [f"text {number}" for number in range(len(texts))]
    try:
        return await asyncio.gather(
            *(
                boundary.judge(Proposal(name, Author.STUDENT, "", pieces, ended=True))
                for name, pieces in zip(names, texts, strict=True)
            )
        )
    finally:
        for name in names:
            boundary.release(name)
