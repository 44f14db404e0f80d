"""One row into one prompt, or into a message that helps.

Rules
    - ``prompt`` is text or a list of chat messages, the last of them the user's; ``messages`` is read in
      its place where ``prompt`` is missing or null.
    - ``system`` becomes the first message; blank counts as not given.
    - ``answer`` is text; numbers and booleans become their JSON text; null and NaN are "not given".
    - ``id`` is text or a whole number, as text without control characters. It may hold ``#``: the sample's
      number follows the *last* one.
    - No NUL and no lone surrogate in any of them, so that they can be tokenized and written.
    - A message keeps its role, content and thinking. Other keys (``name``, ``weight``) are dropped; tool
      calls and content that is not text are refused: without them the question is another one.
    - All other columns travel in ``extra``: one JSON object with sorted keys. What JSON cannot hold is
      written as a string (dates, times, decimals, UUIDs), as base64 (bytes), or as null (NaN, infinities).

This module does not know where rows come from, nor what a model's context can hold.
"""

from __future__ import annotations

import base64
import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from weft.errors import UserError
from weft.prompts.files import json_kind
from weft.records import THINKING_FIELDS, Message, Prompt

MAX_PROMPT = 8 * 2**20
"""Longest prompt, in UTF-8 bytes over all its messages."""
MAX_ID = 512
"""Longest id, in characters."""
ROLES = ("system", "developer", "user", "assistant", "tool")
PROMPT_LIKE = ("question", "instruction", "problem", "query", "input", "task", "text", "content")
"""Names under which data sets keep what Weft calls ``prompt``."""


def prompt_from_row(row: Mapping[str, Any], where: str, column: str = "prompt") -> Prompt:
    """The prompt of a row; its id is empty where the row has none.

    Raises:
        UserError: the row breaks a rule of this module.
    """
    source = column
    if column == "prompt" and row.get("prompt") is None and row.get("messages") is not None:
        source = "messages"
    if source not in row:
        raise _no_column(row, where, column)
    messages = _messages(row[source], source, where)
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise UserError(f"`system` is a JSON {json_kind(system)}", where=where, expected="text")
    if system and system.strip():
        if any(message.role == "system" for message in messages):
            raise UserError(
                f"a `system` column and a system message in `{source}`",
                where=where,
                expected="one system message",
                remedy="remove one of the two",
            )
        messages = (Message("system", _sound(system, "`system`", where)), *messages)
    length = sum(len(part.encode()) for m in messages for part in (m.content, m.thinking or ""))
    if length > MAX_PROMPT:
        raise UserError(
            f"a prompt of {length:,} bytes",
            where=where,
            expected=f"at most {MAX_PROMPT:,} bytes",
            remedy="shorten it or remove the row; no model reads so much",
        )
    used = {source, "system", "answer", "id"}
    other = {name: value for name, value in row.items() if name not in used}
    return Prompt(
        id=_id(row.get("id"), where),
        messages=messages,
        answer=_answer(row.get("answer"), where),
        extra=_extra(other, where),
        where=where,
    )


def _no_column(row: Mapping[str, Any], where: str, column: str) -> UserError:
    like = next((name for name in PROMPT_LIKE if name in row), None)
    if column != "prompt":
        remedy = "name one of these columns with --prompt-column"
    elif like:
        remedy = f"rename `{like}` to `prompt`, or --prompt-column {like}"
    else:
        remedy = "rename the column that holds the question to `prompt`, or name it with --prompt-column"
    present = ", ".join(f"`{name}`" for name in row) or "no column"
    return UserError(
        f"no column `{column}`", where=where, expected=f"`{column}`; the row has {present}", remedy=remedy
    )


def _sound(text: str, what: str, where: str) -> str:
    """``text``, if it can be tokenized and written."""
    if "\0" in text:
        raise UserError(
            f"{what} holds a NUL character at {text.index(chr(0))}", where=where, remedy="remove it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} holds half a character (lone surrogate U+{ord(text[error.start]):04X}) at {error.start}",
            where=where,
            expected="Unicode text",
            remedy="write the row again with its original text; JSON \\u escapes come in pairs there",
        ) from error
    return text


def _messages(value: Any, column: str, where: str) -> tuple[Message, ...]:
    what = f"`{column}`"
    if isinstance(value, str) and column != "messages":
        if not value.strip():
            raise UserError(f"{what} is empty", where=where, remedy="fill it in or remove the row")
        return (Message("user", _sound(value, what, where)),)
    if not isinstance(value, list):
        raise UserError(
            f"{what} is a JSON {json_kind(value)}",
            where=where,
            expected="text, or a list of messages with `role` and `content`",
            remedy="fill it in or remove the row" if value is None else "write it as text",
        )
    if not value:
        raise UserError(f"{what} has no messages", where=where, remedy="fill it in or remove the row")
    messages = tuple(
        message_from(item, f"message {number} of {what}", where) for number, item in enumerate(value, 1)
    )
    last = messages[-1]
    if last.role != "user":
        raise UserError(
            f"the last message of {what} has the role `{last.role}`",
            where=where,
            expected="a message of the user's, which the model is to answer",
            remedy="remove the messages after the user's last one",
        )
    if not last.content.strip():
        raise UserError(
            f"the last message of {what} is empty", where=where, remedy="fill it in or remove the row"
        )
    return messages


def message_from(item: Any, what: str, where: str) -> Message:
    """A chat message of a row.

    Args:
        what: names it in errors.

    Raises:
        UserError: it breaks a rule of this module.
    """
    if not isinstance(item, Mapping):
        raise UserError(
            f"{what} is a JSON {json_kind(item)}",
            where=where,
            expected='an object such as {"role": "user", "content": "..."}',
        )
    role = item.get("role")
    if role not in ROLES:
        raise UserError(
            f"{what} has the role {role!r}" if "role" in item else f"{what} has no `role`",
            where=where,
            expected="one of " + ", ".join(ROLES),
            remedy="rename `from` and `value` to `role` and `content`, human to user, gpt to assistant",
        )
    if item.get("tool_calls"):
        raise UserError(f"{what} calls tools", where=where, expected="text", remedy="remove the row")
    thinking = {field: item[field] for field in THINKING_FIELDS if item.get(field) is not None}
    for field, text in thinking.items():
        if not isinstance(text, str):
            raise UserError(f"`{field}` of {what} is a JSON {json_kind(text)}", where=where, expected="text")
        _sound(text, f"`{field}` of {what}", where)
    content = _sound(_content(item.get("content"), what, where), what, where)
    return Message.from_dict({"role": role, "content": content, **thinking})


def _content(content: Any, what: str, where: str) -> str:
    """The text of a message; a list of text parts is joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise UserError(f"`content` of {what} is a JSON {json_kind(content)}", where=where, expected="text")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else json_kind(part)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise UserError(
                f"{what} has a part of type {kind!r}",
                where=where,
                expected="text parts only",
                remedy="remove the row; Weft's models read text",
            )
    return "".join(part["text"] for part in content)


def _id(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(
            f"`id` is a JSON {json_kind(value)}",
            where=where,
            expected="text or a whole number",
            remedy="write it as text, or leave the column out",
        )
    text = _sound(str(value), "`id`", where)
    if not text.strip() or len(text) > MAX_ID or any(unicodedata.category(char) == "Cc" for char in text):
        what = f"of {len(text)} characters" if len(text) > MAX_ID else repr(text)
        raise UserError(
            f"an `id` {what}",
            where=where,
            expected=f"1 to {MAX_ID} characters, none of them a control character, not all blank",
            remedy="change it, or leave the column out",
        )
    return text


def _answer(value: Any, where: str) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return _sound(value, "`answer`", where)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return str(value)
    raise UserError(
        f"`answer` is a JSON {json_kind(value)}",
        where=where,
        expected="text or a number",
        remedy="write it as text, or rename the column: it then travels in `extra`",
    )


def _extra(columns: dict[str, Any], where: str) -> str:
    if not columns:
        return "{}"
    try:
        text = json.dumps(columns, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        plain = {str(name): _plain(value, str(name), where) for name, value in columns.items()}
        text = json.dumps(plain, ensure_ascii=False, sort_keys=True)
    return _sound(text, "a column beside the prompt", where)


def _plain(value: Any, column: str, where: str) -> Any:
    """``value`` as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, column, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, column, where) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist(), column, where)
    raise UserError(
        f"column `{column}` holds a {type(value).__name__}",
        where=where,
        expected="what JSON can hold, dates or bytes",
        remedy=f"remove the column `{column}`",
    )
