"""Whether several texts share a row, and whether the model keeps them apart there.

TRL packs by best fit, without padding, and says where texts begin by their positions. FlashAttention computes
each text by itself. SDPA and eager attention mask the others out, which is as right but computes the whole
square of a row; so packing is left off there unless it is asked for.

Invariants
    - A row is as long as the longest text, so packing never needs more memory than that text alone does.
    - Before a run is packed without FlashAttention, the model itself is asked: a text behind another one must
      be read as it is alone.
"""

from __future__ import annotations

from typing import Any

import torch

from weft.errors import UserError
from weft.finetuning.settings import SftSettings

APART = 0.05
"""Of the change that seeing the other text makes, how much may be left: rounding, in any precision."""
PROBED = 48
"""Tokens of each text that is tried."""


def attention(settings: SftSettings) -> str:
    """The attention that was asked for; empty for the model's default."""
    given = (settings.trl.get("model_init_kwargs") or {}).get("attn_implementation")
    return str(given or settings.attn_implementation or "")


def is_flash(name: str) -> bool:
    """Whether transformers' ``name`` is a FlashAttention, its own or a kernel of the hub's."""
    return "flash" in name


def packs(settings: SftSettings) -> tuple[bool, str]:
    """Whether texts are packed, and why, in words."""
    if settings.packing != "auto":
        return settings.packing, "as asked"
    if is_flash(attention(settings)):
        return True, "FlashAttention keeps texts apart"
    return False, "only FlashAttention gains by it; --packing true packs with others, too"


def check_apart(model: Any, texts: list[list[int]]) -> None:
    """Find out whether the model reads a text behind another one as it reads it alone.

    Args:
        model: a causal language model, in any mode.
        texts: ids of two texts.

    Raises:
        UserError: it does not.
    """
    first, second = (text[:PROBED] for text in texts)
    base = getattr(model, model.base_model_prefix, model)
    device = model.get_input_embeddings().weight.device
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            alone, packed, seen = (
                base(
                    input_ids=torch.tensor([ids], device=device),
                    position_ids=torch.tensor([places], device=device),
                    use_cache=False,
                ).last_hidden_state[0, -len(second) :]
                for ids, places in (
                    (second, list(range(len(second)))),
                    (first + second, [*range(len(first)), *range(len(second))]),
                    (first + second, list(range(len(first) + len(second)))),
                )
            )
    finally:
        model.train(training)
    mixed = (seen - alone).float().norm()
    if (packed - alone).float().norm() > APART * mixed:
        raise UserError(
            "the model does not keep packed texts apart: one reads what stands before it",
            where=f"--packing, with attention {model.config._attn_implementation}",
            remedy="leave out --packing, or take --attn-implementation flash_attention_2",
        )
