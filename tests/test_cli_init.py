"""``weft init``: a recipe to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.cli.main import main
from weft.recipes.templates import templates


def test_without_a_name_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(templates())
    assert all(len(line.split()) > 4 for line in out.splitlines())


@pytest.mark.parametrize("name", sorted(templates()))
def test_each_is_written_as_it_is_and_can_be_looked_at(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["init", name, "-o", "deep/mine.yaml"]) == 0
    assert (tmp_path / "deep/mine.yaml").read_bytes() == templates()[name].read_bytes()
    assert "weft run deep/mine.yaml --dry-run" in capsys.readouterr().err
    assert main(["run", "deep/mine.yaml", "--dry-run"]) == 0
    assert "stages would run" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "tessy", "-o", "-"]) == 0
    assert "CoopReason/Boundary_Predictor_Student_Code" in capsys.readouterr().out


def test_a_file_that_is_there_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math.yaml").write_text("mine")
    assert main(["init", "math"]) == 2
    assert "the file exists" in capsys.readouterr().err
    assert (tmp_path / "math.yaml").read_text() == "mine"
    assert main(["init", "math", "--overwrite"]) == 0
    assert (tmp_path / "math.yaml").read_bytes() == templates()["math"].read_bytes()


def test_an_unknown_name_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "sciense"]) == 2
    assert "did you mean science?" in capsys.readouterr().err
