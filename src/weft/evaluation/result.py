"""What `weft eval` found: typed, as JSON, as pandas.

Every figure is a :class:`weft.intervals.Figure`, its interval over prompts. A figure without a value means
*not measured*: no verifier, no judge, no prompt that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from weft.gap.made import Made
from weft.intervals import Figure

if TYPE_CHECKING:
    import pandas

EVALUATION_VERSION = 1
"""Version of the result file; it rises when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """How a model did at one task, drawn in one way. All means are over prompts, each the same weight."""

    name: str
    verifier: str | None
    """``None``: nothing said what is right."""
    prompts: int
    """That were asked."""
    samples: int
    """Responses to each."""
    accuracy: Figure
    """Share of correct responses: pass@1. What broke off is wrong; what cannot be verified is left out."""
    pass_at: Mapping[int, Figure]
    """By k: how likely one of k responses is right, unbiased (Chen et al. 2021, arXiv 2107.03374). Over the
    prompts with at least k responses that count."""
    unverifiable: Figure
    """Share of responses of which nothing could be said: no right answer that can be read, or no verdict."""
    unfinished: Figure
    """Share of responses that did not end by themselves: a limit, a loop. They are wrong."""
    tokens: Figure
    """Mean length of a response with its thinking, in the model's tokens."""
    failed: int = 0
    """Responses that are missing by an engine's errors, and those at which the verifier itself failed; the
    same command tries them again."""
    unreadable: tuple[str, ...] = ()
    """Ids of prompts whose right answer is missing or cannot be read; none of their responses counts."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of drawing, and how the model did at one task."""

    temperature: float
    top_p: float
    figures: TaskFigures


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models at one task: on the same prompts, and the difference by prompt."""

    task: str
    baseline: str
    prompts: int
    """That both were asked, with a verdict on both."""
    accuracy: Figure
    baseline_accuracy: Figure
    difference: Figure
    """The model's less the baseline's; its interval draws prompts, the same for both."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often a judge prefers the model's responses to the baseline's, each pair seen in both orders."""

    task: str
    judge: str
    baseline: str
    prompts: int
    """With a response of both."""
    raw: Figure
    """Share of wins; a tie, and a judge that changes with the order, counts half."""
    length_controlled: Figure
    """The same as it would be at equal lengths: logistic regression after AlpacaEval 2 (arXiv 2404.04475)."""
    consistent: Figure
    """Share of pairs whose verdict is the same in both orders."""
    first: Figure
    """Share of readings that prefer the response shown first; 0.5 without a bias."""
    unjudged: int
    """Pairs of which the judge said nothing that can be used, in one order at least; in no figure."""
    characters: Figure
    """Mean length of the model's responses, without thinking."""
    baseline_characters: Figure
    failed: int = 0
    """Pairs that are missing by the judge's engine errors; the same command tries them again."""


@dataclass(frozen=True, slots=True)
class LmEvalFigure:
    """One figure as lm-evaluation-harness gives it."""

    task: str
    metric: str
    """Its name and filter: ``exact_match,strict-match``."""
    value: float
    stderr: float | None
    """As the harness computes it; ``None``: it gives none."""
    n: int | None
    """Samples."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is."""

    model: str
    tasks: tuple[TaskFigures, ...]
    grid: tuple[Cell, ...]
    """Decode robustness, task by task; the first cell of each is the way of :attr:`tasks`. Empty: not asked
    for."""
    comparisons: tuple[Comparison, ...]
    wins: tuple[WinRate, ...]
    lm_eval: tuple[LmEvalFigure, ...]
    said: tuple[str, ...]
    """What a reader has to know, in words, one sentence each."""
    made: Made
    kind: str = "evaluation"
    schema: int = EVALUATION_VERSION

    @property
    def failed(self) -> int:
        """Responses and judgements that are missing by errors of an engine or a verifier; 0: this is all that
        there can be."""
        cells = sum(cell.figures.failed for cell in self.grid)
        return sum(task.failed for task in self.tasks) + cells + sum(win.failed for win in self.wins)

    def to_json(self) -> dict[str, Any]:
        """JSON values; every figure is ``{"value", "low", "high", "n"}``."""
        from weft.gap.encoding import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else, or of another version.
        """
        from weft.gap.encoding import from_json

        return from_json(cls, data, EVALUATION_VERSION)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each figure: columns ``task``, ``part``, ``at``, ``figure``, ``value``, ``low``,
        ``high``, ``n``."""
        from weft.gap.encoding import frame

        rows: list[tuple[tuple[Any, ...], Any]] = []
        for task in self.tasks:
            rows.append(((task.name, "task", ""), task))
            rows += [((task.name, "pass_at", k), {"pass_at": figure}) for k, figure in task.pass_at.items()]
        for cell in self.grid:
            at = f"{cell.temperature:g}/{cell.top_p:g}"
            rows.append(((cell.figures.name, "grid", at), cell.figures))
        rows += [((one.task, "comparison", one.baseline), one) for one in self.comparisons]
        rows += [((win.task, "wins", win.baseline), win) for win in self.wins]
        for found in self.lm_eval:
            half = None if found.stderr is None else 1.96 * found.stderr
            low, high = (None, None) if half is None else (found.value - half, found.value + half)
            figure = Figure(found.value, low, high, found.n or 0)
            rows.append(((found.task, "lm_eval", found.metric), {found.metric: figure}))
        return frame(("task", "part", "at"), rows)
