"""What a section of the page is made of. Values only; the template writes them.

Everything here is text or numbers; markup is made in two places, the template and :mod:`weft.report.charts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.intervals import Figure

DASH = "–"
LISTED = 12
"""Figures that a plot's description lists."""


@dataclass(frozen=True, slots=True)
class Value:
    """A figure in a table's cell."""

    figure: Figure
    digits: int = 3

    @property
    def value(self) -> str:
        return DASH if self.figure.value is None else number(self.figure.value, self.digits)

    @property
    def interval(self) -> str:
        low, high = self.figure.low, self.figure.high
        if self.figure.value is None or low is None or high is None:
            return ""
        return f"{number(low, self.digits)} to {number(high, self.digits)}"

    @property
    def n(self) -> str:
        return "" if self.figure.value is None else f"{self.figure.n:,}"


@dataclass(frozen=True, slots=True)
class Link:
    """A text of the reader, by its key; without a key it is not in the page."""

    text: str
    key: str | None


Cell = str | Value | Link


@dataclass(frozen=True, slots=True)
class Table:
    """The first cell of each row is its heading."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    open: bool = True
    """Else it is folded."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, with its numbers as a table below."""

    title: str
    svg: str
    """Markup of :mod:`weft.report.charts`."""
    table: Table
    said: str = ""
    """What is seen, in a sentence."""


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence or two."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Sentences, one below the other."""

    items: tuple[str, ...]
    of: str = ""
    """What they are about."""
    open: bool = True
    """Else they are folded."""


@dataclass(frozen=True, slots=True)
class Advised:
    """A verdict in a box."""

    source: str
    advice: str
    """``train``, ``mix``, ``synthesise``, ``unknown``: decides the look."""
    words: str
    said: str
    basis: str
    """The figure and its thresholds."""
    provisional: bool


Block = Table | Plot | Note | Points | Advised


@dataclass(frozen=True, slots=True)
class Part:
    """Blocks under one heading."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""
    open: bool = True
    """Else its blocks are folded."""


@dataclass(frozen=True, slots=True)
class Section:
    """One result."""

    id: str
    """Of the heading, for links."""
    title: str
    parts: tuple[Part, ...]
    lead: str = ""
    facts: tuple[tuple[str, str], ...] = field(default=())
    """What was measured with what: name and value."""
    short: str = ""
    """What the page's navigation calls it; left out: its title."""


def listed(figures: Sequence[tuple[str, Figure]]) -> str:
    """Names with values, for people who do not see the plot."""
    return "; ".join(f"{name} {figure.shown()}" for name, figure in figures[:LISTED]) + "."


def number(value: float, digits: int = 3) -> str:
    """With thousands separators and a real minus sign; ``-0.000`` is ``0.000``."""
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as lines: ``sampling.top_p`` and its value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for at, inner in enumerate(value):
            yield from flat(inner, f"{name}[{at}]")
    else:
        yield name, plain(value)


def plain(value: Any) -> str:
    """A JSON value for people."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "none" if not value else str(dict(value))
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)
