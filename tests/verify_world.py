"""Traces for tests of verification, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from weft.quality.base import Answered
from weft.records import (
    Author,
    Message,
    PerAuthor,
    Prompt,
    Provenance,
    Sampling,
    Span,
    Status,
    Trace,
    Usage,
)
from weft.verify.base import Judgement, Reason, correct, unverifiable, wrong


def trace_of(
    id: str,
    response: str = "42",
    *,
    prompt: str = "What is six times seven?",
    answer: str | None = "42",
    thinking: str = "Let me see.",
    status: Status = Status.COMPLETE,
    extra: Mapping[str, Any] | None = None,
) -> Trace:
    name, _, sample = id.rpartition("#")
    return Trace(
        id=id,
        prompt=Prompt(name, (Message("user", prompt),), answer, json.dumps(extra or {})),
        sample=int(sample),
        status=status,
        reason=None if status is Status.COMPLETE else "it was so",
        spans=(Span(Author.STUDENT, thinking), Span(Author.TEACHER, response)),
        thinking_spans=1,
        completion=Message("assistant", response, thinking, "reasoning_content"),
        training_template=None,
        usage=Usage(tokens=PerAuthor(3, 4)),
        provenance=Provenance("tessy", "small", "big", Sampling(0.6), Sampling(1.0), 0, "0.1"),
    )


def write_traces(path: Path, traces: Iterable[Trace]) -> Path:
    path.write_text("".join(trace.to_line() for trace in traces), encoding="utf-8")
    return path


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def by_text(answered: Answered) -> Judgement:
    """Right is the right answer; ``?`` cannot be told; ``!`` breaks the verifier."""
    if answered.response == answered.answer:
        return correct("so it is")
    if answered.response == "?":
        return unverifiable(Reason.TIMEOUT, "too hard")
    if answered.response == "!":
        return unverifiable(Reason.VERIFIER_ERROR, "it broke")
    return wrong(Reason.DIFFERENT, f"not {answered.answer}")


class Scripted:
    """A verifier that does as a function says."""

    name = "scripted"

    def __init__(self, judge: Callable[[Answered], Judgement] = by_text) -> None:
        self.judge = judge
        self.asked: list[Answered] = []
        self.closed = 0

    async def verify(self, answered: Answered) -> Judgement:
        self.asked.append(answered)
        return self.judge(answered)

    def describe(self) -> Mapping[str, object]:
        return {"verifier": "scripted"}

    async def close(self) -> None:
        self.closed += 1
