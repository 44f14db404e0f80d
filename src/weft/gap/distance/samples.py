"""Texts to be measured, from traces and from any data set that TRL trains on.

::

    traces of `weft synth`          complete ones; who wrote what is known
    prompt, completion              texts, or lists of messages
    messages                        the last one, the assistant's, is the text; before it stands the prompt

Thinking is read from the message's field (``reasoning_content``, ``reasoning``, ``thinking``) or from tags at
the start of its content, of which the opening one may be missing: there are templates that write it into the
prompt. A text that is null counts as empty. A prompt that is text is the user's message, and white space at
the ends of a text from elsewhere is left out, as `weft synth` writes it.

Invariants
    - One rule says which prompts are equal, whatever ids they have: :func:`prompt_key`.
    - A file is read row by row, never held.

It does not know models or tokens, nor which samples are drawn.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.chat.template import NOTATIONS
from weft.errors import UserError
from weft.prompts.files import file_kind
from weft.prompts.rows import message_from, prompt_from_row
from weft.prompts.source import rows_of
from weft.records import THINKING_FIELDS, Author, Message, Span, Status, Trace
from weft.store.lines import read_lines
from weft.store.traces import TRACES

FORMATS = "traces of `weft synth`, or rows with `prompt` and `completion`, or with `messages`"
_TAGGED = tuple(
    re.compile(rf"\s*{re.escape(opening.strip())}(.*?)(?:{re.escape(closing.strip())}|\Z)", re.DOTALL)
    for opening, closing in NOTATIONS
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One text that answers one prompt."""

    id: str
    """In its file; ``row-<number>``, from 1, where the row has none."""
    source: str
    """Label of the set that it is from."""
    prompt: str
    """See :func:`prompt_key`."""
    messages: tuple[Message, ...]
    thinking: str
    response: str
    spans: tuple[Span, ...] | None
    """Thinking and response by author; ``None`` where the data do not say."""
    strategy: str
    """Empty where the data name none."""
    writer: str
    """The model that wrote all of it, as it was named; empty where there were several or none is known."""
    seed: int | None
    """Of the student's draws; ``None`` where there are none, or they are not known."""
    where: str
    """File and line, or row."""

    @property
    def digest(self) -> str:
        """Of all that a reading of it depends on. 16 hexadecimal digits."""
        spans = None if self.spans is None else [[span.author, span.text] for span in self.spans]
        said = [[m.role, m.content, m.thinking] for m in self.messages]
        return digest_of([said, self.thinking, self.response, spans])


def prompt_key(messages: Iterable[Message]) -> str:
    """The same for equal prompts, whatever files and ids they come from. 16 hexadecimal digits.

    A system message counts as the begin of the user's first one: traces of a student whose template has no
    system role carry it there.
    """
    said = [[message.role, message.content, message.thinking or ""] for message in messages]
    if said and said[0][0] == "system":
        user = next((one for one in said if one[0] == "user"), None)
        if user is not None:
            user[1] = f"{said.pop(0)[1]}\n\n{user[1]}"
    return digest_of(said)


def read_samples(name: str, label: str, split: str = "train") -> Iterator[Sample | None]:
    """All samples of a file or data set, streamed; ``None`` for a trace that is not complete.

    Args:
        label: of the set.
        split: of a data set; files have none.

    Raises:
        UserError: there is no such file or data set, or a row is malformed.
    """
    rows = rows_of(name, split, None, "prompt")()
    first = next(rows, None)
    if first is None:
        return
    rows = itertools.chain([first], rows)
    path = Path(name).expanduser()
    if "spans" in first[1] and path.is_file() and file_kind(path) == ".jsonl":
        packed = path.suffix != ".jsonl"
        for where, row in rows if packed else read_lines(path, TRACES.expected()):
            yield _of_trace(TRACES.read(row, where), label, where)
        return
    for number, (where, row) in enumerate(rows, 1):
        yield _of_row(row, number, label, where)


def _of_trace(trace: Trace, label: str, where: str) -> Sample | None:
    if trace.status is not Status.COMPLETE:
        return None
    authors = {span.author for span in trace.spans}
    made = trace.provenance
    names = {author: made.student if author is Author.STUDENT else made.teacher or "" for author in authors}
    return Sample(
        id=trace.id,
        source=label,
        prompt=prompt_key(trace.prompt.messages),
        messages=trace.prompt.messages,
        thinking=trace.thinking,
        response=trace.response,
        spans=trace.spans,
        strategy=made.strategy,
        writer=next(iter(names.values())) if len(names) == 1 else "",
        seed=made.seed if Author.STUDENT in authors else None,
        where=where,
    )


def _of_row(row: Mapping[str, Any], number: int, label: str, where: str) -> Sample:
    """A row of SFT data.

    Raises:
        UserError: it is none, or cannot be read.
    """
    asked, written = _split_row(row, where)
    prompt = prompt_from_row({**asked, "system": row.get("system"), "id": row.get("id")}, where)
    if isinstance(written, str):
        fields = {field: row[field] for field in THINKING_FIELDS if isinstance(row.get(field), str)}
        written = {"content": written, **fields}
    content = "" if written.get("content") is None else written["content"]
    message = message_from({**written, "role": "assistant", "content": content}, "the completion", where)
    thinking, response = _thinking(message)
    return Sample(
        id=prompt.id or f"row-{number}",
        source=label,
        prompt=prompt_key(prompt.messages),
        messages=prompt.messages,
        thinking=thinking,
        response=response,
        spans=None,
        strategy="",
        writer="",
        seed=None,
        where=where,
    )


def _split_row(row: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str | Mapping[str, Any]]:
    """What is asked, as a row of prompts has it, and what is written: text, or the assistant's message."""
    completion = row.get("completion")
    if row.get("prompt") is not None and completion is not None:
        if isinstance(completion, str):
            return {"prompt": row["prompt"]}, completion
        before, written = _last_turn(completion, "completion", where)
        prompt = row["prompt"]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if before and isinstance(turns, list):
            prompt = [*turns, *before]
        return {"prompt": prompt}, written
    if row.get("messages") is not None:
        before, written = _last_turn(row["messages"], "messages", where)
        return {"messages": before}, written
    if row.get("prompt") is not None and "completion" in row:
        return {"prompt": row["prompt"]}, ""
    pairs = "chosen" in row and "rejected" in row
    raise UserError(
        "this is a preference pair" if pairs else "no text to be measured",
        where=where,
        expected=f"{FORMATS}; the row has {', '.join(f'`{name}`' for name in row) or 'no column'}",
        remedy="`weft gap reward` measures pairs" if pairs else "rename the columns, or name another file",
    )


def _last_turn(value: Any, column: str, where: str) -> tuple[list[Any], Mapping[str, Any]]:
    """The turns before the assistant's last one, and that one."""
    if not isinstance(value, list) or not value or not isinstance(value[-1], Mapping):
        raise UserError(
            f"`{column}` is no list of messages",
            where=where,
            expected="text, or " * (column == "completion")
            + 'messages such as {"role": "assistant", "content": "..."}',
            remedy="mend or remove the row",
        )
    if value[-1].get("role") != "assistant":
        raise UserError(
            f"the last message of `{column}` has the role {value[-1].get('role')!r}",
            where=where,
            expected="the assistant's, which is the text to be measured",
            remedy="remove the messages after the assistant's last one",
        )
    return value[:-1], value[-1]


def _thinking(message: Message) -> tuple[str, str]:
    """Thinking and response of an assistant's message. Thinking that is never closed has no response."""
    if message.thinking and message.thinking.strip():
        return message.thinking.strip(), message.content.strip()
    for tagged in _TAGGED:
        if found := tagged.match(message.content):
            return found[1].strip(), message.content[found.end() :].strip()
    for opening, closing in NOTATIONS:
        before, closed, after = message.content.partition(closing.strip())
        if closed and opening.strip() not in before:
            return before.strip(), after.strip()
    return "", message.content.strip()


def digest_of(value: Any) -> str:
    """Of a JSON value; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]
