"""``weft verify`` as people use it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from verify_world import trace_of, write_rows, write_traces
from weft.cli.main import main
from weft.cli.verify import MOST_LISTED, Verdicts
from weft.records import Status
from weft.store import manifest_path, read_traces, rejected_path
from weft.verify.base import Verdict
from weft.verify.marked import read_marked

TRACES = [
    trace_of("a#0", "so it is \\boxed{42}"),
    trace_of("a#1", "it is 41"),
    trace_of("b#0", "42", answer=None),
    trace_of("c#0", "", status=Status.LENGTH),
    trace_of("d#0", "42.0", prompt="What is 84 halved?"),
]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return write_traces(tmp_path / "traces.jsonl", TRACES)


def weft(*given: object) -> int:
    return main([str(part) for part in given])


def rows(said: str) -> dict[str, str]:
    """The summary."""
    found = (re.split(r"  +", line, maxsplit=1) for line in said.splitlines())
    return {row[0]: row[1] for row in found}


def test_traces_in_right_ones_out(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "right.jsonl"
    assert weft("verify", traces, "--verifier", "math", "-o", output, "--workers", 1) == 0
    said = capsys.readouterr()
    assert not said.out
    told = rows(said.err)
    assert told.pop("seconds")
    assert told == {
        "kept": "2 of 5",
        "correct": "2",
        "unverifiable": "1: no_answer 1",
        "wrong": "1: different 1",
        "unfinished": "1; not complete, not looked at",
        "kept in": str(output),
        "rejected in": str(rejected_path(output)),
        "made by": str(manifest_path(output)),
        "look at": f"weft show {output}",
        "what was rejected": f"weft show {rejected_path(output)}",
    }
    assert [trace.id for trace in read_traces(output)] == ["a#0", "d#0"]
    assert weft("verify", traces, "--verifier", "math", "-o", output, "--workers", 1) == 0
    assert "5, settled by an earlier run" in capsys.readouterr().err


def test_where_none_is_correct_the_check_is_pointed_to(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weft("verify", traces, "--verifier", "regex:never", "-o", tmp_path / "out.jsonl") == 0
    assert "--self-check" in rows(capsys.readouterr().err)["none is correct"]


def test_counts_as_json(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--keep", "wrong", "--keep", "correct", "--json"]
    assert weft("verify", traces, "--verifier", "exact", "-o", tmp_path / "out.jsonl", *given) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["traces"] == 5
    assert told["marks"] == {"kept": 3, "unfinished": 1, "verdict": 1}


def test_a_file_of_settings(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "verify.yaml"
    config.write_text("verifier: exact\nkeep: [wrong]\n", encoding="utf-8")
    assert weft("verify", traces, "--config", config, "-o", tmp_path / "out.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 2
    config.write_text("verifier: exact\ndeduplikate: 0.8\n", encoding="utf-8")
    assert weft("verify", traces, "--config", config, "-o", tmp_path / "other.jsonl") == 2
    assert "unknown setting deduplikate; did you mean deduplicate?" in capsys.readouterr().err


def test_curation_alone(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = write_rows(tmp_path / "bench.jsonl", [{"question": "What is 84, halved?"}])
    output = tmp_path / "out.jsonl"
    given = ["--deduplicate", 0.9, "--decontaminate", bench]
    assert weft("verify", traces, *given, "-o", output) == 0
    told = rows(capsys.readouterr().err)
    assert told["contaminated"] == "1; hold a benchmark's words"
    assert told["duplicate"] == "1; nearly the same as an earlier one"
    assert "correct" not in told
    found = {one.trace.id: one for one in read_marked(rejected_path(output))}
    assert found["d#0"].contaminated_by == f"{bench}:1 in the prompt"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "nothing to do"),
        (["--verifier", "maths"], "no verifier is called 'maths'"),
        (["--verifier", "math", "--deduplicate", "2"], "--deduplicate"),
        (["--verifier", "math", "--seconds", "0"], "--seconds"),
        (["--verifier", "math", "--workers", "0"], "--workers"),
        (["--decontaminate", "none.jsonl"], "no such file"),
        (["--verifier", "math", "--public"], "--push-to-hub"),
        (["--verifier", "judge:none-of-these/models/at-all"], "none-of-these"),
    ],
)
def test_mistakes(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: Sequence[str], said: str
) -> None:
    output = tmp_path / "out.jsonl"
    assert weft("verify", traces, "-o", output, *given) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_without_traces_or_output(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert weft("verify", "--verifier", "math") == 2
    assert "no traces" in capsys.readouterr().err
    assert weft("verify", traces, "--verifier", "math") == 2
    assert "no output" in capsys.readouterr().err


def test_the_self_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "?", "answer": str(number)} for number in range(MOST_LISTED + 10)]
    path = write_rows(tmp_path / "prompts.jsonl", [*rows, {"prompt": "?", "answer": ""}])
    assert weft("verify", path, "--verifier", "exact", "--self-check", "-q") == 0
    told = capsys.readouterr()
    assert told.out == "exact accepts 60 of 60 right answers; 1 rows bring none that it could be given\n"
    assert not told.err
    assert weft("verify", path, "--verifier", r"regex:is (\d+)", "--self-check", "-q") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}:1  wrong, unparsable: the pattern finds nothing"
    assert lines[MOST_LISTED] == "… and 10 more"
    assert lines[-1].startswith(r"regex:is (\d+) accepts 0 of 60")
    assert weft("verify", path, "--verifier", r"regex:is (\d+)", "--self-check", "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["refused"]) == 60


def test_what_nothing_can_be_said_of_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "?"}])
    assert weft("verify", path, "--verifier", "exact", "--self-check") == 1
    assert "nothing was checked" in capsys.readouterr().out


def test_verified_traces_are_traces(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.jsonl"
    assert weft("verify", traces, "--verifier", "exact", "-o", output, "-q") == 0
    assert weft("show", output) == 0
    assert "a#0" in capsys.readouterr().out
    assert weft("show", rejected_path(output), "d#0") == 0
    assert "84 halved" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert weft("report", output, "-o", page) == 0
    assert "a#0" in page.read_text(encoding="utf-8")


def test_verdicts_on_the_command_line_are_all() -> None:
    assert set(get_args(Verdicts)) == {verdict.value for verdict in Verdict}
