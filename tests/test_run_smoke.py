"""The smoke recipe, run in one go; and killed once in every stage, and gone on to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from weft.recipes.plan import read_plan
from weft.recipes.templates import template

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).parent / "killed_in_a_stage.py"
MIDDLE = {"prompts": 2, "table": 2, "report": 2, "sft": 4, "align": 4}
"""Events of a stage before which it is killed, by kind; the first is the stage's own record."""


def drive(stage: str, at: int, recipe: Path, folder: Path) -> int:
    done = subprocess.run(
        [sys.executable, str(DRIVER), stage, str(at), str(recipe), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def found(folder: Path) -> dict[str, Any]:
    """Everything that a run should come to, whatever happened to it."""

    def rows(path: Path) -> list[dict[str, Any]]:
        left_out = ("usage", "engines", "verdict_said")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{name: value for name, value in line.items() if name not in left_out} for line in lines]

    def figures(path: Path) -> Any:
        value = json.loads(path.read_text())
        value.pop("made")
        return value

    tables = json.loads((folder / "table" / "table.json").read_text())
    texts = {
        str(path.relative_to(folder)): rows(path)
        for stage in ("prompts", "own", "traces", "verified", "judged", "pairs", "woven")
        for path in sorted((folder / stage).rglob(f"{stage}*.jsonl"))
        if ".texts" not in path.name
    }
    return {
        "table": (tables["columns"], tables["rows"]),
        "tasks": {str(p.relative_to(folder)): figures(p)["tasks"] for p in sorted(folder.rglob("eval.json"))},
        **texts,
    }


def test_killed_once_in_every_stage_it_comes_to_the_same(tmp_path: Path) -> None:
    recipe = template("micro-smoke")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert drive("none", 0, recipe, whole) == 0
    for stage in read_plan(recipe, killed).stages:
        at = MIDDLE.get(stage.kind.name, 8)
        assert drive(stage.name, at, recipe, killed) == -signal.SIGKILL, stage.name
        record = json.loads((killed / stage.name / "stage.json").read_text())
        assert record["state"] == "begun"
    assert drive("none", 0, recipe, killed) == 0
    assert (killed / "report" / "report.html").stat().st_size > 100_000
    one, other = found(whole), found(killed)
    assert one.keys() == other.keys()
    assert len(one) > 10
    for name in one:
        assert one[name] == other[name], name
    assert drive("none", 0, recipe, killed) == 0  # and there is nothing left to do
