"""One call for the whole job: settings and traces in, texts with their style spans on disk.

Each window of a trace's thinking is put before the annotator; an answer that cannot be used is shown to it
once more with what was wrong, then recorded as rejected with the reason. Answers are written as traces are
(:class:`weft.synthesis.cooperate.Cooperation`), by one engine in the student's place, so that limits, loops,
servers and annotators that think are taken care of there.

Invariants
    - Every window ends in exactly one row: complete, rejected with a reason, or to be tried again.
    - A row is a function of window, settings and seed; neither concurrency nor interruptions change it.

It does not know how spans are found in a text (:mod:`weft.boundary.annotation.parsing` does).
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import weft
from weft.boundary.annotation.parsing import read_answer
from weft.boundary.annotation.prompt import first_question, second_question
from weft.boundary.annotation.settings import AnnotationSettings
from weft.boundary.annotation.windows import Window, draw_windows
from weft.boundary.spans import SPANS, Annotation, AnnotationStatus
from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.errors import UserError
from weft.records import Author, Message, Sampling, Status, Trace
from weft.store import Manifest, RowStore, check_output, check_source, first_day, read_traces
from weft.synthesis.cooperate import Cooperation, Draft, Plan
from weft.synthesis.facts import engine_facts, engine_notes
from weft.synthesis.pool import ErrorShare, side_by_side

ANNOTATOR = Author.STUDENT
"""The annotator's place among the two models of a cooperation; there is no other."""
ALONE = Plan(ANNOTATOR, ANNOTATOR)
HOPELESS = (Status.PROMPT_TOO_LONG, Status.BAD_PROMPT)
"""What a longer conversation can only make worse."""


class Observer(Protocol):
    """Told what happens while it happens; see the progress display."""

    def began(self, total: int) -> None:
        """So many annotations there will be, those of earlier runs included."""

    def skipped(self) -> None:
        """An annotation was finished by an earlier run."""

    def generated(self, author: Author, tokens: int) -> None:
        """The annotator generated tokens."""

    def annotated(self, annotation: Annotation) -> None:
        """An annotation is on disk."""

    def noted(self, text: str) -> None:
        """Something a person should know: what was repaired on disk, say."""


class Silence:
    """An observer that looks away."""

    def began(self, total: int) -> None: ...

    def skipped(self) -> None: ...

    def generated(self, author: Author, tokens: int) -> None: ...

    def annotated(self, annotation: Annotation) -> None: ...

    def noted(self, text: str) -> None: ...


def annotate(
    settings: AnnotationSettings,
    traces: Path,
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> bool:
    """Write the annotations of ``traces`` that ``output`` does not hold yet.

    Returns:
        Whether nothing is left to be tried again: no annotation failed by an engine's error, and not every
        one was rejected.

    Raises:
        UserError: settings, annotator or traces do not fit, or ``output`` was made with others.
        RunError: the disk or the engine fails for good; what was finished is on disk.
    """
    return asyncio.run(_annotate(settings, traces, output, overwrite, observer or Silence()))


async def _annotate(
    settings: AnnotationSettings, traces: Path, output: Path, overwrite: bool, observer: Observer
) -> bool:
    check_output(output, SPANS.name)
    check_source(output, traces, "traces")
    counted = count_windows(settings, traces)
    if not counted.windows:
        raise UserError(
            f"nothing to annotate; {counted}",
            where=str(traces),
            remedy="name a file of complete traces whose student thinks, as `weft synth` writes them",
        )
    if counted.left_out:
        observer.noted(str(counted))
    date = first_day(output, overwrite=overwrite)
    async with AsyncExitStack() as stack:
        engine = await open_engine(
            settings.annotator, date=date, servers=settings.servers, tell=observer.noted
        )
        stack.push_async_callback(engine.close)
        sampling = _drawing(settings, engine)
        models = Cooperation(
            {ANNOTATOR: engine},
            boundaries={},
            sampling={ANNOTATOR: sampling},
            limits=settings.limits.record(),
            step=None,
            seed=settings.seed,
            watch=observer.generated,
        )
        deciding = {
            **settings.deciding(),
            "sampling": asdict(sampling),
            "annotator": engine_facts(engine),
            "vocabulary": engine.vocabulary.fingerprint[:16],
        }
        info = {
            "traces": {"name": str(traces), **asdict(counted)},
            "annotator": {"name": engine.name, **engine.describe()},
            "prompt": settings.template,
            "per_trace": settings.per_trace,
            "passes": settings.passes,
            "concurrency": settings.concurrency,
            "command": sys.argv[1:],
            "python": platform.python_version(),
            "platform": platform.platform(),
        }
        manifest = Manifest.create(weft.__version__, deciding, info, date=date.isoformat())
        store = stack.enter_context(RowStore(SPANS, output, manifest, overwrite=overwrite))
        for note in (*store.repaired, *engine_notes([("annotator", engine)])):
            observer.noted(note)
        observer.began(counted.windows * settings.passes)
        await _Run(models, settings, store, observer).run(traces)
        return store.complete > 0 and not store.counts[AnnotationStatus.ENGINE_ERROR]


def _drawing(settings: AnnotationSettings, engine: Engine) -> Sampling:
    """How the engine draws.

    Raises:
        UserError: it cannot, or several passes would be equal.
    """
    sampling = settings.drawing(engine.sampling)
    if settings.passes > 1 and sampling.temperature == 0:
        raise UserError(
            f"{settings.passes} greedy passes would be equal, and this model's own temperature is 0",
            where=f"engine {engine.name}",
            remedy="give a --temperature above 0, or ask for one pass",
        )
    engine.check(sampling)
    return sampling


@dataclass(frozen=True, slots=True)
class Counted:
    """What a file of traces holds for an annotator."""

    traces: int
    incomplete: int
    """Traces that were rejected."""
    without_thinking: int
    """Complete traces that think nothing."""
    windows: int

    @property
    def left_out(self) -> int:
        """Traces that give no windows."""
        return self.incomplete + self.without_thinking

    def __str__(self) -> str:
        reasons = {"without thinking": self.without_thinking, "not complete": self.incomplete}
        said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        return f"{self.left_out:,} of {self.traces:,} traces give no windows" + (f": {said}" if said else "")


def count_windows(settings: AnnotationSettings, traces: Path) -> Counted:
    """Read the file once, so that whatever is wrong with it is found before a model is opened.

    Raises:
        UserError: it holds something else, or a trace twice.
    """
    ids: set[int] = set()  # by hash: a file may hold a million
    count, incomplete, silent, windows = 0, 0, 0, 0
    for trace in _first(traces, settings.limit):
        count += 1
        if hash(trace.id) in ids:
            raise UserError(
                f"the trace {trace.id} is there twice",
                where=str(traces),
                remedy="remove one of the two, or annotate the files one by one",
            )
        ids.add(hash(trace.id))
        if trace.status is not Status.COMPLETE:
            incomplete += 1
        elif not trace.thinking.strip():
            silent += 1
        else:
            windows += len(_windows(settings, trace))
    return Counted(count, incomplete, silent, windows)


def _first(traces: Path, limit: int | None) -> Iterator[Trace]:
    for number, trace in enumerate(read_traces(traces)):
        if number == limit:
            return
        yield trace


def _windows(settings: AnnotationSettings, trace: Trace) -> list[Window]:
    return draw_windows(
        trace.thinking,
        shortest=settings.shortest,
        longest=settings.longest,
        most=settings.per_trace,
        seed=settings.seed,
        trace=trace.id,
    )


class _Run:
    """A run over traces."""

    def __init__(
        self,
        models: Cooperation,
        settings: AnnotationSettings,
        store: RowStore[Annotation, AnnotationStatus],
        observer: Observer,
    ) -> None:
        self._models, self._settings, self._store, self._observer = models, settings, store, observer
        self._name = models.engines[ANNOTATOR].name
        self._errors = ErrorShare(
            settings.error_rate, settings.concurrency, name=SPANS.name, tell=observer.noted
        )

    async def run(self, traces: Path) -> None:
        await side_by_side(self._jobs(traces), self._one, self._settings.concurrency)

    def _jobs(self, traces: Path) -> Iterator[Annotation]:
        """What is not finished yet, as annotations without an answer."""
        for trace in _first(traces, self._settings.limit):
            if trace.status is not Status.COMPLETE:
                continue
            for window in _windows(self._settings, trace):
                for number in range(self._settings.passes):
                    job = Annotation(
                        id=f"{trace.id}@{window.start}/{number}",
                        trace=trace.id,
                        group=trace.prompt.id,
                        start=window.start,
                        text=window.text,
                        style=(),
                        number=number,
                        annotator=self._name,
                    )
                    if self._store.is_finished(job.id, SPANS.made_from(job), str(traces)):
                        self._observer.skipped()
                    else:
                        yield job

    async def _one(self, job: Annotation) -> None:
        annotation = await self._ask(job)
        self._store.append(annotation)
        self._observer.annotated(annotation)
        failed = annotation.status is AnnotationStatus.ENGINE_ERROR
        self._errors.finished(annotation.id, annotation.reason or "not given" if failed else None)

    async def _ask(self, job: Annotation) -> Annotation:
        """Ask for one window, and once more if the answer cannot be used."""
        if not _is_unicode(job.text):
            return replace(
                job,
                status=AnnotationStatus.NO_ANSWER,
                reason="the text holds half a character (a lone surrogate); no model can read it",
            )
        question = first_question(self._settings.template, job.text)
        draft = await self._models.write(job.id, ALONE, question)
        first = _answered(job, draft)
        if _is_final(first) or draft.ending.status in HOPELESS:
            return first
        again = second_question(question, draft.response, first.reason or "")
        return await self._ask_again(first, again)

    async def _ask_again(self, first: Annotation, question: tuple[Message, ...]) -> Annotation:
        draft = await self._models.write(first.id, ALONE, question, salt="/again")
        if draft.ending.status in HOPELESS:
            # The first answer says more about the window than that there was no room to ask again.
            return first
        return _answered(first, draft)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_final(annotation: Annotation) -> bool:
    return annotation.status in (AnnotationStatus.COMPLETE, AnnotationStatus.ENGINE_ERROR)


def _answered(job: Annotation, draft: Draft) -> Annotation:
    """``job`` with what the annotator said to it."""
    status = draft.ending.status
    # A cooperation knows students and teachers only.
    reason = (draft.ending.reason or "not given").replace(f"the {ANNOTATOR}", "the annotator")
    if status is Status.ENGINE_ERROR:
        return replace(job, status=AnnotationStatus.ENGINE_ERROR, reason=reason)
    answers = (*job.answers, draft.response)
    if status is not Status.COMPLETE:
        return replace(
            job,
            status=AnnotationStatus.NO_ANSWER,
            reason=f"there is no whole answer ({status}): {reason}",
            answers=answers,
        )
    reading = read_answer(draft.response, job.text)
    return replace(job, status=reading.status, reason=reading.reason, style=reading.style, answers=answers)
