"""One call for the whole job: traces with proposals in, pairs of continuations out.

::

    NAME.jsonl          the pairs, and what gave none      (weft.pairing.woven)
    NAME.texts.jsonl    what the student wrote, judged     (weft.gap.ranking.judged)

Hand-overs are taken some at a time, in the traces' order: all traces are held as text, but never all as
tokens. Each is on disk as soon as its batch is done, each text as soon as it is judged. A row is a function
of trace, student, verifier, settings, seed and its number among the hand-overs, which texts are drawn by;
neither concurrency nor interruptions change it.

It decides what is asked for; how two continuations are compared, :mod:`weft.pairing.comparing` knows.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import weft
from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.errors import UserError
from weft.gap.ranking.continuing import judge_texts
from weft.gap.ranking.judged import Judged, TextStatus
from weft.gap.ranking.measure import Observer, Silence
from weft.pairing.comparing import TEXTS, Spelled, Speller, Written, compared
from weft.pairing.cuts import Cut, cuts_of, drawn
from weft.pairing.outcome import Paired, PairStatus, check_pairs
from weft.pairing.sampled import digests
from weft.pairing.settings import WeaveSettings
from weft.pairing.woven import WOVEN, Woven
from weft.quality.base import Quality
from weft.records import Author, Trace
from weft.store import Manifest, RowStore, first_day, read_rows, read_traces, rejected_path
from weft.synthesis.facts import engine_facts, engine_notes
from weft.verify.as_quality import as_quality
from weft.verify.opening import open_verifier

BATCH_TEXTS = 16
"""Texts of one batch, for each that is under way at a time: the last ones of a batch wait for nobody."""
WORDS = {
    PairStatus.SAME: "one continuation begins with the other",
    PairStatus.TIE: "both continuations as good",
    PairStatus.UNVERIFIABLE: "texts that could not be verified",
    PairStatus.NOT_SPELLED: "text that the vocabulary cannot spell",
    PairStatus.NO_ROOM: "no room in the student's context",
    PairStatus.ENGINE_ERROR: "engine errors",
}
NOT_DRAWN = "hand-overs that were not drawn"


def texts_path(output: Path) -> Path:
    """Where the student's texts are."""
    return output.with_suffix(".texts.jsonl")


def weave(
    settings: WeaveSettings,
    inputs: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Paired:
    """Make pairs of what the student proposed and what the teacher wrote in its place.

    Args:
        inputs: traces of ``weft synth --keep-proposals``, verified or not.
        command: the command line's arguments, for the manifest.

    Raises:
        UserError: settings, traces or models do not fit, or ``output`` was made with others.
        RunError: the disk, the student or the verifier fails for good; what was finished is on disk.
    """
    run = _Run(settings, tuple(inputs), output, overwrite, observer or Silence(), tuple(command))
    return asyncio.run(run.run())


class _Texts(RowStore[Judged, TextStatus]):
    """Judged texts, with what came of each in memory."""

    def __init__(self, path: Path, manifest: Manifest, *, overwrite: bool) -> None:
        super().__init__(TEXTS, path, manifest, overwrite=overwrite)
        files = (path, rejected_path(path))
        self.found = {row.id: Written.of(row) for file in files for row in read_rows(TEXTS, file)}

    def append(self, record: Judged) -> None:
        super().append(record)
        self.found[record.id] = Written.of(record)


@dataclass(slots=True)
class _Run:
    settings: WeaveSettings
    inputs: tuple[Path, ...]
    output: Path
    overwrite: bool
    observer: Observer
    command: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    async def run(self) -> Paired:
        settings, tell = self.settings, self.observer.noted
        check_pairs(self.output, list(self.inputs), texts_path(self.output))
        cuts = self._cuts()
        date = first_day(self.output, overwrite=self.overwrite)
        async with AsyncExitStack() as stack:
            student = settings.student
            if not student.template_arguments:
                given = json.loads(cuts[0].trace.template_arguments)
                student = student.model_copy(update={"template_arguments": given})
            engine = await open_engine(student, date=date, servers=settings.servers, tell=tell)
            stack.push_async_callback(engine.close)
            _check_thinking(engine, cuts)
            quality = as_quality(
                await open_verifier(
                    settings.verifier,
                    workers=settings.workers,
                    seconds=settings.seconds,
                    memory_bytes=settings.memory_bytes,
                    unsandboxed=settings.unsandboxed,
                    date=date,
                    servers=settings.servers,
                    concurrency=settings.concurrency,
                    tell=tell,
                )
            )
            stack.push_async_callback(quality.close)
            manifest = self._manifest(engine, quality, date.isoformat())
            store = RowStore(WOVEN, self.output, manifest, overwrite=self.overwrite)
            stack.enter_context(store)
            texts = _Texts(texts_path(self.output), manifest, overwrite=self.overwrite)
            stack.enter_context(texts)
            for note in (*store.repaired, *texts.repaired, *engine_notes([("student", engine)])):
                tell(note)
            await self._weave(cuts, engine, quality, store, texts)
            counts = {words: store.counts[status] for status, words in WORDS.items() if store.counts[status]}
            again = store.counts[PairStatus.ENGINE_ERROR]
            complete, figures = store.complete, self._figures(texts.found.values())
        if again:
            tell(f"{again:,} hand-overs failed by engine errors; the same command tries them again")
        return Paired(self.output, complete, dict(self.left_out + Counter(counts)), figures, again)

    def _cuts(self) -> list[Cut]:
        """The hand-overs to look at, in the traces' order.

        Raises:
            UserError: no trace says what was thrown away, or no right answer is known.
        """
        settings = self.settings
        found: list[Cut] = []
        first: Trace | None = None
        seen: set[str] = set()
        for trace in self._traces():
            first = first or trace
            if trace.template_arguments != first.template_arguments:
                raise UserError(
                    f"the trace {trace.id} was written with other template arguments than {first.id}",
                    where=", ".join(map(str, self.inputs)),
                    remedy="weave each student's traces by themselves",
                )
            if trace.id in seen:
                raise UserError(
                    f"two traces are called {trace.id}",
                    where=", ".join(map(str, self.inputs)),
                    remedy="weave each file by itself",
                )
            seen.add(trace.id)
            cuts = list(cuts_of(trace))
            differing = [cut for cut in cuts if cut.differs]
            here = drawn(trace.id, differing, settings.per_trace, settings.seed)
            self.left_out[WORDS[PairStatus.SAME]] += len(cuts) - len(differing)
            self.left_out[NOT_DRAWN] += len(differing) - len(here)
            found += here
        self.left_out += Counter()  # without what is not there
        if not found:
            raise UserError(
                "no trace holds text of the student's that a hand-over threw away",
                where=", ".join(map(str, self.inputs)),
                expected="traces of `weft synth --strategy tessy --keep-proposals`",
                remedy="write them anew with --keep-proposals: what was thrown away cannot be found again",
            )
        if not settings.verifier.startswith("task") and all(c.trace.prompt.answer is None for c in found):
            raise UserError(
                "no prompt has an answer, so nothing can be verified",
                where=", ".join(map(str, self.inputs)),
                expected="traces of prompts with a column `answer`",
            )
        return found

    def _traces(self) -> Iterator[Trace]:
        """The traces of all inputs, up to the limit."""
        left = self.settings.limit
        for path in self.inputs:
            for trace in read_traces(path):
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield trace

    def _manifest(self, engine: Engine, quality: Quality, date: str) -> Manifest:
        settings = self.settings
        sampling = settings.sampling.several(engine.sampling, settings.samples)
        deciding = {
            "pairs": "weave",
            **settings.deciding(),
            "sampling": asdict(sampling),
            "verifier": dict(quality.describe()),
            "student": engine_facts(engine),
            "vocabulary": engine.vocabulary.fingerprint[:16],
            "traces": digests(self.inputs),
        }
        info = {"command": list(self.command), "traces": [str(path) for path in self.inputs]}
        return Manifest.create(
            weft.__version__, deciding, {**info, "engine": dict(engine.describe())}, date=date
        )

    async def _weave(
        self,
        cuts: Sequence[Cut],
        engine: Engine,
        quality: Quality,
        store: RowStore[Woven, PairStatus],
        texts: _Texts,
    ) -> None:
        settings, observer = self.settings, self.observer
        observer.began("hand-overs", len(cuts))
        speller = Speller(engine)
        size = max(1, BATCH_TEXTS * settings.concurrency // (2 * settings.samples))
        numbered = list(enumerate(cuts))
        for start in range(0, len(cuts), size):
            waiting = list(self._waiting(numbered[start : start + size], speller, store))
            await judge_texts(
                engine,
                quality,
                (job for spelled in waiting for job in spelled.jobs(settings.samples)),
                texts,
                max_tokens=settings.max_tokens,
                sampling=settings.sampling.several(engine.sampling, settings.samples),
                seed=settings.seed,
                concurrency=settings.concurrency,
                error_rate=settings.error_rate,
                generated=observer.wrote,
                tell=observer.noted,
            )
            for spelled in waiting:
                store.append(
                    compared(spelled, engine.name, texts.found, settings.samples, settings.min_margin)
                )
                observer.advanced()

    def _waiting(
        self, batch: Iterable[tuple[int, Cut]], speller: Speller, store: RowStore[Woven, PairStatus]
    ) -> Iterator[Spelled]:
        """Those that are to be compared; the rows of those that need not be are written."""
        for number, cut in batch:
            spelled = speller.spell(cut, number)
            row = spelled if isinstance(spelled, Woven) else spelled.begun
            if store.is_finished(row.id, row.made_from):
                self.observer.advanced()
            elif isinstance(spelled, Woven):
                store.append(spelled)
                self.observer.advanced()
            else:
                yield spelled

    def _figures(self, texts: Iterable[Written]) -> Mapping[str, float]:
        """Over the pairs: how often the teacher's is chosen, and lengths. Over all hand-overs that were
        compared, ties included: how many texts were right. Over all texts: how many a limit ended."""
        pairs = list(_lengths(read_rows(WOVEN, self.output)))
        shares = [
            (row.student_success, row.teacher_success)
            for path in (self.output, rejected_path(self.output))
            for row in read_rows(WOVEN, path)
            if row.student_success is not None and row.teacher_success is not None
        ]
        figures: dict[str, float] = {"compared": len(shares)}
        if shares:
            figures["student_success"] = fmean(student for student, _ in shares)
            figures["teacher_success"] = fmean(teacher for _, teacher in shares)
        if ended := [text.finished for text in texts if text.status is TextStatus.COMPLETE]:
            figures["unfinished"] = 1 - fmean(ended)
        if pairs:
            figures["teacher_chosen"] = fmean(author is Author.TEACHER for author, _, _ in pairs)
            figures["chosen_tokens"] = fmean(chosen for _, chosen, _ in pairs)
            figures["rejected_tokens"] = fmean(rejected for _, _, rejected in pairs)
        return figures


def _check_thinking(engine: Engine, cuts: Iterable[Cut]) -> None:
    """Whether the student thinks where the traces do: else thinking would be woven into responses, or the
    other way round.

    Raises:
        UserError: it does not.
    """
    thinks = engine.template.thinking is not None
    other = next((cut.trace for cut in cuts if bool(cut.trace.thinking_spans) is not thinks), None)
    if other is not None:
        raise UserError(
            f"the trace {other.id} {'does not think' if thinks else 'thinks'}, and the student's template "
            f"{'opens' if thinks else 'has no'} thinking",
            where=f"student {engine.name}",
            expected="a student that thinks where the traces do",
            remedy="look at the student's template and its arguments (--student-template-args), or name the "
            "student of the traces",
        )


def _lengths(rows: Iterable[Woven]) -> Iterator[tuple[Author | None, int, int]]:
    for row in rows:
        yield row.chosen_by, len(row.chosen_ids), len(row.rejected_ids)
