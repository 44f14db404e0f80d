"""What an evaluation may be asked to do, and what it refuses with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from weft.evaluation.settings import EvalSettings, TaskSettings, task_name
from weft.records import Sampling

OWN = Sampling(0.6, 0.95, 20, 0.0)


def settings(**given: Any) -> EvalSettings:
    return EvalSettings.model_validate(
        {"model": "micro:student", "tasks": ["a.jsonl"], "verifier": "exact", **given}
    )


@pytest.mark.parametrize(
    ("text", "name", "prompts"),
    [
        ("data/gsm8k.test.jsonl", "gsm8k-test", "data/gsm8k.test.jsonl"),
        ("hard=data/gsm8k.jsonl", "hard", "data/gsm8k.jsonl"),
        ("owner/name", "name", "owner/name"),
        ("./a=b/c.jsonl", "c", "./a=b/c.jsonl"),
        ("../.jsonl", "jsonl", "../.jsonl"),
        ("...", "task", "..."),
    ],
)
def test_a_task_is_named_by_its_file(text: str, name: str, prompts: str) -> None:
    task = settings(tasks=text).tasks[0]
    assert (task.name, task.prompts) == (name, prompts)


def test_names_are_no_paths() -> None:
    for name in ("a/b", "", "../a", "a.verified", ".a", "a b", "x" * 101):
        with pytest.raises(ValidationError, match="no name of a task"):
            TaskSettings(name=name, prompts="p.jsonl")
    assert task_name("x" * 300 + ".jsonl") == "x" * 100


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": []}, "nothing to evaluate"),
        ({"tasks": ["a.jsonl", "b/a.csv"]}, "two tasks are called a"),
        ({"tasks": ["a.jsonl", "A.csv"]}, "two tasks are called"),
        ({"verifier": None}, "has no verifier"),
        ({"verifier": "maths"}, "no verifier is called 'maths'"),
        ({"judge": "j"}, "--baseline"),
        ({"samples": 2, "k": [3]}, "pass@k needs k from 1 to the 2 samples"),
        ({"k": [0]}, "pass@k"),
        ({"samples": 2, "sampling": {"temperature": 0}}, "greedy responses .* would be equal"),
        ({"temperatures": [-1]}, "temperatures from 0"),
        ({"top_ps": [0]}, "top-p above 0"),
        ({"temperatures": [n / 10 for n in range(20)], "top_ps": [0.5, 0.6, 0.7, 0.8]}, "more than 64"),
        (
            {"temperatures": [1], "verifier": None, "judge": "j", "baseline": "b"},
            "needs a task with a verifier",
        ),
        ({"tasks": [], "lm_eval": "arc", "baseline": "b"}, "compared on tasks"),
        ({"sample": 3}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**given)


def test_a_task_may_have_its_own_verifier() -> None:
    found = settings(verifier=None, tasks=[{"prompts": "a.jsonl", "verifier": "math"}])
    assert found.verifier_of(found.tasks[0]) == "math"
    with pytest.raises(ValidationError, match="the task b has no verifier"):
        settings(verifier=None, tasks=[{"prompts": "a.jsonl", "verifier": "math"}, "b.jsonl"])


def test_k_is_what_was_asked_and_one() -> None:
    assert settings(samples=8).ks == (1, 8)
    assert settings(samples=8, k=[4, 2]).ks == (1, 2, 4)
    assert settings(samples=8, k=2).ks == (1, 2)
    assert settings().ks == (1,)


def test_a_grid_begins_with_the_own_way_and_is_greedy_once() -> None:
    assert settings().grid(OWN) == (OWN,)
    ways = settings(temperatures=[0, 0.6, 1], top_ps=[0.8, 0.95]).grid(OWN)
    assert [(way.temperature, way.top_p) for way in ways] == [
        (0.6, 0.95),
        (0, 0.8),
        (0.6, 0.8),
        (1, 0.8),
        (1, 0.95),
    ]
    assert {way.top_k for way in ways} == {20}
    assert len(settings(top_ps=[0.8]).grid(OWN)) == 2


def test_a_baseline_is_an_engine_or_an_evaluation(tmp_path: Path) -> None:
    assert settings(baseline="owner/name").baseline_result is None
    assert settings().baseline_result is None
    assert settings(baseline="x/eval.json").baseline_result == Path("x/eval.json")
    assert settings(baseline=str(tmp_path)).baseline_result is None
    (tmp_path / "eval.json").write_text("{}")
    assert settings(baseline=str(tmp_path)).baseline_result == tmp_path / "eval.json"


def test_lm_eval_tasks_may_be_text() -> None:
    found = settings(tasks=[], lm_eval="arc_easy, gsm8k")
    assert found.lm_eval is not None
    assert found.lm_eval.tasks == ("arc_easy", "gsm8k")


def test_what_decides_nothing_is_not_recorded_as_deciding() -> None:
    one, other = settings(concurrency=1, error_rate=0.1), settings(servers={"timeout": 3})
    assert one.deciding() == other.deciding() == settings().deciding()
    assert settings(seed=1).deciding() != settings().deciding()
