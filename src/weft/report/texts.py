"""A text as the page carries it: pieces with what is known of each, as JSON.

A piece is a token of the student's where the student has read the text, else a span. Tokens that end amid a
character are joined with the next, for half a character cannot be shown: surprise and entropy are added, of
ranks the worst is kept.

Invariants
    - Pieces joined are the text, hostile characters by their code (:mod:`weft.report.outside`), but for
      one gap, which says how many characters it stands for.
    - Nothing that a model wrote reaches the page in any other way.

Keys are short, since they stand in the page thousands of times; :class:`Carried` says what they mean. Lists
of numbers are packed (:mod:`weft.report.packing`): at 350 tokens a text they are most of the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypedDict

from weft.gap.distance.readings import Reading, ReadingStatus
from weft.records import Prompt, Trace
from weft.report.catalogue import Entry
from weft.report.outside import shown, shown_pieces
from weft.report.packing import packed

HEAD = 0.75
"""Share of a clipped text that is its beginning; the rest is its end."""
PROMPT = 20_000
REASON = 2_000
NAME = 300
"""Characters of a prompt's message, of a reason, of an id that are shown at most."""
HUNDREDTHS = 100


class Carried(TypedDict, total=False):
    """One text in the page. What is not known is not there."""

    key: str
    """What the address of the page calls it; unique."""
    id: str
    source: str
    strategy: str
    status: str
    reason: str
    unread: str
    """Why the student could not read it."""
    p: str
    """The prompt's key among the page's prompts."""
    flag: str
    """A verdict of the data's own."""
    z: float
    """How far it is from its source's others, if it is an outlier."""
    mean: float
    """Surprise in nats per token, over the whole text."""
    tokens: int
    by: list[int]
    """Tokens by the student and by the teacher."""
    turns: int
    t: str
    """All pieces, joined."""
    c: str
    """Packed: the length of each piece in UTF-16 units, by which JavaScript counts."""
    think: int
    """How many of the first pieces are thinking."""
    who: str
    """Writers in turn: ``s``, ``t`` or ``u`` (not known)."""
    w: str
    """Packed: for how many pieces each."""
    n: str
    """Packed: surprise, in hundredths of a nat; not known where it is infinite."""
    e: str
    """Packed: entropy, in hundredths of a nat."""
    r: str
    """Packed: rank."""
    y: str
    """Packed: probability of style, in hundredths."""
    j: list[list[int]]
    """Pieces of more than one token: which, and of how many."""
    gap: list[int]
    """Before which piece text was left out, and how many characters."""


@dataclass(slots=True)
class Piece:
    """A token, or a span."""

    text: str
    who: str
    thinking: bool
    nats: float | None = None
    rank: int | None = None
    entropy: float | None = None
    style: float | None = None
    tokens: int = 1


def carried(entry: Entry, trace: Trace | None, reading: Reading | None, limit: int) -> Carried:
    """The text of a catalogue's entry.

    Args:
        trace: its trace, if it has one; it, or the reading, is there.
        limit: characters that are shown at most.
    """
    read = reading is not None and reading.status is ReadingStatus.COMPLETE
    pieces = _of_reading(reading) if reading is not None and read else _of_spans(trace, reading)
    pieces, gap = clipped(pieces, limit)
    writers = _writers(pieces)
    said = shown_pieces([piece.text for piece in pieces])
    text: Carried = {
        "key": short(f"{entry.source}/{entry.id}"),
        "id": short(entry.id),
        "source": short(entry.source),
        "strategy": short(entry.strategy),
        "status": entry.status,
        "p": entry.prompt,
        "t": "".join(said),
        "c": packed([len(piece.encode("utf-16-le")) // 2 for piece in said]),
        "think": sum(piece.thinking for piece in pieces),
        "who": "".join(who for who, _ in writers),
        "w": packed([count for _, count in writers]),
    }
    if gap is not None:
        text["gap"] = gap
    if entry.outlier is not None:
        text["z"] = round(entry.outlier, 1)
    if trace is not None:
        _add_facts(text, trace)
    if reading is not None and read:
        _add_numbers(text, pieces, reading)
    elif reading is not None:
        text["unread"] = _cut(shown(": ".join(filter(None, (reading.status.value, reading.reason)))), REASON)
    return text


def carried_prompt(prompt: Prompt) -> dict[str, Any]:
    """A prompt in the page: messages as pairs of role and content, and the answer if it has one."""
    messages = [
        [short(message.role), _cut(shown(message.content), PROMPT)]
        + ([_cut(shown(message.thinking), PROMPT)] if message.thinking else [])
        for message in prompt.messages
    ]
    made: dict[str, Any] = {"id": short(prompt.id), "m": messages}
    if prompt.answer is not None:
        made["a"] = _cut(shown(prompt.answer), PROMPT)
    return made


def clipped(pieces: Sequence[Piece], limit: int) -> tuple[list[Piece], list[int] | None]:
    """The pieces without the middle of a text that is too long, and where what was left out.

    Returns:
        The pieces, and the gap: before which of them text was left out, and how many characters; or ``None``.
    """
    total = sum(len(piece.text) for piece in pieces)
    if total <= limit:
        return list(pieces), None
    head = _start(pieces, round(limit * HEAD))
    kept = [*head, *_end(pieces, limit - _length(head))]
    return kept, [len(head), total - _length(kept)]


def short(text: str) -> str:
    """A name on one line, of a length that fits."""
    return _cut(shown(text).replace("\n", "<U+000A>").replace("\t", "<U+0009>"), NAME)


def _start(pieces: Sequence[Piece], characters: int) -> list[Piece]:
    """The first pieces, so many characters of them."""
    kept: list[Piece] = []
    for piece in pieces:
        if characters <= 0:
            break
        kept.append(replace(piece, text=piece.text[:characters]))
        characters -= len(piece.text)
    return kept


def _end(pieces: Sequence[Piece], characters: int) -> list[Piece]:
    """The last pieces, so many characters of them."""
    kept: list[Piece] = []
    for piece in reversed(pieces):
        if characters <= 0:
            break
        kept.append(replace(piece, text=piece.text[-characters:]))
        characters -= len(piece.text)
    return kept[::-1]


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces)


def _cut(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    return f"{text[:characters]}… ({len(text) - characters:,} characters more)"


def _of_spans(trace: Trace | None, reading: Reading | None) -> list[Piece]:
    if trace is None:
        text = reading.text if reading is not None else ""
        return [Piece(text, "u", False)] if text else []
    return [
        Piece(span.text, span.author.value[0], at < trace.thinking_spans)
        for at, span in enumerate(trace.spans)
    ]


def _of_reading(reading: Reading) -> list[Piece]:
    """Tokens as pieces, those that end amid a character joined with the next of the same part."""
    writers = [run.author.value[0] for run in reading.authors for _ in range(run.tokens)]
    pieces: list[Piece] = []
    place = 0
    waiting: Piece | None = None
    for at, characters in enumerate(reading.chars):
        piece = Piece(
            reading.text[place : place + characters],
            writers[at],
            at < reading.thinking,
            reading.nats[at],
            None if reading.ranks is None else reading.ranks[at],
            None if reading.entropies is None else reading.entropies[at],
            None if reading.style is None else reading.style[at],
        )
        place += characters
        if waiting is not None:
            piece = _joined(waiting, piece)
        waiting = None if piece.text else piece
        if waiting is None:
            pieces.append(piece)
    if waiting is not None:
        pieces = [*pieces[:-1], _joined(pieces[-1], waiting)] if pieces else [waiting]
    return pieces


def _joined(first: Piece, second: Piece) -> Piece:
    """Two tokens as one piece; the writer is that of the first byte."""
    return Piece(
        first.text + second.text,
        first.who,
        first.thinking,
        (first.nats or 0.0) + (second.nats or 0.0),
        None if first.rank is None or second.rank is None else max(first.rank, second.rank),
        None if first.entropy is None or second.entropy is None else first.entropy + second.entropy,
        first.style,
        first.tokens + second.tokens,
    )


def _writers(pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    """Writers in turn, and for how many pieces each; thinking and response are turns of their own."""
    turns = groupby(pieces, key=lambda piece: (piece.who, piece.thinking))
    return [(who, sum(1 for _ in turn)) for (who, _), turn in turns]


def _add_facts(text: Carried, trace: Trace) -> None:
    tokens = trace.usage.tokens
    text["by"] = [tokens.student, tokens.teacher]
    text["tokens"] = tokens.total
    text["turns"] = trace.usage.turns
    if trace.reason:
        text["reason"] = _cut(shown(trace.reason), REASON)
    try:
        extra = json.loads(trace.prompt.extra)
    except (ValueError, RecursionError):
        return
    verdict = extra.get("verdict") if isinstance(extra, Mapping) else None
    if isinstance(verdict, str | int | float | bool):
        text["flag"] = short(str(verdict).lower() if isinstance(verdict, bool) else str(verdict))


def _add_numbers(text: Carried, pieces: Sequence[Piece], reading: Reading) -> None:
    """What the student thinks of each piece."""
    text["tokens"] = reading.tokens
    if reading.tokens and math.isfinite(total := sum(reading.nats)):
        text["mean"] = round(total / reading.tokens, 4)
    text["n"] = packed([_hundredths(piece.nats) for piece in pieces])
    if reading.ranks is not None:
        text["r"] = packed([piece.rank for piece in pieces])
    if reading.entropies is not None:
        text["e"] = packed([_hundredths(piece.entropy) for piece in pieces])
    if reading.style is not None:
        text["y"] = packed([_hundredths(piece.style) for piece in pieces])
    joined = [[at, piece.tokens] for at, piece in enumerate(pieces) if piece.tokens > 1]
    if joined:
        text["j"] = joined


def _hundredths(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else round(value * HUNDREDTHS)
