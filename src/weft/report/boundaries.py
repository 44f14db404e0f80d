"""The section of `weft boundary eval --json`: how good a boundary is.

The JSON of :class:`weft.boundary.measuring.evaluate.Evaluation` is read as it is; its figures are
``{"value", "low", "high", "n"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.errors import UserError
from weft.intervals import Figure
from weft.report.blocks import DASH, Block, Part, Plot, Section, Table, Value, number
from weft.report.charts import Row, Series, dots, lines

VERSION = 1
"""Of the evaluations that are read; see :data:`weft.boundary.measuring.evaluate.EVALUATION_VERSION`."""


def boundary_section(data: Mapping[str, Any], where: str, id: str) -> Section:
    """How good a boundary is.

    Raises:
        UserError: it is of another version, or not whole.
    """
    if data.get("schema") != VERSION:
        raise UserError(
            f"a boundary evaluation of version {data.get('schema')!r}",
            where=where,
            expected=f"version {VERSION}",
            remedy="measure it again: weft boundary eval … --json",
        )
    try:
        return _section(data, id)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"not a whole boundary evaluation: {type(error).__name__}: {error}",
            where=where,
            remedy="measure it again: weft boundary eval … --json",
        ) from error


def _section(data: Mapping[str, Any], id: str) -> Section:
    calibration = data["calibration"]
    parts = [
        _places(data),
        _tokens(data),
        None if calibration is None else _probabilities(calibration),
        _thresholds(data),
        _cost(data["cost"]),
    ]
    return Section(
        id,
        "Boundary",
        tuple(part for part in parts if part is not None),
        lead=f"How well {data['boundary']} finds where the pen changes hands, on {data['texts']:,} texts of "
        f"{data['groups']:,} prompts ({data['tokens']:,} tokens). Ranges are 95% intervals by "
        "resampling prompts.",
        facts=(
            ("boundary", str(data["boundary"])),
            ("texts", str(data["file"])),
            ("truth", str(data["labels"])),
            ("part", str(data["split"])),
            ("counted in", str(data["units"])),
        ),
    )


def figure(data: Mapping[str, Any]) -> Figure:
    """A figure of the JSON."""
    value, low, high = (
        None if data[name] is None else float(data[name]) for name in ("value", "low", "high")
    )
    return Figure(value, low, high, int(data["n"]))


def _places(data: Mapping[str, Any]) -> Part:
    kinds = (("F1", "boundary_f1"), ("precision", "boundary_precision"), ("recall", "boundary_recall"))
    found = {
        tolerance: [figure(data[key][tolerance]) for _, key in kinds] for tolerance in data["boundary_f1"]
    }
    table = Table(
        "Hand-over places, found within so many tokens",
        ("tokens", *(name for name, _ in kinds)),
        tuple((tolerance, *map(Value, figures)) for tolerance, figures in found.items()),
    )
    title = "Hand-over places"
    svg = dots(
        title,
        "F1, precision and recall of hand-over places, by how many tokens off they may be.",
        [(name, style) for style, (name, _) in enumerate(kinds)],
        [
            Row(f"within {tolerance} tokens", tuple(enumerate(figures)))
            for tolerance, figures in found.items()
        ],
        x="share",
    )
    return Part(title, (Plot(title, svg, table) if svg else table,))


def _tokens(data: Mapping[str, Any]) -> Part:
    scores = Table(
        "Tokens",
        ("", "F1", "precision", "recall"),
        tuple(
            (kind, *(Value(figure(data[kind][name])) for name in ("f1", "precision", "recall")))
            for kind in ("style", "capability")
        ),
    )
    leaks = Table(
        "Leaks, as shares of all tokens",
        ("", "share"),
        tuple(
            (f"{kind} to the wrong model", Value(figure(data["leaked"][kind])))
            for kind in ("capability", "style")
        ),
        note="Leaked capability costs right answers, leaked style teaches the student a foreign one.",
    )
    lengths = Table(
        "Mean length of spans, in tokens",
        ("", "true", "predicted"),
        tuple(
            (kind, *(Value(figure(data["span_length"][kind][name]), 2) for name in ("true", "predicted")))
            for kind in ("style", "capability")
        ),
    )
    return Part("Tokens and leaks", (scores, leaks, lengths))


def _probabilities(data: Mapping[str, Any]) -> Part:
    bins = [row for row in data["reliability"] if row["probability"] is not None]
    title = "Reliability"
    table = Table(
        "Share of style by predicted probability",
        ("probability", "mean", "share of style"),
        tuple(
            (
                f"{row['low']:.2f} to {row['high']:.2f}",
                number(row["probability"]),
                Value(figure(row["style"])),
            )
            for row in bins
        ),
        note=f"Calibration error {Value(figure(data['ece'])).value}, Brier score "
        f"{Value(figure(data['brier'])).value}; both are 0 at best.",
    )
    perfect = tuple((at / 10, Figure(at / 10, None, None, 0)) for at in range(11))
    svg = lines(
        title,
        "Share of tokens that are style, by the probability that was predicted; the dashed line is perfect.",
        [
            Series("measured", tuple((row["probability"], figure(row["style"])) for row in bins), 0),
            Series("perfect", perfect, 7, dashed=True),
        ],
        x="predicted probability of style",
        y="share of style",
        places=[(tenth / 10, f"{tenth / 10:g}") for tenth in range(0, 11, 2)],
        zero=True,
    )
    return Part(title, (Plot(title, svg, table) if svg and bins else table,))


def _thresholds(data: Mapping[str, Any]) -> Part | None:
    if not data["thresholds"]:
        return None
    table = Table(
        "What other thresholds would give",
        ("threshold", "F1 within 1 token", "leaked capability", "leaked style"),
        tuple(
            (
                f"{row['threshold']:g}{' (in use)' if row['in_use'] else ''}",
                Value(figure(row["boundary_f1"])),
                Value(figure(row["leaked"]["capability"])),
                Value(figure(row["leaked"]["style"])),
            )
            for row in data["thresholds"]
        ),
    )
    return Part("Thresholds", (table,))


def _cost(data: Mapping[str, Any]) -> Part:
    rows: tuple[tuple[str, Value], ...] = tuple(
        (f"{count} at once", Value(figure(found)))
        for count, found in data["milliseconds_per_decision"].items()
    )
    blocks: tuple[Block, ...] = (
        Table(
            "Milliseconds per decision",
            ("decisions", "mean"),
            rows,
            note=f"On {data.get('device') or DASH} ({data.get('machine') or DASH}).",
        ),
    )
    return Part("Cost", blocks)
