"""``weft synth`` as a person runs it, on scripted engines: output, resuming, refusals, interruption."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from weft.cli.main import main
from weft.cli.progress import LINE_SECONDS, Bar, Tally, display, summary, watched
from weft.cli.synth import DType, Strategies
from weft.engines.settings import EngineSettings
from weft.records import Author, Message, PerAuthor, Prompt, Provenance, Sampling, Span, Status, Trace, Usage
from weft.store import manifest_path, read_traces, rejected_path
from weft.synthesis.strategies import Strategy

THINKING = "Okay, let me see. First, 2 + 2 = 4. Wait, so the answer is 4."


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Six prompts, one of which falls into a loop, and a scripted student and teacher; the arguments."""
    prompts, script = tmp_path / "prompts.jsonl", tmp_path / "script.json"
    rows = [
        {"id": f"q{i}", "prompt": f"{i} + 2?{' loop' if i == 3 else ''}", "answer": "4"} for i in range(6)
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loop = {"match": "loop", "thinking": "so " * 1000, "response": "4"}
    script.write_text(json.dumps({"scripts": [loop, {"thinking": THINKING, "response": "It is 4."}]}))
    engine = f"scripted:{script}"
    return [str(prompts), "--student", engine, "--teacher", engine, "-o", str(tmp_path / "out" / "t.jsonl")]


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def values(text: str) -> dict[str, str]:
    """The summary's rows."""
    rows = (line.strip().partition("  ") for line in text.splitlines() if not line.startswith("weft:"))
    return {name: value.strip() for name, _, value in rows}


def trace(status: Status = Status.COMPLETE, tokens: PerAuthor = PerAuthor(3, 7)) -> Trace:  # noqa: B008
    return Trace(
        id="p#0",
        prompt=Prompt("p", (Message("user", "2 + 2?"),)),
        sample=0,
        status=status,
        reason=None if status is Status.COMPLETE else "so it was",
        spans=(Span(Author.STUDENT, "4"),),
        thinking_spans=0,
        completion=Message("assistant", "4"),
        training_template=None,
        usage=Usage(tokens=tokens, discarded=PerAuthor(1, 2), requests=PerAuthor(2, 2), turns=4),
        provenance=Provenance("tessy", "s", "t", Sampling(), Sampling(), 0, "0"),
    )


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


# -- the command -----------------------------------------------------------------------------------------


def test_traces_are_written_and_summed_up(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *files]) == 0
    output = Path(files[-1])
    complete = list(read_traces(output))
    assert {one.prompt.id for one in complete} == {"q0", "q1", "q2", "q4", "q5"}
    assert {one.status for one in read_traces(rejected_path(output))} == {Status.REPETITION}
    assert {span.author for one in complete for span in one.spans} == set(Author)
    out, err = capsys.readouterr()
    said = values(err)
    assert out == ""
    assert said["complete"] == "5"
    assert said["rejected"] == "1: repetition 1"
    kept = PerAuthor(
        sum(one.usage.tokens.student for one in complete), sum(one.usage.tokens.teacher for one in complete)
    )
    assert said["tokens kept"] == f"{kept.total:,} (student {kept.student:,}, teacher {kept.teacher:,})"
    assert said["teacher's share"] == f"{kept.teacher / kept.total:.1%}"
    assert said["traces in"] == str(output)
    assert said["rejected in"] == str(rejected_path(output))
    assert said["made by"] == str(manifest_path(output))
    assert said["what failed"] == f"weft show {rejected_path(output)}"
    assert "\x1b" not in err
    assert "\r" not in err


def test_the_same_command_goes_on(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *files, "--limit", "2"]) == 0
    before = Path(files[-1]).read_bytes()
    capsys.readouterr()
    assert main(["synth", *files]) == 0
    said = values(capsys.readouterr().err)
    assert Path(files[-1]).read_bytes().startswith(before)
    assert said["skipped"] == "2, finished by an earlier run"
    assert said["complete"] == "3 in this run"
    assert main(["synth", *files]) == 0
    said = values(capsys.readouterr().err)
    assert said["complete"] == "0 in this run"
    assert "tokens kept" not in said  # nothing was measured, and that is not zero
    assert len(list(read_traces(Path(files[-1])))) == 5


def test_what_was_repaired_is_said(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *files]) == 0
    output = Path(files[-1])
    output.write_bytes(output.read_bytes()[:-20])
    capsys.readouterr()
    assert main(["synth", *files]) == 0
    assert "torn last line" in values(capsys.readouterr().err)["note"]


def test_other_settings_are_refused(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *files]) == 0
    before = Path(files[-1]).read_bytes()
    capsys.readouterr()
    assert main(["synth", *files, "--seed", "3", "--strategy", "student-only"]) == 2
    err = capsys.readouterr().err
    assert "seed: 0 before, 3 now" in err
    assert 'strategy: "tessy" before, "student-only" now' in err
    assert "--overwrite" in err
    assert "Traceback" not in err
    assert "complete" not in err  # no summary of a run that never began
    assert Path(files[-1]).read_bytes() == before
    assert main(["synth", *files, "--strategy", "student-only", "--overwrite"]) == 0


def test_another_script_of_the_same_name_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", *files, "--limit", "1"]) == 0
    rewrite(tmp_path / "script.json", scripts=[{"thinking": THINKING, "response": "It is 5."}])
    assert main(["synth", *files]) == 2
    err = capsys.readouterr().err
    assert "engines.student.script: " in err
    assert "engines.teacher.script: " in err
    rewrite(tmp_path / "script.json", thinks=False)
    assert main(["synth", *files]) == 2
    assert "engines.student.chat_template: " in capsys.readouterr().err


def test_the_same_engine_by_another_path_goes_on(files: list[str], tmp_path: Path) -> None:
    assert main(["synth", *files, "--limit", "1"]) == 0
    (tmp_path / "other.json").write_bytes((tmp_path / "script.json").read_bytes())
    other = f"scripted:{tmp_path / 'other.json'}"
    assert main(["synth", files[0], "--student", other, "--teacher", other, *files[-2:]]) == 0
    assert len(list(read_traces(Path(files[-1])))) == 5


def test_a_model_is_known_by_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its folder's place and the name of its precision may change, not its precision or its template."""
    from weft.micro import model_path

    prompts, output = tmp_path / "p.jsonl", tmp_path / "t.jsonl"
    prompts.write_text('{"prompt": "6 * 3 ?"}\n')
    folder, template = tmp_path / "model", tmp_path / "template.jinja"
    shutil.copytree(model_path("student"), folder)
    template.write_text((folder / "chat_template.jinja").read_text())

    def run(student: str | Path, *options: str | Path) -> int:
        given = ["--student-device", "cpu", "--student-boundary", "oracle", "--max-thinking-tokens", "9"]
        alone = ["--strategy", "student-only", "--student", student, "-o", output, "-q", *given, *options]
        capsys.readouterr()
        return main(["synth", str(prompts), *map(str, alone)])

    run("micro:student")
    assert output.exists()
    for options in ([], ["--student-dtype", "float32"], ["--student-chat-template", template]):
        run(folder, *options)
        assert "other settings" not in capsys.readouterr().err
    assert run(folder, "--student-dtype", "float64") == 2
    assert 'engines.student.dtype: "float32" before, "float64" now' in capsys.readouterr().err
    template.write_text(template.read_text().replace("<|im_start|>", "<|im_start|> "))
    assert run(folder, "--student-chat-template", template) == 2
    assert "engines.student.chat_template: " in capsys.readouterr().err


def test_a_teacher_that_is_not_needed_decides_nothing(files: list[str]) -> None:
    alone = [*files[:3], *files[-2:], "--strategy", "student-only"]
    assert main(["synth", *alone, "--limit", "1"]) == 0
    assert main(["synth", *alone, "--teacher", "owner/model"]) == 0
    assert len(list(read_traces(Path(files[-1])))) == 5


def test_the_output_is_checked_before_engines_are_opened(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr(import_module("weft.synthesis.synthesize"), "open_engine", opened)
    for output, said in (("t.json", "not a .jsonl file"), ("prompts.jsonl/t.jsonl", "cannot write")):
        assert main(["synth", *files[:-1], str(tmp_path / output)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(AssertionError):
        main(["synth", *files])
    assert not Path(files[-1]).parent.exists()


def test_engine_errors_are_tried_again(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.json"
    rewrite(script, faults=[{"match": r"5 \+", "error": "HTTP 500 \x1b[2J"}])
    assert main(["synth", *files]) == 1
    said = values(capsys.readouterr().err)
    assert said["rejected"] == "2: engine_error 1, repetition 1"
    assert said["to try again"].startswith("1;")
    rewrite(script, faults=[])
    assert main(["synth", *files]) == 0
    said = values(capsys.readouterr().err)
    assert said["complete"] == "1 in this run"
    assert "1 taken out, to be tried again" in said["note"]


def test_a_run_that_cannot_go_on_says_what_is_kept(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(tmp_path / "script.json", faults=[{"match": r"[45] \+", "error": "HTTP 401 \x1b[2J"}])
    assert main(["synth", *files, "--samples", "10", "--error-rate", "0.5", "--concurrency", "1"]) == 1
    err = capsys.readouterr().err
    assert values(err)["complete"] == "30"
    assert "10 of the last 20 traces failed by engine errors" in err
    assert "fewer than 50% (--error-rate)" in err
    assert err.count("the first engine error, in q4#0: HTTP 401") == 2  # at once, and in the summary
    assert "HTTP 401 <U+001B>[2J" in err
    assert "\x1b" not in err


def test_interrupted(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = Tally.finished

    def interrupt(self: Tally, one: Trace) -> None:
        finished(self, one)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "finished", interrupt)
    assert main(["synth", *files, "--concurrency", "1"]) == 130
    err = capsys.readouterr().err
    assert "weft: interrupted" in err
    said = values(err)
    assert said["complete"] == "1"
    assert said["not written"] == "5; the same command goes on"
    monkeypatch.undo()
    assert main(["synth", *files]) == 0
    assert len(list(read_traces(Path(files[-1])))) == 5


def test_settings_of_a_file_and_of_flags(files: list[str], tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("strategy: teacher-only\nseed: 7\nsamples: 2\nsampling:\n  # temperature: 1\n")
    assert main(["synth", *files, "--config", str(config), "--seed", "8", "--quiet"]) == 0
    settings = json.loads(manifest_path(Path(files[-1])).read_text())["settings"]
    assert (settings["strategy"], settings["seed"]) == ("teacher-only", 8)
    assert len(list(read_traces(Path(files[-1])))) == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strategy", "tessi"], "tessi"),
        (["--samples", "0"], "samples"),
        (["--samples", "many"], "many"),
        (["--step", "0"], "step"),
        (["--step", "soon"], "step"),
        (["--step", "--5"], "step"),
        (["--step", "²"], "step"),
        (["--step", "12abc"], "the command line: --step: a whole number of tokens, at least 1, or auto;"),
        (["--temperature", "-1"], "the command line: --temperature: "),
        (["--temperature", "inf"], "--temperature: Input should be a finite number"),
        (["--teacher-top-p", "nan"], "--teacher-top-p: "),
        (["--max-thinking-tokens", "0"], "--max-thinking-tokens: "),
        (["--student-boundary", "oracel"], "--student-boundary: no boundary 'oracel'; there are"),
        (["--teacher-boundary-threshold", "1"], "--teacher-boundary-threshold: "),
        (["--student-template-args", "[1]"], "--student-template-args"),
        (["--no-such-option"], "--no-such-option"),
        (["--prompt-column", "question"], "--prompt-column"),
        (["--limit", "0"], "limit"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_exit_with_2_and_say_where(
    files: list[str], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", *files, *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not Path(files[-1]).exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("temprature: 1", "unknown setting temprature"),
        ("stratgy: tessy", "did you mean strategy?"),
        ("limits: {thinkin: 5}", "did you mean thinking?"),
        ("student: {nmae: x}", "did you mean name?"),
        ("sampling: 5", "recipe.yaml: sampling: expected settings by name, not 5"),
        ("limits: [1]", "recipe.yaml: limits: expected settings by name, not [1]"),
        ("teacher_sampling: hot", "recipe.yaml: teacher_sampling: expected settings by name, not 'hot'"),
        ("boundary: {student: nope}", "recipe.yaml: boundary.student: no boundary 'nope'"),
        ("step: 1.5", "recipe.yaml: step: a whole number"),
        ("limits: {thinking: 0}", "recipe.yaml: limits.thinking: "),
        ("- tessy", "not a mapping"),
        ("strategy: [", "recipe.yaml:1"),
    ],
)
def test_mistakes_in_a_settings_file(
    files: list[str], tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(text)
    assert main(["synth", *files, "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("value", ["5", "[a]", "true"])
def test_an_engine_that_is_neither_a_name_nor_settings(
    files: list[str], tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(f"student: {value}")
    assert main(["synth", files[0], "-o", files[-1], "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert "recipe.yaml: student: expected the name of an engine, or settings by name" in err
    assert "Traceback" not in err


def test_mistakes_in_both_places_are_all_said(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("limits: {response: 0}")
    assert main(["synth", *files, "--config", str(config), "--top-p", "2"]) == 2
    err = capsys.readouterr().err
    assert f"{config} and the command line: " in err
    assert "--top-p: " in err
    assert "limits.response: " in err


def test_missing_prompts(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "./missing.jsonl", *files[1:]]) == 2
    assert "missing.jsonl: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("./no/such/folder", "no such folder"),
        ("scripted:missing.json", "missing.json: cannot be read"),
        ("micro:pupil", "micro:student or micro:teacher"),
        ("micro:student@http://127.0.0.1:1/v1", "127.0.0.1:1/v1/models: cannot be reached"),
        ("micro:student@http://me:secret@127.0.0.1:1", "might be secret"),
        ("@http://127.0.0.1:1", "no model before the @"),
    ],
)
def test_no_such_engine(files: list[str], engine: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", files[0], "--student", engine, *files[3:]]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert "secret@" not in err


def test_no_student(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", files[0], "-o", files[-1]]) == 2
    assert "--student" in capsys.readouterr().err


def test_flags_know_all_strategies_and_dtypes() -> None:
    assert set(get_args(Strategies)) == set(Strategy)
    assert get_args(DType) == get_args(EngineSettings.model_fields["dtype"].annotation)


# -- the display -----------------------------------------------------------------------------------------


def test_lines_come_seldom_and_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tally = Tally(1000, clock=clock)
    with watched(tally):
        for second in range(500):
            clock.now = float(second)
            tally.generated(Author.TEACHER, 20)
            tally.finished(trace(Status.LENGTH if second % 5 == 0 else Status.COMPLETE))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "weft: 10 of 1,000, 8 complete, 2 rejected, 22 tokens/s, teacher 70%, 16:30 left"
    assert 20 < len(lines) < 500 / LINE_SECONDS
    assert all(line.isprintable() for line in lines)


def test_quiet_has_no_lines_but_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with display(2, tmp_path / "t.jsonl", quiet=True) as observer:
        assert isinstance(observer, Tally)
        clock = Clock()
        observer.clock = clock
        observer.generated(Author.STUDENT, 5)
        clock.now = 1000.0
        observer.finished(trace())
    err = capsys.readouterr().err
    assert "weft:" not in err
    assert values(err)["complete"] == "1"


def test_the_summary_counts_tokens_by_author(tmp_path: Path) -> None:
    clock = Clock()
    tally = Tally(9, clock=clock)
    tally.skipped()
    tally.generated(Author.STUDENT, 10)
    clock.now = 4.0
    tally.finished(trace())
    tally.finished(trace(tokens=PerAuthor(5, 5)))
    tally.finished(trace(Status.LENGTH, PerAuthor(100, 0)))
    tally.finished(trace(Status.LENGTH, PerAuthor(100, 0)))
    tally.finished(trace(Status.EMPTY, PerAuthor(0, 0)))
    tally.noted("repaired \x1b[2J")
    rows = dict(summary(tally, tmp_path / "a b.jsonl"))
    assert rows == {
        "complete": "2 in this run",
        "rejected": "3 in this run: length 2, empty 1",
        "skipped": "1, finished by an earlier run",
        "not written": "3; the same command goes on",
        "tokens kept": "20 (student 8, teacher 12)",
        "  teacher's share": "60.0%",
        "  in rejected": "200",
        "  discarded": "15 (student 5, teacher 10)",
        "requests": "20 (student 10, teacher 10)",
        "turns": "8; 4.0 per trace",
        "seconds": "4.0, 4.0 of them writing",
        "speed": "2 tokens/s",
        "traces in": str(tmp_path / "a b.jsonl"),
        "made by": str(tmp_path / "a b.manifest.json"),
        "note": "repaired <U+001B>[2J",
    }
    (tmp_path / "a b.jsonl").write_text("{}\n")
    assert dict(summary(tally, tmp_path / "a b.jsonl"))["look at"] == f"weft show '{tmp_path}/a b.jsonl'"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    clock = Clock()
    tally = Tally(20_000, clock=clock)
    console = Console(width=width, legacy_windows=False)
    console.print(Bar(tally))
    assert capsys.readouterr().out == "opening the models … 0:00\n"
    for second in range(100):
        clock.now = float(second)
        tally.generated(Author.TEACHER, 2000)
        tally.finished(trace(Status.COMPLETE if second % 7 else Status.LENGTH))
    console.print(Bar(tally))
    bar, counts = capsys.readouterr().out.splitlines()
    assert bar.endswith(" 100/20,000 5:28:21 left")
    assert counts == "85 complete · 15 rejected · 2,133 tokens/s · teacher 70%"
    assert len(bar) == width


def test_a_terminal_is_left_as_it_was(files: list[str]) -> None:
    """Under a pseudo-terminal: the bar, then the summary as a table, the cursor shown again."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    command = [sys.executable, "-m", "weft", "synth", *files]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        screen = b""
        with contextlib.suppress(OSError):  # what a pseudo-terminal says when its other side is closed
            while chunk := os.read(ours, 65536):
                screen += chunk
    os.close(ours)
    assert process.returncode == 0
    said = screen.decode()
    assert "opening the models" in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "rejected in" in said[said.rindex("\x1b[?25h") :]


def test_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    tally = Tally(10, clock=clock)
    assert tally.speed is None
    assert tally.seconds_left is None
    for second in range(100):
        clock.now = float(second)
        tally.generated(Author.STUDENT, 1000 if second < 50 else 10)
    assert tally.speed == pytest.approx(10, rel=0.1)
    clock.now = 1000.0
    assert tally.speed == 0


def test_a_file_that_is_not_wefts_is_never_overwritten(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "two plus two"}\n')
    script = tmp_path / "s.json"
    script.write_text('{"scripts": [{"thinking": "Okay, so", "response": "4"}]}')
    before = prompts.read_bytes()
    for output in (prompts, tmp_path / "own.jsonl", tmp_path / "a.rejected.jsonl"):
        if output != prompts:
            output.write_text("precious\n")
        said = output.read_bytes()
        engine = f"scripted:{script}"
        code = main(
            [
                "synth",
                str(prompts),
                "--student",
                engine,
                "--teacher",
                engine,
                "-o",
                str(output),
                "--overwrite",
                "-q",
            ]
        )
        assert code == 2
        assert output.read_bytes() == said
    assert prompts.read_bytes() == before


def test_another_engine_on_the_command_line_keeps_nothing_of_the_files(tmp_path: Path) -> None:
    from weft.cli.settings import read_settings

    config = tmp_path / "c.yaml"
    config.write_text("student: {name: a, revision: r, dtype: float16}\nstrategy: student-only\n")
    assert read_settings(config, {"student": {"name": "b"}}).student.revision is None
    assert read_settings(config, {"student": {"name": None, "dtype": "float32"}}).student.revision == "r"
