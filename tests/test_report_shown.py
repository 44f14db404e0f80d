"""What a report shows of numbers, marks and names, and of what is hostile or broken."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_world import (
    S,
    policy_gap,
    reading_of,
    reward_gap,
    style_gap,
    trace_of,
    write_json,
    write_readings,
)
from weft.errors import UserError
from weft.gap.distance.readings import READINGS
from weft.intervals import NOT_MEASURED, Figure
from weft.records import Span
from weft.report.blocks import Plot, Points, Table
from weft.report.distance import distance_section
from weft.report.files import find_files
from weft.report.made import made_section
from weft.report.naming import short_names
from weft.report.outside import shown, shown_pieces
from weft.report.packing import packed, unpacked
from weft.report.ranking import ranking_section
from weft.report.writing import write_report

WILD = ("\ud800", "__proto__", "</script>", "x" * 1_000_000)


# -- numbers and marks ---------------------------------------------------------------------------------


@given(st.lists(st.none() | st.integers(-(10**30), 10**30) | st.integers(0, 70) | st.integers(0, 5000)))
def test_packed_numbers_come_back(numbers: list[int | None]) -> None:
    text = packed(numbers)
    assert unpacked(text) == numbers
    assert re.fullmatch(r"[\w=;,-]*", text, re.ASCII)


def test_packed_by_hand() -> None:
    assert packed([3, 2, 70]) == "1DC_;2=70" or packed([3, 2, 70]) == "2ADACBG;"
    assert packed([0, 62, None]) == "1A-_;"
    assert packed([4095] * 9) == "3" + "A__" * 9 + ";", "the last one of two digits means none"
    assert packed([]) == ""
    for broken in ("5AAAA;", "x", "1?;", "1_;x=1"):
        with pytest.raises(ValueError, match="not a packed list"):
            unpacked(broken)


def test_marks_upon_marks_are_counted() -> None:
    assert shown("e\u0301 a\u0323\u0301") == "e\u0301 a\u0323\u0301"
    marks = "\u0301" * 16
    assert shown(f"x{marks * 10}y") == f"x{marks}<144 combining marks>y"
    assert shown_pieces([f"x{marks}", "\u0301", "", "\u0301\u0301", "y\u0301", "\u0301"]) == [
        f"x{marks}",
        "<1 combining mark>",
        "",
        "<2 combining marks>",
        "y\u0301",
        "\u0301",
    ]


# -- sources and policies ------------------------------------------------------------------------------


def test_the_cosine_is_read_beside_that_of_two_own_texts() -> None:
    section = distance_section(style_gap(), lambda source, id: None, "s")
    part = next(part for part in section.parts if part.title.startswith("Similarity"))
    cosine = next(
        block for block in part.blocks if isinstance(block, Plot) and block.title == "TF-IDF cosine"
    )
    assert cosine.svg.count('class="level"') == 2, "one for each source that has it"
    assert "two of the student&apos;s own" in cosine.svg or "two of the student's own" in cosine.svg
    assert "of two own texts" in cosine.table.columns
    assert "not against 1" in cosine.table.note
    gap = style_gap()
    unknown = tuple(
        replace(source, similarity=source.similarity and replace(source.similarity, own_cosine=NOT_MEASURED))
        for source in gap.sources
    )
    section = distance_section(replace(gap, sources=unknown), lambda source, id: None, "s")
    part = next(part for part in section.parts if part.title.startswith("Similarity"))
    cosine = next(
        block for block in part.blocks if isinstance(block, Plot) and block.title == "TF-IDF cosine"
    )
    assert 'class="level"' not in cosine.svg
    assert "was not measured" in cosine.table.note


NAMES = [
    f"runs/{run}/checkpoints/checkpoint-{step}" for run in ("none", "equal-length") for step in (60, 120)
]


def test_long_names_are_shortened_and_stay_distinct() -> None:
    assert short_names(["step-100", "base"]) == {"step-100": "step-100", "base": "base"}
    assert set(short_names(NAMES).values()) == {
        "…/none/checkpoints/checkpoint-60",
        "…/none/checkpoints/checkpoint-120",
        "…/equal-length/checkpoints/checkpoint-60",
        "…/equal-length/checkpoints/checkpoint-120",
    }
    inside = [name.removeprefix("runs/") for name in NAMES]
    assert short_names(inside)[inside[0]] == "none/…/checkpoint-60"
    assert short_names(inside)[inside[3]] == "equal-length/…/checkpoint-120"


@given(st.lists(st.text("ab/", max_size=60), max_size=6))
def test_short_names_are_as_many_as_names(names: list[str]) -> None:
    short = short_names(names)
    assert len(set(short.values())) == len(set(names)) == len(short)
    assert all(len(short[name]) <= len(name) for name in names)


def test_many_policies(tmp_path: Path) -> None:
    gap = reward_gap()
    names = [*NAMES, "one", "two", "three", "four"]
    policies = tuple(replace(policy_gap(name, 0.5), drawn=policy_gap(name, 0.5).drawn[:1]) for name in names)
    one = gap.correlations[0]
    figures = {name: Figure(0.5 + at / 100, None, None, 9) for at, name in enumerate(names)}
    correlation = replace(one, policies=len(names), accuracy=figures, quality=figures)
    said = (*(f"{name}: it ranks." for name in names), "Over all of them.")
    made = replace(gap, policies=policies, correlations=(correlation,), said=said)
    section = ranking_section(made, "r")
    words = next(part for part in section.parts if part.title == "In words").blocks
    points = [block for block in words if isinstance(block, Points)]
    assert [block.open for block in points] == [True] + [False] * len(names), "the sum first, the rest folded"
    assert points[0].items == ("Over all of them.",)
    assert points[1].of == "…/none/checkpoints/checkpoint-60"
    assert points[1].items == ("it ranks.",)
    assert NAMES[0] in repr(next(part for part in section.parts if part.title == "What was read"))
    drawn = next(part for part in section.parts if part.title == "Decode robustness").blocks
    assert sum(isinstance(block, Plot) for block in drawn) == 1, "all in one plot"
    along = [part.open for part in section.parts if part.title.startswith("Along")]
    assert along == [True] + [False] * (len(names) - 1)


# -- what no run of Weft's wrote -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"), [("ranks", "x"), ("ranks", 1.5), ("style", "x"), ("chars", 4.0)], ids=repr
)
def test_rows_of_wrong_types_are_named(tmp_path: Path, column: str, value: object) -> None:
    trace = trace_of("q", spans=[Span(S, "abcd")], thinking=1)
    row = READINGS.to_row(reading_of(trace, "a"))
    (tmp_path / "r.jsonl").write_text(json.dumps({**row, column: [value]}) + "\n")
    with pytest.raises(UserError) as refused:
        write_report([tmp_path], tmp_path / "page.html")
    assert refused.value.where == f"{tmp_path / 'r.jsonl'}:1"


def test_a_prompt_whose_id_no_encoding_takes(tmp_path: Path) -> None:
    readings = [replace(reading_of(trace_of(f"q{at}"), "a"), prompt=id) for at, id in enumerate(WILD)]
    write_readings(tmp_path / "r.jsonl", readings)
    written = write_report([tmp_path], tmp_path / "page.html")
    assert written.texts == len(WILD)
    assert written.size < 100_000, "the id is not carried whole"


@pytest.mark.parametrize("name", [".", "..", "/", "a\0b", "x" * 5000, "\ud800"])
def test_readings_of_a_name_that_no_file_has(tmp_path: Path, name: str) -> None:
    path = write_json(tmp_path / "g.json", {**style_gap().to_json(), "readings": name})
    assert [file.path for file in find_files([path]).found] == [path]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UserError, match="no file that can be read twice"):
        find_files([tmp_path / "pipe.jsonl"])


def test_figures_beyond_any_axis(tmp_path: Path) -> None:
    gap = style_gap()
    huge = Figure(1e308, -1e308, 1.7e308, 3)
    sources = tuple(replace(one, all=replace(one.all, nll_per_token=huge)) for one in gap.sources)
    section = distance_section(replace(gap, sources=sources), lambda source, id: None, "s")
    assert "nan" not in repr(section)
    assert 'x1="inf' not in repr(section)


def test_a_manifest_of_many_settings_does_not_fill_the_page() -> None:
    gap = style_gap()
    made = replace(gap.made, settings={f"k{at}": "v" * 1000 for at in range(50_000)}, command=("x" * 10**6,))
    section = made_section({"g.json": made}, {}, "made")
    assert section is not None
    table = section.parts[0].blocks[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 301
    assert table.rows[-1] == ("…", "49,704 more are in the file")
    assert len(repr(section)) < 200_000
