"""Which settings of TRL's and which prefix policies go together."""

from __future__ import annotations

from typing import Any

from weft.errors import UserError
from weft.preference.policies import PrefixPolicy, Weighing, Whole, redraws


def check_settings(policy: PrefixPolicy, args: Any, *, own_collator: bool, prompt_learning: bool) -> None:
    """Says no to what would silently compute something else.

    Args:
        args: TRL's `DPOConfig`, or ``None`` for its defaults.
        own_collator: the caller brings a data collator.
        prompt_learning: the adapter puts virtual tokens before the prompt.

    Raises:
        UserError: with the reason and the remedy.
    """
    if isinstance(policy, Whole):
        return
    where = f"prefix={policy.spec}"
    if own_collator:
        raise UserError(
            "a data collator of your own does not know the weights of evaluation rows",
            where=where,
            remedy="leave out data_collator, or take prefix='none'",
        )
    if prompt_learning and (isinstance(policy, Weighing) or redraws(policy)):
        raise UserError(
            "a prompt-learning adapter feeds embeddings, in which weighed tokens cannot be told apart",
            where=where,
            remedy="take a policy that cuts, such as equal-length, or LoRA",
        )
    if args is None:
        return
    if args.ld_alpha is not None:
        raise UserError(
            f"ld_alpha={args.ld_alpha:g} weighs the tails that this policy cuts or weighs already",
            where=where,
            remedy=f"leave out ld_alpha; prefix='tail:{args.ld_alpha:g}' is the same method",
        )
    if args.truncation_mode == "keep_end":
        raise UserError(
            "truncation_mode='keep_end' throws away the prefixes that the policy keeps",
            where=where,
            remedy="leave out truncation_mode",
        )
    if args.use_weighting and isinstance(policy, Weighing) and not policy.is_mask:
        raise UserError(
            "use_weighting (WPO) takes a mean of log-probs, which weights between 0 and 1 would enter twice",
            where=where,
            remedy="leave out use_weighting, or take a policy that cuts",
        )
    if redraws(policy) and args.precompute_ref_log_probs:
        raise UserError(
            "precompute_ref_log_probs keeps the first epoch's draw, and the policy draws anew in every epoch",
            where=where,
            remedy=f"prefix={policy.spec.removesuffix('@epoch')!r}, or leave out precompute_ref_log_probs",
        )
