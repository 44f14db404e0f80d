"""Words that one set of texts uses more often than another: log-odds with an informative Dirichlet prior.

Monroe, Colaresi and Quinn 2008, "Fightin' Words", equations 15 to 22. With y the counts of a word in both
sets, n the sets' totals and a the prior's share of the word, a_0 in all,

    delta = log[(y_1 + a) / (n_1 + a_0 - y_1 - a)] - log[(y_2 + a) / (n_2 + a_0 - y_2 - a)]
    z = delta / sqrt(1 / (y_1 + a) + 1 / (y_2 + a))

The prior is the two sets' own counts together, scaled to :data:`PRIOR` words: frequent words need more
evidence, and a rare one cannot come first by its absence from one set. Words and runs of two words are told
apart each by themselves, a multinomial each.

A word holds a letter, is without case, and is one character in Chinese and Japanese. A run crosses white
space and commas only: no end of a sentence or of a line, no number, and no word that is not counted.

The z-value takes words as drawn independently. Words of one text are not, so it is an order among words, not
a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

import numpy as np
import regex
from numpy.typing import NDArray

from weft.gap.distance.bags import Texts, shared
from weft.gap.distance.likelihood import STYLE
from weft.gap.distance.readings import Reading
from weft.gap.distance.result import Marker

PRIOR = 500.0
"""Words in the prior (a_0): the paper's, there what a party says on a topic in a day, here about one text."""
LEAST_COUNT = 3
"""Occurrences in both sets together."""
LEAST_Z = 1.96
"""Nearer to 0 a word is not named; the paper greys them out."""
MOST = 20

_WIDE = r"\p{Han}\p{Hiragana}\p{Katakana}"
_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}--[{_WIDE}]]"
_GAP = r"[[^\S\n\r\v\f\u0085\u2028\u2029],、，]++"
_INK = rf"([{_WIDE}]|{_LETTER}++(?:['’]{_LETTER}++)*+)"
_WORD = regex.compile(rf"(?V1)(?|{_GAP}{_INK}?|{_INK})")
"""A word and what may stand before it in a run, or that alone: no character is looked at twice."""
_WIDE_ENDS = regex.compile(rf"(?V1)[{_WIDE}]+")


class Mark(IntFlag):
    """What is known of a word."""

    THINKING = 1
    KNOWN = 2
    """A boundary said of all of its tokens whether they are style."""
    STYLE = 4
    """All of its tokens are."""
    JOINED = 8
    """Nothing but white space and commas lies between it and the word before it in its text."""


def words(reading: Reading) -> tuple[list[str], NDArray[np.uint8]]:
    """The words of a text and their marks. ``[words]`` each"""
    before_token = np.cumsum([0, *reading.chars], dtype=np.int64)
    seam = int(before_token[reading.thinking])
    found: list[str] = []
    places: list[tuple[int, int]] = []
    joined: list[bool] = []
    for first, last in ((0, seam), (seam, len(reading.text))):
        before = -1
        for match in _WORD.finditer(reading.text, first, last):
            word = match[1] or ""
            if not word.isalpha() and not any(map(str.isalpha, word)):
                before = -1
                continue
            found.append(word.casefold())
            places.append(match.span(1))
            joined.append(match.start() == before)
            before = match.end()
    starts, stops = np.array(places, dtype=np.int64).reshape(-1, 2).T
    marks = Mark.THINKING * (starts < seam) | Mark.JOINED * np.array(joined, dtype=np.int64)
    return found, (marks | _style(reading, before_token, starts, stops)).astype(np.uint8)


def markers(here: Texts, there: Texts, names: Sequence[str]) -> tuple[Marker, ...]:
    """The words and runs that tell the sets apart most, on the prompts that both have; largest ``|z|`` first.

    Only thinking counts if both sets have any; of it only words that are style if a boundary was asked about
    both.

    Args:
        names: words by number.
    """
    both = shared(here, there)
    here, there = here.of(both), there.of(both)
    kept = _kept(here, there)
    found: list[Marker] = []
    for length in (1, 2):
        ours, theirs = (_counted(texts, kept, length, len(names)) for texts in (here, there))
        if not ours or not theirs:
            continue
        keys = sorted(ours.keys() | theirs.keys())
        counts = [np.array([side.get(key, 0) for key in keys], dtype=np.float64) for side in (ours, theirs)]
        deltas, zs = log_odds(counts[0], counts[1])
        for place in np.flatnonzero((sum(counts) >= LEAST_COUNT) & (np.abs(zs) >= LEAST_Z)):
            text = _spelled(keys[place], length, names)
            often = (int(counts[0][place]), int(counts[1][place]))
            found.append(Marker(text, float(zs[place]), float(deltas[place]), *often))
    return tuple(sorted(found, key=lambda marker: (-abs(marker.z), marker.text))[:MOST])


def log_odds(
    here: NDArray[np.float64], there: NDArray[np.float64], prior: float = PRIOR
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratios and z-values of each word, see the module; zeros where there is only one word.

    Args:
        here: counts by word; neither set is empty. ``[words]``
        there: the same of the other set. ``[words]``
        prior: words in the prior, a_0.
    """
    if len(here) < 2:
        return np.zeros(len(here)), np.zeros(len(here))
    together = here + there
    share = prior * together / together.sum()
    ours, theirs = here + share, there + share
    deltas = np.log(ours / (ours.sum() - ours)) - np.log(theirs / (theirs.sum() - theirs))
    return deltas, deltas / np.sqrt(1 / ours + 1 / theirs)


def _style(
    reading: Reading,
    before_token: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For words between these characters whether all of their tokens are style, if it is known. ``[words]``

    Args:
        before_token: characters that end before each token, and those of the text. ``[n + 1]``
    """
    if reading.style is None:
        return np.zeros(len(starts), dtype=np.int64)
    said = np.array(reading.style, dtype=np.float64)
    # A word begins in the first token that has all before it behind, else amid the token before.
    first = np.searchsorted(before_token, starts, side="left")
    first -= before_token[first] > starts
    last = np.searchsorted(before_token, stops, side="left")

    def all_of(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        before = np.concatenate([[0], np.cumsum(flags)])
        return np.asarray(before[last] - before[first] == last - first)

    return Mark.KNOWN * all_of(~np.isnan(said)) | Mark.STYLE * all_of(said >= STYLE)


def _kept(here: Texts, there: Texts) -> Mark:
    """The marks that a word needs: those that some words of both sets have."""
    kept = Mark(0)
    for step, needed in ((Mark.THINKING, Mark.THINKING), (Mark.KNOWN, Mark.KNOWN | Mark.STYLE)):
        if all(any(np.any(_has(row, kept | step)) for row in texts.marks) for texts in (here, there)):
            kept |= needed
    return kept


def _has(marks: NDArray[np.uint8], needed: Mark) -> NDArray[np.bool_]:
    return np.asarray(marks & int(needed) == int(needed))


def _counted(texts: Texts, kept: Mark, length: int, width: int) -> dict[int, int]:
    """How often each word (``length`` 1) or run of two words stands in the texts."""
    found = []
    for row, marks in zip(texts.words, texts.marks, strict=True):
        counts = _has(marks, kept)
        if length == 1:
            found.append(row[counts].astype(np.int64))
        else:
            runs = counts[:-1] & counts[1:] & _has(marks[1:], Mark.JOINED)
            found.append((row[:-1].astype(np.int64) * width + row[1:])[runs])
    keys, counted = np.unique(np.concatenate(found or [np.empty(0, dtype=np.int64)]), return_counts=True)
    return dict(zip(keys.tolist(), counted.tolist(), strict=True))


def _spelled(key: int, length: int, names: Sequence[str]) -> str:
    if length == 1:
        return names[key]
    first, second = names[key // len(names)], names[key % len(names)]
    return first + second if _WIDE_ENDS.fullmatch(first + second) else f"{first} {second}"
