"""What a reader of an evaluation has to know beside its figures, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from weft.evaluation.result import Comparison, Evaluation, TaskFigures, WinRate

SURE = 0.05
"""One less the confidence of a bound from the number of prompts alone."""
FEW = 30
"""Prompts. In simulated worlds of a known accuracy, intervals by resampling held it in 75% to 95% of cases
with 15 prompts, in 90% to 97% with 30 to 300."""
BIASED = 0.1
"""So far from one half the share of first responses that win is worth a sentence."""


def said(
    found: Evaluation, not_compared: Sequence[str] = (), judged_by: Mapping[str, str | None] | None = None
) -> tuple[str, ...]:
    """One sentence each.

    Args:
        not_compared: tasks that the baseline does not have.
        judged_by: the verifiers of an earlier evaluation that is the baseline, by task.
    """
    sentences = [sentence for task in found.tasks for sentence in _of_task(task)]
    sentences += [sentence for one in found.comparisons for sentence in _of_comparison(one, found)]
    sentences += [f"{name}: the baseline has no task of this name." for name in not_compared]
    sentences += [
        f"{task.name}: the baseline was judged by {other or 'no verifier'}, not by {task.verifier}."
        for task in found.tasks
        if task.verifier and (other := (judged_by or {}).get(task.name, task.verifier)) != task.verifier
    ]
    sentences += [sentence for win in found.wins for sentence in _of_wins(win)]
    if found.failed:
        what = "response or judgement" if found.failed == 1 else "responses or judgements"
        sentences.append(
            f"Errors of an engine or a verifier left out {found.failed:,} {what}; "
            "the same command tries again."
        )
    return tuple(sentences)


def _of_task(task: TaskFigures) -> Iterator[str]:
    if task.unfinished.value:
        yield (
            f"{task.name}: {task.unfinished.value:.1%} of the responses broke off at a limit or in a loop; "
            + ("they count as wrong." if task.verifier else "they are compared as they stand.")
        )
    if task.unverifiable.value:
        yield (
            f"{task.name}: of {task.unverifiable.value:.1%} of the responses nothing could be said (no right "
            "answer that can be read, or no verdict); they are in no accuracy."
        )
    if task.accuracy.n and task.accuracy.value in (0.0, 1.0):
        yield _without_spread(task.name, task.accuracy.n, every=task.accuracy.value == 1)
    elif 1 < task.accuracy.n < FEW:
        yield (
            f"{task.name}: {task.accuracy.n:,} prompts are few; below {FEW}, intervals by resampling come "
            "out too narrow."
        )
    if task.verifier and task.accuracy.n < task.prompts:
        yield f"{task.name}: the accuracy is over {task.accuracy.n:,} of {task.prompts:,} prompts."


def _without_spread(name: str, prompts: int, *, every: bool) -> str:
    """Where resampling finds no interval, what the number of prompts says: ``p ** n = 0.05``."""
    what = "every response is right" if every else "no response is right"
    bound = SURE ** (1 / prompts)
    side = f"from below by {bound:.1%}" if every else f"from above by {1 - bound:.1%}"
    return (
        f"{name}: {what}, so resampling shows no spread; {prompts:,} prompts bound the accuracy {side} (95%)."
    )


def _of_comparison(one: Comparison, found: Evaluation) -> Iterator[str]:
    task = next(task for task in found.tasks if task.name == one.task)
    if not one.prompts:
        yield f"{one.task}: no prompt of the baseline's counts in both; the prompts differ."
        return
    if one.prompts < task.accuracy.n:
        yield f"{one.task}: {one.prompts:,} of {task.accuracy.n:,} prompts could be compared."
    low, high = one.difference.low, one.difference.high
    if low is None or high is None or one.difference.value is None:
        return
    if low > 0 or high < 0:
        word = "better" if low > 0 else "worse"
        yield f"{one.task}: {word} than {one.baseline}; the difference's interval does not hold 0."
    elif low == high == 0:
        yield f"{one.task}: no difference from {one.baseline}: each prompt comes out alike."
    else:
        yield f"{one.task}: no difference from {one.baseline} is shown; the interval holds 0."


def _of_wins(win: WinRate) -> Iterator[str]:
    if not win.prompts:
        yield f"{win.task}: the baseline has no response to any of the prompts, so there is nothing to judge."
    if win.unjudged:
        pairs = "one pair" if win.unjudged == 1 else f"{win.unjudged:,} pairs"
        yield f"{win.task}: of {pairs} the judge said nothing that can be read."
    if win.first.value is not None and abs(win.first.value - 0.5) > BIASED:
        side = "first" if win.first.value > 0.5 else "second"
        yield (
            f"{win.task}: the judge leans to the response shown {side} ({win.first.value:.0%} of its "
            "verdicts are for the first); each pair was shown in both orders."
        )
    if win.raw.value is not None and win.length_controlled.value is None:
        yield f"{win.task}: lengths differ by the same everywhere, so no win rate at equal lengths."
