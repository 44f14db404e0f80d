"""What `weft eval` found, for a person in a terminal of 80 columns or more.

Names are shown by :func:`weft.cli.show.visible`, so that they cannot act on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from weft.cli.show import visible
from weft.cli.tables import Cell, print_table
from weft.evaluation.result import Evaluation, TaskFigures
from weft.intervals import Figure


def show(found: Evaluation, console: Console) -> None:
    """Print all of it."""
    console.print(Text(visible(found.model), style="bold"))
    _tasks(found.tasks, console)
    _grid(found, console)
    _compared(found, console)
    _wins(found, console)
    _lm_eval(found, console)
    if found.said:
        console.print()
    for sentence in found.said:
        console.print(Padding(Text(f"- {visible(sentence)}"), (0, 0, 0, 2), expand=False))
    console.print()
    note = "In brackets: 95% intervals, by resampling prompts. A dash: not measured."
    console.print(Text(note, style="dim"))


def _tasks(tasks: Sequence[TaskFigures], console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (
            visible(task.name),
            f"{task.accuracy.n:,}" + ("" if task.accuracy.n == task.prompts else f" of {task.prompts:,}"),
            str(task.samples),
            _percent(task.accuracy),
            _share(task.unfinished),
            _tokens(task.tokens),
        )
        for task in tasks
    ]
    columns = ("task", "prompts", "samples", "accuracy", "unfinished", "tokens")
    print_table(console, "Tasks", columns, rows)
    passed: list[Sequence[Cell]] = [
        (visible(task.name), str(k), f"{figure.n:,}", _percent(figure))
        for task in tasks
        for k, figure in sorted(task.pass_at.items())
        if k > 1
    ]
    print_table(console, "One of k responses is right: pass@k", ("task", "k", "prompts", "pass@k"), passed)


def _grid(found: Evaluation, console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (
            visible(cell.figures.name),
            f"{cell.temperature:g}",
            f"{cell.top_p:g}",
            _percent(cell.figures.accuracy),
            _share(cell.figures.unfinished),
            _tokens(cell.figures.tokens),
        )
        for cell in found.grid
    ]
    columns = ("task", "temperature", "top-p", "accuracy", "unfinished", "tokens")
    print_table(console, "By way of drawing, with the same luck", columns, rows)


def _compared(found: Evaluation, console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (
            visible(one.task),
            f"{one.prompts:,}",
            _share(one.accuracy),
            _share(one.baseline_accuracy),
            _percent(one.difference),
        )
        for one in found.comparisons
    ]
    if rows:
        name = visible(found.comparisons[0].baseline)
        columns = ("task", "prompts", "accuracy", "baseline", "difference")
        print_table(console, f"Against {name}, on the same prompts", columns, rows)


def _wins(found: Evaluation, console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (
            visible(win.task),
            f"{win.raw.n:,}",
            _percent(win.raw),
            _percent(win.length_controlled),
            _share(win.consistent),
            _share(win.first),
            str(win.unjudged),
        )
        for win in found.wins
    ]
    if rows:
        first = found.wins[0]
        title = f"Wins over {visible(first.baseline)}, judged by {visible(first.judge)}"
        columns = ("task", "pairs", "wins", "at equal length", "consistent", "first wins", "unjudged")
        print_table(console, title, columns, rows)


def _lm_eval(found: Evaluation, console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (
            visible(one.task),
            visible(one.metric),
            f"{one.value:.4g}" + ("" if one.stderr is None else f" ± {one.stderr:.2g}"),
            "–" if one.n is None else f"{one.n:,}",
        )
        for one in found.lm_eval
    ]
    print_table(console, "lm-evaluation-harness (± standard error)", ("task", "metric", "value", "n"), rows)


def _percent(figure: Figure) -> str:
    """``53.2% (48.1–58.0)``."""
    if figure.value is None:
        return "–"
    parts = [None if x is None else 100 * x for x in (figure.value, figure.low, figure.high)]
    text = Figure(parts[0], parts[1], parts[2], figure.n).shown(1)
    head, space, rest = text.partition(" ")
    return f"{head}%{space}{rest}"


def _tokens(figure: Figure) -> str:
    return "–" if figure.value is None else f"{figure.value:,.0f}"


def _share(figure: Figure) -> str:
    return "–" if figure.value is None else f"{figure.value:.1%}"
