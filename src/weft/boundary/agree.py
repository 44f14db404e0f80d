"""A boundary without training: where two models would write the same, the student writes; else the teacher.

Both continue the same text by their likeliest tokens. Up to their first difference the text is common ground,
and the student writes it; from there the teacher writes until they agree again for ``tokens`` tokens. No
log-probabilities are needed.

The text is compared word by word. A *word* is a run without white space, in scripts written without spaces
one character; the white space before it belongs to it.

    The student hands over before the first word that is not the teacher's. The teacher's text is asked for
    from the start of the turn, in pieces of fixed sizes, each from the end of the piece before. Where the
    student writes a differing word all the same (the first token of a turn is kept unasked, a hand-over may
    be taken back), the comparison starts anew at its end. A student that would close where the teacher goes
    on hands over, too.

    The teacher hands over before a word from which on the student would write, for ``tokens`` tokens, what
    the teacher wrote; never before the first word of a turn. The student is asked from the end of the word
    before. What it would write until it closes the passage counts as whole: it may be shorter.

A token gets the answer of the word whose first ink it holds. White space alone is kept.

Invariants
    - The answers are a function of the text and of where the turn began. Models are asked only from places
      that these decide, and for sizes that are fixed, never from where a proposal happens to end.
    - After the first answer *cut* that cannot be the turn's first token nothing more is asked: all that
      follows is *undecided*.

It does not know engines or vocabularies: it sees text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import regex

from weft.boundary.base import Companion, Proposal, Verdict
from weft.errors import UserError
from weft.records import Author

TOKENS = 4
"""Tokens for which both have to agree, if nothing is said."""
MOST_TOKENS = 64
PIECES = (8, 16, 32)
"""Tokens of the teacher's text that are asked for at a time; the last size again and again."""
MOST_SPACE = 64
"""Characters of white space after which the teacher's text counts as ended."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"\s*(?P<ink>[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_ENDS_ITSELF = regex.compile(rf"[{_UNSPACED}]")


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    """With the white space before it."""
    ink: int
    end: int
    complete: bool
    """Nothing that follows can make it longer."""


@dataclass(slots=True)
class _Answer:
    """What a model would write from one place on."""

    text: str = ""
    pieces: int = 0
    closed: bool = False
    """It would write no more."""


@dataclass(slots=True)
class _Turn:
    """What is known of one author's turn."""

    start: int
    place: int
    """The end of the last word that is settled."""
    mark: int
    """For the student the place from which the teacher is followed. For the teacher the place up to which
    the student is known to differ: words that begin there or before are not asked about."""
    cuts: list[int] = field(default_factory=list)
    """The first ink of settled words before which the pen should pass."""
    answers: dict[int, _Answer] = field(default_factory=dict)
    """By the place from which the other model was asked."""

    def forget(self, same: int) -> None:
        """Only the first ``same`` characters of the text are what they were."""
        for place in [place for place in self.answers if place > same]:
            del self.answers[place]
        # The character after a word tells that it is complete, that at the mark, where they differ.
        if max(self.place, self.mark) >= same:
            self.place = self.mark = self.start
            self.cuts.clear()


class _Trace:
    """What is kept of a trace: the text as it was last seen, and a turn of each author."""

    def __init__(self) -> None:
        self._text = ""
        self._turns: dict[Author, _Turn] = {}

    def turn(self, author: Author, start: int, text: str) -> _Turn:
        """The author's turn, without what the text of today does not bear out."""
        same = _common(self._text, text)
        self._text = text
        for turn in self._turns.values():
            turn.forget(same)
        known = self._turns.get(author)
        if known is None or known.start != start:
            known = self._turns[author] = _Turn(start, start, start)
        return known


class Agree:
    """See the module. One may serve both authors; two, one for each, do as well.

    Args:
        name: as the user named it.
        tokens: for so many tokens both have to agree before the student takes the pen back.
    """

    def __init__(self, name: str = "agree", tokens: int = TOKENS) -> None:
        self.name, self.tokens = name, tokens
        self._traces: dict[str, _Trace] = {}

    @property
    def reach(self) -> int:
        """The teacher's tokens that an agreement takes. The student's difference is seen in one token as a
        rule; asking it for some more costs less than a second request in each of the teacher's turns."""
        return self.tokens

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        """See :meth:`weft.boundary.base.Boundary.judge`.

        Raises:
            EngineError: the other model failed.
            TextError: its vocabulary cannot spell the text.
        """
        other = proposal.other
        assert other is not None, (
            "agree compares two models; the proposal must name the one that does not write"
        )
        trace = self._traces.setdefault(proposal.trace, _Trace())
        text = proposal.before + "".join(proposal.units)
        turn = trace.turn(proposal.author, proposal.turn, text)
        first = len(proposal.before) + len(proposal.units[0] if proposal.units else "")
        due = next((cut for cut in turn.cuts if cut >= first), None)
        if due is not None:
            cuts, open_from = [cut for cut in turn.cuts if cut <= due], due
        else:
            walk = self._follow if proposal.author is Author.STUDENT else self._await_student
            cuts, open_from = await walk(turn, other, text, proposal.ended, first)
        return _verdicts(proposal, cuts, open_from, len(text))

    def describe(self) -> Mapping[str, object]:
        return {"boundary": "agree", "tokens": self.tokens}

    def release(self, trace: str) -> None:
        self._traces.pop(trace, None)

    async def _follow(
        self, turn: _Turn, teacher: Companion, text: str, ended: bool, first: int
    ) -> tuple[list[int], int]:
        """The student's turn, word by word beside the teacher's text.

        Args:
            first: where the first unit ends; a cut from there on ends the walk.

        Returns:
            Where the pen should pass, and the place from which on that is not known.
        """
        for word in _words(text, turn.place, ended):
            answer = turn.answers.setdefault(turn.mark, _Answer())
            # One character past the word: there it is seen whether the teacher's word ends, too.
            await _extend(answer, teacher, text, turn.mark, word.end - turn.mark + 1)
            start, end = word.start - turn.mark, word.end - turn.mark
            differs = answer.text[start:end] != text[word.start : word.end]
            if not differs and not word.complete:
                return turn.cuts, word.ink
            if differs or _goes_on(answer.text, end):
                if not word.complete:
                    return [*turn.cuts, word.ink], len(text)
                turn.cuts.append(word.ink)
                turn.mark = word.end
            turn.place = word.end
            if turn.cuts and turn.cuts[-1] >= first:
                return turn.cuts, word.ink
        if ended and await _would_go_on(turn, teacher, text):
            return [*turn.cuts, len(text)], len(text)
        return turn.cuts, len(text)

    async def _await_student(
        self, turn: _Turn, student: Companion, text: str, ended: bool, first: int
    ) -> tuple[list[int], int]:
        """The teacher's turn, until the student would write the same; see :meth:`_follow`."""
        for word in _words(text, turn.place, ended):
            # Up to where they differed, the student's likeliest text is that which was seen already: greedy
            # continuations from inside a stretch that agrees go the same way (in exact arithmetic).
            if word.start > turn.mark:
                answer = turn.answers.setdefault(word.start, _Answer())
                if not answer.pieces:
                    answer.text = await student.continuation(text[: word.start], self.tokens)
                    answer.pieces = 1
                own = text[word.start : word.start + len(answer.text)]
                same = _common(own, answer.text)
                if answer.text and same == len(answer.text):
                    if word.ink >= first or not word.complete:
                        return [*turn.cuts, word.ink], word.ink
                    turn.cuts.append(word.ink)
                elif answer.text and same == len(own):
                    # So far so good; if nothing follows, they will not have agreed for long enough.
                    return turn.cuts, len(text) if ended else word.ink
                else:
                    turn.mark = word.start + same
            if not word.complete:
                break
            turn.place = word.end
        return turn.cuts, len(text)


def open_agree(name: str) -> Agree:
    """The boundary called ``agree``, or ``agree:M`` where both have to agree for M tokens.

    Raises:
        UserError: M is no such number.
    """
    _, colon, tokens = name.partition(":")
    if not colon:
        return Agree(name)
    if not regex.fullmatch("[0-9]{1,3}", tokens) or not 1 <= int(tokens) <= MOST_TOKENS:
        raise UserError(
            f"no boundary {name!r}", expected=f"agree, or agree:M with M tokens from 1 to {MOST_TOKENS}"
        )
    return Agree(name, int(tokens))


def _words(text: str, place: int, ended: bool) -> Iterator[_Word]:
    """The words from ``place`` on, where one begins."""
    for match in _WORD.finditer(text, place):
        ink, end = match.span("ink")
        complete = ended or end < len(text) or _ENDS_ITSELF.match(text, ink) is not None
        yield _Word(match.start(), ink, end, complete)


def _goes_on(text: str, end: int) -> bool:
    """Whether the word that has its last known character before ``end`` is longer than that."""
    following = text[end : end + 1]
    if not following or following.isspace():
        return False
    return not any(_ENDS_ITSELF.match(character) for character in (text[end - 1], following))


async def _extend(answer: _Answer, other: Companion, text: str, place: int, characters: int) -> None:
    """Ask on until so many characters of the answer are known, or it is at its end."""
    while len(answer.text) < characters and not answer.closed:
        tokens = PIECES[min(answer.pieces, len(PIECES) - 1)]
        piece = await other.continuation(text[:place] + answer.text, tokens)
        answer.text += piece
        answer.pieces += 1
        answer.closed = not piece


async def _would_go_on(turn: _Turn, teacher: Companion, text: str) -> bool:
    """Whether the teacher would write more than white space where the student closes."""
    answer = turn.answers.setdefault(turn.mark, _Answer())
    end = turn.place - turn.mark
    while not answer.text[end:].strip() and not answer.closed and len(answer.text) < end + MOST_SPACE:
        await _extend(answer, teacher, text, turn.mark, max(end, len(answer.text)) + 1)
    return bool(answer.text[end:].strip())


def _verdicts(proposal: Proposal, cuts: Sequence[int], open_from: int, length: int) -> list[Verdict]:
    """An answer for each unit, by the first ink that it holds, and one for the unit that would follow."""
    verdicts = []
    start = len(proposal.before)
    for unit in proposal.units:
        end = start + len(unit)
        if any(start <= cut < end for cut in cuts):
            verdicts.append(Verdict.CUT)
        else:
            verdicts.append(Verdict.UNDECIDED if end > open_from else Verdict.KEEP)
        start = end
    if length in cuts:
        return [*verdicts, Verdict.CUT]
    known = proposal.ended and open_from >= length
    return [*verdicts, Verdict.KEEP if known else Verdict.UNDECIDED]


def _common(one: str, other: str) -> int:
    """Characters with which both begin."""
    least, most = 0, min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    while least < most:
        middle = (least + most + 1) // 2
        if one[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return least
