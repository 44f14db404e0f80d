"""The shared layout gives the log-probs and gradients of padded rows; where it cannot, those stay."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head, use_adapter

from preference_world import config, losses, raw_data, tiny_model, tokenizer
from weft.micro import model_path
from weft.preference import PrefixDPOTrainer, fallback
from weft.preference import forward as forwards
from weft.preference.forward import Forward, install

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 96,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

PLAIN_ROPE = {"rope_type": "default", "rope_theta": 1e4}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}

Pair = tuple[list[int], list[int], list[int]]
IDS = st.lists(st.integers(3, 6), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(IDS, IDS, IDS), min_size=1, max_size=4)
LONG: list[Pair] = [
    ([5] * 9, [7, 8, 9, 4, 5, 6], [3, 8, 9]),
    ([9, 4], [6], [8, 8]),
    ([8] * 3, [4, 5], [4, 6]),
]


@cache
def untrained(kind: str, attention: str = "sdpa", **other: Any) -> Any:
    """A random model of an architecture, with weights large enough that tokens matter."""
    torch.manual_seed(0)
    values = GPT2 if kind == "gpt2" else SMALL
    if kind == "gpt_neox":
        values = {
            name: value for name, value in SMALL.items() if name not in ("num_key_value_heads", "head_dim")
        }
    settings = AutoConfig.for_model(kind, **(values | other))
    model = AutoModelForCausalLM.from_config(settings, attn_implementation=attention)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def fused(kind: str, share_prompt: Any, said: list[str] | None = None, **other: Any) -> tuple[Any, Forward]:
    """A copy of a random model with TRL's fused head and ours around it."""
    return wrap(copy.deepcopy(untrained(kind, **other)), share_prompt, said)


def wrap(model: Any, share_prompt: Any, said: list[str] | None = None) -> tuple[Any, Forward]:
    add_fused_lm_head(model, outputs=FIELDS)
    forward = install(model, share_prompt=share_prompt, tell=(said if said is not None else []).append)
    return model, forward


def batch(pairs: list[Pair]) -> dict[str, Any]:
    """What TRL's collator and trainer hand to the model."""
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = DataCollatorForPreference(pad_token_id=0)([dict(zip(names, pair, strict=True)) for pair in pairs])
    labels = rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)
    return {
        "input_ids": rows["input_ids"],
        "attention_mask": rows["attention_mask"],
        "labels": labels,
        "use_cache": False,
        "fused_lm_head": True,
    }


def spread(like: torch.Tensor) -> torch.Tensor:
    """Different weights for every log-prob, so that a mistaken place shows in the gradients."""
    return torch.linspace(-1, 1, like.numel()).view_as(like)


def outcome(model: Any, call: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    model.zero_grad()
    output = model(**call)
    (output.log_probs * spread(output.log_probs)).sum().backward()
    return output, {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


def assert_alike(model: Any, other: Any, call: dict[str, Any]) -> None:
    (plain, plain_grads), (shared, shared_grads) = outcome(model, call), outcome(other, call)
    for name in FIELDS:
        assert getattr(shared, name).shape == getattr(plain, name).shape
        assert torch.allclose(getattr(shared, name).float(), getattr(plain, name).float(), atol=1e-4)
    assert torch.equal(shared.label_mask, plain.label_mask)
    assert torch.allclose(shared.loss, plain.loss, atol=1e-4)
    assert shared_grads.keys() == plain_grads.keys()
    for name, grad in plain_grads.items():
        assert torch.allclose(shared_grads[name], grad, atol=1e-4, rtol=1e-4), name


# -- it is the same --


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("qwen3", {}),
        ("qwen3", {"attention": "eager"}),
        ("llama", {}),
        ("qwen2", {}),
        ("phi3", {}),
        ("gpt_neox", {}),
        ("gpt2", {}),
        ("mistral", {"sliding_window": 64}),
        ("gemma2", {"attention": "eager", "sliding_window": 64}),
    ],
)
def test_log_probs_and_gradients_are_those_of_padded_rows(kind: str, other: dict[str, Any]) -> None:
    plain, _ = fused(kind, False, **other)
    shared, forward = fused(kind, True, **other)
    assert_alike(plain, shared, batch(LONG))
    # Two sequences of 9 + 6 and 9 + 3 tokens without their last ones, of which 9 are one; and so on.
    assert forward.positions == (9 + 5 + 2) + (2 + 0 + 1) + (4 + 0 + 0)


@settings(max_examples=40)
@given(PAIRS, st.booleans())
def test_random_lengths_and_common_openings(pairs: list[Pair], together: bool) -> None:
    plain, _ = fused("llama", False)
    shared, _ = fused("llama", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Forward, "_together", property(lambda self: together))
        assert_alike(plain, shared, batch(pairs))


@settings(max_examples=20)
@given(PAIRS, st.randoms())
def test_tokens_that_are_not_scored(pairs: list[Pair], rng: Random) -> None:
    call = batch(pairs)
    dropped = torch.tensor([rng.random() < 0.5 for _ in range(call["labels"].numel())])
    call["labels"] = call["labels"].masked_fill(dropped.view(call["labels"].shape), -100)
    plain, _ = fused("llama", False)
    shared, forward = fused("llama", True)
    assert_alike(plain, shared, call)
    assert forward.positions <= call["input_ids"].numel()


def test_prompts_that_differ_share_what_they_can() -> None:
    call = batch([([3, 4, 5], [6, 7], [8])])
    call["input_ids"][1, 1] = 9
    plain, _ = fused("llama", False)
    shared, forward = fused("llama", True)
    assert_alike(plain, shared, call)
    assert forward.positions == 1 + 3 + 2


def test_a_second_call_of_install_changes_nothing() -> None:
    model, forward = fused("llama", True)
    assert install(model, share_prompt=False) is forward


def test_calls_without_the_fused_head_pass_through() -> None:
    model, forward = fused("llama", True)
    ids = torch.tensor([[3, 4, 5], [3, 4, 6]])
    assert torch.equal(model(input_ids=ids).logits, untrained("llama")(input_ids=ids).logits)
    assert forward.last is None
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape == (2, 5)


# -- weights --


@pytest.mark.parametrize("share_prompt", [False, True])
def test_weights_multiply_and_what_they_silence_can_still_be_known(share_prompt: bool) -> None:
    model, forward = fused("llama", share_prompt)
    call = batch(LONG)
    whole = model(**call).log_probs
    response = (call["labels"] != -100).long()
    weights = response * torch.linspace(0, 1, response.numel()).view_as(response)
    weights[:, -2:] = 0
    call["labels"] = call["labels"].masked_fill(weights == 0, -100)
    weighed = model(**call, token_weights=weights, response_mask=response).log_probs
    assert torch.allclose(weighed, whole * weights[:, 1:], atol=1e-5)
    assert forward.last is not None
    assert torch.allclose(forward.last, whole, atol=1e-5)
    short = model(**call, token_weights=weights).log_probs
    assert torch.allclose(short, weighed, atol=1e-5)


# -- how it is run --


def test_lora_and_the_reference_without_its_adapter() -> None:
    def lora(share_prompt: bool) -> Any:
        torch.manual_seed(1)
        model, _ = fused("qwen3", share_prompt)
        settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        return get_peft_model(model, settings)

    plain, shared = lora(False), lora(True)
    assert isinstance(shared.get_base_model().weft_forward, Forward)
    assert_alike(plain, shared, batch(LONG))
    with torch.no_grad(), use_adapter(plain, None), use_adapter(shared, None):
        base, other = plain(**batch(LONG)).log_probs, shared(**batch(LONG)).log_probs
    assert torch.allclose(base, other, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(shared(**batch(LONG)).log_probs, other, atol=1e-2)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    models = []
    for share_prompt in (False, True):
        model, forward = fused("qwen3", share_prompt)
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        models.append(model)
    assert_alike(models[0], models[1], batch(LONG))
    assert forward.positions < batch(LONG)["input_ids"].numel()


def test_bfloat16_comes_close_and_is_not_refused() -> None:
    said: list[str] = []
    plain, _ = fused("qwen3", False)
    shared, forward = fused("qwen3", True, said)
    with torch.autocast("cpu", torch.bfloat16):
        base, other = plain(**batch(LONG)), shared(**batch(LONG))
    assert forward.positions < batch(LONG)["input_ids"].numel(), said
    assert torch.allclose(base.log_probs, other.log_probs, atol=0.3)
    halves = [model.bfloat16() for model in (fused("qwen3", False)[0], fused("qwen3", True, said)[0])]
    base, other = (model(**batch(LONG)) for model in halves)
    assert torch.allclose(base.log_probs, other.log_probs, atol=0.3)
    assert all("are shared" in line for line in said)


def test_the_trial_leaves_the_modules_as_they_were() -> None:
    model, _ = fused("qwen3", True)
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    model(**batch(LONG))
    assert [module.training for module in model.modules()] == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_of_flex_attention_give_the_same_log_probs() -> None:
    plain, _ = fused("qwen3", False)
    shared, forward = fused("qwen3", True, attention="flex_attention")
    with torch.no_grad():
        base, other = plain(**batch(LONG)), shared(**batch(LONG))
    assert forward.positions < batch(LONG)["input_ids"].numel()
    assert torch.allclose(base.log_probs, other.log_probs, atol=1e-4)


# -- where it cannot hold --


def refused(model: Any, forward: Forward, call: dict[str, Any]) -> None:
    """The call was left as it was."""
    plain = model(**call)
    assert forward.positions == call["input_ids"].numel()
    assert plain.log_probs.shape == call["labels"][:, 1:].shape


def test_a_window_is_respected_and_said_once() -> None:
    said: list[str] = []
    model, forward = fused("gemma2", True, said, attention="eager", sliding_window=40)
    beyond = batch([([5] * 40, [6, 7, 8], [9])])
    for call in (beyond, batch([([5] * 41, [6, 7, 8], [9])]), batch(LONG)):
        model(**call)
    assert said == [
        "prompts are not shared in a batch: a sequence of 42 tokens passes the model's window of 40",
        "prompts are shared and pairs packed: 23 positions in place of 90 in this batch",
    ]
    assert forward.positions == 23
    refused(model, forward, beyond)
    narrow, forward = fused("mistral", True, said, sliding_window=16)
    refused(narrow, forward, batch(LONG))
    assert said[-1] == "prompts are not shared: the model has windows of 16 tokens"


def test_models_whose_layers_cannot() -> None:
    reasons = {}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"]}),
        ("mixtral", {"output_router_logits": True, "num_local_experts": 2}),
        ("llama", {"rope_parameters": DYNAMIC}),
        ("gemma3_text", {"rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": PLAIN_ROPE}}),
    ]
    for kind, other in cases:
        settings = AutoConfig.for_model(kind, **(SMALL | other))
        model = torch.nn.Module()
        model.config = settings
        settings._attn_implementation = "sdpa"
        reasons[kind] = fallback.of_model(model)
        settings._attn_implementation = "flash_attention_2"
        assert "attention is flash_attention_2" in str(fallback.of_model(model))
    assert reasons == {
        "qwen3_next": "layers of the model (linear_attention) carry a state from each token to the next",
        "mixtral": "the auxiliary loss of a mixture of experts counts the tokens of padded rows",
        "llama": "its rotary positions (dynamic) depend on the longest sequence of a call",
        "gemma3_text": "its rotary positions (dynamic) depend on the longest sequence of a call",
    }


def test_a_model_that_ignores_its_mask_is_found_out() -> None:
    said: list[str] = []
    model, forward = fused("llama", True, said)
    backbone = model.model.forward
    model.model.forward = lambda **kwargs: backbone(**(kwargs | {"attention_mask": None}))
    refused(model, forward, batch(LONG))
    assert len(said) == 1
    assert "log-probs of a trial pair differ" in said[0]


def test_a_model_that_ignores_its_mask_is_found_out_in_half_precision() -> None:
    said: list[str] = []
    model, forward = fused("llama", True, said)
    model.bfloat16()
    backbone = model.model.forward

    def blind(**kwargs: Any) -> Any:
        mask = torch.ones_like(kwargs["input_ids"])
        return backbone(**(kwargs | {"attention_mask": mask}))

    model.model.forward = blind
    refused(model, forward, batch(LONG))
    assert "log-probs of a trial pair differ" in said[0]


def test_a_model_that_refuses_the_trial_is_left_alone() -> None:
    said: list[str] = []
    model, forward = fused("llama", True, said)
    backbone = model.model.forward

    def choosy(**kwargs: Any) -> Any:
        if kwargs["attention_mask"].dim() != 2:
            raise ValueError("two dimensions, please")
        return backbone(**kwargs)

    model.model.forward = choosy
    refused(model, forward, batch(LONG))
    refused(model, forward, batch(LONG))
    assert said == [
        "prompts are not shared: the model refused a trial pair (ValueError: two dimensions, please)"
    ]


def test_calls_that_speak_of_padded_rows() -> None:
    call = batch(LONG)
    assert fallback.of_call((), call) is None
    assert fallback.of_call((), call | {"output_attentions": False, "inputs_embeds": None}) is None
    assert "mixture of experts" in str(fallback.of_call((), call | {"output_router_logits": True}))
    assert "brings pixel_values" in str(fallback.of_call((), call | {"pixel_values": torch.ones(1)}))
    assert "brings shift_labels" in str(fallback.of_call((), call | {"shift_labels": call["labels"]}))
    assert "no labels" in str(fallback.of_call((), call | {"labels": None}))
    assert "no token ids" in str(fallback.of_call((call["input_ids"],), {}))
    odd = {name: value[:3] if torch.is_tensor(value) else value for name, value in call.items()}
    assert "not those of pairs" in str(fallback.of_call((), odd))


def test_prefix_tuning_goes_trls_way() -> None:
    said: list[str] = []
    model, forward = fused("qwen3", True, said)
    tuned = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    output = tuned(**batch(LONG))
    assert torch.isfinite(output.log_probs).all()
    assert forward.positions >= batch(LONG)["input_ids"].numel()
    assert len(said) == 1
    assert said[0].startswith("prompts are not shared: the call brings")


# -- auto --


def test_auto_shares_where_it_pays_and_says_what_it_chose() -> None:
    said: list[str] = []
    model, forward = fused("llama", "auto", said)
    model(**batch([([], [3] * 20, [4] * 20)]))
    assert forward.positions == 40
    model(**batch(LONG))
    assert forward.positions == 23
    assert said == [
        "prompts are not shared in a batch: that would take 38 positions in place of 40",
        "prompts are shared and pairs packed: 23 positions in place of 90 in this batch",
    ]


def ultrafeedback_like(pairs: int, rng: Random) -> list[Pair]:
    """Prompts of about 180 tokens, responses of about 330 and 260, log-normal with sigma 0.7."""

    def ids(mean: float) -> list[int]:
        tokens = max(2, round(rng.lognormvariate(math.log(mean) - 0.7**2 / 2, 0.7)))
        return [rng.randrange(3, 90) for _ in range(tokens)]

    return [(ids(180), ids(330), ids(260)) for _ in range(pairs)]


def test_at_most_a_third_of_the_positions_of_a_masked_run() -> None:
    rng, ours, masked = Random(0), 0, 0
    model, forward = fused("llama", "auto", num_hidden_layers=1, max_position_embeddings=4096)
    for _ in range(12):
        pairs = ultrafeedback_like(4, rng)
        masked += batch(pairs)["input_ids"].numel()
        cut = []
        for prompt, chosen, rejected in pairs:
            k = min(len(chosen), len(rejected))
            cut.append((prompt, chosen[:k], rejected[:k]))
        with torch.no_grad():
            model(**batch(cut))
        ours += forward.positions
    assert ours <= masked / 3


# -- training --


def run_of(folder: Path, share_prompt: bool, said: list[str]) -> list[float]:
    """The loss of each step of a short run of the micro student."""
    trainer = PrefixDPOTrainer(
        str(model_path("student")),
        args=config(folder, max_steps=6, learning_rate=1e-3),
        train_dataset=raw_data(24),
        processing_class=tokenizer(),
        prefix="equal-length",
        share_prompt=share_prompt,
        tell=said.append,
    )
    trainer.train()
    return losses(trainer)


def test_a_run_has_the_same_loss_curve(tmp_path: Path) -> None:
    said: list[str] = []
    plain, shared = run_of(tmp_path / "a", False, said), run_of(tmp_path / "b", True, said)
    assert len(plain) == 6
    assert max(plain) - min(plain) > 0.01
    assert shared == pytest.approx(plain, abs=1e-4)
    assert any("are shared" in line for line in said)


def test_the_micro_student_has_a_trial_that_passes() -> None:
    said: list[str] = []
    model, forward = wrap(tiny_model(), True, said)
    model(**batch(LONG))
    assert said == ["prompts are shared and pairs packed: 23 positions in place of 90 in this batch"]
    assert forward.positions < forwards.TRIAL[0] + 23
