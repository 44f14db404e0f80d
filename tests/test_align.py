"""``align``: pairs that come in, what the cut does to them, runs that stop and go on, the card."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from preference_world import quiet, raw_rows, save_tiny
from weft.errors import UserError
from weft.preference.align import align, look
from weft.preference.applying import Apply
from weft.preference.arguments import arguments
from weft.preference.card import POLICIES
from weft.preference.pairs import normalised, open_pairs
from weft.preference.policies import NAMES, Pair, parse_policy
from weft.preference.preparing import Prepared
from weft.preference.preview import (
    PairLengths,
    Preview,
    first_difference,
    lines,
    measured,
    positions,
    preview,
)
from weft.preference.recipe import AlignSettings
from weft.training.folder import check_folder, last_checkpoint
from weft.training.settings import deciding

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def settings(base: str, folder: Path, rows: list[Any] | None = None, **other: Any) -> AlignSettings:
    """Six steps on a processor."""
    values = {
        "model": base,
        "data": write(folder / "pairs.jsonl", raw_rows(24) if rows is None else rows),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "max_length": 64,
        "logging_steps": 2,
        "save_steps": 2,
        "gradient_checkpointing": False,
        "report_to": "none",
        "trl": {"use_cpu": True},
        **other,
    }
    return AlignSettings(**values)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# --- settings ---------------------------------------------------------------------------------------------


def test_values_follow_from_the_loss_unless_they_are_given() -> None:
    plain = AlignSettings(model="m", data="d")
    assert (plain.loss_type, plain.beta, plain.gamma_beta_ratio) == (("sigmoid",), 0.1, None)
    assert (plain.prefix, plain.learning_rate) == ("equal-length", 1e-6)
    simpo = AlignSettings(model="m", data="d", loss_type=("simpo",))
    assert (simpo.beta, simpo.gamma_beta_ratio) == (2.0, 0.5)
    assert AlignSettings(model="m", data="d", loss_type=("simpo",), beta=10).beta == 10
    assert AlignSettings(model="m", data="d", lora_r=8).learning_rate == pytest.approx(1e-5)
    assert AlignSettings(model="m", data="d", lora_r=8, learning_rate=3e-6).learning_rate == 3e-6


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"loss_type": ["simpo", "ipo"]}, "no reference"),
        ({"loss_type": ["simpo"], "precompute_ref_log_probs": True}, "no reference"),
        ({"loss_type": ["sigmoid", "sigmoid"]}, "twice"),
        ({"loss_type": []}, "name a loss"),
        ({"loss_type": ["exo_pair"]}, "label_smoothing"),
        ({"loss_weights": [1, 2]}, "2 weights for 1"),
        ({"gamma_beta_ratio": 0.5}, "only simpo has a margin"),
        ({"prefix": "poet"}, "no prefix policy"),
        ({"prefix": "consistent"}, "judge"),
        ({"lora_alpha": 8}, "without lora_r"),
        ({"merge_adapter": True}, "without lora_r"),
        ({"eval_steps": 3}, "nothing to evaluate on"),
        ({"max_steps": 0}, "trains nothing"),
        ({"trl": {"beta": 1}}, "set by itself"),
        ({"trl": {"output_dir": "x"}}, "set by itself"),
        ({"betta": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AlignSettings(model="m", data="d", **given_)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_every_setting_reaches_trl(tmp_path: Path) -> None:
    found = AlignSettings(
        model="m",
        data="d",
        loss_type=("sigmoid", "sft"),
        loss_weights=(1.0, 0.5),
        optim="sgd",
        report_to=("none",),
        bf16=False,
        warmup_ratio=0.2,
        trl={"use_cpu": True, "discopop_tau": 0.3, "model_init_kwargs": {"dtype": "bfloat16"}},
        revision="abc",
    )
    args = arguments(found, tmp_path)
    assert (args.loss_type, args.loss_weights) == (["sigmoid", "sft"], [1.0, 0.5])
    assert (args.optim, args.warmup_steps, args.discopop_tau) == ("sgd", 0.2, 0.3)
    assert args.model_init_kwargs["dtype"] == "bfloat16"
    assert args.model_init_kwargs["revision"] == "abc"
    assert args.report_to == []
    same = {
        *("beta", "label_smoothing", "learning_rate", "num_train_epochs", "max_steps", "max_length", "seed"),
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        *("weight_decay", "max_grad_norm", "gradient_checkpointing", "logging_steps", "save_steps"),
        *("save_total_limit", "precompute_ref_log_probs"),
    }
    assert all(getattr(args, name) == getattr(found, name) for name in same)


def test_fields_that_trl_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field discopop_taw") as error:
        arguments(AlignSettings(model="m", data="d", trl={"discopop_taw": 1}), tmp_path)
    assert "discopop_tau" in error.value.remedy


# --- pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": [user("q"), said("1")], "rejected": [user("q"), said("2")], "score": 3},
        {"prompt": [user("q")], "chosen": [user("q"), said("1")], "rejected": [user("q"), said("2")]},
        {"chosen": [user("q"), said("1")], "rejected": [user("q"), said("2")]},
        {"prompt": "q", "chosen": [said("1")], "rejected": [said("2")]},
        {"prompt": [user("q")], "chosen": [said("1")], "rejected": [said("2")]},
    ],
)
def test_conversations_come_in_many_forms_and_leave_in_one(row: dict[str, Any]) -> None:
    assert normalised(row, "here") == {
        "prompt": [user("q")],
        "chosen": [said("1")],
        "rejected": [said("2")],
        "tools": "null",
    }


def test_equal_conversations_keep_their_last_turn() -> None:
    row = {"chosen": [user("q"), said("1")], "rejected": [user("q"), said("1")]}
    assert normalised(row, "here")["chosen"] == [said("1")]


def test_texts_are_left_alone() -> None:
    row = {"prompt": "q", "chosen": "1", "rejected": "2", "extra": None}
    assert normalised(row, "here") == {"prompt": "q", "chosen": "1", "rejected": "2"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "q", "chosen": "1"}], r":1: no `rejected`"),
        ([{"prompt": "q", "chosen": "1", "rejected": "2"}, {"question": "q"}], r":2: no `chosen` and no"),
        ([{"prompt": "q", "chosen": "1", "rejected": 2}], r":1: `rejected` is of type int"),
        ([{"prompt": "q", "chosen": [user("1")], "rejected": [user("2")]}], r":1: `chosen` does not end"),
        (
            [
                {"prompt": "q", "chosen": "1", "rejected": "2"},
                {"prompt": "q", "chosen": [said("1")], "rejected": [said("2")]},
            ],
            r":2: the row is of another kind",
        ),
        ([{"prompt": "q", "chosen": "1", "rejected": "2", "images": []}], "images"),
        ([{"prompt": "q", "chosen": "1", "rejected": "2", "prefix_policy": "first:3"}], "already cut"),
        ([], "there are no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_named(rows: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        open_pairs(write(tmp_path / "pairs.jsonl", rows))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*raw_rows(3)]
    first = open_pairs(write(tmp_path / "a.jsonl", rows))
    parquet, folder = tmp_path / "b.parquet", tmp_path / "saved"
    Dataset.from_list(rows).to_parquet(parquet)
    Dataset.from_list(rows).save_to_disk(folder)
    assert open_pairs(str(parquet)).sha256 == first.sha256
    assert open_pairs(str(folder)).sha256 == first.sha256
    assert list(first.rows["weft_row"]) == [0, 1, 2]
    assert open_pairs(str(parquet), limit=2).sha256 != first.sha256
    rows[1]["chosen"] += "."
    assert open_pairs(write(tmp_path / "a.jsonl", rows)).sha256 != first.sha256


def test_no_such_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_pairs(str(tmp_path / "nope.jsonl"))
    with pytest.raises(UserError, match="cannot be loaded as a data set"):
        open_pairs(str(tmp_path))


# --- what the cut does ------------------------------------------------------------------------------------

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(one=IDS, other=IDS)
def test_the_first_difference(one: list[int], other: list[int]) -> None:
    found = first_difference(one, other)
    if one == other:
        assert found is None
    else:
        assert found is not None
        assert one[:found] == other[:found]
        assert one[found : found + 1] != other[found : found + 1]


def lengths(prompt: int, chosen: list[int], rejected: list[int], spec: str = "equal-length") -> PairLengths:
    row = {"prompt_ids": [9] * prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    return measured(row, Apply(parse_policy(spec))(row))


def test_a_preview_against_numbers_by_hand() -> None:
    pairs = [
        lengths(4, [1, 2, 3, 4], [1, 5]),
        lengths(6, [1, 1, 1, 1, 2], [1, 1, 1, 1, 3, 4, 5, 6, 7, 8, 9, 10]),
        lengths(2, [1, 2], [1, 2]),
        lengths(2, [1, 2], [1, 2, 3]),
    ]
    found = preview(pairs, parse_policy("equal-length"), batch=2, empty=1, too_long=2)
    assert (found.pairs, found.kept) == (7, 2)
    assert (found.dropped_empty, found.dropped_too_long) == (1, 2)
    assert (found.dropped_same, found.dropped_cut) == (1, 1)
    assert found.tokens == (4 + 2 + 5 + 12, 2 + 2 + 5 + 5)
    assert (found.chosen[0].median, found.chosen[1].median) == (4.5, 3.5)
    assert (found.rejected[0].median, found.rejected[1].median) == (7, 3.5)
    assert found.first_difference.median == 2.5
    # Of the three pairs that differ at all, two do so at or past three quarters of the shorter response.
    assert found.late == pytest.approx(2 / 3)
    assert found.chosen_longer == 0.5
    assert found.long_tails == 0.5
    assert found.label_consistency is None
    assert found.positions.whole == 4 * 18
    assert found.positions.cut == 4 * 11
    # What both begin with stands once, and the last token of each sequence predicts nothing.
    assert found.positions.packed == (5 + 0 + 0) + (10 + 0 + 0)
    assert [any(word in one for one in found.warnings) for word in ("sits late", "lose every")] == [True] * 2


def test_nothing_to_warn_of() -> None:
    pairs = [lengths(4, [1, 2, 3, 4], [2, 5, 6]) for _ in range(20)]
    found = preview(pairs, parse_policy("equal-length"), batch=4)
    assert found.warnings == ()
    assert "not known" in dict(lines(found))["labels that hold"]


def test_without_a_policy_nothing_goes_and_nothing_is_warned_of() -> None:
    pairs = [lengths(3, [1, 1, 1, 2], [1, 1, 1, 3], "none"), lengths(3, [1], [1], "none")]
    found = preview(pairs, parse_policy("none"), batch=2)
    assert (found.kept, found.dropped_same, found.warnings) == (2, 0, ())
    assert found.tokens[0] == found.tokens[1]
    assert dict(lines(found))["response tokens"].endswith("as before")


@given(
    pairs=st.lists(st.tuples(st.integers(1, 9), IDS, IDS), min_size=1, max_size=12), batch=st.integers(1, 5)
)
def test_positions_never_grow(pairs: list[tuple[int, list[int], list[int]]], batch: int) -> None:
    found = positions([lengths(*pair) for pair in pairs], batch=batch)
    assert 0 < found.packed <= found.cut <= found.whole


def test_the_preview_counts_as_the_policies_cut(base: str, tmp_path: Path) -> None:
    rows = [*raw_rows(12), {"prompt": "one", "chosen": " ", "rejected": " two"}]
    rows.append({"prompt": "the " * 100, "chosen": " one", "rejected": " two"})
    found = look(settings(base, tmp_path, rows), tell=quiet)
    assert isinstance(found, Preview)
    assert (found.pairs, found.kept, found.dropped_empty, found.dropped_too_long) == (14, 12, 1, 1)
    assert found.chosen[1] == found.rejected[1]
    tokenizer = AutoTokenizer.from_pretrained(base)
    kept = 0
    for row in rows[:12]:
        chosen, rejected = (tokenizer(row[side]).input_ids for side in ("chosen", "rejected"))
        kept += 2 * Pair([], [*chosen, 0], [*rejected, 0]).shared
    assert found.tokens[1] == kept


# --- runs -------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_model_and_its_card(base: str, tmp_path: Path) -> None:
    held_out = write(tmp_path / "held.jsonl", raw_rows(6, seed=3))
    heard: list[str] = []
    steps: list[tuple[int, int]] = []
    seen: list[Prepared] = []
    result = align(
        settings(base, tmp_path, eval_data=held_out),
        tmp_path / "out",
        tell=heard.append,
        advance=lambda done, total: steps.append((done, total)),
        show=seen.append,
    )
    assert (result.steps, result.resumed_from, result.was_finished) == (6, None, False)
    assert steps == [(step, 6) for step in range(1, 7)]
    assert [one.preview.kept for one in seen] == [24]
    assert any(line.startswith("step 2 of 6: loss ") for line in heard)
    assert any("held out" in line for line in heard)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.use_cache
    before = AutoModelForCausalLM.from_pretrained(base)
    assert not torch.equal(model.lm_head.weight, before.lm_head.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    card = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["tags"] == ["weft", "trl", "dpo", "prefix:equal-length"]
    assert "base_model" not in head
    pairs = open_pairs(str(tmp_path / "pairs.jsonl"))
    for words in (pairs.sha256, "POET, arXiv 2506.09457", "24 pairs", "trl 1.", "learning_rate: 0.001"):
        assert words in card
    assert f"{result.figures['eval_uncut/rewards/accuracies']:.4g}" in card


def test_the_same_call_again_does_nothing_and_another_is_refused(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    plan = settings(base, tmp_path)
    align(plan, output, tell=quiet)
    weights = (output / "model.safetensors").stat().st_mtime_ns
    again = align(plan.model_copy(update={"logging_steps": 3}), output, tell=quiet)
    assert again.was_finished
    assert again.steps == 6
    assert (output / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(UserError, match=r"settings\.prefix: \"equal-length\" before, \"none\" now"):
        align(plan.model_copy(update={"prefix": "none"}), output, tell=quiet)
    with pytest.raises(UserError, match=r"data\.sha256"):
        align(settings(base, tmp_path, raw_rows(24, seed=1)), output, tell=quiet)
    other = settings(base, tmp_path, prefix="none")
    assert not align(other, output, overwrite=True, tell=quiet).was_finished


@pytest.mark.parametrize("more", [{}, {"precompute_ref_log_probs": True}, {"loss_type": ("simpo",)}])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    more: dict[str, Any], base: str, tmp_path: Path
) -> None:
    plan = settings(base, tmp_path, **more)
    align(plan, tmp_path / "whole", tell=quiet)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(plan, tmp_path / "out", tell=quiet, advance=stop)
    assert not (tmp_path / "out" / "README.md").exists()
    heard: list[str] = []
    result = align(plan, tmp_path / "out", tell=heard.append)
    assert (result.resumed_from, result.steps) == (4, 6)
    assert any("had reached step 4" in line for line in heard)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    runs = json.loads((tmp_path / "out" / "align.manifest.json").read_text())["runs"]
    assert [run["ended"] is None for run in runs] == [True, False]


def test_a_checkpoint_that_was_not_finished_is_passed_over(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, text in ((9, '{"step": 9}'), (20, '{"step"'), (30, None), (8, "{}")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_a_folder_of_something_else_is_never_touched(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="something else"):
            align(settings(base, tmp_path), output, overwrite=overwrite, tell=quiet)
    assert (output / "precious").read_text() == "x"
    with pytest.raises(UserError, match="is a file"):
        align(settings(base, tmp_path), output / "precious", tell=quiet)


def test_empty_folders_of_a_run_that_never_began_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    assert check_folder(tmp_path / "out", "align", overwrite=False) is None


@pytest.mark.skipif(find_spec("swanlab") is not None, reason="swanlab is installed")
def test_a_tracker_that_is_not_installed(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="requires swanlab") as error:
        align(settings(base, tmp_path, report_to=("swanlab",)), tmp_path / "out", tell=quiet)
    assert error.value.where == "--report-to"


def test_the_card_knows_every_policy() -> None:
    names = {one.partition(":")[0] for one in NAMES.split(", ")}
    assert set(POLICIES) == names - {"consistent"}


@pytest.mark.parametrize("spec", ["random@epoch", "sample:3", "decay:0.9", "tail:0.5", "ratio:0.5@equal"])
def test_every_kind_of_policy_trains(spec: str, base: str, tmp_path: Path) -> None:
    result = align(settings(base, tmp_path, prefix=spec, max_steps=2), tmp_path / "out", tell=quiet)
    assert result.steps == 2
    assert f"prefix policy: `{spec}`" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("merge", [False, True])
def test_lora(merge: bool, base: str, tmp_path: Path) -> None:
    plan = settings(base, tmp_path, lora_r=4, merge_adapter=merge, learning_rate=1e-2, loss_type=("simpo",))
    align(plan, tmp_path / "out", tell=quiet)
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    if not merge:
        adapter = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["lora_alpha"]) == (4, 8)
        assert "lm_head" not in adapter["target_modules"]
        assert head["library_name"] == "peft"
        return
    assert head["library_name"] == "transformers"
    merged = load_file(tmp_path / "out" / "model.safetensors")
    before = load_file(Path(base) / "model.safetensors")
    assert merged.keys() == before.keys()
    assert any(not torch.equal(merged[name].float(), before[name].float()) for name in merged)


def test_what_trl_or_the_model_refuses_is_said_without_a_traceback(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Target modules"):
        align(
            settings(base, tmp_path, lora_r=2, lora_target_modules=("nothing",)),
            tmp_path / "out",
            tell=quiet,
        )
    with pytest.raises(UserError, match="nowhere is not supported"):
        align(settings(base, tmp_path, report_to=("nowhere",)), tmp_path / "out", tell=quiet)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="every prompt fills max_length"):
        align(settings(base, tmp_path, max_length=2), tmp_path / "out", tell=quiet)
    same = [{"prompt": "one", "chosen": " two", "rejected": " two"}] * 3
    with pytest.raises(UserError, match="no pair has a differing token left"):
        look(settings(base, tmp_path, same))


def test_messages_need_a_template(base: str, tmp_path: Path) -> None:
    plain = AutoTokenizer.from_pretrained(base)
    plain.chat_template = None
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "plain")
    plain.save_pretrained(tmp_path / "plain")
    rows = [{"prompt": "one", "chosen": [said("two")], "rejected": [said("three")]}]
    with pytest.raises(UserError, match="no chat template"):
        look(settings(str(tmp_path / "plain"), tmp_path, rows))


def test_what_decides_the_weights_leaves_out_what_does_not() -> None:
    found = deciding(AlignSettings(model="m", data="d", report_to=("trackio",)))
    assert not {"data", "report_to", "save_steps", "eval_data"} & set(found)
    assert {"model", "prefix", "beta", "learning_rate", "seed", "trl", "max_length"} <= set(found)
