"""Pairs in a policy's own tokens: what is drawn, what is left out, how it is spelled."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.engines.opening import open_engine
from weft.engines.scripted import ScriptedEngine, ScriptedVocabulary, recite
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.gap.ranking.pairs import (
    LeftOut,
    PlainPair,
    PlainPairs,
    SpelledPair,
    Speller,
    Written,
    read_pairs,
    spell_pairs,
    split_thinking,
)
from weft.micro import model_path
from weft.records import Message


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def chat(chosen: str, rejected: str, prompt: str = "2 + 2?", **more: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **more,
    }


def engine(thinks: bool = True, context: int | None = None, name: str = "scripted") -> ScriptedEngine:
    vocabulary = ScriptedVocabulary("characters")
    script = recite("Hm.", "4")
    return ScriptedEngine(script, thinks=thinks, context=context, vocabulary=vocabulary, name=name)


def text_of(engine: ScriptedEngine, ids: Iterable[int]) -> str:
    return engine.vocabulary.decode(list(ids))


def only(name: str, engine: ScriptedEngine) -> SpelledPair:
    (pair,) = spell_pairs(engine, read_pairs(name)).pairs
    return pair


def test_a_plain_conversation_goes_behind_the_prompt_without_thinking(tmp_path: Path) -> None:
    model = engine()
    pair = only(write(tmp_path / "pairs.jsonl", [chat("4", "It is 5")]), model)
    assert text_of(model, pair.prompt_ids) == (
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert text_of(model, pair.chosen_ids) == "4<|im_end|>"
    assert text_of(model, pair.rejected_ids) == "It is 5<|im_end|>"
    assert pair.chosen_ids[-1] in model.end_ids
    assert not pair.thinks


@pytest.mark.parametrize("by_field", [True, False], ids=["field", "tags"])
def test_thinking_goes_behind_the_opened_tag(tmp_path: Path, by_field: bool) -> None:
    row = chat("4", "<think>\nEh?\n</think>\n\n5")
    if by_field:
        row["chosen"][0]["reasoning_content"] = "Two and two.\n"
    else:
        row["chosen"][0]["content"] = "<think>Two and two.</think>4"
    model = engine()
    pair = only(write(tmp_path / "pairs.jsonl", [row]), model)
    assert pair.thinks
    assert text_of(model, pair.prompt_ids).endswith("assistant\n<think>\n")
    assert text_of(model, pair.chosen_ids) == "Two and two.\n</think>\n\n4<|im_end|>"
    assert text_of(model, pair.rejected_ids) == "Eh?\n</think>\n\n5<|im_end|>"


def test_a_template_without_thinking_reads_thinking_as_text(tmp_path: Path) -> None:
    model = engine(thinks=False)
    row = chat("<think>Two and two.</think>\n4", "5")
    pair = only(write(tmp_path / "pairs.jsonl", [row]), model)
    assert text_of(model, pair.chosen_ids) == "Two and two.\n\n4<|im_end|>"
    assert not pair.thinks


def test_a_text_is_the_prompt_as_it_stands(tmp_path: Path) -> None:
    model = engine()
    row = {"prompt": "Q: 2 + 2?\nA:", "chosen": " 4", "rejected": " 5<|im_end|>"}
    pair = only(write(tmp_path / "pairs.jsonl", [row]), model)
    assert text_of(model, pair.prompt_ids) == "Q: 2 + 2?\nA:"
    assert text_of(model, pair.chosen_ids) == " 4<|im_end|>"
    assert text_of(model, pair.rejected_ids) == " 5<|im_end|>"  # its end is not written twice
    assert pair.messages == (Message("user", "Q: 2 + 2?\nA:"),)


def test_without_a_prompt_it_is_what_both_texts_begin_with(tmp_path: Path) -> None:
    row = {"chosen": "Q: 2 + 2? A: 4", "rejected": "Q: 2 + 2? A: five"}
    model = engine()
    pair = only(write(tmp_path / "pairs.jsonl", [row]), model)
    assert text_of(model, pair.prompt_ids) == "Q: 2 + 2? A:"
    assert text_of(model, pair.chosen_ids) == " 4<|im_end|>"


def test_answers_and_ids_come_along_and_do_not_change_the_digest(tmp_path: Path) -> None:
    plain = read_pairs(write(tmp_path / "plain.jsonl", [chat("4", "5"), chat("6", "7")]))
    rows = [chat("4", "5", answer=4, id="four"), chat("6", "7", answer="six", id="six")]
    named = read_pairs(write(tmp_path / "named.jsonl", rows))
    assert [(pair.id, pair.answer) for pair in named.pairs] == [("four", "4"), ("six", "six")]
    assert [(pair.id, pair.answer) for pair in plain.pairs] == [("0", None), ("1", None)]
    assert named.sha256 == plain.sha256


def test_ids_that_stand_twice_give_way_to_rows(tmp_path: Path) -> None:
    found = read_pairs(write(tmp_path / "pairs.jsonl", [chat("4", "5", id=7), chat("6", "5", id=7)]))
    assert [pair.id for pair in found.pairs] == ["0", "1"]


def test_an_id_that_is_none_gives_way_to_the_row(tmp_path: Path) -> None:
    found = read_pairs(write(tmp_path / "pairs.jsonl", [chat("4", "5", id=1.5), chat("6", "5", id=["x"])]))
    assert [pair.id for pair in found.pairs] == ["0", "1"]


def test_equal_prompts_have_one_id_and_others_another(tmp_path: Path) -> None:
    rows = [chat("4", "5"), chat("four", "five"), chat("4", "5", prompt="3 + 1?")]
    ids = [pair.prompt_id for pair in read_pairs(write(tmp_path / "pairs.jsonl", rows)).pairs]
    assert ids[0] == ids[1] != ids[2]


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    turns = [{"role": role, "content": "so"} for role in ("assistant", "user", "assistant")]
    rows = [
        chat("4", "5"),
        chat("  \n", "5"),
        chat("4", "4"),
        chat("4", "5", tools=[tool]),
        {**chat("4", "5"), "chosen": turns},
        chat("4", "5" * 500),
        chat("4", "<think>Or is it 5"),
        {**chat("4", "5"), "prompt": [{"role": "system", "content": "be brief"}]},
    ]
    path = write(tmp_path / "pairs.jsonl", rows)
    found = spell_pairs(engine(context=200), read_pairs(path))
    assert [pair.row for pair in found.pairs] == [0]
    assert found.left_out == {
        LeftOut.EMPTY: 1,
        LeftOut.IDENTICAL: 1,
        LeftOut.NOT_TEXT: 1,
        LeftOut.TURNS: 1,
        LeftOut.UNCLOSED: 1,
        LeftOut.BAD_PROMPT: 1,
        LeftOut.TOO_LONG: 1,
    }


def test_no_pair_at_all_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [chat("4", "4"), chat("", "5")])
    with pytest.raises(UserError, match=r"1 with identical responses, 1 with a response without text"):
        read_pairs(path)
    with pytest.raises(UserError, match="it can read no pair: 1 with too long"):
        spell_pairs(engine(context=10), read_pairs(write(tmp_path / "long.jsonl", [chat("4", "5")])))


@pytest.mark.parametrize("answer", [["4"], {"value": 4}])
def test_an_answer_that_is_none_names_its_row(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(UserError, match="row 1"):
        read_pairs(write(tmp_path / "pairs.jsonl", [chat("4", "5"), chat("4", "5", answer=answer)]))


def test_the_draw_depends_on_the_seed_and_a_higher_limit_adds_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [chat(f"{n}", "no", prompt=f"{n}?") for n in range(40)])

    def drawn(limit: int | None, seed: int = 0) -> list[int]:
        return [pair.row for pair in read_pairs(path, limit=limit, seed=seed).pairs]

    ten, twenty = drawn(10), drawn(20)
    assert len(ten) == 10
    assert ten == sorted(ten) == drawn(10)
    assert set(ten) < set(twenty)
    assert drawn(10, seed=1) != ten
    assert drawn(None) == list(range(40))


@given(st.text(), st.text())
def test_tags_are_taken_off_once_and_no_text_is_lost(thinking: str, response: str) -> None:
    if "</think>" in thinking:
        return
    assert split_thinking(f"<think>{thinking}</think>{response}") == Written(thinking, response)
    assert split_thinking(f"<think>{thinking}") is LeftOut.UNCLOSED
    assert split_thinking(f"Well, <think>{thinking}</think>").thinking == ""  # type: ignore[union-attr]


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(["words", "characters", "bytes"]))
def test_responses_are_spelled_whole(chosen: str, rejected: str, kind: Any) -> None:
    try:
        f"{chosen}{rejected}".encode()
    except UnicodeEncodeError:
        return
    vocabulary = ScriptedVocabulary(kind)
    model = ScriptedEngine(recite("", "4"), vocabulary=vocabulary)
    pair = PlainPair(
        0, "0", "p", (Message("user", "?"),), None, None, Written("", chosen), Written("", rejected)
    )
    spelled = Speller(model).spell(pair)
    if chosen == rejected:
        assert spelled is LeftOut.IDENTICAL
        return
    assert isinstance(spelled, SpelledPair)
    for ids, text in ((spelled.chosen_ids, chosen), (spelled.rejected_ids, rejected)):
        assert vocabulary.decode(ids) == f"{text}<|im_end|>"


def test_the_messages_of_a_prompt_keep_their_thinking(tmp_path: Path) -> None:
    row = chat("4", "5")
    row["prompt"] = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2", "reasoning_content": "Easy."},
        {"role": "user", "content": "2 + 2?"},
    ]
    found: PlainPairs = read_pairs(write(tmp_path / "pairs.jsonl", [row]))
    assert found.pairs[0].messages[1] == Message("assistant", "2", "Easy.", "reasoning_content")
    assert found.pairs[0].messages[0] == Message("user", "1 + 1?")


@pytest.mark.usefixtures("one_thread")
def test_texts_are_the_tokens_that_trl_trains_on(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from weft.preference.pairs import open_pairs
    from weft.preference.preparing import tokenised

    prompt = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": prompt, "chosen": "Answer: 4", "rejected": "Okay, so 5"}]
    path = write(tmp_path / "pairs.jsonl", rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model_path("student")))
    theirs = tokenised(open_pairs(path).rows, tokenizer, None, where="", tell=print)[0]

    async def spelled() -> SpelledPair:
        model = await open_engine(EngineSettings(name="micro:student"), date=datetime.date(2026, 1, 1))
        try:
            return spell_pairs(model, read_pairs(path)).pairs[0]
        finally:
            await model.close()

    ours = asyncio.run(spelled())
    assert list(ours.prompt_ids) == theirs["prompt_ids"]
    assert list(ours.chosen_ids) == theirs["chosen_ids"]
    assert list(ours.rejected_ids) == theirs["rejected_ids"]


@pytest.mark.parametrize("kind", ["parquet", "folder", "json"])
def test_other_formats_bring_answers_too(tmp_path: Path, kind: str) -> None:
    import datasets

    rows = [chat("4", "5", answer=4), chat("6", "7", prompt="3 + 3?", answer=None)]
    data = datasets.Dataset.from_list(rows)
    path = tmp_path / ("pairs" if kind == "folder" else f"pairs.{kind}")
    if kind == "parquet":
        data.to_parquet(str(path))
    elif kind == "folder":
        data.save_to_disk(str(path))
    else:
        path.write_text(json.dumps(rows))
    found = read_pairs(str(path))
    assert [pair.answer for pair in found.pairs] == ["4", None]
    assert found.sha256 == read_pairs(write(tmp_path / "same.jsonl", rows)).sha256
