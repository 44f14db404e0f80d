"""``weft gap style`` as a person runs it: tables, JSON, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gap_world import STUDENT, TEACHER, trace_of, write_rows, write_traces
from weft.cli.main import main
from weft.gap.distance import markers
from weft.gap.distance.result import StyleGap
from weft.gap.distance.shown import show
from weft.records import Span

EVIL = "evil\x1b[2J\u202e"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A scripted student, its own traces, and those of others: one of them writes what terminals obey."""
    script = tmp_path / "script.json"
    script.write_text(
        json.dumps({"scripts": [{"thinking": "okay , so it is 42 .", "response": "the answer is 42 ."}]})
    )

    def traces(name: str, text: str, response: str) -> str:
        made = [
            trace_of(n, [Span(TEACHER, f"{text} {n}")], response, strategy=f"{name} {text}", by=TEACHER)
            for n in range(12)
        ]
        return write_traces(tmp_path / f"{name}.jsonl", made)

    own = [trace_of(n, [Span(STUDENT, "okay , so")], student="me", seed=1) for n in range(12)]
    return {
        "student": f"scripted:{script}",
        "own": write_traces(tmp_path / "own.jsonl", own),
        "calm": traces("calm", "hence it follows that", "therefore 42"),
        "evil": traces("evil", f"{EVIL} hence", f"{EVIL} 42"),
        "out": str(tmp_path / "out" / "gap.json"),
    }


def style(files: dict[str, str], *more: str) -> int:
    return main(["gap", "style", "--student", files["student"], *more])


def test_the_tables(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "LEAST_Z", 0.5)  # twelve short texts tell little
    more = ("--reference", files["own"], "--boundary", "none")
    assert style(files, files["calm"], files["evil"], *more) == 0
    shown, said = capsys.readouterr()
    lines = shown.splitlines()
    assert lines[0].startswith("How far 2 sources are from")
    assert all(len(line) <= 80 for line in lines)
    for title in ("Surprise, nats per token", "Beside the student's own texts", "Texture", "What to do"):
        assert title in lines
    words = shown.partition("Words of calm\n")[2]
    assert "“hence”" in words.partition("less often")[0]
    assert "“okay”" in words.partition("less often")[2]
    assert any(line.split()[:2] == ["all", "tokens"] and "–" in line for line in lines)
    assert "provisional" in shown.partition("What to do")[2]
    assert "\x1b" not in shown + said
    assert "\u202e" not in shown
    assert "evil<U+001B>[2J<U+202E> hence" in shown
    assert "texts read  36" in said


@pytest.mark.parametrize("app", ["gap", "boundary"])
def test_subcommands_say_what_they_do(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of their own help, which says more."""
    assert main([app, "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands")[2].splitlines()
    rows = [line.strip("│ ").split(maxsplit=1) for line in listed if line.startswith("│ ") and line[2] != " "]
    assert len(rows) >= 2
    for name, about in rows:
        assert main([app, name, "--help"]) == 0
        usage, said, more, *_ = capsys.readouterr().out.split("\n\n")
        assert usage.startswith(f"Usage: weft {app} {name}")
        assert " ".join(said.split()).startswith(about)
        assert not more.startswith("╭"), "there is more to be said of it than one sentence"


def test_two_sources_beside_each_other(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert style(files, files["calm"], files["evil"], "--reference", files["own"], "--json", "-q") == 0
    found = StyleGap.from_json(json.loads(capsys.readouterr().out))
    pair = found.comparisons[0]
    several = tuple(replace(pair, first=one, second=two) for one, two in combinations("abcde", 2))
    for width in (40, 80, 120):
        with (console := Console(width=width)).capture() as captured:
            show(replace(found, comparisons=several), console)
        table = captured.get().partition("One less another")[2].partition("Over 12 prompts")[0]
        lines = table.partition("have\n")[2].splitlines()
        # Ten pairs below four first ones, and the names of figures; twice where there is no room for both.
        assert len([line for line in lines if line.strip()]) == (30 if width == 40 else 15)
        assert [line.split()[:2] for line in lines if "less" in line][:4] == [[c, "less"] for c in "abcd"]
        assert max(map(len, lines)) <= width
    shown = next(line for line in lines if line.strip().startswith("b  "))
    assert pair.nll_per_token.shown() in shown
    assert pair.tfidf_cosine.shown() in shown
    assert shown.index(pair.nll_per_token.shown()) < shown.index(pair.tfidf_cosine.shown())


def test_the_cosine_is_shown_beside_that_of_the_students_own(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert style(files, files["calm"], "--reference", files["own"], "-q") == 0
    once = capsys.readouterr().out
    assert "two alike" not in once
    assert "the reference holds one text of each prompt" in " ".join(once.split())
    own = [
        trace_of(n, [Span(STUDENT, f"okay , so {k}")], student="me", seed=1, sample=k)
        for n in range(12)
        for k in range(2)
    ]
    several = write_traces(tmp_path / "several.jsonl", own)
    assert style(files, files["calm"], "--reference", several, "--json", "-q") == 0
    gap = StyleGap.from_json(json.loads(capsys.readouterr().out))
    assert gap.sources[0].similarity is not None
    alike = gap.sources[0].similarity.own_cosine
    assert 0 < (alike.value or 0) < 1
    assert style(files, files["calm"], "--reference", several, "-q") == 0
    twice = capsys.readouterr().out
    [row] = [line for line in twice.splitlines() if "its own, two alike" in line]
    assert alike.shown() in row
    assert "the reference holds one text" not in " ".join(twice.split())


def test_without_an_output_nothing_is_kept_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "s.json"
    script.write_text(json.dumps({"scripts": [{"match": "nothing", "response": "42"}]}))
    traces = write_traces(tmp_path / "t.jsonl", [trace_of(n) for n in range(60)])
    for output, said in (([], "without -o nothing is kept"), (["-o", str(tmp_path / "gap.json")], "goes on")):
        assert style({"student": f"scripted:{script}"}, traces, "--concurrency", "2", *output) == 1
        [row] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("not read")]
        assert said in row
        assert int(row.split()[2].rstrip(";")) > 0


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_tables_fit_and_hold_every_source(
    files: dict[str, str], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert style(files, files["calm"], files["own"], files["evil"], "-q") == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("Surprise, nats per token") + 1 : lines.index("Of all tokens") - 1]
    tables = [line for line in table if line.strip().startswith("all tokens")]
    assert len(tables) == {40: 3, 80: 2, 120: 1}[columns]
    assert max(map(len, lines)) <= columns
    named = {word for line in table for word in line.split()}
    assert {"calm", "own", "evil"} <= named


def test_json_and_nothing_else(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["weft", "gap", "style"])
    assert style(files, files["calm"], "--reference", files["own"], "--json", "-o", files["out"]) == 0
    shown = capsys.readouterr().out
    gap = StyleGap.from_json(json.loads(shown))
    assert gap == StyleGap.from_json(json.loads(Path(files["out"]).read_text()))
    assert gap.made.command == ("gap", "style")
    assert gap.readings == "gap.readings.jsonl"
    assert [one.label for one in gap.sources] == ["calm", "own"]
    assert set(gap.made.files) == {files["calm"], files["own"]}


def test_the_same_command_goes_on(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for limit, skipped in ((5, False), (9, True)):
        assert style(files, files["calm"], "-o", files["out"], "--limit", str(limit)) == 0
        shown, said = capsys.readouterr()
        assert f"{limit} texts, {limit} prompts" in shown
        assert f"not read: {12 - limit} more than --limit" in shown
        assert ("skipped" in said) is skipped
    assert "weft report" in said
    assert "calm.jsonl: 9 of 12 texts are drawn" in said


def test_without_a_reference_it_says_how_to_get_one(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert style(files, files["calm"]) == 0
    shown, said = capsys.readouterr()
    assert "--strategy student-only" in said
    assert "Beside the student's own texts" not in shown


def test_engine_errors_are_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that knows no such prompt fails as engines do."""
    script = tmp_path / "s.json"
    case = {"match": r"What is [0-8] \* 7", "thinking": "okay", "response": "42"}
    script.write_text(json.dumps({"scripts": [case]}))
    traces = write_traces(tmp_path / "t.jsonl", [trace_of(n) for n in range(10)])
    files = {"student": f"scripted:{script}"}
    assert style(files, traces, "-o", str(tmp_path / "gap.json")) == 1
    shown, said = capsys.readouterr()
    assert "not read: 1 failed by the engine" in shown
    assert "no script matches" in said
    assert "tries engine errors again" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--boundary", "orcale"], "--boundary: no boundary 'orcale'"),
        (["--limit=-1"], "--limit:"),
        (["--seed", "-1"], "--seed:"),
        (["--error-rate", "2"], "--error-rate:"),
        (["--student-template-args", "no"], "--student-template-args"),
        (["--timeout", "0"], "--timeout:"),
        (["--student-dtype", "int3"], "--student-dtype"),
        (["--boundary", "agree"], "asks two models"),
        (["-o", "gap.txt"], "not a .json file"),
        (["--reference", "none.jsonl"], "no such file"),
    ],
)
def test_mistakes_are_told_by_their_flags(
    files: dict[str, str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert style(files, files["calm"], *more) == 2
    shown, error = capsys.readouterr()
    assert said in error
    assert "Traceback" not in error
    assert shown == ""


def test_what_is_missing(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gap", "style", files["calm"]]) == 2
    assert "--student" in capsys.readouterr().err
    assert style(files) == 2
    assert "nothing to measure" in capsys.readouterr().err


def test_a_bad_row_names_its_line(files: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    rows = [{"prompt": "What?", "completion": "That."}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    assert style(files, write_rows(tmp_path / "rows.jsonl", rows)) == 2
    said = capsys.readouterr().err
    assert "rows.jsonl:2" in said
    assert "weft gap reward" in said


def test_help_loads_neither_torch_nor_what_computes() -> None:
    code = (
        "import sys\nfrom weft.cli.main import main\n"
        "assert main(['gap', 'style', '--help']) == 0\n"
        "assert not {'torch', 'transformers', 'sklearn', 'scipy', 'numpy', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gone afterwards" in " ".join(done.stdout.split())
    done = subprocess.run(
        [sys.executable, "-m", "weft", "--help"], capture_output=True, text=True, check=True
    )
    assert "gap" in {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
