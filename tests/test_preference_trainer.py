"""`PrefixDPOTrainer` against TRL: cut equals mask, `none` changes nothing, what TRL can do still works."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from preference_world import (
    config,
    losses,
    quiet,
    raw_data,
    raw_rows,
    save_tiny,
    settings,
    tiny_model,
    tokenizer,
)
from weft.errors import RunError, UserError
from weft.preference import PrefixDPOTrainer, cut
from weft.preference.applying import Apply
from weft.preference.policies import Weighing, parse_policy

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # TRL sets what transformers has renamed.
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]

LOSSES = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
    *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm"),
)
SUM_TYPE = [name for name in LOSSES if name not in ("ipo", "sigmoid_norm")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


def make(
    kind: type[DPOTrainer],
    output: Path,
    data: Any = None,
    *,
    model: Any = None,
    reference: Any = "another",
    named: Mapping[str, Any] | None = None,
    **other: Any,
) -> Any:
    """A trainer whose policy and reference differ, so that no log-ratio is 0."""
    return kind(
        tiny_model() if model is None else model,
        tiny_model(seed=1) if reference == "another" else reference,
        DPOConfig(**settings(output, **other)),
        train_dataset=raw_data() if data is None else data,
        processing_class=tokenizer(),
        **({"tell": quiet} if issubclass(kind, PrefixDPOTrainer) else {}),
        **(named or {}),
    )


def prefixed(output: Path, prefix: str, *, named: Mapping[str, Any] | None = None, **other: Any) -> Any:
    return make(
        PrefixDPOTrainer, output, named={"prefix": prefix, "share_prompt": False, **(named or {})}, **other
    )


def batch_of(trainer: Any) -> dict[str, Tensor]:
    rows = [trainer.train_dataset[number] for number in range(len(trainer.train_dataset))]
    batch: dict[str, Tensor] = trainer.data_collator(rows)
    return batch


def loss_and_gradients(trainer: Any, batch: Mapping[str, Tensor]) -> tuple[float, Tensor]:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    found = [weight.grad.flatten() for weight in trainer.model.parameters() if weight.grad is not None]
    return loss.item(), torch.cat(found)


def alike(trainer: Any, batch: Any, other: Any, its_batch: Any, tolerance: float = 1e-5) -> None:
    loss, gradients = loss_and_gradients(trainer, batch)
    its_loss, its_gradients = loss_and_gradients(other, its_batch)
    assert loss == pytest.approx(its_loss, rel=tolerance, abs=tolerance)
    assert gradients.abs().max() > 1e-3
    scale = max(1.0, float(its_gradients.abs().max()))
    assert float((gradients - its_gradients).abs().max()) <= tolerance * scale


def masked(trainer: Any, spec: str) -> dict[str, Tensor]:
    """TRL's batch of whole rows, whose completion mask ends where the policy cuts: what others do."""
    batch, policy = batch_of(trainer), parse_policy(spec)
    pairs = len(trainer.train_dataset)
    for number, row in enumerate(trainer.train_dataset):
        applied = Apply(policy)(row)
        for side, at in (("chosen", number), ("rejected", number + pairs)):
            start = len(row["prompt_ids"])
            batch["completion_mask"][at, start + applied[f"{side}_kept"] :] = 0
    return batch


# --- cut equals mask --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", LOSSES)
def test_cut_equals_mask(loss_type: str, tmp_path: Path) -> None:
    other: dict[str, Any] = {"loss_type": [loss_type], "label_smoothing": 0.1}
    plain = make(DPOTrainer, tmp_path, **other)
    for spec in ("equal-length", "ratio:0.4", "first:3"):
        ours = prefixed(tmp_path, spec, **other)
        assert batch_of(ours)["input_ids"].size(1) < batch_of(plain)["input_ids"].size(1)
        alike(ours, batch_of(ours), plain, masked(plain, spec))


@pytest.mark.parametrize("loss_type", SUM_TYPE)
def test_equal_length_and_tail_0_are_ld_dpo_with_alpha_0_where_losses_are_sums(
    loss_type: str, tmp_path: Path
) -> None:
    other: dict[str, Any] = {"loss_type": [loss_type], "label_smoothing": 0.1}
    plain = make(DPOTrainer, tmp_path, ld_alpha=0.0, **other)
    for spec in ("equal-length", "tail:0"):
        ours = prefixed(tmp_path, spec, **other)
        alike(ours, batch_of(ours), plain, batch_of(plain))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_tail_is_ld_dpo(alpha: float, tmp_path: Path) -> None:
    plain = make(DPOTrainer, tmp_path, ld_alpha=alpha)
    ours = prefixed(tmp_path, f"tail:{alpha}")
    alike(ours, batch_of(ours), plain, batch_of(plain))


def test_losses_that_divide_by_length_divide_by_summed_weights(tmp_path: Path) -> None:
    ours = prefixed(tmp_path, "decay:0.8", loss_type=["sigmoid_norm"])
    batch = batch_of(ours)
    loss, _ = loss_and_gradients(ours, batch)
    scores = []
    policy = parse_policy("decay:0.8")
    assert isinstance(policy, Weighing)
    for side in ("chosen", "rejected"):
        means = []
        for row in ours.train_dataset:
            ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
            start, total = len(row["prompt_ids"]), torch.zeros(())
            weights = torch.tensor([0.8**position for position in range(len(row[f"{side}_ids"]))])
            for model, sign in ((tiny_model(), 1), (tiny_model(seed=1), -1)):
                with torch.no_grad():
                    log_probs = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
                total = total + sign * (log_probs[start - 1 :] * weights).sum()
            means.append(total / weights.sum())
        scores.append(torch.stack(means))
    expected = -torch.nn.functional.logsigmoid(0.1 * (scores[0] - scores[1])).mean()
    assert loss == pytest.approx(expected.item(), abs=1e-5)


def test_shared_prompts_give_the_same_losses(tmp_path: Path) -> None:
    plain = prefixed(tmp_path, "equal-length")
    for spec in ("equal-length", "decay:0.8"):
        plain = prefixed(tmp_path, spec)
        shared = prefixed(tmp_path, spec, named={"share_prompt": True})
        alike(shared, batch_of(shared), plain, batch_of(plain), tolerance=1e-4)
        assert shared._policy_forward.positions < plain._policy_forward.positions


# --- TRL untouched ----------------------------------------------------------------------------------------


def test_no_prefix_is_trl_to_the_last_digit(base: str, tmp_path: Path) -> None:
    def run(kind: Any, **named: Any) -> list[float]:
        trainer = kind(base, args=config(tmp_path), train_dataset=raw_data(), **named)
        trainer.train()
        return losses(trainer)

    plain, ours = run(DPOTrainer), run(PrefixDPOTrainer, prefix="none", tell=quiet)
    assert len(plain) == 3 and plain == ours
    assert run(PrefixDPOTrainer, prefix="equal-length", tell=quiet) != plain


def test_no_prefix_leaves_precomputed_references_alone(base: str, tmp_path: Path) -> None:
    found = []
    ours: dict[str, Any] = {"prefix": "none", "tell": quiet}
    for kind, named in ((DPOTrainer, {}), (PrefixDPOTrainer, ours)):
        trainer: Any = kind(
            base, args=config(tmp_path, precompute_ref_log_probs=True), train_dataset=raw_data(), **named
        )
        trainer.train()
        found.append((losses(trainer), list(trainer.train_dataset["ref_chosen_logps"])))
    assert found[0] == found[1]


# --- the reference ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["equal-length", "decay:0.8", "sample", "random:4"])
def test_precomputed_references_give_the_same_losses(spec: str, base: str, tmp_path: Path) -> None:
    runs = []
    for precompute in (False, True):
        trainer = PrefixDPOTrainer(
            base,
            args=config(tmp_path, precompute_ref_log_probs=precompute),
            train_dataset=raw_data(),
            prefix=spec,
            tell=quiet,
        )
        trainer.train()
        runs.append(losses(trainer))
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


def test_cached_references_of_one_policy_are_not_taken_for_another(tmp_path: Path) -> None:
    """The data lie on disk, so that TRL finds its cache again."""
    path = tmp_path / "rows.jsonl"
    raw_data().to_json(path)

    def sums(spec: str) -> list[float]:
        data = Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache"))
        trainer = prefixed(tmp_path, spec, data=data, precompute_ref_log_probs=True, model=tiny_model())
        return [float(value) for value in trainer.train_dataset["ref_chosen_logps"]]

    specs = ["equal-length", "decay:0.8", "decay:0.81", "tail:0.2", "sample:1", "sample:2", "first:2", "none"]
    found = {spec: sums(spec) for spec in specs}
    assert len({tuple(values) for values in found.values()}) == len(specs)
    assert {spec: sums(spec) for spec in specs} == found  # from the cache, each from its own


# --- evaluation -------------------------------------------------------------------------------------------


def test_evaluation_knows_both_the_policy_and_the_whole(tmp_path: Path) -> None:
    data = raw_data(6, seed=5)
    ours = prefixed(tmp_path, "equal-length", named={"eval_dataset": data})
    plain = prefixed(tmp_path, "none", named={"eval_dataset": data})
    cutting = prefixed(tmp_path, "equal-length", data=data)
    with torch.no_grad():
        loss = cutting.compute_loss(cutting.model, batch_of(cutting)).item()
    cut_found, whole = ours.evaluate(), plain.evaluate()
    assert cut_found["eval_loss"] == pytest.approx(loss, abs=1e-5)
    for name in ("accuracies", "margins"):
        assert cut_found[f"eval_uncut/rewards/{name}"] == pytest.approx(
            whole[f"eval_rewards/{name}"], abs=1e-5
        )
        assert whole[f"eval_uncut/rewards/{name}"] == pytest.approx(whole[f"eval_rewards/{name}"], abs=1e-5)
        for tokens in ("8", "32", "all"):
            key = f"eval_rewards/{name}@{tokens}"
            assert cut_found[key] == pytest.approx(whole[key], abs=1e-5)
    assert cut_found["eval_rewards/margins"] != pytest.approx(whole["eval_rewards/margins"], abs=1e-3)
    assert cut_found["eval_lengths/chosen"] == cut_found["eval_lengths/rejected"]
    assert cut_found["eval_uncut/lengths/chosen"] > cut_found["eval_lengths/chosen"]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "sigmoid_norm"])
@pytest.mark.parametrize("spec", ["ratio:0.4", "random:2", "first:4"])
def test_weights_in_evaluation_are_the_cut(loss_type: str, spec: str, tmp_path: Path) -> None:
    data = raw_data(5, seed=6)
    ours = prefixed(tmp_path, spec, named={"eval_dataset": data}, loss_type=[loss_type])
    cutting = prefixed(tmp_path, spec, data=data, loss_type=[loss_type])
    with torch.no_grad():
        loss = cutting.compute_loss(cutting.model, batch_of(cutting)).item()
    assert ours.evaluate()["eval_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("spec", ["equal-length", "decay:0.7"])
def test_evaluation_is_the_same_with_shared_prompts(spec: str, tmp_path: Path) -> None:
    found = []
    for share in (False, True):
        named = {"eval_dataset": raw_data(5, seed=6), "share_prompt": share}
        found.append(prefixed(tmp_path, spec, named=named).evaluate())
    for name, value in found[0].items():
        if "per_second" not in name and "runtime" not in name:
            assert found[1][name] == pytest.approx(value, abs=1e-4), name


def test_a_judge_decides_the_cuts_of_training_and_evaluation(tmp_path: Path) -> None:
    class Long:
        """Prefers more words, so a shorter chosen response is never preferred."""

        def score(self, prompt: str, prefix: str) -> float:
            return float(len(prefix.split()))

    ours = prefixed(
        tmp_path,
        "consistent:1.5",
        named={"judge": Long(), "eval_dataset": raw_data(4, seed=2), "share_prompt": False},
    )
    for row in ours.train_dataset:
        whole = (row["chosen_tokens"], row["rejected_tokens"])
        kept = (len(row["chosen_ids"]), len(row["rejected_ids"]))
        assert min(whole) == min(kept)
        assert kept == whole or whole[0] > whole[1]
    assert any(len(row["chosen_ids"]) < row["chosen_tokens"] for row in ours.train_dataset)
    ours.train()
    assert "eval_uncut/rewards/margins" in ours.evaluate()


def test_with_cached_sums_only_what_they_tell_is_told(base: str, tmp_path: Path) -> None:
    runs = []
    for precompute in (True, False):
        trainer = PrefixDPOTrainer(
            base,
            args=config(tmp_path, precompute_ref_log_probs=precompute),
            train_dataset=raw_data(),
            eval_dataset=raw_data(4, seed=9),
            prefix="equal-length",
            tell=quiet,
        )
        trainer.train()
        runs.append((trainer.state.log_history[1], trainer.evaluate()))
    for cached, known in zip(*runs, strict=True):
        assert not [name for name in cached if "@" in name or "uncut/rewards" in name]
        for name in ("loss", "rewards/margins", "drift/chosen", "drift/rejected", "lengths/chosen"):
            key = name if name in cached else f"eval_{name}"
            assert cached[key] == pytest.approx(known[key], abs=1e-4)


def test_evaluation_data_may_be_several_and_may_come_later(tmp_path: Path) -> None:
    splits = {"train": raw_data(3, seed=7), "b": raw_data(3, seed=8)}
    ours = prefixed(tmp_path, "equal-length", named={"eval_dataset": splits})
    first = ours.evaluate()
    later = ours.evaluate(raw_data(3, seed=7))
    assert later["eval_loss"] == pytest.approx(first["eval_train_loss"])
    assert "eval_b_uncut/rewards/accuracies" in first or "eval_uncut/rewards/accuracies" in first
    assert ours.evaluate(ours.eval_dataset["b"])["eval_loss"] == pytest.approx(first["eval_b_loss"])


def test_metrics_by_prefix_end_at_trls_own(tmp_path: Path) -> None:
    ours = prefixed(tmp_path, "equal-length")
    ours.train()
    for logged in ours.state.log_history[:3]:
        for name in ("accuracies", "margins"):
            assert logged[f"rewards/{name}@all"] == pytest.approx(logged[f"rewards/{name}"], abs=1e-5)
        assert logged["lengths/chosen"] == logged["lengths/rejected"]
        moved = logged["rewards/chosen"] / 0.1
        assert (logged["drift/chosen"] < 0) == (moved < 0)


def test_fractional_weights_leave_trls_means_over_tokens_alone(tmp_path: Path) -> None:
    plain, ours = prefixed(tmp_path, "none"), prefixed(tmp_path, "decay:0.5")
    for trainer in (plain, ours):
        trainer.compute_loss(trainer.model, batch_of(trainer))
    for name in ("mean_token_accuracy", "logits/chosen", "logits/rejected"):
        found = ours._metrics["train"][name]
        assert found == pytest.approx(plain._metrics["train"][name], abs=1e-6)


# --- what else TRL can do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["equal-length", "decay:0.8"])
def test_lora(spec: str, base: str, tmp_path: Path) -> None:
    trainer = PrefixDPOTrainer(
        base,
        args=config(tmp_path, learning_rate=1e-2),
        train_dataset=raw_data(),
        eval_dataset=raw_data(4, seed=2),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        prefix=spec,
        tell=quiet,
    )
    assert trainer.ref_model is None
    trainer.train()
    first, *_, last = losses(trainer)
    assert first == pytest.approx(0.6931, abs=1e-4)
    assert last != pytest.approx(first, abs=1e-4)
    logged = trainer.state.log_history[2]
    # Policy and reference share one forward; they are still told apart.
    assert logged["rewards/margins@all"] != 0
    assert trainer.evaluate()["eval_uncut/rewards/margins"] != 0


def test_an_adapter_that_was_trained_before_is_its_own_reference(tmp_path: Path) -> None:
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.02)
    ours = prefixed(tmp_path, "decay:0.8", model=model, reference=None, learning_rate=1e-2)
    ours.train()
    first, *_, last = losses(ours)
    assert first == pytest.approx(0.6931, abs=1e-4) and last != pytest.approx(first, abs=1e-4)


def test_gradient_checkpointing_changes_nothing(base: str, tmp_path: Path) -> None:
    runs = []
    for checkpointing in (False, True):
        trainer = PrefixDPOTrainer(
            base,
            args=config(tmp_path, gradient_checkpointing=checkpointing),
            train_dataset=raw_data(),
            prefix="equal-length",
            tell=quiet,
        )
        trainer.train()
        runs.append(losses(trainer))
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)


@pytest.mark.parametrize("spec", ["equal-length", "sample@epoch"])
def test_a_resumed_run_equals_an_uninterrupted_one(spec: str, base: str, tmp_path: Path) -> None:
    def trainer(**other: Any) -> Any:
        return PrefixDPOTrainer(
            base,
            args=config(tmp_path / "run", max_steps=5, save_strategy="steps", save_steps=3, **other),
            train_dataset=raw_data(),
            prefix=spec,
            tell=quiet,
        )

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert losses(resumed) == losses(whole)


def test_draws_change_with_the_epoch_and_not_within_it(base: str, tmp_path: Path) -> None:
    def seen(spec: str) -> list[float]:
        trainer = PrefixDPOTrainer(
            base,
            args=config(
                tmp_path,
                max_steps=4,
                per_device_train_batch_size=8,
                learning_rate=0,
                train_sampling_strategy="sequential",
            ),
            train_dataset=raw_data(),
            prefix=spec,
            tell=quiet,
        )
        trainer.train()
        # Nothing is learned, so the entropy differs only where other tokens are seen.
        return [entry["entropy"] for entry in trainer.state.log_history if "loss" in entry]

    assert len(set(seen("random:3"))) == 1
    assert len(set(seen("random:3@epoch"))) == 4
    assert seen("random:3@epoch")[0] == seen("random:3")[0]


@pytest.mark.parametrize("spec", ["equal-length", "decay:0.8", "none"])
def test_streams(spec: str, base: str, tmp_path: Path) -> None:
    runs = []
    for data in (raw_data(), raw_data().to_iterable_dataset()):
        trainer = PrefixDPOTrainer(
            base,
            args=config(tmp_path, train_sampling_strategy="sequential"),
            train_dataset=data,
            prefix=spec,
            tell=quiet,
        )
        trainer.train()
        runs.append(losses(trainer))
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)


def test_likelihood_sees_the_uncut_chosen_response(tmp_path: Path) -> None:
    terms: dict[str, Any] = {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.0, 1.0]}
    plain = make(DPOTrainer, tmp_path, **terms)
    for spec in ("equal-length", "first:1", "decay:0.5"):
        ours = prefixed(tmp_path, spec, **terms)
        alike(ours, batch_of(ours), plain, batch_of(plain))
    both = prefixed(tmp_path, "equal-length", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5])
    alone = prefixed(tmp_path, "equal-length")
    likelihood, _ = loss_and_gradients(plain, batch_of(plain))
    expected = loss_and_gradients(alone, batch_of(alone))[0] + 0.5 * likelihood
    assert loss_and_gradients(both, batch_of(both))[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("number", [3, 4])
def test_likelihood_beside_shared_prompts(number: int, tmp_path: Path) -> None:
    terms: dict[str, Any] = {"loss_type": ["sigmoid", "sft"]}
    plain = prefixed(tmp_path, "equal-length", data=raw_data(number), **terms)
    shared = prefixed(tmp_path, "equal-length", data=raw_data(number), named={"share_prompt": True}, **terms)
    alike(shared, batch_of(shared), plain, batch_of(plain), tolerance=1e-4)


def test_without_a_pad_token_the_end_of_sequence_pads(tmp_path: Path) -> None:
    padless = deepcopy(tokenizer())
    padless.pad_token = None
    runs = []
    for one in (tokenizer(), padless):
        trainer: Any = PrefixDPOTrainer(
            tiny_model(),
            tiny_model(seed=1),
            config(tmp_path),
            train_dataset=raw_data(),
            processing_class=one,
            tell=quiet,
        )
        runs.append(loss_and_gradients(trainer, batch_of(trainer))[0])
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)


def test_an_adapter_that_learns_prompts_trains_and_its_evaluation_is_cut(tmp_path: Path) -> None:
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    ours = prefixed(
        tmp_path,
        "equal-length",
        reference=None,
        named={"peft_config": prompts, "eval_dataset": raw_data(4, seed=2)},
    )
    ours.train()
    found = ours.evaluate()
    assert found["eval_lengths/chosen"] == found["eval_lengths/rejected"]
    assert "eval_uncut/rewards/accuracies" not in found
    for spec in ("decay:0.9", "random@epoch"):
        with pytest.raises(UserError, match="prompt-learning"):
            prefixed(tmp_path, spec, reference=None, named={"peft_config": prompts})


def test_evaluation_rows_that_were_cut_do_not_know_the_whole(tmp_path: Path) -> None:
    data = cut(raw_data(4, seed=2), tokenizer(), "equal-length", tell=quiet)
    ours = prefixed(tmp_path, "equal-length", named={"eval_dataset": data})
    found = ours.evaluate()
    assert "eval_rewards/accuracies@all" in found
    assert not [name for name in found if "uncut" in name]


@pytest.mark.parametrize("spec", ["equal-length", "sample"])
def test_wpo_weighting_goes_with_cuts_and_masks(spec: str, tmp_path: Path) -> None:
    plain = make(DPOTrainer, tmp_path, use_weighting=True)
    ours = prefixed(tmp_path, spec, use_weighting=True)
    batch = batch_of(ours)
    if spec == "equal-length":
        alike(ours, batch, plain, masked(plain, spec))
    else:
        theirs = {**batch_of(plain), "completion_mask": batch["completion_mask"]}
        alike(ours, batch, plain, theirs)


def test_rows_that_were_cut_train_as_if_the_trainer_had_cut_them(base: str, tmp_path: Path) -> None:
    for spec in ("equal-length", "decay:0.8"):
        runs = []
        for data in (raw_data(), cut(raw_data(), tokenizer(), spec, tell=quiet)):
            prefix = None if "prefix_policy" in data.column_names else spec
            trainer = PrefixDPOTrainer(
                base, args=config(tmp_path), train_dataset=data, prefix=prefix, tell=quiet
            )
            assert trainer.prefix.spec == spec
            trainer.train()
            runs.append(losses(trainer))
        assert runs[0] == runs[1]


def test_poet_is_the_default(tmp_path: Path) -> None:
    assert make(PrefixDPOTrainer, tmp_path).prefix.spec == "equal-length"


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "other", "words"),
    [
        ("equal-length", {"ld_alpha": 0.5}, "ld_alpha"),
        ("decay:0.9", {"use_weighting": True}, "use_weighting"),
        ("random@epoch", {"precompute_ref_log_probs": True}, "draws anew"),
        ("consistent", {}, "needs a judge"),
        ("poet", {}, "no prefix policy"),
    ],
)
def test_settings_that_contradict_each_other(
    prefix: str, other: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        prefixed(tmp_path, prefix, **other)


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode:FutureWarning")
def test_keeping_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep_end"):
        prefixed(tmp_path, "equal-length", truncation_mode="keep_end")


def test_rows_cut_by_another_policy_are_refused(tmp_path: Path) -> None:
    data = cut(raw_data(), tokenizer(), "first:3", tell=quiet)
    with pytest.raises(UserError, match="cut by first:3"):
        prefixed(tmp_path, "equal-length", data=data)
    with pytest.raises(UserError, match="cut by first:3"):
        prefixed(tmp_path, "none", data=data)


def test_likelihood_over_cut_rows_needs_the_uncut_ones(tmp_path: Path) -> None:
    terms: dict[str, Any] = {"loss_type": ["sigmoid", "sft"]}
    with pytest.raises(UserError, match="before the cut") as said:
        prefixed(tmp_path, "first:3", data=cut(raw_data(), tokenizer(), "first:3", tell=quiet), **terms)
    assert "keep_uncut=True" in said.value.remedy
    data = cut(raw_data(), tokenizer(), "first:3", keep_uncut=True, tell=quiet)
    for limit in (64, None):
        ours = prefixed(tmp_path, "first:3", data=data, max_length=limit, **terms)
        straight = prefixed(tmp_path, "first:3", max_length=limit, **terms)
        alike(ours, batch_of(ours), straight, batch_of(straight))


def test_a_collator_of_ones_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data collator"):
        prefixed(tmp_path, "equal-length", named={"data_collator": lambda rows: rows})


@pytest.mark.parametrize("spec", ["equal-length", "decay:0.8", "sample", "sample@epoch"])
def test_nothing_passes_max_length(spec: str, tmp_path: Path) -> None:
    limited = prefixed(tmp_path, spec, max_length=14)
    batch = batch_of(limited)
    assert batch["input_ids"].size(1) == 14
    free = prefixed(tmp_path, spec, max_length=None)
    assert batch_of(free)["input_ids"].size(1) > 14
    limited.train()
    if spec == "sample":
        # As many tokens on both sides, of those that are seen.
        chosen, rejected = batch["completion_mask"].sum(dim=1).chunk(2)
        assert torch.equal(chosen, rejected)


def test_images_are_refused(tmp_path: Path) -> None:
    rows = [{**one, "images": ["a.png"]} for one in raw_rows(2)]
    with pytest.raises(UserError, match="images"):
        prefixed(tmp_path, "equal-length", data=Dataset.from_list(rows))


def test_no_training_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training data"):
        PrefixDPOTrainer(tiny_model(), args=config(tmp_path), processing_class=tokenizer())


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    endless = type(tokenizer()).from_pretrained(tokenizer().name_or_path, eos_token=None)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        PrefixDPOTrainer(
            tiny_model(),
            args=config(tmp_path),
            train_dataset=raw_data(),
            processing_class=endless,
            tell=quiet,
        )


def test_a_loss_that_is_no_number_stops_and_names_the_rows(tmp_path: Path) -> None:
    ours = prefixed(tmp_path, "equal-length", precompute_ref_log_probs=True)
    rows = [ours.train_dataset[number] for number in range(4)]
    rows[2] = {**rows[2], "ref_rejected_logps": float("nan")}
    with pytest.raises(RunError, match=r"step 0, rows 2 \(not a number: ref_rejected_logps\): the loss is"):
        ours.compute_loss(ours.model, ours.data_collator(rows))
    with torch.no_grad():
        next(ours.model.parameters()).fill_(float("inf"))
    with pytest.raises(RunError, match=r"rows 0, 1, 2, 3 .*policy, chosen"):
        ours.compute_loss(ours.model, ours.data_collator([*rows[:2], ours.train_dataset[2], rows[3]]))


def test_row_numbers_are_those_of_the_data_that_came_in(tmp_path: Path) -> None:
    rows = raw_rows(4)
    rows[1]["rejected"] = rows[1]["chosen"]
    ours = prefixed(tmp_path, "equal-length", data=Dataset.from_list(rows))
    assert list(ours.train_dataset["weft_row"]) == [0, 2, 3]
