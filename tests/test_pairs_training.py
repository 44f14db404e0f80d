"""Pairs where they are used: `weft align` reads them, TRL's own trainer loads them, rewards are judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import DPOTrainer

from preference_world import config, losses
from weft.chat.shipped import shipped_template
from weft.errors import UserError
from weft.micro import model_path
from weft.micro.world import prompt_lines
from weft.pairing import from_data, from_samples, weave
from weft.pairing.settings import DataSettings, SamplesSettings, WeaveSettings
from weft.preference import PrefixDPOTrainer
from weft.preference.align import align, look
from weft.preference.pairs import open_pairs
from weft.preference.preparing import tokenised
from weft.preference.recipe import AlignSettings
from weft.prompts import open_prompts
from weft.records import Status
from weft.store import read_traces
from weft.synthesis import SynthesisSettings, synthesize

pytestmark = pytest.mark.usefixtures("one_thread")

STUDENT = "micro:student"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pairs of all three kinds, from the micro world."""
    folder = tmp_path_factory.mktemp("pairs")
    questions = folder / "prompts.jsonl"
    questions.write_text("".join(prompt_lines(6, 0, "finetune")))
    files = {name: folder / f"{name}.jsonl" for name in ("own", "together", "samples", "woven", "data")}
    for name, given in (
        ("own", {"strategy": "student-only", "samples": 6}),
        ("together", {"teacher": "micro:teacher", "keep_proposals": True}),
    ):
        settings = SynthesisSettings.model_validate({"student": STUDENT, **given})
        synthesize(settings, open_prompts(str(questions)), files[name])
    from_samples(SamplesSettings(by="answer", per_prompt=2), [files["own"]], files["samples"])
    weaving = {"student": STUDENT, "verifier": r"regex:(\d+)\D*$", "max_tokens": 200, "samples": 2}
    weave(WeaveSettings.model_validate(weaving), [files["together"]], files["woven"])
    raw = folder / "raw.jsonl"
    raw.write_text(
        "".join(
            json.dumps({"prompt": f"{n} + {n}?", "chosen": f" {2 * n}", "rejected": f" about {2 * n}"}) + "\n"
            for n in range(1, 5)
        )
    )
    from_data(DataSettings(), str(raw), files["data"])
    return files


def test_the_micro_world_gives_pairs_of_all_kinds(made: dict[str, Path]) -> None:
    counts = {name: len(made[name].read_text().splitlines()) for name in ("samples", "woven", "data")}
    assert counts["samples"] >= 3 and counts["woven"] >= 4 and counts["data"] == 4


def settings(data: Path, **given: Any) -> AlignSettings:
    few = {"max_steps": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    quiet = {"learning_rate": 1e-4, "report_to": "none", "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    return AlignSettings.model_validate({"model": STUDENT, "data": str(data), **few, **quiet, **given})


@pytest.mark.parametrize("kind", ["samples", "woven", "data"])
def test_align_trains_on_them(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    aligned = align(settings(made[kind]), tmp_path / "model", tell=lambda line: None)
    assert aligned.steps == 4
    assert aligned.figures["loss"] < 0.69
    assert (tmp_path / "model" / "config.json").is_file()


def test_samples_are_spelled_as_the_student_writes_them(made: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    rows = open_pairs(str(made["samples"])).rows
    spelled = tokenised(rows, tokenizer, None, where="here", tell=lambda line: None)
    traces = {trace.id: trace for trace in read_traces(made["own"])}
    written = [json.loads(line) for line in made["samples"].read_text().splitlines()]
    for row, ids in zip(written, spelled, strict=True):
        prompt = tokenizer.decode(ids["prompt_ids"])
        assert prompt.endswith("<|im_start|>assistant\n<think>\n")
        for side in ("chosen", "rejected"):
            trace = traces[row[f"{side}_id"]]
            assert trace.status is Status.COMPLETE
            expected = f"{trace.thinking}\n</think>\n\n{trace.response}<|im_end|>"
            assert tokenizer.decode(ids[f"{side}_ids"]).rstrip() == expected


def test_woven_rows_end_where_their_text_ends(made: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    traces = {trace.id: trace for trace in read_traces(made["together"])}
    for line in made["woven"].read_text().splitlines():
        row = json.loads(line)
        trace = traces[row["trace"]]
        said = {"student": row["student_text"], "teacher": row["teacher_text"]}
        other = "teacher" if row["chosen_by"] == "student" else "student"
        for side, author in (("chosen", row["chosen_by"]), ("rejected", other)):
            text = tokenizer.decode([*row["prompt_ids"], *row[f"{side}_ids"]])
            assert text.endswith("<think>\n" + trace.text[: row["at"]] + said[author])
        assert trace.text[row["at"] :].startswith(row["teacher_text"])


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("kind", ["samples", "data"])
def test_trl_itself_loads_them(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    rows = load_dataset("json", data_files=str(made[kind]), split="train")
    args = config(tmp_path / "trl", max_steps=1, max_length=None)
    trainer = DPOTrainer(str(model_path("student")), args=args, train_dataset=rows)
    assert trainer.train().global_step == 1


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
@pytest.mark.parametrize("prefix", ["none", "equal-length"])
@pytest.mark.parametrize("kind", ["samples", "woven", "data"])
def test_scripts_of_ones_own_load_them(kind: str, prefix: str, made: dict[str, Path], tmp_path: Path) -> None:
    rows = load_dataset("json", data_files=str(made[kind]), split="train")
    args = config(tmp_path / "out", max_steps=2, max_length=None)
    trainer = PrefixDPOTrainer(
        str(model_path("student")), args=args, train_dataset=rows, prefix=prefix, tell=lambda line: None
    )
    assert trainer.train().global_step == 2
    assert losses(trainer)[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses(trainer)[1] != losses(trainer)[0]


# -- token ids --


def ids_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROW = {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}


def test_ids_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    data = ids_file(tmp_path / "a.jsonl", [{**ROW, "vocabulary": "0123456789abcdef"}])
    with pytest.raises(UserError, match="another vocabulary"):
        look(settings(data), tell=lambda line: None)
    data = ids_file(tmp_path / "b.jsonl", [{**ROW, "chosen_ids": [10**6]}])
    with pytest.raises(UserError, match="another vocabulary"):
        look(settings(data), tell=lambda line: None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**ROW, "chosen_ids": "3 4"}], "no list of token ids"),
        ([{**ROW, "prompt_ids": ["a"]}], "no list of token ids"),
        ([ROW, {"prompt": "q", "chosen": "a", "rejected": "b"}], "another kind than the first"),
        ([{**ROW, "vocabulary": "a"}, {**ROW, "vocabulary": "b"}], "`vocabulary` is another one"),
        ([{**ROW, "prefix_policy": "ratio:0.5"}], "was already cut"),
    ],
)
def test_ids_that_cannot_be_used(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        look(settings(ids_file(tmp_path / "a.jsonl", rows)), tell=lambda line: None)


def test_prompts_that_fill_the_length_are_dropped(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "prompt_ids": list(range(1, 9))}]
    seen = look(settings(ids_file(tmp_path / "a.jsonl", rows), max_length=8), tell=lambda line: None)
    assert (seen.kept, seen.dropped_too_long) == (1, 1)
    with pytest.raises(UserError, match="every prompt fills max_length"):
        look(settings(ids_file(tmp_path / "b.jsonl", rows[1:]), max_length=8), tell=lambda line: None)


def test_ids_have_one_digest_whatever_stands_beside(tmp_path: Path) -> None:
    plain = open_pairs(str(ids_file(tmp_path / "a.jsonl", [ROW])), ids=True)
    beside = open_pairs(str(ids_file(tmp_path / "b.jsonl", [{**ROW, "trace": "t"}])), ids=True)
    other = open_pairs(str(ids_file(tmp_path / "c.jsonl", [{**ROW, "chosen_ids": [9]}])), ids=True)
    assert plain.sha256 == beside.sha256 != other.sha256


# -- training templates --


def test_messages_are_rendered_by_the_template_that_the_rows_name(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    tokenizer.chat_template = shipped_template("deepseek_r1_distill.jinja")
    message = {"role": "assistant", "content": "<think>\nso it is\n</think>\n\n42"}
    row: dict[str, Any] = {
        "prompt": [{"role": "user", "content": "6 * 7?"}],
        "chosen": [message],
        "rejected": [{**message, "content": message["content"].replace("42", "41")}],
    }

    def chosen(name: str) -> str:
        path = ids_file(tmp_path / f"{len(name)}.jsonl", [{**row, "training_template": name}])
        rows = open_pairs(str(path)).rows
        spelled = tokenised(rows, tokenizer, None, where="here", tell=lambda line: None)
        return str(tokenizer.decode([*spelled[0]["prompt_ids"], *spelled[0]["chosen_ids"]]))

    assert "so it is" not in chosen("")
    assert "so it is" in chosen("deepseek_r1_distill_training.jinja")
    assert tokenizer.chat_template == shipped_template("deepseek_r1_distill.jinja")
    with pytest.raises(UserError, match=r"none\.jinja was not found"):
        chosen("none.jinja")
    with pytest.raises(UserError, match=r"qwen3_training\.jinja, asks otherwise than the model's own"):
        chosen("qwen3_training.jinja")


def test_rows_of_two_templates_are_refused(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "training_template": "a.jinja"}
    row |= {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    path = ids_file(tmp_path / "a.jsonl", [row, {**row, "training_template": "b.jinja"}])
    with pytest.raises(UserError, match="`training_template` is another one"):
        open_pairs(str(path))


def test_traces_of_a_template_that_drops_thinking(made: dict[str, Path], tmp_path: Path) -> None:
    traces = [replace(trace, training_template="qwen3_training.jinja") for trace in read_traces(made["own"])]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(trace.to_line() for trace in traces))
    output = tmp_path / "pairs.jsonl"
    from_samples(SamplesSettings(by="answer"), [path], output)
    templates = {json.loads(line)["training_template"] for line in output.read_text().splitlines()}
    assert templates == {"qwen3_training.jinja"}
