"""A boundary without a model: what a list of phrases and patterns calls style is style, all else capability.

It is a baseline, and what there is before a boundary has been learned. Entries count as whole words, with the
punctuation that follows them; in scripts written without spaces they count anywhere. Of all entries that
cover a character the longest decides; among equally long ones a phrase before a pattern, then the heavier.
So an entry of low weight ("so that") takes a place out of the reach of a shorter one ("so").

Invariants
    - Entries see the text in lower case, each run of white space as one space, and at most 64 characters of
      it from where they begin. What lies before them they do not see.
    - A character is decided once no entry that begins at or before it can still change with more text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import regex

from weft.boundary.base import Proposal, Verdict
from weft.boundary.lexicons import LONGEST, Entries, read_entries, shipped
from weft.boundary.lexicons.entries import SHIPPED, lower
from weft.errors import UserError
from weft.records import Author

SLOW = 5.0
"""Seconds after which a pattern is given up; one that is sound takes microseconds."""
MOST_BEGINNINGS = 20_000
"""Beginnings of words for which it is kept which patterns they may begin."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"(?![{_UNSPACED}])[\p{{L}}\p{{N}}\p{{M}}_]"
_START = regex.compile(rf"(?<!{_LETTER}){_LETTER}|[^\s\p{{L}}\p{{N}}\p{{M}}_]|[{_UNSPACED}]")
_IS_LETTER = regex.compile(_LETTER)
_SPACES = regex.compile(r"\s+")
_AFTER = regex.compile(r"\s{0,2}[,.;:!?…，。；：！？、—-]{0,8}")
_AFTER_MOST = 10
_BEFORE = LONGEST + _AFTER_MOST + 1
"""Characters before a proposal that can matter: one entry, its punctuation, a letter before it."""
_END = ""
"""The key of a phrase's weight in the tree; its other keys are single characters."""


@dataclass(frozen=True, slots=True)
class _Match:
    """An entry that was found."""

    start: int
    """In the text, as is ``end``."""
    end: int
    """With the punctuation that follows."""
    rank: tuple[int, bool, float]
    """Length, whether it is a phrase, weight: the highest rank decides."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern, ready."""

    alone: Any
    """As it is written."""
    whole: Any
    """Only where it does not end inside a word. That is Weft's own look around; entries have none."""
    weight: float

    @classmethod
    def compiled(cls, source: str, weight: float) -> _Pattern:
        whole = rf"(?:{source})(?:(?<!{_LETTER})|(?!{_LETTER}))"
        return cls(regex.compile(source, regex.IGNORECASE), regex.compile(whole, regex.IGNORECASE), weight)


class Lexicon:
    """Style is what entries of at least the threshold's weight cover, and no longer entry of less."""

    reach = 3
    """The word that is cut off, and as a rule one or two more by which no longer entry begins there."""

    def __init__(
        self, name: str = "lexicon", entries: Entries | None = None, threshold: float | None = None
    ) -> None:
        """Prepare the entries; left out they are the shipped ones, and the threshold is 0.5.

        Raises:
            UserError: the threshold is not above 0 and at most 1.
        """
        self.name = name
        self._entries = shipped(*SHIPPED) if entries is None else entries
        self._threshold = 0.5 if threshold is None else threshold
        if not 0 < self._threshold <= 1:
            raise UserError(f"the lexicon's threshold is {threshold}", expected="above 0 and at most 1")
        self._tree: dict[str, Any] = {}
        for phrase, weight in self._entries.phrases.items():
            node = self._tree
            for character in phrase:
                node = node.setdefault(character, {})
            node[_END] = weight
        self._patterns = [_Pattern.compiled(*entry) for entry in self._entries.patterns.items()]
        self._beginnings: dict[str, list[_Pattern]] = {}

    @classmethod
    def from_file(cls, path: Path, name: str = "lexicon", threshold: float | None = None) -> Lexicon:
        """The lexicon of a user's file; see :mod:`weft.boundary.lexicons.entries`.

        Raises:
            UserError: the file is none.
        """
        return cls(name, read_entries(path), threshold)

    def decide(self, proposals: Sequence[Proposal]) -> list[list[Verdict]]:
        """One verdict for each unit of each proposal and one for the unit that would follow it.

        Raises:
            UserError: a pattern takes too long.
        """
        return [self._decide(proposal) for proposal in proposals]

    def describe(self) -> Mapping[str, object]:
        return {"boundary": "lexicon", "threshold": self._threshold, "entries": self._entries.digest}

    def release(self, trace: str) -> None:
        """Nothing is kept."""

    def _decide(self, proposal: Proposal) -> list[Verdict]:
        before = proposal.before[-_BEFORE:]
        text = before + "".join(proposal.units)
        matches, open_from = self._matches(text, proposal.ended)
        verdicts = []
        start = len(before)
        for unit in [*proposal.units, ""]:
            # White space belongs to what follows it.
            ink = len(text) - len(text[start:].lstrip())
            if ink >= len(text) or ink >= open_from:
                verdicts.append(Verdict.KEEP if proposal.ended else Verdict.UNDECIDED)
            else:
                ranks = [match.rank for match in matches if match.start <= ink < match.end]
                style = bool(ranks) and max(ranks)[2] >= self._threshold
                mine = style == (proposal.author is Author.STUDENT)
                verdicts.append(Verdict.KEEP if mine else Verdict.CUT)
            start += len(unit)
        return verdicts

    def _matches(self, text: str, ended: bool) -> tuple[list[_Match], int]:
        """What was found, and from where on more text could still change that."""
        plain, places = _plain(text)
        matches: list[_Match] = []
        for found in _START.finditer(plain):
            at, start = found.start(), places[found.start()]
            # The window: all that entries which begin here may see.
            stop = bisect_left(places, start + LONGEST, at)
            growing = not ended and start + LONGEST > len(text)
            for find, is_phrase in ((self._phrase, True), (self._matching, False)):
                ends = find(plain, at, stop, growing)
                if ends is None:
                    return matches, start
                for end, weight in ends:
                    after = _AFTER.match(text, places[end - 1] + 1).end()
                    matches.append(_Match(start, after, (end - at, is_phrase, weight)))
        return matches, len(text)

    def _phrase(self, plain: str, at: int, stop: int, growing: bool) -> list[tuple[int, float]] | None:
        """End and weight of the longest phrase at a place; ``None`` where more text may change it."""
        node = self._tree
        found: list[tuple[int, float]] = []
        for index in range(at, stop):
            if plain[index] not in node:
                return found
            node = node[plain[index]]
            if _END in node and not (index + 1 < stop and _joined(plain[index], plain[index + 1])):
                found = [(index + 1, node[_END])]
        longer = len(node) > (_END in node)  # than what was found, which ends here
        return None if growing and (longer or _is_letter(plain[stop - 1])) else found

    def _matching(self, plain: str, at: int, stop: int, growing: bool) -> list[tuple[int, float]] | None:
        """The same for patterns, of which all count that match."""
        found = []
        for entry in self._beginning(plain[at : min(at + 2, stop)]):
            try:
                if growing and entry.alone.fullmatch(plain, at, stop, partial=True, timeout=SLOW):
                    return None
                match = entry.whole.match(plain, at, stop, timeout=SLOW)
            except TimeoutError as error:
                raise UserError(
                    f"the pattern {entry.alone.pattern!r} takes longer than {SLOW:.3g} seconds",
                    where=f"boundary {self.name}, at {plain[at:stop]!r}",
                    remedy="repeat nothing that holds a repetition: (?:a+)+ is no more than a+",
                ) from error
            if match:
                found.append((match.end(), entry.weight))
        return found

    def _beginning(self, characters: str) -> list[_Pattern]:
        """The patterns that text with these first one or two characters may match; most match none."""
        known = self._beginnings.get(characters)
        if known is None:
            if len(self._beginnings) >= MOST_BEGINNINGS:
                self._beginnings.clear()
            known = [p for p in self._patterns if p.alone.fullmatch(characters, partial=True, timeout=SLOW)]
            self._beginnings[characters] = known
        return known


def _plain(text: str) -> tuple[str, list[int]]:
    """The text as entries see it, and where each of its characters stands in ``text``."""
    lowered = lower(text)
    parts: list[str] = []
    places: list[int] = []
    last = 0
    for space in _SPACES.finditer(text):
        parts += (lowered[last : space.start()], " ")
        places += range(last, space.start() + 1)
        last = space.end()
    places += range(last, len(text))
    return "".join(parts) + lowered[last:], places


@cache
def _is_letter(character: str) -> bool:
    """Whether words are made of it, in a script that puts spaces between them."""
    return _IS_LETTER.match(character) is not None


def _joined(left: str, right: str) -> bool:
    return _is_letter(left) and _is_letter(right)


def open_lexicon(name: str, threshold: float | None = None) -> Lexicon:
    """The lexicon called ``lexicon`` or ``lexicon:FILE``.

    Raises:
        UserError: there is no file or it is no lexicon, or the threshold is not above 0 and at most 1.
    """
    _, colon, file = name.partition(":")
    if not colon:
        return Lexicon(name, None, threshold)
    if not file:
        raise UserError(f"no boundary {name!r}", expected="lexicon, or lexicon:FILE with the name of a file")
    return Lexicon.from_file(Path(file), name, threshold)
