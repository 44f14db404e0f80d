"""Texts to be measured: every format, what is refused and where, and which are drawn."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gap_world import STUDENT, TEACHER, question, trace_of, write_rows, write_traces
from weft.errors import UserError
from weft.gap.distance.samples import Sample, prompt_key, read_samples
from weft.gap.distance.sources import labels, open_sets
from weft.records import Message, Span, Status

ASKED = [{"role": "user", "content": "What is 6 * 7?"}]


def one(path: Path, row: Any) -> Sample:
    [sample] = read_samples(write_rows(path / "data.jsonl", [row]), "data")
    assert sample is not None
    return sample


def test_a_trace_keeps_its_authors(tmp_path: Path) -> None:
    file = write_traces(tmp_path / "t.jsonl", [trace_of(6), trace_of(7, status=Status.LENGTH)])
    sample, rejected = read_samples(file, "t")
    assert rejected is None
    assert sample is not None
    assert (sample.id, sample.source, sample.strategy) == ("p6#0", "t", "tessy")
    assert (sample.thinking, sample.response) == ("okay , so it is 42 .", "the answer is 42 .")
    assert [span.author for span in sample.spans or ()] == [STUDENT, TEACHER, STUDENT]
    assert sample.writer == ""
    assert sample.where.endswith("t.jsonl:1")


@pytest.mark.parametrize(
    ("row", "thinking", "response"),
    [
        ({"prompt": "What is 6 * 7?", "completion": " 42. "}, "", "42."),
        ({"prompt": ASKED, "completion": [{"role": "assistant", "content": "42."}]}, "", "42."),
        ({"messages": [*ASKED, {"role": "assistant", "content": "42."}]}, "", "42."),
        (
            {"messages": [*ASKED, {"role": "assistant", "content": "42.", "reasoning_content": "Hm.\n"}]},
            "Hm.",
            "42.",
        ),
        ({"messages": [*ASKED, {"role": "assistant", "content": "42.", "thinking": "Hm."}]}, "Hm.", "42."),
        ({"prompt": ASKED, "completion": "42.", "reasoning": "Hm."}, "Hm.", "42."),
        ({"prompt": ASKED, "completion": "<think>\nHm.\n</think>\n\n42."}, "Hm.", "42."),
        ({"prompt": ASKED, "completion": "\n<think>Hm.</think>"}, "Hm.", ""),
        ({"prompt": ASKED, "completion": "<think>Hm. And so on"}, "Hm. And so on", ""),
        ({"prompt": ASKED, "completion": "<think>\n\n</think>\n\n42."}, "", "42."),
        ({"prompt": ASKED, "completion": "[THINK]Hm.[/THINK]42."}, "Hm.", "42."),
        ({"prompt": ASKED, "completion": "Not <think>here</think>."}, "", "Not <think>here</think>."),
        ({"prompt": ASKED, "completion": "Hm. 6 * 7.\n</think>\n\n42."}, "Hm. 6 * 7.", "42."),
        ({"prompt": ASKED, "completion": "Hm.[/THINK]42 </think>"}, "Hm.[/THINK]42", ""),
        ({"prompt": ASKED, "completion": "<think>A</think><think>B</think>"}, "A", "<think>B</think>"),
        ({"prompt": ASKED, "completion": "<think>A</think>42</think>."}, "A", "42</think>."),
        ({"prompt": ASKED, "completion": None}, "", ""),
        ({"prompt": ASKED, "completion": None, "reasoning": "Hm."}, "Hm.", ""),
        (
            {"messages": [*ASKED, {"role": "assistant", "content": None, "reasoning_content": "Hm."}]},
            "Hm.",
            "",
        ),
        (
            {"messages": [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "42."}]}]},
            "",
            "42.",
        ),
    ],
)
def test_formats_of_others(tmp_path: Path, row: Any, thinking: str, response: str) -> None:
    sample = one(tmp_path, row)
    assert (sample.thinking, sample.response) == (thinking, response)
    assert sample.messages == (Message("user", "What is 6 * 7?"),)
    assert sample.spans is None
    assert sample.id == "row-1"


def test_several_turns_before_the_last_one_are_the_prompt(tmp_path: Path) -> None:
    turns = [*ASKED, {"role": "assistant", "content": "42"}, {"role": "user", "content": "Sure?"}]
    last = {"role": "assistant", "content": "Yes."}
    for row in (
        {"messages": [*turns, last]},
        {"prompt": turns, "completion": [last]},
        {"prompt": ASKED, "completion": [*turns[1:], last]},
        {"prompt": "What is 6 * 7?", "completion": [*turns[1:], last]},
    ):
        sample = one(tmp_path, row)
        assert [message.content for message in sample.messages] == ["What is 6 * 7?", "42", "Sure?"]
        assert sample.response == "Yes."


def test_every_kind_of_file_holds_the_same(tmp_path: Path) -> None:
    import datasets

    rows = [{"id": f"r{n}", "prompt": f"What is {n} * 7?", "completion": f"It is {n * 7}."} for n in range(5)]
    files = [write_rows(tmp_path / "a.jsonl", rows)]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    data = datasets.Dataset.from_list(rows)
    data.to_parquet(str(tmp_path / "d.parquet"))
    data.save_to_disk(str(tmp_path / "e"))
    files += [str(tmp_path / name) for name in ("b.json", "c.csv", "d.parquet", "e")]
    found = [[(s.id, s.prompt, s.response) for s in read_samples(name, "x") if s] for name in files]
    assert found[0] == [(row["id"], prompt_key(question(n)), row["completion"]) for n, row in enumerate(rows)]
    assert all(one == found[0] for one in found[1:])
    assert [len(samples.ids) for samples in open_sets(files)] == [5] * 5


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "no prompt here"}, "no text to be measured"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "`weft gap reward`"),
        ({"messages": ASKED}, "has the role 'user'"),
        ({"messages": "hello"}, "no list of messages"),
        ({"messages": [{"role": "assistant", "content": "42."}]}, "no messages"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "", "tool_calls": [1]}]}, "calls tools"),
        ({"messages": [*ASKED, {"role": "assistant", "content": 42}]}, "JSON number"),
        ({"prompt": 3, "completion": "42"}, "JSON number"),
        ({"prompt": 3, "completion": [*ASKED, {"role": "assistant", "content": "42"}]}, "JSON number"),
        ({"prompt": "q", "completion": "a\0b"}, "NUL"),
        ({"prompt": "q", "completion": {"content": "a"}}, "no list of messages"),
        ({"prompt": "q", "completion": 42}, "expected: text, or messages such as"),
        ({"prompt": None, "completion": None}, "no text to be measured"),
        ({"prompt": "q", "completion": "\ud800"}, "half a character"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Any, said: str) -> None:
    good = {"prompt": "What?", "completion": "That."}
    file = write_rows(tmp_path / "data.jsonl", [good, row])
    with pytest.raises(UserError, match=r"data\.jsonl:2") as caught:
        open_sets([file])
    assert said in str(caught.value)


def test_a_torn_file_of_traces_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(trace_of(1).to_line() + trace_of(2).to_line()[:80])
    with pytest.raises(UserError, match="torn"):
        open_sets([str(path)])


def test_no_file_no_rows_and_no_complete_trace(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_sets([str(tmp_path / "none.jsonl")])
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no rows"):
        open_sets([str(tmp_path / "empty.jsonl")])
    rejected = write_traces(tmp_path / "t.rejected.jsonl", [trace_of(1, status=Status.LENGTH)])
    with pytest.raises(UserError, match="1 were rejected"):
        open_sets([rejected])


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write_traces(tmp_path / "t.jsonl", [trace_of(1), trace_of(2), trace_of(1)])
    with pytest.raises(UserError, match=r"p1#0 is there twice, first in row 1") as caught:
        open_sets([file])
    assert "t.jsonl:3" in str(caught.value)


def test_equal_prompts_have_one_key_whatever_file_they_are_in(tmp_path: Path) -> None:
    system = (Message("system", "Be brief."), *question(6))
    folded = (Message("user", "Be brief.\n\nWhat is 6 * 7?"),)
    traces = write_traces(tmp_path / "t.jsonl", [trace_of(6, messages=folded)])
    rows = write_rows(
        tmp_path / "r.jsonl",
        [
            {"system": "Be brief.", "prompt": "What is 6 * 7?", "completion": "42"},
            {"messages": [m.to_dict() for m in system] + [{"role": "assistant", "content": "42"}]},
            {"prompt": "What is 6 * 7?", "completion": "42"},
        ],
    )
    [trace], found = [[s.prompt for s in read_samples(file, "x") if s] for file in (traces, rows)]
    assert found[:2] == [trace, trace]
    assert found[2] == prompt_key(question(6)) != trace


@given(st.text(), st.text())
def test_different_prompts_have_different_keys(one: str, other: str) -> None:
    keys = {prompt_key([Message("user", text)]) for text in (one, other)}
    assert len(keys) == len({one, other})
    assert prompt_key([Message("user", one), Message("assistant", other)]) not in keys


def test_labels_are_short_and_unique() -> None:
    assert labels(["a/tessy.jsonl", "b/own.v2.jsonl.gz", "owner/name"]) == ["tessy", "own.v2", "name"]
    assert labels(["x/a/t.jsonl", "x/b/t.jsonl", "u.csv"]) == ["a:t", "b:t", "u"]
    assert labels(["x/a/t.jsonl", "y/a/t.jsonl"]) == ["x:a:t", "y:a:t"]
    found = labels(["t.jsonl", "t.csv", "/t.json"])
    assert len(set(found)) == 3
    assert not any("/" in label for label in found)


def test_the_same_prompts_are_drawn_of_every_source(tmp_path: Path) -> None:
    numbers = list(range(60))
    one = write_traces(tmp_path / "one.jsonl", [trace_of(n) for n in numbers])
    random.Random(0).shuffle(numbers)
    other = write_rows(
        tmp_path / "other.jsonl",
        [{"prompt": f"What is {n} * 7?", "completion": str(n * 7)} for n in numbers],
    )
    sets = open_sets([one, other], limit=10, seed=3)
    drawn = [{sample.prompt for sample in samples} for samples in sets]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 10
    assert [dict(samples.left_out) for samples in sets] == [{"not_drawn": 50}] * 2
    assert [samples.texts for samples in sets] == [60, 60]
    again = {sample.prompt for sample in open_sets([one], limit=10, seed=4)[0]}
    assert again != drawn[0]


def test_shared_prompts_are_drawn_first(tmp_path: Path) -> None:
    """A reference over many more prompts than the data is read where the data are."""
    few = write_traces(tmp_path / "few.jsonl", [trace_of(n) for n in range(8)])
    many = write_traces(tmp_path / "many.jsonl", [trace_of(n) for n in range(400)])
    sets = open_sets([few, many], limit=10)
    shared = {sample.prompt for sample in sets[0]}
    drawn = {sample.prompt for sample in sets[1]}
    assert len(shared) == 8
    assert shared < drawn
    assert len(drawn) == 10


def test_samples_of_one_prompt_are_drawn_together(tmp_path: Path) -> None:
    file = write_traces(tmp_path / "t.jsonl", [trace_of(n, sample=k) for k in range(3) for n in range(20)])
    prompts = [sample.prompt for sample in open_sets([file], limit=12)[0]]
    assert len(prompts) == 12
    assert len(set(prompts)) == 4


def test_the_digest_is_of_all_that_a_reading_depends_on() -> None:
    from gap_world import sample_of

    base = sample_of("a", "b")
    others = [
        sample_of("a", "c"),
        sample_of("ab", ""),
        sample_of("a", "b", messages=question(9)),
        sample_of("a", "b", spans=[Span(STUDENT, "a"), Span(TEACHER, "b")]),
        sample_of("a", "b", spans=[Span(STUDENT, "ab")]),
        sample_of("\ud800", "b"),
    ]
    assert sample_of("a", "b", id="z").digest == base.digest
    assert len({base.digest, *(other.digest for other in others)}) == 7


def test_writers_and_strategies_of_a_file(tmp_path: Path) -> None:
    alone = [Span(STUDENT, "hm")]
    own = write_traces(
        tmp_path / "own.jsonl", [trace_of(n, alone, strategy="student-only") for n in range(3)]
    )
    both = write_traces(
        tmp_path / "both.jsonl", [trace_of(1, alone, strategy="student-only"), trace_of(2, strategy="tessy")]
    )
    one, two = open_sets([own, both])
    assert (one.strategy, one.writers) == ("student-only", frozenset({"micro:student"}))
    assert (two.strategy, two.writers) == ("student-only, tessy", frozenset({"micro:student", ""}))
