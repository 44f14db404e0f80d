"""An annotator's answer, read strictly: JSON alone, a list of strings, each found in the text in order.

Nothing is mended: an answer that is nearly right is refused with a reason that says to the annotator what was
wrong, so that it can do better when asked again.

It does not know prompts or engines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import regex

from weft.boundary.spans import AnnotationStatus, Range

_INK = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}]")
_LETTER = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Katakana}_]\p{M}*"
_LETTER_OR_DIGIT = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Katakana}\p{Nd}_]\p{M}*"
_INSIDE_WORD = regex.compile(
    r"(?<=\S)(?=[\p{M}\p{Cf}])"
    rf"|(?<={_LETTER_OR_DIGIT})(?={_LETTER_OR_DIGIT})"
    rf"|(?<={_LETTER})(?=['’]{_LETTER})|(?<={_LETTER}['’])(?={_LETTER})"
    r"|(?<=\p{Nd})(?=[.,]\p{Nd})|(?<=\p{Nd}[.,])(?=\p{Nd})"
)
"""Places that split a word, much as Unicode has it: "don't" and "3.14" are one word, and each Chinese or Thai
character is one of its own."""
_SHOWN = 60
"""Characters of a text that a message quotes, at most."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says, or why it says nothing."""

    status: AnnotationStatus
    style: tuple[Range, ...] = ()
    reason: str | None = None
    """For the annotator; ``None`` if the answer is good."""


def read_answer(answer: str, text: str) -> Reading:
    """The spans of ``text`` that ``answer`` names.

    White space at either end of the answer and of each span does not matter. Each span is taken at its first
    place at or after the end of the span before it, as whole words. That finds a place for every span if
    there is any way to place all of them in order: whatever an assignment chooses, choosing the earliest
    place instead leaves more room for those that follow. Where a phrase stands twice and is named once, the
    earlier place is marked; which one was meant cannot be known.
    """
    try:
        # Numbers are not wanted, however long.
        said = json.loads(answer.strip(), parse_constant=_refuse_constant, parse_int=float)
    except json.JSONDecodeError as error:
        return Reading(AnnotationStatus.NOT_JSON, reason=_not_json(answer.strip(), error))
    except ValueError as error:
        return Reading(AnnotationStatus.NOT_JSON, reason=f"it is not JSON: {error}")
    except RecursionError:
        return Reading(AnnotationStatus.NOT_JSON, reason="it is not JSON but brackets without end")
    wrong = _not_strings(said)
    if wrong is not None:
        return Reading(AnnotationStatus.NOT_STRINGS, reason=wrong)
    return locate(said, text)


def locate(spans: Sequence[str], text: str) -> Reading:
    """The places of ``spans`` in ``text``; see :func:`read_answer`."""
    inside = {match.start() for match in _INSIDE_WORD.finditer(text)}
    style: list[Range] = []
    end = 0
    for number, span in enumerate(map(str.strip, spans), 1):
        if _INK.search(span) is None:
            return Reading(AnnotationStatus.EMPTY_SPAN, reason=f"string {number} of the list is empty")
        start = _find(span, text, end, inside)
        if start is None:
            return _not_there(span, number, text, inside)
        end = start + len(span)
        style.append((start, end))
    return Reading(AnnotationStatus.COMPLETE, tuple(style))


def _find(span: str, text: str, start: int, inside: set[int]) -> int | None:
    """Where ``span`` first stands as whole words from ``start`` on."""
    while (at := text.find(span, start)) >= 0:
        if at not in inside and at + len(span) not in inside:
            return at
        start = at + 1
    return None


def _not_there(span: str, number: int, text: str, inside: set[int]) -> Reading:
    """Why a span was not found where it should be."""
    quoted = f"string {number} of the list, {shown(span)},"
    if _find(span, text, 0, inside) is not None:
        return Reading(
            AnnotationStatus.OUT_OF_ORDER,
            reason=f"{quoted} stands in the text only before the end of the string before it: strings must "
            "be in the order of the text and may not overlap or be named more often than they stand there",
        )
    if span in text:
        return Reading(
            AnnotationStatus.NOT_FOUND, reason=f"{quoted} splits a word of the text: copy whole words"
        )
    return Reading(
        AnnotationStatus.NOT_FOUND,
        reason=f"{quoted} does not stand in the text: copy it character for character, or leave it out",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _not_json(answer: str, error: json.JSONDecodeError) -> str:
    if not answer:
        return "it is empty"
    if answer.startswith("```"):
        return "it is in a code fence: answer with the list alone"
    if error.msg == "Extra data":
        return f"after the JSON there is more, {shown(answer[error.pos :])}: answer with the list alone"
    if not answer.startswith("["):
        return f"it begins with {shown(answer)}: answer with the list alone, beginning with ["
    if error.pos >= len(answer) or error.msg.startswith("Unterminated string"):
        return "the JSON is not complete: the list is not closed"
    return f"it is not JSON: {error.msg} at character {error.pos}, {shown(answer[error.pos :])}"


def _not_strings(said: Any) -> str | None:
    """What else it is; ``None`` for a list of strings."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}
    if not isinstance(said, list):
        return f"it is {names.get(type(said), 'a number')}, not a list of strings"
    for number, item in enumerate(said, 1):
        if not isinstance(item, str):
            return f"item {number} of the list is {names.get(type(item), 'a number')}, not a string"
    return None


def shown(text: str) -> str:
    """``text`` quoted as JSON, shortened, and without half characters, which no tokenizer takes."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return json.dumps(short, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
