"""`weft sft`: flags, files, what is printed, and how mistakes are said."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from safetensors.torch import load_file

from gap_world import write_rows, write_traces
from sft_world import traces
from weft.cli.main import main
from weft.cli.settings import read_as
from weft.cli.sft import sft
from weft.finetuning.settings import SftSettings

pytestmark = pytest.mark.usefixtures("one_thread")

NOT_SETTINGS = {"output", "config", "preview", "as_json", "overwrite", "quiet", "push_to_hub", "public"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Model and data."""
    data = write_traces(tmp_path / "traces.jsonl", traces())
    return ["sft", "--model", "micro:student", "--data", data]


def run_options(tmp_path: Path, steps: int = 2) -> list[str]:
    options = {
        "-o": str(tmp_path / "out"),
        "--max-steps": str(steps),
        "--per-device-train-batch-size": "2",
        "--gradient-accumulation-steps": "1",
        "--save-steps": "2",
        "--report-to": "none",
        "--trl": '{"use_cpu": true}',
    }
    return [part for option in options.items() for part in option]


def test_help_loads_neither_torch_nor_trl() -> None:
    code = (
        "import sys\n"
        "from weft.cli.main import main\n"
        "assert main(['sft', '--help']) == 0\n"
        "assert not {'torch', 'transformers', 'trl', 'datasets', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("--loss-on", "--packing", "--lora-r", "--report-to", "--preview", "--license"):
        assert words in done.stdout


def test_every_setting_has_a_flag() -> None:
    assert set(inspect.signature(sft).parameters) - NOT_SETTINGS == set(SftSettings.model_fields)


def test_a_run_by_flags(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, *run_options(tmp_path), "--license", "mit"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].split() == ["texts", "12"]
    assert any(line.startswith("of completions") and "by the teacher" in line for line in lines)
    assert "step 2 of 2: loss" in captured.err and "model in" in captured.err
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()
    assert main([*command, *run_options(tmp_path)]) == 0
    assert "is finished; there is nothing to do" in capsys.readouterr().err
    assert main([*command, *run_options(tmp_path), "--loss-on", "teacher"]) == 2
    assert 'settings.loss_on: "all" before' in capsys.readouterr().err
    assert main([*command, *run_options(tmp_path), "--overwrite", "-q", "--lora-r", "2"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("steps") and "adapter in" in err


def test_the_preview_alone_trains_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--preview", "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("texts             12\n")
    assert main([*command, "--json", "--loss-on", "teacher"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["learned"] == found["completion"]["teacher"] > 0
    assert not (tmp_path / "out").exists()


def test_a_file_and_flags_that_override_it(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("data: [a, b]\nloss_on: teacher\npacking: true\ntrl: {use_cpu: true}\n")
    given = {"model": "m", "packing": "auto", "trl": {"loss_type": "dft"}}
    found = read_as(SftSettings, config, given, flags={}, wanted={}, example="")
    assert (found.data, found.loss_on, found.packing) == (("a", "b"), "teacher", "auto")
    assert found.trl == {"use_cpu": True, "loss_type": "dft"}


@pytest.mark.parametrize("form", [["--data", "A", "B"], ["--data", "A", "--data", "B"]])
def test_several_files(form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        "A": write_traces(tmp_path / "a.jsonl", traces(3)),
        "B": write_rows(tmp_path / "b.jsonl", [{"text": "two and two"}]),
    }
    named = [names.get(part, part) for part in form]
    assert main(["sft", "--model", "micro:student", *named, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == 4


def test_an_interrupted_run_says_how_to_go_on(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import weft.training.job as module

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", interrupt)
    assert main([*command, *run_options(tmp_path), "-q"]) == 130
    assert "goes on from the last checkpoint, one each 2 steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--loss-on", "both"], "--loss-on"),
        (["--packing", "maybe"], "--packing"),
        (["--learning-rate", "-1"], "--learning-rate: "),
        (["--max-length", "1"], "--max-length: "),
        (["--max-length", "9"], "no row is left to train on: 12 too long, over 9 tokens"),
        (["--trl", '{"loss_typ": "dft"}'], "did you mean loss_type?"),
        (["--trl", '{"completion_only_loss": true}'], "follows from loss_on"),
        (["--trl", '{"activation_offloading": "yes"}'], "expected: true or false"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--eval-data", "missing.jsonl"], "missing.jsonl: no such file"),
        (["--model", "./nope"], "no such folder"),
        (["--data", "nope.jsonl"], "nope.jsonl: no such file"),
        (["--attn-implementation", "flashy"], "flashy"),
    ],
)
def test_mistakes_exit_with_2_and_say_where(
    options: list[str], said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if options[0] in command:
        at = command.index(options[0])
        command, options = [*command[:at], *options, *command[at + 2 :]], []
    assert main([*command, *run_options(tmp_path)[:-2], *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_a_file(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("loss_onn: teacher\n")
    assert main([*command, "--preview", "--config", str(config)]) == 2
    assert "unknown setting loss_onn; did you mean loss_on?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left_out", "said"), [("--model", "no model"), ("--data", "no data"), ("-o", "no output")]
)
def test_what_must_be_given(
    left_out: str, said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [*command, "-o", str(tmp_path / "out")]
    at = whole.index(left_out)
    assert main([*whole[:at], *whole[at + 2 :]]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(command: list[str], tmp_path: Path) -> None:
    """SIGKILL, as soon as the first checkpoint stands."""
    whole = [*command, *run_options(tmp_path, steps=40)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    code = [sys.executable, "-m", "weft", *whole]
    process = subprocess.Popen(
        [*code, "--logging-steps", "1"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 5 of 40"):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    killed = tmp_path / "out"
    assert not (killed / "README.md").exists()
    done = subprocess.run(code, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "an earlier run had reached step" in done.stderr
    other = [part if part != str(killed) else str(tmp_path / "whole") for part in code]
    assert subprocess.run(other, env=environment, capture_output=True, timeout=120).returncode == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert all((one[name] == two[name]).all() for name in two)
