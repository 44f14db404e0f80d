"""One call for the whole job: traces in, marked traces on disk.

Invariants
    - Each trace of the input is in the output or among its rejected ones, with what was found; none is lost.
    - Traces are settled in the order of the input, whatever the verifier finishes first: which of two
      duplicates stays does not depend on the machine, and a run that was killed and goes on writes the files
      that one run writes. (What failed by the verifier's error is settled late, at the next run.)
    - A trace is looked at by the cheap first: is it complete, does it hold a benchmark's question; then by
      the verifier; of those that would be kept, duplicates are found last, so that a wrong trace never
      stands in for a right one.

It decides what becomes of a trace; how it is judged, the other modules of this package know.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import weft
from weft.errors import EngineError, UserError, WeftError
from weft.records import Status, Trace
from weft.store import Manifest, RowStore, check_output, check_source, first_day, rejected_path
from weft.synthesis.pool import ErrorShare
from weft.verify.base import Judgement, Reason, Verdict, Verifier, unverifiable
from weft.verify.contamination import Benchmarks, read_benchmarks
from weft.verify.duplicates import Duplicates, prompt_key
from weft.verify.inputs import TraceFiles, open_traces
from weft.verify.marked import MARKED, Mark, Marked, answered, content, read_marked
from weft.verify.opening import open_verifier
from weft.verify.settings import VerifySettings

AHEAD = 4
"""Traces that may wait for an earlier one to be settled, for each under way."""

T = TypeVar("T")
R = TypeVar("R")


class Observer(Protocol):
    """Told what happens while it happens."""

    def began(self, total: int) -> None:
        """So many traces there are, those of earlier runs included."""

    def skipped(self) -> None:
        """One was settled by an earlier run."""

    def settled(self, marked: Marked) -> None:
        """One is on disk."""

    def noted(self, text: str) -> None:
        """Something a person should know."""


class Silence:
    """An observer that looks away."""

    def began(self, total: int) -> None: ...

    def skipped(self) -> None: ...

    def settled(self, marked: Marked) -> None: ...

    def noted(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Counts:
    """What all traces of an output came to, those of earlier runs included."""

    marks: Mapping[Mark, int]
    verdicts: Mapping[Verdict, int]
    """Of those that the verifier was asked about."""
    reasons: Mapping[tuple[Verdict, Reason], int]
    """Of those that are not correct."""

    @property
    def traces(self) -> int:
        return sum(self.marks.values())

    @property
    def kept(self) -> int:
        return self.marks.get(Mark.KEPT, 0)

    @property
    def to_try_again(self) -> int:
        """Traces at which the verifier failed; the same call tries them again."""
        return self.marks.get(Mark.VERIFIER_ERROR, 0)

    def to_json(self) -> dict[str, Any]:
        reasons: dict[str, dict[str, int]] = {}
        for (verdict, reason), count in sorted(self.reasons.items()):
            reasons.setdefault(verdict.value, {})[reason.value] = count
        return {
            "traces": self.traces,
            "kept": self.kept,
            "marks": {mark.value: self.marks[mark] for mark in Mark if self.marks.get(mark)},
            "verdicts": {verdict.value: self.verdicts.get(verdict, 0) for verdict in Verdict},
            "reasons": reasons,
        }


def verify(
    settings: VerifySettings,
    traces: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Counts:
    """Mark the traces of some files; those that are kept are in ``output``, all others beside it.

    Args:
        output: a ``.jsonl``; see :mod:`weft.verify.marked`.
        command: the command line's arguments, for the manifest.

    Raises:
        UserError: settings, files or verifier do not fit, or ``output`` was made with others.
        RunError: the disk or the verifier fails for good; what was finished is on disk.
    """
    return asyncio.run(_verify(settings, traces, output, overwrite, observer or Silence(), command))


async def _verify(
    settings: VerifySettings,
    traces: Sequence[Path],
    output: Path,
    overwrite: bool,
    observer: Observer,
    command: Sequence[str],
) -> Counts:
    sources = _read(settings, traces, output)
    verifier = None
    if settings.verifier is not None:
        verifier = await open_verifier(
            settings.verifier,
            workers=settings.workers,
            seconds=settings.seconds,
            memory_bytes=settings.memory_bytes,
            unsandboxed=settings.unsandboxed,
            date=first_day(output, overwrite=overwrite),
            servers=settings.servers,
            concurrency=settings.concurrency,
            tell=observer.noted,
        )
    try:
        return await _mark(verifier, settings, sources, output, overwrite, observer, command)
    finally:
        if verifier is not None:
            await verifier.close()


async def verify_with(
    verifier: Verifier | None,
    settings: VerifySettings,
    traces: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Counts:
    """As :func:`verify`, with a verifier that is open already and stays so.

    Args:
        verifier: in place of what ``settings`` says of one; ``None``: no verdicts.
    """
    sources = _read(settings, traces, output)
    return await _mark(verifier, settings, sources, output, overwrite, observer or Silence(), command)


def _read(
    settings: VerifySettings, traces: Sequence[Path], output: Path
) -> tuple[TraceFiles, Benchmarks | None]:
    """Check all files before anything costly is opened."""
    check_output(output, MARKED.name)
    for path in traces:
        check_source(output, path, "traces")
    files = open_traces(traces)
    if not settings.decontaminate:
        return files, None
    split, ngram = settings.decontaminate_split, settings.ngram
    return files, read_benchmarks(settings.decontaminate, split=split, ngram=ngram)


async def _mark(
    verifier: Verifier | None,
    settings: VerifySettings,
    sources: tuple[TraceFiles, Benchmarks | None],
    output: Path,
    overwrite: bool,
    observer: Observer,
    command: Sequence[str],
) -> Counts:
    files, benchmarks = sources
    deciding = settings.deciding() | {
        "verifier": dict(verifier.describe()) if verifier else None,
        "benchmarks": benchmarks.describe() if benchmarks else [],
    }
    info = {
        "verifier": verifier.name if verifier else None,
        "traces": dict(files.digests),
        "concurrency": settings.concurrency,
        "command": list(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    date = first_day(output, overwrite=overwrite)
    manifest = Manifest.create(weft.__version__, deciding, info, date=date.isoformat())
    with RowStore(MARKED, output, manifest, overwrite=overwrite) as store:
        for note in store.repaired:
            observer.noted(note)
        marking = _Marking(settings, verifier, benchmarks, files, store, observer)
        marking.recall(output)
        await marking.run()
        return marking.counts()


class _Marking:
    """One run over the traces."""

    def __init__(
        self,
        settings: VerifySettings,
        verifier: Verifier | None,
        benchmarks: Benchmarks | None,
        files: TraceFiles,
        store: RowStore[Marked, Mark],
        observer: Observer,
    ) -> None:
        self._settings, self._verifier, self._benchmarks = settings, verifier, benchmarks
        self._files, self._store, self._observer = files, store, observer
        self._duplicates: Duplicates | None = None
        if settings.deduplicate is not None:
            keys = (prompt_key(trace.prompt) for _, trace in files)
            self._duplicates = Duplicates(settings.deduplicate, keys)
        self._errors = ErrorShare(
            settings.error_rate, settings.concurrency, name="trace", tell=observer.noted, of="verifier"
        )
        self._marks: Counter[Mark] = Counter()
        self._verdicts: Counter[Verdict] = Counter()
        self._reasons: Counter[tuple[Verdict, Reason]] = Counter()

    def counts(self) -> Counts:
        return Counts(self._marks, self._verdicts, self._reasons)

    def recall(self, output: Path) -> None:
        """Learn what earlier runs found.

        Raises:
            UserError: they were given other traces.
        """
        kept: set[str] = set()
        for path in (output, rejected_path(output)):
            for marked in read_marked(path) if path.exists() else ():
                self._count(marked)
                if marked.mark is Mark.KEPT:
                    kept.add(marked.trace.id)
        if not self._marks:
            return
        found = 0
        for where, trace in self._files:
            if self._store.is_finished(trace.id, content(trace), where):
                found += 1
                if self._duplicates and trace.id in kept:
                    self._duplicates.keep(trace)
                if self._duplicates:
                    self._duplicates.passed(trace)
        if found < self._store.counts.total():
            lost = self._store.counts.total() - found
            raise UserError(
                f"{lost:,} of the traces there are in none of the files that were given",
                where=str(output),
                remedy="name all files of the earlier run, choose another output, or --overwrite to start "
                "again",
            )

    async def run(self) -> None:
        """Settle all traces that are not settled yet."""
        self._observer.began(self._files.count)
        judged = in_order(self._left(), self._judged, self._settings.concurrency)
        async with aclosing(judged):
            async for marked in judged:
                self._settle(marked)

    def _left(self) -> Iterator[Trace]:
        for where, trace in self._files:
            if self._store.is_finished(trace.id, content(trace), where):
                self._observer.skipped()
            else:
                yield trace

    async def _judged(self, trace: Trace) -> Marked:
        """All that can be said of a trace without looking at others."""
        if trace.status is not Status.COMPLETE:
            return Marked(trace, Mark.UNFINISHED)
        if self._benchmarks and (place := self._benchmarks.hit(trace)):
            return Marked(trace, Mark.CONTAMINATED, contaminated_by=place)
        if self._verifier is None:
            return Marked(trace, Mark.KEPT)
        judgement = await _judgement(self._verifier, trace)
        mark = Mark.KEPT if judgement.verdict in self._settings.keep else Mark.VERDICT
        if judgement.reason is Reason.VERIFIER_ERROR:
            mark = Mark.VERIFIER_ERROR
        return Marked(trace, mark, judgement, self._verifier.name)

    def _settle(self, marked: Marked) -> None:
        duplicates, trace = self._duplicates, marked.trace
        if duplicates and marked.mark is Mark.KEPT and (original := duplicates.original(trace)):
            marked = replace(marked, mark=Mark.DUPLICATE, duplicate_of=original)
        self._store.append(marked)
        if duplicates and marked.mark is Mark.KEPT:
            duplicates.keep(trace)
        if duplicates:
            duplicates.passed(trace)
        self._count(marked)
        self._observer.settled(marked)
        failed = marked.judgement if marked.mark is Mark.VERIFIER_ERROR else None
        self._errors.finished(trace.id, failed.said or "not given" if failed else None)

    def _count(self, marked: Marked) -> None:
        self._marks[marked.mark] += 1
        judgement = marked.judgement
        if judgement is not None:
            self._verdicts[judgement.verdict] += 1
            if judgement.reason is not None:
                self._reasons[judgement.verdict, judgement.reason] += 1


async def _judgement(verifier: Verifier, trace: Trace) -> Judgement:
    """A verdict, also where the verifier breaks at one response.

    Raises:
        RunError: it cannot serve at all.
    """
    try:
        return await verifier.verify(answered(trace))
    except Exception as error:
        if isinstance(error, WeftError) and not isinstance(error, EngineError):
            raise
        return unverifiable(Reason.VERIFIER_ERROR, f"{type(error).__name__}: {error}")


async def in_order(
    items: Iterable[T], do: Callable[[T], Awaitable[R]], concurrency: int
) -> AsyncGenerator[R]:
    """The results for ``items``, in their order, ``concurrency`` under way at a time. Close it when done.

    Raises:
        Exception: the first of any of them, in the items' order; what comes before it is given first.
    """
    room = asyncio.Semaphore(concurrency)
    waiting: deque[asyncio.Task[R]] = deque()

    async def one(item: T) -> R:
        async with room:
            return await do(item)

    try:
        for item in items:
            waiting.append(asyncio.create_task(one(item)))
            # Even without anything to wait for, others come to their turn.
            await asyncio.sleep(0)
            while waiting and (waiting[0].done() or len(waiting) >= AHEAD * concurrency):
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
