"""The fused forward of TRL, wrapped: weights on log-probs, and no position computed twice or in vain.

:func:`install` goes between TRL's trainer and the forward that ``trl.trainer.utils.add_fused_lm_head`` gave
to a model. Only calls with ``fused_lm_head=True`` are touched; generation and everything else pass through.
Padded rows come in and TRL's output for padded rows goes out, so the trainer's losses and metrics need to
know nothing.

In between, where it can be done (:mod:`weft.preference.fallback`), pairs are laid out anew as
:mod:`weft.preference.layout` says: what both sequences of a pair begin with stands once, and nothing is
padded. The backbone gets a mask of four dimensions and positions of its own; which layers it has does not
matter. A hook keeps of its hidden states only those from which a scored token is predicted, so that TRL's
head, which is called as it is, projects nothing else.

On a processor each row is a call of its own. On other devices, and where several processes work on one model,
all rows go in one call: processes that shard a model must call it equally often.

Shape suffixes as in :mod:`weft.preference.layout`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from trl.trainer.utils import FusedCausalLMOutput

from weft.preference import fallback, layout
from weft.preference.layout import IGNORED, Call, Plan

SharePrompt = bool | Literal["auto"]
WORTH = 0.9
"""``auto`` shares where it leaves at most this part of the positions: a mask costs a little, too."""
TRIAL = (19, 11, 14)
"""Tokens of the trial pair: prompt, chosen, rejected."""
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


class Forward:
    """What :func:`install` put in place of a model's forward, and what its last call found."""

    def __init__(
        self,
        model: Any,
        before: Callable[..., Any],
        *,
        share_prompt: SharePrompt,
        tell: Callable[[str], None],
    ) -> None:
        self._model, self._before = model, before
        self._share_prompt: SharePrompt = share_prompt
        self._tell, self._told = tell, set[str]()
        self._tried, self._against = False, fallback.of_model(model) if share_prompt else None
        self.last: torch.Tensor | None = None
        """Log-probs of the last call, unweighted and detached. Nats, ``[R, S]``"""
        self.positions = 0
        """Tokens that went through the backbone in the last call, padding included."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        weights_RT = kwargs.pop("token_weights", None)
        response_RT = kwargs.pop("response_mask", None)
        if not kwargs.get("fused_lm_head", False):
            return self._before(*args, **kwargs)
        if response_RT is not None:
            kwargs["labels"] = kwargs["input_ids"].masked_fill(response_RT == 0, IGNORED)
        plan = self._plan(args, kwargs) if self._share_prompt else None
        if plan is None:
            output, self.positions = self._before(*args, **kwargs), _padded(kwargs)
        else:
            output, self.positions = self._run(plan, **kwargs), plan.positions
        self.last = output.log_probs.detach()
        if weights_RT is not None:
            # Prompt-learning adapters put virtual tokens in front of each row.
            front = output.log_probs.size(1) - weights_RT.size(1) + 1
            weights = nn.functional.pad(weights_RT[:, 1:], (front, 0))
            output.log_probs = output.log_probs * weights.to(output.log_probs)
        return output

    # -- whether to share --

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """How the call is laid out; ``None`` for TRL's way, and why is said."""
        # The trial comes with the first call whatever that brings: so all processes have it at the same time.
        self._against = self._against or self._try()
        reason = self._against or fallback.of_call(args, kwargs)
        if reason is not None:
            self._say_once("prompts are not shared", reason)
            return None
        plan = layout.lay_out(
            kwargs["input_ids"], kwargs["attention_mask"], kwargs["labels"], together=self._together
        )
        if isinstance(plan, str):
            self._say_once("prompts are not shared in a batch", plan)
            return None
        size, padded = fallback.window(self._model), _padded(kwargs)
        if size is not None and plan.longest > size:
            why = f"a sequence of {plan.longest:,} tokens passes the model's window of {size:,}"
        elif self._share_prompt == "auto" and plan.positions > WORTH * padded:
            why = f"that would take {plan.positions:,} positions in place of {padded:,}"
        else:
            change = f"{plan.positions:,} positions in place of {padded:,} in this batch"
            self._say_once("prompts are shared and pairs packed", change)
            return plan
        self._say_once("prompts are not shared in a batch", why)
        return None

    def _say_once(self, what: str, why: str) -> None:
        # Lengths differ from batch to batch: a reason is known by its words.
        words = what + "".join(letter for letter in why if not letter.isdigit() and letter != ",")
        if words not in self._told:
            self._told.add(words)
            self._tell(f"{what}: {why}")

    @property
    def _together(self) -> bool:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        return self._device.type != "cpu" or (several and torch.distributed.get_world_size() > 1)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.get_input_embeddings().weight.device
        return device

    def _try(self) -> str | None:
        """Why the model cannot share prompts, as a trial pair shows. It is run once."""
        if self._tried:
            return None
        self._tried = True
        size = fallback.window(self._model)
        if size is not None and size < TRIAL[0] + max(TRIAL[1:]):
            return f"the model has windows of {size} tokens"
        ids_RT, mask_RT, labels_RT = _trial(self._model, self._device)
        plan = layout.lay_out(ids_RT, mask_RT, labels_RT, together=True)
        assert isinstance(plan, Plan)
        padded = {"attention_mask": mask_RT, "use_cache": False, "fused_lm_head": True}
        try:
            with torch.no_grad(), _evaluating(self._model):
                plain, shared, leaking = (
                    output.log_probs[labels_RT[:, 1:] != IGNORED].float()
                    for output in (
                        self._before(input_ids=ids_RT, labels=labels_RT, **padded),
                        self._run(plan, input_ids=ids_RT, labels=labels_RT),
                        self._run(plan, input_ids=ids_RT, labels=labels_RT, keep_apart=False),
                    )
                )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return f"the model refused a trial pair ({type(error).__name__}: {str(error).strip()[:200]})"
        return fallback.of_trial(plain, shared, leaking, exact=self._exact())

    def _exact(self) -> bool:
        """Whether all is computed in plain float32: no autocast, no TF32."""
        return (
            self._device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and "_original_forward" not in vars(self._model)  # accelerate's, which turns autocast on below
            and all(weight.dtype == torch.float32 for weight in self._model.parameters())
        )

    # -- the shared layout --

    def _run(
        self,
        plan: Plan,
        *,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        keep_apart: bool = True,
        **_: Any,
    ) -> Any:
        """TRL's output for padded rows, from packed ones."""
        outputs, places = [], []
        for packed in plan.calls:
            call = layout.call(plan.runs, packed, input_ids)
            where_N = (plan.scored_RS & (call.place_RT[:, :-1] >= 0)).flatten().nonzero().squeeze(1)
            outputs.append(self._score(call, input_ids, labels, where_N, keep_apart=keep_apart))
            places.append(where_N)
        fields = {
            name: layout.scatter(
                torch.cat([getattr(one, name)[0] for one in outputs]), torch.cat(places), plan
            )
            for name in FIELDS
            if getattr(outputs[0], name) is not None
        }
        label_mask = labels[:, 1:] != IGNORED
        loss = -fields["log_probs"].sum() / label_mask.sum().clamp(min=1)
        return FusedCausalLMOutput(loss=loss, label_mask=label_mask, **fields)

    def _score(
        self,
        call: Call,
        ids_RT: torch.Tensor,
        labels_RT: torch.Tensor,
        where_N: torch.Tensor,
        *,
        keep_apart: bool,
    ) -> Any:
        """TRL's output for the tokens at ``where_N``, from packed rows: fields are ``[1, N]``."""
        weight = self._model.get_input_embeddings().weight
        mask = call.mask(self._model.config._attn_implementation, weight.dtype) if keep_apart else None
        from_N = call.place_RT[:, :-1].flatten()[where_N]

        def keep(module: Any, args: Any, output: Any) -> Any:
            hidden = output.last_hidden_state
            output.last_hidden_state = hidden.flatten(0, 1)[from_N.to(hidden.device)][None]
            return output

        hook = self._model.base_model.register_forward_hook(keep)
        try:
            return self._before(
                input_ids=ids_RT.flatten()[call.source_QW],
                attention_mask=torch.ones_like(call.source_QW) if mask is None else mask,
                position_ids=call.position_QW,
                shift_labels=labels_RT[:, 1:].flatten()[where_N][None],
                use_cache=False,
                fused_lm_head=True,
            )
        finally:
            hook.remove()


def _padded(kwargs: dict[str, Any]) -> int:
    """Tokens of a call as it came."""
    rows = kwargs.get("input_ids")
    if rows is None:
        rows = kwargs.get("attention_mask")
    return 0 if rows is None else int(rows.numel())


def _trial(model: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and labels of one pair, the same in every process. Ids from the middle of the vocabulary are
    words in all of them, not signs with a meaning of their own."""
    prompt, chosen, rejected = TRIAL
    size = model.config.get_text_config().vocab_size
    low, high = size // 4, max(size // 2, size // 4 + 2)
    ids = torch.randint(low, high, (2, prompt + rejected), generator=torch.Generator().manual_seed(0))
    ids[1, :prompt] = ids[0, :prompt]
    ids[:, prompt] = torch.tensor([low, high - 1])
    mask = torch.ones_like(ids)
    mask[0, prompt + chosen :] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[:, :prompt] = IGNORED
    return ids.to(device), mask.to(device), labels.to(device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off, and each module as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def install(
    model: nn.Module, *, share_prompt: SharePrompt = "auto", tell: Callable[[str], None] = lambda text: None
) -> Forward:
    """Wrap the fused forward of ``model``, or of what a PEFT adapter wraps; a second call changes nothing.

    ``model(...)`` then takes two keys more, both ``[R, T]`` and both optional: ``token_weights`` (floats that
    the log-probs of the tokens are multiplied with) and ``response_mask`` (tokens that are scored whatever
    the labels say: those of weight 0 among them, which :attr:`Forward.last` then knows).

    Args:
        model: a model of transformers after ``add_fused_lm_head``, or a PEFT model around one
        share_prompt: whether to lay pairs out anew where that is possible; ``"auto"``: where it also pays
        tell: is told in words, once each, what was chosen and why
    """
    inner: Any = extract_model_from_parallel(model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    known = inner.__dict__.get("weft_forward")
    if isinstance(known, Forward):
        return known
    before = inner.forward
    forward = Forward(inner, before, share_prompt=share_prompt, tell=tell)

    @functools.wraps(getattr(before, "__func__", before))
    def wrapped(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    inner.forward = types.MethodType(wrapped, inner)
    inner.weft_forward = forward
    return forward
