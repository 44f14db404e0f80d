"""``weft boundary eval``: how good a boundary is, for people and as JSON.

Figures are of :mod:`weft.boundary.measuring`; here they are only shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from weft.cli.show import visible
from weft.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from weft.boundary.measuring.evaluate import Evaluation
    from weft.boundary.measuring.figures import BoundaryFigures, Calibration
    from weft.intervals import Figure

NARROW = 80
"""Columns; a terminal with fewer shows each figure on a line of its own."""


def evaluate(
    boundary: str,
    file: Path,
    /,
    *,
    labels: Literal["spans", "oracle"] = "spans",
    tokenizer: str | None = None,
    split: Literal["auto", "all", "validation", "train"] = "auto",
    threshold: float | None = None,
    limit: int | None = None,
    device: str | None = None,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Measure a boundary on texts whose style spans are known.

    Says how well it finds the places where the pen changes hands, what its errors
    leak to the wrong model, whether its probabilities can be trusted, what other
    thresholds would give, and what a decision costs. Figures come with 95%
    intervals, by resampling prompts.

    Parameters
    ----------
    boundary
        A classifier's folder or hub id, micro:student, micro:teacher, lexicon, lexicon:FILE, or oracle.
    file
        Spans, as `weft boundary annotate` writes them; with --labels oracle: traces of `weft synth`.
    labels
        Where the truth is from: the file's spans, or the oracle of the micro world.
    tokenizer
        Count lexicon or oracle in tokens of this model; left out: in words. Classifiers count in their own.
    split
        auto: the texts that training held out, if FILE was trained on, else all.
    threshold
        From this probability (lexicon: weight) on, a token is style; left out: the boundary's own.
    limit
        At most so many texts, the first ones.
    device
        Of a classifier; left out: a GPU where there is one.
    seed
        Of the intervals' resamples.
    as_json
        One JSON object in place of the tables.
    quiet
        No progress.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"a threshold of {threshold:g}", expected="between 0 and 1", where="--threshold")
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} texts", expected="1 or more", where="--limit")
    if seed < 0:
        raise UserError(f"a seed of {seed}", expected="0 or more", where="--seed")
    from weft.boundary.measuring import evaluate as measuring

    with _progress(shown=not quiet) as advance:
        found = measuring.evaluate(
            boundary,
            file,
            labels=labels,
            tokenizer=tokenizer,
            split=split,
            threshold=threshold,
            limit=limit,
            device=device,
            seed=seed,
            advance=advance,
        )
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        _show(found)
    return 0


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while texts are read; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task("texts", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _show(found: Evaluation) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    _heading(console, found)
    _places(console, found.figures)
    _tokens(console, found.figures)
    if found.figures.calibration is not None:
        _probabilities(console, found.figures.calibration)
        _thresholds(console, found.figures)
    _cost(console, found)


def _heading(console: Console, found: Evaluation) -> None:
    from rich.text import Text

    figures, truth = found.figures, found.truth
    console.print(Text(visible(f"{found.boundary} on {truth.file}"), style="bold"))
    part = {
        "all": "",
        "validation": ", held out in its training, which chose among checkpoints by them"
        if truth.trained_on
        else ", of prompts that its training would have held out",
        "train": ", which it was trained on: no measure of what it does on others"
        if truth.trained_on
        else ", of prompts that its training would have learned from",
    }[truth.part]
    said = f"{_number(figures.texts, 'text')} of {_number(figures.groups, 'prompt')}{part}"
    said += f"; {_number(figures.tokens, 'token')} ({found.units}). "
    said += "The truth is the oracle's. " if found.labels == "oracle" else "The truth is the file's spans. "
    if figures.groups > 1:
        said += "In brackets: 95% intervals, by resampling prompts."
    else:
        said += "One prompt alone gives no intervals."
    console.print(Text(visible(said)))
    if truth.part == "all" and truth.may_hold_trained:
        warning = "It was trained on another file of spans, which may hold some of these texts; "
        warning += "--split validation takes only prompts that it cannot have learned from."
        console.print(Text(warning, style="yellow"))
    for kind, scores in (("style", figures.style), ("capability", figures.capability)):
        if not scores.recall.n:
            console.print(Text(f"The truth holds no {kind}: little can be said of it.", style="yellow"))


def _places(console: Console, figures: BoundaryFigures) -> None:
    rows = [
        (f"within {_number(tolerance, 'token')}", scores.f1, scores.precision, scores.recall)
        for tolerance, scores in figures.boundaries.items()
    ]
    exact = next(iter(figures.boundaries.values()))
    _table(console, "Hand-over places", ("", "F1", "precision", "recall"), rows)
    _says(
        console,
        f"{exact.recall.n:,} true and {exact.precision.n:,} predicted. One is found if one is predicted that "
        "near to it, in the same direction.",
    )


def _tokens(console: Console, figures: BoundaryFigures) -> None:
    kinds = (("style", figures.style), ("capability", figures.capability))
    rows = [(kind, scores.f1, scores.precision, scores.recall) for kind, scores in kinds]
    _table(console, "Tokens", ("", "F1", "precision", "recall"), rows)
    _says(console, f"{figures.style.recall.n:,} of {figures.tokens:,} tokens are style.")
    spans = (("style", figures.style_spans), ("capability", figures.capability_spans))
    lengths = [(kind, one.true, one.predicted) for kind, one in spans]
    _table(console, "Mean length of spans, in tokens", ("", "true", "predicted"), lengths, digits=2)
    _says(console, "Where both predicted means are the smaller ones, the pen changes hands too often.")
    leaks = [
        ("capability", figures.leaked.capability, "the student writes what the teacher should"),
        ("style", figures.leaked.style, "the teacher writes what the student should"),
    ]
    _table(console, "Leaks, as shares of all tokens", ("", "share", ""), leaks)
    _says(console, "Leaked capability costs right answers, leaked style teaches the student a foreign one.")


def _probabilities(console: Console, calibration: Calibration) -> None:
    rows = [("calibration error", calibration.error), ("Brier score", calibration.brier)]
    _table(console, "Probabilities of style", ("", "value"), rows)
    bins = [
        (f"{row.low:.2f} to {row.high:.2f}", f"{row.style.n:,}", f"{row.probability:.3f}", row.style)
        for row in calibration.bins
        if row.probability is not None
    ]
    _table(console, "", ("probability", "tokens", "mean", "share of style"), bins)
    _says(
        console,
        "Both are 0 at best. The calibration error is the mean distance of a row's mean probability from its "
        "share of style.",
    )


def _thresholds(console: Console, figures: BoundaryFigures) -> None:
    rows = [
        (
            f"{row.threshold:g}{' *' if row.in_use else ''}",
            row.boundary_f1,
            row.leaked.capability,
            row.leaked.style,
        )
        for row in figures.thresholds
    ]
    _table(console, "Thresholds", ("", "F1 within 1 token", "leaked capability", "leaked style"), rows)
    _says(
        console, "* in use. A higher one leaks less capability to the student, and more style to the teacher."
    )


def _cost(console: Console, found: Evaluation) -> None:
    from weft.boundary.measuring.cost import TOGETHER

    rows = [("1 trace", found.cost.alone), (f"{TOGETHER} traces at once", found.cost.together)]
    _table(console, "Milliseconds per decision", ("", "mean"), rows)
    _says(
        console, f"One new token at a time, as in synthesis; on {found.cost.device} ({found.cost.machine})."
    )


def _table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Figure]],
    *,
    digits: int = 3,
) -> None:
    from rich.table import Table
    from rich.text import Text

    if title:
        console.print()
        console.print(Text(title, style="bold"))
    cells = [[cell if isinstance(cell, str) else cell.shown(digits) for cell in row] for row in rows]
    if console.width < NARROW:
        for row in cells:
            console.print(Text(row[0]))
            for column, cell in zip(columns[1:], row[1:], strict=True):
                console.print(Text(f"  {column}: {cell}" if column else f"  {cell}"))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(Text(column))
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _says(console: Console, sentence: str) -> None:
    from rich.text import Text

    console.print(Text(sentence, style="dim"))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
