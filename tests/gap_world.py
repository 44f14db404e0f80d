"""Samples and traces for the tests of the style gap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weft.gap.distance.readings import READINGS, Reading
from weft.gap.distance.samples import Sample, prompt_key
from weft.records import Author, Message, Prompt, Provenance, Sampling, Span, Status, Trace, Usage

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER


def question(number: int) -> tuple[Message, ...]:
    return (Message("user", f"What is {number} * 7?"),)


def trace_of(
    number: int,
    thinking: Sequence[Span] = (Span(STUDENT, "okay , so"), Span(TEACHER, " it is 42 .")),
    response: str = "the answer is 42 .",
    *,
    strategy: str = "tessy",
    status: Status = Status.COMPLETE,
    messages: tuple[Message, ...] | None = None,
    student: str = "micro:student",
    sample: int = 0,
    seed: int = 0,
    by: Author = STUDENT,
) -> Trace:
    """``by`` writes the response."""
    return Trace(
        id=f"p{number}#{sample}",
        prompt=Prompt(f"p{number}", messages or question(number)),
        sample=sample,
        status=status,
        reason=None if status is Status.COMPLETE else "so it was",
        spans=(*thinking, *([Span(by, response)] if response else [])),
        thinking_spans=len(thinking),
        completion=Message(
            "assistant", response, "".join(span.text for span in thinking), "reasoning_content"
        ),
        training_template=None,
        usage=Usage(),
        provenance=Provenance(strategy, student, "micro:teacher", Sampling(), None, seed, "0"),
    )


def write_traces(path: Path, traces: Iterable[Trace]) -> str:
    path.write_text("".join(trace.to_line() for trace in traces), encoding="utf-8")
    return str(path)


def write_rows(path: Path, rows: Iterable[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sample_of(
    thinking: str = "",
    response: str = "",
    *,
    id: str = "a",
    spans: Sequence[Span] | None = None,
    messages: tuple[Message, ...] | None = None,
) -> Sample:
    asked = question(6) if messages is None else messages
    return Sample(
        id=id,
        source="data",
        prompt=prompt_key(asked),
        messages=asked,
        thinking=thinking,
        response=response,
        spans=None if spans is None else tuple(spans),
        strategy="",
        writer="",
        seed=None,
        where="data.jsonl:1",
    )


def read_back(path: Path) -> list[Reading]:
    """The complete readings of a file, by id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted((READINGS.from_row(row) for row in rows), key=lambda reading: reading.id)
