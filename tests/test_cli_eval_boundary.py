"""``weft boundary eval`` as a person runs it: tables, JSON, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from classifiers import save_classifier
from weft.boundary.classifier.facts import Facts
from weft.boundary.measuring import cost
from weft.boundary.measuring.truth import digest, oracle_style
from weft.boundary.spans import Annotation
from weft.boundary.training.split import split_of
from weft.cli.main import main
from weft.micro.styles import write_trace
from weft.micro.world import draw_problem
from weft.records import Author, Message, Prompt, Provenance, Sampling, Span, Status, Trace, Usage

FIGURE = {"value", "low", "high", "n"}
TEXTS = 12


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A common terminal, and few decisions whose cost is measured."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(cost, "MOST_ROUNDS", 2)


def micro_trace(number: int, status: Status = Status.COMPLETE) -> Trace:
    """A gold trace of the micro world in the student's style."""
    rng = Random(number)
    problem = draw_problem("finetune", rng)
    gold = write_trace(problem, "student", rng)
    return Trace(
        id=f"p{number}#0",
        prompt=Prompt(f"p{number}", (Message("user", problem.question),)),
        sample=0,
        status=status,
        reason=None if status is Status.COMPLETE else "cut",
        spans=(Span(Author.STUDENT, gold.thinking), Span(Author.STUDENT, gold.answer)),
        thinking_spans=1,
        completion=Message("assistant", gold.answer, gold.thinking, "reasoning_content"),
        training_template=None,
        usage=Usage(),
        provenance=Provenance("student-only", "s", None, Sampling(), None, 0, "0"),
    )


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("traces") / "t.jsonl"
    file.write_text("".join(micro_trace(number).to_line() for number in range(TEXTS)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same texts, annotated."""
    file = tmp_path_factory.mktemp("spans") / "s.jsonl"
    rows = []
    for number in range(TEXTS):
        text = micro_trace(number).thinking
        group = f"p{number}"
        rows.append(Annotation(f"{group}#0@0/0", f"{group}#0", group, 0, text, oracle_style(text)).to_row())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random weights: it says something of everything, mostly wrong."""
    return save_classifier(tmp_path_factory.mktemp("classifier") / "c", window=64)


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["boundary", "eval", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(shown(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["boundary", "eval", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def figures(value: Any) -> list[dict[str, Any]]:
    """All figures in a JSON value."""
    if isinstance(value, dict):
        if set(value) == FIGURE:
            return [value]
        return [figure for inner in value.values() for figure in figures(inner)]
    return [figure for inner in value for figure in figures(inner)] if isinstance(value, list) else []


def test_the_oracle_agrees_with_itself(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, "oracle", traces, "--labels", "oracle")
    assert found["texts"] == found["groups"] == TEXTS
    for name in ("boundary_f1", "boundary_precision", "boundary_recall"):
        assert list(found[name]) == ["0", "1", "3"]
        for figure in found[name].values():
            assert (figure["value"], figure["low"], figure["high"]) == (1, 1, 1)
            assert figure["n"] > TEXTS
    for kind in ("style", "capability"):
        assert {figure["value"] for figure in found[kind].values()} == {1}
        assert found["span_length"][kind]["true"] == found["span_length"][kind]["predicted"]
        assert found["leaked"][kind]["value"] == 0
    assert found["calibration"] is None
    assert found["thresholds"] == []


def test_the_json_says_what_was_measured_and_how(
    traces: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(capsys, classifier, traces, "--labels", "oracle", "--threshold", "0.55", "--seed", "3")
    assert list(found) == [
        "schema",
        "boundary",
        "description",
        "threshold",
        "file",
        "sha256",
        "labels",
        "split",
        "units",
        "seed",
        "texts",
        "groups",
        "tokens",
        "boundary_f1",
        "boundary_precision",
        "boundary_recall",
        "style",
        "capability",
        "span_length",
        "leaked",
        "calibration",
        "thresholds",
        "cost",
        "versions",
    ]
    assert (found["schema"], found["boundary"], found["threshold"]) == (1, str(classifier), 0.55)
    assert (found["file"], found["sha256"]) == (str(traces), digest(traces))
    assert (found["labels"], found["split"], found["seed"]) == ("oracle", "all", 3)
    assert found["description"]["boundary"] == "classifier"
    assert list(found["calibration"]) == ["ece", "brier", "reliability"]
    assert len(found["calibration"]["reliability"]) == 15
    assert sum(row["style"]["n"] for row in found["calibration"]["reliability"]) == found["tokens"]
    assert [row["threshold"] for row in found["thresholds"] if row["in_use"]] == [0.55]
    assert len(found["thresholds"]) == 10
    assert list(found["cost"]) == ["milliseconds_per_decision", "machine", "device"]
    assert list(found["cost"]["milliseconds_per_decision"]) == ["1", "64"]
    assert {"weft", "python", "torch", "transformers"} <= set(found["versions"])
    everything = figures(found)
    assert len(everything) > 60
    for figure in everything:
        assert (figure["value"] is None) == (figure["n"] == 0)
        if figure["low"] is not None:
            assert figure["low"] <= figure["high"]
    assert figures(found["boundary_f1"])[0]["value"] < 1, "random weights"
    again = measured(capsys, classifier, traces, "--labels", "oracle", "--threshold", "0.55", "--seed", "3")
    assert {**again, "cost": None} == {**found, "cost": None}


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(
    width: int,
    traces: Path,
    classifier: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(traces.parent)
    out = shown(capsys, classifier, traces.name, "--labels", "oracle")
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    for title in (
        "Hand-over places",
        "Tokens",
        "Mean length of spans, in tokens",
        "Leaks, as shares of all tokens",
        "Probabilities of style",
        "Thresholds",
        "Milliseconds per decision",
    ):
        assert title in lines
    found = measured(capsys, classifier, traces.name, "--labels", "oracle")
    one = found["boundary_f1"]["1"]
    row = next(line for line in lines if line.startswith("within 1 token "))
    assert f"{one['value']:.3f} ({one['low']:.3f}–{one['high']:.3f})" in row
    assert any(line.startswith("0.5 *") for line in lines)
    assert "…" not in out, "nothing is cut off"


def test_narrow_terminals_get_a_figure_a_line(
    traces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(traces.parent)
    lines = shown(capsys, "oracle", traces.name, "--labels", "oracle").splitlines()
    assert max(map(len, lines)) <= 40
    place = lines.index("within 1 token")
    assert lines[place + 1 : place + 4] == [
        f"  {name}: 1.000 (1.000–1.000)" for name in ("F1", "precision", "recall")
    ]


def test_a_lexicon_finds_some_of_it(spans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, "lexicon", spans)
    assert found["units"].startswith("words")
    assert 0 < found["boundary_f1"]["3"]["value"] < 1
    assert found["style"]["precision"]["value"] > found["style"]["recall"]["value"] > 0
    assert found["leaked"]["style"]["value"] > found["leaked"]["capability"]["value"]
    loose = measured(capsys, "lexicon", spans, "--threshold", "0.05")
    assert loose["description"] != found["description"]
    assert loose["style"]["recall"]["value"] >= found["style"]["recall"]["value"]


def test_other_boundaries_are_counted_in_tokens_on_request(
    spans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(capsys, "oracle", spans, "--tokenizer", "micro:student")
    assert found["units"] == "tokens of micro:student"
    assert found["boundary_f1"]["0"]["value"] == 1


def test_texts_that_were_trained_on_are_left_out_and_it_says_so(
    spans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_classifier(tmp_path / "c")
    training = {"files": [{"sha256": digest(spans)}], "validation": 0.5, "split_seed": 0}
    Facts(window=64, training=training).write(folder)
    held_out = sum(split_of(f"p{number}", 0.5, 0) == "validation" for number in range(TEXTS))
    assert 0 < held_out < TEXTS
    assert "held out in its training" in shown(capsys, folder, spans)
    found = measured(capsys, folder, spans)
    assert (found["split"], found["texts"]) == ("validation", held_out)
    assert measured(capsys, folder, spans, "--split", "all")["texts"] == TEXTS
    assert "which it was trained on" in shown(capsys, folder, spans, "--split", "train")


def test_a_class_that_the_truth_lacks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(json.dumps(Annotation("a#0@0/0", "a#0", "a", 0, "6 * 7 = 42", ()).to_row()) + "\n")
    out = shown(capsys, "oracle", file)
    assert "The truth holds no style" in out
    assert "One prompt alone gives no intervals." in out
    assert "1 text of 1 prompt;" in out
    found = measured(capsys, "oracle", file)
    assert found["style"]["recall"] == {"value": None, "low": None, "high": None, "n": 0}


def test_rejected_traces_are_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.jsonl"
    rows = [micro_trace(0), micro_trace(1, Status.LENGTH), micro_trace(2)]
    file.write_text("".join(trace.to_line() for trace in rows), encoding="utf-8")
    assert measured(capsys, "oracle", file, "--labels", "oracle")["texts"] == 2
    assert measured(capsys, "oracle", file, "--labels", "oracle", "--limit", "1")["texts"] == 1
    file.write_text(rows[1].to_line(), encoding="utf-8")
    assert "no complete trace with thinking" in refused(capsys, "oracle", file, "--labels", "oracle")


def test_mistakes_are_told(spans: Path, traces: Path, classifier: Path, capsys: Any) -> None:
    assert "asks two models" in refused(capsys, "agree", spans)
    assert "asks two models" in refused(capsys, "agree:4", spans)
    assert "no boundary 'lexikon'" in refused(capsys, "lexikon", spans)
    assert "its own tokens" in refused(capsys, classifier, spans, "--tokenizer", "micro:student")
    assert "a threshold of 1" in refused(capsys, "lexicon", spans, "--threshold", "1")
    assert "no threshold" in refused(capsys, "oracle", spans, "--threshold", "0.4")
    assert "a limit of 0" in refused(capsys, "oracle", spans, "--limit", "0")
    assert "a seed of -1" in refused(capsys, "oracle", spans, "--seed", "-1")
    assert "these are traces" in refused(capsys, "oracle", traces)
    assert "these are spans" in refused(capsys, "oracle", spans, "--labels", "oracle")
    assert "cannot be read" in refused(capsys, "oracle", spans.with_name("none.jsonl"))
    assert "part is not known" in refused(capsys, classifier, spans, "--split", "train")


def test_help_loads_no_model_library() -> None:
    code = (
        "import sys; from weft.cli.main import main; assert main(['boundary', 'eval', '--help']) == 0; "
        "assert not {'torch', 'transformers', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "weft boundary eval" in done.stdout
