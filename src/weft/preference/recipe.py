"""What one run of preference optimisation is made of: the settings of ``weft align`` and of its YAML files.

Names are TRL's and transformers' where they have one. What is not named here goes by ``trl``, a mapping of
any other field of TRL's `DPOConfig`.

Invariants
    - Values that follow from the loss (beta, learning rate, gamma) are filled in when the settings are made,
      so a recorded run shows what it used.
    - :func:`deciding` holds all that decides the weights; the rest may change between two runs of one output.

This module loads neither torch nor TRL; what TRL makes of a value is found when the run starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from weft.errors import UserError
from weft.preference.policies import Consistent, parse_policy

Loss = Literal[
    "sigmoid",
    "simpo",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
    "sft",
]
"""TRL's loss types, and ours: simpo."""
DType = Literal["auto", "float32", "bfloat16", "float16"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"]

SIMPO = {"beta": 2.0, "gamma_beta_ratio": 0.5}
"""As SimPO's own code starts from, and `SimPOConfig`."""
LORA_FACTOR = 10
"""An adapter takes about ten times the learning rate of all weights, as TRL advises."""

_FREE = {
    *("data", "split", "limit", "eval_data", "eval_split", "eval_steps", "per_device_eval_batch_size"),
    *("logging_steps", "save_steps", "save_total_limit", "report_to", "run_name", "merge_adapter"),
}
"""What may change between two runs of one output; the pairs are compared by their content."""


class AlignSettings(BaseModel):
    """One run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(min_length=1)
    """Hub id or folder of a causal language model; or micro:student, micro:teacher."""
    revision: str | None = None
    dtype: DType | None = None
    """In which the weights are held; ``None``: float32, and with LoRA as they are stored (float32 on a
    processor)."""
    attn_implementation: str | None = None
    """As transformers has it: sdpa, eager, flash_attention_2, ...; shared prompts need sdpa or eager."""

    data: str = Field(min_length=1)
    """JSONL, JSON, CSV or Parquet file; a data set's folder, or hub id (``owner/name:config``)."""
    split: str = "train"
    eval_data: str | None = None
    eval_split: str | None = None
    """Of ``eval_data``, or of ``data`` if that is not given."""
    limit: int | None = Field(None, ge=1)
    """Take only the first pairs."""

    loss_type: tuple[Loss, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] | None = None
    prefix: str = "equal-length"
    """The prefix policy, as :func:`weft.preference.policies.parse_policy` reads it."""
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)
    gamma_beta_ratio: float | None = Field(None, ge=0, allow_inf_nan=False)
    """SimPO's margin in units of beta."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    share_prompt: bool | Literal["auto"] = "auto"
    precompute_ref_log_probs: bool = False

    learning_rate: float = Field(1e-6, gt=0, allow_inf_nan=False)
    per_device_train_batch_size: int = Field(4, ge=1)
    per_device_eval_batch_size: int = Field(8, ge=1)
    gradient_accumulation_steps: int = Field(8, ge=1)
    num_train_epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    max_steps: int = Field(-1, ge=-1)
    max_length: int = Field(2048, ge=2)
    """Tokens of prompt and response; applies after the cut."""
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
    report_to: tuple[str, ...] = ("none",)
    run_name: str | None = None
    trl: dict[str, Any] = Field(default_factory=dict)
    """Any other field of TRL's `DPOConfig`."""

    @property
    def simpo(self) -> bool:
        """Whether the run has no reference."""
        return "simpo" in self.loss_type

    @property
    def evaluation(self) -> tuple[str, str] | None:
        """Data and split to evaluate on."""
        if self.eval_data is None and self.eval_split is None:
            return None
        return self.eval_data or self.data, self.eval_split or "train"

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        for name in ("loss_type", "loss_weights", "report_to", "lora_target_modules"):
            if isinstance(filled.get(name), str | int | float):
                filled[name] = (filled[name],)
        losses = filled.get("loss_type")
        if isinstance(losses, list | tuple) and "simpo" in losses:
            filled = {**SIMPO, **filled}
        if filled.get("lora_r") and "learning_rate" not in filled:
            filled["learning_rate"] = LORA_FACTOR * cls.model_fields["learning_rate"].default
        return filled

    @field_validator("prefix")
    @classmethod
    def _known_policy(cls, value: str) -> str:
        try:
            policy = parse_policy(value)
        except UserError as error:
            raise ValueError(
                f"{error.what}; expected: {error.expected}" if error.expected else error.what
            ) from None
        if isinstance(policy, Consistent):
            raise ValueError(
                "consistent needs a judge of prefixes, which only Python can hand over: "
                "PrefixDPOTrainer(..., prefix='consistent', judge=...)"
            )
        return policy.spec

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := next(self._problems(), None):
            raise ValueError(problem)
        return self

    def _problems(self) -> Any:
        if not self.loss_type:
            yield "loss_type: name a loss"
        if len(set(self.loss_type)) < len(self.loss_type):
            yield "loss_type: one loss stands twice"
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            yield f"loss_weights: {len(self.loss_weights)} weights for {len(self.loss_type)} losses"
        if self.simpo and (others := sorted(set(self.loss_type) - {"simpo", "sft"})):
            yield f"loss_type: simpo has no reference, so it goes only with sft, not with {', '.join(others)}"
        if self.simpo and self.precompute_ref_log_probs:
            yield "precompute_ref_log_probs: simpo has no reference; leave it out"
        if self.gamma_beta_ratio is not None and not self.simpo:
            yield "gamma_beta_ratio: only simpo has a margin; leave it out, or take --loss simpo"
        if "robust" in self.loss_type and self.label_smoothing >= 0.5:
            yield "label_smoothing: robust divides by 1 - 2 label_smoothing; it takes less than 0.5"
        if "exo_pair" in self.loss_type and not self.label_smoothing:
            yield "label_smoothing: exo_pair needs one above 0; its paper takes 0.001"
        if not self.lora_r:
            for name in ("lora_alpha", "lora_dropout", "lora_target_modules", "merge_adapter"):
                if getattr(self, name):
                    yield f"{name} says nothing without lora_r: give lora_r, too, say 16"
        if self.eval_steps is not None and self.evaluation is None:
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


def _finite(value: Any) -> bool:
    """Whether all numbers in it are numbers."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def deciding(settings: AlignSettings) -> dict[str, Any]:
    """What decides the weights, as JSON can hold it."""
    return settings.model_dump(mode="json", exclude=_FREE)
