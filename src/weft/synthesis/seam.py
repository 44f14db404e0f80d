"""Where text may pass from one author to the other: at a word boundary that is also a grapheme boundary.

Word boundaries are Unicode's (UAX #29, section 4), so Chinese and Thai, which write no spaces, hand over too.
"""

from __future__ import annotations

import regex

_CLASSES = {
    "A": r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]",
    "H": r"\p{WB=Hebrew_Letter}",
    "N": r"\p{WB=Numeric}",
    "K": r"\p{WB=Katakana}",
    "_": r"\p{WB=ExtendNumLet}",
    "R": r"\p{WB=Regional_Indicator}",
    ".": r"[\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}]",
    ",": r"[\p{WB=MidNum}\p{WB=MidNumLet}\p{WB=Single_Quote}]",
    "'": r"\p{WB=Single_Quote}",
    '"': r"\p{WB=Double_Quote}",
}
_MARK = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"
# What stands before and after a place that is no boundary, by rules WB5 to WB13b; marks count for nothing.
_JOINED = """
    A|A  A|.A  A.|A  H|'  H|"H  H"|H  N|N  A|N  N|A  N,|N  N|,N  K|K  A|_  N|_  K|_  _|_  _|A  _|N  _|K
"""


def _marked(classes: str) -> str:
    return "".join(f"{_CLASSES[name]}{_MARK}*" for name in classes)


# `regex` has word boundaries of its own (\b with the flag WORD), which overlook marks in some of the rules.
_INSIDE_WORD = regex.compile(
    "|".join(
        [
            r"(?<=\r)(?=\n)",  # WB3
            r"(?<=\p{WB=ZWJ})(?=\p{Extended_Pictographic})",  # WB3c
            r"(?<=\p{WB=WSegSpace})(?=\p{WB=WSegSpace})",  # WB3d
            rf"(?<=[^\r\n\p{{WB=Newline}}])(?={_MARK})",  # WB4
            *(f"(?<={_marked(a)})(?={_marked(b)})" for a, b in (rule.split("|") for rule in _JOINED.split())),
            # WB15 and WB16: after an odd number of regional indicators.
            rf"(?<=(?<!{_CLASSES['R']}{_MARK}*)(?:{_marked('RR')})*{_marked('R')})(?={_CLASSES['R']})",
        ]
    )
)
_GRAPHEME = regex.compile(r"\X")
# A cluster starts at each of these, or at marks before it that bind forwards: from there on \X is in step.
_CLUSTER_START = regex.compile(
    r"(?r)[\p{GCB=Other}--[\p{Extended_Pictographic}\p{InCB=Consonant}]]", regex.VERSION1
)

# No cluster, flag or run of marks reaches over these, and half a tail is more than two bases and their marks.
_FRESH = regex.compile(r"[A-Za-z \p{Han}]")
_TAIL = 128

# Whether a boundary lies after "3." or "can'" depends on what follows; these stand for all that could:
# a letter, a digit, a Hebrew letter (rules WB6-7c, WB11-12), and a mark that none of the rules see.
_CONTINUATIONS = ("a", "1", "א", " ")


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
    left = _recent(left)
    text, position = left + right, len(left)
    if _INSIDE_WORD.match(text, position) is not None:
        return False
    start = _CLUSTER_START.search(text, 0, position)
    graphemes = _GRAPHEME.finditer(text, start.start() if start else 0)
    return any(match.end() == position for match in graphemes)


def _recent(left: str) -> str:
    """As much of the end of ``left`` as any rule looks back over: from where everything starts anew."""
    tail = left[-_TAIL:]
    if len(tail) < _TAIL:
        return left
    fresh = _FRESH.search(tail, 0, _TAIL // 2)
    return tail[fresh.start() :] if fresh else left
