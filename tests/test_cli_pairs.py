"""``weft pairs`` as a person runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from weft.cli.main import main
from weft.micro.world import prompt_lines
from weft.quality.opening import may_be_quality
from weft.store import rejected_path

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of the micro world with what was thrown away, as the command line writes them."""
    folder = tmp_path_factory.mktemp("traces")
    questions, path = folder / "prompts.jsonl", folder / "traces.jsonl"
    questions.write_text("".join(prompt_lines(4, 0, "finetune")))
    models = ["--student", "micro:student", "--teacher", "micro:teacher"]
    assert main(["synth", str(questions), *models, "--keep-proposals", "-q", "-o", str(path)]) == 0
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


WEAVE = [
    "--student",
    "micro:student",
    "--verifier",
    r"regex:(\d+)\D*$",
    "--samples",
    "2",
    "--max-tokens",
    "200",
]


def test_weave(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "woven.jsonl"
    command = ["pairs", "weave", str(traces), *WEAVE, "-o", str(output)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    pairs = len(rows(output))
    assert re.search(rf"^pairs +{pairs}$", shown.err, re.MULTILINE)
    assert "one continuation begins with the other" in shown.err
    assert f"weft align --model MODEL --data {output} --preview" in shown.err
    assert max(map(len, shown.err.splitlines())) < 200
    assert main([*command, "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == pairs and found["to_try_again"] == 0
    assert 0 <= found["figures"]["student_success"] < found["figures"]["teacher_success"] <= 1


def test_samples_by_a_verifier(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One trace of each prompt: there is nothing to compare, which is said, and is no success.
    output = tmp_path / "pairs.jsonl"
    assert main(["pairs", "samples", str(traces), "--by", "math", "-o", str(output)]) == 1
    shown = capsys.readouterr().err
    assert "4: prompts with fewer than two responses to compare" in shown and "look at them" not in shown
    assert output.read_text() == ""


def test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = tmp_path / "data.jsonl", tmp_path / "pairs.jsonl"
    some = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b", "good": n, "bad": 1} for n in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in some))
    command = ["pairs", "data", str(data), "--scores", "good", "bad", "-o", str(output)]
    assert main(command) == 0
    assert [row["prompt"] for row in rows(output)] == ["q1", "q2"]
    assert rows(rejected_path(output))[0]["status"] == "contradicted"
    shown = capsys.readouterr().err
    assert "the rejected response has the higher score" in shown and f"others in     {tmp_path}" in shown


def test_settings_from_a_file(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "weave.yaml"
    config.write_text("student: micro:student\nverifier: math\nper_trace: 1\n")
    output = tmp_path / "woven.jsonl"
    command = ["pairs", "weave", str(traces), "--config", str(config), *WEAVE[4:], "-o", str(output)]
    assert main(command) == 0
    assert len(rows(output)) + len(rows(rejected_path(output))) <= 4
    config.write_text("student: micro:student\nverifier: math\nper_traces: 1\n")
    assert main(command) == 2
    assert "unknown setting per_traces; did you mean per_trace?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["samples"], "no traces"),
        (["weave", "{traces}", "--verifier", "math"], "no student"),
        (["weave", "{traces}", "--student", "micro:student"], "no verifier"),
        (["weave", "{traces}", *WEAVE[:2], "--verifier", "beauty"], "--verifier: no verifier 'beauty'"),
        (["weave", "none.jsonl", *WEAVE], "none.jsonl"),
        (["samples", "{traces}"], "has no verdict"),
        (["samples", "{traces}", "--by", "beauty"], "--by: no quality 'beauty'"),
        (["samples", "{traces}", "--by", "math", "--license", "mit"], "without --push-to-hub"),
        (["data", "none.jsonl"], "no such file"),
    ],
)
def test_mistakes(
    arguments: list[str], said: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    given = [argument.format(traces=traces) if "{traces}" in argument else argument for argument in arguments]
    assert main(["pairs", *given, "-o", str(output)]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown
    assert not output.exists()


def test_proposals_that_were_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, path = tmp_path / "prompts.jsonl", tmp_path / "traces.jsonl"
    questions.write_text("".join(prompt_lines(1, 0, "finetune")))
    models = ["--student", "micro:student", "--teacher", "micro:teacher"]
    assert main(["synth", str(questions), *models, "-q", "-o", str(path)]) == 0
    assert main(["pairs", "weave", str(path), *WEAVE, "-o", str(tmp_path / "woven.jsonl")]) == 2
    assert "write them anew with --keep-proposals" in capsys.readouterr().err


def test_help_says_what_the_commands_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", "--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("samples", "data", "weave"):
        assert command in shown


# -- verifiers where a quality is asked for --


def test_rewards_are_judged_by_a_verifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    some = [
        {"prompt": [{"role": "user", "content": f"{n} + {n}?"}], "answer": f"{2 * n}"}
        | {
            side: [{"role": "assistant", "content": rf"\boxed{{{said}}}"}]
            for side, said in (("chosen", 2 * n), ("rejected", 2 * n + 1))
        }
        for n in range(1, 4)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in some))
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"thinks": False, "scripts": [{"response": r"\boxed{2}"}]}))
    command = ["gap", "reward", str(pairs), "--policy", f"scripted:{policy}", "--quality", "math"]
    assert main([*command, "--continuations", "0", "--prefix", "none", "--json", "-q"]) == 0
    gap = json.loads(capsys.readouterr().out)
    (consistency,) = gap["policies"][0]["consistency"]
    assert consistency["holds"]["value"] == 1.0


@pytest.mark.parametrize("name", ["math", "exact", "exact:nocase", "code", r"regex:\d+", "answer", "judge:x"])
def test_verifiers_are_qualities(name: str) -> None:
    assert may_be_quality(name)


@pytest.mark.parametrize("name", ["maths", "regex:", "judge:", "reward", "", "answer:x"])
def test_other_names_are_none(name: str) -> None:
    assert not may_be_quality(name)
