"""`SimPOTrainer`: preference optimisation without a reference, normalised by length.

That is SimPO (arXiv 2405.14734). The reward of a response is beta times its mean log-probability per token
under the policy alone, and a pair is learned until chosen exceeds rejected by a margin. It shares data,
policies, forward and measuring with :class:`weft.preference.PrefixDPOTrainer`, and so TRL's stable trainer.

Invariants
    - No reference model is loaded or run.
    - The mean is over the tokens that the policy keeps; where it weighs, over their summed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from trl import DPOConfig

from weft.errors import UserError
from weft.preference.losses import mean_per_token, simpo_loss
from weft.preference.trainer import PrefixDPOTrainer, Step


@dataclass
class SimPOConfig(DPOConfig):  # type: ignore[misc]
    """TRL's `DPOConfig` with SimPO's margin and the paper's scale of beta."""

    beta: float = field(
        default=2.0, metadata={"help": "Scale of the reward, the mean log-probability per token."}
    )
    gamma_beta_ratio: float = field(
        default=0.5,
        metadata={"help": "Target margin between the rewards of chosen and rejected, in units of beta."},
    )
    loss_type: list[str] = field(
        default_factory=lambda: ["simpo"],
        metadata={"help": "`'simpo'`, and `'sft'` beside it for a likelihood term on the chosen response."},
    )


class _NoReference(nn.Module):
    """Stands where TRL's constructor wants a reference model, so that it loads none; dropped right after."""

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig()
        # What shards or moves models wants to find a parameter.
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("SimPO has no reference to run")


class SimPOTrainer(PrefixDPOTrainer):
    """SimPO on TRL's stable trainer, with a prefix policy.

    Takes the arguments of :class:`PrefixDPOTrainer` but for ``ref_model``; ``args`` is a
    :class:`SimPOConfig`.

    Raises:
        UserError: a setting wants a reference, or as :class:`PrefixDPOTrainer`.
    """

    _name = "SimPO"
    _rewards_are_means: ClassVar[bool] = True
    _tag_names: ClassVar[list[str]] = ["trl", "simpo", "weft"]
    _paper: ClassVar[dict[str, str]] = {
        "title": "SimPO: Simple Preference Optimization with a Reference-Free Reward",
        "id": "2405.14734",
    }

    def __init__(
        self, model: Any, ref_model: Any = None, args: SimPOConfig | None = None, *others: Any, **named: Any
    ) -> None:
        if args is None:
            args = SimPOConfig("simpo")
        _check(args, ref_model)
        super().__init__(model, _NoReference(), args, *others, **named)

    def _install(self) -> None:
        self.ref_model = None
        super()._install()
        self._reference_forward = None

    def _pair_loss(self, model: Callable[..., Any], pairs: Mapping[str, Any], return_outputs: bool) -> Any:
        inputs = {name: value for name, value in pairs.items() if name != "completion_mask"}
        weights = pairs["completion_mask"]
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        labels = pairs["input_ids"].masked_fill(weights == 0, -100)
        outputs = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
        weights = weights[:, 1:]
        log_probs = outputs.log_probs[:, -weights.size(1) :]
        chosen, rejected = mean_per_token(log_probs, weights).chunk(2)
        loss = log_probs.new_zeros(())
        for name, weight in zip(self.loss_types, self.loss_weights, strict=True):
            if name == "sft":
                # Responses that were not cut; the trainer takes the term to itself where they were.
                side = slice(log_probs.size(0) // 2)
                loss = loss - weight * log_probs[side].sum() / weights[side].sum().clamp(min=1)
            else:
                each = simpo_loss(
                    chosen,
                    rejected,
                    beta=self.beta,
                    gamma_beta_ratio=self.args.gamma_beta_ratio,
                    label_smoothing=self.label_smoothing,
                )
                loss = loss + weight * each.mean()
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        with torch.no_grad():
            self._note(outputs, log_probs, weights, pairs)
        return (loss, model(**inputs, use_cache=False)) if return_outputs else loss

    def _note(self, outputs: Any, log_probs: Tensor, weights: Tensor, pairs: Mapping[str, Any]) -> None:
        """What TRL notes of a step, as far as it is defined without a reference."""
        mode = "train" if self.model.training else "eval"
        metrics, gather = self._metrics[mode], self.accelerator.gather
        sums = log_probs.detach().sum(dim=1).chunk(2)
        chosen, rejected = (self.beta * side for side in mean_per_token(log_probs.detach(), weights).chunk(2))
        found = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "rewards/margins": chosen - rejected,
            "logps/chosen": sums[0],
            "logps/rejected": sums[1],
        }
        for name, values in found.items():
            metrics[name].append(gather(values).mean().item())
        entropy = (outputs.entropy[:, -weights.size(1) :] * weights).sum()
        totals = gather(torch.stack([entropy, weights.sum().to(entropy)])[None]).sum(dim=0)
        metrics["entropy"].append((totals[0] / totals[1].clamp(min=1e-9)).item())
        if mode == "train":
            tokens = gather(pairs["attention_mask"].sum()).sum().item()
            self._total_train_tokens += tokens // self._tp_size
        metrics["num_tokens"] = [self._total_train_tokens]

    def _token_scores(self, step: Step, tokens: int) -> Tensor | None:
        return None if step.policy is None else self.beta * step.policy[:, -tokens:]

    def _rewards(self, step: Step, pairs: Mapping[str, Any], weights: Tensor) -> Tensor | None:
        if step.policy is None:
            return None
        rewards: Tensor = self.beta * mean_per_token(step.policy[:, -weights.size(1) :] * weights, weights)
        return rewards

    def _mend_means(self, mode: str, weights: Tensor) -> None:
        """Nothing to mend: none of TRL's means over tokens is noted here."""


def _check(args: Any, ref_model: Any) -> None:
    where = "SimPOTrainer"
    if not isinstance(args, SimPOConfig):
        raise UserError(
            f"args is a {type(args).__name__}",
            where=where,
            expected="a SimPOConfig, which has gamma_beta_ratio",
        )
    others = [name for name in args.loss_type if name not in ("simpo", "sft")]
    if others or "simpo" not in args.loss_type:
        raise UserError(
            f"loss_type is {', '.join(args.loss_type)}",
            where=where,
            expected="simpo, or simpo and sft",
            remedy="take PrefixDPOTrainer for TRL's losses",
        )
    wants = {
        "a reference model was passed": ref_model is not None,
        "precompute_ref_log_probs is set": args.precompute_ref_log_probs,
        "sync_ref_model is set": args.sync_ref_model,
        f"f_divergence_type={args.f_divergence_type} compares with a reference": args.f_divergence_type
        != "reverse_kl",
        "use_weighting is set, which is DPO's": args.use_weighting,
        "ld_alpha is set, which is DPO's": args.ld_alpha is not None,
    }
    for what, asked in wants.items():
        if asked:
            raise UserError(what, where=where, expected="SimPO has no reference", remedy="leave it out")
