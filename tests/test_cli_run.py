"""``weft run`` as a person meets it: what it says, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weft.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = r"""
name: small
lists: {n: [2, 3]}
stages:
  prompts: {run: prompts, each: [n], split: finetune, n: "{n}"}
  base: &eval
    run: eval
    model: micro:student
    tasks: ["skill=stage:prompts/2"]
    verifier: 'regex:\d+'
    sampling: {temperature: 0}
    limits: {thinking: 96, response: 24}
  table: {run: table, title: Small, rows: {base: stage:base}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def test_a_dry_run_says_what_would_run_and_runs_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "small, in runs/small" in out
    assert "waits: for prompts/2" in out
    assert "4 requests, 240 tokens" in out
    assert "4 of 4 stages would run" in out
    assert not (here / "runs").exists()


def test_a_dry_run_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "small.yaml", "--dry-run", "--json", "-o", "there", "--only", "base"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["folder"] == "there"
    assert list(found["stages"]) == ["prompts/2", "base"]
    assert found["stages"]["prompts/2"]["state"] == "new"
    assert found["stages"]["base"]["costs"]["tokens"] == found["totals"]["tokens"] == 240


def test_a_run_ends_with_its_table_and_says_where_all_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("**Small**")
    assert "| base " in out
    heads = [line for line in err.splitlines() if line.startswith("[")]
    assert heads == ["[1/4] prompts/2", "[2/4] prompts/3", "[3/4] base", "[4/4] table"]
    assert "runs/small" in err.splitlines()[-1]
    table = json.loads((here / "runs/small/table/table.json").read_text())
    assert (table["kind"], table["columns"]) == ("table", ["skill"])
    assert table["rows"][0]["figures"][0]["n"] == 2
    assert (here / "runs/small/table/table.md").read_text() == out
    # Again: the table is there, nothing runs.
    assert main(["run", "small.yaml", "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    assert {one["became"] for one in json.loads(out)["stages"].values()} == {"up to date"}
    assert main(["run", "small.yaml", "--dry-run"]) == 0
    assert "0 of 4 stages would run" in capsys.readouterr().out


def test_a_failing_stage_is_named_and_the_exit_code_is_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "broken.json").write_text("{")
    text = RECIPE + "  more:\n    <<: *eval\n    model: scripted:broken.json\n"
    (here / "small.yaml").write_text(text.replace("rows: {base: ", "rows: {more: stage:more, base: "))
    assert main(["run", "small.yaml"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 5: more" in err
    assert "broken.json" in err
    assert "Traceback" not in err
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in out.splitlines()[4:6]}
    assert rows["more"] == "–"
    assert rows["base"].startswith(("0.", "1."))
    assert main(["run", "small.yaml", "--dry-run"]) == 0
    assert "failed, would run again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("verifier:", "verifyer:"), "did you mean verifier?"),
        (("run: eval", "run: evaluate"), "did you mean eval?"),
        (("stage:prompts/2", "stage:prompts/4"), "there is no stage prompts/4"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    (here / "small.yaml").write_text(RECIPE.replace(*change))
    for more in ([], ["--dry-run"]):
        assert main(["run", "small.yaml", *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("weft: small.yaml:") and said in err
    assert not (here / "runs").exists()


def test_an_unknown_stage_and_a_missing_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "small.yaml", "--only", "bse"]) == 2
    assert "there is no stage bse; did you mean base?" in capsys.readouterr().err
    assert main(["run", "gone.yaml"]) == 2
    assert "weft init" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "small.yaml").write_text('stages: {"a\\e[31m": {run: prompts}}\n')
    assert main(["run", "small.yaml"]) == 2
    assert "\x1b" not in capsys.readouterr().err
