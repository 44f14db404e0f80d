"""Loading a transformers model, its tokenizer and template from a folder or the hub.

Weights are safetensors and code is transformers' own: nothing is unpickled and no remote code runs.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from weft.chat import ChatTemplate
from weft.engines.local import LocalEngine
from weft.engines.opening import EngineSettings
from weft.errors import UserError
from weft.records import Message, Sampling
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
    tokenizer = _loaded(AutoTokenizer, "tokenizer", settings, folder)
    vocabulary = TokenizerVocabulary(tokenizer, where=where)
    template = ChatTemplate.from_tokenizer(
        tokenizer,
        template=_template_source(settings.chat_template, where),
        arguments=settings.template_arguments,
        date=date,
        tags=settings.thinking_tags,
        where=where,
    )
    if "probe" not in vocabulary.decode(
        vocabulary.encode_template(template.prompt([Message("user", "probe")]))
    ):
        raise UserError(
            "the tokenizer does not spell its own chat template's prompt",
            where=where,
            expected="tokenizer.json, or another tokenizer's files, beside the weights",
            remedy="copy them from the model that the folder was made from",
        )
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype: Any = settings.dtype
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    transformers.logging.disable_progress_bar()  # of loading weights; downloads keep theirs
    model = _loaded(AutoModelForCausalLM, "model", settings, folder, dtype=dtype, use_safetensors=True)
    if model.config._attn_implementation not in ("sdpa", "eager"):
        model.set_attn_implementation("eager")
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot move the model to {device}: {_first_line(error)}", where=where) from error
    generation = model.generation_config
    return LocalEngine(
        model,
        name=settings.name,
        vocabulary=vocabulary,
        template=template,
        end_ids=_end_ids(generation, tokenizer, template, vocabulary, where),
        sampling=_sampling(generation),
        description=_description(model, template, vocabulary, settings),
        threads=_threads(model),
    )


def _loaded(kind: Any, what: str, settings: EngineSettings, folder: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, revision=settings.revision, trust_remote_code=False, **options)
    except Exception as error:  # a folder may hold anything, and each part of it fails in its own way
        here = "check that the folder is complete; pickled weights (.bin) are not loaded"
        hub = "check the name; private models need HF_TOKEN, and HF_HUB_OFFLINE keeps from downloading"
        raise UserError(
            f"the {what} cannot be loaded: {_first_line(error)}",
            where=f"engine {settings.name}",
            expected="a hub id or folder with config.json, *.safetensors and tokenizer.json",
            remedy=here if Path(folder).is_dir() else hub,
        ) from error


def _template_source(chosen: str | None, where: str) -> str | None:
    """The text of a template file; any other value is the name of one of the tokenizer's templates."""
    if chosen is None or not chosen.endswith((".jinja", ".j2", ".txt")):
        return chosen
    try:
        return Path(chosen).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the chat template {chosen} cannot be read: {error}", where=where) from error


def _end_ids(
    generation: GenerationConfig,
    tokenizer: Any,
    template: ChatTemplate,
    vocabulary: TokenizerVocabulary,
    where: str,
) -> frozenset[int]:
    """Ids that end a response: the generation config's, the tokenizer's, and the template's end of turn."""
    ids: set[int] = set()
    for given in (generation.eos_token_id, tokenizer.eos_token_id):
        ids.update(given if isinstance(given, list | tuple) else [given] if given is not None else [])
    end = vocabulary.encode_template(template.end) if template.end else []
    if len(end) == 1:
        ids.add(end[0])
    if not ids:
        raise UserError(
            "no token ends a response",
            where=where,
            expected="eos_token_id in generation_config.json or the tokenizer",
        )
    return frozenset(ids)


def _sampling(generation: GenerationConfig) -> Sampling:
    """The model's own sampling; what it leaves open is off."""
    if generation.do_sample is False:
        return Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)

    def value(name: str, default: float) -> Any:
        given = getattr(generation, name, None)
        return default if given is None else given

    return Sampling(
        temperature=float(value("temperature", 1.0)),
        top_p=float(value("top_p", 1.0)),
        top_k=int(value("top_k", 0)),
        min_p=float(value("min_p", 0.0)),
    )


def _threads(model: Any) -> int | None:
    """One processor thread for tiny models: to share a product of a few thousand numbers costs more than it
    saves, and many times more where other work runs beside it."""
    tiny = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < TINY
    return 1 if tiny and "OMP_NUM_THREADS" not in os.environ else None


def _weights(model: Any) -> str:
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
        "weights": _weights(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "vocabulary": vocabulary.fingerprint[:16],
        "thinking": None if thinking is None else [thinking.opening, thinking.closing],
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
