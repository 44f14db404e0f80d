"""Plots of the report: marks stand where the figures are; and its colours: contrasts are computed."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.intervals import NOT_MEASURED, Figure
from weft.report.axes import STYLES, Scale, tick_label, ticks
from weft.report.blocks import Value, flat, number
from weft.report.charts import Row, Series, bars, dots, heat, lines, scatter

CSS = files("weft.report").joinpath("page", "report.css").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<b>&"x"\x1b[0m\u202e'


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def found(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if kind in (one.get("class") or "").split()]


def drawn(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Marks that are figures, not the legend's."""
    return [one for one in found(root, "mark") if one.find(f"{SVG}title") is not None]


# -- scales ----------------------------------------------------------------------------------------------


@given(
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(-1e6, 1e6, allow_subnormal=False),
)
def test_ticks_hold_the_values_and_are_even(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    step = marks[1] - marks[0]
    assert marks[0] <= low + step * 1e-6
    assert marks[-1] >= high - step * 1e-6
    assert 2 <= len(marks) <= 9
    assert all(math.isclose(y - x, step, rel_tol=1e-5) for x, y in pairwise(marks))
    assert len({tick_label(mark, marks) for mark in marks}) == len(marks)


def test_tick_labels() -> None:
    assert [tick_label(mark, ticks(0, 1.2)) for mark in ticks(0, 1.2)] == [
        "0",
        "0.25",
        "0.50",
        "0.75",
        "1.00",
        "1.25",
    ]
    assert [tick_label(mark, ticks(-1, 1)) for mark in ticks(-1, 1)] == ["−1.0", "−0.5", "0", "0.5", "1.0"]


def test_a_scale_is_a_line() -> None:
    scale = Scale(1.0, 3.0, 100.0, 300.0)
    assert [scale.at(value) for value in (1.0, 2.0, 3.0)] == [100.0, 200.0, 300.0]


# -- plots -----------------------------------------------------------------------------------------------


def test_dots_stand_at_their_values() -> None:
    svg = dots(
        "t",
        "what is seen",
        [("one", 0), ("two", 1)],
        [Row("a", ((0, Figure(0.0, None, None, 5)), (1, Figure(1.0, 0.5, 1.0, 7))))],
        x="share",
    )
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "t"
    assert root.find(f"{SVG}desc") is not None
    circle = next(one for one in drawn(root) if one.tag == f"{SVG}circle")
    bar, *caps = found(root, "error")
    start, end = float(bar.get("x1") or 0), float(bar.get("x2") or 0)
    zero, one = float(circle.get("cx") or 0), end
    assert start == pytest.approx((zero + one) / 2, abs=0.1)
    assert len(caps) == 2
    assert "a, two: 1.000 (0.500–1.000), n = 7" in svg
    assert "a, one: 0.000, n = 5" in svg


def test_lines_break_where_nothing_was_measured() -> None:
    known = {
        at: Figure(value, value - 0.1, value + 0.1, 3)
        for at, value in ((0, 1.0), (1, 2.0), (3, 2.0), (4, 1.0))
    }
    points = tuple((float(at), known.get(at, NOT_MEASURED)) for at in range(5))
    svg = lines("t", "d", [Series("s", points)], x="x", y="y")
    root = parsed(svg)
    assert len([one for one in found(root, "stroke") if one.tag == f"{SVG}polyline"]) == 2
    assert len(found(root, "band")) == 2
    first, second = (one.get("points") or "" for one in root.iter(f"{SVG}polyline"))
    assert first.split()[1].split(",")[1] == second.split()[0].split(",")[1], "equal values at equal heights"


def test_bars_go_both_ways_from_zero() -> None:
    root = parsed(bars("t", "d", [("up", 4.0, "u"), ("down", -2.0, "d")], x="z", left="l", right="r"))
    more, less = found(root, "more")[0], found(root, "less")[0]
    assert float(more.get("width") or 0) == pytest.approx(2 * float(less.get("width") or 0), abs=0.2)
    assert float(less.get("x") or 0) + float(less.get("width") or 0) == pytest.approx(
        float(more.get("x") or 0), abs=0.2
    )


def test_a_heat_map_is_darkest_at_the_greatest() -> None:
    values = [
        [Figure(0.0, None, None, 1), Figure(0.5, None, None, 1)],
        [Figure(1.0, None, None, 1), NOT_MEASURED],
    ]
    svg = heat("t", "d", ("top-p", ["0.9", "1"]), ("temperature", ["0", "1"]), values)
    assert [(one.get("class") or "").split()[1] for one in found(parsed(svg), "cell")] == [
        "h0",
        "h4",
        "h8",
        "h0",
    ]
    assert "not measured" in svg


def test_a_scatter_has_a_name_for_each_point() -> None:
    svg = scatter(
        "t",
        "d",
        [("p", Figure(0.5, 0.4, 0.6, 3), Figure(0.7, 0.6, 0.8, 4)), ("q", NOT_MEASURED, NOT_MEASURED)],
        x="x",
        y="y",
    )
    assert len(drawn(parsed(svg))) == 1
    shown = [one.text for one in parsed(svg).iter(f"{SVG}text")]
    assert shown.count("1  p") == shown.count("1") == 1, "the number leads from the point to its name"
    assert "2  q" not in shown
    assert "p: x 0.500 (0.400–0.600), n = 3; y 0.700 (0.600–0.800), n = 4" in svg


def test_nothing_measured_is_no_plot() -> None:
    empty = [Row("a", ((0, NOT_MEASURED),))]
    assert dots("t", "d", [("s", 0)], empty, x="x") == ""
    assert lines("t", "d", [Series("s", ((0.0, NOT_MEASURED),))], x="x", y="y") == ""
    assert bars("t", "d", [], x="x", left="l", right="r") == ""
    assert heat("t", "d", ("a", ["1"]), ("b", ["1"]), [[NOT_MEASURED]]) == ""
    assert scatter("t", "d", [], x="x", y="y") == ""


def test_names_cannot_act_in_a_plot() -> None:
    figure = Figure(1.0, 0.5, 1.5, 2)
    for svg in (
        dots(NASTY, NASTY, [(NASTY, 0), (NASTY, 1)], [Row(NASTY * 9, ((0, figure), (1, figure)))], x=NASTY),
        lines(NASTY, NASTY, [Series(NASTY, ((0.0, figure), (1.0, figure)))], x=NASTY, y=NASTY),
        bars(NASTY, NASTY, [(NASTY, 1.0, NASTY)], x=NASTY, left=NASTY, right=NASTY),
        heat(NASTY, NASTY, (NASTY, [NASTY]), (NASTY, [NASTY]), [[figure]]),
        scatter(NASTY, NASTY, [(NASTY, figure, figure)], x=NASTY, y=NASTY),
    ):
        assert {one.tag.removeprefix(SVG) for one in parsed(svg).iter()} <= {
            "svg", "desc", "title", "text", "line", "circle", "polygon", "polyline", "rect",
        }  # fmt: skip
        assert "\x1b" not in svg
        assert "\u202e" not in svg


def test_series_differ_by_shape_too() -> None:
    figure = Figure(1.0, None, None, 1)
    svg = dots(
        "t",
        "d",
        [(str(at), at) for at in range(STYLES)],
        [Row("a", tuple((at, figure) for at in range(STYLES)))],
        x="x",
    )
    shapes = set()
    for one in drawn(parsed(svg)):
        pairs = [tuple(map(float, pair.split(","))) for pair in (one.get("points") or "").split()]
        x, y = pairs[0] if pairs else (0.0, 0.0)
        shapes.add(tuple((round(a - x), round(b - y)) for a, b in pairs))
    assert len(shapes) == STYLES


# -- numbers ---------------------------------------------------------------------------------------------


def test_numbers_for_people() -> None:
    assert number(-0.0001) == "0.000"
    assert number(-1234.5678, 1) == "−1,234.6"
    assert Value(NOT_MEASURED).value == "–"
    assert Value(Figure(0.5, None, None, 4)).interval == ""
    assert list(flat({"a": {"b": [1, 2], "c": None}, "d": [{"e": True}], "f": {}})) == [
        ("a.b", "1, 2"),
        ("a.c", "–"),
        ("d[0].e", "yes"),
        ("f", "none"),
    ]


# -- colours ---------------------------------------------------------------------------------------------

COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
}


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXTS = ("text", "muted", "link", "student", "teacher", "unknown", "good", "fair", "bad")


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(theme: int) -> None:
    pairs = [(name, ground) for name in TEXTS for ground in ("ground", "panel")]
    pairs += [(f"{ramp}{level}t", f"{ramp}{level}") for ramp in "hy" for level in range(9)]
    pairs += [("ground", "link")]
    low = {
        (text, ground): round(contrast(COLOURS[text][theme], COLOURS[ground][theme]), 2)
        for text, ground in pairs
        if contrast(COLOURS[text][theme], COLOURS[ground][theme]) < 4.5
    }
    assert not low


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_marks_can_be_seen(theme: int) -> None:
    low = {
        at: round(contrast(COLOURS[f"s{at}"][theme], COLOURS["ground"][theme]), 2)
        for at in range(STYLES)
        if contrast(COLOURS[f"s{at}"][theme], COLOURS["ground"][theme]) < 3
    }
    assert not low


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ramp", ["h", "y"])
def test_ramps_go_one_way_in_lightness(ramp: str, theme: int) -> None:
    """So that they can be read without seeing colours."""
    values = [luminance(COLOURS[f"{ramp}{level}"][theme]) for level in range(9)]
    assert values == sorted(values, reverse=theme == 0)


def test_every_colour_has_both_themes() -> None:
    assert len(COLOURS) == CSS.count("light-dark(") > 40
