"""One call for the whole job: settings and prompts in, traces on disk."""

from __future__ import annotations

import asyncio
import datetime
import platform
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path

import weft
from weft.boundary.base import Boundary
from weft.boundary.opening import open_boundary
from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.prompts import PromptSource
from weft.records import Author, Provenance, Status
from weft.store import Manifest, TraceStore, check_output, check_source, first_day
from weft.synthesis.cooperate import Cooperation
from weft.synthesis.facts import engine_facts, engine_notes
from weft.synthesis.run import Observer, Silence, Synthesis
from weft.synthesis.settings import SynthesisSettings
from weft.synthesis.strategies import Strategy, writer


def synthesize(
    settings: SynthesisSettings,
    prompts: PromptSource,
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> bool:
    """Write the traces of ``prompts`` that ``output`` does not hold yet.

    Returns:
        Whether nothing is left to be tried again: no trace failed by an engine's error, and not every one was
        rejected.

    Raises:
        UserError: settings, models or prompts do not fit, or ``output`` was made with others.
        RunError: the disk or an engine fails for good; what was finished is on disk.
    """
    return asyncio.run(_synthesize(settings, prompts, output, overwrite, observer or Silence()))


async def _synthesize(
    settings: SynthesisSettings, prompts: PromptSource, output: Path, overwrite: bool, observer: Observer
) -> bool:
    check_output(output)
    boundaries = {
        author: open_boundary(
            settings.boundary_of(author),
            threshold=settings.threshold_of(author),
            device=settings.boundary.device,
            tell=observer.noted,
        )
        for author in (Author if settings.strategy is Strategy.TESSY else ())
    }
    check_source(output, Path(prompts.name), "prompts")
    date = first_day(output, overwrite=overwrite)
    async with AsyncExitStack() as stack:
        engines: dict[Author, Engine] = {}
        for author, engine in settings.engines.items():
            engines[author] = await open_engine(
                engine, date=date, servers=settings.servers, tell=observer.noted
            )
            stack.push_async_callback(engines[author].close)
        return await write_traces(
            settings, prompts, output, engines, boundaries, date=date, overwrite=overwrite, observer=observer
        )


async def write_traces(
    settings: SynthesisSettings,
    prompts: PromptSource,
    output: Path,
    engines: Mapping[Author, Engine],
    boundaries: Mapping[Author, Boundary] | None = None,
    *,
    date: datetime.date,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> bool:
    """As :func:`synthesize`, with engines that are open already and stay so.

    Args:
        engines: those of ``settings.engines``.
        boundaries: of both authors, where the strategy lets both write.
        date: what their templates print as today: :func:`weft.store.first_day` of the output.
    """
    observer, boundaries = observer or Silence(), boundaries or {}
    check_output(output)
    check_source(output, Path(prompts.name), "prompts")
    with ExitStack() as stack:
        sampling = {author: settings.sampling_of(author).over(engines[author].sampling) for author in engines}
        for author in engines:
            engines[author].check(sampling[author])
        models = Cooperation(
            engines,
            boundaries=boundaries,
            sampling=sampling,
            limits=settings.limits.record(),
            step=settings.fixed_step,
            seed=settings.seed,
            watch=observer.generated,
            keep_proposals=settings.keep_proposals,
        )
        student = engines[Author.STUDENT]
        # A template whose rows would lose their thinking is found out before anything is written.
        thinking = "thinking" if models.has_thinking else ""
        completion, training_template = student.template.completion(thinking, "response")
        write = writer(
            settings.strategy, models, answer_by=settings.answer_by, score_samples=settings.score_samples
        )
        deciding = {
            **settings.deciding(),
            **(
                {"boundary": {a.value: dict(b.describe()) for a, b in boundaries.items()}}
                if boundaries
                else {}
            ),
            "sampling": {author.value: asdict(sampling[author]) for author in engines},
            "has_thinking": models.has_thinking,
            "row": {"completion": completion.to_dict(), "training_template": training_template},
            "engines": {author.value: engine_facts(engines[author]) for author in engines},
            "vocabularies": {author.value: engines[author].vocabulary.fingerprint[:16] for author in engines},
        }
        info = {
            "prompts": {"name": prompts.name, "count": prompts.count, "sha256": prompts.digest},
            "engines": {author.value: dict(engines[author].describe()) for author in engines},
            "boundaries": {author.value: settings.boundary_of(author) for author in boundaries},
            "step": settings.step,
            "samples": settings.samples,
            "concurrency": settings.concurrency,
            "command": sys.argv[1:],
            "python": platform.python_version(),
            "platform": platform.platform(),
        }
        manifest = Manifest.create(weft.__version__, deciding, info, date=date.isoformat())
        store = stack.enter_context(TraceStore(output, manifest, overwrite=overwrite))
        for note in (*store.repaired, *engine_notes(engines.items())):
            observer.noted(note)
        teacher = engines.get(Author.TEACHER)
        run = Synthesis(
            write,
            template=student.template,
            provenance=Provenance(
                strategy=settings.strategy,
                student=student.name,
                teacher=teacher.name if teacher else None,
                student_sampling=sampling[Author.STUDENT],
                teacher_sampling=sampling.get(Author.TEACHER),
                seed=settings.seed,
                weft=weft.__version__,
            ),
            store=store,
            samples=settings.samples,
            concurrency=settings.concurrency,
            error_rate=settings.error_rate,
            observer=observer,
        )
        await run.run(prompts)
        return store.complete > 0 and not store.counts[Status.ENGINE_ERROR]
