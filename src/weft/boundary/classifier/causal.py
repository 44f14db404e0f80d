"""Whether a token classifier reads ahead: found out by what it does, not by what it is called."""

from __future__ import annotations

from typing import Any

import torch

TOKENS = 16


@torch.inference_mode()
def labels_alone(model: Any, ids: list[int]) -> torch.Tensor:
    """The logits of both labels after each of ``ids``, read at once without a cache. ``[len(ids), 2]``"""
    logits_T2: torch.Tensor = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    return logits_T2.float().cpu()


def is_causal(model: Any) -> bool:
    """Whether labels stay what they are when later tokens change; of an untrained head, too."""
    size = model.config.get_text_config().vocab_size
    ids = torch.randint(size, (TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    half = TOKENS // 2
    others = [*ids[:half], *((token + size // 2) % size for token in ids[half:])]
    before_T2, after_T2 = labels_alone(model, ids)[:half], labels_alone(model, others)[:half]
    apart = float((before_T2 - after_T2).abs().max() / before_T2.abs().max().clamp_min(1e-9))
    return apart <= (1e-4 if torch.finfo(model.dtype).bits >= 32 else 0.02)
