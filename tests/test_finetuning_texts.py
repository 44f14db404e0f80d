"""Rows of fine-tuning data as tokens and labels: those of TRL, and those of one author."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from trl import SFTTrainer

from gap_world import STUDENT, TEACHER, question, trace_of
from templates import chat_tokenizer, fast, sentencepiece, template_names
from weft.chat import ChatTemplate
from weft.chat.shipped import shipped_template
from weft.engines.base import Engine
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.finetuning.authors import authors, owners
from weft.finetuning.settings import LossOn
from weft.finetuning.texts import IGNORED, Left, Renderer, Text, tokenised
from weft.gap.distance.samples import Sample
from weft.gap.distance.spelling import Speller
from weft.micro import model_path
from weft.records import Author, Message, Span, Status, Trace
from worlds import started

pytestmark = pytest.mark.usefixtures("one_thread")

S, T = STUDENT, TEACHER
REFUSED = ("gemma4_v2", "idefics3", "llava_next", "smolvlm")
"""They take lists of parts alone, or keep no thinking in any row."""
USABLE = [name for name in template_names() if not name.startswith(REFUSED)]
THINKING = (Span(S, "okay , so"), Span(T, " 6 * 7 is 42"), Span(S, " . alright"))
RESPONSE = "the answer is 42 ."


@pytest.fixture(scope="module")
def micro() -> Any:
    return AutoTokenizer.from_pretrained(model_path("student"))


def text_of(
    row: Mapping[str, Any], tokenizer: Any, loss_on: LossOn = "all", longest: int | None = None
) -> Text:
    (found,) = tokenised([Renderer(tokenizer, "m")(row, "f:1")], tokenizer, loss_on=loss_on, longest=longest)
    return found


def of_trl(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and labels as TRL's trainer prepares the row, up to the end of the turn."""
    args = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=False,
        max_length=None,
        shuffle_dataset=False,
    )
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    given: Any = args
    made: Any = SFTTrainer._prepare_dataset(
        trainer, Dataset.from_list([dict(row)]), tokenizer, given, False, None, "train"
    )
    ids, labels = made[0]["input_ids"], made[0]["labels"]
    end = len(ids)
    while tokenizer.decode(ids[end - 1]).isspace():
        end -= 1
    if ids[end - 1] not in tokenizer.all_special_ids:
        return ids, labels
    return ids[:end], labels[:end]


def learned(text: Text) -> list[int]:
    return [token for token, label in zip(text.ids, text.labels, strict=True) if label != IGNORED]


def trained_trace(tokenizer: Any, thinking: Sequence[Span], messages: tuple[Message, ...]) -> Trace:
    """A trace in the form in which `weft synth` would write it for this tokenizer's template."""
    template = ChatTemplate.from_tokenizer(tokenizer)
    thoughts = thinking if template.thinking else ()
    trace = trace_of(6, thoughts, RESPONSE, messages=template.messages(messages))
    message, name = template.completion(trace.thinking, trace.response)
    arguments = json.dumps(template.arguments, sort_keys=True)
    return replace(trace, completion=message, training_template=name, template_arguments=arguments)


CONVERSATIONS = [
    question(6),
    (Message("system", "be brief"), *question(6)),
    (Message("user", "1 + 1 ?"), Message("assistant", "2", "easy", "reasoning_content"), *question(6)),
]


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one", "system", "turns"])
@pytest.mark.parametrize("name", USABLE)
def test_labels_are_those_of_trl_for_every_template_that_it_ships(
    name: str, messages: tuple[Message, ...]
) -> None:
    tokenizer = chat_tokenizer(name)
    trace = trained_trace(tokenizer, THINKING, messages)
    row = trace.to_row()
    found = text_of(row, tokenizer)
    kept = {"prompt", "completion", "chat_template_kwargs"}
    plain = {key: value for key, value in row.items() if key in kept}
    if trace.training_template:
        tokenizer.chat_template = shipped_template(trace.training_template)
    ids, labels = of_trl(plain, tokenizer)
    assert (list(found.ids), list(found.labels)) == (ids, labels)


def test_nothing_behind_the_end_of_the_turn_is_learned() -> None:
    micro = AutoTokenizer.from_pretrained(model_path("student"))
    for row in (trace_of(6, THINKING, RESPONSE).to_row(), {"prompt": [ASKED], "completion": [ANSWERED]}):
        found = text_of(row, micro)
        assert found.ids[-1] == found.labels[-1] == micro.eos_token_id
    asked = [turn("user", "say it"), turn("assistant", "it ")]
    kept = text_of({"prompt": asked[:1], "completion": asked[1:]}, micro)
    assert micro.decode(kept.ids).endswith("it <|im_end|>"), "white space of the text's own is learned"
    micro.chat_template = "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}"
    plain = text_of({"prompt": [ASKED], "completion": [ANSWERED]}, micro)
    assert micro.decode(plain.ids).endswith("\n\n"), "there it is white space that ends a turn"


@pytest.mark.parametrize("loss_on", ["all", "student"])
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("gemma3", "<end_of_turn>"),
        ("llama3", "<|eot_id|>"),
        ("qwen3", "<|im_end|>"),
        ("lfm2", "<|im_end|>"),
        ("gptoss", "<|return|>"),
    ],
)
def test_the_end_of_a_turn_need_not_be_the_end_of_sequence(name: str, end: str, loss_on: LossOn) -> None:
    tokenizer = chat_tokenizer(name, end)
    found = text_of(trained_trace(tokenizer, THINKING, question(6)).to_row(), tokenizer, loss_on)
    (control,) = tokenizer.encode(end, add_special_tokens=False)
    assert control != tokenizer.eos_token_id
    assert found.ids[-1] == found.labels[-1] == control, "the student ended the turn"


@pytest.mark.parametrize("name", USABLE)
def test_the_authors_share_the_completion_under_every_template(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    trace = trained_trace(tokenizer, THINKING, question(6))
    row = trace.to_row()
    whole = text_of(row, tokenizer)
    student, teacher = text_of(row, tokenizer, "student"), text_of(row, tokenizer, "teacher")
    assert whole.completion["unknown"] == 0
    assert sum(whole.completion.values()) == len(learned(whole))
    assert len(learned(student)) == whole.completion["student"]
    if not trace.thinking:
        assert teacher.left is Left.EMPTY
        return
    assert tokenizer.decode(learned(teacher)) == " 6 * 7 is 42"
    said = tokenizer.decode(learned(student))
    assert "okay , so" in said and " . alright" in said and RESPONSE in said and "42 ." in said
    for one, other, both in zip(student.labels, teacher.labels, whole.labels, strict=True):
        assert both == max(one, other) and min(one, other) == IGNORED


def test_tags_and_the_end_go_with_the_text_beside_them(micro: Any) -> None:
    """Closing tag: the last of the thinking; end of the turn: the last span."""
    thinking = (Span(S, "so"), Span(T, " 42"))
    row = trace_of(6, thinking, "it is 42").to_row()
    student, teacher = text_of(row, micro, "student"), text_of(row, micro, "teacher")
    assert micro.decode(learned(teacher)) == " 42\n</think>\n\n"
    assert micro.decode(learned(student)) == "soit is 42<|im_end|>"
    whole = trace_of(6, thinking, "it is 42", by=T).to_row()
    assert micro.decode(learned(text_of(whole, micro, "student"))) == "so"
    bare = trace_of(6, (), "it is 42", by=T).to_row()
    assert text_of(bare, micro, "student").left is Left.EMPTY


def test_an_opening_tag_of_the_completion_goes_with_the_first_span() -> None:
    """Qwen3's generation prompt leaves it to the model."""
    tokenizer = chat_tokenizer("qwen3")
    row = trained_trace(tokenizer, (Span(T, "42"), Span(S, " so")), question(6)).to_row()
    assert tokenizer.decode(learned(text_of(row, tokenizer, "teacher"))).startswith("<think>\n42")


def test_a_token_belongs_to_whoever_wrote_its_first_character(micro: Any) -> None:
    thinking = (Span(S, "the ans"), Span(T, "wer is 4"), Span(S, "2"))
    row = trace_of(6, thinking, "42").to_row()
    made = micro("the answer is 42", return_offsets_mapping=True)
    ids, places = made["input_ids"], made["offset_mapping"]
    assert micro.decode(ids[1]) == " answer"  # one token of two authors
    found = owners(thinking, places)
    assert [micro.decode(token) for token, author in zip(ids, found, strict=True) if author is S] == [
        "the",
        " answer",
        "2",
    ]
    assert micro.decode(learned(text_of(row, micro, "teacher"))) == " is 4"


def test_tokens_of_parts_of_a_character_are_of_its_author() -> None:
    tokenizer = chat_tokenizer("qwen3")
    row = trained_trace(tokenizer, (Span(S, "ok"), Span(T, "🙂答"), Span(S, "é")), question(6)).to_row()
    assert tokenizer.decode(learned(text_of(row, tokenizer, "teacher"))) == "🙂答"


def test_white_space_that_a_tokenizer_leaves_out_of_its_places_counts() -> None:
    """As GPT-2's, whose places begin after a token's own space."""
    spans = [Span(S, "a "), Span(T, "b")]
    assert owners(spans, [(0, 1), (1, 3)]) == [S, S]
    assert owners(spans, [(0, 1), (2, 3)]) == [S, S]


def test_sentencepiece_says_who_wrote_what() -> None:
    tokenizer = fast(sentencepiece(("<s>", "</s>")), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_tokenizer("qwen3").chat_template
    row = trained_trace(tokenizer, (Span(S, "so the"), Span(T, " 6 * 7 is 答"), Span(S, " ok")), question(6))
    assert "6 * 7 is 答" in tokenizer.decode(learned(text_of(row.to_row(), tokenizer, "teacher")))


WORDS = st.lists(st.sampled_from(["okay", " so", " 42", "4", " .", " is", "\n", "é", " <b>"]), max_size=6)


@given(parts=st.lists(st.tuples(st.sampled_from([S, T]), WORDS), min_size=1, max_size=5), response=WORDS)
def test_authors_agree_with_what_the_gap_measures(
    parts: list[tuple[Author, list[str]]], response: list[str], engine: Engine, micro: Any
) -> None:
    """Measures of the distance spell texts for themselves; both know the same authors of the same tokens."""
    spans = tuple(Span(author, "".join(words)) for author, words in parts if words)
    said = "".join(response).strip()
    thought = "".join(span.text for span in spans)
    if thought != thought.strip() or not thought or not said:
        return
    trace = trace_of(6, spans, said)
    speller = Speller(engine)
    sample = Sample("p", "s", "k", trace.prompt.messages, thought, said, trace.spans, "", "", None, "f:1")
    spelled = speller.text(sample, speller.prompt(sample))
    text = text_of(trace.to_row(), micro)
    row = Renderer(micro, "m")(trace.to_row(), "f:1")
    assert row.spans is not None
    places = micro(row.whole, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    start = len(spelled.prompt)
    if tuple(text.ids[start : start + len(spelled.ids)]) != spelled.ids:
        return  # a seam that the model writes otherwise than a row spells it
    ours = [author.value for author in owners(row.spans, places)]
    theirs = [run.author.value for run in spelled.authors for _ in range(run.tokens)]
    assert [ours[start + place] for place in spelled.places] == theirs


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = started(EngineSettings(name="micro:student"), date=datetime.date(2026, 1, 1))
    yield opened
    asyncio.run(opened.close())


# --- other rows ---------------------------------------------------------------------------------------------


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ASKED, ANSWERED = turn("user", "2 + 2 ?"), turn("assistant", "it is 4 .")
OTHERS: list[dict[str, Any]] = [
    {"prompt": "two plus two is", "completion": " 4 ."},
    {"prompt": [ASKED], "completion": [ANSWERED]},
    {"prompt": [turn("system", "be brief"), ASKED], "completion": [ANSWERED]},
    {"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]},
]


@pytest.mark.parametrize("row", OTHERS)
def test_other_rows_have_the_labels_of_trl(row: dict[str, Any], micro: Any) -> None:
    found = text_of(row, micro)
    assert (list(found.ids), list(found.labels)) == of_trl(row, micro)
    assert found.completion["unknown"] == len(learned(found))


def test_a_text_is_learned_as_a_whole(micro: Any) -> None:
    found = text_of({"text": "two plus two is 4"}, micro)
    assert list(found.ids) == list(found.labels) == of_trl({"text": "two plus two is 4"}, micro)[0]
    assert found.ids[-1] == micro.eos_token_id


def test_of_messages_the_last_one_is_learned(micro: Any) -> None:
    parts = text_of({"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]}, micro)
    for row in (
        {"messages": [ASKED, ANSWERED, ASKED, ANSWERED], "other": 1},
        {
            "conversations": [
                {"from": one["role"], "value": one["content"]} for one in (ASKED, ANSWERED, ASKED, ANSWERED)
            ]
        },
    ):
        assert text_of(row, micro) == parts
    assert text_of({"prompt": "2 + 2 ?", "completion": [ANSWERED]}, micro) == text_of(
        {"prompt": [ASKED], "completion": [ANSWERED]}, micro
    )


def test_a_tokenizer_that_adds_a_beginning_adds_it_to_texts_alone() -> None:
    tokenizer = chat_tokenizer("llama3")
    for row in (*OTHERS[:2], {"text": "4"}):
        assert (list(text_of(row, tokenizer).ids)) == of_trl(row, tokenizer)[0]


def test_a_reading_of_keys_that_are_there_for_a_columns_type(micro: Any) -> None:
    """As data sets give them: a key that one message has stands empty in the others."""
    row = {"prompt": [{**ASKED, "reasoning_content": None}], "completion": [ANSWERED], "tools": None}
    assert text_of({**row, "chat_template_kwargs": {"x": None}}, micro) == text_of(OTHERS[1], micro)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "a", "rejected": "b", "prompt": "q"}, "preference pair"),
        ({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}, "preference pair"),
        ({"question": "q"}, "no text to learn"),
        ({}, "no text to learn"),
        ({"prompt": [ASKED], "completion": []}, "`completion` is no list of messages"),
        ({"prompt": [], "completion": [ANSWERED]}, "`prompt` is no list of messages"),
        ({"prompt": [ASKED], "completion": "4"}, "`completion` is no list of messages"),
        ({"messages": [ANSWERED, ASKED]}, "the role 'user'"),
        ({"messages": ["hello"]}, "no list of messages"),
        ({"messages": [turn("user", "a"), {"role": "assistant", "content": [1]}]}, "refuses the messages"),
        ({"spans": [], "prompt": [ASKED]}, "not a trace"),
        ({**trace_of(6).to_row(), "training_template": "none.jinja"}, "training template none.jinja was not"),
    ],
)
def test_rows_that_cannot_be_used_say_where(row: dict[str, Any], words: str, micro: Any) -> None:
    with pytest.raises(UserError, match=words) as error:
        text_of(row, micro)
    assert error.value.where == "f:1"


def test_messages_need_a_template(micro: Any) -> None:
    plain = AutoTokenizer.from_pretrained(model_path("student"))
    plain.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        text_of(OTHERS[1], plain)


# --- what is left out ---------------------------------------------------------------------------------------


def test_a_text_is_whole_or_left_out(micro: Any) -> None:
    row = trace_of(6).to_row()
    whole = text_of(row, micro)
    assert text_of(row, micro, longest=len(whole.ids)) == whole
    assert text_of(row, micro, longest=len(whole.ids) - 1) == Text((), (), {}, Left.LONG)


def test_columns_of_verdicts_and_of_proposals_change_nothing(micro: Any) -> None:
    row = trace_of(6).to_row()
    more = {"verdict": "correct", "verifier": "math", "contaminated_by": "", "proposals": []}
    assert text_of({**row, **more}, micro, "teacher") == text_of(row, micro, "teacher")


def test_unfinished_traces_are_left_out(micro: Any) -> None:
    assert text_of(trace_of(6, status=Status.LENGTH).to_row(), micro).left is Left.INCOMPLETE


def test_a_batch_keeps_its_order(micro: Any) -> None:
    rows = [*OTHERS, {"text": "4"}, trace_of(6).to_row(), trace_of(7, status=Status.LENGTH).to_row()]
    render = Renderer(micro, "m")
    together = tokenised([render(row, "f:1") for row in rows], micro, loss_on="all", longest=None)
    assert together == [text_of(row, micro) for row in rows]


def test_a_template_for_another_model_is_refused(micro: Any) -> None:
    """It would train on prompts that the model is never asked."""
    row = {**trace_of(6).to_row(), "training_template": "qwen3_training.jinja"}
    with pytest.raises(UserError, match=r"its training template, qwen3_training\.jinja, asks otherwise"):
        text_of(row, micro)


@pytest.mark.parametrize(
    "row", [trace_of(6).to_row(), {**OTHERS[1], "completion": [turn("assistant", "4", thinking="so")]}]
)
def test_thinking_that_a_template_drops_is_no_thinking_that_is_learned(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="the chat template drops `"):
        text_of(row, chat_tokenizer("llama3"))


def test_thinking_in_the_content_that_a_template_drops_is_refused() -> None:
    """As DeepSeek's distilled models do it; published data hold thinking so."""
    row = {"prompt": [ASKED], "completion": [turn("assistant", "<think>\nso 4 .\n</think>\n\nit is 4 .")]}
    with pytest.raises(UserError, match="drops what stands before </think>"):
        text_of(row, chat_tokenizer("deepseek_r1_distill"))
    for name in ("qwen3", "qwen2_5", "llama3"):
        assert "so 4 ." in chat_tokenizer(name).decode(text_of(row, chat_tokenizer(name)).ids)


def test_a_template_that_changes_the_text_hides_its_authors(micro: Any) -> None:
    shouting = AutoTokenizer.from_pretrained(model_path("student"))
    shouting.chat_template = "{% for m in messages %}{{ m.content | upper }} {% endfor %}"
    row = trace_of(6, (), "it is 42").to_row()
    assert text_of(row, shouting).completion["unknown"] > 0
    assert text_of(row, shouting, "student").left is Left.UNPLACED


def test_marks_of_ours_in_the_text_hide_nothing_that_matters() -> None:
    """A text that holds the stand-in itself is still read as it is, or not at all."""
    trace = trace_of(6, (Span(S, "weft9response"), Span(T, " weft8thinking")), "weft8thinking")
    completion = trace.completion.to_dict()

    def render(message: Mapping[str, Any]) -> str:
        return f"<think>{message['reasoning_content']}</think>{message['content']}<end>"

    found = authors(trace, completion, render(completion), render)
    assert found is not None
    assert "".join(span.text for span in found if span.author is T) == " weft8thinking</think>"


def test_thinking_inline_is_found_behind_its_tag() -> None:
    """Where a template keeps no field, thinking stands in the content."""
    trace = trace_of(6, (Span(S, "so"), Span(T, " 42")), "42")
    completion = {"role": "assistant", "content": "<think>\nso 42\n</think>\n\n42"}
    found = authors(
        trace,
        completion,
        "user: ?\n<think>\nso 42\n</think>\n\n42<end>",
        lambda m: f"user: ?\n{m['content']}<end>",
    )
    assert found is not None
    assert [span for span in found if span.author is T] == [Span(T, " 42"), Span(T, "\n</think>\n\n")]
    assert authors(trace, {"content": "other"}, "other", lambda m: m["content"]) is None
