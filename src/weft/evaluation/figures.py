"""From what became of each response to a task's figures.

A response is right, wrong, or nothing can be said of it (``None``), and then it does not count. Each prompt
has the same weight, however many of its responses count.

It does not know engines, verifiers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from weft.evaluation.result import Comparison, TaskFigures
from weft.intervals import NOT_MEASURED, Figure, ratio, resample


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one response."""

    prompt: str
    """Id."""
    asked: str
    """Digest of the prompt's question and right answer: equal ids of other data are other prompts."""
    sample: int
    right: bool | None
    """``None``: nothing can be said."""
    finished: bool
    tokens: int
    """Of thinking and response, in the model's tokens."""


def pass_at(k: int, n: int, right: int) -> float:
    """How likely at least one of ``k`` responses is right, unbiased, from ``n`` of which ``right`` are.

    ``1 - C(n - right, k) / C(n, k)`` (Chen et al. 2021, arXiv 2107.03374, eq. 1), as a product, which neither
    overflows nor cancels.

    Args:
        k: at least 1, at most ``n``.
    """
    if not 1 <= k <= n or not 0 <= right <= n:
        raise ValueError(f"pass@{k} of {n} responses, {right} of them right")
    if n - right < k:
        return 1.0
    return 1.0 - prod(1.0 - k / at for at in range(n - right + 1, n + 1))


def task_figures(
    name: str,
    verifier: str | None,
    outcomes: Sequence[Outcome],
    *,
    prompts: int,
    samples: int,
    ks: Iterable[int] = (1,),
    unreadable: Iterable[str] = (),
    seed: int = 0,
) -> TaskFigures:
    """All figures of one task, drawn in one way; ``n`` counts prompts.

    Args:
        outcomes: of responses that are there.
        prompts: that were asked.
        samples: responses that were asked for, to each prompt.
        ks: for pass@k; those above ``samples`` are left out.
        unreadable: ids of prompts whose right answer cannot be read.
        seed: of the intervals.
    """
    by_prompt = grouped(outcomes)
    passed = {
        k: _mean(
            [
                pass_at(k, len(counted), sum(counted))
                for own in by_prompt.values()
                if len(counted := _counted(own)) >= k
            ],
            seed,
        )
        for k in ks
        if k <= samples
    }
    judged = by_prompt.values() if verifier is not None else ()
    return TaskFigures(
        name=name,
        verifier=verifier,
        prompts=prompts,
        samples=samples,
        accuracy=accuracy_of(by_prompt, seed),
        pass_at=passed,
        unverifiable=_mean([_share(own, lambda one: one.right is None) for own in judged], seed),
        unfinished=_mean([_share(own, lambda one: not one.finished) for own in by_prompt.values()], seed),
        tokens=_mean([sum(one.tokens for one in own) / len(own) for own in by_prompt.values()], seed),
        failed=prompts * samples - len(outcomes),
        unreadable=tuple(sorted(unreadable)),
    )


def grouped(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """By prompt, in the order in which prompts first come."""
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.prompt, []).append(one)
    return found


def accuracy_of(by_prompt: Mapping[str, Sequence[Outcome]], seed: int = 0) -> Figure:
    """Mean over prompts of the share of responses that are right."""
    return _mean([sum(own) / len(own) for all in by_prompt.values() if (own := _counted(all))], seed)


def compared(
    task: str, baseline: str, ours: Iterable[Outcome], theirs: Iterable[Outcome], *, seed: int = 0
) -> Comparison:
    """Two models on the prompts that both were asked and that count for both; the difference by prompt."""
    first, second = grouped(ours), grouped(theirs)
    rows = [
        (sum(mine) / len(mine), sum(other) / len(other), 1.0)
        for prompt in first
        if prompt in second and first[prompt][0].asked == second[prompt][0].asked
        if (mine := _counted(first[prompt])) and (other := _counted(second[prompt]))
    ]
    if not rows:
        return Comparison(task, baseline, 0, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)
    sums = resample(rows, seed=seed)
    return Comparison(
        task=task,
        baseline=baseline,
        prompts=len(rows),
        accuracy=sums.figure(ratio((1, 0, 0), (0, 0, 1))),
        baseline_accuracy=sums.figure(ratio((0, 1, 0), (0, 0, 1))),
        difference=sums.figure(ratio((1, -1, 0), (0, 0, 1))),
    )


def _counted(outcomes: Sequence[Outcome]) -> list[bool]:
    return [one.right for one in outcomes if one.right is not None]


def _share(outcomes: Sequence[Outcome], what: Callable[[Outcome], bool]) -> float:
    return sum(map(what, outcomes)) / len(outcomes)


def _mean(values: Sequence[float], seed: int) -> Figure:
    """The mean of one value for each prompt."""
    if not values:
        return NOT_MEASURED
    return resample([(value, 1.0) for value in values], seed=seed).figure(ratio((1, 0), (0, 1)))
