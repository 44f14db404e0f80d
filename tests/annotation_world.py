"""Traces and a scripted annotator for the tests of annotation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from weft.boundary.annotation.annotate import Silence
from weft.boundary.annotation.settings import AnnotationSettings
from weft.boundary.spans import Annotation
from weft.engines.scripted import Fault, ScriptedEngine, View
from weft.records import Author, Message, Prompt, Provenance, Sampling, Span, Status, Trace, Usage
from worlds import parrot

SENTENCES = (
    "Okay, so the sum is 12 and the other one is 3.14 of it.",
    "Wait, I don't think that this can be right at all.",
    "The triangle has the sides 3, 4 and 5, and so its area is 6.",
    "Hmm, let me check that again.",
    "Then x = 7, because 7 * 3 = 21.",
)
STYLE = re.compile(r"Okay, so|Wait, I don't think|Hmm, let me check that again\.|Then")


def thinking(sentences: int, shift: int = 0) -> str:
    return " ".join(SENTENCES[(shift + i) % len(SENTENCES)] for i in range(sentences))


def trace_of(number: int, text: str | None = None, *, status: Status = Status.COMPLETE) -> Trace:
    text = thinking(30 + number, number) if text is None else text
    spans = [Span(Author.STUDENT, text)] if text else []
    return Trace(
        id=f"p{number}#0",
        prompt=Prompt(f"p{number}", (Message("user", "What is it?"),)),
        sample=0,
        status=status,
        reason=None if status is Status.COMPLETE else "so it was",
        spans=(*spans, Span(Author.STUDENT, "7")),
        thinking_spans=len(spans),
        completion=Message("assistant", "7", text, "reasoning_content"),
        training_template=None,
        usage=Usage(),
        provenance=Provenance("student-only", "s", None, Sampling(), None, 0, "0"),
    )


def write_traces(path: Path, traces: Iterable[Trace]) -> Path:
    path.write_text("".join(trace.to_line() for trace in traces), encoding="utf-8")
    return path


def text_of(prompt: str) -> str:
    """The window in a rendered prompt."""
    return prompt.partition("The text:\n")[2].partition("\nAnswer:")[0]


def mark(text: str) -> str:
    """The answer of an annotator that makes no mistakes."""
    return json.dumps(STYLE.findall(text), ensure_ascii=False)


def again(prompt: str) -> bool:
    """Whether the annotator is asked for the second time."""
    return "cannot be used" in prompt


class Annotator:
    """Opens one scripted engine for every run; it counts what it was asked."""

    def __init__(
        self, answer: Callable[[str], str], *, thinks: bool = True, faults: Iterable[Fault] = ()
    ) -> None:
        """``answer`` gives the response to a rendered prompt."""
        self.prompts: list[str] = []
        self.thinks, self.faults, self.answer = thinks, tuple(faults), answer
        self.sampling = Sampling(0.0, 1.0, 0, 0.0)
        self.context: int | None = None

    def _script(self, view: View) -> str:
        if view.prompt not in self.prompts:
            self.prompts.append(view.prompt)
        response = self.answer(view.prompt)
        if self.thinks:
            return parrot("Style or not?", response)(view)
        return parrot(response, thinks=False)(view.__class__(view.prompt, view.response or "", None))

    async def open(self, *_: object, **__: object) -> ScriptedEngine:
        engine = ScriptedEngine(self._script, thinks=self.thinks, context=self.context, faults=self.faults)
        engine.sampling = self.sampling
        return engine


class Watching(Silence):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total, self.skips = 0, 0
        self.notes: list[str] = []
        self.seen: list[Annotation] = []

    def began(self, total: int) -> None:
        self.total = total

    def skipped(self) -> None:
        self.skips += 1

    def annotated(self, annotation: Annotation) -> None:
        self.seen.append(annotation)

    def noted(self, text: str) -> None:
        self.notes.append(text)


def settings(**given: object) -> AnnotationSettings:
    return AnnotationSettings.model_validate({"annotator": "scripted:none", **given})
