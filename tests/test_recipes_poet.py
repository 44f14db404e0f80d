"""The paper's recipes: each holds the paper's values, and each trains a tiny model of its architecture."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pytest
import torch
import trl
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from preference_world import sentence
from preference_world import tokenizer as micro_tokenizer
from weft.cli.align import FLAGS
from weft.cli.settings import read_as
from weft.preference.align import align
from weft.preference.recipe import AlignSettings

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPES = {path.stem: path for path in (Path(__file__).parent.parent / "recipes" / "poet").glob("*.yaml")}

# beta and learning rate of DPO; beta, gamma / beta and learning rate of SimPO (arXiv 2506.09457).
PAPER: dict[str, tuple[str, tuple[float, float], tuple[float, float, float]]] = {
    "mistral-base": ("alignment-handbook/zephyr-7b-sft-full", (0.01, 5e-7), (2.0, 0.8, 3e-7)),
    "llama3-base": ("princeton-nlp/Llama-3-Base-8B-SFT", (0.01, 5e-7), (2.0, 0.5, 6e-7)),
    "llama3-instruct": ("meta-llama/Meta-Llama-3-8B-Instruct", (0.01, 3e-7), (10, 0.3, 1e-6)),
    "gemma2-it": ("google/gemma-2-9b-it", (0.01, 5e-7), (10, 0.5, 8e-7)),
}

# Zephyr's turns, which TRL ships no template of.
ZEPHYR = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def recipe(name: str) -> AlignSettings:
    return read_as(AlignSettings, RECIPES[name], {}, flags=FLAGS, wanted={}, example="")


@cache
def shipped(name: str) -> str:
    """A chat template that TRL ships."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()


def tiny(slug: str, folder: Path) -> str:
    """A random model of the recipe's architecture, with a template of its family."""
    tokenizer = AutoTokenizer.from_pretrained(micro_tokenizer().name_or_path)
    if slug == "mistral-base":
        tokenizer.chat_template = ZEPHYR
    elif slug == "gemma2-it":
        tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": "<end_of_turn>"})
        tokenizer.chat_template = shipped("gemma")
    else:
        tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})
        tokenizer.chat_template = shipped("llama3")
    size = {**SIZE, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model: Any
    if slug == "mistral-base":
        model = MistralForCausalLM(MistralConfig(**size, sliding_window=256))
    elif slug == "gemma2-it":
        # Windows in every other layer, shorter than the longest rows.
        model = Gemma2ForCausalLM(Gemma2Config(**size, sliding_window=16, query_pre_attn_scalar=16))
    else:
        model = LlamaForCausalLM(LlamaConfig(**size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def rows(path: Path) -> str:
    """Pairs as the recipes' data sets hold them: the prompt as text, and again in both conversations."""
    rng = Random(0)
    lines = []
    for _ in range(6):
        prompt = sentence(rng, 5)
        turn = {"role": "user", "content": prompt}
        row: dict[str, Any] = {"prompt": prompt, "prompt_id": "x"}
        for side, words in (("chosen", rng.randint(2, 12)), ("rejected", rng.randint(2, 12))):
            row[side] = [turn, {"role": "assistant", "content": f"{side} {sentence(rng, words)}"}]
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    return str(path)


def test_there_are_eight() -> None:
    assert sorted(RECIPES) == sorted(f"{slug}-{loss}" for slug in PAPER for loss in ("dpo", "simpo"))


@pytest.mark.parametrize("slug", PAPER)
def test_they_hold_the_papers_values(slug: str) -> None:
    model, dpo, simpo = PAPER[slug]
    for loss in ("dpo", "simpo"):
        found = recipe(f"{slug}-{loss}")
        assert found.model == model
        assert found.prefix == "equal-length"
        assert found.per_device_train_batch_size * found.gradient_accumulation_steps == 128
        assert (found.num_train_epochs, found.lr_scheduler_type) == (1, "cosine")
        assert (found.warmup_ratio, found.max_length) == (0.1, 2048)
        assert found.evaluation is not None
    first, second = recipe(f"{slug}-dpo"), recipe(f"{slug}-simpo")
    assert first.loss_type == ("sigmoid",)
    assert (first.beta, first.learning_rate) == dpo
    assert second.loss_type == ("simpo",)
    assert (second.beta, second.gamma_beta_ratio, second.learning_rate) == simpo


@pytest.mark.parametrize("prefix", ["equal-length", "none"])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_two_steps_on_a_tiny_model_of_the_same_architecture(name: str, prefix: str, tmp_path: Path) -> None:
    said: list[str] = []
    settings = recipe(name).model_copy(
        update={
            "model": tiny(name.rpartition("-")[0], tmp_path / "model"),
            "data": rows(tmp_path / "pairs.jsonl"),
            "eval_split": None,
            "prefix": prefix,
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "max_length": 256,
            "gradient_checkpointing": False,
            "report_to": ("none",),
            "trl": {"use_cpu": True},
        }
    )
    result = align(settings, tmp_path / "out", tell=said.append)
    assert result.steps == 2
    assert result.figures["loss"] > 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    if name.startswith("gemma2") and prefix != "none":
        assert any("window" in line for line in said), said
