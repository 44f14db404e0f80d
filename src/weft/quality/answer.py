r"""``answer``: the response's final answer against the prompt's.

A text's *final answer* is, of these, the first that it has, each time the last one of its kind:

1. what stands in ``\boxed{...}``;
2. what follows ``####`` on its line, as in GSM8K;
3. what follows ``answer:`` or ``answer is`` on its line;
4. the whole text.

Text up to a last ``</think>`` does not count. The right answer is read in the same way, so it may come with
its solution.

A response is right (1) if

- both final answers hold numbers, and these are equal, in order and no others: ``12, 3`` and ``12 and 3.0``.
  Words beside them do not matter. Commas between groups of three digits are read both ways (``1,200`` is
  1200, or 1 and 200): one agreement is enough. Fractions, powers and units are not computed: ``1/2`` is 1
  and 2, and not 0.5;
- or the right answer holds no number, and both final answers are the same text, but for case, white space,
  Unicode's forms of one character, and punctuation or markup at either end.

Else it is wrong (0), and so is a response without text: the model was asked and gave no answer, and figures
that left it out would be over those texts alone that came to an end. Without a right answer there is no
verdict (``None``).

For integers this agrees with :func:`weft.micro.world.is_correct`, but where a comma joins groups of three
digits and where one of the marks above stands in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from weft.quality.base import Answered

NAME = "answer"
RULES = 1
"""Version of the rules above."""

_BRACE = re.compile(r"\\boxed\{|[{}]")
_LINES = (
    re.compile(r"####[ \t]*(\S.*)"),
    re.compile(r"(?i)\banswer(?:[ \t]*[:：]|[ \t]+is\b:?)[ \t]*(\S.*)"),
)
_GROUPS = re.compile(r"(?<![0-9,.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_EDGES = " \t\n\r\f\v.,;:!?…。，；：！？、'\"`´‘’“”«»()[]{}<>*_~$#|\\-–—"


class AnswerQuality:
    """A :class:`weft.quality.base.Quality`; needs no model."""

    name = NAME
    binary = True

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        """1 for right, 0 for wrong, ``None`` where no right answer is known. Never raises."""
        return [quality(one.response, one.answer) for one in answered]

    def describe(self) -> Mapping[str, object]:
        return {"quality": self.name, "rules": RULES}

    async def close(self) -> None:
        """Nothing is held."""


def quality(response: str, answer: str | None) -> float | None:
    """1 if the response's final answer is the right one, else 0; ``None`` where no right answer is known."""
    if answer is None or not answer.strip():
        return None
    return float(is_right(response, answer))


def is_right(response: str, answer: str) -> bool:
    """Whether both have the same final answer; see the module's docstring."""
    said, right = (_unified(final_answer(text)) for text in (response, answer))
    if _NUMBER.search(right) is None:
        return bool(_words(right)) and _words(said) == _words(right)
    return not _readings(said).isdisjoint(_readings(right))


def final_answer(text: str) -> str:
    """What a text gives as its answer; the whole text if nothing marks it."""
    text = text.rpartition("</think>")[2]
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    for line in _LINES:
        if found := line.findall(text):
            return str(found[-1])
    return text


def _boxed(text: str) -> str | None:
    """The content of the last box that is closed."""
    last = (-1, -1)
    opened: list[tuple[bool, int]] = []
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append((brace[0] != "{", brace.end()))
        elif opened:
            is_box, start = opened.pop()
            last = max(last, (start, brace.start())) if is_box else last
    return text[slice(*last)] if last[0] >= 0 else None


def _unified(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-")


def _words(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_EDGES)


def _readings(text: str) -> set[tuple[str, ...]]:
    """The text's numbers with commas as separators, and with commas inside numbers."""
    joined = _GROUPS.sub(lambda group: group[0].replace(",", ""), text)
    return {tuple(_numbers(text)), tuple(_numbers(joined))}


def _numbers(text: str) -> list[str]:
    """Numbers in order, each in one spelling: digits as text, since they may be thousands."""
    found = []
    for sign, whole, fraction in _NUMBER.findall(text):
        digits, rest = whole.lstrip("0") or "0", fraction.rstrip("0")
        number = f"{digits}.{rest}" if rest else digits
        found.append(sign + number if number != "0" else number)
    return found
