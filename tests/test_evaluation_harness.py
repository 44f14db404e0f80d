"""lm-evaluation-harness: what it is asked, what is read of its results, and once for real."""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from weft.engines.settings import EngineSettings
from weft.errors import RunError, UserError
from weft.evaluation import harness
from weft.evaluation.evaluate import evaluate
from weft.evaluation.harness import arguments, check_harness, figures, run_harness
from weft.evaluation.result import LmEvalFigure
from weft.evaluation.settings import EvalSettings, LmEvalSettings
from weft.micro import model_path

DAY = datetime.date(2026, 1, 2)
STUDENT = EngineSettings(name="micro:student")
TASK = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_gen_toks: 96, do_sample: false, until: []}}
filter_list:
  - name: last
    filter:
      - function: regex
        regex_pattern: "(\\\\d+)\\\\D*$"
      - function: take_first
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


def asked(engine: EngineSettings = STUDENT, **given: Any) -> dict[str, Any]:
    return arguments(engine, LmEvalSettings(tasks=("a", "b"), arguments=given), seed=3, date=DAY)


def test_a_folder_is_its_hf_model() -> None:
    found = asked(EngineSettings(name="micro:student", dtype="float32", device="cpu"), num_fewshot=5)
    assert found == {
        "model": "hf",
        "model_args": {
            "pretrained": str(model_path("student")),
            "dtype": "float32",
            "think_end_token": "</think>",
        },
        "tasks": ["a", "b"],
        "seed": 3,
        "device": "cpu",
        "num_fewshot": 5,
    }


def test_a_server_is_completions_with_the_same_tokenizer() -> None:
    server = EngineSettings(name="small@http://127.0.0.1:9/v1", tokenizer="micro:student")
    found = asked(server)
    assert found["model"] == "local-completions"
    assert found["model_args"]["model"] == "small"
    assert found["model_args"]["base_url"] == "http://127.0.0.1:9/v1/completions"
    assert found["model_args"]["tokenizer"] == str(model_path("student"))
    chat = asked(server, model="local-chat-completions", model_args={"num_concurrent": 8})
    assert chat["model_args"]["base_url"] == "http://127.0.0.1:9/v1/chat/completions"
    assert chat["model_args"]["num_concurrent"] == 8


def test_the_users_arguments_win() -> None:
    found = asked(model_args={"dtype": "float64", "max_length": 99}, seed=9, limit=4)
    assert found["model_args"]["dtype"] == "float64"
    assert found["model_args"]["max_length"] == 99
    assert (found["seed"], found["limit"]) == (9, 4)
    with pytest.raises(UserError, match="model_args is no JSON object"):
        asked(model_args="dtype=float64")


@pytest.mark.parametrize("name", ["tasks", "output_path", "config"])
def test_arguments_that_are_set_here_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is set by"):
        check_harness(STUDENT, LmEvalSettings(tasks=("a",), arguments={name: "x"}))


def test_a_template_that_it_cannot_take_is_refused() -> None:
    with pytest.raises(UserError, match="own chat template"):
        check_harness(EngineSettings(name="m", chat_template="t.jinja"), LmEvalSettings(tasks=("a",)))


def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'weft\[eval\]'"):
        check_harness(STUDENT, LmEvalSettings(tasks=("a",)))


def test_figures_are_quoted_with_their_errors() -> None:
    results = {
        "results": {
            "a": {
                "alias": "a",
                "acc,none": 0.25,
                "acc_stderr,none": 0.1,
                "f1,none": 0.5,
                "f1_stderr,none": "N/A",
            },
            "g": {"alias": "g", "acc,none": 0.3, "acc_stderr,none": 0.2, "sample_len": 7},
        },
        "groups": {"g": {"alias": "g", "acc,none": 0.3}},
        "n-samples": {"a": {"original": 90, "effective": 20}},
    }
    assert figures(results) == (
        LmEvalFigure("a", "acc,none", 0.25, 0.1, 20),
        LmEvalFigure("a", "f1,none", 0.5, None, 20),
        LmEvalFigure("g", "acc,none", 0.3, 0.2, None),
    )
    assert figures({}) == ()


def test_a_result_that_was_torn_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made again; a whole one is read again."""
    runs: list[Path] = []

    async def run(config: Path, log: Path, environment: Any) -> None:
        runs.append(config)
        path = Path(json.loads(config.read_text())["output_path"])
        text = json.dumps({"results": {"a": {"acc,none": 1}}})
        whole = path.with_name(f"{path.stem}_2026-01-02T0{len(runs)}.json")
        whole.write_text(text if len(runs) > 1 else text[:-3])

    monkeypatch.setattr(harness, "_run", run)
    settings = LmEvalSettings(tasks=("a",))

    def again(settings: LmEvalSettings = settings) -> tuple[LmEvalFigure, ...]:
        return asyncio.run(run_harness(STUDENT, settings, tmp_path / "lm-eval", seed=0, date=DAY))

    with pytest.raises(RunError, match="wrote no results"):
        again()
    assert again() == again() == (LmEvalFigure("a", "acc,none", 1.0, None, None),)
    assert len(runs) == 2
    again(LmEvalSettings(tasks=("a",), arguments={"limit": 3}))
    assert len(runs) == 3


@pytest.mark.slow
def test_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    data = tmp_path / "data.jsonl"
    rows = [
        {"prompt": f"Compute {n} + 5 modulo 11 step by step.", "answer": f"{(n + 5) % 11}"} for n in range(6)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sums.yaml").write_text(TASK.format(data=data))
    given = {"include_path": str(tmp_path / "tasks"), "apply_chat_template": True, "batch_size": 6}
    settings = EvalSettings.model_validate(
        {"model": "micro:student", "lm_eval": {"tasks": "sums", "arguments": given}}
    )
    found = evaluate(settings, tmp_path / "out")
    assert [(one.task, one.metric, one.n) for one in found.lm_eval] == [("sums", "exact_match,last", 6)]
    assert found.lm_eval[0].value > 0  # without its thinking; the student adds well
    assert found.lm_eval[0].stderr is not None
    assert list((tmp_path / "out" / "lm-eval").glob("results-*.json"))
    # A wrong name is found out before anything else is done.
    task = {"name": "own", "prompts": str(data), "verifier": "math"}
    wrong = EvalSettings.model_validate({"model": "micro:student", "tasks": task, "lm_eval": "no_such_task"})
    with pytest.raises(UserError, match="has no task no_such_task"):
        evaluate(wrong, tmp_path / "o")
    assert not list((tmp_path / "o").glob("own*"))
