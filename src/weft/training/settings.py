"""What every training run by TRL is told: model, weights, optimiser, adapter, run.

Names are TRL's and transformers'. What is not named goes by ``trl``, a mapping of any other field of TRL's
config.

Invariants
    - A value that follows from others is filled in when the settings are made, so a recorded run shows what
      it used.
    - :func:`deciding` holds all that decides the weights; the rest may change between two runs of one output.

This module loads neither torch nor TRL; what TRL makes of a value is found when the run starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.errors import UserError
from weft.publishing.licence import licence_fields

DType = Literal["auto", "float32", "bfloat16", "float16"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"]

LORA_FACTOR = 10
"""An adapter takes about ten times the learning rate of all weights, as TRL advises."""


class TrainingSettings(BaseModel):
    """What all training commands share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    texts: ClassVar[tuple[str, ...]] = ("report_to", "lora_target_modules")
    """Settings that hold several values, of which one may stand alone."""
    free: ClassVar[frozenset[str]] = frozenset(
        {
            *("split", "limit", "eval_split", "eval_steps", "per_device_eval_batch_size", "logging_steps"),
            *("save_steps", "save_total_limit", "report_to", "run_name", "merge_adapter"),
            *("data", "eval_data", "license"),
        }
    )
    """What may change between two runs of one output; data are compared by their content."""

    model: str = Field(min_length=1)
    """Hub id or folder of a causal language model; or micro:student, micro:teacher."""
    revision: str | None = None
    dtype: DType | None = None
    """In which the weights are held; ``None``: float32, and with LoRA as they are stored (float32 on a
    processor)."""
    attn_implementation: str | None = None
    """As transformers has it: sdpa, eager, flash_attention_2, ..."""

    split: str = "train"
    eval_split: str | None = None
    """Of ``eval_data``, or of ``data`` if that is not given."""
    limit: int | None = Field(None, ge=1)
    """Take only the first rows."""

    learning_rate: float = Field(1e-6, gt=0, allow_inf_nan=False)
    per_device_train_batch_size: int = Field(4, ge=1)
    per_device_eval_batch_size: int = Field(8, ge=1)
    gradient_accumulation_steps: int = Field(8, ge=1)
    num_train_epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    max_steps: int = Field(-1, ge=-1)
    lr_scheduler_type: Scheduler = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, ge=0, allow_inf_nan=False)
    optim: str | None = None
    """Transformers' name of an optimizer, such as adamw_8bit; ``None``: its default."""
    bf16: bool | None = None
    """Mixed precision; ``None``: on a GPU that has it."""
    gradient_checkpointing: bool = True
    seed: int = Field(0, ge=0, lt=2**32)

    lora_r: int = Field(0, ge=0)
    """LoRA's rank; 0 trains all weights."""
    lora_alpha: float | None = Field(None, gt=0, allow_inf_nan=False)
    """``None``: twice the rank."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_target_modules: tuple[str, ...] | None = None
    """``None``: all linear layers but the head."""
    merge_adapter: bool = False
    """Leave a plain model, the adapter added to its weights."""

    logging_steps: int = Field(10, ge=1)
    eval_steps: int | None = Field(None, ge=1)
    """``None``: one evaluation, at the end."""
    save_steps: int = Field(100, ge=1)
    save_total_limit: int = Field(1, ge=1)
    report_to: tuple[str, ...] = ("auto",)
    """Trackers by transformers' names; auto is trackio where it is installed, none is none."""
    run_name: str | None = None
    license: str | None = None
    """Of the model that is made, for its card: an identifier of the hub's, such as apache-2.0."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's config."""

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        return bool(getattr(self, "eval_data", None)) or self.eval_split is not None

    @classmethod
    def completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What follows from what was given; a subclass adds its own."""
        if given.get("lora_r") and "learning_rate" not in given:
            given["learning_rate"] = LORA_FACTOR * cls.model_fields["learning_rate"].default
        return given

    def problems(self) -> Iterator[str]:
        """What contradicts itself, the gravest first; a subclass adds its own."""
        if not self.lora_r:
            for name in ("lora_alpha", "lora_dropout", "lora_target_modules", "merge_adapter"):
                if getattr(self, name):
                    yield f"{name} says nothing without lora_r: give lora_r, too, say 16"
        if self.eval_steps is not None and not self.evaluates:
            yield "eval_steps: there is nothing to evaluate on; give eval_data or eval_split"
        if self.max_steps == 0:
            yield "max_steps of 0 trains nothing: give a number of steps, or -1 for whole epochs"
        if known := sorted(
            set(self.trl) & {*type(self).model_fields, "output_dir", "resume_from_checkpoint"}
        ):
            yield f"trl: {', '.join(known)} is set by itself, not under trl"
        for name, value in self.trl.items():
            if not _finite(value):
                yield f"trl: {name} holds a number that is none ({value}), which no manifest can keep"

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        for name in cls.texts:
            if isinstance(filled.get(name), str | int | float):
                filled[name] = (filled[name],)
        return cls.completed(filled)

    @field_validator("license")
    @classmethod
    def _known_licence(cls, value: str | None) -> str | None:
        try:
            licence_fields(value)
        except UserError as error:
            raise ValueError(f"{error.what}; expected {error.expected}") from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := next(self.problems(), None):
            raise ValueError(problem)
        return self


def _finite(value: Any) -> bool:
    """Whether all numbers in it are numbers."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def deciding(settings: TrainingSettings) -> dict[str, Any]:
    """What decides the weights, as JSON can hold it."""
    return settings.model_dump(mode="json", exclude=set(settings.free))
