"""Cards of data: what they say, that the hub's library reads their head, and that nothing in them acts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from report_world import HOSTILE, S, T, trace_of, write_traces
from weft.errors import UserError
from weft.publishing import data_card
from weft.publishing.contents import DataKind, read_contents
from weft.publishing.licence import KNOWN, licence_fields, with_licence
from weft.publishing.lineage import commands, lineage
from weft.publishing.markdown import block, code, table
from weft.records import PerAuthor, Span, Status, Usage
from weft.store import Manifest, TraceStore

MARKS = {
    "mark": "kept",
    "verdict": "correct",
    "verdict_reason": "",
    "verdict_said": "",
    "verifier": "math",
    "duplicate_of": "",
    "contaminated_by": "",
}


def manifest(**info: Any) -> Manifest:
    return Manifest.create(
        "0.1.0", {"strategy": "tessy", "seed": 0}, {"command": ["synth", "p.jsonl"], **info}
    )


def stored(folder: Path, **info: Any) -> Path:
    """Three complete traces of two prompts and a rejected one, as a run leaves them."""
    path = folder / "traces.jsonl"
    with TraceStore(path, manifest(**info)) as store:
        for prompt, sample in (("p", 0), ("p", 1), ("q", 0)):
            store.append(trace_of(prompt, sample))
        store.append(trace_of("r", status=Status.REPETITION, reason="a loop"))
    return path


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def head_of(card: str) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return head


def test_what_a_card_of_traces_says(tmp_path: Path) -> None:
    card = data_card(
        stored(
            tmp_path,
            prompts={"name": "p.jsonl", "count": 3, "sha256": "ab12"},
            engines={"student": {"model": "s", "revision": None, "commit": "c0ffee", "device": "cpu"}},
        ),
        license="cc-by-4.0",
    )
    assert head_of(card) == {
        "license": "cc-by-4.0",
        "task_categories": ["text-generation"],
        "tags": ["weft", "synthetic", "trl", "reasoning", "tessy"],
        "size_categories": ["n<1K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "traces.jsonl"}],
                "default": True,
            },
            {"config_name": "rejected", "data_files": [{"split": "train", "path": "traces.rejected.jsonl"}]},
        ],
    }
    assert "| `traces.jsonl` | 3 | to train on; prompts: 2 |" in card
    assert "| `traces.rejected.jsonl` | 1 | not complete, each with its reason |" in card
    assert "| `complete` | 3 |\n| `repetition` | 1 |" in card
    assert "| `tessy` | 18 (60.0%) | 12 (40.0%) | teacher and student in turn" in card
    assert "| prompts | name `p.jsonl`, count `3`, sha256 `ab12` |" in card
    assert "| the student | model `s`, commit `c0ffee` |" in card
    assert "```sh\nweft synth p.jsonl\n```" in card
    assert "| `spans` | list of mappings | who wrote what" in card
    assert "`cc-by-4.0`, as whoever made this card gave it." in card
    assert "The terms" not in card and "is for you to check" in card


def test_the_same_files_make_the_same_card(tmp_path: Path) -> None:
    path = stored(tmp_path)
    assert data_card(path) == data_card(path)


def test_the_hubs_library_reads_the_card_and_loads_its_parts(tmp_path: Path) -> None:
    import datasets
    from huggingface_hub import DatasetCard

    path = stored(tmp_path)
    card = data_card(path, license="mit")
    (tmp_path / "README.md").write_text(card)
    assert DatasetCard(card).data.license == "mit"
    rows = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"] == ["p#0", "p#1", "q#0"]
    rejected = datasets.load_dataset(
        str(tmp_path), "rejected", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rejected["reason"] == ["a loop"]


def test_a_licence_is_never_guessed(tmp_path: Path) -> None:
    card = data_card(stored(tmp_path))
    assert "license" not in head_of(card)
    assert "None was given, so none is claimed" in card


def test_verdicts_and_marks_are_counted_over_both_files(tmp_path: Path) -> None:
    kept = [trace_of("p", sample).to_row() | MARKS for sample in range(2)]
    path = write(tmp_path / "v.jsonl", kept)
    wrong = [trace_of("q").to_row() | MARKS | {"mark": "verdict", "verdict": "wrong"}]
    write(tmp_path / "v.rejected.jsonl", wrong)
    card = data_card(path)
    assert "| `kept` | 2 |\n| `verdict` | 1 |" in card
    assert "| `correct` | 2 |\n| `wrong` | 1 |" in card
    assert "No manifest lies beside the file" in card
    assert read_contents(path).kind is DataKind.VERIFIED


def test_shares_are_those_of_what_is_trained_on(tmp_path: Path) -> None:
    kept = replace(trace_of("p"), usage=Usage(tokens=PerAuthor(3, 1)))
    other = replace(trace_of("q", strategy="teacher-only"), usage=Usage(tokens=PerAuthor(0, 7)))
    path = write_traces(tmp_path / "t.jsonl", [kept, other])
    write_traces(
        tmp_path / "t.rejected.jsonl",
        [replace(trace_of("r", status=Status.LENGTH), usage=Usage(tokens=PerAuthor(0, 1000)))],
    )
    contents = read_contents(path)
    assert contents.tokens == {"tessy": PerAuthor(3, 1), "teacher-only": PerAuthor(0, 7)}
    assert "| `teacher-only` | 0 (0.0%) | 7 (100.0%) | by the teacher alone |" in data_card(path)


def test_pairs_and_woven_pairs(tmp_path: Path) -> None:
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "5", "status": "complete", "prompt_id": "a"}
    rows = [row | {"chosen_tokens": tokens, "rejected_tokens": None} for tokens in (2, 4)]
    card = data_card(write(tmp_path / "pairs.jsonl", rows))
    assert "| `pairs.jsonl` | 2 | to train on; prompts: 1 |" in card
    assert "| `tokens` | 3 | – |" in card
    odd = [row | {"chosen_tokens": value} for value in (10**400, float("inf"), float("nan"), True, 8)]
    assert "| `tokens` | 8 | – |" in data_card(write(tmp_path / "odd.jsonl", odd))
    assert "weft align --model STUDENT --data pairs.jsonl" in card
    woven = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}
    card = data_card(write(tmp_path / "woven.jsonl", [woven]))
    assert "PrefixDPOTrainer" in card and "| `prompt_ids` | list of whole numbers |" in card


def test_nothing_in_names_commands_or_settings_acts(tmp_path: Path) -> None:
    bad = "x | y\n\n# Owned\n\n[click](http://evil) <script>alert(1)</script> ``` `a` \u202e --- "
    path = tmp_path / "traces.jsonl"
    trace = trace_of("p", spans=[Span(S, HOSTILE.replace("\ud800", "")), Span(T, "b")], strategy="tessy")
    trace = replace(trace, provenance=replace(trace.provenance, student=bad, teacher="```\n# Mine"))
    info = {"command": ["synth", bad], "prompts": {"name": bad}, "engines": {bad: {"model": bad}}}
    with TraceStore(path, Manifest.create("0", {"name": "~~~\n```\n# Settings", bad: bad}, info)) as store:
        store.append(trace)
    card = data_card(path)
    prose, fenced = outside_code(card)
    for mark in ("Owned", "evil", "<script>", "Mine", "Settings"):
        assert mark not in prose
    assert [line for line in prose.splitlines() if line.startswith("#")] == [
        "# ",
        "## What is in it",
        "## Who wrote what",
        "## What made it",
        "## Columns",
        "## How to use it",
        "## Licence",
    ]
    assert "\u202e" not in card and "\x1b" not in card
    assert "# Settings" in fenced
    assert head_of(card)["tags"][-1] == "tessy"


def outside_code(card: str) -> tuple[str, str]:
    """A card without what stands in code, and its fenced blocks, as CommonMark reads them."""
    prose: list[str] = []
    fenced: list[str] = []
    fence = ""
    for line in card.splitlines():
        run = len(line) - len(line.lstrip("`"))
        if fence:
            if line == "`" * run and run >= len(fence):
                fence = ""
            else:
                fenced.append(line)
        elif run >= 3:
            fence = "`" * run
        else:
            prose.append(line)
    return "\n".join(map(without_spans, prose)), "\n".join(fenced)


def without_spans(line: str) -> str:
    """A line without its code spans: a run of marks ends at the next run of the same length."""
    out, at = "", 0
    while at < len(line):
        if line[at] != "`":
            out, at = out + line[at], at + 1
            continue
        run = len(line[at:]) - len(line[at:].lstrip("`"))
        end = at + run
        while end < len(line):
            length = len(line[end:]) - len(line[end:].lstrip("`"))
            if length == run:
                break
            end += max(length, 1)
        if end >= len(line):
            return out + line[at:]
        at = end + run
    return out


@given(st.text(max_size=40))
def test_a_quoted_name_is_one_code_span_on_one_line(name: str) -> None:
    quoted = code(name)
    assert "\n" not in quoted
    assert without_spans(quoted) in ("", "–")


@given(st.text(max_size=40))
def test_a_block_ends_where_it_ends(text: str) -> None:
    prose, _ = outside_code(f"{block(text)}\nafter")
    assert prose == "after"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_a_table_has_its_cells_whatever_stands_in_them(names: list[str]) -> None:
    row = table([""] * len(names), [[code(name) for name in names]]).splitlines()[-1]
    bars = [at for at, char in enumerate(row) if char == "|" and (at == 0 or row[at - 1] != "\\")]
    assert len(bars) == len(names) + 1


def made(path: Path, created: str, **info: Any) -> Path:
    """An output of one trace with a manifest."""
    write_traces(path, [trace_of(path.stem)])
    given = {"command": ["synth", path.stem], **info}
    text = json.dumps(asdict(replace(Manifest.create("0", {}, given), created=created)))
    path.with_suffix(".manifest.json").write_text(text)
    return path


def test_a_card_names_all_steps_that_led_to_the_data(tmp_path: Path) -> None:
    made(
        tmp_path / "a.jsonl", "2026-01-01", prompts={"name": "q.jsonl"}, engines={"student": {"model": "m1"}}
    )
    made(tmp_path / "b.jsonl", "2026-01-02", engines={"student": {"model": "m2"}})
    made(tmp_path / "c.jsonl", "2026-01-03", traces={"a.jsonl": "00", "elsewhere/b.jsonl": "00", "no\0": ""})
    path = made(tmp_path / "d.jsonl", "2026-01-04", traces=["c.jsonl", "gone.jsonl", 3])
    card = data_card(path)
    assert "```sh\nweft synth a\nweft synth b\nweft synth c\nweft synth d\n```" in card
    assert "| prompts | name `q.jsonl` |" in card
    assert "| the student | model `m1`; model `m2` |" in card


def test_only_commands_of_wefts_are_commands(tmp_path: Path) -> None:
    for other in (["-q", "tests"], ["evil.py", "--x"], [], "synth", [["synth"]], None):
        assert (
            "```sh"
            not in data_card(made(tmp_path / "a.jsonl", "2026-01-01", command=other)).partition("## Columns")[
                0
            ]
        )


def test_the_commands_behind_a_model_are_those_of_its_data_too(tmp_path: Path) -> None:
    traces = made(tmp_path / "a.jsonl", "2026-01-01")
    first = tmp_path / "finetuned"
    first.mkdir()
    base = Manifest.create("0", {}, {"inputs": ["micro:student", str(traces)], "command": ["sft", "x y"]})
    (first / "sft.manifest.json").write_text(json.dumps(asdict(replace(base, created="2026-01-02"))))
    last = Manifest.create("0", {}, {"inputs": [str(first)], "command": ["align"]})
    found = commands(lineage(tmp_path / "aligned", replace(last, created="2026-01-03")))
    assert found == ["weft synth a", "weft sft 'x y'", "weft align"]


def test_an_input_that_is_another_by_now_is_no_step(tmp_path: Path) -> None:
    made(tmp_path / "a.jsonl", "2026-01-09")
    assert "weft synth a" not in data_card(made(tmp_path / "d.jsonl", "2026-01-04", traces=["a.jsonl"]))


def test_outputs_that_name_each_other_end(tmp_path: Path) -> None:
    made(tmp_path / "a.jsonl", "2026-01-01", traces=["b.jsonl", "a.jsonl"])
    card = data_card(made(tmp_path / "b.jsonl", "2026-01-01", traces="a.jsonl"))
    assert "```sh\nweft synth a\nweft synth b\n```" in card


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (None, {}),
        ("apache-2.0", {"license": "apache-2.0"}),
        (" Apache 2.0 ", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("my-own-1.0", {"license": "other", "license_name": "my-own-1.0"}),
    ],
)
def test_a_licence_as_the_hub_has_it(given: str | None, fields: dict[str, str]) -> None:
    assert licence_fields(given) == fields


def test_all_known_licences_are_identifiers() -> None:
    assert all(licence_fields(name) == {"license": name} for name in KNOWN)


@pytest.mark.parametrize("given", ["", " ", "a\nb: c", "<mit>", "x" * 101])
def test_what_is_no_licence_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="no identifier of a licence") as error:
        licence_fields(given)
    assert error.value.where == "--license"


def test_a_licence_comes_into_a_cards_head() -> None:
    card = "---\nlicense: other\nlicense_name: old\ntags:\n- weft\n---\n\n# Model\n\n---\n\nlicense: text\n"
    assert (
        with_licence(card, "mit")
        == "---\nlicense: mit\ntags:\n- weft\n---\n\n# Model\n\n---\n\nlicense: text\n"
    )
    assert with_licence(card, None) == card
    assert with_licence("# Model\n", "mit") == "---\nlicense: mit\n---\n\n# Model\n"
    with pytest.raises(UserError, match="not YAML"):
        with_licence("---\n[\n---\n", "mit")
    with pytest.raises(UserError, match="not YAML"):
        with_licence("---\n- a list\n---\n", "mit")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "", "no row"),
        ("a.jsonl", '{"text": "x"}\n', "does not know what this row holds"),
        ("a.jsonl", '{"prompt": "x", "chosen"', "torn"),
        ("a.jsonl", "[]\n", "not a JSON object"),
        ("a.jsonl", '{"completion": [], "spans": 3, "usage": {}}\n', "no column 'prompt'"),
        ("a.rejected.jsonl", "", "name a.jsonl"),
        ("missing.jsonl", None, "No such file"),
    ],
)
def test_what_is_no_output_of_wefts_is_refused(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        data_card(tmp_path / name)
    assert said in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROW = trace_of("p").to_row() | MARKS


@given(st.sampled_from(sorted(ROW)), JSON, st.sampled_from(["prompt", "prompt_ids", ""]))
def test_a_row_of_any_types_makes_a_card_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, column: str, value: Any, pair: str
) -> None:
    row = {**ROW, column: value}
    if pair:
        sides = ("chosen_ids", "rejected_ids") if pair == "prompt_ids" else ("chosen", "rejected")
        row = {pair: value, **dict.fromkeys(sides, value), "status": value, "chosen_tokens": value}
    path = write(tmp_path_factory.mktemp("rows") / "t.jsonl", [ROW if not pair else row, row])
    try:
        card = data_card(path)
    except UserError as error:
        assert error.where == f"{path}:2"
    else:
        assert head_of(card)["configs"]


def test_a_run_that_was_stopped_is_said(tmp_path: Path) -> None:
    path = stored(tmp_path)
    assert "was stopped" not in data_card(path)
    file = path.with_suffix(".manifest.json")
    said = json.loads(file.read_text())
    said["runs"][-1]["ended"] = None
    file.write_text(json.dumps(said))
    assert "The last run was stopped before its end" in data_card(path)


def test_only_rejected_rows_make_a_card(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TraceStore(path, manifest()) as store:
        store.append(trace_of("r", status=Status.LENGTH, reason="long"))
    card = data_card(path)
    assert [config["config_name"] for config in head_of(card)["configs"]] == ["rejected"]
    assert "| `t.jsonl` | 0 |" in card
