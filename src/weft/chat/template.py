"""A model's own chat template: its prompt, where thinking opens and closes, and its training rows.

All of it is read from what the template renders for a short conversation of known words, never from a
model's name. A template that shows no thinking of its own (it drops it, or has none) is asked for the
notations in :data:`NOTATIONS`.

Invariants
    - A training row, rendered with the template that :meth:`ChatTemplate.completion` names, starts with
      ``prompt(messages)``, followed by the thinking, ``thinking.closing`` and the response.
    - Thinking and response have no white space at their ends; the template's own stands in the tags.
    - One template renders the same text all day: the date is fixed at construction.

It does not know tokens: whether a tag is one token, or a control token, is the vocabulary's business.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from weft.chat.rendering import TEMPLATE_ERRORS, JinjaRender, Render, template_source
from weft.chat.shipped import shipped_templates
from weft.errors import UserError
from weft.records import THINKING_FIELDS, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCHES = ("enable_thinking", "thinking")
"""Template arguments that turn thinking on and off, in the order in which they are tried."""

NOTATIONS = (
    ("<think>\n", "\n</think>\n\n"),
    ("<|channel>thought\n", "\n<channel|>"),
    ("<thinking>\n", "\n</thinking>\n\n"),
    ("<reasoning>\n", "\n</reasoning>\n\n"),
    ("<seed:think>\n", "\n</seed:think>\n\n"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
)
"""Openings and closings in use, for templates that recognise thinking without ever writing it."""

TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z][A-Z_]*\]")
"""One tag or control token, as chat templates write them."""

SYSTEM, ASKED, ANSWERED = "weft0system", "weft1asked", "weft2answered"
THOUGHT, RESPONSE = "weft3thought", "weft4response"


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a template writes thinking."""

    opening: str
    """What follows the generation prompt before thinking; empty if that prompt itself opens it."""
    closing: str
    """What stands between thinking and the final response."""
    marker: str
    """The tag whose generation closes thinking: the first tag of ``closing``."""
    field: str | None
    """Message key under which the template keeps thinking of the last message; ``None`` if it drops it."""


class ChatTemplate:
    """One model's prompts and training rows."""

    arguments: Mapping[str, object]
    """Template arguments of every prompt; a training row needs the same (TRL: ``chat_template_kwargs``)."""
    thinking: Thinking | None
    """``None``: the template knows no thinking, or the arguments turn it off."""
    end: str
    """What ends the assistant's turn: its first tag if there are several. May be empty."""

    def __init__(
        self,
        render: Render,
        *,
        arguments: Mapping[str, object] | None = None,
        date: datetime.date | None = None,
        tags: tuple[str, str] | None = None,
        where: str = "",
        alternatives: Callable[[], Iterable[tuple[str, Render]]] = tuple,
    ) -> None:
        """Read the template.

        Args:
            arguments: passed to every rendering; ``enable_thinking=False`` means no thinking, to a template
                that reads it.
            date: what the template prints as today; ``None`` is the day of construction.
            tags: opening and closing tag of thinking, instead of the template's own.
            where: the model or file, for messages to people.
            alternatives: other templates, by name, for rows whose thinking this one drops.

        Raises:
            UserError: the template renders no plain text message, or not with these arguments.
        """
        self._own, self._where, self._alternatives = render, where, alternatives
        self._today = date or datetime.datetime.now().astimezone().date()
        self.arguments = dict(arguments or {})
        self.thinking, self._custom, self._folds = None, False, False
        self._check()
        self._folds = self._refuses_system()
        if date is not None and self._reads("date_string", "1 Jan 2000", "2 Feb 2001"):
            self.arguments = {"date_string": date.strftime("%d %b %Y"), **self.arguments}
        self._off: dict[str, object] = {}
        self.thinking = self._find_thinking()
        self._direct = self._before_response()
        if tags is not None and tags != self._own_tags():
            self._use_tags(tags)
        tail = self._row(THOUGHT).partition(RESPONSE)[2]
        self._tail = tail.strip()
        self.end = next(iter(TAG.findall(tail)), self._tail)

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str | None = None,
        arguments: Mapping[str, object] | None = None,
        date: datetime.date | None = None,
        tags: tuple[str, str] | None = None,
        where: str = "",
    ) -> Self:
        """The chat template of a tokenizer; ``template`` is Jinja text or the name of one of its variants.

        Raises:
            UserError: there is no template, or it cannot be used.
        """
        where = where or str(getattr(tokenizer, "name_or_path", ""))
        source = template_source(tokenizer.chat_template, template, where)
        variables = dict(tokenizer.special_tokens_map)
        return cls(
            JinjaRender(source, variables, where=where),
            arguments=arguments,
            date=date,
            tags=tags,
            where=where,
            alternatives=lambda: shipped_templates(variables),
        )

    def messages(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as this template takes them: without a system role, it goes before the first user's
        text. Rows for training carry this form."""
        if not (self._folds and messages and messages[0].role == "system"):
            return tuple(messages)
        system, *rest = messages
        for i, message in enumerate(rest):
            if message.role == "user":
                rest[i] = replace(message, content=f"{system.content}\n\n{message.content}")
                return tuple(rest)
        return tuple(messages)

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text that thinking follows directly; the response, if the template knows no thinking.

        Raises:
            UserError: the template refuses these messages.
        """
        return self._generation(messages) + (self.thinking.opening if self.thinking else self._direct)

    def unthinking_prompt(self, messages: Sequence[Message]) -> str:
        """The text that the final response follows directly, without thinking.

        Raises:
            UserError: the template refuses these messages.
        """
        suffix = self._direct
        if self.thinking and (self._custom or not (suffix or self._off)):
            suffix = self.thinking.opening + self.thinking.closing
        return self._generation(messages, **self._off) + suffix

    def tag_strings(self) -> frozenset[str]:
        """Tags that belong to the template: text that holds one of them is no thinking and no response."""
        tags = set(TAG.findall(self._tail)) | ({self.end} if self.end else set())
        if self.thinking:
            opening, closing = self._opening(), self.thinking.closing
            tags |= {*TAG.findall(opening), *TAG.findall(closing), self.thinking.marker}
            tags |= set() if TAG.search(opening) else {opening.strip()}
        return frozenset(tags - {""})

    def completion(self, thinking: str, response: str) -> tuple[Message, str | None]:
        """The assistant's message of a training row, and the template that keeps it.

        The name is that of a file which TRL ships (see :func:`shipped_template`); ``None``: the model's own.
        Empty thinking gives a row as the template writes a response without any.

        Raises:
            UserError: no template is known that keeps the thinking.
            ValueError: there is thinking, but the template knows none.
        """
        if self.thinking is None:
            if thinking:
                raise ValueError("thinking for a template that knows none")
            return Message("assistant", response), None
        name, field = self._row_form
        if not thinking and field is not None:
            return Message("assistant", response), None
        return self._message(thinking, response, field), name

    # How the template is read

    def _render(self, messages: Sequence[Message], generate: bool, **over: object) -> str:
        """The template's text, whatever it raises; earlier thinking stands under the template's own key."""
        field = self.thinking.field if self.thinking else None
        named = [replace(message, thinking_field=field or message.thinking_field) for message in messages]
        return self._render_with(self._own, [message.to_dict() for message in named], generate, **over)

    def _render_with(
        self, render: Render, messages: Sequence[Mapping[str, str]], generate: bool, **over: object
    ) -> str:
        arguments = {"strftime_now": self._today.strftime, **self.arguments, **over}
        return render(messages, add_generation_prompt=generate, **arguments)

    def _generation(self, messages: Sequence[Message], **over: object) -> str:
        """The conversation up to the assistant's turn."""
        if not messages:
            raise UserError("no messages to render", where=self._where, expected="at least a user message")
        try:
            return self._render(self.messages(messages), generate=True, **over)
        except TEMPLATE_ERRORS as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> UserError:
        return UserError(
            f"the chat template refuses the conversation: {type(error).__name__}: {error}",
            where=self._where,
            expected="roles and arguments that this model's template takes",
            remedy="change the messages or the template arguments, or pass another template",
        )

    def _row(self, thought: str | None, **over: object) -> str:
        """The probe conversation with its response, and with ``thought`` if the template keeps a field."""
        field = self.thinking.field if self.thinking else None
        message = Message("assistant", RESPONSE, thought if field else None, field)
        try:
            return self._render([Message("user", ASKED), message], generate=False, **over)
        except TEMPLATE_ERRORS as error:
            raise self._refusal(error) from error

    def _check(self) -> None:
        """A plain conversation comes out as text."""
        if ASKED not in self._generation([Message("user", ASKED)]) or RESPONSE not in self._row(None):
            raise UserError(
                "the chat template drops messages whose content is text",
                where=self._where,
                expected="a template for text (this one may take images and lists of parts only)",
                remedy="choose a text model, or pass another template",
            )

    def _refuses_system(self) -> bool:
        conversation = [Message("system", SYSTEM), Message("user", ASKED)]
        try:
            return SYSTEM not in self._render(conversation, generate=True)
        except TEMPLATE_ERRORS:
            return True

    def _find_thinking(self) -> Thinking | None:
        """What the template shows of thinking; sets the arguments that turn it on and off."""
        given = self.arguments
        switches = [name for name in SWITCHES if self._reads(name, True, False)]
        if any(name in given and not given[name] for name in switches):
            return None
        for name in switches[:1]:
            self.arguments, self._off = {**given, name: True}, {name: False}
        found = self._shown() or self._dropped()
        if found is None:
            self.arguments, self._off = given, {}
            return None
        self.thinking = found
        kept = found.field is not None and self._keeps(self._own, found.field)
        return found if kept else replace(found, field=None)

    def _reads(self, name: str, one: object, other: object) -> bool:
        """Whether the prompt depends on the argument ``name``."""
        asked = [Message("user", ASKED)]
        try:
            return self._render(asked, True, **{name: one}) != self._render(asked, True, **{name: other})
        except TEMPLATE_ERRORS:
            return False

    def _shown(self) -> Thinking | None:
        """Thinking that the template writes from a field of the message."""
        asked = {"role": "user", "content": ASKED}
        answer = {"role": "assistant", "content": RESPONSE}
        thoughts = {field: f"{THOUGHT}{i}" for i, field in enumerate(THINKING_FIELDS)}
        prompt = self._generation([Message("user", ASKED)])
        for fields in (thoughts, *({field: thought} for field, thought in thoughts.items())):
            try:
                row = self._render_with(self._own, [asked, {**answer, **fields}], generate=False)
            except TEMPLATE_ERRORS:
                continue
            for field, thought in fields.items():
                head, found, tail = row.partition(thought)
                closing, answered, _ = tail.partition(RESPONSE)
                if found and answered and head.startswith(prompt):
                    return _thinking(head.removeprefix(prompt), closing, field)
                if found and answered and prompt.startswith(head) and prompt[len(head) :].isspace():
                    return _thinking("", closing, field)
        return None

    def _dropped(self) -> Thinking | None:
        """Thinking that the template knows but never writes."""
        asked = [Message("user", ASKED)]
        prompt = self._generation(asked)
        unthinking = self._generation(asked, **self._off)
        empty = unthinking.removeprefix(prompt) if unthinking.startswith(prompt) else ""
        for opening, closing in NOTATIONS:
            start, stop = opening.strip(), closing.strip()
            if match := re.fullmatch(rf"\s*{re.escape(start)}(\s*){re.escape(stop)}\s*", empty):
                at = (match.start(1) + match.end(1) + 1) // 2
                return _thinking(empty[:at], empty[at:], None)
            if prompt.rstrip().endswith(start):
                return _thinking("", closing if prompt[-1].isspace() else stop, None)
            inline = Message("assistant", f"{opening}{THOUGHT}{closing}{RESPONSE}")
            try:
                row = self._render([*asked, inline], generate=False)
            except TEMPLATE_ERRORS:
                continue
            if THOUGHT not in row and RESPONSE in row:
                return _thinking(opening, closing, None)
        return None

    def _before_response(self) -> str:
        """What the template writes between the generation prompt and a response without thinking."""
        prompt = self._generation([Message("user", ASKED)], **self._off)
        head = self._row(None, **self._off).partition(RESPONSE)[0]
        direct = head.removeprefix(prompt) if head.startswith(prompt) else ""
        return direct if self.thinking or direct.strip() else ""

    def _own_tags(self) -> tuple[str, str] | None:
        return (self._opening().strip(), self.thinking.marker) if self.thinking else None

    def _opening(self) -> str:
        """The opening of thinking, from the generation prompt's end if that holds it."""
        assert self.thinking is not None
        if self.thinking.opening:
            return self.thinking.opening
        prompt = self._generation([Message("user", ASKED)])
        return prompt[max((tag.start() for tag in TAG.finditer(prompt)), default=len(prompt)) :]

    def _use_tags(self, tags: tuple[str, str]) -> None:
        """Write thinking between ``tags`` in the response's place, the template's own thinking off."""
        opening, closing = tags
        if not opening.strip() or not closing.strip() or opening.strip() == closing.strip():
            raise UserError(
                f"thinking tags {opening!r} and {closing!r}",
                where=self._where,
                expected="two different tags",
                remedy="for example <think> and </think>",
            )
        if self.thinking and not (self._off or self._direct):
            self._direct = self.thinking.opening + self.thinking.closing
        self.arguments, self._off = {**self.arguments, **self._off}, {}
        opening = opening if opening != opening.strip() else f"{opening}\n"
        closing = closing if closing != closing.strip() else f"\n{closing}\n\n"
        self.thinking = Thinking(self._direct + opening, closing, closing.strip(), None)
        self._custom = True

    # How rows keep thinking

    @cached_property
    def _row_form(self) -> tuple[str | None, str | None]:
        """Template (``None``: the model's own) and field (``None``: inline) of training rows."""
        assert self.thinking is not None
        fields = dict.fromkeys((self.thinking.field, *THINKING_FIELDS, None))
        for field in fields:
            if self._keeps(self._own, field):
                return None, field
        for name, render in self._alternatives():
            for field in fields:
                if self._keeps(render, field):
                    return name, field
        raise UserError(
            "the chat template drops thinking from training rows, and no template that TRL ships keeps it",
            where=self._where,
            expected="a template that writes the last message's thinking after its generation prompt",
            remedy="pass a template that keeps it (install weft[train] if TRL is missing)",
        )

    def _message(self, thinking: str, response: str, field: str | None) -> Message:
        assert self.thinking is not None
        if field is not None:
            return Message("assistant", response, thinking, field)
        opening = self._opening().removeprefix(self._direct if self._custom else "")
        return Message("assistant", f"{opening}{thinking}{self.thinking.closing}{response}")

    def _keeps(self, render: Render, field: str | None) -> bool:
        """Whether rows in this form start with the prompt and hold thinking, closing and response."""
        assert self.thinking is not None
        asked, system = Message("user", ASKED), Message("system", SYSTEM)
        thought, response = f"{THOUGHT}\n\n{{{{ 1 }}}} a", f"{RESPONSE}\n\n{{% b %}}"
        written = f"{thought}{self.thinking.closing}{response}"
        for probe in ([asked], [system, asked], [asked, Message("assistant", ANSWERED), asked]):
            messages = self.messages(probe)
            plain = [message.to_dict() for message in messages]
            row = [*plain, self._message(thought, response, field).to_dict()]
            try:
                same = self._render_with(render, plain, generate=True) == self._generation(messages)
                kept = self._render_with(render, row, generate=False)
            except TEMPLATE_ERRORS:
                return False
            if not (same and kept.startswith(self.prompt(messages) + written)):
                return False
        return True


def _thinking(opening: str, closing: str, field: str | None) -> Thinking:
    return Thinking(opening, closing, next(iter(TAG.findall(closing)), closing.strip()), field)
