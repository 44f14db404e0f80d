"""What one run of preference optimisation is made of: the settings of ``weft align`` and of its YAML files.

Names are TRL's and transformers' where they have one. What is not named here goes by ``trl``, a mapping of
any other field of TRL's `DPOConfig`. Values that follow from the loss (beta, learning rate, gamma) are filled
in when the settings are made.

This module loads neither torch nor TRL; what TRL makes of a value is found when the run starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from weft.errors import UserError
from weft.preference.policies import Consistent, parse_policy
from weft.training.settings import TrainingSettings

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

SIMPO = {"beta": 2.0, "gamma_beta_ratio": 0.5}
"""As SimPO's own code starts from, and `SimPOConfig`."""


class AlignSettings(TrainingSettings):
    """One run."""

    texts: ClassVar[tuple[str, ...]] = (*TrainingSettings.texts, "loss_type", "loss_weights")

    data: str = Field(min_length=1)
    """JSONL, JSON, CSV or Parquet file; a data set's folder, or hub id (``owner/name:config``)."""
    eval_data: str | None = None

    loss_type: tuple[Loss, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] | None = None
    prefix: str = "equal-length"
    """The prefix policy, as :func:`weft.preference.policies.parse_policy` reads it."""
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)
    gamma_beta_ratio: float | None = Field(None, ge=0, allow_inf_nan=False)
    """SimPO's margin in units of beta."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    share_prompt: bool | Literal["auto"] = "auto"
    """Needs an ``attn_implementation`` of sdpa or eager."""
    precompute_ref_log_probs: bool = False
    max_length: int = Field(2048, ge=2)
    """Tokens of prompt and response; applies after the cut."""

    @property
    def simpo(self) -> bool:
        """Whether the run has no reference."""
        return "simpo" in self.loss_type

    @property
    def evaluation(self) -> tuple[str, str] | None:
        """Data and split to evaluate on."""
        return (self.eval_data or self.data, self.eval_split or "train") if self.evaluates else None

    @classmethod
    def completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """With what follows from the loss."""
        losses = given.get("loss_type")
        if isinstance(losses, list | tuple) and "simpo" in losses:
            given = {**SIMPO, **given}
        return super().completed(given)

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

    def problems(self) -> Iterator[str]:
        """What contradicts itself."""
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
        yield from super().problems()
