"""The table that a recipe ends with: one row for each thing compared, one column for each task.

A figure is the mean over several evaluations of one thing (its seeds), each over the same prompts. Its
interval is that of a crossed bootstrap: both the seeds and the prompts are drawn anew, each draw of prompts
for all seeds alike, as in the pigeonhole bootstrap (Owen 2007). Of S seeds S - 1 are drawn (Rao and Wu 1988):
S draws of three seeds would give two thirds of their variance. With one seed only prompts are drawn, and the
interval says nothing of other seeds; :attr:`Row.evaluations` says how many there were.

In simulated worlds with three seeds and 250 prompts, 250 worlds each, the interval held the truth in 97 to
100 of 100 where seeds differed little (a standard deviation of at most 0.03 in accuracy), in 95 at 0.05, and
in 88 to 92 at 0.06 to 0.11: three seeds say little of how much seeds differ.

Invariants
    - A prompt counts alike in every evaluation, however many samples were drawn for it.
    - What was not evaluated is not measured (a dash), never 0.
    - The same evaluations and the same seed give the same figures, in whatever order their rows are stored.

It does not know models, nor how a text is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from weft.gap.encoding import from_json, to_json
from weft.gap.made import Made
from weft.intervals import LEVEL, NOT_MEASURED, Figure

SCHEMA_VERSION = 1
Outcomes = Mapping[str, float]
"""Of one evaluation: by prompt id the share of its samples that were right."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is compared."""

    label: str
    figures: tuple[Figure, ...]
    """One for each column; ``n`` counts prompts."""
    evaluations: int
    """Seeds, at most, that a figure of the row is over."""


@dataclass(frozen=True, slots=True)
class Table:
    """The result of a stage ``table``; ``table.json`` holds it."""

    made: Made
    title: str
    columns: tuple[str, ...]
    """Names of tasks."""
    rows: tuple[Row, ...]
    kind: str = "table"
    schema: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return to_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else, or of another version.
        """
        return from_json(cls, data, SCHEMA_VERSION)

    def to_markdown(self, digits: int = 3) -> str:
        """The table for people, as GitHub's Markdown; a dash where nothing was measured."""
        head = ["", *self.columns, "seeds"]
        lines = [
            [row.label, *(f.shown(digits) for f in row.figures), str(row.evaluations)] for row in self.rows
        ]
        cells = [[_cell(cell) for cell in line] for line in [head, *lines]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        shown = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in cells
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        counts = sorted({figure.n for row in self.rows for figure in row.figures if figure.n})
        n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}" if counts else "no"
        most = max((row.evaluations for row in self.rows), default=0)
        over = "seeds and prompts" if most > 1 else "prompts, of one seed alone"
        note = f"Share right, with 95% intervals over {over}; {n} prompts a task."
        return "\n".join([f"**{_cell(self.title)}**", "", shown[0], rule, *shown[1:], "", note, ""])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def over_seeds(evaluations: Sequence[Outcomes], *, seed: int = 0, resamples: int = 1000) -> Figure:
    """The mean of several evaluations with its 95% interval over evaluations and prompts.

    Args:
        evaluations: those of one task, by models that differ in their seed alone; empty ones count as none.

    Returns:
        The figure; its ``n`` are the prompts that any evaluation has.
    """
    found = [one for one in evaluations if one]
    if not found:
        return NOT_MEASURED
    prompts = sorted({prompt for one in found for prompt in one})
    right = np.array([[one.get(prompt, np.nan) for prompt in prompts] for one in found])  # [seeds, prompts]
    there = ~np.isnan(right)
    right = np.where(there, right, 0.0)
    everyone = np.ones(len(found)), np.ones(len(prompts))
    value = _mean(right, there, *everyone)
    if len(prompts) < 2:
        return Figure(value, None, None, len(prompts))
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for at in range(resamples):
        seeds = _drawn(random, len(found), max(1, len(found) - 1)) if len(found) > 1 else everyone[0]
        values[at] = _mean(right, there, seeds, _drawn(random, len(prompts), len(prompts)))
    values = values[np.isfinite(values)]
    if not len(values):
        return Figure(value, None, None, len(prompts))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high), len(prompts))


def _drawn(random: np.random.Generator, of: int, times: int) -> NDArray[np.float64]:
    """How often each of some was drawn. ``[of]``"""
    return np.bincount(random.integers(of, size=times), minlength=of).astype(np.float64)


def _mean(
    right: NDArray[np.float64],
    there: NDArray[np.bool_],
    seeds: NDArray[np.float64],
    prompts: NDArray[np.float64],
) -> float:
    """The mean over drawn seeds and prompts; not a number where none of them was evaluated."""
    top, bottom = seeds @ right @ prompts, seeds @ there @ prompts
    return float(top / bottom) if bottom else float("nan")
