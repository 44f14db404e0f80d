"""Near-duplicates and benchmarks' words: what is found by hand is found, and nothing else is removed."""

from __future__ import annotations

import asyncio
import builtins
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify_world import Scripted, trace_of, write_rows, write_traces
from weft.errors import UserError
from weft.records import Message, Trace
from weft.store import rejected_path
from weft.verify.contamination import MOST_ROWS, read_benchmarks
from weft.verify.duplicates import SHINGLE, Duplicates, prompt_key, similarity
from weft.verify.marked import Mark, Marked, read_marked
from weft.verify.marking import verify_with
from weft.verify.settings import VerifySettings
from weft.verify.words import runs, whole, words_of

LONG = (
    "A farmer has seventeen sheep and sells nine of them on the market in the morning before it rains; "
    "how many sheep does the farmer have in the evening when the market closes?"
)


def numbered(count: int, seed: int = 0) -> str:
    """So many words, none of them twice, and others for another seed."""
    rng = random.Random(seed)
    return " ".join(f"word{rng.randrange(10**9)}" for _ in range(count))


def settled(threshold: float, traces: Sequence[Trace]) -> list[str | None]:
    """What each is a duplicate of."""
    duplicates = Duplicates(threshold, [prompt_key(trace.prompt) for trace in traces])
    found = []
    for trace in traces:
        original = duplicates.original(trace)
        found.append(original)
        if original is None:
            duplicates.keep(trace)
        duplicates.passed(trace)
    return found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Twelve, and THREE.", ["twelve", "and", "three"]),
        ("x + 1 = ２", ["x", "1", "2"]),
        ("l'été – naïve", ["l", "été", "naïve"]),
        ("e\u0301te\u0301", ["été"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("6×7是多少？", ["6", "7", "是", "多", "少"]),
        ("ราคา", ["ร", "า", "ค", "า"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("", []),
        (" \n\t", []),
        ("\ud800", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_signs_are_words_where_they_are_asked_for() -> None:
    assert words_of("x - 1 = 2!", symbols=True) == ["x", "-", "1", "=", "2", "!"]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 6))
def test_equal_runs_have_equal_digests_and_others_have_not(words: list[str], length: int) -> None:
    found = runs(words, length)
    spelled = [tuple(words[at : at + length]) for at in range(max(0, len(words) - length + 1))]
    assert len(found) == len(spelled)
    assert len(set(found.tolist())) == len(set(spelled))


@given(st.text(), st.text())
def test_any_text_has_words(one: str, other: str) -> None:
    assert (whole(words_of(one)) == whole(words_of(other))) == (words_of(one) == words_of(other))


def test_similarity_by_hand() -> None:
    one, other = np.array([1, 2, 3], dtype=np.uint64), np.array([2, 3, 4, 5], dtype=np.uint64)
    assert similarity(one, other) == 2 / 5
    assert similarity(one, one) == 1


def test_a_prompt_like_an_earlier_one_is_its_duplicate_whatever_is_answered() -> None:
    traces = [
        trace_of("a#0", "8", prompt=LONG, answer="8"),
        trace_of("b#0", "something else", prompt=LONG.upper().replace("?", "??"), answer="8"),
        trace_of("c#0", "8", prompt=LONG.replace("evening", "night"), answer="8"),
        trace_of("d#0", "8", prompt=numbered(30), answer="8"),
    ]
    assert settled(0.6, traces) == [None, "a#0", "a#0", None]
    assert settled(1.0, traces) == [None, None, None, None]


def test_the_threshold_is_met_exactly() -> None:
    """Of 20 words the last is another: 15 of 17 shingles are in both."""
    words = numbered(20).split()
    traces = [
        trace_of("a#0", prompt=" ".join(words)),
        trace_of("b#0", prompt=" ".join([*words[:-1], "another"])),
    ]
    assert len(words) - SHINGLE + 1 == 16
    assert settled(15 / 17, traces) == [None, "a#0"]
    assert settled(15 / 17 + 1e-9, traces) == [None, None]


def test_prompts_with_other_right_answers_are_other_questions() -> None:
    template = LONG.replace("nine", "{}")
    traces = [
        trace_of("a#0", prompt=template.format("nine"), answer="8"),
        trace_of("b#0", prompt=template.format("four"), answer="13"),
        trace_of("c#0", prompt=template.format("four "), answer=" 8\n"),
        trace_of("d#0", prompt=template.format("nine,"), answer=None),
    ]
    assert settled(0.5, traces) == [None, None, "a#0", "a#0"]


def test_system_messages_do_not_make_prompts_alike() -> None:
    traces = []
    for seed, name in enumerate("ab"):
        trace = trace_of(f"{name}#0", prompt=numbered(10, seed))
        messages = (Message("system", LONG * 5), *trace.prompt.messages)
        traces.append(replace(trace, prompt=replace(trace.prompt, messages=messages)))
    assert settled(0.5, traces) == [None, None]


def test_samples_of_one_prompt_stay_if_their_texts_differ() -> None:
    thought = numbered(60)
    traces = [
        trace_of("a#0", "so 42", thinking=thought),
        trace_of("a#1", "so 42", thinking=numbered(60, 1)),
        trace_of("a#2", "so 42!", thinking=thought + " indeed"),
        trace_of("a#3", "so 42", thinking=numbered(60, 1)),
    ]
    assert settled(0.8, traces) == [None, None, "a#0", "a#1"]


def test_equal_prompts_under_other_ids_are_one() -> None:
    traces = [trace_of(f"{name}#0", thinking=numbered(60, seed)) for seed, name in enumerate("abc")]
    assert settled(0.8, traces) == [None, None, None]
    traces = [trace_of(f"{name}#0", thinking=numbered(60)) for name in "abc"]
    assert settled(0.8, traces) == [None, "a#0", "a#0"]


@pytest.mark.parametrize("texts", [["", ""], ["!", "!"], ["yes", "yes"], ["\ud800", "\ud800"]])
def test_short_and_empty_texts(texts: list[str]) -> None:
    traces = [trace_of(f"a#{number}", text, thinking="") for number, text in enumerate(texts)]
    assert settled(0.8, traces) == [None, "a#0"]
    assert settled(0.8, [traces[0], trace_of("a#1", "no", thinking="")]) == [None, None]


def test_no_estimate_removes_a_trace() -> None:
    """Alike enough for the search, and not for the threshold."""
    rng = random.Random(3)
    traces = []
    for number in range(60):
        words = numbered(40).split()
        for _ in range(2):
            words[rng.randrange(40)] = f"other{rng.randrange(10**9)}"
        traces.append(trace_of(f"p{number}#0", prompt=" ".join(words)))
    assert settled(0.95, traces) == [None] * 60


def test_nothing_is_kept_of_texts_when_no_more_are_to_come() -> None:
    traces = [trace_of(f"a#{number}", thinking=numbered(50, number)) for number in range(3)]
    duplicates = Duplicates(0.8, [prompt_key(trace.prompt) for trace in traces])
    held = []
    for trace in traces:
        duplicates.keep(trace)
        duplicates.passed(trace)
        (known,) = duplicates._known.values()
        held.append(len(known.texts))
    assert held == [1, 2, 0]


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refusing(name: str, *given: Any, **named: Any) -> Any:
        if name == "datasketch":
            raise ImportError(name)
        return imported(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(UserError, match="datasketch") as refused:
        Duplicates(0.8, [])
    assert "pip install" in (refused.value.remedy or "")


def marked_by(
    settings: Mapping[str, Any], traces: Sequence[Trace], folder: Path, verifier: Scripted | None = None
) -> dict[str, Marked]:
    source, output = write_traces(folder / "traces.jsonl", traces), folder / "out.jsonl"
    checked = VerifySettings.model_validate(settings)
    asyncio.run(verify_with(verifier, checked, [source], output))
    paths = (output, rejected_path(output))
    return {one.trace.id: one for path in paths if path.exists() for one in read_marked(path)}


def test_a_wrong_trace_never_stands_in_for_a_right_one(tmp_path: Path) -> None:
    traces = [
        trace_of("a#0", "41", prompt=LONG),
        trace_of("b#0", "42", prompt=LONG + "?"),
        trace_of("c#0", "42", prompt=LONG + "!?"),
        trace_of("d#0", "41", prompt=LONG + "??"),
    ]
    found = marked_by({"verifier": "exact", "deduplicate": 0.8}, traces, tmp_path, Scripted())
    assert {id: one.mark for id, one in found.items()} == {
        "a#0": Mark.VERDICT,
        "b#0": Mark.KEPT,
        "c#0": Mark.DUPLICATE,
        "d#0": Mark.VERDICT,
    }
    assert found["c#0"].duplicate_of == "b#0"
    assert found["c#0"].judgement is not None


BENCH = [
    {"id": "one", "prompt": LONG},
    {"id": "two", "prompt": "What is 6 * 7?"},
    {"id": "three", "prompt": "What  is six TIMES seven?"},
]


def hits(
    folder: Path, rows: Sequence[Mapping[str, Any]], *traces: Trace, ngram: int = 13
) -> list[str | None]:
    path = write_rows(folder / "bench.jsonl", rows)
    benchmarks = read_benchmarks([str(path)], split="test", ngram=ngram)
    found = [benchmarks.hit(trace) for trace in traces]
    return [hit and hit.replace(f"{folder}/", "") for hit in found]


def test_a_benchmarks_words_are_found_where_they_are(tmp_path: Path) -> None:
    other = numbered(40)
    thirteen = " ".join(LONG.split()[5:18])
    twelve = " ".join(LONG.split()[5:17])
    assert hits(
        tmp_path,
        BENCH,
        trace_of("a#0", prompt=f"{other} {LONG.upper()} {other}"),
        trace_of("b#0", prompt=f"{other}: {thirteen} {other}"),
        trace_of("c#0", prompt=f"{other}: {twelve} {other}"),
        trace_of("d#0", prompt=other, thinking=f"{other}, {thirteen}. {other}"),
        trace_of("e#0", prompt=other, response=thirteen),
        trace_of("f#0", prompt=other),
    ) == [
        "bench.jsonl:1 in the prompt",
        "bench.jsonl:1 in the prompt",
        None,
        "bench.jsonl:1 in the text",
        "bench.jsonl:1 in the text",
        None,
    ]


def test_short_questions_are_compared_whole(tmp_path: Path) -> None:
    assert hits(
        tmp_path,
        BENCH,
        trace_of("a#0", prompt="what is 6*7"),
        trace_of("b#0", prompt="What is six times seven?"),
        trace_of("c#0", prompt="So what is 6 * 7?", thinking="What is 6 * 7?"),
        trace_of("d#0", prompt="What is 6 * 8?"),
    ) == ["bench.jsonl:2 in the prompt", "bench.jsonl:3 in the prompt", None, None]


def test_other_lengths(tmp_path: Path) -> None:
    trace = trace_of("a#0", prompt="the farmer sells nine of them")
    assert hits(tmp_path, BENCH, trace, ngram=4) == ["bench.jsonl:1 in the prompt"]
    assert hits(tmp_path, BENCH, trace, ngram=5) == [None]


def test_a_benchmarks_way_of_asking_is_no_question(tmp_path: Path) -> None:
    asks = "Solve this problem step by step and put your final answer within a box at the end:"
    rows = [{"prompt": f"{asks} {numbered(20, seed)}"} for seed in range(MOST_ROWS + 1)]
    mine = trace_of("a#0", prompt=f"{asks} {numbered(20, 99)}")
    theirs = trace_of("b#0", prompt=f"{asks} {numbered(20, 3)}")
    assert hits(tmp_path, rows, mine, theirs) == [None, "bench.jsonl:4 in the prompt"]
    assert hits(tmp_path, rows[:MOST_ROWS], mine) == ["bench.jsonl:1 in the prompt"]


def test_words_do_not_run_from_one_message_into_the_next(tmp_path: Path) -> None:
    before, after = LONG.split()[:8], LONG.split()[8:16]
    trace = trace_of("a#0")
    chat = (Message("user", " ".join(before)), Message("assistant", "?"), Message("user", " ".join(after)))
    trace = replace(trace, prompt=replace(trace.prompt, messages=chat))
    assert hits(tmp_path, BENCH, trace) == [None]
    trace = replace(trace, prompt=replace(trace.prompt, messages=(Message("system", LONG), chat[0])))
    assert hits(tmp_path, BENCH, trace) == [None]


@pytest.mark.parametrize("column", ["question", "problem", "messages"])
def test_questions_are_found_in_usual_columns(tmp_path: Path, column: str) -> None:
    asked: Any = [{"role": "user", "content": LONG}] if column == "messages" else LONG
    trace = trace_of("a#0", prompt=LONG)
    assert hits(tmp_path, [{column: asked, "answer": 8}], trace) == ["bench.jsonl:1 in the prompt"]


@pytest.mark.parametrize(
    ("rows", "said"), [([{"prompt": "?!"}], "no words"), ([{"text_of_it": LONG}], "no column")]
)
def test_benchmarks_without_questions_are_refused(tmp_path: Path, rows: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        hits(tmp_path, rows)
    with pytest.raises(UserError, match="no such file"):
        read_benchmarks([str(tmp_path / "none.jsonl")], split="test", ngram=13)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.text(max_size=60), st.integers(2, 4))
def test_against_a_search_that_is_easy_to_read(
    tmp_path_factory: pytest.TempPathFactory, asked: list[str], prompt: str, ngram: int
) -> None:
    def held(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return {tuple(words[at : at + ngram]) for at in range(len(words) - ngram + 1)}

    rows = [{"prompt": f"a {text}"} for text in asked if "\0" not in text]
    trace = trace_of("a#0", "", prompt=f"a {prompt}", thinking="")
    expected = next(
        (
            number
            for number, row in enumerate(rows, 1)
            if held(row["prompt"]) & held(f"a {prompt}") or words_of(row["prompt"]) == words_of(f"a {prompt}")
        ),
        None,
    )
    if rows:
        found = hits(tmp_path_factory.mktemp("bench"), rows, trace, ngram=ngram)
        assert found == [None if expected is None else f"bench.jsonl:{expected} in the prompt"]


def test_contaminated_traces_are_rejected_and_not_judged(tmp_path: Path) -> None:
    bench = write_rows(tmp_path / "bench.jsonl", BENCH)
    verifier = Scripted()
    traces = [trace_of("a#0", prompt=LONG), trace_of("b#0", prompt="Other?")]
    settings = {"verifier": "exact", "decontaminate": str(bench)}
    found = marked_by(settings, traces, tmp_path, verifier)
    assert [(id, one.mark) for id, one in found.items()] == [("b#0", Mark.KEPT), ("a#0", Mark.CONTAMINATED)]
    assert found["a#0"].contaminated_by == f"{bench}:1 in the prompt"
    assert found["a#0"].judgement is None
    assert len(verifier.asked) == 1
    write_rows(bench, BENCH[1:])
    with pytest.raises(UserError, match="benchmarks"):
        marked_by(settings, traces, tmp_path, verifier)
