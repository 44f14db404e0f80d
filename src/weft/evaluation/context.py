"""What all parts of one evaluation share: its settings, its tasks, and who is told.

It does not know engines.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import UserError
from weft.evaluation.answering import Responses
from weft.evaluation.figures import Outcome
from weft.evaluation.result import Evaluation
from weft.evaluation.settings import EvalSettings, TaskSettings
from weft.gap.ranking.measure import Observer
from weft.prompts import PromptSource, open_prompts
from weft.records import Sampling
from weft.store import check_output, check_source, first_day, manifest_path


@dataclass(frozen=True, slots=True)
class Task:
    """A task whose prompts were checked."""

    name: str
    verifier: str | None
    prompts: PromptSource
    ids: frozenset[str]
    """Of the prompts."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model wrote for one task in one way of drawing."""

    responses: Responses
    outcomes: Sequence[Outcome]
    way: Sampling | None
    """``None``: not known, of an earlier evaluation."""
    unreadable: Collection[str] = ()
    """Ids of prompts whose right answer cannot be read."""


@dataclass(frozen=True, slots=True)
class Context:
    """One evaluation."""

    settings: EvalSettings
    output: Path
    overwrite: bool
    observer: Observer
    command: tuple[str, ...]
    tasks: tuple[Task, ...]
    date: datetime.date
    """What templates print as today: the day of the output's first run, in all files of it."""
    earlier: Evaluation | None = None
    """The result that the output holds."""

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Whether the output is this model's.

        Args:
            facts: what decides the model's texts.

        Raises:
            UserError: it holds another's evaluation.
        """
        there = (self.earlier.made.settings.get("facts") or {}).get("model") if self.earlier else None
        if self.earlier and there is not None and there != json.loads(json.dumps(facts, default=str)):
            raise UserError(
                f"it holds the evaluation of another model, {self.earlier.model}",
                where=str(self.output),
                remedy="choose another output, or --overwrite to start again",
            )


def open_task(task: TaskSettings, settings: EvalSettings, output: Path) -> Task:
    """Check a task's prompts and where its responses go.

    Raises:
        UserError: prompts or output do not fit.
    """
    path = output / f"{task.name}.jsonl"
    check_output(path)
    check_source(path, Path(task.prompts), "prompts")
    prompts = open_prompts(
        task.prompts,
        split=task.split or settings.split,
        limit=task.limit or settings.limit,
        prompt_column=task.prompt_column or settings.prompt_column,
    )
    ids = frozenset(prompt.id for prompt in prompts)
    return Task(task.name, settings.verifier_of(task), prompts, ids)


def first_date(output: Path, tasks: Sequence[TaskSettings], *, overwrite: bool) -> datetime.date:
    """The day of the first run into the output's folder, else this one."""
    paths = [output / f"{task.name}.jsonl" for task in tasks]
    days = [first_day(path, overwrite=overwrite) for path in paths if manifest_path(path).exists()]
    return min(days, default=datetime.datetime.now(datetime.UTC).date())
