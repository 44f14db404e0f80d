"""Preference rows on their way to a loss: checked, tokenised by TRL, cut or weighed, truncated.

The cut is made here, after tokenisation and in the data set. Text that was cut would get an end of sequence
on both sides, and a cut made later would be missed by TRL's cache of reference log-probs, which goes by the
data set.

Columns that come out, beside TRL's ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``::

    prefix_policy                     the policy's spec; what holds it is not cut again
    chosen_weights, rejected_weights  a factor for each response token; policies that weigh, and evaluation
    chosen_uncut_ids                  the chosen response before the cut, where a likelihood term needs it
    chosen_tokens, rejected_tokens    tokens of the responses before the cut
    chosen_kept, rejected_kept        tokens after it that weigh more than 0
    weft_row                          number of the row in the data set that came in, from 0

Invariants
    - ``max_length`` applies after a cut (and before weights, so that ``sample`` draws equal counts of what is
      seen).
    - A pair whose responses do not differ any more is dropped from training and counted, never from
      evaluation.
    - ``none`` adds ``weft_row`` and touches nothing else; of signs that stand twice (``ends.py``) it is told.
    - The policy with all its parameters is part of what the data set's fingerprint is made of.

Streamed data sets are cut while they stream: what is dropped is not counted there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher
from trl import DPOTrainer
from trl.trainer.utils import global_then_local_main_first

from weft.errors import UserError
from weft.preference.applying import POLICY, ROW, Apply, Drawn, Truncate
from weft.preference.checking import checked, first_row, is_tokenised, shortened_prompts
from weft.preference.consistent import agreement, judged
from weft.preference.counts import counted
from weft.preference.ends import one_each
from weft.preference.policies import (
    Consistent,
    Judge,
    Pair,
    PrefixPolicy,
    Whole,
    at_epoch,
    parse_policy,
    redraws,
)

COLUMNS = (
    "chosen_weights",
    "rejected_weights",
    "chosen_uncut_ids",
    "chosen_tokens",
    "rejected_tokens",
    "chosen_kept",
    "rejected_kept",
    ROW,
)
"""What the collator may want beside TRL's own columns."""

Tell = Callable[[str], None]
Rows = Any
"""A `datasets.Dataset` or `IterableDataset`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of one data set are to be prepared."""

    policy: PrefixPolicy
    name: str = "training"
    """Of the data, for messages."""
    max_length: int | None = None
    """Tokens of prompt and response; ``None`` for no limit."""
    evaluation: bool = False
    """Rows stay whole and the cut becomes weights of 1 and 0: for a causal model the log-probs are the same,
    and the uncut ones are known as well."""
    cuts_evaluation: bool = False
    """Cut there all the same, for models whose forward cannot take weights."""
    keeps_uncut: bool = False
    """Keep the chosen response before the cut in a column."""
    processes: int | None = None


def prepare(
    dataset: Rows,
    plan: Plan,
    tokenise: Callable[[Rows], Rows],
    tokenizer: Any,
    *,
    judge: Judge | None = None,
    tell: Tell = print,
) -> Rows:
    """Rows as the trainer takes them.

    Args:
        dataset: raw preference rows, rows of ids, or what :func:`cut` returned.
        tokenise: TRL's; takes raw rows and drops those whose prompt fills ``max_length``.
        tokenizer: renders prompts alone, and gives a judge its text.
        tell: takes one line at a time, on the main process.

    Raises:
        UserError: a column or a row cannot be used, or no pair is left.
    """
    first = first_row(dataset, plan.name)
    leaves = isinstance(plan.policy, Whole) and POLICY not in first
    usable, empty = checked(_numbered(dataset), plan.name, drops_empty=not leaves and not plan.evaluation)
    rows = usable if is_tokenised(first) else tokenise(usable)
    too_long = _length(usable) - _length(rows)
    if isinstance(rows, Dataset) and len(rows) == 0:
        raise UserError(
            f"every prompt fills max_length ({plan.max_length} tokens)",
            where=f"{plan.name} data",
            remedy="raise max_length",
        )
    if not is_tokenised(first):
        if not plan.evaluation:
            _say(tell, shortened_prompts(rows, tokenizer))
        with _main_first():
            rows, doubled = one_each(rows, tokenizer, plan.name, mend=not leaves)
        _say(tell, doubled)
    if too_long and (leaves or plan.evaluation):
        _say(tell, f"{plan.name} data: {too_long:,} pairs dropped, whose prompt fills max_length")
    if leaves:
        return rows
    if isinstance(plan.policy, Consistent) and POLICY not in first:
        rows = _with_judged(rows, plan.policy, judge, tokenizer, tell)
    mapped = _map(rows, _step(plan, POLICY in first), plan)
    if plan.evaluation:
        _say(tell, _left_out(mapped, plan))
    else:
        mapped = _without_same(mapped, plan, too_long, empty, tell)
    temporary = [name for name in ("weft_same", "weft_kept") if name in first_row(mapped, plan.name)]
    return mapped.remove_columns(temporary)


def cut(
    dataset: Rows,
    tokenizer: Any,
    policy: str | PrefixPolicy,
    *,
    max_length: int | None = None,
    judge: Judge | None = None,
    keep_uncut: bool = False,
    tell: Tell = print,
) -> Rows:
    """Token ids of preference rows, cut or weighed, for :class:`weft.preference.PrefixDPOTrainer`.

    Args:
        dataset: raw preference rows as TRL takes them (text or conversations), or rows of ids that were not
            cut.
        policy: as :func:`weft.preference.policies.parse_policy` reads it.
        max_length: tokens of prompt and response; applies after the cut.
        judge: for ``consistent``.
        keep_uncut: keep the chosen response before the cut, which the loss type ``sft`` needs.

    Raises:
        UserError: it was cut before, the policy draws anew in each epoch, or a row cannot be used.
    """
    chosen = parse_policy(policy)
    where = "cut"
    if not isinstance(dataset, Dataset | IterableDataset):
        raise UserError(
            f"this is no data set: {type(dataset).__name__}",
            where=where,
            expected="a datasets.Dataset or IterableDataset",
            remedy="cut each split by itself",
        )
    if POLICY in (first := first_row(dataset, "preference")):
        raise UserError(
            f"the data set was already cut, by {first[POLICY]}",
            where=where,
            expected="rows that were not cut",
            remedy="start again from the raw rows",
        )
    if redraws(chosen):
        raise UserError(
            f"{chosen.spec} draws anew in every epoch, which rows that are written once cannot",
            where=where,
            remedy=f"pass prefix={chosen.spec!r} to the trainer, or leave out @epoch",
        )
    plan = Plan(chosen, "preference", max_length, keeps_uncut=keep_uncut)
    settings = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")

    def tokenise(rows: Rows) -> Rows:
        # TRL's own tokenisation, which asks its trainer for nothing but the tokenizer.
        holder = SimpleNamespace(_tokenizer=tokenizer)
        return DPOTrainer._prepare_dataset(holder, rows, tokenizer, settings, "cut")

    rows = prepare(dataset, plan, tokenise, tokenizer, judge=judge, tell=tell)
    if POLICY not in first_row(rows, "preference"):
        rows = _map(rows, Apply(chosen, max_length), plan).remove_columns(["weft_same"])
    names = set(first_row(rows, "preference")) & {
        POLICY,
        "prompt_ids",
        "chosen_ids",
        "rejected_ids",
        *COLUMNS,
    }
    return rows.select_columns(sorted(names))


def stamped(rows: Rows, *facts: Any) -> Rows:
    """The same rows under a fingerprint that differs with these facts, too.

    Rows that no policy touched have the same one whatever the collator cuts from them, and what is cached by
    it would be taken for another length.
    """
    if not isinstance(rows, Dataset):
        return rows
    found = copy(rows)
    found._fingerprint = Hasher.hash((rows._fingerprint, *facts))
    return found


def _step(plan: Plan, cut_before: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if cut_before:
        return Truncate(plan.max_length)
    if redraws(plan.policy) and not plan.evaluation:
        # The collator cuts or weighs; the data set keeps the rows whole.
        return Apply(Drawn(plan.policy.spec), None, keeps_uncut=plan.keeps_uncut)
    masks = plan.evaluation and not plan.cuts_evaluation
    return Apply(at_epoch(plan.policy, 0), plan.max_length, masks=masks, keeps_uncut=plan.keeps_uncut)


def _without_same(mapped: Rows, plan: Plan, too_long: int, empty: int, tell: Tell) -> Rows:
    """The rows but for pairs that do not differ; says what the policy did to them."""
    counts = counted(mapped, too_long=too_long, empty=empty)
    if counts is not None:
        if counts.pairs == 0:
            raise UserError(f"no pair is left to learn from: {counts}", where=f"{plan.name} data")
        when = "; drawn anew in every epoch" if redraws(plan.policy) else ""
        _say(tell, f"prefix {plan.policy.spec}, {plan.name} data: {counts}{when}")
    with _main_first():
        return mapped.filter(_differs, **_options(mapped, plan, "Dropping pairs that do not differ"))


def _left_out(mapped: Rows, plan: Plan) -> str | None:
    """What to say of evaluation pairs that are the same after the policy; ``None`` if there are none."""
    number = sum(mapped["weft_same"]) if isinstance(mapped, Dataset) else 0
    if not number:
        return None
    return (
        f"{plan.name} data: {number:,} of {len(mapped):,} pairs do not differ in what prefix "
        f"{plan.policy.spec} leaves of them; reward accuracies leave them out"
    )


def _differs(row: dict[str, Any]) -> bool:
    return not row["weft_same"]


def _numbered(dataset: Rows) -> Rows:
    if ROW in first_row(dataset, "data"):
        return dataset
    if isinstance(dataset, Dataset):
        return dataset.add_column(ROW, list(range(len(dataset))))
    return dataset.map(_number_row, with_indices=True)


def _number_row(row: dict[str, Any], index: int) -> dict[str, int]:
    return {ROW: index}


def _map(rows: Rows, step: Callable[[dict[str, Any]], dict[str, Any]], plan: Plan) -> Rows:
    with _main_first():
        return rows.map(
            step, **_options(rows, plan, f"Applying prefix {plan.policy.spec} to {plan.name} data")
        )


def _options(rows: Rows, plan: Plan, saying: str) -> dict[str, Any]:
    return {"desc": saying, "num_proc": plan.processes} if isinstance(rows, Dataset) else {}


def _main_first() -> AbstractContextManager[None]:
    """One process writes the cache and the others read it."""
    context: AbstractContextManager[None] = global_then_local_main_first()
    return context


def _with_judged(rows: Rows, policy: Consistent, judge: Judge | None, tokenizer: Any, tell: Tell) -> Rows:
    """Adds what the judge found; by value, so that the fingerprint is of what it said, not of who it was."""
    if not isinstance(rows, Dataset):
        raise UserError(
            "the prefix policy `consistent` cannot judge a stream",
            remedy="load the data set without streaming",
        )
    found: list[Any] = [None]
    if PartialState().is_main_process:
        pairs = (Pair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows)
        found = [judged(pairs, policy, judge, tokenizer.decode)]
        tell(agreement(found[0]))
    broadcast_object_list(found, from_process=0)
    return rows.add_column("weft_kept", [[one.chosen, one.rejected] for one in found[0]])


def _length(rows: Rows) -> int:
    return len(rows) if isinstance(rows, Dataset) else 0


def _say(tell: Tell, line: str | None) -> None:
    if line is not None and PartialState().is_main_process:
        tell(line)
