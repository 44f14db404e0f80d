"""Stages ``table``: what was evaluated, side by side, over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

import weft
from weft.errors import UserError
from weft.gap.encoding import write_result
from weft.gap.made import Made
from weft.recipes.kinds.base import EVALUATIONS, Estimate, FileKind, Known, Screen, several
from weft.recipes.table import Outcomes, Row, Table, over_seeds
from weft.store.files import replace_file, writing
from weft.store.manifest import utc_now


class TableStage(BaseModel):
    """One table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Mapping[str, tuple[str, ...]] = Field(min_length=1)
    """By label: the evaluations that the row is over, those of a model's seeds."""
    columns: tuple[str, ...] = ()
    """Tasks; left out: all, in the order of the evaluations."""
    title: str = "Accuracy"
    digits: int = Field(3, ge=0, le=6)
    resamples: int = Field(2000, ge=2)
    seed: int = 0

    @field_validator("rows", mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        return (
            {label: several(names) for label, names in value.items()} if isinstance(value, Mapping) else value
        )

    _several = field_validator("columns", mode="before")(several)


class _Table(FileKind):
    def run(self, settings: TableStage, output: Path, screen: Screen) -> None:
        found = {label: [evaluated(Path(name)) for name in names] for label, names in settings.rows.items()}
        there = [one for row in found.values() for one in row if one]
        if not there:
            raise UserError("none of its evaluations is there", where=str(output))
        columns = settings.columns or tuple(dict.fromkeys(task for one in there for task in one))
        rows = []
        for label, row in found.items():
            of = {column: [one[column] for one in row if one.get(column)] for column in columns}
            figures = tuple(
                over_seeds(of[column], seed=settings.seed, resamples=settings.resamples) for column in columns
            )
            rows.append(Row(label, figures, max(map(len, of.values()), default=0)))
        made = Made(weft.__version__, utc_now(), (), settings.model_dump(mode="json"), {})
        table = Table(made, settings.title, columns, tuple(rows))
        with writing(output):
            replace_file(output.with_suffix(".md"), [table.to_markdown(settings.digits).encode()])
            write_result(table, output)

    def estimate(self, settings: TableStage, output: Path, known: Known) -> Estimate:
        return Estimate(how="from the evaluations")


def evaluated(folder: Path) -> dict[str, Outcomes]:
    """By task, what an evaluation found of each prompt: the share of its responses that were right. Nothing
    where there is no evaluation.

    Raises:
        UserError: the folder holds something else.
    """
    from weft.evaluation.baseline import Baseline
    from weft.evaluation.result import Evaluation
    from weft.evaluation.settings import RESULT

    path = folder if folder.suffix == ".json" else folder / RESULT
    if not path.exists():
        return {}
    try:
        evaluation = Baseline(path.parent, Evaluation.from_json(json.loads(path.read_bytes())))
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"no evaluation: {error}", where=str(path), expected="what `weft eval` left"
        ) from error
    found: dict[str, Outcomes] = {}
    tasks = [task.name for task in evaluation.evaluation.tasks]
    for name, answers in evaluation.answers(tasks).items():
        right: dict[str, list[bool]] = {}
        for outcome in answers.outcomes:
            if outcome.right is not None:
                right.setdefault(outcome.prompt, []).append(outcome.right)
        found[name] = {prompt: sum(said) / len(said) for prompt, said in right.items()}
    return found


TABLE = _Table(
    "table", TableStage, frozenset({"rows"}), suffix=".json", tolerant=True, takes={"rows": EVALUATIONS}
)
