"""Windows: stretches of thinking that begin where a sentence begins, a little over or under fifty words long.

Words are counted so that a window costs a tokenizer about as much in any script: what stands between white
space is one word, two Chinese or Japanese characters are one word, and a run of more than 64 characters (a
number without end, Thai) counts again after every 64.

Invariants
    - Windows of one text never overlap, begin and end with ink, and begin where a word begins.
    - They are a function of text, lengths, seed and the trace's id alone. Fewer windows of a trace are always
      some of those that more would be.

It does not know what is done with them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from random import Random

import regex

LONGEST_WORD = 64
"""Characters of one word, at most; what is longer counts as several."""

_WIDE = r"\p{Han}\p{Hiragana}\p{Katakana}"
_WORD = regex.compile(
    # A wide character with the punctuation after it, or a run of anything else.
    rf"(?P<wide>[{_WIDE}][^\s\p{{L}}\p{{N}}\p{{Ps}}\p{{Pi}}]*)|[^\s{_WIDE}]{{1,{LONGEST_WORD}}}\p{{M}}{{0,16}}"
)
_SENTENCE_END = regex.compile(
    r"""[.!?…]+["'”’)\]*]*\s+"""  # English: white space follows
    r"|[。！？…]+[”’」』）】]*\s*"
    r"|[\r\n]\s*"
)


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of a longer text."""

    start: int
    """Where it begins in the longer text, in characters."""
    text: str


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a text."""

    starts: list[int]
    """Where each begins, in characters."""
    ends: list[int]
    counted: list[float]
    """Words before each, and at last all of them: wide characters count for half. ``[words + 1]``"""


def draw_windows(text: str, *, shortest: int, longest: int, most: int, seed: int, trace: str) -> list[Window]:
    """At most ``most`` windows of ``text``, drawn at random, in order.

    The text is laid out in windows from its beginning, each with a length drawn from the range; what is left
    over between a window's end and the next sentence belongs to none. Where no sentence begins for
    ``longest`` words, a window begins with the next word. A rest of fewer than ``shortest`` words at the end
    gives no window, unless it is the whole text.

    Args:
        shortest: words of a window, at least.
        longest: words of a window, at most.
        trace: the id of the text, for the draw.
    """
    words = _words(text)
    if not words.starts:
        return []
    starts = _sentence_starts(text, words)
    lengths, order = Random(f"weft windows|{seed}|{trace}"), Random(f"weft choice|{seed}|{trace}")
    laid: list[Window] = []
    at, last = 0, len(words.starts)
    while at < last:
        length = lengths.randint(shortest, longest)
        end = min(last, max(at + 1, bisect_right(words.counted, words.counted[at] + length) - 1))
        if words.counted[last] - words.counted[at] >= shortest or not at:
            start = words.starts[at]
            laid.append(Window(start, text[start : words.ends[end - 1]]))
        following = bisect_left(starts, end)
        near = following < len(starts) and words.counted[starts[following]] - words.counted[end] <= longest
        at = starts[following] if near else end
    chosen = list(range(len(laid)))
    order.shuffle(chosen)
    return [laid[index] for index in sorted(chosen[:most])]


def _words(text: str) -> _Words:
    starts, ends, counted = [], [], [0.0]
    for match in _WORD.finditer(text):
        starts.append(match.start())
        ends.append(match.end())
        counted.append(counted[-1] + (0.5 if match["wide"] is not None else 1.0))
    return _Words(starts, ends, counted)


def _sentence_starts(text: str, words: _Words) -> list[int]:
    """The words with which sentences begin, in order."""
    ends = {match.end() for match in _SENTENCE_END.finditer(text)}
    return [place for place, start in enumerate(words.starts) if start in ends or not place]
