"""What a training says while it runs and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Tell = Callable[[str], None]
Advance = Callable[[int, int], None]
"""Steps done, steps in all."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How labels on held-out prompts agree with the annotation, at a threshold of 0.5."""

    loss: float
    """Mean cross-entropy per token, weighted as in training; nats."""
    token_accuracy: float
    boundary_f1: Mapping[str, float]
    """By tolerance in tokens: 0, 1 and 3."""
