"""What flows between the stages: frozen records and their JSON rows.

Invariants
    - Spans joined are the thinking followed by the final response, always; tags belong to no span.
    - Author and text live on the span; nothing else says who wrote what.
    - An outcome is a :class:`Status` that says why, never a bool or an empty string.
    - ``None`` means *not measured* or *not given*; it is not zero and not the empty string.

This module imports nothing of Weft's. It does not know engines, templates or files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

SCHEMA_VERSION = 1
"""Version of the trace rows; it rises when a column changes its meaning or goes."""

THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names under which chat messages carry thinking: Qwen and SGLang, vLLM, GPT-OSS."""


class Author(StrEnum):
    """Who wrote a span."""

    STUDENT = "student"
    TEACHER = "teacher"

    @property
    def other(self) -> Author:
        return Author.TEACHER if self is Author.STUDENT else Author.STUDENT


class Status(StrEnum):
    """How a trace ended."""

    COMPLETE = "complete"
    """Thinking was closed and the response ended by itself."""
    LENGTH = "length"
    """A limit was reached: of thinking, of the response, or of a model's context."""
    REPETITION = "repetition"
    """The text had fallen into a loop."""
    EOS_IN_THINKING = "eos_in_thinking"
    """The response was ended before thinking was closed."""
    EMPTY = "empty"
    """The final response holds no text."""
    FOREIGN_TAG = "foreign_tag"
    """A tag or control token stood where text belongs."""
    INVALID_TEXT = "invalid_text"
    """Tokens that are no valid UTF-8."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The prompt leaves no room in a model's context."""
    BAD_PROMPT = "bad_prompt"
    """A model's chat template refuses the messages."""
    ENGINE_ERROR = "engine_error"
    """An engine failed; the only status that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. ``thinking_field`` names the key under which ``thinking`` is written."""

    role: str
    content: str
    thinking: str | None = None
    thinking_field: str | None = None

    def to_dict(self) -> dict[str, str]:
        message = {"role": self.role, "content": self.content}
        if self.thinking is not None and self.thinking_field is not None:
            message[self.thinking_field] = self.thinking
        return message

    @classmethod
    def from_dict(cls, message: Mapping[str, Any]) -> Self:
        for field in THINKING_FIELDS:
            if message.get(field) is not None:
                return cls(message["role"], message["content"], message[field], field)
        return cls(message["role"], message["content"])


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. ``extra`` holds all other columns of its row as one JSON object in a string."""

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    extra: str = "{}"
    where: str = ""
    """File and line (or row) it came from, for messages to people; never part of a record on disk."""


@dataclass(frozen=True, slots=True)
class Span:
    """Text by one author."""

    author: Author
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Text that a writer proposed and that a hand-over threw away."""

    at: int
    """Characters of :attr:`Trace.text` that stood before it."""
    author: Author
    """Who proposed it; the other one wrote what stands there instead."""
    text: str
    """As far as it had been generated when it was thrown away; never white space alone."""


@dataclass(frozen=True, slots=True)
class PerAuthor:
    """One count for each author."""

    student: int = 0
    teacher: int = 0

    def of(self, author: Author) -> int:
        return self.student if author is Author.STUDENT else self.teacher

    def plus(self, author: Author, count: int) -> PerAuthor:
        """This count with ``count`` more for ``author``."""
        if author is Author.STUDENT:
            return PerAuthor(self.student + count, self.teacher)
        return PerAuthor(self.student, self.teacher + count)

    @property
    def total(self) -> int:
        return self.student + self.teacher


@dataclass(frozen=True, slots=True)
class Usage:
    """What a trace cost. All counts but ``tokens`` are in each model's own tokens."""

    tokens: PerAuthor = PerAuthor()
    """Kept tokens by who wrote them, all counted in the *student's* tokens: for shares and limits."""
    generated: PerAuthor = PerAuthor()
    """Tokens that each model generated, discarded ones included: for the bill."""
    discarded: PerAuthor = PerAuthor()
    """Generated tokens that are not in the trace."""
    prompt_tokens: PerAuthor = PerAuthor()
    """Length of the prompt in each model's own template."""
    requests: PerAuthor = PerAuthor()
    """Requests sent to each engine."""
    turns: int = 0
    """Turns taken: hand-overs plus one."""
    forced: int = 0
    """Turns whose first token the boundary would have given to the other; it is kept unasked."""
    refused: int = 0
    """Hand-overs taken back because the next writer would have continued the last word."""
    seconds: float = 0.0
    """Wall-clock seconds from the first request to the last."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``None`` takes the model's own ``generation_config``."""

    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    top_k: int | None = None
    """0 is off."""
    min_p: float | None = None

    def over(self, defaults: Sampling) -> Sampling:
        """These values where given, else ``defaults``."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(defaults, **given)


GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)
"""The likeliest token each time."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a trace; the manifest beside the file says the rest."""

    strategy: str
    student: str
    """The student engine as it was named."""
    teacher: str | None
    """The teacher engine as it was named; ``None`` where the strategy needs no teacher."""
    student_sampling: Sampling
    teacher_sampling: Sampling | None
    seed: int
    weft: str
    """Weft's version."""


_TEXTS = ("id", "prompt_id", "answer", "extra", "sampling", "reason", "training_template", "strategy")
"""Columns of a trace's row that others take for text without asking."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One response to one prompt, with who wrote what."""

    id: str
    """``<prompt id>#<sample>``."""
    prompt: Prompt
    sample: int
    status: Status
    reason: str | None
    """Why it is not complete, in words; ``None`` for complete traces."""
    spans: tuple[Span, ...]
    thinking_spans: int
    """How many of the leading spans are thinking; the rest is the final response."""
    completion: Message
    """The assistant's message in the form that the student's training template keeps."""
    training_template: str | None
    """The chat template to train with, where the student's own drops thinking; else ``None``."""
    usage: Usage
    provenance: Provenance
    template_arguments: str = "{}"
    """Arguments of the student's chat template, as one JSON object; TRL's ``chat_template_kwargs``."""
    proposals: tuple[Proposal, ...] | None = None
    """What hand-overs threw away, in the text's order; ``None``: nobody asked for it."""

    @property
    def thinking(self) -> str:
        return "".join(span.text for span in self.spans[: self.thinking_spans])

    @property
    def response(self) -> str:
        return "".join(span.text for span in self.spans[self.thinking_spans :])

    @property
    def text(self) -> str:
        """Thinking followed by the response, without tags."""
        return "".join(span.text for span in self.spans)

    def to_row(self) -> dict[str, Any]:
        """The JSON row of this trace: TRL's conversational ``prompt`` and ``completion`` first.

        Every row has the same columns of the same types, so that ``datasets`` reads files of any size, and
        several of one student together, whatever stands in their first rows. So no column is null:

        - ``answer`` is ``""`` where none was given; ``has_answer`` tells that from an empty answer.
        - ``reason``, ``training_template`` and ``engines.teacher`` are ``""`` where there is none.
        - ``sampling`` and ``extra`` are JSON in a string.
        - Where ``completion`` has a key for thinking, all messages of ``prompt`` but the assistant's have it,
          too, and it is ``""``: an earlier assistant message may bring it; templates do not read it there.

        ``chat_template_kwargs`` is there if the student's template was given arguments: then in all rows. So
        is ``proposals`` if they were asked for.
        """
        made = self.provenance
        sampling = {"student": made.student_sampling, "teacher": made.teacher_sampling}
        row = {
            "schema": SCHEMA_VERSION,
            "id": self.id,
            "prompt": [self._prompt_row(message) for message in self.prompt.messages],
            "completion": [self.completion.to_dict()],
            "answer": self.prompt.answer or "",
            "has_answer": self.prompt.answer is not None,
            "status": self.status.value,
            "reason": self.reason or "",
            "spans": [{"author": span.author.value, "text": span.text} for span in self.spans],
            "thinking_spans": self.thinking_spans,
            "training_template": self.training_template or "",
            "usage": asdict(self.usage),
            "strategy": made.strategy,
            "engines": {"student": made.student, "teacher": made.teacher or ""},
            "sampling": json.dumps({author: asdict(given) for author, given in sampling.items() if given}),
            "seed": made.seed,
            "weft": made.weft,
            "prompt_id": self.prompt.id,
            "sample": self.sample,
            "extra": self.prompt.extra,
        }
        if self.template_arguments != "{}":
            row["chat_template_kwargs"] = json.loads(self.template_arguments)
        if self.proposals is not None:
            row["proposals"] = [
                {"at": each.at, "author": each.author.value, "text": each.text} for each in self.proposals
            ]
        return row

    def _prompt_row(self, message: Message) -> dict[str, str]:
        row = message.to_dict()
        if self.completion.thinking_field is not None and message.role != "assistant":
            row.setdefault(self.completion.thinking_field, "")
        return row

    def to_line(self) -> str:
        """The row as one line of JSON, line feed included."""
        return json.dumps(self.to_row(), ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` wrote.

        Raises:
            ValueError: the row is of another schema version, or a column is missing or of a wrong type.
        """
        if missing := [name for name in ("prompt", "completion", "spans", "usage") if name not in row]:
            raise ValueError(f"not a trace: it has no column {missing[0]!r}")
        if row.get("schema") != SCHEMA_VERSION:
            raise ValueError(f"schema version {row.get('schema')!r}, this Weft reads {SCHEMA_VERSION}")
        try:
            if odd := [name for name in _TEXTS if not isinstance(row[name], str)]:
                raise TypeError(f"the column {odd[0]!r} holds no text")
            return cls._from_row(row)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a trace row: {type(error).__name__}: {error}") from error

    @classmethod
    def _from_row(cls, row: Mapping[str, Any]) -> Self:
        usage = dict(row["usage"])
        for field in fields(Usage):
            if isinstance(usage.get(field.name), Mapping):
                usage[field.name] = PerAuthor(**usage[field.name])
        engines = row["engines"]
        sampling = {author: Sampling(**given) for author, given in json.loads(row["sampling"]).items()}
        return cls(
            id=row["id"],
            prompt=Prompt(
                id=row["prompt_id"],
                messages=tuple(_prompt_message(message) for message in row["prompt"]),
                answer=row["answer"] if row["has_answer"] else None,
                extra=row["extra"],
            ),
            sample=row["sample"],
            status=Status(row["status"]),
            reason=row["reason"] or None,
            spans=tuple(Span(Author(span["author"]), span["text"]) for span in row["spans"]),
            thinking_spans=row["thinking_spans"],
            completion=Message.from_dict(row["completion"][0]),
            training_template=row["training_template"] or None,
            usage=Usage(**usage),
            provenance=Provenance(
                strategy=row["strategy"],
                student=engines["student"],
                teacher=engines["teacher"] or None,
                student_sampling=sampling["student"],
                teacher_sampling=sampling.get("teacher"),
                seed=row["seed"],
                weft=row["weft"],
            ),
            template_arguments=json.dumps(row.get("chat_template_kwargs") or {}, sort_keys=True),
            proposals=_proposals(row.get("proposals")),
        )


def _proposals(rows: Any) -> tuple[Proposal, ...] | None:
    """``None`` where the file has no such column."""
    if rows is None:
        return None
    return tuple(Proposal(int(row["at"]), Author(row["author"]), row["text"]) for row in rows)


def _prompt_message(row: Mapping[str, Any]) -> Message:
    """A message of a prompt; empty thinking of others than the assistant is there for the column's type."""
    message = Message.from_dict(row)
    if message.role != "assistant" and message.thinking == "":
        return Message(message.role, message.content)
    return message
