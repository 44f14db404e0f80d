"""Recipes at work: what runs, what does not run again, what a failure and a kill leave."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from weft.errors import UserError
from weft.recipes import ordering, record
from weft.recipes.content import digest
from weft.recipes.costs import costs
from weft.recipes.kinds.base import Silence
from weft.recipes.plan import read_plan
from weft.recipes.record import read_record
from weft.recipes.running import Became, Outcome, run
from weft.recipes.state import State, survey

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = r"""
name: small
stages:
  prompts: {run: prompts, split: finetune, n: 3, seed: 1}
  own:
    run: synth
    prompts: stage:prompts
    student: micro:student
    strategy: student-only
    limits: {thinking: 96, response: 24}
  more: {run: prompts, split: finetune, n: 3, seed: 2}
  again:
    run: synth
    prompts: stage:more
    student: micro:student
    strategy: student-only
    limits: {thinking: 96, response: 24}
    seed: 5
  judged: {run: verify, traces: [stage:own, stage:again], verifier: 'regex:\d+', keep: [correct, wrong]}
  report: {run: report, files: [stage:own, stage:again], title: Small}
"""


class Listening(Silence):
    """A screen that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def go(tmp_path: Path, text: str = RECIPE, only: list[str] | None = None) -> dict[str, Outcome]:
    (tmp_path / "recipe.yaml").write_text(text)
    plan = read_plan(tmp_path / "recipe.yaml", tmp_path / "out")
    return {one.stage: one for one in run(plan.only(only) if only else plan)}


def became(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {name: one.became.value for name, one in outcomes.items()}


def states(tmp_path: Path, text: str) -> dict[str, State]:
    (tmp_path / "recipe.yaml").write_text(text)
    found = survey(read_plan(tmp_path / "recipe.yaml", tmp_path / "out"))
    return {name: finding.state for name, finding in found.items()}


DONE, UP, FAILED, NOT = "done", "up to date", "failed", "not run"
ALL = ["prompts", "own", "more", "again", "judged", "report"]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    assert became(go(tmp_path)) == dict.fromkeys(ALL, DONE)
    out = tmp_path / "out"
    assert (out / "own" / "own.jsonl").is_file() and (out / "report" / "report.html").is_file()
    assert json.loads((out / "run.json").read_text())["stages"]["own"]["became"] == "done"
    assert (out / "recipe.yaml").read_text() == RECIPE
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()}
    assert became(go(tmp_path)) == dict.fromkeys(ALL, UP)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()} == before
    assert states(tmp_path, RECIPE) == dict.fromkeys(ALL, State.DONE)


def test_only_what_a_change_reaches_runs_again_and_what_was_there_is_kept(tmp_path: Path) -> None:
    go(tmp_path)
    old = (tmp_path / "out/again/again.jsonl").read_bytes()
    text = RECIPE.replace("seed: 5", "seed: 6")
    assert states(tmp_path, text) == {
        "prompts": State.DONE,
        "own": State.DONE,
        "more": State.DONE,
        "again": State.CHANGED,
        "judged": State.WAITS,
        "report": State.WAITS,
    }
    found = survey(read_plan(tmp_path / "recipe.yaml", tmp_path / "out"))
    assert found["again"].because == ("seed: 5 before, 6 now",)
    assert became(go(tmp_path, text)) == {
        "prompts": UP,
        "own": UP,
        "more": UP,
        "again": DONE,
        "judged": DONE,
        "report": DONE,
    }
    assert (tmp_path / "out/replaced/again/1/again.jsonl").read_bytes() == old
    assert (tmp_path / "out/replaced/judged/1/judged.jsonl").is_file()
    assert not (tmp_path / "out/replaced/report").exists()  # a report costs nothing
    # Back again: the stage runs once more, and the second output is kept beside the first.
    assert became(go(tmp_path))["again"] == DONE
    assert (tmp_path / "out/replaced/again/2").is_dir()


def test_a_stage_that_leaves_the_same_content_moves_nothing_after_it(tmp_path: Path) -> None:
    go(tmp_path)
    # A default, said aloud.
    text = RECIPE.replace("n: 3, seed: 1}", "n: 3, seed: 1, world: micro}")
    assert became(go(tmp_path, text)) == dict.fromkeys(ALL, UP)
    # More traces under way at a time decide nothing.
    text = RECIPE.replace("seed: 5", "seed: 5\n    concurrency: 2")
    assert became(go(tmp_path, text)) == dict.fromkeys(ALL, UP)
    # A verdict more that is kept, of traces that have none such: the stage runs, what it leaves is the same.
    text = RECIPE.replace(
        "report: {", "copy: {run: verify, traces: stage:judged, verifier: 'regex:\\d+'}\n  report: {"
    )
    assert became(go(tmp_path, text))["copy"] == DONE
    text = text.replace("keep: [correct, wrong]", "keep: [wrong, correct, unverifiable]")
    assert became(go(tmp_path, text)) | {"report": UP} == {
        **dict.fromkeys(ALL, UP),
        "judged": DONE,
        "copy": UP,
    }


def test_an_output_that_is_gone_is_made_again(tmp_path: Path) -> None:
    go(tmp_path)
    (tmp_path / "out/again/again.jsonl").unlink()
    (tmp_path / "out/again/again.manifest.json").unlink()
    assert states(tmp_path, RECIPE)["again"] is State.GONE
    assert became(go(tmp_path)) == dict.fromkeys(ALL, UP) | {"again": DONE}


def test_an_output_that_was_edited_moves_what_comes_after_it(tmp_path: Path) -> None:
    go(tmp_path)
    path = tmp_path / "out/own/own.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert became(go(tmp_path)) == {
        "prompts": UP,
        "own": UP,
        "more": UP,
        "again": UP,
        "judged": DONE,
        "report": DONE,
    }


def test_the_folder_may_be_moved(tmp_path: Path) -> None:
    go(tmp_path)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    found = survey(read_plan(tmp_path / "recipe.yaml", tmp_path / "elsewhere"))
    assert {finding.state for finding in found.values()} == {State.DONE}


def test_only_runs_a_stage_and_what_it_needs(tmp_path: Path) -> None:
    assert became(go(tmp_path, only=["own"])) == {"prompts": DONE, "own": DONE}
    assert not (tmp_path / "out/again").exists()


BROKEN = RECIPE.replace(
    "  again:\n    run: synth\n    prompts: stage:more\n    student: micro:student",
    "  again:\n    run: synth\n    prompts: stage:more\n    student: scripted:{script}",
)


def test_a_failing_stage_is_recorded_and_what_does_not_need_it_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text("{")
    text = BROKEN.replace("{script}", str(script))
    text += "  after: {run: gap-style, traces: stage:again, student: micro:student}\n".replace(
        "traces: stage:again", "traces: [stage:again]"
    )
    outcomes = go(tmp_path, text)
    assert became(outcomes) == {
        "prompts": DONE,
        "own": DONE,
        "more": DONE,
        "again": FAILED,
        "judged": NOT,
        "report": DONE,  # shows what is there
        "after": NOT,
    }
    assert str(script) in outcomes["again"].message
    assert outcomes["after"].message == "it needs again"
    record = read_record(tmp_path / "out/again")
    assert record is not None and record.message == outcomes["again"].message
    assert states(tmp_path, text)["again"] is State.AGAIN
    # Mended, only what was missing runs.
    assert became(go(tmp_path)) == {
        "prompts": UP,
        "own": UP,
        "more": UP,
        "again": DONE,
        "judged": DONE,
        "report": DONE,
    }


def test_a_defect_in_one_stage_leaves_its_traceback_and_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weft.verify.marking

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("three by none")

    monkeypatch.setattr(weft.verify.marking, "verify", broken)
    outcomes = go(tmp_path)
    assert became(outcomes) == dict.fromkeys(ALL, DONE) | {"judged": FAILED}
    assert outcomes["judged"].message == "ZeroDivisionError: three by none"
    assert "in broken" in (tmp_path / "out/judged/error.txt").read_text()


def test_an_output_that_was_edited_is_said_to_be(tmp_path: Path) -> None:
    go(tmp_path)
    path = tmp_path / "out/report/report.html"
    path.write_text(path.read_text() + "<!-- mine -->")
    found = survey(read_plan(tmp_path / "recipe.yaml", tmp_path / "out"))
    because = {name: finding.because for name, finding in found.items() if finding.because}
    assert because == {"report": ("what it left was changed since",)}
    screen = Listening()
    run(read_plan(tmp_path / "recipe.yaml", tmp_path / "out"), screen)
    assert screen.lines[-1] == "up to date; what it left was changed since"


def test_a_folder_that_was_emptied_is_no_output(tmp_path: Path) -> None:
    text = RECIPE + (
        "  base: {run: eval, model: micro:student, tasks: ['t=stage:prompts'], verifier: 'regex:x',"
        " limits: {thinking: 8, response: 8}}\n"
    )
    go(tmp_path, text, only=["base"])
    for path in (tmp_path / "out/base/base").iterdir():
        path.unlink()
    assert states(tmp_path, text)["base"] is State.GONE
    assert became(go(tmp_path, text, only=["base"])) == {"prompts": UP, "base": DONE}
    assert (tmp_path / "out/base/base/eval.json").is_file()


def test_what_cannot_be_set_aside_fails_its_stage_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path)
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name == "own":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    text = RECIPE.replace("response: 24}\n  more", "response: 20}\n  more").replace("seed: 5", "seed: 6")
    monkeypatch.setattr(Path, "rename", full)
    outcomes = go(tmp_path, text)
    assert became(outcomes) == {
        "prompts": UP,
        "own": FAILED,
        "more": UP,
        "again": DONE,
        "judged": NOT,
        "report": DONE,
    }
    assert "the disk is full" in outcomes["own"].message
    monkeypatch.undo()  # and once there is room, the stage is changed as before
    assert states(tmp_path, text)["own"] is State.CHANGED
    assert became(go(tmp_path, text))["own"] == DONE
    assert (tmp_path / "out/replaced/own/1/own.jsonl").is_file()


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, only=["own"])

    def broken(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(record, "stamp", broken)
    with pytest.raises(UserError, match="cannot be read: Input/output error"):
        states(tmp_path, RECIPE)


class Stops(Silence):
    """A screen at which a person stops the run in one stage."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def watch(self, kind: str, output: Path, total: int | None) -> AbstractContextManager[Any]:
        if kind == self._kind:
            raise KeyboardInterrupt
        return nullcontext(None)


def test_an_interrupted_stage_goes_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    plan = read_plan(tmp_path / "recipe.yaml", tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(plan, Stops("verify"))
    found = states(tmp_path, RECIPE)
    assert found["judged"] is State.RESUME and found["own"] is State.DONE
    assert became(go(tmp_path)) == {
        "prompts": UP,
        "own": UP,
        "more": UP,
        "again": UP,
        "judged": DONE,
        "report": DONE,
    }


def test_stopped_while_rows_are_put_in_order_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = RECIPE.replace("n: 3, seed: 1", "n: 9, seed: 1")
    whole = tmp_path / "whole"
    whole.mkdir()
    go(whole, text, only=["own"])

    def stopped(file: BinaryIO, places: Any) -> Iterator[bytes]:
        yield file.read(10)
        raise KeyboardInterrupt

    def unordered(path: Path) -> list[str]:
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]

    monkeypatch.setattr(ordering, "_lines", stopped)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, text, only=["own"])
    monkeypatch.undo()
    path, other = tmp_path / "out/own/own.jsonl", whole / "out/own/own.jsonl"
    assert len(unordered(path)) == len(unordered(other))
    assert states(tmp_path, text)["own"] is State.RESUME
    assert became(go(tmp_path, text, only=["own"])) == {"prompts": UP, "own": DONE}
    assert unordered(path) == unordered(other) == sorted(unordered(path))
    assert digest(path) == digest(other)


def test_a_stage_that_was_stopped_and_then_changed_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(KeyboardInterrupt):
        run(read_plan(tmp_path / "recipe.yaml", tmp_path / "out"), Stops("synth"))
    text = RECIPE.replace("response: 24}\n  more", "response: 20}\n  more")
    assert set(became(go(tmp_path, text)).values()) == {DONE, UP}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    go(tmp_path, only=["prompts"])
    file = os.open(tmp_path / "out/.lock", os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        with pytest.raises(UserError, match="another weft run"):
            go(tmp_path)
    finally:
        os.close(file)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        go(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_folder_of_another_recipe_is_left_alone(tmp_path: Path) -> None:
    go(tmp_path, only=["prompts"])
    with pytest.raises(UserError, match="holds a run of the recipe small, this one is other"):
        go(tmp_path, RECIPE.replace("name: small", "name: other"))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        go(tmp_path)


def test_a_broken_record_is_a_failure_of_its_stage_alone(tmp_path: Path) -> None:
    go(tmp_path, only=["own"])
    (tmp_path / "out/own/stage.json").write_text('{"schema": 1}')
    outcomes = go(tmp_path)
    assert became(outcomes) == {
        "prompts": UP,
        "own": FAILED,
        "more": DONE,
        "again": DONE,
        "judged": NOT,
        "report": DONE,
    }
    assert "not the record of a stage" in outcomes["own"].message


def test_a_commands_remedy_is_said_in_terms_of_the_recipe(tmp_path: Path) -> None:
    go(tmp_path, only=["own"])
    # As if another Weft, whose manifests say more, had made the output.
    path = tmp_path / "out/own/own.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["seed"] = 99
    path.write_text(json.dumps(manifest))
    record = tmp_path / "out/own/stage.json"
    record.write_text(record.read_text().replace('"state": "done"', '"state": "begun"'))
    message = go(tmp_path)["own"].message
    assert "seed: 99 before, 0 now" in message
    assert f"remove the folder {tmp_path}/out/own" in message


def test_what_it_costs_by_hand(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    plan = read_plan(tmp_path / "recipe.yaml", tmp_path / "out")
    found = costs(plan, survey(plan))
    assert found.stages["own"].tokens == 3 * (96 + 24)
    assert found.stages["own"].requests == 3 * 2
    assert (found.requests, found.tokens, found.steps, found.unknown) == (12, 720, 0, ())
    assert not found.measured
    run(plan.only(["own"]))
    found = costs(plan, survey(plan))
    assert found.stages["own"].how == "done"
    assert (found.requests, found.tokens) == (6, 360)


def test_traces_that_are_there_say_what_the_rest_will_cost(tmp_path: Path) -> None:
    go(tmp_path, only=["own"])
    path = tmp_path / "out/own/own.jsonl"
    usages = [json.loads(line)["usage"] for line in path.read_text().splitlines()]
    text = RECIPE.replace("student-only\n    limits", "student-only\n    samples: 3\n    limits", 1)
    (tmp_path / "recipe.yaml").write_text(text)
    plan = read_plan(tmp_path / "recipe.yaml", tmp_path / "out")
    everything = costs(plan, survey(plan))
    estimate = everything.stages["own"]
    assert everything.measured
    assert estimate.expected_tokens == 3 * sum(usage["generated"]["student"] for usage in usages)
    assert estimate.tokens == 9 * 120


def test_what_a_hub_holds_is_not_known_and_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run uses no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    text = RECIPE.replace("prompts: stage:prompts", "prompts: owner/name", 1)
    (tmp_path / "recipe.yaml").write_text(text)
    plan = read_plan(tmp_path / "recipe.yaml", tmp_path / "out")
    found = costs(plan, survey(plan))
    assert found.stages["own"].tokens is None
    assert set(found.unknown) == {"own"}
    assert found.stages["judged"].rows is None


def test_the_names_of_what_became_of_stages() -> None:
    assert [one.value for one in Became] == [UP, DONE, FAILED, NOT]
