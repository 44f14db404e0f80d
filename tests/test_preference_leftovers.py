"""What a review of preferences found: stale caches, finished runs, equal pairs, signs that stand twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

import preference_world as world
from preference_world import quiet, raw_data, raw_rows, save_tiny, tiny_model
from weft.cli.main import main
from weft.errors import UserError
from weft.preference import PrefixDPOTrainer, SimPOConfig, SimPOTrainer, cut
from weft.preference.align import align
from weft.preference.arguments import arguments
from weft.preference.collator import Epochs
from weft.preference.ends import OneEach
from weft.preference.metrics import Tally, by_prefix, same
from weft.preference.recipe import AlignSettings

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # TRL sets what transformers has renamed.
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


def trainer(output: Path, data: Any, prefix: str, *, kind: Any = PrefixDPOTrainer, **named: Any) -> Any:
    """A trainer on tiny models that differ; ``args`` in ``named`` are TRL's settings."""
    values = world.settings(output, **named.pop("args", {}))
    reference = () if kind is SimPOTrainer else (tiny_model(seed=1),)
    config = SimPOConfig(**values) if kind is SimPOTrainer else DPOConfig(**values)
    return kind(
        tiny_model(),
        *reference,
        args=config,
        train_dataset=data,
        processing_class=named.pop("processing_class", world.tokenizer()),
        prefix=prefix,
        tell=named.pop("tell", quiet),
        **named,
    )


# --- cached reference log-probs -----------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [False, True])
def test_cached_references_of_ids_are_those_of_the_length(saved: bool, tmp_path: Path) -> None:
    rows = cut(raw_data(), world.tokenizer(), "none", tell=quiet).select_columns(
        ["prompt_ids", "chosen_ids", "rejected_ids"]
    )
    if saved:
        rows.save_to_disk(tmp_path / "rows")

    def sums(length: int, precompute: bool = True) -> list[float]:
        data = datasets.load_from_disk(str(tmp_path / "rows")) if saved else rows
        args = {"max_length": length, "precompute_ref_log_probs": precompute}
        ours = trainer(tmp_path, data, "none", args=args)
        if precompute:
            return [float(value) for value in ours.train_dataset["ref_chosen_logps"]]
        batch = ours.data_collator([ours.train_dataset[at] for at in range(len(ours.train_dataset))])
        return [float(value) for value in ours.compute_ref_log_probs(ours.ref_model, batch)[0]]

    for length in (64, 12, 64):
        assert sums(length) == pytest.approx(sums(length, precompute=False), abs=1e-4)
    assert sums(64) != pytest.approx(sums(12), abs=1e-2)


# --- a finished run that is asked for more ------------------------------------------------------------------


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def plan(base: str, folder: Path, **other: Any) -> AlignSettings:
    """A run that ends in the middle of an epoch."""
    return AlignSettings(
        **{
            "model": base,
            "data": written(folder / "pairs.jsonl", raw_rows(24)),
            "max_steps": 3,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-2,
            "max_length": 64,
            "gradient_checkpointing": False,
            "report_to": "none",
            "trl": {"use_cpu": True},
            **other,
        }
    )


def manifest(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "align.manifest.json").read_text())
    return found


def test_a_finished_adapter_is_merged_later(base: str, tmp_path: Path) -> None:
    adapter = plan(base, tmp_path, lora_r=4)
    both = adapter.model_copy(update={"merge_adapter": True})
    align(both, tmp_path / "at-once", tell=quiet)
    align(adapter, tmp_path / "out", tell=quiet)
    heard: list[str] = []
    found = align(both, tmp_path / "out", tell=heard.append)
    assert (found.was_finished, found.steps, found.resumed_from) == (False, 3, 3)
    assert any("is finished; this call merges its adapter" in line for line in heard)
    assert not list((tmp_path / "out").glob("adapter*"))
    at_once, later = (load_file(tmp_path / name / "model.safetensors") for name in ("at-once", "out"))
    assert at_once.keys() == later.keys()
    assert all(torch.equal(at_once[name], later[name]) for name in at_once)
    assert "merged" in (tmp_path / "out" / "README.md").read_text()
    for settings in (both, adapter):  # and what was merged stays merged
        assert align(settings, tmp_path / "out", tell=quiet).was_finished
    held_out = written(tmp_path / "held.jsonl", raw_rows(4, 7))
    measured = align(adapter.model_copy(update={"eval_data": held_out}), tmp_path / "out", tell=quiet)
    assert "eval_loss" in measured.figures and not measured.was_finished
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(at_once[name], again[name]) for name in at_once)
    assert not list((tmp_path / "out").glob("adapter*"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0


def test_a_finished_run_is_evaluated_later(base: str, tmp_path: Path) -> None:
    one, other = (written(tmp_path / f"{seed}.jsonl", raw_rows(5, seed)) for seed in (7, 8))
    plain = plan(base, tmp_path)
    align(plain.model_copy(update={"eval_data": one}), tmp_path / "at-once", tell=quiet)
    align(plain, tmp_path / "out", tell=quiet)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    found = align(plain.model_copy(update={"eval_data": one}), tmp_path / "out", tell=quiet)
    assert not found.was_finished and found.steps == 3
    expected = manifest(tmp_path / "at-once")["runs"][-1]["info"]["figures"]
    assert found.figures["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-6)
    assert found.figures["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert "held-out loss" in (tmp_path / "out" / "README.md").read_text()
    same_pairs = written(tmp_path / "copy.jsonl", raw_rows(5, 7))
    for settings in (plain, plain.model_copy(update={"eval_data": same_pairs})):
        assert align(settings, tmp_path / "out", tell=quiet).was_finished
    again = align(plain.model_copy(update={"eval_data": other}), tmp_path / "out", tell=quiet)
    assert again.figures["eval_loss"] != pytest.approx(found.figures["eval_loss"], abs=1e-6)


def test_what_cannot_be_done_any_more_is_refused(base: str, tmp_path: Path) -> None:
    adapter = plan(base, tmp_path, lora_r=4)
    output = tmp_path / "out"
    align(adapter, output, tell=quiet)
    for path in (output / "checkpoints").rglob("trainer_state.json"):
        path.unlink()
    before = sorted(path.name for path in output.iterdir())
    with pytest.raises(UserError, match="its last checkpoint is gone") as said:
        align(adapter.model_copy(update={"merge_adapter": True}), output, tell=quiet)
    assert said.value.where == str(output) and "--overwrite" in said.value.remedy
    assert sorted(path.name for path in output.iterdir()) == before
    assert align(adapter, output, tell=quiet).was_finished


def test_a_run_that_was_killed_after_its_last_step_takes_no_other(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weft.training.job as module

    settings = plan(base, tmp_path)
    align(settings, tmp_path / "whole", tell=quiet)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "figures", killed)
        align(settings, tmp_path / "out", tell=quiet)
    assert align(settings, tmp_path / "out", tell=quiet).steps == 3
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# --- pairs without a difference -----------------------------------------------------------------------------


def test_which_pairs_are_the_same_by_hand() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 5, 3, 4], [1, 2, 3, 9], [1, 2, 3, 4], [1, 5, 7, 4]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 0, 1]])
    # The last tokens of the first pair weigh nothing; the third one's middle token is only context.
    assert same(ids, mask).tolist() == [True, True, False]
    halved = mask.float()
    halved[0, 2] = 0.5
    assert same(ids, halved).tolist() == [False, True, False]
    found = by_prefix(torch.zeros(2, 3), torch.tensor([[0, 1, 1]] * 2), (1, 2), ids_RT=ids[[0, 2], :3])
    accuracies = [found[f"rewards/accuracies@{tokens}"] for tokens in (1, 2)]
    assert [one.tolist() for one in accuracies if one is not None] == [[0], [0]]
    late = by_prefix(torch.zeros(2, 3), torch.tensor([[0, 1, 1]] * 2), (1,), ids_RT=ids[[0, 3], :3])
    (accuracy, margin) = late.values()
    assert accuracy is not None and margin is not None
    assert math.isnan(accuracy.item()) and margin.item() == 0


def test_means_are_of_the_pairs_that_count() -> None:
    nan, tally = float("nan"), Tally()
    metrics: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for a, c in (([1.0, nan, nan], [nan, nan, nan]), ([0.0, 0.0, nan], [nan, nan, nan])):
        values = {"a": torch.tensor(a), "b": torch.tensor([1.0, 2.0, 3.0]), "c": torch.tensor(c)}
        if "c" not in metrics:
            metrics["c"] = []  # as TRL's counter of names does
        tally.note("eval", metrics, values, lambda table: table)
    tally.weigh("eval", metrics, every=False)
    assert metrics == {"a": [pytest.approx(1 / 3)], "b": [2.0, 2.0]}
    assert not tally.pairs


TIED = [
    {"prompt": "one", "chosen": " two three four", "rejected": " two three"},
    {"prompt": "one", "chosen": " two", "rejected": " two"},
]


@pytest.mark.parametrize("kind", [PrefixDPOTrainer, SimPOTrainer])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_pairs_that_are_the_same_after_the_cut_are_left_out_of_accuracies(
    kind: Any, size: int, tmp_path: Path
) -> None:
    heard: list[str] = []
    differing = raw_rows(5, seed=9)

    def found(rows: list[Any]) -> dict[str, float]:
        ours = trainer(
            tmp_path,
            raw_data(4),
            "first:2",
            kind=kind,
            eval_dataset=Dataset.from_list(rows),
            args={"per_device_eval_batch_size": size},
            tell=heard.append,
        )
        figures: dict[str, float] = ours.evaluate()
        return figures

    without, tied = found(differing), found(TIED + differing)
    for name in ("accuracies", "accuracies@8", "accuracies@all"):
        assert 0 <= without[f"eval_rewards/{name}"] <= 1
    assert tied["eval_rewards/accuracies"] == pytest.approx(without["eval_rewards/accuracies"])
    said = [line for line in heard if "do not differ" in line]
    assert said == [
        "evaluation (eval) data: 2 of 7 pairs do not differ in what prefix first:2 leaves of them; reward "
        "accuracies leave them out"
    ]
    # Whole, only one of them is the same on both sides; its margin of 0 stays in the mean.
    assert tied["eval_rewards/margins"] == pytest.approx(without["eval_rewards/margins"] * 5 / 7, abs=1e-5)


def test_where_no_pair_differs_no_accuracy_is_told(tmp_path: Path) -> None:
    ours = trainer(tmp_path, raw_data(4), "first:2", eval_dataset=Dataset.from_list(TIED))
    found = ours.evaluate()
    assert "eval_rewards/accuracies" not in found and "eval_loss" in found
    assert found["eval_uncut/rewards/accuracies"] in (0, 1)  # of the one pair that differs as a whole


# --- streams that draw anew ---------------------------------------------------------------------------------


def test_streams_draw_as_data_sets_do(base: str, tmp_path: Path) -> None:
    def drawn(data: Any) -> list[float]:
        ours = PrefixDPOTrainer(
            base,
            args=world.config(
                tmp_path,
                max_steps=8,
                per_device_train_batch_size=4,
                learning_rate=0,
                train_sampling_strategy="sequential",
            ),
            train_dataset=data,
            prefix="random:3@epoch",
            tell=quiet,
        )
        ours.train()
        return [entry["entropy"] for entry in ours.state.log_history if "loss" in entry]

    whole, stream = drawn(raw_data()), drawn(raw_data().to_iterable_dataset())
    assert stream == pytest.approx(whole, abs=1e-6)
    assert len(set(stream[::2])) == 4


def test_epochs_are_counted_from_where_a_run_goes_on() -> None:
    class State:
        epoch: float | None = None

    epoch, state = torch.zeros(1, dtype=torch.long), State()
    epochs = Epochs(epoch)
    for reached, expected in ((None, [0, 1, 2]), (1.5, [1, 2]), (1.9999999, [2, 3])):
        epochs.on_train_begin(None, state, None)
        state.epoch = reached
        seen = []
        for _ in expected:
            epochs.on_epoch_begin(None, state, None)
            seen.append(int(epoch))
            state.epoch = 0.3  # as of a stream, whose length nobody knows
        assert seen == expected


# --- values of TRL's fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"discopop_tau": "x"}, 'discopop_tau is "x"\n  expected: a number\n'),
        ({"dataset_num_proc": True}, "dataset_num_proc is true\n  expected: a whole number or null"),
        ({"use_cpu": "yes"}, 'use_cpu is "yes"\n  expected: true or false'),
        ({"model_init_kwargs": [1]}, r"model_init_kwargs is \[1\]\n  expected: a mapping or null"),
        ({"adam_beta1": None}, "adam_beta1 is null\n  expected: a number"),
        ({"remove_unused_columns": 1}, "remove_unused_columns is 1\n  expected: true or false"),
    ],
)
def test_values_of_a_wrong_type(given_: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        arguments(AlignSettings(model="m", data="d", trl=given_), tmp_path)


def test_values_of_the_right_types(tmp_path: Path) -> None:
    given_ = {"use_cpu": True, "discopop_tau": 1, "f_divergence_type": "js_divergence", "adam_beta2": 0.9}
    found = arguments(AlignSettings(model="m", data="d", trl={**given_, "debug": []}), tmp_path)
    assert {name: getattr(found, name) for name in given_} == given_


def test_a_wrong_type_on_the_command_line(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "pairs.jsonl", raw_rows(4))
    command = ["align", "--model", base, "--data", data, "-o", str(tmp_path / "out")]
    for value, said in (
        ('{"lr_scheduler_kwargs": 3}', "lr_scheduler_kwargs is 3"),
        ('{"f_divergence_type": ["a"]}', "f_divergence_type is"),
        ('{"lr_scheduler_type": "nothing"}', ""),
        ('{"parallelism_config": {"a": 1}}', ""),
        ('{"discopop_tau": NaN}', "discopop_tau holds a number that is none"),
    ):
        assert main([*command, "--trl", value]) == 2
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err


# --- numbers that are none ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_",
    [
        {"trl": {"discopop_tau": float("nan")}},
        {"trl": {"lr_scheduler_kwargs": {"a": [1, float("inf")]}}},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, float("nan")]},
        {"label_smoothing": float("nan")},
    ],
)
def test_settings_that_are_no_numbers(given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlignSettings(model="m", data="d", **given_)


def test_a_figure_that_is_no_number_is_null(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weft.training.job as module

    def figures(*_: Any) -> dict[str, float]:
        return {"step": 3.0, "loss": float("nan"), "rewards/margins": float("inf")}

    monkeypatch.setattr(module, "figures", figures)
    found = align(plan(base, tmp_path), tmp_path / "out", tell=quiet)
    assert found.figures == {"step": 3.0}
    text = (tmp_path / "out" / "align.manifest.json").read_text()

    def refused(name: str) -> None:
        raise AssertionError(name)

    kept = json.loads(text, parse_constant=refused)["runs"][-1]["info"]["figures"]
    assert kept == {"step": 3.0, "loss": None, "rewards/margins": None}
    assert "nan" not in (tmp_path / "out" / "README.md").read_text().lower().split("## settings")[0]
    assert align(plan(base, tmp_path), tmp_path / "out", tell=quiet).figures == {"step": 3.0}


# --- signs that stand twice ---------------------------------------------------------------------------------

LIKE_LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant : ' }}{% endif %}"
)


def llama_like(*, ends: bool = False, template: str = LIKE_LLAMA) -> PreTrainedTokenizerFast:
    """A tokenizer of words that adds a beginning of sequence, and perhaps an end."""
    words = ["<s>", "</s>", "<unk>", *world.WORDS, "no", "user", "assistant", ":"]
    one = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    one.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    one.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if ends else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=one, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    made.chat_template = template
    return made


def ids(rows: list[Any], prefix: str, tokenizer: Any, folder: Path, heard: list[str]) -> list[dict[str, Any]]:
    ours = trainer(folder, Dataset.from_list(rows), prefix, processing_class=tokenizer, tell=heard.append)
    return [dict(row) for row in ours.train_dataset]


RENDERED = [{"prompt": "<s> user : one assistant :", "chosen": " two </s>", "rejected": " three four </s>"}]


@pytest.mark.parametrize("ends", [False, True])
def test_one_beginning_and_one_end_of_texts(ends: bool, tmp_path: Path) -> None:
    tokenizer, heard = llama_like(ends=ends), list[str]()
    theirs = DPOTrainer(
        tiny_model(),
        tiny_model(seed=1),
        world.config(tmp_path),
        train_dataset=Dataset.from_list(RENDERED),
        processing_class=tokenizer,
    ).train_dataset[0]
    # What TRL makes of it; if that changes, the mending may go.
    assert theirs["prompt_ids"][:3] == [0, 0, tokenizer.convert_tokens_to_ids("user")]
    assert theirs["chosen_ids"].count(1) == (2 if ends else 1)
    (row,) = ids(RENDERED, "first:9", tokenizer, tmp_path, heard)
    assert row["prompt_ids"] == theirs["prompt_ids"][1:]
    assert row["chosen_ids"] == [tokenizer.convert_tokens_to_ids("two"), 1]
    assert row["rejected_ids"][-2:] != [1, 1] and row["rejected_ids"].count(1) == 1
    assert any("1 of 1 prompts begin with '<s>' twice" in line and "one of each" in line for line in heard)
    by_hand = cut(Dataset.from_list(RENDERED), tokenizer, "first:9", tell=quiet)[0]
    assert all(by_hand[name] == row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))


def test_without_a_policy_they_are_told_and_left_as_trl_makes_them(tmp_path: Path) -> None:
    heard: list[str] = []
    (row,) = ids(RENDERED, "none", llama_like(), tmp_path, heard)
    assert row["prompt_ids"][:2] == [0, 0]
    assert any("take them out of the texts" in line for line in heard)


@pytest.mark.parametrize("template", [LIKE_LLAMA, "{{ '<s>' }}" + LIKE_LLAMA])
def test_one_beginning_and_one_end_of_conversations(template: str, tmp_path: Path) -> None:
    tokenizer, heard = llama_like(ends=True, template=template), list[str]()
    rows = [
        {
            "prompt": [{"role": "user", "content": "one"}],
            "chosen": [{"role": "assistant", "content": "two"}],
            "rejected": [{"role": "assistant", "content": "three four"}],
        }
    ]
    (row,) = ids(rows, "first:9", tokenizer, tmp_path, heard)
    assert row["prompt_ids"].count(0) == 1 and row["prompt_ids"][0] == 0
    assert row["chosen_ids"] == [tokenizer.convert_tokens_to_ids("two"), 1]
    assert row["rejected_ids"].count(1) == 1
    assert any("twice" in line for line in heard) == (template != LIKE_LLAMA)


def test_an_end_within_a_response_stays() -> None:
    row = {"prompt_ids": [5], "chosen_ids": [7, 1, 8, 1, 1, 1], "chosen": "a</s> b</s> </s>"}
    row |= {"rejected_ids": [7, 1, 9, 1], "rejected": "a</s>\n</s>"}
    found = OneEach(0, 1, "</s>")(row)
    assert (found["chosen_ids"], found["rejected_ids"]) == ([7, 1, 8, 1], [7, 1])
    plain = OneEach(0, 1, "</s>")({**row, "chosen": [{"role": "assistant"}], "rejected": "spelled </s> </s>"})
    assert plain["chosen_ids"] == [7, 1, 8, 1] and plain["rejected_ids"] == [7, 1]
    unlike = OneEach(0, 1, "</s>")({**row, "rejected": "</s> </s> </s> </s>", "rejected_ids": [7, 1, 9, 1]})
    assert unlike["rejected_ids"] == [7, 1, 9, 1]


def test_texts_without_signs_are_left_alone(tmp_path: Path) -> None:
    heard: list[str] = []
    rows = [{"prompt": "one", "chosen": " two", "rejected": " three"}]
    (row,) = ids(rows, "first:9", llama_like(), tmp_path, heard)
    assert (row["prompt_ids"][0], row["prompt_ids"].count(0), row["chosen_ids"][-1]) == (0, 1, 1)
    assert not any("twice" in line for line in heard)


def test_an_end_before_a_line_break_is_the_end(tmp_path: Path) -> None:
    """As in texts that a template in the manner of ChatML wrote."""
    tokenizer, heard = world.tokenizer(), list[str]()
    end = tokenizer.eos_token
    rows = [{"prompt": "one", "chosen": f" two{end}\n", "rejected": f" three{end} {end} \n{end}"}]
    (row,) = ids(rows, "first:9", tokenizer, tmp_path, heard)
    assert tokenizer.decode(row["chosen_ids"]) == f" two{end}"
    assert row["chosen_ids"].count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(row["rejected_ids"]) == f" three{end}"
    assert any("1 pairs end" in line for line in heard)
    within = [{"prompt": "one", "chosen": f" two{end}\nthree", "rejected": " four"}]
    (kept,) = ids(within, "first:9", tokenizer, tmp_path, heard)
    assert tokenizer.decode(kept["chosen_ids"]) == f" two{end}\nthree{end}"


@pytest.mark.parametrize("prefix", ["equal-length", "none"])
def test_align_sees_one_of_each_with_and_without_a_cut(prefix: str, tmp_path: Path) -> None:
    import weft.preference.align as module
    from weft.preference.preparing import prepared, read_held_out, read_pairs

    tiny_model().save_pretrained(tmp_path / "model")
    llama_like(ends=True).save_pretrained(tmp_path / "model")
    settings = plan(
        str(tmp_path / "model"),
        tmp_path,
        prefix=prefix,
        data=written(tmp_path / "rendered.jsonl", RENDERED * 2),
        eval_data=written(tmp_path / "held.jsonl", RENDERED),
    )
    heard: list[str] = []
    ready = prepared(settings, read_pairs(settings), heard.append)
    ours = module.trainer(
        settings, arguments(settings, tmp_path / "out"), ready, read_held_out(settings), heard.append
    )
    for row in (ours.train_dataset[0], ours.eval_dataset[0]):
        assert row["prompt_ids"].count(0) == 1 and row["chosen_ids"].count(1) == 1
    assert [line.partition(" data")[0] for line in heard if "twice" in line] == ["training", "evaluation"]


IDS = st.lists(st.integers(0, 2), max_size=8)


@given(prompt=IDS, chosen=IDS, rejected=IDS)
def test_only_repeated_signs_go(prompt: list[int], chosen: list[int], rejected: list[int]) -> None:
    row = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    found = OneEach(0, 1)(row)
    assert OneEach(None, None)(row) == row
    assert found["prompt_ids"][:2] != [0, 0] and found["chosen_ids"][-2:] != [1, 1]
    gone = len(prompt) - len(found["prompt_ids"])
    assert prompt == [0] * gone + found["prompt_ids"]
    assert rejected == found["rejected_ids"] + [1] * (len(rejected) - len(found["rejected_ids"]))
    assert OneEach(0, 1).doubled(row) == (
        found["prompt_ids"] != prompt,
        (found["chosen_ids"], found["rejected_ids"]) != (chosen, rejected),
    )
