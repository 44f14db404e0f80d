"""The settings of an alignment run in TRL's terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import DPOConfig

from weft.preference.recipe import AlignSettings
from weft.preference.simpo import SimPOConfig
from weft.training.arguments import made


def arguments(settings: AlignSettings, output: Path) -> DPOConfig:
    """The settings as TRL has them.

    Raises:
        UserError: TRL has no such field, or refuses a value.
    """
    own: dict[str, Any] = {
        "loss_type": list(settings.loss_type),
        "loss_weights": None if settings.loss_weights is None else list(settings.loss_weights),
    }
    if settings.gamma_beta_ratio is not None:
        own["gamma_beta_ratio"] = settings.gamma_beta_ratio
    same = ("beta", "label_smoothing", "precompute_ref_log_probs", "max_length")
    kind = SimPOConfig if settings.simpo else DPOConfig
    return made(kind, settings, output, own, same=same)
