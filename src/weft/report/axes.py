"""Scales, ticks and marks of the plots, and text inside SVG.

It does not know what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from weft.report.outside import shown

STYLES = 8
"""Colours and shapes that the style sheet has (``--s0`` to ``--s7``); then they come round again."""
GREATEST = 1e300
"""Beyond it the difference of two numbers may be no number any more; no axis reaches farther."""
LABEL = 33
"""Characters of a label that fit beside a plot."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A line from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from below ``low`` to above ``high``, about so many; values that hardly differ are one."""
    low, high = max(low, -GREATEST), min(high, GREATEST)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_label(value: float, all_ticks: Sequence[float]) -> str:
    """With as many digits as the ticks need, and a real minus sign."""
    step = all_ticks[1] - all_ticks[0] if len(all_ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, digits) != round(step, digits + 1):
        digits += 1
    text = f"{value:,.{digits}f}"
    return ("0" if not text.strip("-0.,") else text).replace("-", "−")


def span(values: Iterable[float], *, zero: bool) -> tuple[float, float]:
    """From the least to the greatest; ``zero``: and 0."""
    known = [*values, *([0.0] if zero else [])]
    return (min(known), max(known)) if known else (0.0, 1.0)


def words(text: str) -> str:
    """Text inside SVG, whatever it holds."""
    return escape(shown(text).replace("\n", " "))


def cut(text: str, characters: int) -> str:
    """``text`` without its middle where it is too long: names in a row often differ at their ends alone."""
    if len(text) <= characters:
        return text
    head = (characters - 1) // 2
    return f"{text[:head]}…{text[len(text) - (characters - 1 - head) :]}"


def label(text: str, characters: int = LABEL) -> str:
    """A label that fits, the whole of it on hover."""
    whole = shown(text).replace("\n", " ")
    if len(whole) <= characters:
        return escape(whole)
    return f"{escape(cut(whole, characters))}<title>{escape(whole)}</title>"


def text(x: float, y: float, inner: str, *, anchor: str = "start", kind: str = "tick") -> str:
    """A piece of text; ``inner`` is markup."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{inner}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def mark(x: float, y: float, style: int, title: str = "") -> str:
    """The mark of a series: a shape of its own, so that nobody needs its colour."""
    shape = _SHAPES[style % STYLES]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape)
    hover = f"<title>{words(title)}</title>" if title else ""
    if not shape:
        return f'<circle class="mark s{style % STYLES}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{hover}</circle>'
    return f'<polygon class="mark s{style % STYLES}" points="{points}">{hover}</polygon>'


_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-4.2, -4.2), (4.2, -4.2), (4.2, 4.2), (-4.2, 4.2)),
    ((0, -5.5), (5.2, 4), (-5.2, 4)),
    ((0, -6), (6, 0), (0, 6), (-6, 0)),
    ((-5.2, -4), (5.2, -4), (0, 5.5)),
    ((-5.5, -2.5), (-2.5, -5.5), (5.5, 2.5), (2.5, 5.5)),
    ((-6, 0), (-3, -5), (3, -5), (6, 0), (3, 5), (-3, 5)),
    ((-2.6, -5.5), (2.6, -5.5), (2.6, 5.5), (-2.6, 5.5)),
)
"""Circle, square, triangles, diamond, slanted bar, hexagon, bar."""
