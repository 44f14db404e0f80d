"""Another evaluation, as what a model is compared with: its rows lie beside its eval.json.

It does not know engines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weft.errors import UserError
from weft.evaluation.answering import Responses, outcomes
from weft.evaluation.context import Answers
from weft.evaluation.result import Evaluation, TaskFigures
from weft.evaluation.verdicts import read_verdicts, verified_path

EXPECTED = "the folder (or eval.json) that `weft eval -o` wrote"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An evaluation that was made before."""

    folder: Path
    evaluation: Evaluation

    @property
    def name(self) -> str:
        return self.evaluation.model

    def task(self, name: str) -> TaskFigures | None:
        """Its figures of a task of this name; ``None``: it has none."""
        return next((task for task in self.evaluation.tasks if task.name == name), None)

    def answers(self, tasks: Sequence[str]) -> dict[str, Answers]:
        """What it wrote for those of the tasks that it has."""
        found = {}
        for name in tasks:
            task = self.task(name)
            if task is not None:
                path = self.folder / f"{name}.jsonl"
                responses = Responses(path, None, task.samples)
                judged = read_verdicts(verified_path(path)) if task.verifier else None
                found[name] = Answers(
                    responses, outcomes(responses, judged, task.unreadable), None, task.unreadable
                )
        return found


def read_baseline(path: Path, tasks: Sequence[str]) -> Baseline:
    """The evaluation in a file.

    Args:
        tasks: names, of which it must have one.

    Raises:
        UserError: it is none, its rows are not beside it, or it has no such task.
    """
    try:
        evaluation = Evaluation.from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), expected=EXPECTED) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"no evaluation: {error}", where=str(path), expected=EXPECTED) from error
    shared = [task for task in evaluation.tasks if task.name in tasks]
    if not shared:
        names = ", ".join(task.name for task in evaluation.tasks) or "none"
        raise UserError(
            f"the baseline has no task of the same name; its tasks: {names}",
            where=str(path),
            expected=", ".join(tasks),
            remedy="name the tasks alike: --tasks NAME=FILE",
        )
    for task in shared:
        rows = path.parent / f"{task.name}.jsonl"
        if not rows.is_file():
            raise UserError(
                f"the responses of the task {task.name} are not beside it",
                where=str(path),
                expected=rows.name,
                remedy="keep an evaluation's folder whole",
            )
    return Baseline(path.parent, evaluation)
