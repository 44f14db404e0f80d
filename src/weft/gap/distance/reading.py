"""Samples before the student: what it thinks of each token, on disk as soon as it is known.

Batches of samples are spelled and marked in a thread of their own while the engine scores those before; so
neither waits for the other, and the event loop for none.

Invariants
    - Every sample ends in exactly one row: complete, rejected with a reason, or to be tried again.
    - A row is a function of sample, student and boundary. Concurrency and interruptions change which texts
      share a batch, and so a figure by its last digit at times; nothing else.
    - Readings come back in the order in which samples are drawn, whatever order they were finished in.

It does not know what is made of the readings.
"""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from weft.engines.base import Engine, Scored, Scorer
from weft.errors import EngineError, TextError, UserError
from weft.gap.distance.readings import READINGS, Reading, ReadingStatus
from weft.gap.distance.samples import Sample
from weft.gap.distance.sources import Samples, draw_order
from weft.gap.distance.spelling import Spelled, Speller
from weft.store.output import rejected_path
from weft.store.rows import RowStore, read_rows
from weft.synthesis.pool import ErrorShare, side_by_side

if TYPE_CHECKING:
    from weft.boundary.measuring.evaluate import Subject
    from weft.boundary.measuring.marked import Marked

DIGITS = 5
"""Decimals of nats, entropies and probabilities in the rows."""
ROUNDING = 1e-3
"""Nats by which a log-probability may lie above 0."""
NEVER = -9999.0
"""At or below this a log-probability is minus infinity: servers write that so, since JSON has no infinity."""


class Observer(Protocol):
    """Told what happens while it happens; see the progress display."""

    def began(self, total: int) -> None:
        """So many texts will be read, those of earlier runs included."""

    def skipped(self) -> None:
        """A text was read by an earlier run."""

    def read(self, reading: Reading) -> None:
        """A reading is on disk."""

    def noted(self, text: str) -> None:
        """Something a person should know."""


class Silence:
    """An observer that looks away."""

    def began(self, total: int) -> None: ...

    def skipped(self) -> None: ...

    def read(self, reading: Reading) -> None: ...

    def noted(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A sample on its way."""

    reading: Reading
    """Without figures; its status says whether there is anything to score."""
    spelled: Spelled | None = None
    style: tuple[float | None, ...] | None = None


def scorer(engine: Engine) -> Scorer:
    """The engine as one that scores.

    Raises:
        UserError: it gives no log-probabilities of given texts.
    """
    if isinstance(engine, Scorer):
        return engine
    raise UserError(
        "the engine gives no log-probabilities of given texts, by which distance is measured",
        where=f"engine {engine.name}",
        expected="a model in process, vLLM or SGLang",
        remedy="name the model itself (a hub id or folder); `weft doctor` says what a server can do",
    )


class ReadingRun:
    """A run over sets of samples, ready to start."""

    def __init__(
        self,
        engine: Engine,
        boundary: Subject | None,
        store: RowStore[Reading, ReadingStatus],
        *,
        concurrency: int,
        error_rate: float,
        observer: Observer,
    ) -> None:
        """Make a run.

        Args:
            boundary: tells style in thinking; ``None``: nothing is said of it.
            concurrency: texts under way at a time.
            error_rate: share of engine errors that ends the run.

        Raises:
            UserError: see :func:`scorer`.
        """
        self._scorer = scorer(engine)
        self._engine, self._boundary, self._store, self._observer = engine, boundary, store, observer
        self._speller = Speller(engine)
        self._concurrency = concurrency
        self._told = False
        """Of a text that the boundary cannot read."""
        self._errors = ErrorShare(error_rate, concurrency, name=READINGS.name, tell=observer.noted)

    async def run(self, sets: Sequence[Samples]) -> None:
        """Read all samples that are not read yet.

        Raises:
            UserError: a finished reading was made from another text.
            RunError: the disk or the engine fails for good. What was finished is on disk.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="weft gap") as self._thread:
            # Two at a time: one is spelled and marked while the other is scored.
            batches = _batches(self._samples(sets), max(1, self._concurrency // 2))
            await side_by_side(batches, self._batch, min(2, self._concurrency))

    def _samples(self, sets: Sequence[Samples]) -> Iterator[Sample]:
        for samples in sets:
            for sample in samples:
                if self._store.is_finished(_id(sample), sample.digest, sample.where):
                    self._observer.skipped()
                else:
                    yield sample

    async def _batch(self, batch: Sequence[Sample]) -> None:
        prepared = await asyncio.get_running_loop().run_in_executor(self._thread, self._prepare, batch)
        await side_by_side(prepared, self._one, len(batch))

    async def _one(self, prepared: _Prepared) -> None:
        reading = prepared.reading
        if prepared.spelled is not None:
            reading = await self._scored(reading, prepared.spelled, prepared.style)
        self._store.append(reading)
        self._observer.read(reading)
        failed = reading.status is ReadingStatus.ENGINE_ERROR
        self._errors.finished(reading.id, reading.reason or "not given" if failed else None)

    async def _scored(
        self, reading: Reading, spelled: Spelled, style: tuple[float | None, ...] | None
    ) -> Reading:
        try:
            scored = await self._scorer.score(spelled.prompt, spelled.ids)
            _check(scored, len(spelled.ids), self._engine.name)
            impossible = _impossible(scored, spelled.places)
        except EngineError as error:
            status = ReadingStatus.TOO_LONG if _is_too_long(error) else ReadingStatus.ENGINE_ERROR
            return replace(_without_text(reading), status=status, reason=str(error))
        if impossible is not None:
            return replace(_without_text(reading), status=ReadingStatus.IMPOSSIBLE, reason=impossible)
        places = spelled.places
        ranks, entropies = scored.ranks, scored.entropies
        return replace(
            reading,
            thinking=spelled.thinking,
            chars=spelled.chars,
            # Adding 0 makes -0.0 what it is.
            nats=tuple(round(-scored.logps[place], DIGITS) + 0.0 for place in places),
            ranks=None if ranks is None else tuple(ranks[place] for place in places),
            entropies=None
            if entropies is None
            else tuple(round(entropies[place], DIGITS) + 0.0 for place in places),
            style=style,
            authors=spelled.authors,
        )

    # -- in the thread -----------------------------------------------------------------------------

    def _prepare(self, batch: Sequence[Sample]) -> list[_Prepared]:
        """Spell and mark. What cannot be read is rejected here."""
        prepared = [self._spelled(sample) for sample in batch]
        if self._boundary is None:
            return prepared
        thoughts = {
            place: sample.thinking
            for place, (sample, one) in enumerate(zip(batch, prepared, strict=True))
            if one.spelled is not None and sample.thinking
        }
        marks = dict(zip(thoughts, self._marked(self._boundary, list(thoughts.values())), strict=True))
        return [
            replace(one, style=_style(one.spelled, marks.get(place))) if one.spelled is not None else one
            for place, one in enumerate(prepared)
        ]

    def _marked(self, boundary: Subject, texts: Sequence[str]) -> list[Marked | None]:
        """What the boundary says of each text; ``None`` of one that it cannot read."""
        try:
            return list(boundary.mark(texts))
        except (UserError, TextError) as error:
            if len(texts) == 1:
                if not self._told:
                    self._observer.noted(f"nothing is known of the style of a text, at least: {error}")
                self._told = True
                return [None]
        # One text spoils a batch, but not the others in it.
        return [marked for text in texts for marked in self._marked(boundary, [text])]

    def _spelled(self, sample: Sample) -> _Prepared:
        reading = Reading(
            id=_id(sample),
            source=sample.source,
            sample=sample.id,
            prompt=sample.prompt,
            digest=sample.digest,
            text=sample.thinking + sample.response,
        )
        if not reading.text.strip():
            return _rejected(reading, ReadingStatus.EMPTY, "neither thinking nor response holds text")
        try:
            prompt = self._speller.prompt(sample)
        except (UserError, ValueError) as error:
            return _rejected(reading, ReadingStatus.BAD_PROMPT, f"{sample.where}: {error}")
        try:
            spelled = self._speller.text(sample, prompt)
        except ValueError as error:
            return _rejected(reading, ReadingStatus.INVALID_TEXT, f"{sample.where}: {error}")
        context = self._engine.context
        if context is not None and spelled.length > context:
            return _rejected(
                reading,
                ReadingStatus.TOO_LONG,
                f"{sample.where}: prompt and text are {spelled.length:,} tokens, and the context holds "
                f"{context:,}",
            )
        return _Prepared(reading, spelled)


class Readings:
    """The readings of some sets, on disk: read anew by each iteration, never held."""

    def __init__(self, path: Path, sets: Iterable[Samples], *, seed: int) -> None:
        """Look through the file once; it may hold readings of other samples, too."""
        self._path = path
        wanted = {samples.label: samples.ids for samples in sets}
        found: dict[str, list[tuple[tuple[bytes, bytes], int]]] = {label: [] for label in wanted}
        offset = 0
        with path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                if hash(row["sample"]) in wanted.get(row["source"], ()):
                    found[row["source"]].append((draw_order(seed, row["prompt"], row["sample"]), offset))
                offset += len(line)
        self._offsets = {
            label: array("Q", (offset for _, offset in sorted(places))) for label, places in found.items()
        }
        self._rejected: dict[str, Counter[str]] = {label: Counter() for label in wanted}
        for reading in read_rows(READINGS, rejected_path(path)):
            if hash(reading.sample) in wanted.get(reading.source, ()):
                self._rejected[reading.source][reading.status.value] += 1

    def of(self, label: str) -> Iterator[Reading]:
        """The complete readings of a set, in the order in which its samples are drawn."""
        with self._path.open("rb") as file:
            for offset in self._offsets[label]:
                file.seek(offset)
                yield READINGS.read(json.loads(file.readline()), str(self._path))

    def count(self, label: str) -> int:
        """Complete readings of a set."""
        return len(self._offsets[label])

    def rejected(self, label: str) -> Mapping[str, int]:
        """How many of a set could not be read, by status."""
        return dict(self._rejected[label])


def _id(sample: Sample) -> str:
    return f"{sample.source}/{sample.id}"


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, size)):
        yield batch


def _without_text(reading: Reading) -> Reading:
    """A rejected reading holds no text: there are no tokens that would cover it."""
    return replace(reading, text="")


def _rejected(reading: Reading, status: ReadingStatus, reason: str) -> _Prepared:
    return _Prepared(replace(_without_text(reading), status=status, reason=reason))


def _check(scored: Scored, count: int, name: str) -> None:
    """Raises EngineError: these are not the figures of so many tokens."""
    figures = [scored.logps, *(column for column in (scored.ranks, scored.entropies) if column is not None)]
    if any(len(column) != count for column in figures):
        said = f"it gave figures of {len(scored.logps)} tokens for {count}"
        raise EngineError(said, where=f"engine {name}")
    if any(math.isnan(value) or value == math.inf for column in figures for value in column):
        raise EngineError(
            "the log-probabilities are not finite",
            where=f"engine {name}",
            remedy="try --student-dtype float32, or bfloat16 in place of float16",
        )
    if max(scored.logps, default=0) > ROUNDING or (
        scored.ranks is not None and min(scored.ranks, default=1) < 1
    ):
        raise EngineError("it gave a log-probability above 0, or a rank below 1", where=f"engine {name}")


def _impossible(scored: Scored, places: Sequence[int]) -> str | None:
    """Which of the text's tokens the student would never write; ``None``: it might write all."""
    never = [at for at, place in enumerate(places, 1) if scored.logps[place] <= NEVER]
    if not never:
        return None
    more = f", and {len(never) - 1:,} more" if len(never) > 1 else ""
    return f"the student gives token {never[0]:,} of {len(places):,}{more} no probability at all"


def _is_too_long(error: EngineError) -> bool:
    """Whether a server refused the text for its length; its own count may be another than ours."""
    from weft.engines.server.transport import RequestError, Trouble

    return isinstance(error, RequestError) and error.trouble is Trouble.TOO_LONG


def _style(spelled: Spelled, marked: Marked | None) -> tuple[float | None, ...]:
    """The probability of style of each token: that of the piece in which its first character lies."""
    silent = (None,) * len(spelled.places)
    if marked is None:
        return silent
    said = marked.probability
    if said is None:
        said = tuple(None if style is None else float(style) for style in marked.style)
    said = tuple(None if one is None else round(one, DIGITS) for one in said)
    ends = list(accumulate(map(len, marked.pieces)))
    thinking = [said[bisect_right(ends, at)] for at in spelled.first[: spelled.thinking]]
    return (*thinking, *silent[spelled.thinking :])
