"""Many traces: each is settled once, in order, whatever ends a run; none is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify_world import Scripted, by_text, trace_of, write_rows, write_traces
from weft.errors import EngineError, RunError, UserError
from weft.quality.base import Answered
from weft.records import Status, Trace
from weft.store import read_manifest, read_traces, rejected_path
from weft.verify.base import Judgement, Reason, Verdict, correct, unverifiable, wrong
from weft.verify.marked import COLUMNS, MARKED, Mark, Marked, read_marked
from weft.verify.marking import Counts, in_order, verify, verify_with
from weft.verify.settings import VerifySettings

JUDGED = VerifySettings(verifier="exact", concurrency=4)


def marked_by(
    verifier: Scripted | None, settings: VerifySettings, paths: list[Path], output: Path, **given: Any
) -> Counts:
    return asyncio.run(verify_with(verifier, settings, paths, output, **given))


def all_marks(output: Path) -> dict[str, Mark]:
    paths = [path for path in (output, rejected_path(output)) if path.exists()]
    return {marked.trace.id: marked.mark for path in paths for marked in read_marked(path)}


MIXED = [
    trace_of("a#0", "42"),
    trace_of("a#1", "41"),
    trace_of("b#0", "?"),
    trace_of("c#0", "", status=Status.LENGTH),
    trace_of("d#0", "42"),
]


@pytest.mark.parametrize(
    "judgement",
    [None, correct("yes"), wrong(Reason.DIFFERENT, "no\n\ud800"), unverifiable(Reason.NO_ANSWER)],
)
def test_a_row_holds_trace_and_judgement(judgement: Judgement | None) -> None:
    trace = trace_of("a#0", extra={"level": 3})
    verifier = None if judgement is None else "math"
    marked = Marked(trace, Mark.VERDICT, judgement, verifier, "b#0", "bench.jsonl:3 in the prompt")
    row = json.loads(json.dumps(marked.to_row()))
    assert Marked.from_row(row) == marked
    assert Trace.from_row(row) == trace
    assert list(row)[-len(COLUMNS) :] == list(COLUMNS)
    assert all(isinstance(row[name], str) for name in COLUMNS)


def test_a_judgement_has_a_verifier() -> None:
    with pytest.raises(ValueError, match="judgement"):
        Marked(trace_of("a#0"), Mark.KEPT, correct())
    with pytest.raises(ValueError, match="judgement"):
        Marked(trace_of("a#0"), Mark.KEPT, verifier="math")


@pytest.mark.parametrize(
    "change",
    [{"mark": None}, {"mark": "fine"}, {"verdict": "right"}, {"verdict_reason": "none"}, {"spans": 3}],
)
def test_other_rows_are_refused_as_such(change: dict[str, Any]) -> None:
    row = Marked(trace_of("a#0"), Mark.VERDICT, wrong(Reason.DIFFERENT), "math").to_row() | change
    with pytest.raises(ValueError, match=r"\S"):
        Marked.from_row(row)
    with pytest.raises(UserError, match=r"here:1"):
        MARKED.read(row, "here:1")


def test_kept_and_rejected_lie_apart(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED), tmp_path / "out.jsonl"
    counts = marked_by(Scripted(), JUDGED, [source], output)
    assert [trace.id for trace in read_traces(output)] == ["a#0", "d#0"]
    assert [(one.trace.id, one.mark) for one in read_marked(rejected_path(output))] == [
        ("a#1", Mark.VERDICT),
        ("b#0", Mark.VERDICT),
        ("c#0", Mark.UNFINISHED),
    ]
    assert [*read_traces(output), *read_traces(rejected_path(output))] == [
        MIXED[0],
        MIXED[4],
        *MIXED[1:4],
    ]
    assert counts.to_json() == {
        "traces": 5,
        "kept": 2,
        "marks": {"kept": 2, "unfinished": 1, "verdict": 2},
        "verdicts": {"correct": 2, "wrong": 1, "unverifiable": 1},
        "reasons": {"wrong": {"different": 1}, "unverifiable": {"timeout": 1}},
    }
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.settings["verifier"] == {"verifier": "scripted"}
    assert list(manifest.info["traces"]) == [str(source)]


def test_unfinished_traces_are_not_put_before_the_verifier(tmp_path: Path) -> None:
    verifier = Scripted()
    source = write_traces(tmp_path / "traces.jsonl", MIXED)
    marked_by(verifier, JUDGED, [source], tmp_path / "out.jsonl")
    assert [one.response for one in verifier.asked] == ["42", "41", "?", "42"]
    assert verifier.asked[0].thinking == "Let me see."
    assert verifier.asked[0].extra == "{}"


def test_other_verdicts_may_be_kept(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED), tmp_path / "out.jsonl"
    counts = marked_by(Scripted(), JUDGED.model_copy(update={"keep": tuple(Verdict)}), [source], output)
    assert counts.kept == 4
    found = {one.trace.id: one.judgement and one.judgement.verdict for one in read_marked(output)}
    assert found == {
        "a#0": Verdict.CORRECT,
        "a#1": Verdict.WRONG,
        "b#0": Verdict.UNVERIFIABLE,
        "d#0": Verdict.CORRECT,
    }


def test_several_files_are_one_output_and_rejected_ones_may_be_among_them(tmp_path: Path) -> None:
    first = write_traces(tmp_path / "one.jsonl", MIXED[:2])
    second = write_traces(tmp_path / "two.rejected.jsonl", MIXED[2:])
    output = tmp_path / "out.jsonl"
    assert marked_by(Scripted(), JUDGED, [first, second], output).traces == 5
    assert list(all_marks(output)) == ["a#0", "d#0", "a#1", "b#0", "c#0"]


def test_a_second_run_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED), tmp_path / "out.jsonl"
    first = marked_by(Scripted(), JUDGED, [source], output)
    before = output.read_bytes(), rejected_path(output).read_bytes()
    verifier = Scripted()
    assert marked_by(verifier, JUDGED, [source], output) == first
    assert not verifier.asked
    assert (output.read_bytes(), rejected_path(output).read_bytes()) == before


def test_new_traces_are_added(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED[:2]), tmp_path / "out.jsonl"
    marked_by(Scripted(), JUDGED, [source], output)
    write_traces(source, MIXED)
    verifier = Scripted()
    assert marked_by(verifier, JUDGED, [source], output).traces == 5
    assert len(verifier.asked) == 2


def test_a_verifiers_own_failure_is_tried_again(tmp_path: Path) -> None:
    traces = [trace_of("a#0", "!"), trace_of("b#0", "42")]
    source, output = write_traces(tmp_path / "traces.jsonl", traces), tmp_path / "out.jsonl"
    counts = marked_by(Scripted(), JUDGED, [source], output)
    assert counts.to_try_again == 1
    assert all_marks(output) == {"a#0": Mark.VERIFIER_ERROR, "b#0": Mark.KEPT}
    mended = Scripted(lambda answered: correct())
    counts = marked_by(mended, JUDGED, [source], output)
    assert (counts.to_try_again, counts.kept, len(mended.asked)) == (0, 2, 1)
    assert all_marks(output) == {"a#0": Mark.KEPT, "b#0": Mark.KEPT}


def test_a_verifier_that_fails_most_of_the_time_ends_the_run(tmp_path: Path) -> None:
    traces = [trace_of(f"p{number}#0", "!") for number in range(200)]
    source, output = write_traces(tmp_path / "traces.jsonl", traces), tmp_path / "out.jsonl"
    with pytest.raises(RunError, match="it broke"):
        marked_by(Scripted(), JUDGED, [source], output)
    assert 20 <= len(all_marks(output)) < 200


def test_a_verifier_that_breaks_at_one_trace_goes_on_with_the_next(tmp_path: Path) -> None:
    def judge(answered: Answered) -> Judgement:
        if answered.response == "!":
            raise EngineError("the server is down")
        return correct() if answered.response == "42" else wrong(Reason(f"no {answered}"))

    traces = [trace_of("a#0", "!"), trace_of("b#0", "41"), trace_of("c#0", "42")]
    source, output = write_traces(tmp_path / "traces.jsonl", traces), tmp_path / "out.jsonl"
    assert marked_by(Scripted(judge), JUDGED, [source], output).to_try_again == 2
    said = [one.judgement.said for one in read_marked(rejected_path(output)) if one.judgement]
    assert said[0] == "EngineError: the server is down"
    assert said[1].startswith("ValueError: ")


HOSTILE = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@settings(max_examples=40)
@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE, st.none() | HOSTILE), min_size=1, max_size=5))
def test_whatever_traces_hold_they_are_all_there_afterwards(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str, str, str | None]]
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    traces = [
        trace_of(f"{prompt}#{number}", response, prompt=prompt, thinking=thinking, answer=answer)
        for number, (prompt, thinking, response, answer) in enumerate(texts)
    ]
    source = write_rows(folder / "traces.jsonl", [trace.to_row() for trace in traces])
    bench = write_rows(folder / "bench.jsonl", [{"prompt": "one two three"}])
    checked = VerifySettings(verifier="exact", deduplicate=0.5, decontaminate=(str(bench),), ngram=2)
    output = folder / "out.jsonl"
    assert verify(checked, [source], output).traces == len(traces)
    paths = [path for path in (output, rejected_path(output)) if path.exists()]
    found = {marked.trace.id: marked.trace for path in paths for marked in read_marked(path)}
    assert found == {trace.id: trace for trace in traces}


def test_an_input_that_changed_is_refused(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED), tmp_path / "out.jsonl"
    marked_by(Scripted(), JUDGED, [source], output)
    before = output.read_bytes()
    write_traces(source, [MIXED[0], replace(MIXED[1], sample=7), *MIXED[2:]])
    with pytest.raises(UserError, match=r"a#1 .* another trace") as refused:
        marked_by(Scripted(), JUDGED, [source], output)
    assert refused.value.where == f"{source}:2"
    write_traces(source, MIXED[1:])
    with pytest.raises(UserError, match="1 of the traces there are in none"):
        marked_by(Scripted(), JUDGED, [source], output)
    assert output.read_bytes() == before


def test_other_settings_are_refused(tmp_path: Path) -> None:
    source, output = write_traces(tmp_path / "traces.jsonl", MIXED), tmp_path / "out.jsonl"
    marked_by(Scripted(), JUDGED, [source], output)
    with pytest.raises(UserError, match=r"deduplicate: null before, 0\.8 now"):
        marked_by(Scripted(), JUDGED.model_copy(update={"deduplicate": 0.8}), [source], output)
    assert marked_by(Scripted(), JUDGED, [source], output, overwrite=True).kept == 2


def test_an_id_may_stand_once(tmp_path: Path) -> None:
    one = write_traces(tmp_path / "one.jsonl", MIXED[:2])
    two = write_traces(tmp_path / "two.jsonl", MIXED[1:])
    with pytest.raises(UserError, match='"a#1" stands twice') as refused:
        marked_by(Scripted(), JUDGED, [one, two], tmp_path / "out.jsonl")
    assert refused.value.where == f"{two}:1"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_given_twice_is_named_as_such(tmp_path: Path) -> None:
    one = write_traces(tmp_path / "one.jsonl", MIXED[:2])
    with pytest.raises(UserError, match="name each file once"):
        marked_by(Scripted(), JUDGED, [one, one], tmp_path / "out.jsonl")


@pytest.mark.parametrize("change", ["a new row", "a row once more", "half a row", "other rows"])
def test_what_is_written_into_the_input_meanwhile_is_refused(tmp_path: Path, change: str) -> None:
    source, output = tmp_path / "traces.jsonl", tmp_path / "out.jsonl"
    traces = [trace_of(f"{number:04}#0") for number in range(300)]
    write_traces(source, traces)

    def judge(answered: Answered) -> Judgement:
        if len(verifier.asked) == 5:
            new = {"a new row": "new#0", "a row once more": "0001#0", "half a row": "new#0"}.get(change)
            if new is None:
                write_traces(source, [trace_of(trace.id, "13") for trace in traces])
            else:
                line = trace_of(new).to_line()
                with source.open("a", encoding="utf-8") as file:
                    file.write(line[:50] if change == "half a row" else line)
        return by_text(answered)

    verifier = Scripted(judge)
    with pytest.raises(UserError, match="changed after it had been checked"):
        marked_by(verifier, JUDGED.model_copy(update={"concurrency": 1}), [source], output)
    # What was settled is of the file that was checked, and the same call goes on once that is back.
    assert set(all_marks(output).values()) == {Mark.KEPT}
    write_traces(source, traces)
    assert marked_by(Scripted(), JUDGED, [source], output).kept == len(traces)


def test_files_that_hold_no_traces_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    empty = write_traces(tmp_path / "empty.jsonl", [])
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "6 * 7?"}])
    torn = tmp_path / "torn.jsonl"
    torn.write_text(MIXED[0].to_line()[:-20], encoding="utf-8")
    for path, said in (
        (empty, "no traces"),
        (prompts, "not a trace"),
        (torn, "torn"),
        (tmp_path / "none.jsonl", "no such file"),
    ):
        with pytest.raises(UserError, match=said):
            marked_by(Scripted(), JUDGED, [path], output)
    source = write_traces(tmp_path / "traces.jsonl", MIXED)
    with pytest.raises(UserError, match="the output is the file of the traces"):
        marked_by(Scripted(), JUDGED, [source], source)
    assert not output.exists()


def test_verified_traces_can_be_verified_again(tmp_path: Path) -> None:
    source = write_traces(tmp_path / "traces.jsonl", MIXED)
    marked_by(Scripted(), JUDGED, [source], tmp_path / "one.jsonl")
    counts = marked_by(
        None, VerifySettings(deduplicate=0.9), [tmp_path / "one.jsonl"], tmp_path / "two.jsonl"
    )
    assert counts.kept == 1  # one prompt, one text
    (kept,) = read_marked(tmp_path / "two.jsonl")
    assert kept.judgement is None
    assert kept.verifier is None


@given(
    st.lists(st.integers(0, 5), max_size=30),
    st.integers(1, 4),
)
def test_results_come_in_order_and_no_more_than_so_many_at_a_time(waits: list[int], at_once: int) -> None:
    under_way = most = 0

    async def do(job: tuple[int, int]) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(job[1]):
            await asyncio.sleep(0)
        under_way -= 1
        return job[0]

    async def all_of_them() -> list[int]:
        return [one async for one in in_order(enumerate(waits), do, at_once)]

    assert asyncio.run(all_of_them()) == list(range(len(waits)))
    assert most <= at_once


def test_what_comes_before_a_failure_is_given_first() -> None:
    async def do(number: int) -> int:
        if number == 3:
            raise RunError("the disk is gone")
        await asyncio.sleep(0)
        return number

    async def some() -> list[int]:
        found = []
        with pytest.raises(RunError, match="the disk is gone"):
            async for one in in_order(range(9), do, 4):
                found += [one]
        return found

    assert asyncio.run(some()) == [0, 1, 2]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["42", "41", "?", "!"]), min_size=1, max_size=12), st.data())
def test_a_run_that_stopped_anywhere_goes_on_to_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, responses: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    traces = [trace_of(f"p{number // 2}#{number}", text) for number, text in enumerate(responses)]
    source = write_traces(folder / "traces.jsonl", traces)
    curated = VerifySettings(verifier="exact", deduplicate=0.9, concurrency=2)
    whole, parts = folder / "whole.jsonl", folder / "parts.jsonl"
    marked_by(Scripted(), curated, [source], whole)

    stops = data.draw(st.integers(0, len(responses)))
    left = stops

    def until(answered: Answered) -> Judgement:
        nonlocal left
        left -= 1
        if left < 0:
            raise RunError("stopped")
        return by_text(answered)

    if stops < len(responses):
        with pytest.raises(RunError, match="stopped"):
            marked_by(Scripted(until), curated, [source], parts)
    marked_by(Scripted(), curated, [source], parts)
    if "!" not in responses:
        assert parts.read_bytes() == whole.read_bytes()
        assert rejected_path(parts).read_bytes() == rejected_path(whole).read_bytes()
    assert all_marks(parts) == all_marks(whole)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from verify_world import Scripted, by_text
from weft.verify.marking import verify_with
from weft.verify.settings import VerifySettings
left = int(sys.argv[4])
def judge(answered):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_text(answered)
settings = VerifySettings(verifier="exact", deduplicate=0.9, concurrency=2)
asyncio.run(verify_with(Scripted(judge), settings, [Path(sys.argv[1])], Path(sys.argv[2])))
"""


@pytest.mark.parametrize("after", [0, 7, 18])
def test_killed_in_between_it_goes_on_to_the_same_files(tmp_path: Path, after: int) -> None:
    texts = ["42", "41", "?", "42", "42"] * 4
    traces = [trace_of(f"p{number % 7}#{number}", text) for number, text in enumerate(texts)]
    source = write_traces(tmp_path / "traces.jsonl", traces)
    curated = VerifySettings(verifier="exact", deduplicate=0.9, concurrency=2)
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    marked_by(Scripted(), curated, [source], whole)
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", KILLED, str(source), str(parts), here, str(after)]
    ended = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    marked_by(Scripted(), curated, [source], parts)
    assert parts.read_bytes() == whole.read_bytes()
    assert rejected_path(parts).read_bytes() == rejected_path(whole).read_bytes()


def test_by_name_from_files_to_counts(tmp_path: Path) -> None:
    source = write_traces(tmp_path / "traces.jsonl", MIXED)
    seen: Counter[Mark] = Counter()

    class Watching:
        def began(self, total: int) -> None:
            assert total == 5

        def skipped(self) -> None:
            raise AssertionError

        def settled(self, marked: Marked) -> None:
            seen[marked.mark] += 1

        def noted(self, text: str) -> None:
            raise AssertionError

    counts = verify(JUDGED, [source], tmp_path / "out.jsonl", observer=Watching())
    assert counts.marks == seen == {Mark.KEPT: 2, Mark.VERDICT: 2, Mark.UNFINISHED: 1}
    assert {one.verifier for one in read_marked(tmp_path / "out.jsonl")} == {"exact"}


def test_settings_are_checked() -> None:
    from pydantic import ValidationError

    for wrong_ones in (
        {},
        {"verifier": "maths"},
        {"verifier": "task:2"},
        {"verifier": "judge:"},
        {"verifier": "math", "keep": []},
        {"deduplicate": 0.0},
        {"deduplicate": 1.1},
        {"decontaminate": ["a"], "ngram": 1},
        {"verifier": "math", "deduplikate": 0.8},
    ):
        with pytest.raises(ValidationError):
            VerifySettings.model_validate(wrong_ones)
    assert VerifySettings.model_validate({"verifier": "math", "keep": "wrong"}).keep == (Verdict.WRONG,)
    assert VerifySettings(decontaminate=("bench.jsonl",)).verifier is None
