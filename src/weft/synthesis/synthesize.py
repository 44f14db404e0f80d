"""One call for the whole job: settings and prompts in, traces on disk."""

from __future__ import annotations

import asyncio
import datetime
import platform
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import weft
from weft.boundary.opening import open_boundary
from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.prompts import PromptSource
from weft.records import Author, Provenance, Status
from weft.store import Manifest, TraceStore, read_manifest
from weft.synthesis.cooperate import Cooperation
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
    observer = observer or Silence()
    boundaries = {author: open_boundary(settings.boundary_of(author)) for author in Author}
    created = None if overwrite else read_manifest(output)
    today = datetime.datetime.now(datetime.UTC).date()
    date = datetime.date.fromisoformat(created.date) if created else today
    with ExitStack() as stack:
        engines: dict[Author, Engine] = {}
        for author, engine in settings.engines.items():
            engines[author] = open_engine(engine, date=date)
            stack.callback(engines[author].close)
        sampling = {author: settings.sampling_of(author).over(engines[author].sampling) for author in engines}
        models = Cooperation(
            engines,
            boundaries=boundaries if settings.strategy is Strategy.TESSY else {},
            sampling=sampling,
            limits=settings.limits.record(),
            step=None if settings.step == "auto" else settings.step,
            seed=settings.seed,
            watch=observer.generated,
        )
        student = engines[Author.STUDENT]
        if models.has_thinking:
            # A template whose rows would lose their thinking is found out before anything is written.
            student.template.completion("thinking", "response")
        write = writer(
            settings.strategy, models, answer_by=settings.answer_by, score_samples=settings.score_samples
        )
        deciding = {
            **settings.deciding(),
            "sampling": {author.value: asdict(sampling[author]) for author in engines},
            "has_thinking": models.has_thinking,
            "weights": {author.value: engines[author].describe().get("weights") for author in engines},
            "vocabularies": {author.value: engines[author].vocabulary.fingerprint[:16] for author in engines},
        }
        info = {
            "prompts": {"name": prompts.name, "count": prompts.count, "sha256": prompts.digest},
            "engines": {author.value: dict(engines[author].describe()) for author in engines},
            "step": settings.step,
            "samples": settings.samples,
            "concurrency": settings.concurrency,
            "command": sys.argv[1:],
            "python": platform.python_version(),
            "platform": platform.platform(),
        }
        manifest = Manifest.create(weft.__version__, deciding, info)
        store = stack.enter_context(TraceStore(output, manifest, overwrite=overwrite))
        for note in store.repaired:
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
            most_errors=settings.most_errors,
            observer=observer,
        )
        asyncio.run(run.run(prompts))
        return store.complete > 0 and not store.counts[Status.ENGINE_ERROR]
