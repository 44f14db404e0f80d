"""One call for the whole job: pairs and policies in, :class:`weft.gap.ranking.result.RewardGap` out.

::

    NAME.json           the result
    NAME.pairs.jsonl    what each model thinks of each pair     (weft.gap.ranking.reading)
    NAME.texts.jsonl    what each policy wrote, and its quality (weft.gap.ranking.judged)

Models are opened one after the other, so that several policies need no more memory than the largest. All
figures are computed from the rows on disk: a run that was killed and goes on gives the same result as one
that was not, up to rounding (:mod:`weft.gap.ranking.reading`). Without a name for the output the rows are in
a temporary folder, and gone afterwards.

It decides what is measured; how, the other modules of this package know.
"""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import weft
from weft.engines.base import Engine
from weft.engines.opening import model_folder, open_engine
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.gap.encoding import check_result, write_result
from weft.gap.ranking.assembly import Known, Rows, assemble
from weft.gap.ranking.consistency import consistency_jobs
from weft.gap.ranking.continuing import judge_texts
from weft.gap.ranking.delta_q import delta_q_jobs
from weft.gap.ranking.drawing import drawing_jobs
from weft.gap.ranking.judged import JUDGED, Job, Judged, TextStatus
from weft.gap.ranking.pairs import PlainPairs, SpelledPair, read_pairs, spell_pairs
from weft.gap.ranking.reading import PAIR_READINGS, PairReading, PairStatus, read_by
from weft.gap.ranking.result import RewardGap
from weft.gap.ranking.settings import RewardGapSettings
from weft.quality.base import Quality
from weft.quality.opening import open_quality
from weft.store import Manifest, RowStore, check_output, check_source, first_day
from weft.synthesis.facts import engine_facts, engine_notes


class Observer(Protocol):
    """Told what happens while it happens."""

    def began(self, what: str, total: int) -> None:
        """The next stage: so many pairs or texts there will be, those of earlier runs included."""

    def advanced(self) -> None:
        """One of them is on disk."""

    def wrote(self, tokens: int) -> None:
        """A policy generated tokens."""

    def noted(self, text: str) -> None:
        """Something a person should know."""


class Silence:
    """An observer that looks away."""

    def began(self, what: str, total: int) -> None: ...

    def advanced(self) -> None: ...

    def wrote(self, tokens: int) -> None: ...

    def noted(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """A result, and whether it is all that there could be."""

    gap: RewardGap
    to_try_again: int
    """Pairs and texts that failed by an engine's error; the same call tries them again."""


def reward(
    pairs: str | Path,
    *,
    policies: Sequence[str | EngineSettings] | str,
    reference: str | EngineSettings | None = None,
    quality: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    **settings: Any,
) -> RewardGap:
    """Measure whether ranking these pairs well means generating well.

    Args:
        pairs: a file, a data set's folder or a hub id, as `weft align` takes them; a column ``answer`` is
            read where there is one.
        policies: engines, or their names; three or more give a rank correlation.
        reference: what DPO's reward is relative to.
        quality: ``answer``, a verifier's name, ``reward:MODEL`` or ``judge:ENGINE``; ``None``: nothing is
            written.
        output: the result's file, a ``.json``; its rows stand beside it, and the same call goes on.
        overwrite: remove what the output held before.
        settings: see :class:`weft.gap.ranking.settings.RewardGapSettings`.

    Raises:
        UserError: settings, data or models do not fit, or the output was made with others.
        RunError: the disk or an engine fails for good; what was finished is on disk.
    """
    from pydantic import ValidationError

    given = {"policies": policies, "reference": reference, "quality": quality, **settings}
    try:
        checked = RewardGapSettings.model_validate(given)
    except ValidationError as error:
        raise UserError(_refusal(error), where="weft.gap.reward") from error
    path = None if output is None else Path(output)
    return measure(checked, str(pairs), path, overwrite=overwrite, observer=observer).gap


def _refusal(error: Any) -> str:
    lines = (f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors())
    return "\n  ".join(line.replace("Value error, ", "") for line in lines)


def measure(
    settings: RewardGapSettings,
    pairs: str,
    output: Path | None = None,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Measured:
    """As :func:`reward`, with settings that were checked.

    Args:
        command: the command line's arguments, for the result's manifest.
    """
    with tempfile.TemporaryDirectory(prefix="weft-gap-") as folder:
        path = output or Path(folder) / "gap.json"
        run = _Run(settings, pairs, path, overwrite, observer or Silence(), tuple(command))
        measured = asyncio.run(run.run())
        if output is not None:
            write_result(measured.gap, output)
    return measured


@dataclass(slots=True)
class _Run:
    settings: RewardGapSettings
    name: str
    """Of the data."""
    output: Path
    overwrite: bool
    observer: Observer
    command: tuple[str, ...]
    known: dict[str, Known] = field(default_factory=dict)

    @property
    def pairs_path(self) -> Path:
        return self.output.with_suffix(".pairs.jsonl")

    @property
    def texts_path(self) -> Path:
        return self.output.with_suffix(".texts.jsonl")

    async def run(self) -> Measured:
        settings, tell = self.settings, self.observer.noted
        self._check()
        plain = read_pairs(self.name, split=settings.split, limit=settings.limit, seed=settings.seed)
        if settings.quality == "answer" and all(pair.answer is None for pair in plain.pairs):
            raise UserError(
                "no pair has an answer to compare with",
                where=plain.name,
                expected="a column `answer`",
                remedy="add it, or judge by a model: --quality reward:MODEL or judge:ENGINE",
            )
        date = first_day(self.pairs_path, overwrite=self.overwrite)
        async with AsyncExitStack() as stack:
            quality = None
            if settings.quality is not None:
                quality = await open_quality(
                    settings.quality,
                    date=date,
                    servers=settings.servers,
                    concurrency=settings.concurrency,
                    tell=tell,
                )
                stack.push_async_callback(quality.close)
            readings = RowStore(
                PAIR_READINGS, self.pairs_path, self._manifest(plain, date), overwrite=self.overwrite
            )
            stack.enter_context(readings)
            texts = None
            if quality is not None:
                manifest = self._manifest(plain, date, quality)
                texts = RowStore(JUDGED, self.texts_path, manifest, overwrite=self.overwrite)
                stack.enter_context(texts)
            for note in (*readings.repaired, *(texts.repaired if texts else ())):
                tell(note)
            await self._models(plain, date, readings, quality, texts)
            again = readings.counts[PairStatus.ENGINE_ERROR]
            again += texts.counts[TextStatus.ENGINE_ERROR] if texts else 0
            facts = None if quality is None else quality.describe()
        if again:
            tell(f"{again:,} pairs or texts failed by engine errors; the same command tries them again")
        rows = Rows(self.pairs_path, self.texts_path)
        return Measured(
            assemble(settings, plain, self.known, rows, quality=facts, command=self.command), again
        )

    def _check(self) -> None:
        """Find out what would keep the result from being written, before anything is opened."""
        check_result(self.output, "reward-gap")
        for path, what in ((self.pairs_path, PAIR_READINGS.name), (self.texts_path, JUDGED.name)):
            check_output(path, what)
            check_source(path, Path(self.name), "pairs")
        for model in (self.settings.reference, *self.settings.policies):
            if model is not None:
                check_model(model)

    def _manifest(self, plain: PlainPairs, date: datetime.date, quality: Quality | None = None) -> Manifest:
        deciding: dict[str, Any] = {"pairs": plain.sha256}
        if quality is not None:
            deciding |= {"quality": dict(quality.describe()), "max_tokens": self.settings.max_tokens}
            deciding |= {"seed": self.settings.seed, "sampling": self.settings.sampling.model_dump()}
        info = {"pairs": {"name": plain.name, "rows": plain.rows}, "command": list(self.command)}
        return Manifest.create(weft.__version__, deciding, info, date=date.isoformat())

    async def _models(
        self,
        plain: PlainPairs,
        date: datetime.date,
        readings: RowStore[PairReading, PairStatus],
        quality: Quality | None,
        texts: RowStore[Judged, TextStatus] | None,
    ) -> None:
        """One model after the other: open, read, write, close."""
        settings = self.settings
        models = list(settings.policies)
        if settings.reference is not None and settings.reference.name not in {one.name for one in models}:
            models.insert(0, settings.reference)
        for model in models:
            engine = await open_engine(model, date=date, servers=settings.servers, tell=self.observer.noted)
            try:
                await self._read(engine, plain, readings)
                if quality is not None and texts is not None and model in settings.policies:
                    await self._write(engine, quality, texts)
            finally:
                await engine.close()

    async def _read(
        self, engine: Engine, plain: PlainPairs, readings: RowStore[PairReading, PairStatus]
    ) -> None:
        settings, name = self.settings, engine.name
        for note in engine_notes([(name, engine)]):
            self.observer.noted(note)
        spelled = spell_pairs(engine, plain)
        self.known[name] = Known(
            name=name,
            spelled=spelled,
            vocabulary=engine.vocabulary.fingerprint,
            facts=engine_facts(engine),
            continued=_some(spelled.pairs, plain, settings.continue_pairs, settings.seed),
            grid=settings.grid(engine.sampling),
        )
        self.observer.began(f"pairs read by {name}", len(spelled.pairs))
        await read_by(
            engine,
            spelled.pairs,
            readings,
            concurrency=settings.concurrency,
            error_rate=settings.error_rate,
            done=self.observer.advanced,
            tell=self.observer.noted,
        )

    async def _write(self, engine: Engine, quality: Quality, texts: RowStore[Judged, TextStatus]) -> None:
        settings = self.settings
        jobs = self._jobs(self.known[engine.name])
        self.observer.began(f"texts by {engine.name}", len({job.id(engine.name) for job in jobs}))
        await judge_texts(
            engine,
            quality,
            jobs,
            texts,
            max_tokens=settings.max_tokens,
            sampling=settings.continuing(engine.sampling),
            seed=settings.seed,
            concurrency=settings.concurrency,
            error_rate=settings.error_rate,
            done=self.observer.advanced,
            generated=self.observer.wrote,
            tell=self.observer.noted,
        )

    def _jobs(self, known: Known) -> list[Job]:
        """All texts that the figures need."""
        settings, pairs = self.settings, known.continued
        jobs = list(consistency_jobs(pairs, settings.prefix_policies, settings.continuations))
        if settings.continuations:
            jobs += delta_q_jobs(pairs, settings.prefixes_at, settings.continuations)
        return [*jobs, *drawing_jobs(pairs, known.grid, settings.draws)]


def check_model(model: EngineSettings) -> None:
    """What can be known of a model before its turn comes, which may be hours later.

    Raises:
        UserError: its folder is not there, or holds no whole model.
    """
    folder = Path(model.name)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(
            "an adapter, not a whole model",
            where=f"engine {model.name}",
            expected="a model as save_pretrained() writes it",
            remedy="merge it first: `weft align --merge-adapter` writes whole models, and so does PEFT's "
            "merge_and_unload()",
        )
    if not model.is_server and not model.name.startswith("scripted:"):
        model_folder(model.name)


def _some(pairs: Sequence[SpelledPair], plain: PlainPairs, most: int, seed: int) -> tuple[SpelledPair, ...]:
    """The pairs whose prefixes are continued: drawn from all, so that policies share them."""
    rows = [pair.row for pair in plain.pairs]
    Random(f"{seed} continued").shuffle(rows)
    kept = set(rows[:most])
    return tuple(pair for pair in pairs if pair.row in kept)
