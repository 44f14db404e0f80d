"""Tables of figures in a terminal, without lines, for results that people read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weft.intervals import Figure

Cell = str | Figure | float | None
"""Of a table; ``None``: not measured."""


def print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table below its title; nothing without rows. Names from outside are given as ``visible``."""
    if not rows:
        return
    console.print()
    console.print(Text(title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: Cell) -> Text:
    if isinstance(value, Figure):
        return Text(value.shown(2))
    if isinstance(value, float):
        return Text(f"{value:,.2f}")
    return Text("–" if value is None else value)
