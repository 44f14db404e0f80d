"""The section of a recipe's table: a :class:`weft.recipes.table.Table` as blocks.

It draws and lists what was measured; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.intervals import Figure
from weft.recipes.table import Table as RecipeTable
from weft.report.blocks import Part, Plot, Section, Table, Value
from weft.report.charts import Row, dots


def table_section(found: RecipeTable, id: str) -> Section:
    """One row for each thing that the recipe compares."""
    rows = [(row.label, row.figures) for row in found.rows]
    table = Table(
        "Share of responses that are right",
        ("", *found.columns, "seeds"),
        tuple((row.label, *map(Value, row.figures), f"{row.evaluations:,}") for row in found.rows),
    )
    plots = tuple(
        Plot(column, svg, _of_column(column, at, rows))
        for at, column in enumerate(found.columns)
        if (svg := _dots(column, at, rows))
    )
    return Section(
        id,
        found.title,
        (Part("Accuracy", (table,)), *([Part("Column by column", plots)] if plots else [])),
        lead="Ranges are 95% intervals, over prompts and, where there are several, over seeds; n counts "
        "prompts.",
        short="Result",
    )


def _dots(column: str, at: int, rows: Sequence[tuple[str, Sequence[Figure]]]) -> str:
    return dots(
        column,
        "Accuracy of each row of the table, with 95% intervals.",
        [("accuracy", 0)],
        [Row(label, ((0, figures[at]),)) for label, figures in rows if figures[at].value is not None],
        x="accuracy",
    )


def _of_column(column: str, at: int, rows: Sequence[tuple[str, Sequence[Figure]]]) -> Table:
    return Table(column, ("", "accuracy"), tuple((label, Value(figures[at])) for label, figures in rows))
