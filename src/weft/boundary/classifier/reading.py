"""A proposal in a classifier's tokens, and which label speaks of which unit.

The label at token *j* says whether token *j + 1* is style (TESSY, section on boundary predictors). So the
verdict on a unit comes from the token before the one with which it begins, and is known before it is written.

Where the writer has the classifier's vocabulary, its own tokens are read. Any other text is read in *words*:
it is cut at places that no later text moves, and each word is spelled on its own. A word that is not complete
yet has no tokens; units that begin in it are undecided.

Invariant: what is read of a text never changes when the text grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from weft.boundary.base import Proposal
from weft.vocabulary import Unit, Vocabulary, spell

LONGEST_WORD = 64
"""Characters; longer runs without a place to cut are cut after so many."""

_PUNCTUATION = "，。！？；：、…"
# Where pre-tokenizers of the field part text whatever follows: before the one space that a word takes along,
# after line feeds, before a run of wide punctuation.
_CUT = regex.compile(rf"(?=[^\S\r\n]\S)|(?<=[\r\n])(?=\S)|(?<=[^\s{_PUNCTUATION}])(?=[{_PUNCTUATION}])")


@dataclass(frozen=True, slots=True)
class Reading:
    """Ids of a text, and for each unit of a proposal the label that decides it."""

    ids: list[int]
    labels: Sequence[int | None]
    """For each unit, and for the one that would follow, the place in ``ids`` of the token whose label speaks
    of it: -1 where nothing stands before, ``None`` where it is not known yet. ``[len(units) + 1]``"""


def words(text: str) -> list[str]:
    """The text in words; joined they equal it. All but the last stay what they are whatever follows."""
    places = [0, *(match.start() for match in _CUT.finditer(text) if match.start()), len(text)]
    parts = []
    for start, end in pairwise(places):
        parts += [text[at : min(at + LONGEST_WORD, end)] for at in range(start, end, LONGEST_WORD)]
    return parts


def spelled(vocabulary: Vocabulary, text: str) -> list[Unit]:
    """The text word by word in tokens of ``vocabulary``.

    Raises:
        ValueError: the vocabulary has no tokens for a part of it.
    """
    units: list[Unit] = []
    for word in words(text):
        units += spell(vocabulary.encode(word), vocabulary).units
    return units


class Reader:
    """Reads proposals; it keeps what it spelled of each trace, until that is released."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._spelled: dict[str, _Spelled] = {}

    def read(self, proposal: Proposal) -> Reading:
        """Read one proposal.

        Raises:
            ValueError: the vocabulary has no tokens for a part of it.
        """
        tokens = proposal.tokens
        if tokens is not None and tokens.vocabulary == self._vocabulary.fingerprint:
            ids = list(tokens.before)
            labels: list[int | None] = []
            for unit in tokens.units:
                labels.append(len(ids) - 1)
                ids.extend(unit)
            return Reading(ids, [*labels, len(ids) - 1])
        return self._read_words(proposal)

    def release(self, trace: str) -> None:
        self._spelled.pop(trace, None)

    def _read_words(self, proposal: Proposal) -> Reading:
        text = proposal.before + "".join(proposal.units)
        known = self._spelled.setdefault(proposal.trace, _Spelled())
        known.extend(self._vocabulary, text, final=proposal.ended)
        labels: list[int | None] = []
        position = len(proposal.before)
        for unit in [*proposal.units, ""]:
            labels.append(known.label(position))
            position += len(unit)
        return Reading(list(known.ids), labels)


class _Spelled:
    """The complete words of one text in tokens."""

    def __init__(self) -> None:
        self.text = ""
        self.ids: list[int] = []
        self._starts: list[int] = []
        """For each id, where the character begins that it is part of."""
        self._words: list[tuple[int, int]] = []
        """Where each word ends, in characters and in ids."""

    def extend(self, vocabulary: Vocabulary, text: str, *, final: bool) -> None:
        """Make this the spelling of ``text``, of its last word only if ``final``."""
        while self._words and not text.startswith(self.text):
            self._drop_word()
        # Whether the last word was complete was known from what followed it: it may be another text now.
        if self._words:
            self._drop_word()
        parts = words(text[len(self.text) :])
        for word in parts if final else parts[:-1]:
            for unit in spell(vocabulary.encode(word), vocabulary).units:
                self.ids.extend(unit.ids)
                self._starts.extend([len(self.text)] * len(unit.ids))
                self.text += unit.text
            self._words.append((len(self.text), len(self.ids)))

    def _drop_word(self) -> None:
        self._words.pop()
        end, ids = self._words[-1] if self._words else (0, 0)
        self.text = self.text[:end]
        del self.ids[ids:], self._starts[ids:]

    def label(self, position: int) -> int | None:
        """The place of the label that speaks of the character at ``position``."""
        if position > len(self.text):
            return None
        if position == len(self.text):
            return len(self.ids) - 1
        at = len(self._starts)
        while self._starts[at - 1] > position:
            at -= 1
        first = self._starts[at - 1]
        while at > 1 and self._starts[at - 2] == first:
            at -= 1
        return at - 2
