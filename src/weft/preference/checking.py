"""Whether preference rows can be used at all: columns, types, turns, empty responses.

What is structurally wrong stops with the number of the row. A response without text is data, not a mistake in
a setting (published sets hold a few): its pair is dropped and counted. That chosen and rejected were mixed up
cannot be seen; that a prompt stands in a response's column can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from datasets import Dataset

from weft.errors import UserError

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
SIDES = ("chosen", "rejected")
_EXPECTED = (
    "`prompt`, `chosen` and `rejected`, each a text or a list of messages; "
    "or `prompt_ids`, `chosen_ids` and `rejected_ids`"
)
_BATCH = 1000
_LOOKED_AT = 50


def first_row(dataset: Any, name: str) -> dict[str, Any]:
    """The first row.

    Raises:
        UserError: there is none.
    """
    for row in dataset:
        return dict(row)
    raise UserError("there are no rows", where=f"{name} data", expected="at least one preference pair")


def is_tokenised(row: Mapping[str, Any]) -> bool:
    """Whether the row holds token ids already."""
    return all(name in row for name in IDS)


def checked(dataset: Any, name: str, *, drops_empty: bool) -> tuple[Any, int]:
    """The rows that can be used, and how many were dropped because a response has no text.

    A stream is checked while it streams; its dropped rows are not counted.

    Raises:
        UserError: a column is missing, a row cannot be used, or it holds images.
    """
    first = first_row(dataset, name)
    check_columns(first, name)
    if not isinstance(dataset, Dataset):
        checked_rows = dataset.map(_Check(name), with_indices=True)
        return (checked_rows.filter(_has_text) if drops_empty else checked_rows), 0
    names = [key for key in (*IDS, "prompt", *SIDES) if key in dataset.column_names]
    good, number = [], 0
    for batch in dataset.select_columns(names).iter(batch_size=_BATCH):
        for values in zip(*(batch[key] for key in names), strict=True):
            row = dict(zip(names, values, strict=True))
            check_row(row, number, name)
            if not drops_empty or _has_text(row):
                good.append(number)
            number += 1
    empty = number - len(good)
    if empty == number:
        raise UserError("every pair has a response without text", where=f"{name} data")
    return (dataset.select(good) if empty else dataset), empty


class _Check:
    """Checks a row of a stream and hands it on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        check_row(row, number, self.name)
        return row


def check_row(row: dict[str, Any], number: int, name: str) -> None:
    """One row's types and turns.

    Args:
        number: of the row, from 0.

    Raises:
        UserError: it cannot be used.
    """
    where = f"{name} data, row {number}"
    if is_tokenised(row):
        for key in IDS:
            if not isinstance(row[key], list) or not all(isinstance(token, int) for token in row[key]):
                raise UserError(f"`{key}` is no list of token ids", where=where)
        return
    kinds = {key: _kind(row[key], key, where) for key in ("prompt", *SIDES) if key in row}
    if len(set(kinds.values())) > 1:
        raise UserError(
            "its columns are of different kinds: "
            + ", ".join(f"`{key}` {kind}" for key, kind in kinds.items()),
            where=where,
            expected="all texts, or all lists of messages",
        )
    if kinds["chosen"] == "messages" and not row.get("prompt") and row["chosen"][:1] != row["rejected"][:1]:
        raise UserError(
            "there is no prompt, and the responses begin with no common turn",
            where=where,
            expected="`prompt`, or responses that both begin with it",
        )
    if kinds["chosen"] == "messages":
        for side in SIDES:
            if not row[side] or row[side][-1].get("role") != "assistant":
                raise UserError(
                    f"`{side}` does not end with the assistant's message",
                    where=where,
                    expected="the assistant's response",
                    remedy="were the columns swapped? The user's message belongs to `prompt`",
                )


def shortened_prompts(rows: Any, tokenizer: Any) -> str | None:
    """What to say where prompts have other tokens alone than before an answer; else ``None``.

    TRL then takes as prompt what both have in common, and the rest of it counts as response. Only the first
    rows of a conversation are looked at.

    Args:
        rows: tokenised rows that still hold their messages.
        tokenizer: with the chat template that the prompts are rendered by.
    """
    looked = short = 0
    for row in islice(rows, _LOOKED_AT):
        if not isinstance(row.get("prompt"), list) or not row["prompt"]:
            return None
        looked += 1
        short += len(row["prompt_ids"]) < len(prompt_alone(row, tokenizer))
    if not short:
        return None
    return (
        f"a prompt has other tokens alone than before an answer ({short} of {looked} looked at): the end of "
        "the prompt counts as response, and prefixes begin with it; look at the chat template"
    )


def prompt_alone(row: dict[str, Any], tokenizer: Any) -> list[int]:
    """The prompt of a conversation as a model is asked."""
    tools = row.get("tools")
    ids: list[int] = tokenizer.apply_chat_template(
        row["prompt"],
        tools=json.loads(tools) if isinstance(tools, str) else tools,
        add_generation_prompt=True,
        return_dict=False,
        **(row.get("chat_template_kwargs") or {}),
    )
    return ids


def check_columns(first: dict[str, Any], name: str) -> None:
    """Whether the columns of a data set are those of preference rows.

    Args:
        first: its first row.

    Raises:
        UserError: one is missing, or there are images.
    """
    if "image" in first or "images" in first:
        raise UserError(
            "the rows hold images, which prefix policies do not cut",
            where=f"{name} data",
            remedy="take TRL's own DPOTrainer, or remove the column if it is not needed",
        )
    missing = [side for side in SIDES if side not in first]
    if missing and not is_tokenised(first):
        raise UserError(
            "no column is called " + " or ".join(f"`{side}`" for side in missing),
            where=f"{name} data",
            expected=_EXPECTED,
            remedy=f"rename one of: {', '.join(sorted(key for key in first if key != 'weft_row'))}",
        )


def _kind(value: Any, key: str, where: str) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return "messages"
    shown = "missing" if value is None else f"of type {type(value).__name__}"
    raise UserError(f"`{key}` is {shown}", where=where, expected="a text or a list of messages")


def _has_text(row: dict[str, Any]) -> bool:
    return all(says_something(row[f"{side}_ids"] if is_tokenised(row) else row[side]) for side in SIDES)


def says_something(value: Any) -> bool:
    """Whether a response, as text, ids or messages, says anything."""
    if isinstance(value, str):
        return bool(value.strip())
    if not value or not isinstance(value[-1], dict):
        return bool(value)
    last = value[-1]
    content = last.get("content")
    return bool(content.strip() if isinstance(content, str) else content) or bool(last.get("tool_calls"))
