"""Boundaries that label whole words: the writer keeps its own kind and is cut at the other's.

A word is a maximal run of text without white space, together with the white space before it. All units of a
word get the word's answer, which is *undecided* until the word is known to be complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from weft.boundary.base import Proposal, Verdict
from weft.records import Author

_WORD = re.compile(r"\S+")


class WordBoundary:
    """Style words are the student's, all others the teacher's.

    Args:
        name: as the user named it.
        is_style: label of a complete word (no white space in it), decided from the word alone.
    """

    reach = 2
    """The word that is cut off, and the beginning of the next, by which it is known to be complete."""

    def __init__(self, name: str, is_style: Callable[[str], bool]) -> None:
        self.name = name
        self._is_style = is_style

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        unfinished = proposal.before[_word_start(proposal.before, len(proposal.before)) :]
        text = unfinished + "".join(proposal.units)
        open_verdict = Verdict.KEEP if proposal.ended else Verdict.UNDECIDED
        verdicts = []
        start = len(unfinished)
        for unit in proposal.units:
            # White space belongs to the word after it; a unit to the word of its first character.
            ink = len(text) - len(text[start:].lstrip())
            first = ink if text[start : start + 1].isspace() else _word_start(text, start)
            word = _WORD.match(text, first)
            if word is None or (word.end() == len(text) and not proposal.ended):
                verdicts.append(open_verdict)
            else:
                mine = self._is_style(word.group()) == (proposal.author is Author.STUDENT)
                verdicts.append(Verdict.KEEP if mine else Verdict.CUT)
            start += len(unit)
        return [*verdicts, open_verdict]

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None:
        """Nothing is kept."""


def _word_start(text: str, position: int) -> int:
    while position > 0 and not text[position - 1].isspace():
        position -= 1
    return position
