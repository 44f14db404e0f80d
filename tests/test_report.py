"""``weft report`` without a browser: what is taken, joined, drawn, carried and refused."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_world import (
    HOSTILE,
    S,
    T,
    opened,
    reading_of,
    reward_gap,
    style_gap,
    trace_of,
    unread,
    world,
    write_json,
    write_readings,
    write_traces,
)
from weft.boundary.measuring.marked import Marked
from weft.boundary.measuring.measure import measure
from weft.boundary.spans import Annotation
from weft.cli.main import main
from weft.cli.show import visible
from weft.errors import UserError
from weft.gap.distance.readings import Reading, Run, Writer
from weft.intervals import NOT_MEASURED, Figure
from weft.records import Span, Status, Trace
from weft.report.assembly import Results
from weft.report.blocks import number
from weft.report.catalogue import Entry, catalogue, content_digest
from weft.report.distance import distance_section
from weft.report.files import FileKind, find_files
from weft.report.loading import in_script, load
from weft.report.sampling import ESTIMATED, LONG, OF_EACH, SHORT, choose
from weft.report.texts import Piece, carried, clipped
from weft.report.writing import Written, write_report
from weft.store import Manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("report") / "run")


def data_of(page: Path) -> dict[str, Any]:
    """What the page's reader reads."""
    html = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def report(tmp_path: Path, *paths: Path, megabytes: float = 5.0) -> tuple[dict[str, Any], Written]:
    page = tmp_path / "page.html"
    written = write_report(paths, page, max_megabytes=megabytes)
    return data_of(page), written


# -- files -----------------------------------------------------------------------------------------------


def test_a_folder_and_what_belongs_to_a_file(folder: Path) -> None:
    kinds = {file.path.name: file.kind for file in find_files([folder]).found}
    assert kinds == {
        "gap.json": FileKind.STYLE_GAP,
        "gap.readings.jsonl": FileKind.READINGS,
        "reward.json": FileKind.REWARD_GAP,
        "teacher-only.jsonl": FileKind.TRACES,
        "tessy.jsonl": FileKind.TRACES,
        "tessy.rejected.jsonl": FileKind.TRACES,
    }
    found = find_files([folder / "tessy.jsonl", folder / "gap.json"]).found
    assert [(file.path.name, file.named) for file in found] == [
        ("tessy.jsonl", True),
        ("gap.json", True),
        ("tessy.rejected.jsonl", False),
        ("gap.readings.jsonl", False),
    ]
    assert {file.label for file in found if file.kind is FileKind.TRACES} == {"tessy"}


def test_no_file_is_taken_twice(folder: Path) -> None:
    found = find_files([folder, folder / "tessy.jsonl", folder / ".." / "run" / "tessy.jsonl"]).found
    assert len(found) == 6


def test_unknown_files_are_refused_if_named_and_listed_if_not(tmp_path: Path) -> None:
    known = write_traces(tmp_path / "a.jsonl", [trace_of("q")])
    unknown = tmp_path / "notes.txt"
    unknown.write_text("x")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "broken.json").write_text("[" * 100_000)
    (tmp_path / "endless.json").write_text('{"kind": "style-gap", "value": 1e999}')
    files = find_files([tmp_path])
    assert [file.path for file in files.found] == [known]
    assert [Path(name).name for name in files.skipped] == [
        "broken.json",
        "endless.json",
        "notes.txt",
        "rows.jsonl",
    ]
    for name in ("notes.txt", "rows.jsonl", "broken.json", "missing.jsonl"):
        with pytest.raises(UserError) as refused:
            find_files([tmp_path / name])
        assert "weft synth" in refused.value.expected
    empty = tmp_path / "sub"
    empty.mkdir()
    for paths in ([], [empty]):
        with pytest.raises(UserError, match="nothing"):
            find_files(paths)


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_traces(tmp_path / name / "t.jsonl", [trace_of("q")])
        write_traces(tmp_path / name / "t.rejected.jsonl", [trace_of("q", 1, status=Status.LENGTH)])
    files = find_files([tmp_path / "one", tmp_path / "two"])
    assert [(file.path.parent.name, file.label) for file in files.found] == [
        ("one", "t"),
        ("one", "t"),
        ("two", "two/t"),
        ("two", "two/t"),
    ]


# -- joining ---------------------------------------------------------------------------------------------


def test_readings_join_traces_of_equal_id_and_text(tmp_path: Path) -> None:
    first, second = trace_of("q0"), trace_of("q1")
    other = replace(second, spans=(Span(S, "something else"),), thinking_spans=0)
    write_traces(tmp_path / "a.jsonl", [first, second])
    write_readings(tmp_path / "r.jsonl", [reading_of(first, "a"), reading_of(other, "a")])
    found = catalogue(find_files([tmp_path]), {("a", "q0#0"): 4.5})
    assert [(one.id, bool(one.trace), bool(one.reading), one.outlier) for one in found.entries] == [
        ("q0#0", True, True, 4.5),
        ("q1#0", True, False, None),
        ("q1#0", False, True, None),
    ]


def test_equal_texts_of_two_files_take_the_reading_of_their_source(tmp_path: Path) -> None:
    trace = trace_of("q0")
    for name in ("a", "b"):
        write_traces(tmp_path / f"{name}.jsonl", [trace])
    write_readings(tmp_path / "r.jsonl", [reading_of(trace, "b", seed=1), reading_of(trace, "a", seed=2)])
    data, _ = report(tmp_path, tmp_path)
    by = {text["source"]: text["mean"] for text in data["texts"]}
    assert by["a"] != by["b"]
    alone = reading_of(trace, "a", seed=2)
    assert by["a"] == pytest.approx(sum(alone.nats) / alone.tokens, abs=1e-4)


def test_equal_texts_of_files_that_were_not_given_are_texts_of_their_own(tmp_path: Path) -> None:
    """A mix of two sources holds their texts again, under the same ids."""
    traces = [trace_of("q0"), trace_of("q1")]
    write_traces(tmp_path / "a.jsonl", traces)
    write_traces(tmp_path / "b.jsonl", traces[:1])
    gap = style_gap()
    sources = tuple(
        replace(gap.sources[0], label=label, file=f"{label}.jsonl", strategy=strategy)
        for label, strategy in (("a", "tessy"), ("mix", "teacher-mix"), ("own", "student-only"))
    )
    made = replace(gap, sources=sources, reference="own.jsonl", readings="r.jsonl")
    write_json(tmp_path / "gap.json", made.to_json())
    order = [(label, trace) for label in ("mix", "own", "a") for trace in traces]
    write_readings(tmp_path / "r.jsonl", [reading_of(trace, label) for label, trace in order])
    data, written = report(tmp_path, tmp_path)
    shown = [(text["source"], text["strategy"], text["id"]) for text in data["texts"]]
    assert shown == [
        ("a", "tessy", "q0#0"),
        ("a", "tessy", "q1#0"),
        ("b", "tessy", "q0#0"),
        ("mix", "teacher-mix", "q0#0"),
        ("mix", "teacher-mix", "q1#0"),
        ("own", "student-only", "q0#0"),
        ("own", "student-only", "q1#0"),
    ]
    assert ["n" in text for text in data["texts"]] == [True, True, False, True, True, True, True]
    assert len({text["p"] for text in data["texts"]}) == 2, "prompts are joined, so side by side"
    assert data["own"] == ["own"]
    assert written.notes == ()
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("own (the student’s own)") > 10, "in tables and plots"


def test_readings_join_files_of_one_name_by_their_folder(tmp_path: Path) -> None:
    trace = trace_of("q0")
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_traces(tmp_path / name / "t.jsonl", [trace])
        write_readings(tmp_path / name / "r.jsonl", [reading_of(trace, "t", seed=seed)])
    data, written = report(tmp_path, tmp_path / "two", tmp_path / "one")
    means = {text["source"]: text["mean"] for text in data["texts"]}
    for seed, source in ((0, "one/t"), (1, "t")):
        nats = reading_of(trace, "t", seed=seed).nats
        assert means[source] == pytest.approx(sum(nats) / len(nats), abs=1e-4)
    assert written.notes == ()


def test_texts_that_were_read_twice_are_said(tmp_path: Path) -> None:
    trace = trace_of("q0")
    write_traces(tmp_path / "a.jsonl", [trace])
    for name in ("r1", "r2"):
        write_readings(tmp_path / f"{name}.jsonl", [reading_of(trace, "a")])
    _, written = report(tmp_path, tmp_path)
    assert "more than once" in written.notes[0]


def test_readings_alone_are_texts_and_join_prompts(tmp_path: Path) -> None:
    trace = trace_of("q0")
    foreign = replace(reading_of(trace, "sft", seed=3), sample="row 7", text="x" * len(trace.text))
    write_traces(tmp_path / "a.jsonl", [trace])
    write_readings(tmp_path / "r.jsonl", [reading_of(trace, "a"), foreign])
    data, _ = report(tmp_path, tmp_path)
    assert [text["id"] for text in data["texts"]] == ["q0#0", "row 7"]
    assert len({text["p"] for text in data["texts"]}) == 1, "the same prompt, so side by side"


def test_a_text_that_could_not_be_read_says_why(tmp_path: Path) -> None:
    trace = replace(trace_of("q0"), spans=(), thinking_spans=0)
    write_traces(tmp_path / "a.jsonl", [trace])
    write_readings(tmp_path / "r.rejected.jsonl", [unread(trace, "a")])
    data, _ = report(tmp_path, tmp_path)
    assert [text["unread"] for text in data["texts"]] == ["too_long: prompt and text take 9,000 tokens"]


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = write_traces(tmp_path / "a.jsonl", [trace_of("q0"), trace_of("q1")])
    found = catalogue(find_files([path]), {})
    write_traces(path, [trace_of("q0"), trace_of("other")])
    with pytest.raises(UserError, match="changed"):
        load(choose(found.entries, 10**6), 10**6)


# -- texts in the page -----------------------------------------------------------------------------------


def entry_of(trace: Trace) -> Entry:
    return Entry(0, "a", trace.id, "p", "tessy", trace.status.value, len(trace.text), 0, None, None)


def test_a_text_with_its_numbers() -> None:
    trace = trace_of("q", spans=[Span(S, "ab"), Span(T, "cdé")], thinking=1)
    reading = Reading(
        "a/q#0",
        "a",
        "q#0",
        "q",
        "d",
        text="abcdé",
        thinking=1,
        chars=(2, 1, 1, 0, 1),
        nats=(0.5, 1.0, 2.0, 0.25, 0.5),
        ranks=(1, 2, 3, 9, 4),
        entropies=(0.1, 0.2, 0.3, 0.4, 0.5),
        style=(0.75, None, None, None, None),
        authors=(Run(Writer.STUDENT, 1), Run(Writer.TEACHER, 4)),
    )
    text = opened(carried(entry_of(trace), trace, reading, 100))
    assert text["t"] == ["ab", "c", "d", "é"]
    assert text["think"] == 1
    assert text["who"] == [["s", 1], ["t", 3]]
    assert text["n"] == [50, 100, 200, 75]
    assert text["e"] == [10, 20, 30, 90]
    assert text["r"] == [1, 2, 3, 9]
    assert text["y"] == [75, None, None, None]
    assert text["j"] == [[3, 2]]
    assert text["mean"] == pytest.approx(4.25 / 5)
    assert (text["tokens"], text["by"], text["turns"]) == (5, [6, 4], 3)


def test_infinite_surprise_is_no_number() -> None:
    trace = trace_of("q", spans=[Span(S, "ab")], thinking=0, extra="[" * 100_000)
    reading = replace(reading_of(trace, "a", size=1), nats=(math.inf, 1.0))
    text = carried(entry_of(trace), trace, reading, 100)
    assert opened(text)["n"] == [None, 100]
    assert "mean" not in text
    assert json.loads(in_script(text)) == text


def test_without_a_reading_pieces_are_spans() -> None:
    trace = trace_of("q", extra='{"verdict": true}')
    text = opened(carried(entry_of(trace), trace, None, 1000))
    assert text["t"] == ["Okay, ", "2 + 2 = 4", ".\nSo", "It is 4."]
    assert text["who"] == [["s", 1], ["t", 1], ["s", 1], ["s", 1]]
    assert (text["think"], text["flag"]) == (3, "true")
    assert "n" not in text


@given(st.lists(st.text(max_size=12), max_size=8), st.integers(0, 8), st.integers(1, 60))
def test_pieces_join_to_the_text_but_for_the_gap(parts: list[str], thinking: int, limit: int) -> None:
    pieces = [Piece(part, "s", at < thinking) for at, part in enumerate(parts)]
    kept, gap = clipped(pieces, limit)
    whole = "".join(parts)
    if gap is None:
        assert "".join(piece.text for piece in kept) == whole
        return
    head = "".join(piece.text for piece in kept[: gap[0]])
    tail = "".join(piece.text for piece in kept[gap[0] :])
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + len(tail) == limit
    assert gap[1] == len(whole) - limit


@given(st.text(alphabet=st.characters(), max_size=40), st.integers(1, 5), st.integers(0, 3))
def test_what_the_page_carries_is_the_visible_text(text: str, size: int, thinking: int) -> None:
    trace = trace_of("q", spans=[Span(S, text), Span(T, text[::-1])], thinking=thinking)
    expected = visible(trace.text)
    for reading in (None, reading_of(trace, "a", size=size)):
        shown = carried(entry_of(trace), trace, reading, 1000)
        assert shown["t"] == expected
        assert sum(int(count) for _, count in opened(shown)["who"]) == len(opened(shown)["t"])
        packed = in_script(shown)
        assert not set("<>&") & set(packed)
        packed.encode()
        assert json.loads(packed) == shown


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    spans = [Span(S, HOSTILE), Span(T, "y" * 1_000_000)]
    traces = [
        trace_of(
            HOSTILE,
            spans=spans,
            thinking=1,
            question=HOSTILE,
            strategy=HOSTILE,
            extra=json.dumps({"verdict": HOSTILE}),
        ),
        trace_of("bad", status=Status.LENGTH, reason=HOSTILE),
    ]
    path = write_traces(tmp_path / "a.jsonl", traces)
    page = tmp_path / "page.html"
    write_report([path], page, title=HOSTILE)
    html = page.read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script>") == 2
    assert "<img" not in html
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\u2028\u2029]", html
    )
    text = opened(data_of(page)["texts"][0])
    assert text["t"][0] == visible(HOSTILE)
    assert text["gap"] == [2, 1_000_000 + len(HOSTILE) - LONG]
    assert page.stat().st_size < 1_000_000


# -- sampling --------------------------------------------------------------------------------------------


def entries(prompts: int, *, size: int = 1000) -> list[Entry]:
    made: list[Entry] = []
    for at in range(prompts):
        for source in ("a", "b"):
            status = "length" if source == "b" and at % 50 == 7 else "complete"
            made.append(Entry(len(made), source, f"q{at}#0", f"p{at}", source, status, 500, size, None, None))
    return made


def test_all_are_taken_where_all_fit() -> None:
    all_of_them = entries(10)
    choice = choose(all_of_them, 20_000)
    assert sorted(one.number for one in choice.entries) == list(range(20))
    assert choice.characters == LONG


def test_a_draw_keeps_prompts_whole_and_some_of_everything() -> None:
    all_of_them = entries(400)
    far = replace(all_of_them[123], outlier=9.0)
    all_of_them[123] = far
    choice = choose(all_of_them, round(60_000 / ESTIMATED))
    assert choice.characters == SHORT
    assert 50 <= len(choice.entries) <= 60
    assert far in choice.entries
    by_prompt: dict[str, int] = {}
    for one in choice.entries:
        by_prompt[one.prompt] = by_prompt.get(one.prompt, 0) + 1
    assert sum(count == 2 for count in by_prompt.values()) >= len(by_prompt) - 1
    for stratum in {one.stratum for one in all_of_them}:
        assert sum(one.stratum == stratum for one in choice.entries) >= OF_EACH


@given(st.permutations(list(range(12))), st.integers(1500, 9000))
def test_the_draw_does_not_depend_on_the_order_of_files(order: list[int], budget: int) -> None:
    some = entries(6)
    mixed = [some[at] for at in order]
    chosen = {(one.source, one.id) for one in choose(some, budget).entries}
    assert {(one.source, one.id) for one in choose(mixed, budget).entries} == chosen


def test_a_page_that_is_too_small_says_what_it_leaves_out(tmp_path: Path) -> None:
    run = world(tmp_path / "run", 60, words=120)
    data, written = report(tmp_path, run, megabytes=0.4)
    assert written.size < 400_000
    assert 10 < len(data["texts"]) == written.texts < written.of == 121
    assert f"{written.texts:,} of 121 texts are in this page" in written.notes[0]
    assert {text["status"] for text in data["texts"]} == {"complete", "length"}
    assert any("z" in text for text in data["texts"]), "the outlier is there"
    with pytest.raises(UserError, match="larger than the page may be"):
        write_report([run], tmp_path / "tiny.html", max_megabytes=0.05)


def test_a_huge_text_is_clipped_and_said(tmp_path: Path) -> None:
    path = write_traces(tmp_path / "a.jsonl", [trace_of("q", spans=[Span(S, "x" * 900_000)], thinking=0)])
    data, written = report(tmp_path, path)
    assert data["texts"][0]["gap"] == [1, 900_000 - LONG]
    assert "shown without the middle" in written.notes[0]


# -- the file --------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "1.html", tmp_path / "2.html", folder / "report.html", folder / "report.html"]
    made = []
    for page in pages:
        write_report([folder], page)
        made.append(page.read_bytes())
    (folder / "report.html").unlink()
    assert len(set(made)) == 1, "also where the report lies among its files"


def test_one_file_that_asks_for_nothing(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    written = write_report([folder], page)
    html = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", html)
    assert not re.search(r"url\(|@import|<link rel=.stylesheet", html)
    assert set(re.findall(r"https?://[^\"'\s<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert written.results == ("Style gap", "Reward gap", "What made this")
    assert 'style="' not in html


def test_every_figure_comes_with_its_interval_and_n(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report([folder], page)
    html = page.read_text(encoding="utf-8")
    for said in (
        "What to do with tessy, in a sentence.",
        'class="v">0.350</span> <span class="i">0.300 to 0.400</span> <span class="n">n&nbsp;100',
        "Spearman",
        "The first quarter of the tokens holds 0.450",
        "Label consistency",
        "step &lt;b&gt; tessy",
        "ab12",
    ):
        assert said in html, said
    captions = html.count("<caption>")
    assert captions == html.count("<table>") > 20
    assert html.count("<desc>") == html.count("<svg") > 15


def test_the_outlier_links_to_its_text(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report([folder], page)
    assert '<a href="#t=teacher-only/q3%230">q3#0</a>' in page.read_text(encoding="utf-8")
    assert "teacher-only/q3#0" in {text["key"] for text in data_of(page)["texts"]}


def test_an_output_that_is_no_report_is_kept(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(UserError, match="no report"):
        write_report([folder], page)
    assert page.read_text() == "mine"
    write_report([folder], page, overwrite=True)
    write_report([folder / "tessy.jsonl"], page)
    assert len(data_of(page)["texts"]) == 13
    copy = shutil.copytree(folder, tmp_path / "copy")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="one of the inputs"):
            write_report([copy], copy / "tessy.jsonl", overwrite=overwrite)
    with pytest.raises(UserError, match="folder"):
        write_report([folder], tmp_path)


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    for name, data in (("style", style_gap().to_json()), ("reward", reward_gap().to_json())):
        path = write_json(tmp_path / f"{name}.json", {**data, "schema": 99})
        with pytest.raises(UserError, match="version 99"):
            write_report([path], tmp_path / "page.html")
    path = write_json(tmp_path / "b.json", {"boundary": "b", "boundary_f1": {}, "leaked": {}, "schema": 1})
    with pytest.raises(UserError, match="not a whole boundary evaluation"):
        write_report([path], tmp_path / "page.html")


def test_results_alone_are_a_report(tmp_path: Path) -> None:
    path = write_json(tmp_path / "g.json", style_gap().to_json())
    page = tmp_path / "page.html"
    assert write_report([path], page).of == 0
    assert 'id="reader"' not in page.read_text(encoding="utf-8")


def test_what_was_not_measured_is_a_dash_with_its_reason() -> None:
    gap = style_gap()
    nothing = Figure(None, None, None, 0)
    sources = tuple(
        replace(
            source,
            all=replace(source.all, entropy_per_token=nothing, excess_nll_per_token=nothing),
            similarity=None,
            by_author={},
            by_kind={},
        )
        for source in gap.sources
    )
    section = distance_section(replace(gap, sources=sources, reference=None), lambda source, id: None, "s")
    said = repr(section)
    assert "says no entropies" in said
    assert "(--reference)" in said
    titles = [part.title for part in section.parts]
    assert "Where the surprise comes from" in titles


def test_manifests_are_shown_whole() -> None:
    manifest = Manifest("0.1", {"student": {"name": "m", "tags": ["a", "b"]}}, {"x": None}, "2026", "2026")
    sections = Results({}, {}, {}, {"t.manifest.json": manifest}).sections(lambda source, id: None)
    assert "student.name" in repr(sections)
    assert "a, b" in repr(sections)


def test_digests_join_only_equal_texts() -> None:
    assert content_digest("a", "\ud800") == content_digest("a", "\ud800")
    assert len({content_digest("a", "b"), content_digest("ab", ""), content_digest("", "ab")}) == 3


def test_a_boundary_evaluation(tmp_path: Path) -> None:
    text = "so 2 is 2 ok"
    pieces = ("so", " 2", " is", " 2", " ok")
    truth = [Annotation("a", "a", "a", 0, text, ((0, 2), (9, 12))), Annotation("b", "b", "b", 0, text, ())]
    called = Marked(pieces, (True, False, False, True, True), (0.9, 0.2, 0.1, 0.7, 0.8))
    figures = measure(truth, [called, called], threshold=0.5)
    cost = {"milliseconds_per_decision": {"1": NOT_MEASURED.to_json()}, "machine": "m", "device": "cpu"}
    made = {"boundary": "b<b>", "file": "f", "labels": "spans", "split": "all", "units": "words"}
    path = write_json(tmp_path / "b.json", {"schema": 1, **made, **figures.to_json(), "cost": cost})
    page = tmp_path / "page.html"
    assert write_report([path], page).results == ("Boundary",)
    html = page.read_text(encoding="utf-8")
    assert "How well b&lt;b&gt; finds" in html
    assert "0.5 (in use)" in html
    assert number(figures.style.precision.value or 0.0) in html
    path = write_json(path, {"schema": 1, **made, **figures.to_json(), "calibration": None, "cost": cost})
    write_report([path], page)
    assert "Reliability" not in page.read_text(encoding="utf-8")


# -- the command -----------------------------------------------------------------------------------------


def test_nothing_heavy_is_loaded() -> None:
    code = "from weft.cli.main import main; c = main(['report', '--help']); import weft.report, sys; "
    heavy = ("torch", "transformers", "sklearn", "pandas", "jinja2", "scipy")
    ran = subprocess.run(
        [sys.executable, "-c", code + f"print([m for m in {heavy!r} if m in sys.modules]); sys.exit(c)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "makes no request" in ran.stdout


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "page.html"
    (folder / "notes.md").write_text("x")
    assert main(["report", str(folder), "-o", str(page), "--title", "Mine"]) == 0
    out = capsys.readouterr().out
    (folder / "notes.md").unlink()
    assert "25 of 25 in the page" in out
    assert "notes.md" in out
    assert str(page) in out
    assert "<title>Mine · Weft report</title>" in page.read_text(encoding="utf-8")
    assert main(["report", str(folder / "none.jsonl"), "-o", str(page)]) == 2
    assert main(["report", "-o", str(page)]) == 2
    for size in ("0", "-1", "nan", "inf"):
        assert main(["report", str(folder), "-o", str(page), "--max-mb", size]) == 2
    assert "Traceback" not in capsys.readouterr().err
