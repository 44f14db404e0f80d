"""The length limit of a passage, which counts the student's tokens whoever writes."""

from __future__ import annotations

from collections.abc import Sequence

from weft.synthesis.pen import Pen
from weft.vocabulary import Unit


class Limit:
    """Most tokens of text, as the student would spell it."""

    def __init__(self, tokens: int, student: Pen) -> None:
        self.tokens = tokens
        self._student = student
        self._counted = (0, 0, 0)
        """The student's :attr:`Pen.end`; up to where (characters) the text was last counted; the count."""

    def room(self, pen: Pen, pending: int) -> int:
        """How many tokens more the writer may propose beyond ``pending``; a rough bound in other tokens."""
        return self.tokens - pen.tokens - pending if pen.speaks_as(self._student) else self.tokens

    def fitting(self, pen: Pen, text: str, units: Sequence[Unit]) -> int:
        """How many of the units that ``pen`` proposes to append to ``text`` stay within the limit."""
        if pen.speaks_as(self._student):
            left = self.tokens - pen.tokens
            for index, unit in enumerate(units):
                left -= len(unit.ids)
                if left < 0:
                    return index
            return len(units)
        if self._holds(text + "".join(unit.text for unit in units)):
            return len(units)
        for index, unit in enumerate(units):
            text += unit.text
            if not self._holds(text):
                return index
        return len(units)

    def _holds(self, text: str) -> bool:
        student = self._student
        if self._counted[0] != student.end or self._counted[1] > len(text):
            self._counted = (student.end, student.end, student.tokens)
        _, known, tokens = self._counted
        # A token holds at least one byte: far below the limit nothing needs to be tokenised.
        if tokens + len(text[known:].encode()) <= self.tokens:
            return True
        tokens = student.tokens + len(student.spelled(text[student.end :]))
        self._counted = (student.end, len(text), tokens)
        return tokens <= self.tokens
