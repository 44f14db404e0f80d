"""Loading a transformers model from a folder or the hub.

Weights are safetensors and code is transformers' own: nothing is unpickled and no remote code runs.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from weft.chat import ChatTemplate
from weft.engines.language import first_line, load_language, loaded
from weft.engines.local import LocalEngine
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.vocabulary import TokenizerVocabulary

TINY = 30_000_000
"""Parameters below which one processor thread is best."""
SAMPLED = 64
"""Values of each tensor in the fingerprint of weights."""


def load_local(settings: EngineSettings, folder: str, *, date: datetime.date) -> LocalEngine:
    """Load ``folder`` (or hub id) as an engine.

    Raises:
        UserError: it is no model that can be loaded safely, or it has no usable tokenizer or chat template.
    """
    where = f"engine {settings.name}"
    language = load_language(settings, folder, date=date)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype: Any = settings.dtype
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    model = loaded(AutoModelForCausalLM, "model", settings, folder, dtype=dtype, use_safetensors=True)
    if model.config._attn_implementation not in ("sdpa", "eager"):
        model.set_attn_implementation("eager")
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot move the model to {device}: {first_line(error)}", where=where) from error
    return LocalEngine(
        model,
        name=settings.name,
        vocabulary=language.vocabulary,
        template=language.template,
        end_ids=language.end_ids,
        sampling=language.sampling,
        description=_description(model, language.template, language.vocabulary, settings),
        threads=_threads(model),
    )


def _threads(model: Any) -> int | None:
    """One processor thread for tiny models: to share a product of a few thousand numbers costs more than it
    saves, and many times more where other work runs beside it."""
    tiny = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < TINY
    return 1 if tiny and "OMP_NUM_THREADS" not in os.environ else None


def weights(model: Any) -> str:
    """A fingerprint of the weights, from some values of each tensor; of the same weights in any precision
    that holds them."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        some = flat[:: max(1, flat.numel() // SAMPLED)][:SAMPLED].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(some.numpy().tobytes())
    return digest.hexdigest()[:16]


def _description(
    model: Any, template: ChatTemplate, vocabulary: TokenizerVocabulary, settings: EngineSettings
) -> Mapping[str, object]:
    thinking = template.thinking
    return {
        "engine": "transformers",
        "model": settings.name,
        "revision": settings.revision,
        "commit": getattr(model.config, "_commit_hash", None),
        "architecture": type(model).__name__,
        "weights": weights(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "vocabulary": vocabulary.fingerprint[:16],
        "thinking": None if thinking is None else [thinking.opening, thinking.closing],
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
