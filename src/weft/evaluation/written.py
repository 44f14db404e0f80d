"""One model, opened once: it answers all tasks in all ways of drawing, and its answers are judged.

It does not know figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.engines.base import Engine
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.evaluation.answering import Responses, alone, answer, drawing, outcomes, unreadable_prompts
from weft.evaluation.context import Answers, Context, Task
from weft.evaluation.verdicts import verdicts
from weft.records import Sampling
from weft.synthesis.facts import engine_facts, engine_notes
from weft.synthesis.settings import SynthesisSettings
from weft.verify.base import Verifier
from weft.verify.settings import VerifySettings

MODEL, BASELINE = "model", "baseline"
"""A model's part."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of one model."""

    answers: Mapping[str, tuple[Answers, ...]]
    """By task; the first way of drawing is the one that was asked for."""
    facts: Mapping[str, Any]
    """What decides the model's texts."""


async def write(
    context: Context, model: EngineSettings, part: str, folder: Path, verifiers: Mapping[str, Verifier]
) -> Written:
    """Let a model answer, where it has not yet.

    Args:
        part: :data:`MODEL`, which is drawn from in all ways, or :data:`BASELINE`.
        folder: where its responses go.
        verifiers: open ones, by name.

    Raises:
        UserError: the model cannot be opened, or draw so; or the output was made with others.
        RunError: the disk or an engine fails for good; what was finished is on disk.
    """
    settings, tell = context.settings, context.observer.noted
    engine = await open_engine(model, date=context.date, servers=settings.servers, tell=tell)
    try:
        for note in engine_notes([(part, engine)]):
            tell(note)
        facts = dict(engine_facts(engine))
        if part == MODEL:
            context.check_same(facts)
        common = _common(context, model)
        own = common.sampling.record().over(engine.sampling)
        if own.temperature == 0 and settings.samples > 1:
            raise _all_equal(settings.samples, model)
        ways = settings.grid(own) if part == MODEL else (own,)
        answers = {}
        for task in context.tasks:
            found = []
            for way in ways if task.verifier else ways[:1]:
                one = _One(context, engine, part, task, drawing(common, way), _path(folder, task, way, own))
                found.append(await one.run(way, verifiers))
            answers[task.name] = tuple(found)
        return Written(answers, facts)
    finally:
        await engine.close()


@dataclass(frozen=True, slots=True)
class _One:
    """One model at one task in one way of drawing."""

    context: Context
    engine: Engine
    part: str
    task: Task
    settings: SynthesisSettings
    path: Path

    async def run(self, way: Sampling, verifiers: Mapping[str, Verifier]) -> Answers:
        context, task, samples = self.context, self.task, self.settings.samples
        at = f" at {way.temperature:g}/{way.top_p:g}" if self.path.parent.name == "grid" else ""
        context.observer.began(
            f"responses by the {self.part} to {task.name}{at}", task.prompts.count * samples
        )
        await answer(
            self.settings,
            self.engine,
            task.prompts,
            self.path,
            date=context.date,
            overwrite=context.overwrite,
            observer=context.observer,
        )
        responses = Responses(self.path, task.ids, samples)
        if task.verifier is None:
            return Answers(responses, outcomes(responses, None), way)
        verifier = verifiers[task.verifier]
        judged = await verdicts(
            verifier,
            VerifySettings(
                verifier=task.verifier,
                concurrency=context.settings.concurrency,
                error_rate=context.settings.error_rate,
            ),
            self.path,
            overwrite=context.overwrite,
            observer=context.observer,
            command=context.command,
        )
        unreadable = await unreadable_prompts(responses, judged, verifier)
        return Answers(responses, outcomes(responses, judged, unreadable), way, unreadable)


def _common(context: Context, model: EngineSettings) -> SynthesisSettings:
    settings = context.settings
    return alone(
        student=model,
        samples=settings.samples,
        sampling=settings.sampling,
        limits=settings.limits,
        seed=settings.seed,
        concurrency=settings.concurrency,
        servers=settings.servers,
        error_rate=settings.error_rate,
    )


def _all_equal(samples: int, model: EngineSettings) -> UserError:
    return UserError(
        f"the model draws greedily by itself, so {samples} responses to one prompt would be equal",
        where=f"engine {model.name}",
        remedy="leave --samples out, or set --temperature above 0",
    )


def _path(folder: Path, task: Task, way: Sampling, own: Sampling) -> Path:
    if way == own:
        return folder / f"{task.name}.jsonl"
    return folder / "grid" / f"{task.name}-t{way.temperature:g}-p{way.top_p:g}.jsonl"
