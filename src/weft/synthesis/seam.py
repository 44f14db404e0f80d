"""Where text may pass from one author to the other: at a word boundary that is also a grapheme boundary.

Word boundaries are Unicode's (UAX #29, section 4), so Chinese and Thai, which write no spaces, hand over too.
"""

from __future__ import annotations

import regex

_WORD_BOUNDARY = regex.compile(r"\b", regex.WORD)
_GRAPHEME = regex.compile(r"\X")

# Whether a boundary lies after "3." or "can'" depends on what follows; these stand for all that could:
# a letter, a digit, a Hebrew letter (rules WB6-7c, WB11-12), and a mark that none of the rules see.
_CONTINUATIONS = ("a", "1", "א", " ")
# Longer than any cluster or run that the rules look back over, flags' parity and joined emoji included.
_LEFT, _RIGHT = 96, 64


def breaks(left: str, right: str, *, final: bool) -> bool | None:
    """Whether a hand-over may fall between ``left`` and ``right``.

    Args:
        left: the text before.
        right: as much of the text after as is known.
        final: ``right`` is all that will follow.

    Returns:
        ``None`` where what follows ``right`` could still change the answer.
    """
    if final:
        return _breaks(left, right)
    if not right:
        return None
    answers = {_breaks(left, right + continuation) for continuation in _CONTINUATIONS}
    return answers.pop() if len(answers) == 1 else None


def _breaks(left: str, right: str) -> bool:
    if not left or not right:
        return True
    left, right = left[-_LEFT:], right[:_RIGHT]
    text, position = left + right, len(left)
    if _WORD_BOUNDARY.match(text, position) is None:
        return False
    return any(match.start() == position for match in _GRAPHEME.finditer(text))
