"""The section of `weft eval`: all evaluations of a report together, task by task.

It draws and lists what was measured; it decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from weft.evaluation.result import Cell, Evaluation, LmEvalFigure, TaskFigures
from weft.intervals import NOT_MEASURED, Figure
from weft.report.blocks import DASH, Block, Part, Plot, Points, Section, Table, Value
from weft.report.blocks import Cell as TableCell
from weft.report.charts import Row, dots, heat
from weft.report.naming import short_names

Named = Sequence[tuple[str, Evaluation]]
"""Evaluations by what their models are called here."""


def evaluation_section(evaluations: Mapping[str, Evaluation], id: str) -> Section:
    """How good the models are.

    Args:
        evaluations: by their file; at least one.
    """
    named = called(evaluations)
    tasks = list(dict.fromkeys(task.name for _, found in named for task in found.tasks))
    parts = [
        _overview(tasks, named),
        _in_words(named),
        _tasks(tasks, named),
        _compared(named),
        _wins(named),
        _robustness(tasks, named),
        _lm_eval(named),
    ]
    return Section(
        id,
        "Evaluation",
        tuple(part for part in parts if part is not None),
        lead="How many responses are right. Ranges are 95% intervals by resampling prompts; n counts prompts "
        "(of win rates, pairs). What broke off is wrong; what cannot be verified is left out.",
        facts=(("models", ", ".join(name for name, _ in named)), ("tasks", ", ".join(tasks) or DASH)),
    )


def called(evaluations: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    """Each with a short name of its model; several of one model by their folders, too."""
    short = short_names([found.model for found in evaluations.values()])
    times = Counter(found.model for found in evaluations.values())
    named = []
    for path, found in evaluations.items():
        name = short.get(found.model, found.model)
        folder = Path(path).resolve().parent.name
        named.append((f"{name} ({folder})" if times[found.model] > 1 else name, found))
    return named


def _overview(tasks: Sequence[str], named: Named) -> Part | None:
    """All models at all tasks, where there are several."""
    if len(tasks) < 2:
        return None
    rows: list[tuple[TableCell, ...]] = []
    for name, found in named:
        by = {task.name: task.accuracy for task in found.tasks}
        rows.append((name, *(Value(by.get(task, NOT_MEASURED)) for task in tasks)))
    return Part("Accuracy", (Table("Share of responses that are right", ("model", *tasks), tuple(rows)),))


def _in_words(named: Named) -> Part | None:
    blocks = [Points(found.said, name if len(named) > 1 else "") for name, found in named if found.said]
    return Part("In words", tuple(blocks)) if blocks else None


def _of(task: str, named: Named) -> list[tuple[str, TaskFigures]]:
    return [(name, one) for name, found in named for one in found.tasks if one.name == task]


def _tasks(tasks: Sequence[str], named: Named) -> Part | None:
    blocks = tuple(_task(task, named) for task in tasks)
    return Part(tasks[0] if len(tasks) == 1 else "Task by task", blocks) if blocks else None


def _task(task: str, named: Named) -> Block:
    """Accuracy and pass@k of all models."""
    found = _of(task, named)
    ks = sorted({k for _, one in found for k in one.pass_at if k > 1})
    table = Table(
        task,
        ("model", "accuracy", *(f"pass@{k}" for k in ks), "unfinished", "unverifiable", "tokens"),
        tuple(
            (
                name,
                Value(one.accuracy),
                *(Value(one.pass_at.get(k, NOT_MEASURED)) for k in ks),
                Value(one.unfinished),
                Value(one.unverifiable),
                Value(one.tokens, 1),
            )
            for name, one in found
        ),
        note=_how(found),
    )
    svg = dots(
        task,
        "Accuracy and pass@k of each model, with 95% intervals.",
        [("accuracy", 0), *((f"pass@{k}", style) for style, k in enumerate(ks, 1))],
        [
            Row(
                name,
                (
                    (0, one.accuracy),
                    *((style, one.pass_at[k]) for style, k in enumerate(ks, 1) if k in one.pass_at),
                ),
            )
            for name, one in found
            if one.accuracy.value is not None
        ],
        x="share of prompts" if ks else "accuracy",
    )
    return Plot(task, svg, table) if svg else table


def _how(found: Sequence[tuple[str, TaskFigures]]) -> str:
    verifiers = dict.fromkeys(one.verifier or "no verifier" for _, one in found)
    samples = dict.fromkeys(f"{one.samples:,} to each of {one.prompts:,} prompts" for _, one in found)
    return f"Judged by {', '.join(verifiers)}; responses: {', '.join(samples)}."


def _compared(named: Named) -> Part | None:
    found = [(name, one) for name, evaluation in named for one in evaluation.comparisons]
    if not found:
        return None
    title = "Against the baseline, prompt by prompt"
    labels = [one.task if len(named) == 1 else f"{name}: {one.task}" for name, one in found]
    table = Table(
        title,
        ("task", "baseline", "accuracy", "the baseline's", "difference"),
        tuple(
            (
                label,
                _short(one.baseline),
                Value(one.accuracy),
                Value(one.baseline_accuracy),
                Value(one.difference),
            )
            for label, (_, one) in zip(labels, found, strict=True)
        ),
    )
    rows = [
        Row(label, ((0, one.difference),))
        for label, (_, one) in zip(labels, found, strict=True)
        if one.difference.value is not None
    ]
    svg = dots(
        title,
        "Difference in accuracy on the same prompts, with 95% intervals.",
        [("difference", 0)],
        rows,
        x="difference in accuracy",
        level=0.0,
    )
    return Part(title, (Plot(title, svg, table) if svg else table,))


def _wins(named: Named) -> Part | None:
    found = [(name, one) for name, evaluation in named for one in evaluation.wins]
    if not found:
        return None
    title = "Win rates"
    labels = [one.task if len(named) == 1 else f"{name}: {one.task}" for name, one in found]
    table = Table(
        title,
        (
            "task",
            "baseline",
            "wins",
            "at equal length",
            "consistent",
            "first preferred",
            "characters",
            "theirs",
        ),
        tuple(
            (
                label,
                _short(one.baseline),
                Value(one.raw),
                Value(one.length_controlled),
                Value(one.consistent),
                Value(one.first),
                Value(one.characters, 0),
                Value(one.baseline_characters, 0),
            )
            for label, (_, one) in zip(labels, found, strict=True)
        ),
        note="A tie counts half; each pair was judged in both orders, by "
        f"{', '.join(dict.fromkeys(one.judge for _, one in found))}. At equal length: logistic regression "
        "after AlpacaEval 2.",
    )
    rows = [
        Row(label, ((0, one.raw), (1, one.length_controlled)))
        for label, (_, one) in zip(labels, found, strict=True)
        if one.raw.value is not None
    ]
    svg = dots(
        title,
        "Share of pairs that the judge decides for the model, as they are and at equal length.",
        [("as they are", 0), ("at equal length", 1)],
        rows,
        x="win rate",
        level=0.5,
    )
    return Part(title, (Plot(title, svg, table) if svg else table,))


def _robustness(tasks: Sequence[str], named: Named) -> Part | None:
    """Accuracy over temperature and top-p."""
    grids = tuple(block for task in tasks for block in _grids(task, named))
    return Part("Decode robustness", grids) if grids else None


def _grids(task: str, named: Named) -> list[Block]:
    """A map for each model, on one scale."""
    grids = [
        (name, cells)
        for name, found in named
        if (cells := [cell for cell in found.grid if cell.figures.name == task])
    ]
    values = [v for _, cells in grids for cell in cells if (v := cell.figures.accuracy.value) is not None]
    limits = (min(values), max(values)) if values else None
    return [_grid(name, task, cells, limits) for name, cells in grids]


def _grid(name: str, task: str, cells: Sequence[Cell], limits: tuple[float, float] | None) -> Block:
    """A map of temperature and top-p; a row of dots where the ways are no grid."""
    title = f"Accuracy by how {name} draws: {task}"
    by = {(cell.temperature, cell.top_p): cell.figures.accuracy for cell in cells}
    temperatures = sorted({temperature for temperature, _ in by})
    top_ps = sorted({top_p for _, top_p in by})
    if len(temperatures) > 1 and len(top_ps) > 1:
        svg = heat(
            title,
            "Accuracy by temperature and top-p; greedy is one way, whatever the top-p.",
            ("top-p", [f"{top_p:g}" for top_p in top_ps]),
            ("temperature", [f"{temperature:g}" for temperature in temperatures]),
            [[_at(by, temperature, top_p) for temperature in temperatures] for top_p in top_ps],
            limits=limits,
        )
    else:
        svg = dots(
            title,
            "Accuracy in each way of drawing, with 95% intervals.",
            [("accuracy", 0)],
            [Row(f"temperature {t:g}, top-p {p:g}", ((0, figure),)) for (t, p), figure in by.items()],
            x="accuracy",
        )
    table = Table(
        title,
        ("temperature", "top-p", "accuracy", "unfinished", "tokens"),
        tuple(
            (
                f"{cell.temperature:g}{'' if at else ' (asked for)'}",
                f"{cell.top_p:g}",
                Value(cell.figures.accuracy),
                Value(cell.figures.unfinished),
                Value(cell.figures.tokens, 1),
            )
            for at, cell in enumerate(cells)
        ),
    )
    return Plot(title, svg, table) if svg else table


def _at(by: Mapping[tuple[float, float], Figure], temperature: float, top_p: float) -> Figure:
    """Greedy responses are the same at every top-p."""
    if temperature == 0:
        return next(figure for (heat, _), figure in by.items() if heat == 0)
    return by.get((temperature, top_p), NOT_MEASURED)


def _lm_eval(named: Named) -> Part | None:
    rows = [
        (f"{one.task}: {name}", one.metric, _with_error(one), DASH if one.n is None else f"{one.n:,}")
        for name, found in named
        for one in found.lm_eval
    ]
    if not rows:
        return None
    columns = ("task and model", "metric", "value (± standard error)", "n")
    return Part("lm-evaluation-harness", (Table("As the harness gives them", columns, tuple(rows)),))


def _with_error(one: LmEvalFigure) -> str:
    return f"{one.value:.4g}" + ("" if one.stderr is None else f" ± {one.stderr:.2g}")


def _short(name: str) -> str:
    """The last part of a path, a name otherwise."""
    return next(iter(short_names([name]).values()))
