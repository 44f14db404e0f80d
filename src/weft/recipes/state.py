"""What is done, what would run, and why.

Invariants
    - A stage is done if its output is there and was made from the same settings and the same content of its
      inputs; when they were written, and where the run's folder lies, decides nothing. The name by which a
      recipe calls an input file is a setting.
    - An output that somebody changed since is done, too, and said to be changed.
    - What a stage would read that has not run yet is not known: it `waits`, and is judged again when its turn
      comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from weft.recipes.plan import Plan, Stage
from weft.recipes.record import Content, Ended, Record, read_record
from weft.store.manifest import differences

MOST_REASONS = 3


class State(StrEnum):
    """What a run would do about a stage."""

    DONE = "done"
    NEW = "would run"
    RESUME = "would go on"
    AGAIN = "failed, would run again"
    GONE = "its output is gone, would run"
    CHANGED = "changed, would run"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class Finding:
    """A stage's state and what it follows from."""

    state: State
    because: tuple[str, ...]
    record: Record | None
    inputs: Mapping[str, Content]


def inputs_of(stage: Stage, outputs: Mapping[str, Content], before: Record | None) -> dict[str, Content]:
    """What a stage reads: other stages' outputs and files, each as it is now."""
    known = before.inputs if before else {}
    return {
        **{f"stage:{name}": outputs[name] for name in stage.needs if name in outputs},
        **{name: Content.of(path, known.get(name)) for name, path in stage.files.items()},
    }


def judged(stage: Stage, outputs: Mapping[str, Content]) -> Finding:
    """What a run would do about a stage whose inputs are there.

    Args:
        outputs: those of all stages that it needs.
    """
    record = read_record(stage.folder)
    inputs = inputs_of(stage, outputs, record)
    if record is None:
        return Finding(State.NEW, (), None, inputs)
    now = decides(stage, inputs)
    if changed := differences(record.decides, now):
        return Finding(State.CHANGED, _shown(changed), record, inputs)
    if record.state is Ended.BEGUN:
        return Finding(State.RESUME, ("an earlier run was stopped in it",), record, inputs)
    if record.state is Ended.FAILED:
        return Finding(State.AGAIN, tuple(record.message.splitlines()[:1]), record, inputs)
    left = output_of(stage, record).digest
    if left is None:
        return Finding(State.GONE, (), record, inputs)
    because = () if left == record.output.digest else ("what it left was changed since",)
    return Finding(State.DONE, because, record, inputs)


def decides(stage: Stage, inputs: Mapping[str, Content]) -> dict[str, object]:
    """All that decides a stage's output, as its record would say it."""
    return fresh(stage, inputs, "", "").decides


def fresh(stage: Stage, inputs: Mapping[str, Content], weft: str, now: str) -> Record:
    """The record of a stage that begins."""
    return Record(
        stage.name, stage.kind.name, stage.kind.version, stage.decides, inputs, Ended.BEGUN, weft, now
    )


def survey(plan: Plan) -> dict[str, Finding]:
    """The state of every stage, before anything runs."""
    found: dict[str, Finding] = {}
    outputs: dict[str, Content] = {}
    for stage in plan.stages:
        waiting = [name for name in stage.needs if found[name].state is not State.DONE]
        if waiting:
            more = f" and {len(waiting) - 2} more" if len(waiting) > 2 else ""
            because = f"for {', '.join(waiting[:2])}{more}"
            found[stage.name] = Finding(State.WAITS, (because,), read_record(stage.folder), {})
            continue
        found[stage.name] = judged(stage, outputs)
        outputs[stage.name] = output_of(stage, found[stage.name].record)
    return found


def output_of(stage: Stage, record: Record | None) -> Content:
    """What a stage's output holds now."""
    return Content.of(stage.output, record.output if record else None)


def _shown(changed: list[str]) -> tuple[str, ...]:
    """Differences in words: digests of inputs say nothing to people."""
    lines = []
    for line in changed:
        name = line.partition(": ")[0].removeprefix("settings.")
        if name.startswith("inputs."):
            lines.append(f"{name.removeprefix('inputs.')} holds something else")
        else:
            lines.append(line.removeprefix("settings."))
    more = len(lines) - MOST_REASONS
    return (*lines[:MOST_REASONS], *([f"and {more} more"] if more > 0 else []))
