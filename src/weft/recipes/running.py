"""`weft run`: one stage after the other, each only where something changed.

Stages run in this process: torch is loaded once, and what a stage held is given back before the next begins.

Invariants
    - One run at a time in one folder (not on file systems without locks).
    - A killed run loses nothing: the same call goes on in the stage that it was in, which goes on by itself.
    - Rows of a finished stage stand in the order of their ids. In the order in which they were finished, a
      run that was killed and went on would differ from one that was not, and so would what it trains.
    - An output of other settings is never written over or deleted: it is moved to ``DIR/replaced/NAME/N``.
      Tables and reports, which cost nothing, are written over.
    - A stage that fails is recorded with its message; what does not need it runs all the same.

It does not know what stages do.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from weft import __version__
from weft.errors import RunError, UserError, WeftError
from weft.recipes.kinds.base import Screen, Silence
from weft.recipes.ordering import put_in_order
from weft.recipes.plan import Plan, Stage, without
from weft.recipes.reading import REPLACED
from weft.recipes.record import FILE, Content, Ended, read_record
from weft.recipes.state import Finding, State, fresh, judged, output_of
from weft.store.files import replace_file, writing
from weft.store.manifest import utc_now
from weft.store.output import lock

RUN = "run.json"
RECIPE = "recipe.yaml"
ERROR = "error.txt"


class Became(StrEnum):
    """What one run made of a stage."""

    UP_TO_DATE = "up to date"
    DONE = "done"
    FAILED = "failed"
    NOT_RUN = "not run"
    """What it needs failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One stage of one run."""

    stage: str
    kind: str
    became: Became
    seconds: float
    message: str
    output: Path


def run(plan: Plan, screen: Screen | None = None) -> tuple[Outcome, ...]:
    """Run what is not done.

    Args:
        screen: is told what happens; left out: nothing is shown.

    Returns:
        What became of each stage, in the order in which they came.

    Raises:
        UserError: the folder holds something else, or another run is at work in it.
    """
    screen = screen or Silence()
    with _held(plan):
        _write_run(plan, {}, None)
        started, outputs, outcomes = utc_now(), dict[str, Content](), dict[str, Outcome]()
        for number, stage in enumerate(plan.stages, 1):
            screen.say(f"[{number}/{len(plan.stages)}] {stage.name}")
            outcome = _one(stage, outputs, outcomes, screen, plan.folder)
            outcomes[stage.name] = outcome
            if outcome.became in (Became.UP_TO_DATE, Became.DONE):
                outputs[stage.name] = output_of(stage, read_record(stage.folder))
            _write_run(plan, outcomes, started)
        return tuple(outcomes.values())


def _one(
    stage: Stage,
    outputs: Mapping[str, Content],
    outcomes: Mapping[str, Outcome],
    screen: Screen,
    folder: Path,
) -> Outcome:
    def outcome(became: Became, seconds: float = 0.0, message: str = "") -> Outcome:
        return Outcome(stage.name, stage.kind.name, became, seconds, message, stage.output)

    lacking = [name for name in stage.needs if name not in outputs]
    if lacking and (not stage.kind.tolerant or len(lacking) == len(stage.needs)):
        message = f"it needs {', '.join(lacking)}"
        screen.say(f"not run: {message}")
        return outcome(Became.NOT_RUN, message=message)
    try:
        if lacking:
            stage = without(stage, lacking)
            screen.say(f"  without {', '.join(lacking)}")
        with writing(stage.folder):
            finding = judged(stage, outputs)
    except WeftError as error:
        screen.say(str(error))
        return outcome(Became.FAILED, message=str(error))
    if finding.state is State.DONE:
        screen.say("; ".join(["up to date", *finding.because]))
        return outcome(Became.UP_TO_DATE)
    for reason in finding.because:
        screen.say(f"  {reason}")
    started = time.monotonic()
    try:
        message = _run_stage(stage, finding, screen, folder)
    except WeftError as error:  # of its folder: what is on disk stays as it was
        message = str(error)
        screen.say(f"failed: {message}")
    seconds = time.monotonic() - started
    return outcome(Became.FAILED if message else Became.DONE, seconds, message)


def _run_stage(stage: Stage, finding: Finding, screen: Screen, folder: Path) -> str:
    """Run a stage and record it; why it failed, empty if it did not."""
    record, spent = fresh(stage, finding.inputs, __version__, utc_now()), 0.0
    if finding.state is State.CHANGED and not stage.kind.tolerant:
        _set_aside(stage, folder, screen)
    elif finding.record is not None:
        spent = finding.record.seconds
    started = time.monotonic()
    message = ""
    try:
        record.write(stage.folder)
        stage.kind.run(stage.settings, stage.output, screen)
        if not stage.output.exists():
            message = "it left no output"
        put_in_order(stage.output)
    except WeftError as error:
        message = str(error)
        if "--overwrite" in message:  # the command's remedy; a recipe has no such flag
            message += f"\n  here:     remove the folder {stage.folder}, and the stage starts anew"
    except Exception as error:  # a defect in one stage shall not cost the others their night
        message = f"{type(error).__name__}: {error}"
        _keep_trace(stage)
    finally:
        _give_back()
        record = replace(record, seconds=spent + time.monotonic() - started)
    if message:
        screen.say(f"failed: {message}")
        record = replace(record, state=Ended.FAILED, message=message)
    else:
        record = replace(record, state=Ended.DONE, output=output_of(stage, None))
    try:
        record.write(stage.folder)
    except WeftError as error:
        message = message or str(error)
    return message


def _set_aside(stage: Stage, folder: Path, screen: Screen) -> None:
    """Move the output of other settings out of the way."""
    if not any(path.name not in (FILE, ERROR) for path in stage.folder.iterdir()):
        return
    home = folder / REPLACED / stage.name
    number = 1
    while (home / str(number)).exists():
        number += 1
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        stage.folder.rename(home / str(number))
    screen.say(f"  what it left before is kept in {home / str(number)}")


def _keep_trace(stage: Stage) -> None:
    """The traceback of a defect, for whoever mends it."""
    with writing(stage.folder):
        replace_file(stage.folder / ERROR, [traceback.format_exc().encode()])


def _give_back() -> None:
    """Memory that a stage held: models are garbage in cycles, and a GPU's cache is kept by torch."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """The folder of a run, made or taken over, and locked."""
    folder = plan.folder
    with writing(folder):
        check_folder(plan)
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(file, folder)
        yield
    finally:
        os.close(file)


def check_folder(plan: Plan) -> None:
    """Whether the folder is new, or of an earlier run of the recipe.

    Raises:
        UserError: it is neither.
        RunError: what says so is broken.
    """
    if plan.folder.exists() and not plan.folder.is_dir():
        raise UserError("is a file", where=str(plan.folder), remedy="choose another --output-dir")
    path = plan.folder / RUN
    if not path.exists():
        others = [one.name for one in plan.folder.iterdir()] if plan.folder.exists() else []
        if set(others) - {".lock", f"{RUN}.tmp"}:
            raise UserError(
                "the folder holds something else",
                where=str(plan.folder),
                expected="a new folder, or that of an earlier run",
                remedy="choose another --output-dir",
            )
        return
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError("not the record of a run", where=str(path), remedy="remove this file") from error
    if name != plan.recipe.name:
        raise UserError(
            f"the folder holds a run of the recipe {name}, this one is {plan.recipe.name}",
            where=str(plan.folder),
            remedy="choose another --output-dir",
        )


def _write_run(plan: Plan, outcomes: Mapping[str, Outcome], started: str | None) -> None:
    """``run.json`` and a copy of the recipe: what the folder is of."""
    stages: dict[str, Any] = {
        name: {"became": one.became.value, "seconds": round(one.seconds, 1), "message": one.message}
        for name, one in outcomes.items()
    }
    found = {
        "kind": "run",
        "schema": 1,
        "name": plan.recipe.name,
        "recipe": str(plan.recipe.path),
        "weft": __version__,
        "started": started or utc_now(),
        "written": utc_now(),
        "stages": stages,
    }
    with writing(plan.folder):
        replace_file(plan.folder / RUN, [(json.dumps(found, indent=2) + "\n").encode()])
        if not outcomes:
            replace_file(plan.folder / RECIPE, [plan.recipe.text.encode()])
