"""A tiny preference world for the tests: a random model that is saved, a tokenizer, rows, and short runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import huggingface_hub
import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3ForCausalLM
from trl import DPOConfig

from weft.micro import model_path
from weft.micro.training import Shape, build_model

# TRL's trainers report to the hub; tests shall not.
huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True

WORDS = (
    "the",
    "one",
    "two",
    "three",
    "four",
    "plus",
    "minus",
    "is",
    "so",
    "okay",
    "then",
    "now",
    "we",
    "get",
)


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path("student"))


def tiny_model(seed: int = 0) -> Qwen3ForCausalLM:
    """Two layers that have learned nothing; weights large enough that log-probs differ."""
    model = build_model(Shape(width=32, layers=2, inner=64, heads=2, kv_heads=1), tokenizer(), seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    return model


def save_tiny(folder: Path, seed: int = 0) -> str:
    """The folder of a saved tiny model, from which TRL loads policy and reference."""
    tiny_model(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def sentence(rng: Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def raw_rows(number: int = 8, seed: int = 0) -> list[dict[str, str]]:
    """Pairs whose responses differ in length, either one the longer."""
    rng = Random(seed)
    return [
        {
            "prompt": sentence(rng, rng.randint(2, 9)),
            "chosen": " " + sentence(rng, rng.randint(1, 14)),
            "rejected": " no " + sentence(rng, rng.randint(1, 14)),
        }
        for _ in range(number)
    ]


def raw_data(number: int = 8, seed: int = 0) -> Dataset:
    return Dataset.from_list(raw_rows(number, seed))


def config(output: Path, **other: Any) -> DPOConfig:
    """A run of three steps on a processor in float32, without trackers."""
    return DPOConfig(**settings(output, **other))


def settings(output: Path, **other: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
        "max_length": 64,
        **other,
    }


def losses(trainer: Any) -> list[float]:
    """What each step logged."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def quiet(line: str) -> None: ...
