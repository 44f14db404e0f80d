"""One model's view of the shared text: its own prompt, then the text in its own tokens.

The ids only grow at the end or are cut back from there, so an engine's cache stays valid for what remains.

Invariant: decoding the ids after the prompt gives the shared text up to :attr:`Pen.end`, always.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.engines.base import Engine
from weft.errors import TextError
from weft.records import Author
from weft.vocabulary import Unit, spell


class Pen:
    """The prefix of one model in one passage."""

    def __init__(self, author: Author, engine: Engine, prompt: Sequence[int]) -> None:
        self.author = author
        self.engine = engine
        self.ids = list(prompt)
        self.prompt_tokens = len(prompt)
        self.ends: list[int] = []
        """For each id after the prompt, the length of the shared text (characters) up to its end."""

    @property
    def end(self) -> int:
        """Length in characters of the text that the ids hold."""
        return self.ends[-1] if self.ends else 0

    @property
    def tokens(self) -> int:
        """Tokens of text, the prompt's apart."""
        return len(self.ends)

    def write(self, unit: Unit) -> None:
        """Append a unit of this pen's vocabulary."""
        end = self.end + len(unit.text)
        self.ids.extend(unit.ids)
        self.ends.extend([end] * len(unit.ids))

    def read(self, text: str) -> None:
        """Append what ``text``, the whole shared text, holds beyond :attr:`end`, in this pen's tokens.

        Raises:
            TextError: the vocabulary has no tokens for a part of it.
        """
        new = text[self.end :]
        if new:
            spelling = spell(self.spelled(new), self.engine.vocabulary)
            assert not spelling.rest, "a vocabulary encodes text to whole characters"
            for unit in spelling.units:
                self.write(unit)

    def spelled(self, text: str) -> list[int]:
        """``text`` in this pen's tokens.

        Raises:
            TextError: the vocabulary has no tokens for a part of it.
        """
        try:
            return self.engine.vocabulary.encode(text)
        except ValueError as error:
            raise TextError(str(error), where=f"engine {self.engine.name}") from error

    def cut(self, end: int) -> None:
        """Cut back to the ids that lie within the first ``end`` characters."""
        keep = len(self.ends)
        while keep and self.ends[keep - 1] > end:
            keep -= 1
        del self.ids[self.prompt_tokens + keep :], self.ends[keep:]

    def without_last_unit(self) -> tuple[list[int], str]:
        """The ids without the last unit of text, and that unit's text; empty if there is none."""
        keep = len(self.ends)
        while keep and self.ends[keep - 1] == self.end:
            keep -= 1
        start = self.ends[keep - 1] if keep else 0
        last = (
            self.engine.vocabulary.decode(self.ids[self.prompt_tokens + keep :]) if self.end > start else ""
        )
        return self.ids[: self.prompt_tokens + keep], last

    def speaks_as(self, other: Pen) -> bool:
        """Whether ids may pass between the two pens' models."""
        return self.engine.vocabulary.fingerprint == other.engine.vocabulary.fingerprint

    def follow(self, other: Pen) -> None:
        """Append what ``other``, of the same vocabulary, holds beyond this pen, id by id."""
        own = len(self.ends)
        self.ids.extend(other.ids[other.prompt_tokens + own :])
        self.ends.extend(other.ends[own:])
