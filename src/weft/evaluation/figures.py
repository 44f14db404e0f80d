"""From what became of each response to a task's figures.

A response is right, wrong, or nothing can be said of it (``None``), and then it does not count. Each prompt
has the same weight, however many of its responses count. A question that a task holds twice is drawn as one:
intervals do not shrink by repeating it.

It does not know engines, verifiers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

from weft.evaluation.result import Comparison, TaskFigures
from weft.intervals import NOT_MEASURED, Figure, by_group, ratio, resample


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
    settled: bool = True
    """Whether this is the last word; ``False``: the verifier failed, and the same command tries again."""


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

    def mean(value: Callable[[Sequence[Outcome]], float | None]) -> Figure:
        return _mean(by_prompt.values(), value, seed)

    def passed(k: int) -> Figure:
        return mean(
            lambda own: pass_at(k, len(right), sum(right)) if len(right := _counted(own)) >= k else None
        )

    return TaskFigures(
        name=name,
        verifier=verifier,
        prompts=prompts,
        samples=samples,
        accuracy=mean(_accuracy),
        pass_at={k: passed(k) for k in ks if k <= samples},
        unverifiable=mean(_unverifiable) if verifier is not None else NOT_MEASURED,
        unfinished=mean(lambda own: sum(not one.finished for one in own) / len(own)),
        tokens=mean(lambda own: sum(one.tokens for one in own) / len(own)),
        failed=prompts * samples - sum(one.settled for one in outcomes),
        unreadable=tuple(sorted(unreadable)),
    )


def grouped(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """By prompt, in the order in which prompts first come."""
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.prompt, []).append(one)
    return found


def compared(
    task: str, baseline: str, ours: Iterable[Outcome], theirs: Iterable[Outcome], *, seed: int = 0
) -> Comparison:
    """Two models on the prompts that both were asked and that count for both; the difference by prompt."""
    first, second = grouped(ours), grouped(theirs)
    rows = {
        prompt: (mine, other, 1.0)
        for prompt, own in first.items()
        if prompt in second and own[0].asked == second[prompt][0].asked
        if (mine := _accuracy(own)) is not None and (other := _accuracy(second[prompt])) is not None
    }
    if not rows:
        return Comparison(task, baseline, 0, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)
    sums = resample(by_group([first[prompt][0].asked for prompt in rows], list(rows.values())), seed=seed)
    return Comparison(
        task=task,
        baseline=baseline,
        prompts=len(rows),
        accuracy=sums.figure(ratio((1, 0, 0), (0, 0, 1)), len(rows)),
        baseline_accuracy=sums.figure(ratio((0, 1, 0), (0, 0, 1)), len(rows)),
        difference=sums.figure(ratio((1, -1, 0), (0, 0, 1)), len(rows)),
    )


def _counted(outcomes: Sequence[Outcome]) -> list[bool]:
    return [one.right for one in outcomes if one.right is not None]


def _accuracy(own: Sequence[Outcome]) -> float | None:
    """Share of one prompt's responses that are right, of those that count."""
    right = _counted(own)
    return sum(right) / len(right) if right else None


def _unverifiable(own: Sequence[Outcome]) -> float:
    return sum(one.right is None for one in own) / len(own)


def _mean(
    prompts: Iterable[Sequence[Outcome]], value: Callable[[Sequence[Outcome]], float | None], seed: int
) -> Figure:
    """The mean of one value for each prompt; ``None`` leaves a prompt out."""
    found = [(own[0].asked, number) for own in prompts if (number := value(own)) is not None]
    if not found:
        return NOT_MEASURED
    rows = by_group([asked for asked, _ in found], [(number, 1.0) for _, number in found])
    return resample(rows, seed=seed).figure(ratio((1, 0), (0, 1)), len(found))
