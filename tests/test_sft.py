"""``sft``: runs that are TRL's own, that stop and go on, and models that stay themselves."""

from __future__ import annotations

import asyncio
import datetime
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
import yaml
from datasets import Dataset, load_dataset
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from gap_world import STUDENT, TEACHER, trace_of, write_rows, write_traces
from sft_world import run_settings, traces
from templates import template_text
from weft.engines.settings import EngineSettings
from weft.errors import RunError, UserError
from weft.finetuning.packing import check_apart
from weft.finetuning.preparing import prepared
from weft.finetuning.settings import SftSettings
from weft.finetuning.sft import Finetuning, look, sft
from weft.finetuning.survey import Survey, shown
from weft.micro import model_path
from weft.records import Message, Span, Status
from weft.training.quiet import quiet as without_noise
from weft.training.settings import deciding
from worlds import started

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def quiet(_: str) -> None: ...


def weights(output: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(output / "model.safetensors")
    return found


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- settings -----------------------------------------------------------------------------------------------


def test_defaults_are_the_papers_where_it_gives_any() -> None:
    found = SftSettings(model="m", data="d")
    assert found.data == ("d",)
    assert found.learning_rate == 5e-5
    assert found.per_device_train_batch_size * found.gradient_accumulation_steps == 128
    assert SftSettings(model="m", data=["a", "b"], lora_r=8).learning_rate == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"data": ()}, "at least 1 item"),
        ({"data": ("",)}, "a name is empty"),
        ({"loss_on": "both"}, "'all', 'teacher' or 'student'"),
        ({"trl": {"packing_strategy": "wrapped"}}, "follows from packing"),
        ({"trl": {"assistant_only_loss": True}}, "follows from loss_on"),
        ({"trl": {"learning_rate": 1}}, "set by itself"),
        ({"eval_steps": 3}, "nothing to evaluate on"),
        ({"merge_adapter": True}, "without lora_r"),
        ({"beta": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SftSettings(**{"model": "m", "data": "d", **given_})


def test_what_decides_the_weights_leaves_out_what_does_not() -> None:
    found = deciding(SftSettings(model="m", data="d", license="mit"))
    assert not {"data", "report_to", "save_steps", "eval_data", "license", "limit"} & set(found)
    assert {"model", "loss_on", "packing", "max_length", "learning_rate", "seed", "trl"} <= set(found)


# --- the same as TRL ----------------------------------------------------------------------------------------


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_a_run_is_the_run_of_trl_on_the_same_rows(tmp_path: Path) -> None:
    """With a template that writes no line feed behind the turn: TRL would learn it, `weft sft` does not."""
    settings = run_settings(tmp_path, max_steps=3)
    with without_noise():
        job = Finetuning(settings, tmp_path / "ours")
        job.read(quiet)
        ours = job.trainer(settings, quiet)
        ours.train()
    rows = load_dataset(
        "json", data_files=str(tmp_path / "traces.jsonl"), split="train", cache_dir=str(tmp_path / "json")
    )
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    tokenizer.chat_template, cuts = re.subn(
        r"(endgeneration -%}\n){{- '\\n' -}}", r"\1", tokenizer.chat_template
    )
    assert cuts == 1
    with without_noise():
        args = SFTConfig(
            output_dir=str(tmp_path / "theirs"),
            max_steps=3,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            logging_steps=1,
            gradient_checkpointing=False,
            report_to="none",
            use_cpu=True,
            bf16=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
            max_length=None,
        )
        theirs = SFTTrainer(
            str(model_path("student")),
            args=args,
            train_dataset=rows.select_columns(["prompt", "completion"]),
            processing_class=tokenizer,
        )
        theirs.train()
    assert len(losses(ours)) == 3
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-6)
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("author", ["teacher", "student"])
def test_the_loss_is_of_one_authors_tokens_alone(author: Any, tmp_path: Path) -> None:
    """Against the sum by hand, over the model's own log-probs."""
    settings = run_settings(tmp_path, loss_on=author, max_steps=1, per_device_train_batch_size=12)
    settings = settings.model_copy(update={"gradient_accumulation_steps": 1})
    found = sft(settings, tmp_path / "out", tell=quiet)
    model: Any = AutoModelForCausalLM.from_pretrained(model_path("student"), dtype="float32")
    total, tokens = 0.0, 0
    for row in prepared(settings).rows:
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        with torch.no_grad():
            logps = model(ids[None]).logits[0, :-1].log_softmax(-1)
        learned = labels[1:] != -100
        total -= logps.gather(1, ids[1:, None])[:, 0][learned].sum().item()
        tokens += int(learned.sum())
    assert found.figures["loss"] == pytest.approx(total / tokens, rel=1e-5)


# --- packing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_texts_train_as_they_do_alone(attention: str, tmp_path: Path) -> None:
    """One step of all texts: the same loss, gradient and weights, but for rounding."""
    found = {}
    for packing in (False, True):
        settings = run_settings(
            tmp_path,
            packing=packing,
            attn_implementation=attention,
            max_steps=1,
            per_device_train_batch_size=12,
            gradient_accumulation_steps=1,
            optim="sgd",
            warmup_ratio=0,
        )
        output = tmp_path / f"{packing}"
        found[packing] = sft(settings, output, tell=quiet).figures
    assert found[True]["loss"] == pytest.approx(found[False]["loss"], rel=1e-5)
    assert found[True]["grad_norm"] == pytest.approx(found[False]["grad_norm"], rel=1e-4)
    for name, value in weights(tmp_path / "True").items():
        assert torch.allclose(value, weights(tmp_path / "False")[name], atol=1e-6), name


def test_packed_rows_hold_several_texts_and_are_no_longer_than_the_longest(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, packing=True)
    with without_noise():
        job = Finetuning(settings, tmp_path / "out")
        job.read(quiet)
        rows = job.trainer(settings, quiet).train_dataset
    assert len(rows) < 12
    longest = look(settings).longest
    assert max(len(row["input_ids"]) for row in rows) <= longest
    assert sum(len(row["seq_lengths"]) for row in rows) == 12
    assert sum(label != -100 for row in rows for label in row["labels"]) == look(settings).learned


def test_packing_by_itself_waits_for_flash_attention(tmp_path: Path) -> None:
    plain = look(run_settings(tmp_path))
    assert (plain.packed, "FlashAttention" in plain.why) == (False, True)
    flash = look(run_settings(tmp_path, attn_implementation="flash_attention_2"))
    assert flash.packed
    kernel = {"use_cpu": True, "model_init_kwargs": {"attn_implementation": "kernels-community/flash-attn2"}}
    assert look(run_settings(tmp_path, trl=kernel)).packed


class Running(torch.nn.Module):
    """A model whose tokens see all before them, wherever a text begins."""

    base_model_prefix = "base"

    config = SimpleNamespace(_attn_implementation="none")

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(9, 4)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embed

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.embed(input_ids).cumsum(1))


def test_a_model_that_mixes_packed_texts_is_found_out() -> None:
    with pytest.raises(UserError, match="does not keep packed texts apart"):
        check_apart(Running(), [[1, 2, 3], [4, 5, 6]])
    model: Any = AutoModelForCausalLM.from_pretrained(model_path("student"))
    model.train()
    check_apart(model, [[1, 2, 3], [4, 5, 6]])
    assert model.training


# --- stop and go on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [False, True])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(packing: bool, tmp_path: Path) -> None:
    settings = run_settings(tmp_path, packing=packing, max_steps=5)
    sft(settings, tmp_path / "whole", tell=quiet)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft(settings, tmp_path / "out", tell=quiet, advance=stop)
    assert not (tmp_path / "out" / "model.safetensors").exists()
    said: list[str] = []
    found = sft(settings, tmp_path / "out", tell=said.append)
    assert (found.steps, found.resumed_from, found.was_finished) == (5, 2, False)
    assert any("had reached step 2" in line for line in said)
    assert same(tmp_path / "whole", tmp_path / "out")
    again = sft(settings, tmp_path / "out", tell=said.append)
    assert again.was_finished and again.figures == found.figures
    assert "nothing to do" in said[-1]


def test_other_settings_or_texts_are_refused(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, max_steps=1)
    sft(settings, tmp_path / "out", tell=quiet)
    with pytest.raises(UserError, match='loss_on: "all" before, "teacher" now'):
        sft(settings.model_copy(update={"loss_on": "teacher"}), tmp_path / "out", tell=quiet)
    with pytest.raises(UserError, match=r"data\.texts: 12 before, 3 now"):
        sft(run_settings(tmp_path, max_steps=1, limit=3), tmp_path / "out", tell=quiet)
    copy = tmp_path / "copy.jsonl"
    copy.write_text((tmp_path / "traces.jsonl").read_text())
    moved = settings.model_copy(update={"data": (str(copy),)})
    assert sft(moved, tmp_path / "out", tell=quiet).was_finished
    assert not sft(
        run_settings(tmp_path, max_steps=1, limit=3), tmp_path / "out", overwrite=True, tell=quiet
    ).was_finished


def test_a_finished_run_is_evaluated_afterwards(tmp_path: Path) -> None:
    settings = run_settings(tmp_path)
    first = sft(settings, tmp_path / "out", tell=quiet)
    assert "eval_loss" not in first.figures
    held = write_traces(tmp_path / "held.jsonl", traces(5, seed=1))
    asked = settings.model_copy(update={"eval_data": (held,)})
    said: list[str] = []
    found = sft(asked, tmp_path / "out", tell=said.append)
    assert found.steps == 4 and found.figures["loss"] == first.figures["loss"]
    assert found.figures["eval_loss"] > 0
    assert "held-out loss" in (tmp_path / "out" / "README.md").read_text()
    assert any("evaluates it" in line for line in said)


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(UserError, match="something else") as error:
        sft(run_settings(tmp_path), tmp_path / "out", overwrite=True, tell=quiet)
    assert "weft sft" in str(error.value.expected)


def test_a_run_never_replaces_what_it_reads(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, max_steps=1)
    sft(settings, tmp_path / "out", tell=quiet)
    inside = write_traces(tmp_path / "out" / "traces.jsonl", traces())
    for data in ([inside], [*settings.data, inside]):
        with pytest.raises(UserError, match=r"the data .* lies in the output"):
            sft(run_settings(tmp_path, data=data), tmp_path / "out", overwrite=True, tell=quiet)
    with pytest.raises(UserError, match=r"the model .* lies in the output"):
        sft(run_settings(tmp_path, model=str(tmp_path / "out")), tmp_path / "out", overwrite=True, tell=quiet)
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- the model that is made ---------------------------------------------------------------------------------


def test_a_model_keeps_its_own_template_and_opens_as_before(tmp_path: Path) -> None:
    """Also where the rows were rendered by a template for training."""
    model, output = tmp_path / "model", tmp_path / "out"
    AutoModelForCausalLM.from_pretrained(model_path("student")).save_pretrained(model)
    own = AutoTokenizer.from_pretrained(model_path("student"))
    own.chat_template = template_text("qwen3")
    own.save_pretrained(model)
    rows = [{**trace.to_row(), "training_template": "qwen3_training.jinja"} for trace in traces()]
    settings = run_settings(
        tmp_path, model=str(model), data=write_rows(tmp_path / "marked.jsonl", rows), loss_on="teacher"
    )
    sft(settings, output, tell=quiet)
    before, after = (AutoTokenizer.from_pretrained(path) for path in (model, output))
    assert before.chat_template == after.chat_template
    assert AutoModelForCausalLM.from_pretrained(output).config.use_cache
    old, new = (
        started(EngineSettings(name=str(name)), date=datetime.date(2026, 1, 1)) for name in (model, output)
    )
    try:
        asked = [Message("user", "2 + 2 ?")]
        assert old.template.prompt(asked) == new.template.prompt(asked)
        assert old.vocabulary.fingerprint == new.vocabulary.fingerprint
    finally:
        asyncio.run(old.close())
        asyncio.run(new.close())


@pytest.mark.parametrize("merge", [False, True])
def test_lora(merge: bool, tmp_path: Path) -> None:
    settings = run_settings(tmp_path, lora_r=4, merge_adapter=merge, packing=merge)
    sft(settings, tmp_path / "out", tell=quiet)
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert head["library_name"] == ("transformers" if merge else "peft")
    assert (tmp_path / "out" / "model.safetensors").exists() == merge
    assert (tmp_path / "out" / "adapter_model.safetensors").exists() != merge


def test_the_card_says_what_was_learned_from_what(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, loss_on="teacher", license="apache-2.0", max_steps=1)
    sft(settings, tmp_path / "out", tell=quiet)
    card = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0" and "loss-on:teacher" in head["tags"]
    survey = look(settings)
    assert f"{survey.texts:,} texts" in card
    assert "tokens that the teacher wrote" in card
    assert "no text was held out" in card
    assert yaml.safe_load(card.split("```yaml")[1].split("```")[0])["loss_on"] == "teacher"


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    settings = run_settings(tmp_path, learning_rate=1e30, max_grad_norm=0, warmup_ratio=0)
    with pytest.raises(RunError, match="the loss is nan") as error:
        sft(settings, tmp_path / "out", tell=quiet)
    assert str(error.value.where).startswith("step") and "learning_rate" in error.value.remedy
    made = json.loads((tmp_path / "out" / "sft.manifest.json").read_text())
    assert made["runs"][-1]["ended"] is None


# --- data ---------------------------------------------------------------------------------------------------


def test_a_survey_by_hand(tmp_path: Path) -> None:
    rows = [
        trace_of(1, (Span(STUDENT, "so"), Span(TEACHER, " 4")), "4").to_row(),
        trace_of(2, status=Status.LENGTH).to_row(),
        {"prompt": "what", "completion": " 4 ."},
    ]
    found = look(run_settings(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows)))
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    prompt = "<|im_start|>user\nWhat is 1 * 7?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    end = len(tokenizer("\n</think>\n\n4<|im_end|>")["input_ids"])
    plain = len(tokenizer("what")["input_ids"]) + 3
    tag = len(tokenizer("\n</think>\n\n")["input_ids"])
    lengths = (len(tokenizer(prompt)["input_ids"]) + 2 + end, plain)
    assert (found.texts, found.tokens, found.longest) == (2, sum(lengths), max(lengths))
    assert found.completion == {"student": 1 + end - tag, "teacher": 1 + tag, "unknown": 3}
    assert found.learned == sum(found.completion.values())
    assert found.left == {"of an unfinished trace": 1}
    assert ("left out", "1 of an unfinished trace") in shown(found)


def test_several_files_of_several_kinds(tmp_path: Path) -> None:
    one = write_traces(tmp_path / "a.jsonl", traces(3))
    other = write_rows(tmp_path / "b.jsonl", [{"text": "two and two"}])
    third = tmp_path / "set"
    Dataset.from_list([{"prompt": "what", "completion": " 4"}] * 2).save_to_disk(third)
    assert look(run_settings(tmp_path, data=[one, other, str(third)])).texts == 6
    assert look(run_settings(tmp_path, data=[one, other, str(third)], limit=4)).texts == 4


def test_the_digest_is_of_tokens_and_labels(tmp_path: Path) -> None:
    first = prepared(run_settings(tmp_path)).sha256
    split = [
        write_traces(tmp_path / f"{n}.jsonl", part) for n, part in enumerate((traces()[:5], traces()[5:]))
    ]
    assert prepared(run_settings(tmp_path, data=split)).sha256 == first
    assert prepared(run_settings(tmp_path, loss_on="teacher")).sha256 != first
    settings = run_settings(tmp_path)
    write_traces(tmp_path / "traces.jsonl", [*traces()[:-1], trace_of(99)])
    assert prepared(settings).sha256 != first


def test_the_order_in_which_traces_were_finished_decides_nothing(tmp_path: Path) -> None:
    first = prepared(run_settings(tmp_path))
    turned = write_traces(tmp_path / "turned.jsonl", traces()[::-1])
    assert prepared(run_settings(tmp_path, data=turned)).sha256 == first.sha256
    plain = [{"prompt": f"{number}", "completion": " 4"} for number in (3, 1, 2)]
    rows = prepared(run_settings(tmp_path, data=write_rows(tmp_path / "plain.jsonl", plain))).rows
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    assert [tokenizer.decode(ids[0]) for ids in rows["input_ids"]] == ["3", "1", "2"]


def test_longer_texts_are_left_out_and_the_context_is_the_longest(tmp_path: Path) -> None:
    whole = look(run_settings(tmp_path))
    cut = look(run_settings(tmp_path, max_length=whole.longest - 1))
    assert 0 < cut.left["too long"] == whole.texts - cut.texts
    assert cut.longest < whole.longest
    endless = write_rows(tmp_path / "l.jsonl", [{"text": "4 " * 3000}, {"text": "4"}])
    found = look(run_settings(tmp_path, data=endless))
    assert found.left == {"too long": 1}
    assert ("left out", "1 too long, over 2,048 tokens") in shown(found)  # as many as the micro student holds


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        ([trace_of(1).to_row()], {"max_length": 5}, "no row is left to train on: 1 too long, over 5 tokens"),
        ([trace_of(1, (), "4").to_row()], {"loss_on": "teacher"}, "1 without a token to learn"),
        ([trace_of(1, status=Status.LENGTH).to_row()], {}, "1 of an unfinished trace"),
        ([{"prompt": "a", "completion": "b"}], {"loss_on": "teacher"}, "does not say who wrote what"),
        ([{"chosen": "a", "rejected": "b"}], {}, "preference pair"),
    ],
)
def test_nothing_to_train_on_is_said_before_a_model_is_loaded(
    rows: list[Any], more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    settings = run_settings(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows), **more)
    with pytest.raises(UserError, match=words):
        sft(settings, tmp_path / "out", tell=quiet)
    assert not (tmp_path / "out").exists()


def test_an_empty_file_and_a_broken_line(tmp_path: Path) -> None:
    empty = tmp_path / "e.jsonl"
    empty.write_text("")
    with pytest.raises(UserError, match="there are no rows"):
        look(run_settings(tmp_path, data=str(empty)))
    empty.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(UserError) as error:
        look(run_settings(tmp_path, data=str(empty)))
    assert "e.jsonl:2" in str(error.value.where)


def test_memory_that_is_full_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SFTTrainer, "train", full)
    with pytest.raises(RunError, match="memory is full") as error:
        sft(run_settings(tmp_path), tmp_path / "out", tell=quiet)
    assert "precompute" not in error.value.remedy and "--max-length" in error.value.remedy


def test_what_the_rows_hold_is_shown_first(tmp_path: Path) -> None:
    heard: list[Survey] = []
    steps: list[tuple[int, int]] = []
    settings = run_settings(tmp_path, max_steps=2)
    sft(settings, tmp_path / "out", tell=quiet, show=heard.append, advance=lambda *at: steps.append(at))
    assert heard == [look(settings)]
    assert steps == [(1, 2), (2, 2)]
