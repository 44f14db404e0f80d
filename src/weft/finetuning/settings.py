"""What one fine-tuning run is made of: the settings of ``weft sft`` and of its YAML files.

The paper (TESSY, arXiv 2604.14164) gives the learning rate, the batch of 128 texts and up to nine epochs. It
gives neither scheduler nor warm-up, nor whether its loss is of the completion only; those are ours: cosine, a
tenth of the steps, and yes.

This module loads neither torch nor TRL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from weft.training.settings import Scheduler, TrainingSettings

LossOn = Literal["all", "teacher", "student"]


class SftSettings(TrainingSettings):
    """One run. ``trl`` takes any other field of TRL's `SFTConfig`."""

    texts: ClassVar[tuple[str, ...]] = (*TrainingSettings.texts, "data", "eval_data")

    data: tuple[str, ...] = Field(min_length=1)
    """Files of traces, or of anything else that TRL fine-tunes on; data sets' folders, or hub ids."""
    eval_data: tuple[str, ...] | None = None
    loss_on: LossOn = "all"
    """Whose tokens of a completion are learned. One author's alone needs traces, which say who wrote what."""
    packing: bool | Literal["auto"] = "auto"
    """Several texts in one row, kept apart by the attention; auto: where FlashAttention is used."""
    max_length: int = Field(40_960, ge=2)
    """Tokens of prompt and completion. Longer texts are left out, not cut: a text without its end teaches no
    end. The model's own context bounds it, too."""

    learning_rate: float = Field(5e-5, gt=0, allow_inf_nan=False)
    per_device_train_batch_size: int = Field(1, ge=1)
    """Texts in a batch; with packing, rows of several texts. Traces are long: one fills a device, and alone
    it is never padded. Short ones train faster in batches of more."""
    gradient_accumulation_steps: int = Field(128, ge=1)
    """With several processes a step has so many times as many texts."""
    num_train_epochs: float = Field(3.0, gt=0, allow_inf_nan=False)
    lr_scheduler_type: Scheduler = "cosine"

    @property
    def evaluation(self) -> tuple[tuple[str, ...], str] | None:
        """Data and split to evaluate on."""
        if not self.evaluates:
            return None
        return self.eval_data or self.data, self.eval_split or "train"

    def problems(self) -> Iterator[str]:
        """What contradicts itself."""
        if not all(self.data) or not all(self.eval_data or ("-",)):
            yield "data: a name is empty"
        for name in ("packing_strategy", "padding_free", "eval_packing"):
            if name in self.trl:
                yield f"trl: {name} follows from packing; leave it out"
        for name in ("completion_only_loss", "assistant_only_loss"):
            if name in self.trl:
                yield f"trl: {name} follows from loss_on, which learns the completion's tokens; leave it out"
        yield from super().problems()
