"""One call for the whole job: a model and tasks in, :class:`weft.evaluation.result.Evaluation` out.

::

    DIR/eval.json                     the result
    DIR/TASK.jsonl                    responses, as traces
    DIR/TASK.verified.jsonl           the same with verdicts
    DIR/grid/TASK-t0.6-p0.8.jsonl     the same in another way of drawing
    DIR/baseline/TASK.jsonl           the same of a baseline that is an engine
    DIR/TASK.wins.jsonl               what the judge said of each pair of responses
    DIR/lm-eval/                      what lm-evaluation-harness wrote

Models are opened one after the other. All figures are computed from the rows on disk: a run that was killed
and goes on gives the same result as one that was not. One run at a time writes to a folder, and a folder is
of one model.

It decides what is measured; how, the other modules of this package know.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import weft
from weft.errors import UserError
from weft.evaluation.baseline import Baseline, read_baseline
from weft.evaluation.context import Answers, Context, Task, first_date, open_task
from weft.evaluation.figures import compared, task_figures
from weft.evaluation.harness import check_harness, run_harness
from weft.evaluation.judging import compare
from weft.evaluation.preferring import of_texts, of_traces
from weft.evaluation.result import Cell, Comparison, Evaluation, LmEvalFigure, TaskFigures, WinRate
from weft.evaluation.settings import RESULT, EvalSettings
from weft.evaluation.words import said
from weft.evaluation.written import BASELINE, MODEL, Written, write
from weft.gap.encoding import check_result, write_result
from weft.gap.made import Made
from weft.gap.ranking.measure import Observer, Silence, check_model
from weft.store.files import writing
from weft.store.manifest import utc_now
from weft.store.output import lock
from weft.verify.base import Verifier
from weft.verify.opening import open_verifier

HARNESS = "lm-eval"
"""Folder of what lm-evaluation-harness writes."""
LOCK = ".lock"
"""Held by the run that writes to the folder."""


def evaluate(
    settings: EvalSettings,
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Evaluation:
    """Say how good a model is, and keep what it wrote.

    Args:
        output: the result's folder.
        overwrite: remove what it held before of these tasks.
        command: the command line's arguments, for the result's manifest.

    Returns:
        The result; :attr:`Evaluation.failed` says whether something is left to be tried again.

    Raises:
        UserError: settings, data or models do not fit, or the output was made with others.
        RunError: the disk or an engine fails for good; what was finished is on disk.
    """
    _check(settings, output)
    names = [task.name for task in settings.tasks]
    known = settings.baseline_result
    baseline = None if known is None else read_baseline(known, names)
    earlier = None if overwrite else _earlier(output / RESULT)
    context = Context(
        settings=settings,
        output=output,
        overwrite=overwrite,
        observer=observer or Silence(),
        command=tuple(command),
        tasks=tuple(open_task(task, settings, output) for task in settings.tasks),
        date=first_date(output, settings.tasks, overwrite=overwrite),
        earlier=earlier,
    )
    with _held(output):
        if overwrite:
            # A result beside rows that it was not made from would be a lie.
            with writing(output):
                (output / RESULT).unlink(missing_ok=True)
        found = asyncio.run(_evaluate(context, baseline))
        if earlier and (gone := [task.name for task in earlier.tasks if task.name not in names]):
            said = "the result that was there had other tasks as well, whose responses stay: "
            context.observer.noted(said + ", ".join(gone))
        write_result(found, output / RESULT)
    return found


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, made and locked; gone again if nothing comes into it."""
    there = folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(file, folder)
        yield
    finally:
        os.close(file)
        if not there and [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


def _earlier(path: Path) -> Evaluation | None:
    """The result that is there; ``None``: there is none that this Weft reads."""
    try:
        return Evaluation.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def _check(settings: EvalSettings, output: Path) -> None:
    """Find out, before anything is opened, what would keep the result from being made."""
    if output.exists() and not output.is_dir():
        raise UserError(
            "a file, not a folder",
            where=str(output),
            expected="a folder for the result",
            remedy="choose another output",
        )
    check_result(output / RESULT, "evaluation")
    if settings.lm_eval is not None:
        check_harness(settings.model, settings.lm_eval)
    is_engine = settings.baseline_result is None and settings.baseline_texts is None
    baseline = settings.baseline if is_engine else None
    for engine in (settings.model, baseline, settings.judge):
        if engine is not None:
            check_model(engine)


async def _evaluate(context: Context, earlier: Baseline | None) -> Evaluation:
    settings = context.settings
    facts: dict[str, Any] = {}
    wins: tuple[WinRate, ...] = ()
    theirs: dict[str, Answers] = {}
    written = Written({}, {})
    # First, since it finds out in seconds whether its tasks have such names.
    lm_eval = await _lm_eval(context)
    async with AsyncExitStack() as stack:
        verifiers = {
            name: await _opened(name, context, stack)
            for name in dict.fromkeys(task.verifier for task in context.tasks)
            if name is not None
        }
        facts["verifiers"] = {name: dict(verifier.describe()) for name, verifier in verifiers.items()}
        if context.tasks:
            written = await write(context, settings.model, MODEL, context.output, verifiers)
            facts[MODEL] = written.facts
        if earlier is not None:
            theirs = earlier.answers([task.name for task in context.tasks])
        elif settings.baseline is not None and settings.baseline_texts is None:
            folder = context.output / BASELINE
            other = await write(context, settings.baseline, BASELINE, folder, verifiers)
            facts[BASELINE], theirs = other.facts, _first(other.answers)
    called = earlier.name if earlier else settings.baseline.name if settings.baseline else ""
    if settings.judge is not None:
        texts = {task: of_traces(answers.responses) for task, answers in theirs.items()}
        if settings.baseline_texts is not None:
            read = of_texts(settings.baseline_texts, settings.split)
            texts = dict.fromkeys(written.answers, read)
        ours = _first(written.answers)
        wins, facts["judge"] = await compare(context, settings.judge, ours, texts, called)
    tasks = [(task, written.answers[task.name]) for task in context.tasks]
    found = Evaluation(
        model=settings.model.name,
        tasks=tuple(_figures(context, task, answers[0]) for task, answers in tasks),
        grid=tuple(cell for task, answers in tasks for cell in _cells(context, task, answers)),
        comparisons=_comparisons(context, _first(written.answers), theirs, called),
        wins=wins,
        lm_eval=lm_eval,
        said=(),
        made=_made(context, facts),
    )
    alone = [task.name for task, _ in tasks if (theirs or earlier) and task.name not in theirs]
    judged_by = {task.name: task.verifier for task in earlier.evaluation.tasks} if earlier else {}
    return replace(found, said=said(found, alone, judged_by))


async def _opened(name: str, context: Context, stack: AsyncExitStack) -> Verifier:
    settings = context.settings
    verifier = await open_verifier(
        name,
        workers=settings.workers,
        seconds=settings.seconds,
        memory_bytes=settings.memory_bytes,
        unsandboxed=settings.unsandboxed,
        date=context.date,
        servers=settings.servers,
        concurrency=settings.concurrency,
        tell=context.observer.noted,
    )
    stack.push_async_callback(verifier.close)
    return verifier


async def _lm_eval(context: Context) -> tuple[LmEvalFigure, ...]:
    settings, folder = context.settings, context.output / HARNESS
    if settings.lm_eval is None:
        return ()
    context.observer.noted(f"lm-evaluation-harness runs; {folder / 'log.txt'} says how far it is")
    return await run_harness(settings.model, settings.lm_eval, folder, seed=settings.seed, date=context.date)


def _first(answers: Mapping[str, Sequence[Answers]]) -> dict[str, Answers]:
    """Those in the way of drawing that was asked for."""
    return {task: found[0] for task, found in answers.items()}


def _figures(context: Context, task: Task, answers: Answers) -> TaskFigures:
    return task_figures(
        task.name,
        task.verifier,
        answers.outcomes,
        prompts=task.prompts.count,
        samples=answers.responses.samples,
        ks=context.settings.ks,
        unreadable=answers.unreadable,
        seed=context.settings.seed,
    )


def _cells(context: Context, task: Task, answers: Sequence[Answers]) -> list[Cell]:
    if len(answers) < 2:
        return []
    return [
        Cell(one.way.temperature or 0.0, one.way.top_p or 1.0, _figures(context, task, one))
        for one in answers
        if one.way is not None
    ]


def _comparisons(
    context: Context, ours: Mapping[str, Answers], theirs: Mapping[str, Answers], baseline: str
) -> tuple[Comparison, ...]:
    return tuple(
        compared(
            task.name,
            baseline,
            ours[task.name].outcomes,
            theirs[task.name].outcomes,
            seed=context.settings.seed,
        )
        for task in context.tasks
        if task.name in theirs and task.verifier
    )


def _made(context: Context, facts: Mapping[str, Any]) -> Made:
    deciding = {**context.settings.deciding(), "facts": dict(facts)}
    files = {task.prompts.name: task.prompts.digest for task in context.tasks}
    return Made(weft.__version__, utc_now(), context.command, deciding, files)
