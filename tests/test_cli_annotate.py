"""``weft boundary annotate`` and ``compare`` as a person runs them, on scripted annotators."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from annotation_world import mark, trace_of, write_traces
from weft.boundary.annotation.windows import draw_windows
from weft.boundary.spans import AnnotationStatus, read_annotations
from weft.cli.main import main
from weft.store import manifest_path, rejected_path

TEXTS = (
    "Okay, so the sum is 12 and the other one is 3.14 of it.",
    "Wait, I don't think that 5 can be right at all.",
    "Hmm, let me check that again. It is 9.",
    "The triangle has the sides 3, 4 and 5.",
)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Four traces of one window each, one of them never answered well, one at second try; the arguments."""
    traces = write_traces(tmp_path / "traces.jsonl", [trace_of(i, text) for i, text in enumerate(TEXTS)])
    script(tmp_path / "script.json")
    return [
        "boundary",
        "annotate",
        str(traces),
        "--annotator",
        f"scripted:{tmp_path / 'script.json'}",
        "-o",
        str(tmp_path / "out" / "spans.jsonl"),
    ]


def script(path: Path, **more: Any) -> None:
    cases = [
        {"match": r"The text:\nThe triangle", "response": "There is \x1b[2J no style."},
        {"match": r"(?s)The text:\nHmm.*cannot be used", "response": mark(TEXTS[2])},
        {"match": r"The text:\nHmm", "response": "```json\n[]\n```"},
        {"match": r"The text:\nOkay", "response": mark(TEXTS[0])},
        {"match": r"The text:\nWait", "response": mark(TEXTS[1])},
    ]
    cases = [{"thinking": "Let me see.", **case} for case in cases]
    path.write_text(json.dumps({"scripts": cases, "align": "characters", **more}))


def values(text: str) -> dict[str, str]:
    """The summary's rows."""
    rows = (line.partition("  ") for line in text.splitlines() if not line.startswith("weft:"))
    return {(name or value.partition("  ")[0]).strip(): value.strip() for name, _, value in rows}


def test_annotations_are_written_and_summed_up(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    output = Path(files[-1])
    found = {one.group: one for one in read_annotations(output)}
    assert set(found) == {"p0", "p1", "p2"}
    assert len(found["p2"].answers) == 2
    out, err = capsys.readouterr()
    said = values(err)
    assert out == ""
    assert said["complete"] == "3"
    assert said["rejected"] == "1: not_json 1"
    assert "p3#0@0/0: it begins with" in err
    assert "\x1b" not in err
    assert said["second tries"] == "1 of the complete ones"
    assert said["spans"] == "3; 1.0 per window"
    styled = sum(end - start for one in found.values() for start, end in one.style)
    share = styled / sum(len(one.text) for one in found.values())
    assert said["style"] == f"{share:.1%} of the characters"
    assert said["annotations in"] == str(output)
    assert said["rejected in"] == str(rejected_path(output))
    assert said["made by"] == str(manifest_path(output))


def test_the_same_command_goes_on(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--limit", "2", "--quiet"]) == 0
    before = Path(files[-1]).read_bytes()
    capsys.readouterr()
    assert main(files) == 0
    said = values(capsys.readouterr().err)
    assert said["skipped"] == "2, finished by an earlier run"
    assert said["complete"] == "1 in this run"
    assert Path(files[-1]).read_bytes().startswith(before)
    assert main(files) == 0
    assert "spans" not in values(capsys.readouterr().err)  # nothing was measured, and that is not zero


def test_other_settings_are_refused(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    capsys.readouterr()
    assert main([*files, "--words", "60", "--seed", "2"]) == 2
    err = capsys.readouterr().err
    assert "windows.shortest: 40 before, 60 now" in err
    assert "seed: 0 before, 2 now" in err
    assert main([*files, "--words", "60", "--seed", "2", "--overwrite"]) == 0


def test_engine_errors_fail_the_run_and_are_tried_again(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path / "script.json", faults=[{"match": r"The text:\nOkay", "error": "HTTP 500"}])
    assert main(files) == 1
    said = values(capsys.readouterr().err)
    assert said["rejected"] == "2: engine_error 1, not_json 1"
    assert said["to try again"].startswith("1;")
    script(tmp_path / "script.json")
    assert main(files) == 0
    assert values(capsys.readouterr().err)["complete"] == "1 in this run"


def test_nothing_annotated_fails(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps({"scripts": [{"response": "No."}]}))
    assert main([*files, "-q"]) == 1
    rejected = [json.loads(line) for line in rejected_path(Path(files[-1])).read_text().splitlines()]
    assert {row["status"] for row in rejected} == {AnnotationStatus.NOT_JSON}


def test_an_own_prompt(files: list[str], tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Which words? The text:\n{text}")
    assert main([*files, "--prompt", str(prompt), "-q"]) == 0
    assert json.loads(manifest_path(Path(files[-1])).read_text())["info"]["prompt"] == prompt.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--words", "many"], "--words"),
        (["--words", "80:40"], "windows of 80 words at least and 40 at most"),
        (["--words", "0:40"], "--words: "),
        (["--per-trace", "0"], "--per-trace: "),
        (["--passes", "2", "--temperature", "0"], "2 greedy passes would be equal"),
        (["--passes", "2"], "--temperature above 0"),
        (["--max-tokens", "0"], "--max-tokens: "),
        (["--temperature", "-1"], "--temperature: "),
        (["--timeout", "0"], "--timeout: "),
        (["--prompt", "missing.txt"], "missing.txt"),
        (["--annotator-template-args", "[1]"], "--annotator-template-args"),
        (["--annotator", "owner/name", "--annotator-tokenizer", "x"], "a tokenizer is for servers"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_mistakes_exit_with_2_and_say_where(
    files: list[str], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = files[:3] if "--annotator" in options else files[:5]
    assert main([*named, *files[5:], *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not Path(files[-1]).exists()


def test_bad_traces_are_named(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[2]).write_text('{"id": 1}\n')
    assert main(files) == 2
    assert f"{files[2]}:1" in capsys.readouterr().err


def test_two_passes_are_compared(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files, "--passes", "2", "--temperature", "1", "-q"]) == 0
    capsys.readouterr()
    assert main(["boundary", "compare", files[-1]]) == 0
    said = values(capsys.readouterr().out)
    assert said["windows"] == "3 annotated twice, of 3 prompts"
    assert said["kappa"] == "1.000 (1.000–1.000)"
    assert main(["boundary", "compare", files[-1], "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["kappa"]["value"] == 1
    assert row["boundary_f1"]["0"]["value"] == 1


def test_two_annotators_are_compared(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files, "-q"]) == 0
    other = tmp_path / "other.jsonl"
    (tmp_path / "script.json").write_text(json.dumps({"scripts": [{"response": "[]"}]}))
    assert main([*files[:-1], str(other), "-q"]) == 0
    capsys.readouterr()
    assert main(["boundary", "compare", files[-1], str(other)]) == 0
    said = values(capsys.readouterr().out)
    assert said["left out"] == "1 annotated once"
    assert said["style, second"] == "0.000 (0.000–0.000)"
    assert said["kappa"].startswith("0.000")


def test_one_pass_cannot_be_compared(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "-q"]) == 0
    assert main(["boundary", "compare", files[-1]]) == 2
    assert "--passes 2" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from weft.cli.main import main\n"
        "for name in ('annotate', 'compare'): main(['boundary', name, '--help'])\n"
        "assert not {'torch', 'transformers', 'sklearn', 'scipy', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_windows_of_the_tests_are_whole_texts() -> None:
    for text in TEXTS:
        (window,) = draw_windows(text, shortest=40, longest=80, most=4, seed=0, trace="p#0")
        assert window.text == text
