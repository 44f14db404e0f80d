"""TRL's `SFTTrainer`, which ends once and stops where the loss is no number."""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer

from weft.errors import RunError
from weft.training.ending import EndsOnce


class TextTrainer(EndsOnce, SFTTrainer):  # type: ignore[misc]
    """Takes rows of ``input_ids`` and ``labels``."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        """TRL's.

        Raises:
            RunError: the loss is no number.
        """
        found = super().compute_loss(model, inputs, *args, **named)
        loss = found[0] if isinstance(found, tuple) else found
        if not bool(torch.isfinite(loss)):
            raise RunError(
                f"the loss is {loss.item()}",
                where=f"step {self.state.global_step}",
                expected="a number",
                remedy="lower learning_rate, set max_grad_norm, take bf16 rather than fp16",
            )
        return found
