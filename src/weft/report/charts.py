"""Plots as inline SVG: lines with bands, dots with error bars, diverging bars, heat maps.

Made here rather than by a plotting library: plotly.js alone is 4.6 MB of the 5 that a report may take, an
image of matplotlib's has neither text for screen readers nor the reader's light or dark, and few kinds of
plot are little code.

Invariants
    - Colours are classes, so that the page decides them; every series has a shape or dashes of its own.
    - Every mark says its figure on hover; a plot's ``<desc>`` says in words what it shows.
    - Any text is safe: labels go through :func:`weft.report.axes.words`.
    - What was not measured is not drawn; a plot without any value is no plot (``""``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from weft.intervals import Figure
from weft.report.axes import LABEL, STYLES, Scale, label, line, mark, span, text, tick_label, ticks, words

WIDTH = 600
ROW = 26
"""Pixels from one row of dots to the next."""
BANDS = 6
"""Lines that get bands at most: the bands of more hide one another. Hover and table still say them."""
NO_STYLE = -1
"""Of what stands in a legend for lines of every colour."""
CHARACTER = 7.2
"""Pixels of a label's character, about."""


@dataclass(frozen=True, slots=True)
class Series:
    """Figures that belong together."""

    name: str
    points: tuple[tuple[float, Figure], ...]
    """Place on the x axis, and the figure there."""
    style: int = 0
    """Of colour and shape."""
    dashed: bool = False
    hover: tuple[str, ...] = ()
    """What the places are called; left out: their numbers."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of dots."""

    name: str
    figures: tuple[tuple[int, Figure], ...]
    """Style of each series, and its figure."""
    level: float | None = None
    """A value of this row's own to draw a level line at."""


def lines(
    title: str,
    about: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    places: Sequence[tuple[float, str]] = (),
    zero: bool = False,
    level: float | None = None,
    dashed: str = "",
) -> str:
    """Lines with 95% bands.

    Args:
        about: what the plot shows, in words.
        places: ticks of the x axis with their labels; left out: round numbers.
        zero: whether the y axis holds 0.
        level: a value to draw a level line at.
        dashed: what dashed lines are, said once in the legend.
    """
    values = [value for one in series for _, figure in one.points for value in _extent(figure)]
    if not values:
        return ""
    across = [at for one in series for at, figure in one.points if figure.value is not None]
    low, high = span([*values, *([] if level is None else [level])], zero=zero)
    marks = ticks(low, high)
    named = [(one.name, one.style, False) for one in series if not one.dashed]
    if any(one.dashed for one in series):
        named.append((dashed, NO_STYLE, True))
    rows = _legend_rows([name for name, _, _ in named])
    top = 14 + 20 * rows
    height = top + 236
    left = 18 + CHARACTER * max(len(tick_label(at, marks)) for at in marks) + 18
    down = Scale(marks[0], marks[-1], height - 46, top)
    edge = [at for at, _ in places] or across
    side = Scale(min(edge), max(edge) if max(edge) > min(edge) else min(edge) + 1, left + 12, WIDTH - 34)
    body = [_legend(named)]
    for at in marks:
        body.append(line(left, down.at(at), WIDTH - 12, down.at(at), "grid"))
        body.append(text(left - 6, down.at(at) + 4, tick_label(at, marks), anchor="end"))
    if level is not None:
        body.append(line(left, down.at(level), WIDTH - 12, down.at(level), "level"))
    below = ticks(min(across), max(across))
    for at, name in places or [(at, tick_label(at, below)) for at in below]:
        if side.low <= at <= side.high:
            body.append(text(side.at(at), height - 26, words(name), anchor="middle"))
    body.append(text((left + WIDTH) / 2, height - 6, words(x), anchor="middle", kind="axis"))
    body.append(_upright(14, (top + height - 46) / 2, y))
    bands = sum(not one.dashed for one in series) <= BANDS
    body += [_line(one, side, down, band=bands and not one.dashed) for one in series]
    return _svg(title, about, height, body)


def dots(
    title: str,
    about: str,
    names: Sequence[tuple[str, int]],
    rows: Sequence[Row],
    *,
    x: str,
    zero: bool = False,
    level: float | None = None,
    digits: int = 3,
) -> str:
    """Dots with error bars, a row for each thing.

    Args:
        names: the series, each with its style; one alone gets no legend.
        rows: from top to bottom.
        zero: whether the axis holds 0.
        level: a value to draw a level line at.
    """
    values = [value for row in rows for _, figure in row.figures for value in _extent(figure)]
    if not values:
        return ""
    rows = [row for row in rows if any(figure.value is not None for _, figure in row.figures)]
    levels = [at for at in (level, *(row.level for row in rows)) if at is not None]
    low, high = span([*values, *levels], zero=zero)
    marks = ticks(low, high)
    shown = names if len(names) > 1 else ()
    top = 12 + 20 * _legend_rows([name for name, _ in shown])
    left = 16 + CHARACTER * min(LABEL, max(len(row.name) for row in rows))
    many = [max(1, len(row.figures)) for row in rows]
    heights = [max(ROW, 15 * count + 8) for count in many]
    bottom = top + sum(heights)
    side = Scale(marks[0], marks[-1], left + 8, WIDTH - 24)
    body = [_legend([(name, style, False) for name, style in shown])]
    for at in marks:
        body.append(line(side.at(at), top, side.at(at), bottom, "grid"))
        body.append(text(side.at(at), bottom + 18, tick_label(at, marks), anchor="middle"))
    if level is not None:
        body.append(line(side.at(level), top, side.at(level), bottom, "level"))
    body.append(text((left + WIDTH) / 2, bottom + 38, words(x), anchor="middle", kind="axis"))
    y = float(top)
    called = {style: name for name, style in names}
    for row, height, count in zip(rows, heights, many, strict=True):
        body.append(text(left - 6, y + height / 2 + 4, label(row.name), anchor="end", kind="name"))
        if row.level is not None:
            body.append(line(side.at(row.level), y, side.at(row.level), y + height, "level"))
        for number, (style, figure) in enumerate(row.figures):
            at = y + height / 2 + (number - (count - 1) / 2) * 15
            body.append(_dot(side, at, figure, style, f"{row.name}, {called.get(style, '')}", digits))
        y += height
    return _svg(title, about, bottom + 46, body)


def bars(
    title: str, about: str, rows: Sequence[tuple[str, float, str]], *, x: str, left: str, right: str
) -> str:
    """Bars to both sides of 0.

    Args:
        rows: name, value, and what is said of it on hover.
        left: what values below 0 mean.
        right: what values above 0 mean.
    """
    if not rows:
        return ""
    marks = ticks(*span([value for _, value, _ in rows], zero=True))
    margin = 16 + CHARACTER * min(LABEL, max(len(name) for name, _, _ in rows))
    top, height = 34, 20
    bottom = top + height * len(rows)
    side = Scale(marks[0], marks[-1], margin + 8, WIDTH - 24)
    body = []
    if marks[0] < 0:
        body.append(text(side.at(0) - 10, 18, f"← {words(left)}", anchor="end", kind="axis"))
    if marks[-1] > 0:
        body.append(text(side.at(0) + 10, 18, f"{words(right)} →", kind="axis"))
    for at in marks:
        body.append(line(side.at(at), top, side.at(at), bottom, "grid"))
        body.append(text(side.at(at), bottom + 18, tick_label(at, marks), anchor="middle"))
    for number, (name, value, said) in enumerate(rows):
        y = top + height * number
        start, end = sorted((side.at(0), side.at(value)))
        kind = "more" if value > 0 else "less"
        body.append(text(margin - 6, y + 14, label(name), anchor="end", kind="name"))
        body.append(
            f'<rect class="bar {kind}" x="{start:.1f}" y="{y + 3}" width="{end - start:.1f}" '
            f'height="{height - 6}"><title>{words(f"{name}: {said}")}</title></rect>'
        )
    body.append(line(side.at(0), top, side.at(0), bottom, "zero"))
    body.append(text((margin + WIDTH) / 2, bottom + 38, words(x), anchor="middle", kind="axis"))
    return _svg(title, about, bottom + 46, body)


def heat(
    title: str,
    about: str,
    down: tuple[str, Sequence[str]],
    across: tuple[str, Sequence[str]],
    values: Sequence[Sequence[Figure]],
    *,
    limits: tuple[float, float] | None = None,
    digits: int = 3,
) -> str:
    """A map of squares with their values written in.

    Args:
        down: what the rows are, and their names.
        across: what the columns are, and their names.
        values: ``[rows][columns]``
        limits: values of the lightest and the darkest square, where maps are compared; left out: its own.
    """
    known = [figure.value for row in values for figure in row if figure.value is not None]
    if not known:
        return ""
    low, high = limits or (min(known), max(known))
    left = 40 + CHARACTER * max(map(len, down[1]))
    cell = min(110.0, (WIDTH - left - 12) / len(across[1]))
    height = 44
    body = [text(left + cell * len(across[1]) / 2, 14, words(across[0]), anchor="middle", kind="axis")]
    for column, name in enumerate(across[1]):
        body.append(text(left + cell * (column + 0.5), 34, words(name), anchor="middle"))
    for number, (name, row) in enumerate(zip(down[1], values, strict=True)):
        y = 42 + height * number
        body.append(text(left - 8, y + 26, words(name), anchor="end"))
        for column, figure in enumerate(row):
            value = figure.value
            level = 0 if value is None or high == low else min(8, int((value - low) / (high - low) * 9))
            hover = f"{down[0]} {name}, {across[0]} {across[1][column]}: {said(figure, digits)}"
            x = left + cell * column
            body.append(
                f'<rect class="cell h{level}" x="{x:.1f}" y="{y}" width="{cell - 3:.1f}" '
                f'height="{height - 3}"><title>{words(hover)}</title></rect>'
            )
            inner = "–" if value is None else f"{value:.{digits}f}"
            body.append(text(x + cell / 2 - 1.5, y + 25, inner, anchor="middle", kind=f"inside h{level}"))
    bottom = 42 + height * len(down[1])
    body.append(_upright(14, (42 + bottom) / 2, down[0]))
    return _svg(title, about, bottom + 8, body)


def scatter(
    title: str,
    about: str,
    points: Sequence[tuple[str, Figure, Figure]],
    *,
    x: str,
    y: str,
) -> str:
    """Points with error bars both ways, each with its number; the legend says whose it is.

    Args:
        points: name, figure across, figure up.
    """
    known = [
        (style, point)
        for style, point in enumerate(points)
        if point[1].value is not None and point[2].value is not None
    ]
    if not known:
        return ""
    across = ticks(*span([value for _, (_, one, _) in known for value in _extent(one)], zero=False))
    up = ticks(*span([value for _, (_, _, one) in known for value in _extent(one)], zero=False))
    named = [(f"{style + 1}  {name}", style, False) for style, (name, _, _) in known]
    top = 14 + 20 * _legend_rows([name for name, _, _ in named])
    left, bottom = 70, top + 280
    height = bottom + 46
    side, down = Scale(across[0], across[-1], left + 8, WIDTH - 20), Scale(up[0], up[-1], bottom, top)
    body = [_legend(named, lines=False)]
    for at in across:
        body.append(line(side.at(at), top, side.at(at), bottom, "grid"))
        body.append(text(side.at(at), bottom + 20, tick_label(at, across), anchor="middle"))
    for at in up:
        body.append(line(left, down.at(at), WIDTH - 12, down.at(at), "grid"))
        body.append(text(left - 6, down.at(at) + 4, tick_label(at, up), anchor="end"))
    for style, (name, right, above) in known:
        x_at, y_at = side.at(right.value or 0.0), down.at(above.value or 0.0)
        kind = f"error s{style % STYLES}"
        if right.low is not None and right.high is not None:
            body.append(line(side.at(right.low), y_at, side.at(right.high), y_at, kind))
        if above.low is not None and above.high is not None:
            body.append(line(x_at, down.at(above.low), x_at, down.at(above.high), kind))
        body.append(mark(x_at, y_at, style, f"{name}: {x} {said(right)}; {y} {said(above)}"))
        body.append(text(x_at + 8, y_at - 7, str(style + 1), kind="name"))
    body.append(text((left + WIDTH) / 2, height - 6, words(x), anchor="middle", kind="axis"))
    body.append(_upright(14, (top + bottom) / 2, y))
    return _svg(title, about, height, body)


def said(figure: Figure, digits: int = 3) -> str:
    """A figure with its interval and its cases, in a line."""
    return f"{figure.shown(digits)}, n = {figure.n:,}" if figure.value is not None else "not measured"


def _svg(title: str, about: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" xmlns="http://www.w3.org/2000/svg" aria-label="{_attribute(title)}">'
        f"<desc>{words(about)}</desc>{''.join(body)}</svg>"
    )


def _attribute(value: str) -> str:
    return words(value).replace('"', "&quot;")


def _extent(figure: Figure) -> list[float]:
    return [value for value in (figure.value, figure.low, figure.high) if value is not None]


def _legend_rows(names: Sequence[str]) -> int:
    """Rows that the legend takes."""
    rows, x = 0, float(WIDTH)
    for name in names:
        width = 42 + CHARACTER * min(40, len(name))
        if x + width > WIDTH - 10:
            rows, x = rows + 1, 12.0
        x += width
    return rows


def _legend(entries: Sequence[tuple[str, int, bool]], *, lines: bool = True) -> str:
    parts: list[str] = []
    row, x = 0, float(WIDTH)
    for name, style, dashed in entries:
        width = 42 + CHARACTER * min(40, len(name))
        if x + width > WIDTH - 10:
            row, x = row + 1, 12.0
        y = 20 * row - 6
        kind = "key dashed" if style == NO_STYLE else f"stroke s{style % STYLES}{' dashed' if dashed else ''}"
        if lines:
            parts.append(line(x, y, x + 18, y, kind))
        if not dashed:
            parts.append(mark(x + 9, y, style))
        parts.append(text(x + 24, y + 4, label(name, 40), kind="name"))
        x += width
    return "".join(parts)


def _line(one: Series, side: Scale, down: Scale, *, band: bool) -> str:
    """Band, line and marks of a series; where nothing was measured the line is broken."""
    kind = f"s{one.style % STYLES}"
    parts: list[str] = []
    names = one.hover or tuple(f"{at:g}" for at, _ in one.points)
    numbered = list(zip(one.points, names, strict=True))
    for measured, group in groupby(numbered, key=lambda item: item[0][1].value is not None):
        if not measured:
            continue
        stretch = [(side.at(at), figure, name) for (at, figure), name in group]
        banded = [(x, f.low, f.high) for x, f, _ in stretch if f.low is not None and f.high is not None]
        if len(banded) > 1 and band:
            edge = [(x, down.at(high)) for x, _, high in banded]
            edge += [(x, down.at(low)) for x, low, _ in reversed(banded)]
            parts.append(f'<polygon class="band {kind}" points="{_points(edge)}"/>')
        path = _points([(x, down.at(f.value)) for x, f, _ in stretch if f.value is not None])
        parts.append(f'<polyline class="stroke {kind}{" dashed" if one.dashed else ""}" points="{path}"/>')
        if not one.dashed:
            parts += [
                mark(x, down.at(f.value), one.style, f"{one.name}, {name}: {said(f)}")
                for x, f, name in stretch
                if f.value is not None
            ]
    return "".join(parts)


def _dot(side: Scale, y: float, figure: Figure, style: int, name: str, digits: int) -> str:
    if figure.value is None:
        return ""
    parts = []
    if figure.low is not None and figure.high is not None:
        low, high, kind = side.at(figure.low), side.at(figure.high), f"error s{style % STYLES}"
        parts = [line(low, y, high, y, kind)]
        parts += [line(at, y - 4, at, y + 4, kind) for at in (low, high)]
    return "".join([*parts, mark(side.at(figure.value), y, style, f"{name}: {said(figure, digits)}")])


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _upright(x: float, y: float, inner: str) -> str:
    return (
        f'<text class="axis" x="{x}" y="{y:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 {x} {y:.1f})">{words(inner)}</text>'
    )
