"""The command ``weft`` itself, ``weft micro`` and ``weft demo``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weft import __version__
from weft.cli.main import COMMANDS, main
from weft.micro import is_correct, make_prompts
from weft.store import read_traces

HEAVY = ("torch", "transformers", "datasets")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["synth", "--help"],
        ["show", "--help"],
        ["demo", "--help"],
        ["micro", "prompts", "-n", "1"],
    ],
)
def test_nothing_heavy_is_loaded_to_help(arguments: list[str]) -> None:
    code = f"import sys; from weft.cli.main import main; c = main({arguments!r}); "
    ran = python(code + f"print([m for m in {HEAVY!r} if m in sys.modules]); sys.exit(c)")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_importing_weft_loads_nothing_heavy() -> None:
    ran = python(
        f"import weft, sys; print([m for m in {[*HEAVY, 'rich', 'pydantic']!r} if m in sys.modules])"
    )
    assert ran.stdout == "[]\n"


def test_the_overview_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(f"  {name} " in out and about in out for name, (_, about) in COMMANDS.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["synth"], "the same command goes on where it was"),
        (["show"], "A mark stands where the author changes"),
        (["demo"], "Needs no network"),
        (["micro"], "prompts"),
        (["micro", "prompts"], "--split"),
        (["micro", "card"], "card"),
    ],
)
def test_every_command_explains_itself(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--help"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"weft {__version__}\n"


@pytest.mark.parametrize("arguments", [["synthesise"], ["micro", "bogus"], ["show"], ["demo", "--nonsense"]])
def test_unknown_commands_and_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    command = f"{sys.executable} -m weft micro prompts -n 20000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
    )
    assert ran.stdout.splitlines()[1:] == ["0"]
    assert ran.stderr == ""


def test_an_encoding_that_lacks_signs() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "weft", "show", "--help"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "\\u2039S\\u203a" in ran.stdout


# -- weft micro ------------------------------------------------------------------------------------------


def test_micro_prompts_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["micro", "prompts", "-n", "6", "--seed", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [prompt.id for prompt in make_prompts(6, 3)]
    assert all(list(row) == ["id", "prompt", "answer", "task", "difficulty", "split"] for row in rows)
    assert {row["split"] for row in rows} == {"finetune", "harder", "retention"}
    assert main(["micro", "prompts", "-n", "2", "-o", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_micro_prompts_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "p.jsonl"
    arguments = ["micro", "prompts", "-n", "4", "--split", "harder", "-o", str(path)]
    assert main(arguments) == 0
    before = path.read_text()
    assert [json.loads(line)["split"] for line in before.splitlines()] == ["harder"] * 4
    assert main([*arguments, "--seed", "1"]) == 2
    assert "the file exists" in capsys.readouterr().err
    assert path.read_text() == before
    assert main([*arguments, "--seed", "1", "--overwrite"]) == 0
    assert path.read_text() != before


def test_micro_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["micro", "prompts", "-n", "0"]) == 2
    assert "-n" in capsys.readouterr().err
    assert main(["micro", "prompts", "--split", "easier"]) == 2
    assert "easier" in capsys.readouterr().err


def test_the_card_of_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["micro", "card"]) == 0
    assert capsys.readouterr().out.startswith("# ")


# -- weft demo -------------------------------------------------------------------------------------------


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from weft.cli.demo import STORY

    folder = tmp_path / "a demo"
    arguments = ["demo", "-n", "3", "-o", str(folder)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    traces = {name: list(read_traces(folder / f"{name}.jsonl")) for name in STORY}
    for name, made in traces.items():
        assert f" {name} " in out
        assert {one.provenance.strategy for one in made} <= {name}
    right = sum(is_correct(one.response, one.prompt.answer or "") for one in traces["tessy"])
    row = next(line.split() for line in out.splitlines() if line.startswith(" tessy "))
    assert row[1:3] == [f"{len(traces['tessy'])}/3", f"{right}/{len(traces['tessy'])}"]
    assert out.count("── response ──") == len(traces["tessy"])
    assert f"weft show '{folder / 'tessy.jsonl'}'" in out
    assert "not a result" in out

    files = {path: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert main(arguments) == 0  # a second run finds all of it
    assert capsys.readouterr().out.count("done before") == len(STORY)
    assert {path: path.read_bytes() for path in folder.glob("*.jsonl")} == files

    assert main([*arguments, "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("*.jsonl")} == files
