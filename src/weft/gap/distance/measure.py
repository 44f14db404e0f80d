"""``style``: from names of files to how far each is from the student.

It reads the samples (:mod:`weft.gap.distance.reading`), has the readings measured
(:mod:`weft.gap.distance.measuring`) and says what made the figures. It does not know how they are computed
or shown.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import platform
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import weft
from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import UserError
from weft.gap.distance.measuring import Source, measure_sources
from weft.gap.distance.reading import Observer, ReadingRun, Readings, Silence, scorer
from weft.gap.distance.readings import READINGS
from weft.gap.distance.result import SourceGap, StyleGap
from weft.gap.distance.settings import AUTO, StyleSettings
from weft.gap.distance.sources import NOT_DRAWN, Samples, open_sets
from weft.gap.encoding import check_result, write_result
from weft.gap.made import Made
from weft.store import Manifest, RowStore, check_output, check_source, first_day
from weft.store.files import writing
from weft.store.manifest import utc_now
from weft.synthesis.facts import engine_facts, engine_notes

if TYPE_CHECKING:
    from weft.boundary.measuring.evaluate import Subject

OWN = "student-only"
"""The strategy whose traces may serve as the student's own."""


def style(
    traces: str | Path | Sequence[str | Path],
    *,
    student: str | EngineSettings,
    reference: str | Path | None = None,
    boundary: str = AUTO,
    boundary_device: str | None = None,
    limit: int | None = 1000,
    seed: int = 0,
    resamples: int = 1000,
    split: str = "train",
    output: str | Path | None = None,
    overwrite: bool = False,
    concurrency: int = 32,
    servers: ServerSettings | None = None,
    error_rate: float = 0.5,
    observer: Observer | None = None,
) -> StyleGap:
    """How far sets of texts are from a student.

    Args:
        traces: files or data sets of texts, each a source; see :mod:`weft.gap.distance.samples`.
        student: an engine that gives log-probabilities: a hub id, a folder, MODEL@URL, micro:student.
        reference: the student's own texts for the same prompts; similarity and markers need them.
        boundary: tells style from capability in thinking; ``auto`` or ``none``, or a boundary's name.
        boundary_device: of a classifier.
        limit: texts of each source, drawn by prompt, the same prompts for all; ``None`` for all.
        seed: decides which are drawn, and the intervals.
        resamples: of prompts, for each interval.
        split: of data sets.
        output: a ``.json`` file for the result; readings, token by token, are kept beside it, and a run that
            was stopped goes on from them. ``None``: they are gone afterwards.
        overwrite: remove what the output held before.
        concurrency: texts under way at a time.
        servers: how long servers are waited for.
        error_rate: share of engine errors among the last texts that ends the run.
        observer: told what happens.

    Raises:
        UserError: settings, files or models do not fit, or the output was made with others.
        RunError: the disk or the engine fails for good; what was read is on disk.
    """
    settings = StyleSettings(
        student=EngineSettings(name=student) if isinstance(student, str) else student,
        boundary=boundary,
        boundary_device=boundary_device,
        limit=limit,
        seed=seed,
        resamples=resamples,
        split=split,
        concurrency=concurrency,
        servers=servers or ServerSettings(),
        error_rate=error_rate,
    )
    names = [traces] if isinstance(traces, str | Path) else traces
    return measure(
        settings,
        [str(name) for name in names],
        reference=None if reference is None else str(reference),
        output=None if output is None else Path(output),
        overwrite=overwrite,
        observer=observer,
    )


def measure(
    settings: StyleSettings,
    names: Sequence[str],
    *,
    reference: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> StyleGap:
    """As :func:`style`, from settings.

    Args:
        command: the command line's arguments, for the record.
    """
    watching = observer or Silence()
    if output is not None:
        _check_output(output, [*names, *([reference] if reference else [])])
    sets = _open_sets(settings, names, reference)
    for samples in sets:
        if left := samples.left_out.get(NOT_DRAWN):
            watching.noted(f"{samples.name}: {samples.texts - left:,} of {samples.texts:,} texts are drawn")
    with _place(output) as path:
        opened = asyncio.run(_read(settings, sets, path, overwrite and output is not None, watching))
        readings = Readings(path, sets, seed=settings.seed)
        _say_reference(opened, sets, reference, watching)
        found, comparisons = measure_sources(
            [_source(samples, readings) for samples in (sets[:-1] if reference else sets)],
            _source(sets[-1], readings) if reference else None,
            seed=settings.seed,
            resamples=settings.resamples,
        )
    if reference:
        _say_thinking(found[:-1], found[-1], watching)
    result = StyleGap(
        student=settings.student.name,
        boundary=settings.boundary_name,
        reference=reference,
        sources=found,
        comparisons=comparisons,
        made=_made(settings, opened, sets, command),
        readings=None if output is None else path.name,
    )
    if output is not None:
        with writing(output):
            write_result(result, output)
    return result


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is known of the models, once they are closed."""

    student: str
    facts: Mapping[str, Any]
    boundary: Mapping[str, Any] | None


async def _read(
    settings: StyleSettings, sets: Sequence[Samples], path: Path, overwrite: bool, observer: Observer
) -> _Opened:
    """Have all samples read; their readings are in ``path``."""
    date = first_day(path, overwrite=overwrite)
    async with AsyncExitStack() as stack:
        boundary = _open_boundary(settings)
        engine = await open_engine(settings.student, date=date, servers=settings.servers, tell=observer.noted)
        stack.push_async_callback(engine.close)
        scorer(engine)  # before anything is written
        opened = _Opened(engine.name, dict(engine.describe()), _description(boundary))
        manifest = _manifest(settings, engine, opened, sets, date)
        store = stack.enter_context(RowStore(READINGS, path, manifest, overwrite=overwrite))
        run = ReadingRun(
            engine,
            boundary,
            store,
            concurrency=settings.concurrency,
            error_rate=settings.error_rate,
            observer=observer,
        )
        for note in (*store.repaired, *engine_notes([("student", engine)])):
            observer.noted(note)
        observer.began(sum(len(samples.drawn) for samples in sets))
        await run.run(sets)
    return opened


def _open_boundary(settings: StyleSettings) -> Subject | None:
    if settings.boundary_name is None:
        return None
    from weft.boundary.measuring.evaluate import open_subject

    return open_subject(settings.boundary_name, device=settings.boundary_device)


def _description(boundary: Subject | None) -> Mapping[str, Any] | None:
    return None if boundary is None else {"name": boundary.name, **boundary.boundary.describe()}


def _manifest(
    settings: StyleSettings,
    engine: Engine,
    opened: _Opened,
    sets: Sequence[Samples],
    date: datetime.date,
) -> Manifest:
    """More samples, or other files, only add readings: they decide none of those that are there."""
    boundary = dict(opened.boundary or {})
    boundary.pop("name", None)
    deciding = {
        "student": engine_facts(engine),
        "vocabulary": engine.vocabulary.fingerprint[:16],
        "boundary": boundary or None,
    }
    info = {
        "student": {"name": engine.name, **opened.facts},
        "files": {samples.name: samples.sha256 for samples in sets},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return Manifest.create(weft.__version__, deciding, info, date=date.isoformat())


def _open_sets(settings: StyleSettings, names: Sequence[str], reference: str | None) -> list[Samples]:
    """The sources, and the reference last. A file that is named as both is read once."""
    if not names:
        raise UserError("nothing to measure", expected="a file of traces, or of SFT data")
    places = [_place_of(name) for name in names]
    for place, name in zip(places, names, strict=True):
        if places.count(place) > 1:
            raise UserError("the file is named twice", where=name, remedy="name it once")
    if reference is not None:
        names = [name for name, place in zip(names, places, strict=True) if place != _place_of(reference)]
        if not names:
            raise UserError(
                "the only source is the reference itself",
                where=reference,
                remedy="name the data that are to be compared with it",
            )
        names = [*names, reference]
    return open_sets(names, limit=settings.limit, seed=settings.seed, split=settings.split)


def _place_of(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _source(samples: Samples, readings: Readings) -> Source:
    return Source(
        label=samples.label,
        file=samples.name,
        strategy=samples.strategy,
        left_out={**samples.left_out, **readings.rejected(samples.label)},
        readings=partial(readings.of, samples.label),
    )


def _made(settings: StyleSettings, opened: _Opened, sets: Sequence[Samples], command: Sequence[str]) -> Made:
    said = {
        "student": {"name": opened.student, **opened.facts},
        "boundary": opened.boundary,
        **settings.model_dump(mode="json", include={"limit", "split", "seed", "resamples"}),
    }
    return Made(
        weft=weft.__version__,
        created=utc_now(),
        command=tuple(command),
        settings=json.loads(json.dumps(said, default=str)),
        files={samples.name: samples.sha256 for samples in sets},
    )


def _say_reference(
    opened: _Opened, sets: Sequence[Samples], reference: str | None, observer: Observer
) -> None:
    """What a person should know of the reference, or of doing without."""
    student = opened.student
    if reference is None:
        own = [one.name for one in sets if one.writers == {student} and one.strategy == OWN][:1]
        others = [one.name for one in sets if one.name not in own] or ["OTHERS"]
        command = ["weft", "synth", "PROMPTS", "--student", student, "--strategy", OWN, "--seed", "1"]
        if own:
            command = ["weft", "gap", "style", *others, "--student", student, "--reference", own[0]]
        lacking = "similarity and markers need the student's own texts of the same prompts"
        how = f"{own[0]} holds some" if own else "have them written"
        observer.noted(f"{lacking}; {how}: {shlex.join(command)}")
        return
    if sets[-1].strategy not in ("", OWN):
        observer.noted(f"the reference {reference} was written by {sets[-1].strategy}, not {OWN}")
    strangers = ", ".join(sorted(sets[-1].writers - {"", opened.student}))
    if strangers:
        observer.noted(f"the reference {reference} names {strangers} as its writer; is that {student}?")
    same = ", ".join(samples.name for samples in sets[:-1] if samples.seeds & sets[-1].seeds)
    if same:
        observer.noted(
            f"{same}: written with the reference's seed; texts that share draws look more alike than they "
            "are, so write the reference with another --seed"
        )


def _say_thinking(sources: Sequence[SourceGap], own: SourceGap, observer: Observer) -> None:
    """Texts that think and texts that do not are of two kinds, whatever their distance."""

    def thinks(source: SourceGap) -> bool:
        part = source.by_part.get("thinking")
        return part is not None and part.tokens > 0

    for source in sources:
        if source.texts and own.texts and thinks(source) != thinks(own):
            one, other = (own.label, source.label) if thinks(own) else (source.label, own.label)
            observer.noted(
                f"{one} thinks and {other} does not: the distance between them is of two kinds of text; "
                f"draw the reference as {source.label} was written"
            )


@contextmanager
def _place(output: Path | None) -> Iterator[Path]:
    """Where the readings go: beside the output, or to a folder that is gone afterwards."""
    if output is not None:
        yield _readings_path(output)
        return
    with tempfile.TemporaryDirectory(prefix="weft-gap-") as folder:
        yield Path(folder) / "style.readings.jsonl"


def _readings_path(output: Path) -> Path:
    return output.with_suffix(".readings.jsonl")


def _check_output(output: Path, sources: Iterable[str]) -> None:
    """Find out what would keep a run from writing its result.

    Raises:
        UserError: it is no ``.json`` file, or a file there is not Weft's, or it is one of the sources.
    """
    readings = _readings_path(output)
    for source in map(Path, sources):
        check_source(readings, source, "texts")
        if output.exists() and source.exists() and output.samefile(source):
            raise UserError("the output is a file that is read", where=str(output), remedy="choose another")
    check_result(output, "style-gap")
    check_output(readings, READINGS.name)
