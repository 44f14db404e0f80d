"""`PrefixDPOTrainer`: TRL's stable `DPOTrainer`, whose losses see prefixes of the responses.

All that TRL does is done by TRL: tokenising, the losses, the reference, checkpoints. Added are three things.
The policy is applied to the data set (``rows.py``); the batch and the forward carry weights where a policy
weighs (``collator.py``, ``forward.py``); and each step is measured by prefix length (``metrics.py``).

Invariants
    - ``prefix="none"`` gives the losses of `DPOTrainer` to the last digit.
    - Evaluation rows stay whole and a cut is applied to them as weights, so what is reported after the policy
      and what is reported for whole responses (``eval_uncut/...``) come from the same pairs as in a run
      without a cut.
    - Policy and reference see the same tokens with the same weights, precomputed or not.
    - Likelihood terms (``sft``) see the chosen response before the cut.

It does not know which policy suits the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from weft.errors import RunError, UserError
from weft.preference.applying import POLICY, ROW
from weft.preference.checking import check_columns, first_row
from weft.preference.collator import SFT, Draw, Epochs, PrefixCollator
from weft.preference.forward import Forward, install
from weft.preference.metrics import Rewards, Tally, bad_pairs, by_prefix, drift, lengths, prefix_rewards, same
from weft.preference.policies import Judge, PrefixPolicy, Weighing, Whole, parse_policy, redraws
from weft.preference.rows import COLUMNS, Plan, prepare, stamped
from weft.preference.settings import check_settings
from weft.training.ending import EndsOnce


@dataclass
class Step:
    """What the forwards of one step found. Nats per token, ``[R, T - 1]``, detached and unweighted."""

    policy: Tensor | None = None
    reference: Tensor | None = None


class PrefixDPOTrainer(EndsOnce, DPOTrainer):  # type: ignore[misc]
    """TRL's `DPOTrainer` with a prefix policy.

    Takes every argument of its parent, in the same order, and besides:

    Args:
        prefix: the policy, as :func:`weft.preference.policies.parse_policy` reads it. ``None`` is the one by
            which :func:`weft.preference.cut` cut the training rows, and for other rows ``equal-length``
            (POET).
        judge: for ``consistent``.
        share_prompt: run prompt, chosen and rejected of a pair in one packed row: ``True``, ``False``, or
            ``"auto"`` (where it pays, and never with ``prefix="none"``, which leaves TRL's way alone).
        tell: takes one line at a time, on the main process.

    Raises:
        UserError: a setting, a column or a row cannot be used; or settings contradict each other.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "dpo", "weft"]
    _rewards_are_means: ClassVar[bool] = False
    data_collator: Any
    loss_types: list[str]
    loss_weights: list[float]

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: DPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Callable[..., Any] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        *,
        prefix: str | PrefixPolicy | None = None,
        judge: Judge | None = None,
        share_prompt: bool | Literal["auto"] = "auto",
        tell: Callable[[str], None] = print,
    ) -> None:
        if train_dataset is None:
            raise UserError("there is no training data", remedy="pass train_dataset=...")
        first = first_row(train_dataset, "training")
        # TRL prepares no data set of images, so what `prepare` checks would not be checked.
        check_columns(first, "training")
        self.prefix = _policy_of(prefix, first)
        self._judge, self._tell, self._share = judge, tell, share_prompt
        self._prompt_learning = _learns_prompts(model, peft_config)
        check_settings(
            self.prefix, args, own_collator=data_collator is not None, prompt_learning=self._prompt_learning
        )
        self._training_prepared = self._installed = False
        self._tally = Tally()
        self._policy_forward: Forward | None = None
        self._reference_forward: Forward | None = None
        super().__init__(
            model,
            ref_model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            processing_class,
            compute_metrics,
            callbacks,
            optimizers,
            quantization_config,
            peft_config,
        )
        self._install()
        self._take_likelihood()

    # --- data -----------------------------------------------------------------------------------------------

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str
    ) -> Any:
        # TRL names the training data "train", but evaluation data may bear that name too.
        training, self._training_prepared = not self._training_prepared, True
        name = "training" if training else f"evaluation ({dataset_name})"
        self._check_column(dataset, name)
        plan = Plan(
            self.prefix,
            name,
            args.max_length,
            evaluation=not training,
            cuts_evaluation=self._prompt_learning,
            keeps_uncut="sft" in args.loss_type and not isinstance(self.prefix, Whole),
            processes=args.dataset_num_proc,
        )

        def tokenise(rows: Any) -> Any:
            if self._tokenizer.eos_token is None:
                raise UserError(
                    "the tokenizer has no end-of-sequence token",
                    remedy="set tokenizer.eos_token to the model's",
                )
            return super(PrefixDPOTrainer, self)._prepare_dataset(rows, processing_class, args, dataset_name)

        rows = prepare(dataset, plan, tokenise, self._tokenizer, judge=self._judge, tell=self._tell)
        if plan.keeps_uncut and "chosen_uncut_ids" not in first_row(rows, name):
            raise UserError(
                "the loss type `sft` needs the chosen responses before the cut",
                where=f"{name} data",
                remedy="cut(..., keep_uncut=True)",
            )
        return rows

    def _check_column(self, dataset: Any, name: str) -> None:
        cut_by = first_row(dataset, name).get(POLICY)
        if cut_by is not None and isinstance(dataset, Dataset):
            cut_by = " and ".join(sorted({str(one or "nothing") for one in dataset.unique(POLICY)}))
        if cut_by is not None and cut_by != self.prefix.spec:
            raise UserError(
                f"the data set was cut by {cut_by}, and prefix={self.prefix.spec} is asked for",
                where=f"{name} data",
                expected="rows that were not cut, or cut by the same policy",
                remedy="leave out prefix=, or start again from the raw rows",
            )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in COLUMNS if name not in self._signature_columns]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        # TRL does this inside its constructor, and the weights have to be known by then.
        self._install()
        args = self.args
        known = stamped(dataset, args.max_length, args.truncation_mode, args.ld_alpha, args.bf16, args.fp16)
        return super()._precompute_ref_logps(known, name, batch_size)

    # --- model ----------------------------------------------------------------------------------------------

    def _install(self) -> None:
        """Puts collator and forward in place, once."""
        if self._installed:
            return
        self._installed = True
        own = self.data_collator
        if type(own) is DataCollatorForPreference:
            self.data_collator = PrefixCollator(
                pad_token_id=own.pad_token_id,
                max_length=own.max_length,
                truncation_mode=own.truncation_mode,
                pad_to_multiple_of=own.pad_to_multiple_of,
                draw=self._draw(),
            )
        share = False if self._share == "auto" and isinstance(self.prefix, Whole) else self._share
        tell = self._tell if self.accelerator.is_main_process else _silent
        self._policy_forward = install(
            self.accelerator.unwrap_model(self.model), share_prompt=share, tell=tell
        )
        self._reference_forward = self._policy_forward
        if self.ref_model is not None:
            self._reference_forward = install(
                self.accelerator.unwrap_model(self.ref_model), share_prompt=share, tell=_silent
            )

    def _draw(self) -> Draw | None:
        if not redraws(self.prefix):
            return None
        epoch = torch.zeros(1, dtype=torch.long).share_memory_()  # type: ignore[no-untyped-call]
        self.add_callback(Epochs(epoch))
        return Draw(self.prefix, self.args.max_length, "sft" in self.loss_types, epoch)

    def _take_likelihood(self) -> None:
        """TRL's `sft` would see the cut response, so that term is taken from it and computed here."""
        self._likelihood = 0.0
        if isinstance(self.prefix, Whole) or "sft" not in self.loss_types:
            return
        terms = list(zip(self.loss_types, self.loss_weights, strict=True))
        self._likelihood = sum(weight for name, weight in terms if name == "sft")
        self.loss_types = [name for name, _ in terms if name != "sft"]
        self.loss_weights = [weight for name, weight in terms if name != "sft"]

    # --- a step ---------------------------------------------------------------------------------------------

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """TRL's, for batches that hold more than TRL's keys."""
        return super().compute_ref_log_probs(model, _of_pairs(inputs))

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any], return_outputs: bool) -> Any:
        assert self._policy_forward is not None
        mode = "train" if self.model.training else "eval"
        pairs, step = _of_pairs(inputs), Step()
        forward = self._policy_forward

        def policy(**kwargs: Any) -> Any:
            outputs = model(**kwargs)
            # Under PEFT the same forward serves the reference next.
            step.policy = forward.last if step.policy is None else step.policy
            return outputs

        result = self._pair_loss(policy, pairs, return_outputs)
        loss = result[0] if return_outputs else result
        if self._reference_forward is not None and not self.precompute_ref_logps:
            step.reference = self._reference_forward.last
        if self._likelihood and SFT + "input_ids" in inputs:
            loss = loss + self._likelihood * self._likelihood_loss(model, inputs)
        self._check_finite(loss, step, inputs)
        with torch.no_grad():
            self._measure(mode, step, pairs)
        return (loss, result[1]) if return_outputs else loss

    def _pair_loss(self, model: Callable[..., Any], pairs: Mapping[str, Any], return_outputs: bool) -> Any:
        """The loss of the batch's pairs: TRL's."""
        return super()._compute_loss(model, pairs, return_outputs)

    def _likelihood_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Mean over the tokens of the uncut chosen responses, in nats, as TRL's `sft`."""
        mask = inputs[SFT + "completion_mask"]
        outputs = model(
            input_ids=inputs[SFT + "input_ids"],
            attention_mask=inputs[SFT + "attention_mask"],
            labels=inputs[SFT + "input_ids"].masked_fill(mask == 0, -100),
            use_cache=False,
            fused_lm_head=True,
        )
        log_probs: Tensor = outputs.log_probs[:, -(mask.size(1) - 1) :]
        return -log_probs[mask[:, 1:].bool()].mean()

    def _check_finite(self, loss: Any, step: Step, inputs: Mapping[str, Any]) -> None:
        if not isinstance(loss, Tensor) or bool(torch.isfinite(loss)):
            return
        sums = {}
        for name, values in (("policy", step.policy), ("reference", step.reference)):
            if values is not None:
                sums[f"{name}, chosen"], sums[f"{name}, rejected"] = values.sum(dim=1).chunk(2)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in inputs:
                sums[name] = inputs[name]
        bad, names = bad_pairs(sums)
        numbers = inputs[ROW].tolist() if ROW in inputs else list(range(len(next(iter(sums.values())))))
        rows = [numbers[pair] for pair in bad] or numbers
        raise RunError(
            f"the loss is {loss.item()}",
            where=f"step {self.state.global_step}, rows {', '.join(map(str, rows))}"
            + (f" (not a number: {'; '.join(names)})" if names else ""),
            expected="a number",
            remedy="lower learning_rate, set max_grad_norm, look at these rows, take bf16 rather than fp16",
        )

    # --- measuring ------------------------------------------------------------------------------------------

    def _token_scores(self, step: Step, tokens: int) -> Tensor | None:
        """The reward of each response token, ``[R, T - 1]``; ``None`` where only sums are known."""
        if step.policy is None or step.reference is None:
            return None
        rewards: Tensor = self.beta * (step.policy[:, -tokens:] - step.reference[:, -tokens:])
        return rewards

    def _measure(self, mode: str, step: Step, pairs: Mapping[str, Any]) -> None:
        weights, ids = pairs["completion_mask"][:, 1:], pairs["input_ids"][:, 1:]
        response = pairs["response_mask"][:, 1:] if "response_mask" in pairs else weights
        scores = self._token_scores(step, weights.size(1))
        found: dict[str, Tensor | None] = {
            **by_prefix(scores, response, mean=self._rewards_are_means, ids_RT=ids),
            **lengths(weights),
        }
        sums = self._sums(step, pairs, weights)
        if sums is not None:
            moved = drift(*sums, weights.sum(dim=1)).chunk(2)
            found |= {"drift/chosen": moved[0], "drift/rejected": moved[1]}
        if mode == "eval" and self._sees_whole(pairs) and scores is not None:
            uncut = prefix_rewards(scores, response, None, mean=self._rewards_are_means)
            found["uncut/rewards/accuracies"] = found["rewards/accuracies@all"]
            found["uncut/rewards/margins"] = uncut.margin
            found |= {f"uncut/{name}": value for name, value in lengths(response).items()}
        rewards = None if isinstance(self.prefix, Whole) else self._rewards(step, pairs, weights)
        if rewards is not None:
            # TRL's counts pairs as wrong that have no token left in which they differ.
            self._metrics[mode]["rewards/accuracies"].pop()
            right = Rewards(*rewards.chunk(2)).accuracy
            found["rewards/accuracies"] = right.masked_fill(same(ids, weights), float("nan"))
        known = {name: values for name, values in found.items() if values is not None}
        self._tally.note(mode, self._metrics[mode], known, self.accelerator.gather)
        if weights.is_floating_point():
            self._mend_means(mode, weights)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; but means are over pairs where some were left out, and in evaluations after a policy."""
        mode = "train" if self.model.training else "eval"
        every = mode == "eval" and not isinstance(self.prefix, Whole)
        self._tally.weigh(mode, self._metrics[mode], every=every)
        super().log(logs, start_time)

    def _sums(self, step: Step, pairs: Mapping[str, Any], weights: Tensor) -> tuple[Tensor, Tensor] | None:
        """Weighted log-probs of the responses under policy and reference, ``[R]`` in nats."""
        if step.policy is None:
            return None
        policy = (step.policy[:, -weights.size(1) :] * weights).sum(dim=1)
        if step.reference is not None:
            return policy, (step.reference[:, -weights.size(1) :] * weights).sum(dim=1)
        if "ref_chosen_logps" in pairs:
            return policy, torch.cat([pairs["ref_chosen_logps"], pairs["ref_rejected_logps"]])
        return None

    def _rewards(self, step: Step, pairs: Mapping[str, Any], weights: Tensor) -> Tensor | None:
        """Rewards of the responses as the loss sees them, ``[R]``."""
        sums = self._sums(step, pairs, weights)
        return None if sums is None else self.beta * (sums[0] - sums[1])

    def _sees_whole(self, pairs: Mapping[str, Any]) -> bool:
        return "response_mask" in pairs or isinstance(self.prefix, Whole | Weighing)

    def _mend_means(self, mode: str, weights: Tensor) -> None:
        """TRL divides by summed weights what is meant as a mean over tokens."""
        totals = torch.stack(
            [value for side in weights.chunk(2) for value in (side.sum(), (side != 0).sum())]
        )
        chosen, chosen_tokens, rejected, rejected_tokens = (
            self.accelerator.gather(totals[None]).sum(dim=0).clamp(min=1e-9).tolist()
        )
        metrics = self._metrics[mode]
        metrics["mean_token_accuracy"][-1] *= chosen / chosen_tokens
        metrics["logits/chosen"][-1] *= chosen / chosen_tokens
        metrics["logits/rejected"][-1] *= rejected / rejected_tokens


def _silent(_: str) -> None: ...


def _of_pairs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without what neither TRL nor a model knows."""
    return {name: value for name, value in inputs.items() if name != ROW and not name.startswith(SFT)}


def _policy_of(prefix: str | PrefixPolicy | None, first: Mapping[str, Any]) -> PrefixPolicy:
    return parse_policy(first.get(POLICY, "equal-length") if prefix is None else prefix)


def _learns_prompts(model: Any, peft_config: Any) -> bool:
    config = peft_config
    if config is None and isinstance(model, torch.nn.Module) and is_peft_model(model):
        config = model.active_peft_config
    return bool(getattr(config, "is_prompt_learning", False))
