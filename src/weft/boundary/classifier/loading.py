"""Loading a token classifier from a folder or the hub, and finding out whether it can serve.

The authors' published predictors have this shape: a causal model with a head of two labels, ``LABEL_0`` for
capability and ``LABEL_1`` for style. Weights are safetensors and code is transformers' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification
from transformers.utils import cached_file

from weft.boundary.classifier.causal import is_causal, labels_alone
from weft.boundary.classifier.contexts import Contexts
from weft.boundary.classifier.facts import FILE, Facts
from weft.boundary.classifier.judge import Classifier
from weft.engines.language import first_line, loaded_head
from weft.engines.loading import TINY, weights
from weft.engines.settings import EngineSettings
from weft.engines.slots import Masks
from weft.errors import UserError
from weft.vocabulary import TokenizerVocabulary

PROCESSOR_MEMORY = 4 << 30
"""Bytes for keys and values on a processor."""
GPU_SHARE = 0.2
"""Share of a GPU's free memory for them; each author may have a classifier of its own."""
STYLE_NAMES, CAPABILITY_NAMES = ("style", "label_1"), ("capability", "label_0")
CHECK_TOKENS = 24
CHECK_EXACT, CHECK_HALF = 1e-3, 0.05
"""Most distance of two probabilities that should be one, in float32 and in 16 bits."""


def load_classifier(
    name: str, folder: str | None = None, *, threshold: float | None = None, device: str | None = None
) -> Classifier:
    """Load a folder or hub id as a boundary.

    Args:
        folder: where ``name`` lies, if that is not what it says.
        threshold: ``None`` takes the folder's own, or 0.5.
        device: left out: a GPU where there is one.

    Raises:
        UserError: it is no classifier of style and capability, or reads ahead.
    """
    where, folder = f"boundary {name}", folder or name
    settings = EngineSettings(name=name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer, model, missing = loaded_head(
            AutoModelForTokenClassification, "classifier", settings, folder, device=device
        )
    except UserError as error:
        raise UserError(
            error.what,
            where=where,
            expected="a folder that `weft boundary train` wrote, or a hub id of such a token classifier",
            remedy=error.remedy,
        ) from error
    vocabulary = TokenizerVocabulary(tokenizer, where=where)
    _check_labels(model.config, missing, where)
    if model.config._attn_implementation not in ("sdpa", "eager"):
        model.set_attn_implementation("eager")
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot move the model to {device}: {first_line(error)}", where=where) from error
    facts = Facts.read(_facts_file(folder))
    contexts = Contexts(model, Masks.of_model(model, name), window=facts.window, memory=_memory(device))
    _check_causal(model, contexts, where)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Classifier(
        contexts,
        vocabulary,
        name=name,
        facts=facts,
        threshold=facts.threshold if threshold is None else threshold,
        description={
            "weights": weights(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vocabulary": vocabulary.fingerprint[:16],
            "window": facts.window,
        },
        tiny=device == "cpu" and parameters < TINY,
    )


def _check_labels(config: Any, missing: Any, where: str) -> None:
    """Whether it has a trained head of two labels, the second of which is style."""
    if missing:
        raise UserError(
            f"a model without a trained head: {', '.join(sorted(missing)[:3])} is not in its weights",
            where=where,
            expected="a token classifier",
            remedy="train one: weft boundary train SPANS --model BASE -o DIR",
        )
    names = [str(config.id2label[number]) for number in sorted(config.id2label)]
    if len(names) != 2:
        raise UserError(
            f"a classifier of {len(names)} labels: {', '.join(names[:5])}",
            where=where,
            expected="two labels: capability and style",
        )
    said = [name.strip().lower() for name in names]
    if said[0] not in CAPABILITY_NAMES or said[1] not in STYLE_NAMES:
        raise UserError(
            f"its labels are 0: {names[0]}, 1: {names[1]}",
            where=where,
            expected="0: capability, 1: style (or LABEL_0 and LABEL_1, meaning these)",
            remedy="if they mean the same, rename them in config.json (id2label, label2id); "
            "if 1 is capability, train again with the labels exchanged",
        )


def _facts_file(folder: str) -> Path | None:
    if Path(folder).is_dir():
        return Path(folder) / FILE
    found = cached_file(
        folder,
        FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def _memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return PROCESSOR_MEMORY


@torch.inference_mode()
def _check_causal(model: Any, contexts: Contexts, where: str) -> None:
    """Refuse a model whose labels depend on later tokens, or on whether a cache was used."""
    if not bool(labels_alone(model, list(range(8))).isfinite().all()):
        raise UserError("its labels are not numbers (NaN or infinite)", where=where, remedy="train it again")
    if not is_causal(model):
        raise UserError(
            f"{type(model).__name__} reads ahead: its labels change with later tokens",
            where=where,
            expected="a causal model, such as one trained from Qwen/Qwen3-0.6B-Base",
        )
    length = min(CHECK_TOKENS, 2 * contexts.window)  # so many have all before them in their context
    size = model.config.get_text_config().vocab_size
    ids = torch.randint(size, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    try:
        first = contexts.read([("check", ids[: length // 2], 0)])[0]
        cached_T = torch.tensor(first + contexts.read([("check", ids, length // 2)])[0])
        contexts.release("check")
        apart = float((torch.softmax(labels_alone(model, ids), -1)[:, 1] - cached_T).abs().max())
    except Exception as error:  # a model that takes no cache fails in a way of its own
        raise UserError(
            f"{type(model).__name__} cannot be read token by token: {first_line(error)}", where=where
        ) from error
    if not apart <= (CHECK_EXACT if torch.finfo(model.dtype).bits >= 32 else CHECK_HALF):
        raise UserError(
            f"{type(model).__name__} says something else with a key-value cache than without ({apart:.2g})",
            where=where,
            expected="a causal model with attention by keys and values",
        )
