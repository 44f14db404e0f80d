"""``weft eval`` as a person runs it, on scripted models."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from evaluation_world import model, prompts
from weft.cli.main import main
from weft.evaluation.figures import task_figures
from weft.evaluation.result import Cell, Evaluation
from weft.evaluation.shown import show
from weft.gap.made import Made

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    task = prompts(tmp_path / "sums.jsonl")
    return ["eval", "--model", model(tmp_path / "m.json"), "--tasks", str(task), "-o", str(tmp_path / "out")]


def test_a_result_on_disk_and_on_the_terminal(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*files, "--verifier", "exact", "--temperatures", "0,1", "--top-ps", "0.5,1", "-q"]
    assert main([*command, "--baseline", model(tmp_path / "b.json", lambda n: n == 1)]) == 0
    found = Evaluation.from_json(json.loads((tmp_path / "out" / "eval.json").read_text()))
    assert found.tasks[0].accuracy.value == pytest.approx(3 / 7)
    shown = capsys.readouterr()
    for text in ("sums", "42.9%", "By way of drawing", "on the same prompts", "28.6% (0.0", "7 of 8"):
        assert text in shown.out
    assert "\x1b" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert f"weft report {tmp_path / 'out'}" in shown.err


def test_json_is_all_that_stdout_holds(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--verifier", "exact", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "evaluation"
    assert set(found["tasks"][0]["accuracy"]) == {"value", "low", "high", "n"}
    assert Evaluation.from_json(found).failed == 0


def test_a_file_and_flags(files: list[str], tmp_path: Path) -> None:
    config = tmp_path / "eval.yaml"
    config.write_text(
        f"model: scripted:{tmp_path / 'm.json'}\nverifier: math\nsamples: 3\n"
        f"tasks:\n  - name: two\n    prompts: {tmp_path / 'sums.jsonl'}\n    limit: 2\n"
        "sampling: {temperature: 1.0}\nlimits: {thinking: 50, response: 60}\n"
    )
    out = tmp_path / "other"
    flags = (
        "--verifier exact --samples 2 --k 1,2 --seed 5 --max-thinking-tokens 70 --concurrency 2 --workers 1"
    )
    assert main(["eval", "--config", str(config), "-o", str(out), *flags.split(), "-q"]) == 0
    found = Evaluation.from_json(json.loads((out / "eval.json").read_text()))
    task, made = found.tasks[0], found.made.settings
    assert (task.name, task.verifier, task.prompts, task.samples) == ("two", "exact", 2, 2)
    assert set(task.pass_at) == {1, 2}
    assert (made["seed"], made["limits"]["thinking"], made["limits"]["response"]) == (5, 70, 60)
    assert made["sampling"]["temperature"] == 1


def test_several_tasks_after_one_flag(files: list[str], tmp_path: Path) -> None:
    more = [f"again={tmp_path / 'sums.jsonl'}", "--verifier", "exact", "-q"]
    at = files.index("-o")
    assert main([*files[:at], *more, *files[at:]]) == 0
    found = Evaluation.from_json(json.loads((tmp_path / "out" / "eval.json").read_text()))
    assert [task.name for task in found.tasks] == ["sums", "again"]


def test_failures_are_exit_code_1(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model(tmp_path / "m.json", faults=[{"match": "is 1 ", "after": 0, "error": "HTTP 500"}])
    assert main([*files, "--verifier", "exact", "-q"]) == 1
    assert "left out 1 response" in capsys.readouterr().out


def test_a_refused_run_does_not_point_to_the_result_of_another(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files, "--verifier", "exact", "-q"]) == 0
    assert "eval.json" in capsys.readouterr().err
    assert main([*files, "--verifier", "exact", "-q", "--seed", "4"]) == 2
    refused = capsys.readouterr().err
    assert "seed: 0 before, 4 now" in refused
    assert "eval.json" not in refused


def test_what_was_not_measured_is_no_zero() -> None:
    """A way of drawing in which the engine failed at all prompts."""
    nothing = task_figures("sums", "exact", [], prompts=2, samples=1)
    cells = (Cell(1.0, 1.0, nothing), Cell(0.0, 1.0, nothing))
    made = Made("0", "2026-01-01T00:00:00+00:00", (), {}, {})
    found = Evaluation("m", (nothing,), cells, (), (), (), (), made)
    file = StringIO()
    show(found, Console(file=file, width=100))
    rows = [line for line in file.getvalue().splitlines() if line.startswith("sums")]
    assert len(rows) == 3
    assert all(row.count("–") == 3 for row in rows)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "has no verifier"),
        ("--verifier mathe", "--verifier: no verifier is called 'mathe'"),
        ("--verifier exact --samples 2", "draws greedily by itself"),
        ("--verifier exact --samples 2 --temperature 0", "leave --samples out"),
        ("--verifier exact --k 1,x", "--k: not whole numbers"),
        ("--verifier exact --temperatures warm", "--temperatures: not numbers"),
        ("--verifier exact --temperature -1", "--temperature"),
        ("--verifier exact --judge micro:teacher", "--baseline"),
        ("--verifier exact --lm-eval arc_easy", "cannot run a scripted engine"),
        ("--verifier exact --lm-eval arc --lm-eval-args [1]", "not a JSON object"),
        ("--verifier exact --max-response-tokens 0", "--max-response-tokens"),
    ],
)
def test_mistakes(files: list[str], flags: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, *flags.split()]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_unknown_settings_name_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "eval.yaml"
    config.write_text("model: m\ntask: [a.jsonl]\nverifier: exact\nlimits: {thinkin: 3}\n")
    assert main(["eval", "--config", str(config), "-o", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert "did you mean tasks?" in shown
    assert "did you mean thinking?" in shown


def test_no_model_says_how_to_name_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--tasks", "a.jsonl", "-o", str(tmp_path / "out")]) == 2
    assert "--model" in capsys.readouterr().err
