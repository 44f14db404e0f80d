"""A whole evaluation on scripted models: what counts, what stays on disk, and going on after an end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evaluation_world import PROMPTS, model, prompts, run
from scripted_server import Dialect, ScriptedServer
from weft.engines.base import Completion, CompletionRequest
from weft.engines.scripted import ScriptedEngine, View
from weft.errors import EngineError, RunError, UserError
from weft.evaluation.baseline import read_baseline
from weft.evaluation.figures import task_figures
from weft.evaluation.result import Evaluation
from weft.gap.ranking.measure import Silence
from weft.intervals import NOT_MEASURED
from weft.records import Trace
from weft.store import read_traces
from weft.verify.marked import read_marked
from worlds import parrot

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    return {"model": model(tmp_path / "m.json"), "tasks": [f"sums={prompts(tmp_path / 'p.jsonl')}"]}


def same(one: Evaluation, other: Evaluation) -> bool:
    """But for the day."""
    return replace(one, made=other.made) == other


def test_what_counts(given: dict[str, Any], tmp_path: Path) -> None:
    """q0 to q2 right, q3 and q5 wrong, q4 breaks off; q6 has no answer, q7 none that can be read and breaks
    off."""
    found = run(tmp_path / "out", **given, verifier="math")
    task = found.tasks[0]
    assert (task.name, task.verifier, task.prompts, task.samples) == ("sums", "math", PROMPTS, 1)
    assert task.accuracy.value == pytest.approx(3 / 6)
    assert task.accuracy.n == 6
    assert task.unfinished.value == pytest.approx(2 / 8)
    assert task.unverifiable.value == pytest.approx(2 / 8)
    assert found.failed == 0
    assert task.unreadable == ("q6", "q7")
    assert task.pass_at == {1: task.accuracy}
    assert [line for line in found.said if "broke off" in line]
    assert [line for line in found.said if "6 of 8 prompts" in line]
    assert [line for line in found.said if line.startswith("sums: 6 prompts are few")]


def test_what_stays_on_disk(given: dict[str, Any], tmp_path: Path) -> None:
    found = run(tmp_path / "out", **given)
    out = tmp_path / "out"
    assert Evaluation.from_json(json.loads((out / "eval.json").read_text())) == found
    assert len(list(read_traces(out / "sums.jsonl"))) == 6
    assert len(list(read_traces(out / "sums.rejected.jsonl"))) == 2
    right = list(read_marked(out / "sums.verified.jsonl"))
    assert sorted(one.trace.prompt.id for one in right) == ["q0", "q1", "q2"]
    assert all(isinstance(trace, Trace) for trace in read_traces(out / "sums.verified.rejected.jsonl"))
    table = found.to_pandas()
    assert set(table["part"]) == {"task", "pass_at"}
    assert table[table["figure"] == "accuracy"]["value"].item() == found.tasks[0].accuracy.value
    with pytest.raises(ValueError, match="version 99"):
        Evaluation.from_json({**found.to_json(), "schema": 99})


def test_the_same_call_writes_nothing_anew(given: dict[str, Any], tmp_path: Path) -> None:
    first = run(tmp_path / "out", **given)
    rows = (tmp_path / "out" / "sums.jsonl").read_bytes()
    assert same(run(tmp_path / "out", **given), first)
    assert (tmp_path / "out" / "sums.jsonl").read_bytes() == rows


class Stopped(Exception):  # noqa: N818
    """As if killed."""


class Ends(Silence):
    """Ends the run after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advanced(self) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped


@pytest.mark.parametrize("after", [1, 4, 8, 9, 12, 16, 17, 20])
def test_an_end_anywhere_changes_nothing(given: dict[str, Any], tmp_path: Path, after: int) -> None:
    """Responses, those of the baseline, the judge's pairs."""
    judge = tmp_path / "j.json"
    judge.write_text(json.dumps({"thinks": False, "scripts": [{"response": "Better: A"}]}))
    given |= {
        "baseline": model(tmp_path / "b.json", lambda n: n % 2 == 0),
        "judge": f"scripted:{judge}",
        "concurrency": 3,
    }
    whole = run(tmp_path / "whole", **given)
    with pytest.raises(Stopped):
        run(tmp_path / "out", **given, observer=Ends(after))
    assert not (tmp_path / "out" / "eval.json").exists()
    assert same(run(tmp_path / "out", **given), whole)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from evaluation_world import run
from weft.gap.ranking.measure import Silence

class Ends(Silence):
    left = int(sys.argv[2])
    def advanced(self):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

run(Path(sys.argv[1]), **json.loads(sys.argv[3]), observer=Ends())
"""


@pytest.mark.slow
def test_a_killed_process_leaves_what_it_finished(given: dict[str, Any], tmp_path: Path) -> None:
    """Killed while the model writes, then while the judge judges."""
    judge = tmp_path / "j.json"
    judge.write_text(json.dumps({"thinks": False, "scripts": [{"response": "Better: A"}]}))
    given |= {"baseline": model(tmp_path / "b.json", lambda n: n % 2 == 0), "judge": f"scripted:{judge}"}
    whole = run(tmp_path / "whole", **given)
    for after in (3, 2 * PROMPTS + 5):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), str(after), json.dumps(given)]
        ended = subprocess.run(command, cwd=Path(__file__).parent, check=False)
        assert ended.returncode == -signal.SIGKILL
        assert not (tmp_path / "out" / "eval.json").exists()
    assert len((tmp_path / "out" / "sums.wins.jsonl").read_text().splitlines()) == 5
    assert same(run(tmp_path / "out", **given), whole)


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_server_is_judged_as_a_model_here(tmp_path: Path, dialect: Dialect) -> None:
    def script(view: View) -> str:
        n = next((n for n in range(4) if f"Compute {n} + 7" in view.prompt), 0)
        return parrot("okay , so", f"the answer is {n + 7 if n != 2 else 0} .")(view)

    rows = [{"id": f"q{n}", "prompt": f"Compute {n} + 7", "answer": f"{n + 7}"} for n in range(4)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ScriptedServer(script, dialect=dialect) as server:
        found = run(
            tmp_path / "out",
            model={"name": f"student@{server.url}", "tokenizer": "micro:student"},
            tasks=[str(path)],
            verifier="math",
            sampling={"temperature": 0},
            servers={"patience": 5},
        )
    assert (found.tasks[0].accuracy.value, found.tasks[0].accuracy.n) == (0.75, 4)
    assert found.tasks[0].unfinished.value == 0


def test_rows_that_were_torn_are_mended(given: dict[str, Any], tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", **given)
    run(tmp_path / "out", **given)
    path = tmp_path / "out" / "sums.verified.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    assert same(run(tmp_path / "out", **given), whole)


def test_engine_errors_are_missing_and_tried_again(given: dict[str, Any], tmp_path: Path) -> None:
    faults = [{"match": "is 1 ", "after": 0, "error": "HTTP 500"}]
    script = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps({**script, "faults": faults}))
    found = run(tmp_path / "out", **given)
    assert found.failed == found.tasks[0].failed == 1
    assert found.tasks[0].accuracy.value == pytest.approx(2 / 6)
    assert found.said[-1].endswith("left out 1 response or judgement; the same command tries again.")
    broken = [trace.status.value for trace in read_traces(tmp_path / "out" / "sums.rejected.jsonl")]
    assert broken.count("engine_error") == 1


def test_what_a_verifier_fails_at_is_tried_again(given: dict[str, Any], tmp_path: Path) -> None:
    judge = tmp_path / "v.json"
    script = {"thinks": False, "scripts": [{"response": "Verdict: same"}]}
    judge.write_text(json.dumps(script))
    given["verifier"] = f"judge:scripted:{judge}"
    whole = run(tmp_path / "whole", **given)
    fault = {"match": "is 1 ", "after": 0, "error": "HTTP 500"}
    judge.write_text(json.dumps({**script, "faults": [fault]}))
    found = run(tmp_path / "out", **given)
    assert (found.failed, found.tasks[0].failed) == (1, 1)
    assert found.tasks[0].accuracy.n == whole.tasks[0].accuracy.n - 1
    judge.write_text(json.dumps(script))
    assert whole.failed == 0
    assert same(run(tmp_path / "out", **given), whole)


def test_engine_errors_that_pass_leave_no_trace(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", **given)
    complete = ScriptedEngine.complete

    async def fails(self: ScriptedEngine, request: CompletionRequest) -> Completion:
        if "is 1 " in self.vocabulary.decode(request.prefix):
            raise EngineError("HTTP 500")
        return await complete(self, request)

    with monkeypatch.context() as patched:
        patched.setattr(ScriptedEngine, "complete", fails)
        assert run(tmp_path / "out", **given).failed == 1
    assert same(run(tmp_path / "out", **given), whole)


def test_only_errors_end_the_run(given: dict[str, Any], tmp_path: Path) -> None:
    prompts(tmp_path / "p.jsonl", 30)
    model(tmp_path / "m.json", faults=[{"after": 0, "error": "down"}])
    with pytest.raises(RunError, match="engine errors"):
        run(tmp_path / "out", **given, concurrency=2)


def test_nothing_but_broken_responses_is_a_result(tmp_path: Path) -> None:
    script = tmp_path / "m.json"
    script.write_text(json.dumps({"scripts": [{"thinking": "so " * 2000, "response": "4"}]}))
    found = run(tmp_path / "out", model=f"scripted:{script}", tasks=[str(prompts(tmp_path / "p.jsonl"))])
    task = found.tasks[0]
    assert any("from above by 34.8%" in line for line in found.said)  # 1 - 0.05 ** (1 / 7)
    # q6 has no answer: exact says so although nothing was answered.
    assert (task.accuracy.value, task.accuracy.n) == (0.0, 7)
    assert task.unfinished.value == 1


def test_fewer_samples_and_prompts_take_the_first_ones(given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"sampling": {"temperature": 1.0}}
    run(tmp_path / "out", **given, samples=3)
    found = run(tmp_path / "out", **given, samples=2, limit=4, k=[1, 2]).tasks[0]
    assert (found.prompts, found.samples, found.failed) == (4, 2, 0)
    assert found.accuracy.value == pytest.approx(3 / 4)
    assert found.pass_at[2].value == pytest.approx(3 / 4)
    assert found.accuracy.n == 4


def test_other_settings_are_refused_and_nothing_is_touched(given: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "out", **given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match=r"seed: 0 before, 1 now"):
        run(tmp_path / "out", **given, seed=1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert run(tmp_path / "out", **given, seed=1, overwrite=True).tasks[0].accuracy.n == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": ["nowhere.jsonl"]}, "no such file"),
        ({"model": "./nowhere"}, "no such folder"),
        ({"baseline": "./nowhere"}, "no such folder"),
        ({"baseline": "nowhere/eval.json"}, "cannot be read"),
        ({"samples": 2}, "draws greedily by itself"),
        ({"judge": "./nowhere", "baseline": "micro:student"}, "no such folder"),
    ],
)
def test_what_cannot_be_is_found_out_before_anything_is_written(
    given: dict[str, Any], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(tmp_path / "out", **{**given, **change})
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_not_ours_is_kept(given: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match="a file, not a folder"):
        run(file, **given)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "eval.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match="not overwritten"):
        run(tmp_path / "out", **given, overwrite=True)
    assert (tmp_path / "out" / "eval.json").read_text() == '{"mine": 1}'


def test_one_run_at_a_time(given: dict[str, Any], tmp_path: Path) -> None:
    """Whatever its tasks: both would write the result."""
    other = {**given, "tasks": [f"others={tmp_path / 'p.jsonl'}"]}

    class Second(Silence):
        said = ""

        def began(self, what: str, total: int) -> None:
            with pytest.raises(UserError, match="another weft run") as refused:
                run(tmp_path / "out", **other)
            self.said = str(refused.value)

    observer = Second()
    run(tmp_path / "out", **given, observer=observer)
    assert str(tmp_path / "out") in observer.said
    assert not list((tmp_path / "out").glob("others*"))


def test_a_folder_is_of_one_model(given: dict[str, Any], tmp_path: Path) -> None:
    """Also where the tasks are others."""
    run(tmp_path / "out", **given)
    before = (tmp_path / "out" / "eval.json").read_bytes()
    other = {"model": model(tmp_path / "b.json", lambda n: n == 1), "tasks": [f"b={tmp_path / 'p.jsonl'}"]}
    with pytest.raises(UserError, match="evaluation of another model, scripted:"):
        run(tmp_path / "out", **other)
    assert (tmp_path / "out" / "eval.json").read_bytes() == before
    assert not list((tmp_path / "out").glob("b.*"))
    assert run(tmp_path / "out", **other, overwrite=True).model == other["model"]


def test_tasks_that_leave_the_result_are_named(given: dict[str, Any], tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Silence):
        def noted(self, text: str) -> None:
            notes.append(text)

    run(tmp_path / "out", **given)
    found = run(tmp_path / "out", **{**given, "tasks": [f"b={tmp_path / 'p.jsonl'}"]}, observer=Noting())
    assert [task.name for task in found.tasks] == ["b"]
    assert notes == ["the result that was there had other tasks as well, whose responses stay: sums"]
    assert (tmp_path / "out" / "sums.jsonl").exists()


def test_the_prompts_are_not_overwritten(given: dict[str, Any], tmp_path: Path) -> None:
    given["tasks"] = [f"p={tmp_path / 'p.jsonl'}"]
    with pytest.raises(UserError, match="the file of the prompts"):
        run(tmp_path, **given, overwrite=True)


# -- compared ----------------------------------------------------------------------------------------------


def test_a_baseline_is_compared_by_prompt(given: dict[str, Any], tmp_path: Path) -> None:
    other = model(tmp_path / "b.json", lambda n: n in (0, 1, 3, 5))
    by_engine = run(tmp_path / "one", **given, baseline=other).comparisons[0]
    # Ours 0, 1, 2; theirs 0, 1, 3, 5; both break off at 4 and 7; 6 has no answer.
    assert by_engine.prompts == 7
    assert by_engine.accuracy.value == pytest.approx(3 / 7)
    assert by_engine.baseline_accuracy.value == pytest.approx(4 / 7)
    assert by_engine.difference.value == pytest.approx(-1 / 7)
    run(tmp_path / "base", model=other, tasks=given["tasks"])
    for name in ("base", "base/eval.json"):
        by_result = run(tmp_path / "two", **given, baseline=str(tmp_path / name)).comparisons[0]
        assert by_result == by_engine


def test_what_an_evaluation_left_gives_its_figures_again(given: dict[str, Any], tmp_path: Path) -> None:
    found = run(tmp_path / "out", **given, verifier="math")
    answers = read_baseline(tmp_path / "out" / "eval.json", ["sums"]).answers(["sums"])["sums"]
    again = task_figures(
        "sums", "math", answers.outcomes, prompts=PROMPTS, samples=1, unreadable=answers.unreadable
    )
    assert again == found.tasks[0]


def test_a_baseline_of_other_prompts(given: dict[str, Any], tmp_path: Path) -> None:
    """Only what both were asked is compared; equal ids are not enough."""
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    rows[0]["prompt"] = "What is 0 + 0, then?"
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    run(tmp_path / "base", model=given["model"], tasks=[f"sums={other}"])
    found = run(tmp_path / "out", **given, baseline=str(tmp_path / "base"))
    assert found.comparisons[0].prompts == 3
    assert any("3 of 7 prompts could be compared" in line for line in found.said)
    assert "sums: no difference from " + given["model"] + ": each prompt comes out alike." in found.said


def test_a_baseline_without_the_task_or_its_rows(given: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "base", **given)
    other = {**given, "tasks": [f"others={tmp_path / 'p.jsonl'}"]}
    with pytest.raises(UserError, match="no task of the same name; its tasks: sums"):
        run(tmp_path / "out", **other, baseline=str(tmp_path / "base"))
    both = {**given, "tasks": [*given["tasks"], *other["tasks"]]}
    found = run(tmp_path / "out", **both, baseline=str(tmp_path / "base"))
    assert [one.task for one in found.comparisons] == ["sums"]
    assert "others: the baseline has no task of this name." in found.said
    assert not any("judged by" in line for line in found.said)
    found = run(tmp_path / "other", **given, verifier="math", baseline=str(tmp_path / "base"))
    assert "sums: the baseline was judged by exact, not by math." in found.said
    (tmp_path / "base" / "sums.jsonl").unlink()
    with pytest.raises(UserError, match="not beside it"):
        run(tmp_path / "out", **given, baseline=str(tmp_path / "base"))
    (tmp_path / "base" / "eval.json").write_text("[]")
    with pytest.raises(UserError, match="no evaluation"):
        run(tmp_path / "out", **given, baseline=str(tmp_path / "base"))


def test_a_judge_needs_no_verifier(tmp_path: Path) -> None:
    """Thinking is not shown to it; the longer model wins, at equal length nobody does."""
    judge, base = tmp_path / "j.json", tmp_path / "b.json"
    judge.write_text(json.dumps({"thinks": False, "scripts": [{"response": "Better: tie"}]}))
    base.write_text(json.dumps({"scripts": [{"thinking": "SECRET", "response": "I do not know."}]}))
    found = run(
        tmp_path / "out",
        model=model(tmp_path / "m.json"),
        tasks=[str(prompts(tmp_path / "p.jsonl"))],
        verifier=None,
        judge=f"scripted:{judge}",
        baseline=f"scripted:{base}",
    )
    win = found.wins[0]
    assert found.tasks[0].accuracy == NOT_MEASURED
    assert found.comparisons == ()
    assert win.prompts == 8
    # Two responses never came: those pairs are lost, unasked.
    assert win.raw.value == pytest.approx((6 * 0.5 + 0) / 8)
    assert win.consistent.value == 1
    assert win.consistent.n == 6
    assert (win.unjudged, win.failed) == (0, 0)
    rows = (tmp_path / "out" / "p.wins.jsonl").read_text()
    assert "SECRET" not in rows


def test_the_judge_sees_no_thinking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    complete = ScriptedEngine.complete

    async def spied(self: ScriptedEngine, request: Any) -> Any:
        seen.append(self.vocabulary.decode(request.prefix))
        return await complete(self, request)

    monkeypatch.setattr(ScriptedEngine, "complete", spied)
    judge, base = tmp_path / "j.json", tmp_path / "b.json"
    judge.write_text(json.dumps({"thinks": False, "scripts": [{"response": "Better: A"}]}))
    base.write_text(json.dumps({"scripts": [{"thinking": "SECRET", "response": "I do not know."}]}))
    run(
        tmp_path / "out",
        model=model(tmp_path / "m.json"),
        tasks=[str(prompts(tmp_path / "p.jsonl"))],
        judge=f"scripted:{judge}",
        baseline=f"scripted:{base}",
    )
    asked = [text for text in seen if "You compare two responses" in text]
    assert any("I do not know" in text for text in asked)
    assert not any("SECRET" in text or "Let me see" in text for text in asked)


def test_a_judge_compares_with_texts_of_any_model(given: dict[str, Any], tmp_path: Path) -> None:
    """By their prompts, whatever ids they have, and without their thinking."""
    judge, texts = tmp_path / "j.json", tmp_path / "texts.jsonl"
    longer = {"match": r"response-A-\w+>\nIt is", "response": "Better: A"}
    judge.write_text(json.dumps({"thinks": False, "scripts": [longer, {"response": "Better: B"}]}))
    rows = [
        {
            "id": f"other-{n}",
            "prompt": f"What is {n} + {n}?",
            "completion": f"<think>SECRET</think>Maybe {n}.",
        }
        for n in range(3)
    ]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path / "out", **given, baseline=str(texts), judge=f"scripted:{judge}")
    win = found.wins[0]
    assert (win.prompts, win.raw.value, win.consistent.value, win.raw.n) == (3, 1.0, 1.0, 3)
    assert win.baseline_characters.value == len("Maybe 0.")
    assert found.comparisons == ()
    assert not any("no task of this name" in line for line in found.said)
    with pytest.raises(ValidationError, match="compared by a judge"):
        run(tmp_path / "other", **given, baseline=str(texts))


# -- decode robustness -------------------------------------------------------------------------------------


def test_a_grid_has_a_cell_for_each_way(given: dict[str, Any], tmp_path: Path) -> None:
    found = run(
        tmp_path / "out",
        **given,
        samples=2,
        sampling={"temperature": 1},
        temperatures=[0, 1],
        top_ps=[0.5, 1],
    )
    ways = [(cell.temperature, cell.top_p, cell.figures.samples) for cell in found.grid]
    assert ways == [(1, 1, 2), (0, 0.5, 1), (1, 0.5, 2)]
    assert found.grid[0].figures == found.tasks[0]
    # A scripted model draws nothing: all ways are one.
    assert {cell.figures.accuracy.value for cell in found.grid} == {found.tasks[0].accuracy.value}
    names = {path.name for path in (tmp_path / "out" / "grid").iterdir()}
    assert {"sums-t0-p0.5.jsonl", "sums-t1-p0.5.verified.jsonl"} <= names
    assert run(tmp_path / "plain", **given).grid == ()


def test_all_ways_have_the_same_luck(tmp_path: Path) -> None:
    """A real model: temperatures that hardly differ give the same texts."""
    rows = [
        {"id": f"q{n}", "prompt": f"Compute {n} + 7 * 2 modulo 11 step by step.", "answer": "1"}
        for n in (3, 8)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(
        tmp_path / "out",
        model="micro:student",
        tasks=[str(tmp_path / "p.jsonl")],
        verifier="math",
        samples=2,
        sampling={"temperature": 1.0},
        temperatures=[1.0 + 1e-9],
        limits={"thinking": 120, "response": 40},
    )

    def texts(path: Path) -> list[tuple[str, str]]:
        return sorted((trace.id, trace.text) for trace in read_traces(path))

    out = tmp_path / "out"
    assert texts(out / "p.jsonl") == texts(out / "grid" / "p-t1-p1.jsonl")
    assert len(texts(out / "p.jsonl")) == 4
