"""One row of fine-tuning data as token ids and labels.

::

    a trace of `weft synth` or `weft verify`    prompt and completion, and who wrote what
    prompt, completion                          texts, or lists of messages
    messages, conversations                     the last one, the assistant's, is the completion
    text                                        all of it is learned

A row is rendered and tokenised as TRL's `SFTTrainer` does it, by the template that its ``training_template``
names or the model's own, and its completion begins where TRL says: where the tokens of the prompt and of the
whole row part. It ends with the end of the turn. Many templates write a line feed behind that, which TRL
learns: a token that no generation writes, unlikely to the model, whose first large gradients shrink the steps
that Adam takes for all others.

Invariants
    - A row is never cut: it is whole, or it is left out for a reason.
    - Labels are the ids of what is learned, and -100 elsewhere.

It does not know files, nor what a model can hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from trl.data_utils import common_prefix_length, maybe_convert_to_chatml

from weft.chat.rendering import TEMPLATE_ERRORS
from weft.chat.shipped import shipped_template
from weft.errors import UserError
from weft.finetuning.authors import authors, owners
from weft.finetuning.settings import LossOn
from weft.records import THINKING_FIELDS, Author, Span, Status, Trace

IGNORED = -100
"""The label of what is not learned."""
THOUGHT = "</think>"
"""Ends thinking where a message's content holds it, as published data have it."""
FORMATS = "traces, or rows with `prompt` and `completion`, with `messages`, or with `text`"


class Left(StrEnum):
    """Why a row is left out."""

    NO = ""
    INCOMPLETE = "of an unfinished trace"
    LONG = "too long"
    EMPTY = "without a token to learn"
    UNPLACED = "whose authors the template hides"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as text."""

    prompt: str
    """Up to where the model goes on; empty where all is learned."""
    whole: str
    bare: bool
    """No template wrote it: the tokenizer adds its own beginning."""
    spans: Sequence[Span] | None
    """The whole text by author; ``None`` where that is not known."""
    left: Left = Left.NO


@dataclass(frozen=True, slots=True)
class Text:
    """A row as tokens."""

    ids: Sequence[int]
    labels: Sequence[int]
    completion: Mapping[str, int]
    """Tokens of the completion by author: student, teacher, unknown."""
    left: Left


class Renderer:
    """Renders rows as one tokenizer's templates write them."""

    def __init__(self, tokenizer: Any, where: str) -> None:
        """``where`` names the model, for messages."""
        self._tokenizer, self._where = tokenizer, where
        added = tokenizer.added_tokens_decoder.values()
        controls = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        self._controls = tuple(controls)
        self._suits: dict[str, bool] = {}

    def __call__(self, row: Mapping[str, Any], where: str) -> Rendered:
        """The row as text.

        Raises:
            UserError: it cannot be trained on, or the template refuses it.
        """
        if "spans" in row:
            return self._trace(row, where)
        row = _chatml(row)
        prompt, completion = _parts(row, where)
        if isinstance(completion, str):
            end = self._tokenizer.eos_token or ""
            whole = prompt + completion
            return Rendered(prompt, whole if whole.endswith(end) else whole + end, True, None)
        return self._messages(row, prompt, completion, None, where)

    def _trace(self, row: Mapping[str, Any], where: str) -> Rendered:
        try:
            trace = Trace.from_row(row)
        except ValueError as error:
            raise UserError(str(error), where=where, expected="a trace of `weft synth`") from error
        if trace.status is not Status.COMPLETE:
            return Rendered("", "", False, None, Left.INCOMPLETE)
        return self._messages(row, row["prompt"], row["completion"], trace, where)

    def _messages(
        self,
        row: Mapping[str, Any],
        prompt: Sequence[Any],
        completion: Sequence[Any],
        trace: Trace | None,
        where: str,
    ) -> Rendered:
        before, last = [_known(message) for message in prompt], [_known(message) for message in completion]
        spans = None
        try:
            render = self._template(row, before, where)
            asked, whole = render(before, generate=True), render([*before, *last])
            if trace is not None:
                spans = authors(trace, last[-1], whole, lambda marked: render([*before, marked]))
        except TEMPLATE_ERRORS as error:
            raise UserError(
                f"the chat template refuses the messages: {type(error).__name__}: {error}",
                where=where,
                remedy="mend or remove the row, or choose another model",
            ) from error
        _check_thinking(last[-1], whole, where)
        over = len(whole) - len(self._ended(whole))
        if over and spans is not None:
            spans = [*spans[:-1], Span(spans[-1].author, spans[-1].text[:-over])]
        return Rendered(asked, whole[: len(whole) - over], False, spans)

    def _ended(self, whole: str) -> str:
        """Without the white space behind the end of the turn, where that is a control token."""
        said = whole.rstrip()
        return said if said.endswith(self._controls) else whole

    def _template(self, row: Mapping[str, Any], before: Sequence[Any], where: str) -> _Render:
        """The template that the row names, if the model's own begins alike; else the model's own."""
        if self._tokenizer.chat_template is None:
            raise UserError(
                "the rows are messages, and the tokenizer has no chat template",
                where=self._where,
                remedy="put a chat_template.jinja beside it, or write the rows as texts",
            )
        tools = row.get("tools")
        given = {
            "tools": json.loads(tools) if isinstance(tools, str) else tools,
            **_known(row.get("chat_template_kwargs") or {}),
        }
        own = _Render(self._tokenizer, given)
        name = row.get("training_template") or None
        if name is None:
            return own
        named = _Render(self._tokenizer, {**given, "chat_template": _shipped(name, where)})
        if name not in self._suits:
            self._suits[name] = named(before, generate=True) == own(before, generate=True)
        if not self._suits[name]:
            raise UserError(
                f"its training template, {name}, asks otherwise than the model's own template",
                where=where,
                expected=f"the student that the row was written for; this is {self._where}",
                remedy="fine-tune that student, or write traces with this one",
            )
        return named


@dataclass(frozen=True, slots=True)
class _Render:
    tokenizer: Any
    given: Mapping[str, Any]

    def __call__(self, messages: Sequence[Any], generate: bool = False) -> str:
        found: str = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generate, **self.given
        )
        return found


def _check_thinking(message: Mapping[str, Any], whole: str, where: str) -> None:
    """Whether the template writes what the message thinks: one that does not would teach to think nothing."""
    thoughts = {f"`{field}`": message.get(field) for field in THINKING_FIELDS}
    content = message.get("content")
    if isinstance(content, str) and THOUGHT in content:
        thoughts[f"what stands before {THOUGHT}"] = content.partition(THOUGHT)[0].rpartition("<think>")[2]
    for what, thought in thoughts.items():
        if isinstance(thought, str) and thought.strip() not in whole:
            raise UserError(
                f"the chat template drops {what}, the message's thinking",
                where=where,
                expected="a template that writes it in the last message",
                remedy="fine-tune the student that the traces were written for, or name one of TRL's "
                "templates in the column `training_template`",
            )


@cache
def _shipped_text(name: str) -> str:
    return shipped_template(name)


def _shipped(name: str, where: str) -> str:
    try:
        return _shipped_text(name)
    except UserError as error:
        raise UserError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without keys that are there for a column's type only."""
    return {key: value for key, value in values.items() if value is not None}


def _chatml(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with roles and contents, where it has ``from`` and ``value``."""
    if not isinstance(row.get("conversations"), list):
        return row
    copied = [dict(turn) if isinstance(turn, Mapping) else turn for turn in row["conversations"]]
    found: Mapping[str, Any] = maybe_convert_to_chatml({**row, "conversations": copied})
    return found


def _parts(row: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """Prompt and completion: two texts, or two lists of messages.

    Raises:
        UserError: the row has none.
    """
    prompt, completion = row.get("prompt"), row.get("completion")
    if prompt is not None and completion is not None:
        if isinstance(prompt, str) and isinstance(completion, list):
            prompt = [{"role": "user", "content": prompt}]
        if isinstance(prompt, str) and isinstance(completion, str):
            return prompt, completion
        return _turns(prompt, "prompt", where), _answer(_turns(completion, "completion", where), where)
    if row.get("messages") is not None:
        turns = _turns(row["messages"], "messages", where)
        return turns[:-1], _answer(turns[-1:], where)
    if isinstance(row.get("text"), str):
        return "", row["text"]
    pairs = any(f"chosen{ids}" in row and f"rejected{ids}" in row for ids in ("", "_ids"))
    raise UserError(
        "this is a preference pair" if pairs else "no text to learn",
        where=where,
        expected=f"{FORMATS}; the row has {', '.join(f'`{name}`' for name in row) or 'no column'}",
        remedy="`weft align` trains on pairs" if pairs else "rename the columns, or name another file",
    )


def _turns(value: Any, column: str, where: str) -> list[Any]:
    turns = value if isinstance(value, list) else []
    if not turns or not all(
        isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in turns
    ):
        raise UserError(
            f"`{column}` is no list of messages",
            where=where,
            expected='messages such as {"role": "user", "content": "..."}',
            remedy="mend or remove the row",
        )
    return turns


def _answer(turns: list[Any], where: str) -> list[Any]:
    if turns[-1]["role"] != "assistant":
        raise UserError(
            f"the last message has the role {turns[-1]['role']!r}",
            where=where,
            expected="the assistant's, which is what is learned",
            remedy="remove the messages after the assistant's last one",
        )
    return turns


def tokenised(
    rows: Sequence[Rendered], tokenizer: Any, *, loss_on: LossOn, longest: int | None
) -> list[Text]:
    """Token ids and labels of rendered rows.

    Args:
        longest: tokens above which a row is left out.
    """
    wholes = _encoded(tokenizer, [row.whole for row in rows], rows, offsets=True)
    prompts = _encoded(tokenizer, [row.prompt for row in rows], rows)
    found = []
    for row, (ids, places), (before, _) in zip(rows, wholes, prompts, strict=True):
        if row.left:
            found.append(Text((), (), {}, row.left))
            continue
        start = common_prefix_length(before, ids) if row.prompt else 0
        found.append(_labelled(row, ids, places, start, loss_on, longest))
    return found


def _labelled(
    row: Rendered,
    ids: Sequence[int],
    places: Sequence[tuple[int, int]],
    start: int,
    loss_on: LossOn,
    longest: int | None,
) -> Text:
    if longest is not None and len(ids) > longest:
        return Text((), (), {}, Left.LONG)
    if row.spans is None:
        if loss_on != "all":
            return Text((), (), {}, Left.UNPLACED)
        wrote: Sequence[str] = ["unknown"] * len(ids)
    else:
        wrote = owners(row.spans, places)
    labels = [IGNORED] * start
    labels += [
        token if loss_on in ("all", author) else IGNORED
        for token, author in zip(ids[start:], wrote[start:], strict=True)
    ]
    # The first token of a row is predicted from nothing.
    if all(label == IGNORED for label in labels[1:]):
        return Text((), (), {}, Left.EMPTY)
    counted = {name: wrote[start:].count(name) for name in (*Author, "unknown")}
    return Text(ids, labels, counted, Left.NO)


def _encoded(
    tokenizer: Any, texts: Sequence[str], rows: Sequence[Rendered], *, offsets: bool = False
) -> list[tuple[Sequence[int], Sequence[tuple[int, int]]]]:
    """Ids of each text, and the characters that each token covers."""
    found: list[tuple[Sequence[int], Sequence[tuple[int, int]]]] = [((), ())] * len(texts)
    for bare in {row.bare for row in rows}:
        numbers = [number for number, row in enumerate(rows) if row.bare is bare]
        made = tokenizer(
            [texts[number] for number in numbers],
            add_special_tokens=bare,
            return_attention_mask=False,
            return_offsets_mapping=offsets,
        )
        places = made["offset_mapping"] if offsets else [()] * len(numbers)
        for number, ids, place in zip(numbers, made["input_ids"], places, strict=True):
            found[number] = (ids, place)
    return found
