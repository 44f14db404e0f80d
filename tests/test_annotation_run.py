"""Annotating: every window ends in one row, whatever the annotator says and whatever ends the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from annotation_world import Annotator, Watching, again, mark, settings, text_of, trace_of, write_traces
from scripted_server import Dialect, ScriptedServer
from weft.boundary.annotation.annotate import annotate
from weft.boundary.annotation.settings import AnnotationSettings
from weft.boundary.spans import SPANS, Annotation, AnnotationStatus, read_annotations
from weft.engines.base import CompletionRequest
from weft.engines.scripted import ScriptedVocabulary, View
from weft.errors import EngineError, RunError, UserError
from weft.records import Sampling, Status
from weft.store import manifest_path, read_manifest, read_rows, rejected_path
from worlds import parrot

MODULE = import_module("weft.boundary.annotation.annotate")
TRACES = 6


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return write_traces(tmp_path / "traces.jsonl", [trace_of(number) for number in range(TRACES)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "spans.jsonl"


def go(
    annotator: Annotator,
    traces: Path,
    output: Path,
    given: AnnotationSettings | None = None,
    *,
    overwrite: bool = False,
    watching: Watching | None = None,
) -> bool:
    """One run with a scripted annotator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "open_engine", annotator.open)
        return annotate(given or settings(), traces, output, overwrite=overwrite, observer=watching)


def careful(prompt: str) -> str:
    return mark(text_of(prompt))


def rows(output: Path) -> dict[str, Annotation]:
    found = [*read_rows(SPANS, output), *read_rows(SPANS, rejected_path(output))]
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


# -- what is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("thinks", [True, False])
def test_every_window_is_marked(traces: Path, output: Path, thinks: bool) -> None:
    watching = Watching()
    assert go(Annotator(careful, thinks=thinks), traces, output, watching=watching)
    found = list(read_annotations(output))
    assert len(found) == watching.total == len(watching.seen) == 4 * TRACES
    assert Counter(one.group for one in found) == {f"p{number}": 4 for number in range(TRACES)}
    for one in found:
        text = trace_of(int(one.group[1:])).thinking
        assert text[one.start : one.start + len(one.text)] == one.text
        assert one.id == f"{one.trace}@{one.start}/0"
        assert [one.text[start:end] for start, end in one.style] == json.loads(mark(one.text))
        assert one.answers == (mark(one.text),)
        assert one.annotator == "scripted"
    assert any(one.style for one in found)


def test_the_manifest_says_what_made_them(traces: Path, output: Path) -> None:
    go(Annotator(careful), traces, output, settings(seed=3))
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.settings["seed"] == 3
    assert manifest.settings["windows"] == {"shortest": 40, "longest": 80}
    assert manifest.settings["sampling"]["temperature"] == 0
    assert "annotator" in manifest.settings
    assert manifest.info["traces"]["windows"] == 4 * TRACES
    assert "{text}" in manifest.info["prompt"]
    assert (manifest.runs[0].complete, manifest.runs[0].rejected) == (4 * TRACES, 0)


def test_concurrency_changes_nothing(traces: Path, tmp_path: Path) -> None:
    made = []
    for concurrency in (1, 7, 100):
        output = tmp_path / f"{concurrency}.jsonl"
        go(Annotator(careful), traces, output, settings(concurrency=concurrency))
        made.append(rows(output))
    assert made[0] == made[1] == made[2]


def test_an_own_prompt_is_what_is_asked(traces: Path, output: Path) -> None:
    annotator = Annotator(lambda prompt: "[]")
    go(annotator, traces, output, settings(template="Mark this: {text} {x}"))
    assert all("Mark this: " in prompt and prompt.count("{x}") == 1 for prompt in annotator.prompts)
    assert all(one.style == () for one in read_annotations(output))


BAD = {
    "prose": ("Sure, there is no style.", "not_json"),
    "fences": ("```json\n[]\n```", "not_json"),
    "half": ('["Okay, so", "Wa', "not_json"),
    "object": ('{"spans": []}', "not_strings"),
    "numbers": ("[1]", "not_strings"),
    "paraphrased": ('["Now I think that"]', "not_found"),
    "empty span": ('[" "]', "empty_span"),
    "nothing": ("", "no_answer"),
    "a loop": ("so " * 3000, "no_answer"),
    "a tag": ("<think>", "no_answer"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_shown_again_and_then_recorded(traces: Path, output: Path, kind: str) -> None:
    answer, status = BAD[kind]
    annotator = Annotator(lambda prompt: answer)
    assert not go(annotator, traces, output, settings(per_trace=1, limit=1))
    (one,) = rows(output).values()
    assert (one.status, one.style, len(one.answers)) == (status, (), 2)
    assert one.reason
    if status != "no_answer":
        assert one.answers == (answer, answer)
    first, second = annotator.prompts
    assert not again(first)
    assert again(second)
    assert "Look at the text again" in second
    assert text_of(first) in second
    assert not list(read_annotations(output))


@pytest.mark.parametrize("bad", ["Sure!", "", '["Okay, so", "Okay, so", "Okay, so", "Okay, so"]'])
def test_a_second_try_may_be_good(traces: Path, output: Path, bad: str) -> None:
    annotator = Annotator(lambda prompt: mark(text_of(prompt)) if again(prompt) else bad)
    assert go(annotator, traces, output, settings(per_trace=1))
    for one in read_annotations(output):
        assert one.answers == (bad, mark(one.text))
        assert one.reason is None


def test_overlapping_spans_are_refused(tmp_path: Path, output: Path) -> None:
    traces = write_traces(tmp_path / "t.jsonl", [trace_of(0, "Okay, so it is 7.")])
    go(Annotator(lambda prompt: '["Okay, so", "so it"]'), traces, output)
    (one,) = rows(output).values()
    assert one.status is AnnotationStatus.OUT_OF_ORDER
    assert '"so it"' in (one.reason or "")


def test_no_room_to_ask_again_leaves_the_first_reason(traces: Path, output: Path) -> None:
    annotator = Annotator(lambda prompt: "Sure! " + " ".join(map(str, range(400))))
    go(annotator, traces, output, settings(per_trace=1, limit=1))
    annotator.context = len(ScriptedVocabulary().encode_template(annotator.prompts[0])) + 430
    go(annotator, traces, output, settings(per_trace=1, limit=1), overwrite=True)
    (one,) = rows(output).values()
    assert len(one.answers) == 1
    assert one.status is AnnotationStatus.NOT_JSON


def test_an_annotator_without_room_for_the_text_says_so(traces: Path, output: Path) -> None:
    annotator = Annotator(careful)
    annotator.context = 100
    assert not go(annotator, traces, output, settings(per_trace=1, limit=1))
    (one,) = rows(output).values()
    assert one.status is AnnotationStatus.NO_ANSWER
    assert "prompt_too_long" in (one.reason or "")
    assert "the annotator's template" in (one.reason or "")


# -- what is taken ---------------------------------------------------------------------------------------


def test_traces_without_thinking_are_counted_and_said(tmp_path: Path, output: Path) -> None:
    traces = [trace_of(0), trace_of(1, ""), trace_of(2, " \n"), trace_of(3, status=Status.LENGTH)]
    path, watching = write_traces(tmp_path / "t.jsonl", traces), Watching()
    assert go(Annotator(careful), path, output, watching=watching)
    assert watching.notes == ["3 of 4 traces give no windows: 2 without thinking, 1 not complete"]
    assert {one.trace for one in read_annotations(output)} == {"p0#0"}


def test_nothing_to_annotate_is_said_before_a_model_is_opened(tmp_path: Path, output: Path) -> None:
    path = write_traces(tmp_path / "t.jsonl", [trace_of(0, "")])
    with pytest.raises(UserError, match="nothing to annotate; 1 of 1 traces give no windows: 1 without"):
        annotate(settings(), path, output)
    assert not output.parent.exists()


def test_a_trace_that_is_there_twice_is_refused(tmp_path: Path, output: Path) -> None:
    path = write_traces(tmp_path / "t.jsonl", [trace_of(0), trace_of(1), trace_of(0)])
    with pytest.raises(UserError, match="p0#0 is there twice"):
        annotate(settings(), path, output)


def test_the_traces_are_not_overwritten(traces: Path) -> None:
    before = traces.read_bytes()
    with pytest.raises(UserError, match="the output is the file of the traces"):
        annotate(settings(), traces, traces, overwrite=True)
    assert traces.read_bytes() == before


def test_only_the_first_traces(traces: Path, output: Path) -> None:
    go(Annotator(careful), traces, output, settings(limit=2))
    assert {one.group for one in read_annotations(output)} == {"p0", "p1"}


# -- going on --------------------------------------------------------------------------------------------


def test_a_finished_run_asks_nothing(traces: Path, output: Path) -> None:
    go(Annotator(careful), traces, output)
    before, annotator, watching = output.read_bytes(), Annotator(careful), Watching()
    assert go(annotator, traces, output, watching=watching)
    assert (annotator.prompts, watching.skips, watching.total) == ([], 24, 24)
    assert output.read_bytes() == before


def test_more_windows_and_traces_are_added(traces: Path, output: Path) -> None:
    go(Annotator(careful), traces, output, settings(per_trace=2, limit=3))
    before, watching = rows(output), Watching()
    go(Annotator(careful), traces, output, watching=watching)
    assert watching.skips == 6
    assert before.items() <= rows(output).items()
    assert len(rows(output)) == 24


def test_other_settings_are_refused(traces: Path, output: Path) -> None:
    go(Annotator(careful), traces, output)
    with pytest.raises(UserError, match=r"the annotations there were made with other settings") as refused:
        go(Annotator(careful), traces, output, settings(seed=1, shortest=30))
    assert "seed: 0 before, 1 now" in str(refused.value)
    assert "windows.shortest: 40 before, 30 now" in str(refused.value)
    go(Annotator(careful), traces, output, settings(seed=1, shortest=30), overwrite=True)


def test_another_text_under_a_finished_id_is_refused(tmp_path: Path, output: Path) -> None:
    traces = write_traces(tmp_path / "t.jsonl", [trace_of(0, "Wait, I don't think so.")])
    go(Annotator(careful), traces, output)
    write_traces(traces, [trace_of(0, "Okay, so it is 7.")])
    with pytest.raises(UserError, match="was made from another text of the same id") as refused:
        go(Annotator(careful), traces, output)
    assert refused.value.where == str(traces)


def test_engine_errors_are_tried_again(traces: Path, output: Path) -> None:
    broken = {"left": 5}

    def sometimes(request: CompletionRequest, view: View) -> Exception | None:
        broken["left"] -= 1
        return EngineError("HTTP 500") if broken["left"] >= 0 else None

    watching = Watching()
    assert not go(Annotator(careful, faults=[sometimes]), traces, output, watching=watching)
    failed = [one for one in rows(output).values() if one.status is AnnotationStatus.ENGINE_ERROR]
    assert len(failed) == 5
    assert {one.reason for one in failed} == {"HTTP 500"}
    assert len([note for note in watching.notes if "the first engine error" in note]) == 1
    watching = Watching()
    assert go(Annotator(careful), traces, output, watching=watching)
    assert len(watching.seen) == 5
    assert "5 taken out, to be tried again" in watching.notes[0]
    assert {one.status for one in rows(output).values()} == {AnnotationStatus.COMPLETE}


def test_an_engine_that_is_down_ends_the_run(traces: Path, output: Path) -> None:
    def down(request: CompletionRequest, view: View) -> Exception | None:
        return EngineError("connection refused")

    with pytest.raises(RunError, match="20 of the last 20 annotations failed by engine errors"):
        go(Annotator(careful, faults=[down]), traces, output, settings(concurrency=2))
    assert go(Annotator(careful), traces, output)
    assert len(rows(output)) == 24


def mixed(prompt: str) -> str:
    """Good at first, good at second, and never good, by the text."""
    text = text_of(prompt)
    kind = len(text) % 3
    return "Sure!" if kind == 2 or (kind == 1 and not again(prompt)) else mark(text)


@pytest.fixture
def whole(traces: Path, tmp_path: Path) -> dict[str, Annotation]:
    path = tmp_path / "whole.jsonl"
    go(Annotator(mixed), traces, path)
    made = rows(path)
    assert {one.status for one in made.values()} == {AnnotationStatus.COMPLETE, AnnotationStatus.NOT_JSON}
    assert {len(one.answers) for one in made.values() if one.status == "complete"} == {1, 2}
    return made


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.77, 0.999])
def test_cut_anywhere_a_resumed_run_equals_an_uninterrupted_one(
    traces: Path, output: Path, whole: dict[str, Annotation], share: float
) -> None:
    go(Annotator(mixed), traces, output)
    for file in (output, rejected_path(output)):
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
    go(Annotator(mixed), traces, output)
    assert rows(output) == whole


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from annotation_world import Annotator, Watching, settings
from test_annotation_run import go, mixed

class Deadly(Watching):
    def annotated(self, annotation):
        super().annotated(annotation)
        if len(self.seen) == 4:
            os.kill(os.getpid(), signal.SIGKILL)

go(Annotator(mixed), Path(sys.argv[2]), Path(sys.argv[3]), settings(concurrency=3), watching=Deadly())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
def test_killed_again_and_again_a_run_ends_with_every_window_once(
    traces: Path, output: Path, whole: dict[str, Annotation]
) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(traces), str(output)]
    ends = [subprocess.run(command, check=False).returncode for _ in range(3)]
    assert ends == [-signal.SIGKILL] * 3
    kept = rows(output)
    assert 12 <= len(kept) < 24
    assert kept.items() <= whole.items()
    go(Annotator(mixed), traces, output)
    assert rows(output) == whole


# -- several passes --------------------------------------------------------------------------------------


def test_two_passes_ask_each_window_twice(traces: Path, output: Path) -> None:
    annotator = Annotator(careful)
    with pytest.raises(UserError, match="2 greedy passes would be equal, and this model's own"):
        go(annotator, traces, output, settings(passes=2))
    annotator.sampling = Sampling(0.8, 1.0, 0, 0.0)
    go(annotator, traces, output, settings(passes=2))
    found = rows(output)
    assert Counter(one.number for one in found.values()) == {0: 24, 1: 24}
    windows = Counter((one.trace, one.start, one.text) for one in found.values())
    assert set(windows.values()) == {2}
    settings_ = json.loads(manifest_path(output).read_text())["settings"]
    assert settings_["sampling"]["temperature"] == 0.8


# -- engines of other kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_server_annotates_as_any_engine_does(traces: Path, output: Path, dialect: Dialect) -> None:
    def script(view: View) -> str:
        return parrot("so , which of it is style ?", mixed(view.prompt))(view)

    with ScriptedServer(script, dialect=dialect, model="annotator", context=20_000) as server:
        engine = {"name": f"annotator@{server.url}", "tokenizer": "micro:student"}
        given = settings(annotator=engine, per_trace=2, servers={"patience": 5.0})
        assert annotate(given, traces, output)
    made = rows(output)
    assert len(made) == 2 * TRACES
    assert Counter(len(one.answers) for one in made.values()) == Counter(
        1 if len(one.text) % 3 == 0 else 2 for one in made.values()
    )
    for one in made.values():
        assert (one.status == "complete") is (len(one.text) % 3 != 2)
        assert one.annotator == engine["name"]
