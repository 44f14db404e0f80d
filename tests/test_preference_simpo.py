"""SimPO: the loss by hand, and no reference anywhere."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from transformers import PreTrainedModel
from trl import DPOConfig

from preference_world import losses, quiet, raw_data, save_tiny, settings, tiny_model, tokenizer
from weft.errors import UserError
from weft.preference import SimPOConfig, SimPOTrainer
from weft.preference.losses import mean_per_token, simpo_loss
from weft.preference.policies import Cut, Pair, Weighing, parse_policy

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


def simpo(output: Path, *, model: Any = None, data: Any = None, named: Any = None, **other: Any) -> Any:
    return SimPOTrainer(
        tiny_model() if model is None else model,
        args=SimPOConfig(**settings(output, **other)),
        train_dataset=raw_data() if data is None else data,
        processing_class=tokenizer(),
        tell=quiet,
        **(named or {}),
    )


# --- the loss ---------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    loss = simpo_loss(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0]), beta=2.0, gamma_beta_ratio=0.5)
    # 2 * (0.5 - 0.5) = 0 and 2 * (-1 - 0.5) = -3
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(3))])
    smoothed = simpo_loss(
        torch.tensor([-1.0]), torch.tensor([-2.0]), beta=2.0, gamma_beta_ratio=0.5, label_smoothing=0.1
    )
    assert smoothed.item() == pytest.approx(
        0.9 * math.log(1 + math.exp(-1)) + 0.1 * math.log(1 + math.exp(1))
    )


def test_the_mean_is_over_summed_weights() -> None:
    log_probs = torch.tensor([[-1.0, -1.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    weights = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert mean_per_token(log_probs, weights).tolist() == pytest.approx([-2 / 1.5, -3, 0])


@given(st.floats(-20, 0), st.floats(-20, 0), st.floats(0.1, 10), st.floats(0, 2))
def test_the_loss_falls_with_the_chosen_response(
    chosen: float, rejected: float, beta: float, ratio: float
) -> None:
    def at(value: float) -> float:
        tensors = torch.tensor([value], dtype=torch.float64), torch.tensor([rejected], dtype=torch.float64)
        return simpo_loss(*tensors, beta=beta, gamma_beta_ratio=ratio).item()

    assert at(chosen + 0.5) < at(chosen)


@pytest.mark.parametrize("spec", ["none", "equal-length", "decay:0.7"])
def test_a_batch_by_hand(spec: str, tmp_path: Path) -> None:
    trainer = simpo(tmp_path, named={"prefix": spec, "share_prompt": False})
    policy, model = parse_policy(spec), tiny_model()
    each = []
    whole = simpo(tmp_path, named={"prefix": "none"}).train_dataset
    for row in whole:
        pair = Pair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        kept = policy.lengths(pair) if isinstance(policy, Cut) else (None, None)
        factors = policy.weights(pair) if isinstance(policy, Weighing) else (None, None)
        means = []
        for side, length, factor in zip(("chosen_ids", "rejected_ids"), kept, factors, strict=True):
            response = row[side][:length]
            ids = torch.tensor([row["prompt_ids"] + response])
            with torch.no_grad():
                log_probs = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
            weights = torch.ones(len(response)) if factor is None else torch.tensor(factor)
            means.append(float((log_probs[-len(response) :] * weights).sum() / weights.sum()))
        each.append(math.log1p(math.exp(-(2.0 * (means[0] - means[1]) - 2.0 * 0.5))))
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(trainer.train_dataset))])
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(sum(each) / len(each), abs=1e-5)
    assert loss.requires_grad


def test_a_likelihood_term(tmp_path: Path) -> None:
    found = {}
    for spec in ("none", "first:2"):
        for terms in (["simpo"], ["simpo", "sft"]):
            trainer = simpo(tmp_path, loss_type=terms, named={"prefix": spec})
            batch = trainer.data_collator([trainer.train_dataset[n] for n in range(4)])
            found[spec, len(terms)] = trainer.compute_loss(trainer.model, batch).item()
    likelihood = found["none", 2] - found["none", 1]
    assert likelihood > 1
    assert found["first:2", 2] - found["first:2", 1] == pytest.approx(likelihood, abs=1e-5)


# --- the run ----------------------------------------------------------------------------------------------


def models(folder: str) -> int:
    """Models in memory that were loaded from there, each counted with the backbone inside it."""
    gc.collect()
    found = [one for one in gc.get_objects() if issubclass(type(one), PreTrainedModel)]
    return sum(one.config.name_or_path == folder for one in found)


def test_no_reference_is_loaded_or_run(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl.trainer.dpo_trainer as place

    loaded: list[Any] = []
    load = place.create_model_from_path

    def counting(*args: Any, **named: Any) -> Any:
        loaded.append(args)
        return load(*args, **named)

    monkeypatch.setattr(place, "create_model_from_path", counting)
    trainer = simpo(tmp_path, model=base, named={"eval_dataset": raw_data(4, seed=1), "share_prompt": False})
    assert trainer.ref_model is None and len(loaded) == 1
    assert models(base) == 2  # the model and the backbone inside it
    calls: list[int] = []
    trainer.model.model.register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    assert len(calls) == 3
    assert losses(trainer)[0] > losses(trainer)[-1]
    found = trainer.evaluate()
    assert "eval_rewards/accuracies@8" in found and "eval_uncut/rewards/margins" in found
    assert not [name for name in found if "drift" in name]


def test_rewards_are_means(tmp_path: Path) -> None:
    trainer = simpo(tmp_path, named={"prefix": "none"})
    trainer.train()
    for logged in trainer.state.log_history[:3]:
        assert logged["rewards/margins@all"] == pytest.approx(logged["rewards/margins"], abs=1e-5)
        assert logged["rewards/accuracies@all"] == logged["rewards/accuracies"]


def test_lora_and_resuming(base: str, tmp_path: Path) -> None:
    def run(resume: str | None) -> list[float]:
        trainer = simpo(
            tmp_path / "run",
            model=base,
            max_steps=4,
            save_strategy="steps",
            save_steps=2,
            named={"peft_config": LoraConfig(r=4, target_modules=["q_proj"])},
        )
        assert set(trainer.model.peft_config) == {"default"}
        trainer.train(resume_from_checkpoint=resume)
        return losses(trainer)

    whole = run(None)
    assert run(str(tmp_path / "run" / "checkpoint-2")) == whole


def test_the_defaults_are_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert SimPOConfig(**settings(tmp_path)).beta == 2.0
    trainer = simpo(tmp_path)
    assert trainer.prefix.spec == "equal-length" and trainer.loss_types == ["simpo"]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"loss_type": ["sigmoid"]}, "loss_type is sigmoid"),
        ({"loss_type": ["sft"]}, "loss_type is sft"),
        ({"precompute_ref_log_probs": True}, "precompute_ref_log_probs"),
        ({"sync_ref_model": True}, "sync_ref_model"),
        ({"f_divergence_type": "js_divergence"}, "js_divergence"),
        ({"use_weighting": True}, "use_weighting"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
    ],
)
def test_what_wants_a_reference_is_refused(other: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        simpo(tmp_path, named={"prefix": "none"}, **other)


def test_another_config_or_a_reference_is_refused(tmp_path: Path) -> None:
    config: Any = DPOConfig(**settings(tmp_path))
    with pytest.raises(UserError, match="args is a DPOConfig"):
        SimPOTrainer(tiny_model(), args=config, train_dataset=raw_data(), processing_class=tokenizer())
    with pytest.raises(UserError, match="a reference model was passed"):
        SimPOTrainer(
            tiny_model(),
            tiny_model(),
            SimPOConfig(**settings(tmp_path)),
            train_dataset=raw_data(),
            processing_class=tokenizer(),
        )
