"""The base of a classifier: a causal language model with a fresh head of two labels, with LoRA or without.

A base whose labels would depend on later tokens is refused by what it does, not by its name.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from weft.boundary.classifier.causal import is_causal
from weft.boundary.training.examples import NAMES
from weft.boundary.training.settings import TrainingSettings
from weft.engines.language import loaded, no_bars_of_weights
from weft.engines.opening import model_folder
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.vocabulary import TokenizerVocabulary


def load_tokenizer(settings: TrainingSettings) -> tuple[Any, TokenizerVocabulary]:
    """The base's tokenizer, and its vocabulary.

    Raises:
        UserError: there is none that can be used.
    """
    tokenizer = _loaded(AutoTokenizer, "tokenizer", settings)
    return tokenizer, TokenizerVocabulary(tokenizer, where=f"base {settings.model}")


def load_base(settings: TrainingSettings) -> tuple[PreTrainedModel, torch.dtype]:
    """The base in float32 with two labels, and the precision in which it was stored.

    The head is drawn from torch's generator, which the caller seeds.

    Raises:
        UserError: it cannot be loaded, or it is no causal model.
    """
    config = _loaded(AutoConfig, "config", settings)
    if type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
        raise UserError(
            f"transformers has no token classifier of this kind ({type(config).__name__})",
            where=f"base {settings.model}",
            expected="one of those that have one: Qwen, Llama, Mistral, Gemma 2, GPT-2, ...",
            remedy="choose a small base of such a kind; the predictor need not be of the writers' family",
        )
    with quiet():
        model, found = _loaded(
            AutoModelForTokenClassification,
            "base",
            settings,
            dtype="auto",
            use_safetensors=True,
            id2label=dict(NAMES),
            label2id={name: label for label, name in NAMES.items()},
            output_loading_info=True,
        )
    body = model.base_model_prefix + "."
    if missing := sorted(name for name in found["missing_keys"] if name.startswith(body)):
        raise UserError(
            f"its weights lack {len(missing):,} of the model's, such as {missing[0]}",
            where=f"base {settings.model}",
            expected="all weights but the head's",
            remedy="check that the folder is complete and that config.json belongs to its weights",
        )
    stored = model.dtype
    model = model.float().eval()
    if not is_causal(model):
        raise UserError(
            f"{type(model).__name__} looks ahead: its labels depend on tokens that come later",
            where=f"base {settings.model}",
            expected="a causal language model, such as Qwen/Qwen3-0.6B-Base",
            remedy="choose a decoder; at synthesis a label is needed before the next token is written",
        )
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        with quiet():
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model, stored


def with_lora(model: PreTrainedModel, settings: TrainingSettings) -> Any:
    """The model with trainable low-rank matrices beside all its linear layers; the head is trained whole."""
    from peft import LoraConfig, TaskType, get_peft_model

    heads = [name for name, part in model.named_children() if name != model.base_model_prefix]
    heads = [name for name in heads if any(True for _ in model.get_submodule(name).parameters())]
    config = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha or 2 * settings.lora_rank,
        target_modules="all-linear",
        exclude_modules=heads,
        modules_to_save=heads,
    )
    with quiet():
        return get_peft_model(model, config)


def merged(model: Any) -> PreTrainedModel:
    """The plain model: LoRA's matrices added to the weights they stand beside."""
    plain: PreTrainedModel = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return plain


@contextmanager
def quiet() -> Iterator[None]:
    """No word from transformers below an error, and no bars but of downloads.

    That a head is fresh is meant so here, and what later versions will change, or how peft set itself right,
    is no news for users.
    """
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)
    try:
        with no_bars_of_weights(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\.")
            yield
    finally:
        transformers.logging.set_verbosity(level)


def _loaded(kind: Any, what: str, settings: TrainingSettings, **options: Any) -> Any:
    where = f"base {settings.model}"
    engine = EngineSettings(name=settings.model, revision=settings.revision)
    try:
        return loaded(kind, what, engine, model_folder(settings.model), **options)
    except UserError as error:
        expected = error.expected or "a causal language model that transformers loads"
        raise UserError(error.what, where=where, expected=expected, remedy=error.remedy) from error
