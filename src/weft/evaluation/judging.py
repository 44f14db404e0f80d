"""The judge, opened once: it compares the model's responses with the baseline's, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import weft
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings
from weft.evaluation.context import Answers, Context
from weft.evaluation.preferring import (
    PREFERENCES,
    Pair,
    PairJudge,
    Preference,
    Theirs,
    judge_pairs,
    paired,
    read_preferences,
)
from weft.evaluation.result import WinRate
from weft.evaluation.winning import win_rate
from weft.store import Manifest, RowStore
from weft.synthesis.facts import engine_notes


async def compare(
    context: Context,
    engine: EngineSettings,
    ours: Mapping[str, Answers],
    theirs: Mapping[str, Theirs],
    baseline: str,
) -> tuple[tuple[WinRate, ...], Mapping[str, Any]]:
    """Win rates of all tasks of both, and what decides the judge's verdicts.

    Args:
        ours: by task.
        theirs: likewise.
        baseline: its name.

    Raises:
        UserError: the judge cannot be opened, or the output was made with another.
        RunError: the disk or the judge fails for good; what was finished is on disk.
    """
    settings, tell = context.settings, context.observer.noted
    opened = await open_engine(engine, date=context.date, servers=settings.servers, tell=tell)
    try:
        for note in engine_notes([("judge", opened)]):
            tell(note)
        judge = PairJudge(opened, seed=settings.seed, concurrency=settings.concurrency)
        found = []
        for task in ours:
            if task in theirs:
                pairs = paired(ours[task].responses, theirs[task])
                rows = await _judged(context, judge, task, pairs)
                figures = win_rate(task, judge.name, baseline, rows, pairs=len(pairs), seed=settings.seed)
                found.append(figures)
        return tuple(found), dict(judge.describe())
    finally:
        await opened.close()


async def _judged(context: Context, judge: PairJudge, task: str, pairs: Sequence[Pair]) -> list[Preference]:
    context.observer.began(f"pairs judged of {task}", len(pairs))
    path = context.output / f"{task}.wins.jsonl"
    deciding, info = {"judge": dict(judge.describe())}, {"command": list(context.command)}
    manifest = Manifest.create(weft.__version__, deciding, info, date=context.date.isoformat())
    with RowStore(PREFERENCES, path, manifest, overwrite=context.overwrite) as store:
        for note in store.repaired:
            context.observer.noted(note)
        await judge_pairs(
            judge,
            pairs,
            store,
            concurrency=context.settings.concurrency,
            error_rate=context.settings.error_rate,
            done=context.observer.advanced,
            tell=context.observer.noted,
        )
    return read_preferences(path, pairs)
