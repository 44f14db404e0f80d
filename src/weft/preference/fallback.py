"""Where a prompt cannot be shared between the two responses of a pair, and why.

Sharing hands the backbone an attention mask and positions of its own. A model whose layers look at anything
else (a state carried from token to token, a window of tokens, the place in the row) would read the wrong
context. What its config tells is asked first (:func:`of_model`), then what the call brings (:func:`of_call`),
then the model itself: :func:`of_trial` compares the log-probs of a trial pair.

Each function returns a reason in words, or ``None`` where sharing holds. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

MASKED = {"eager", "sdpa", "flex_attention"}
"""Attention implementations of transformers that read a mask of four dimensions."""
OWN_KEYS = {"input_ids", "attention_mask", "labels", "use_cache", "fused_lm_head", "return_dict"}
"""What a call may bring; anything else (images, embeddings, router logits, shards) speaks of padded rows."""
ROUTER = "the auxiliary loss of a mixture of experts counts the tokens of padded rows"
CLOSE = 1e-4
"""By how much log-probs in float32 may differ in the trial, in nats."""
SHARE_OF_LEAK = 0.2
"""In other types: the part of the error of a model that ignores the mask at which the trial fails."""


def of_model(model: nn.Module) -> str | None:
    """Why the layers of ``model``, or the way in which it is run, cannot take a shared prompt."""
    config: Any = getattr(model, "config", None)
    if config is None:
        return "the model has no config that tells its layers"
    text = config.get_text_config()
    attention = getattr(config, "_attn_implementation", None)
    if attention not in MASKED:
        return (
            f"attention is {attention}, which reads no mask of pairs: load the model with "
            f"attn_implementation='sdpa' to share prompts"
        )
    if getattr(text, "is_encoder_decoder", False):
        return "the model has an encoder"
    kinds = set(getattr(text, "layer_types", None) or []) - {
        "full_attention",
        "sliding_attention",
        "chunked_attention",
    }
    if getattr(model, "_is_stateful", False) or kinds:
        names = f" ({', '.join(sorted(kinds))})" if kinds else ""
        return f"layers of the model{names} carry a state from each token to the next"
    if getattr(text, "output_router_logits", False):
        return ROUTER
    if kinds := _ropes(text) & {"dynamic", "longrope"}:
        return f"its rotary positions ({', '.join(sorted(kinds))}) depend on the longest sequence of a call"
    return _of_shards()


def _ropes(config: Any) -> set[str]:
    """Kinds of rotary positions, which may differ from one kind of layer to the next."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    each = [rope, *rope.values()] if isinstance(rope, Mapping) else []
    kinds = {one.get("rope_type", one.get("type")) for one in each if isinstance(one, Mapping)}
    return {kind for kind in kinds if isinstance(kind, str)}


def _of_shards() -> str | None:
    """Whether sequences are split over processes."""
    from accelerate.state import AcceleratorState, is_initialized

    split: Any = AcceleratorState._shared_state.get("parallelism_config") if is_initialized() else None
    if split is not None and (getattr(split, "cp_size", 1) > 1 or getattr(split, "sp_size", 1) > 1):
        return "context or sequence parallelism splits each sequence over processes"
    return None


def window(model: Any) -> int | None:
    """How many tokens the shortest window of attention holds; ``None`` where every layer sees all."""
    text: Any = model.config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    names = ["window_size", "attention_window", "local_attention"]
    if kinds is None or "sliding_attention" in kinds:
        names.append("sliding_window")
    if kinds is None or "chunked_attention" in kinds:
        names.append("attention_chunk_size")
    if getattr(text, "use_sliding_window", True) is False and kinds is None:
        names.remove("sliding_window")
    sizes = [getattr(text, name, None) for name in names]
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=None)


def of_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Why this call of the fused forward cannot be laid out anew."""
    if torch.compiler.is_compiling():
        return "the model is being compiled, and rows of changing widths would compile again and again"
    if args or kwargs.get("input_ids") is None or kwargs.get("attention_mask") is None:
        return "the call brings no token ids and mask by name (prompt learning puts embeddings there)"
    if kwargs.get("labels") is None:
        return "the call brings no labels"
    strange = {name for name, value in kwargs.items() if value is not None and value is not False} - OWN_KEYS
    if "output_router_logits" in strange:
        return ROUTER
    if strange:
        return f"the call brings {', '.join(sorted(strange))}, which speaks of padded rows"
    if kwargs["attention_mask"].dim() != 2 or kwargs["input_ids"].size(0) % 2:
        return "the rows are not those of pairs with a mask of padding"
    return None


def of_trial(plain: torch.Tensor, shared: torch.Tensor, leaking: torch.Tensor, *, exact: bool) -> str | None:
    """Whether a trial pair came out alike.

    Args:
        plain: log-probs of its scored tokens as the model gives them for padded rows. Nats, 1-d
        shared: the same with the prompt shared
        leaking: the same from a row in which nothing keeps the responses apart: the error of a model that
            ignores masks
        exact: whether all is computed in float32, so that rounding is far below ``CLOSE``
    """
    error = (plain - shared).abs()
    if not bool(torch.isfinite(error).all()):
        return "a trial pair got log-probs that are no numbers"
    if exact and float(error.max()) > CLOSE:
        return f"log-probs of a trial pair differ by {float(error.max()):.2g} nats"
    leak = float((plain - leaking).abs().mean())
    if float(error.mean()) > SHARE_OF_LEAK * leak:
        return f"log-probs of a trial pair differ by {float(error.mean()):.2g} nats on average"
    return None
