"""What a run will cost, before it is spent: requests, tokens, steps.

Figures are upper bounds from the settings' limits; where a stage was begun, what its traces took so far gives
an expected one. Nothing is fetched: the rows of a hub's data set are not known.

It does not run anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import WeftError
from weft.recipes.kinds.base import Estimate, Spent
from weft.recipes.plan import Plan
from weft.recipes.state import Finding, State
from weft.store import rejected_path


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a plan, and of what it would still run."""

    stages: Mapping[str, Estimate]
    requests: int
    tokens: int
    steps: int
    """Of stages that are not done, as far as known: as was measured of those that were begun, of others at
    most."""
    unknown: tuple[str, ...]
    """Stages of which something is not known."""

    @property
    def measured(self) -> bool:
        """Whether something in the sums was measured, so that they are no bounds."""
        return any(one.expected_tokens is not None for one in self.stages.values())


def costs(plan: Plan, findings: Mapping[str, Finding]) -> Costs:
    """What the stages that are not done will cost."""
    known = _Offline({str(stage.output): stage.name for stage in plan.stages}, findings)
    for stage in plan.stages:
        done = findings[stage.name].state is State.DONE
        estimate = stage.kind.estimate(stage.settings, stage.output, known)
        if done:
            estimate = Estimate(rows=estimate.rows, how="done")
        known.estimates[stage.name] = estimate
    left = {name: one for name, one in known.estimates.items() if findings[name].state is not State.DONE}
    unknown = [name for name, one in left.items() if None in (one.requests, one.tokens, one.steps)]
    return Costs(
        known.estimates,
        sum(_first(one.expected_requests, one.requests) for one in left.values()),
        sum(_first(one.expected_tokens, one.tokens) for one in left.values()),
        sum(one.steps or 0 for one in left.values()),
        tuple(unknown),
    )


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


class _Offline:
    """What is known without a network: files that are there, and stages' own estimates."""

    def __init__(self, made: Mapping[str, str], findings: Mapping[str, Finding]) -> None:
        self.estimates: dict[str, Estimate] = {}
        self._findings = findings
        self._made = made
        self._counted: dict[tuple[Any, ...], int | None] = {}

    def rows(self, name: str, **how: Any) -> int | None:
        limit = how.get("limit")
        maker = self._made.get(name)
        if maker is not None and self._findings[maker].state is not State.DONE:
            rows = self.estimates[maker].rows
        else:
            key = (name, *sorted(how.items()))
            if key not in self._counted:
                self._counted[key] = _rows(Path(name))
            rows = self._counted[key]
        if rows is None:
            return limit if name not in self._made and limit else None
        return rows if limit is None else min(rows, limit)

    def tokens_of(self, name: str) -> int | None:
        found = _usage([Path(name)])
        return None if found is None else found["kept"]

    def spent(self, name: str) -> Spent | None:
        path = Path(name)
        found = _usage([path, rejected_path(path)])
        if found is None:
            return None
        stay = self._findings[self._made[name]].state in (State.RESUME, State.AGAIN)
        return Spent(found["traces"], found["requests"], found["generated"], stay)


def _rows(path: Path) -> int | None:
    """Rows of a local file."""
    if not path.is_file():
        return None
    from weft.prompts.source import rows_of

    try:
        return sum(1 for _ in rows_of(str(path), "train", None, "prompt")())
    except WeftError:
        return None


def _usage(paths: list[Path]) -> dict[str, int] | None:
    """What the traces of some files took; a torn last line is left out."""
    found = dict.fromkeys(("traces", "requests", "generated", "kept"), 0)
    for path in paths:
        if not path.is_file():
            continue
        with path.open("rb") as file:
            for line in file:
                try:
                    usage = json.loads(line)["usage"]
                    found["traces"] += 1
                    for name, column in (
                        ("requests", "requests"),
                        ("generated", "generated"),
                        ("kept", "tokens"),
                    ):
                        found[name] += sum(usage[column].values())
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
    return found if found["traces"] else None
