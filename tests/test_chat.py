"""Chat templates: prompts, where thinking opens and closes, training rows; on templates that TRL ships."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templates import chat_tokenizer, template_names, template_text
from weft.chat import ChatTemplate, JinjaRender, Thinking, shipped_template
from weft.errors import UserError
from weft.records import Message

ALL = template_names()
NO_TEXT = {  # content is a list of parts there; a plain string renders as nothing
    name + kind for name in ("idefics3", "smolvlm", "llava_next") for kind in ("", "_training")
}
NO_ROWS = {
    "gemma4_v2"
}  # drops thinking, and no shipped template has its prompt: "<|think|><turn|>" on one line
TEXT = [name for name in ALL if name not in NO_TEXT]
VISION = ("qwen3_vl", "qwen3_vl_training")
NO_THINKING = (
    "cohere",
    "gemma_",
    "gemma3",
    "lfm2_training",
    "lfm2_v2",
    "llama",
    "phi",
    "qwen2",
    "qwen3_instruct",
)
THINKING = [
    name for name in TEXT if not name.startswith(NO_THINKING) and name not in ("gemma", "lfm2", *VISION)
]
NO_SYSTEM = {"gemma", "gemma_training"}
DAY = datetime.date(2024, 2, 29)

USER = Message("user", "What is 6 * 7? <think> {{ 1 }}")
CONVERSATIONS = [
    (USER,),
    (Message("system", "Be brief."), USER),
    (Message("user", "Hi"), Message("assistant", "Hello!"), USER),
]


@cache
def chat(name: str) -> ChatTemplate:
    return ChatTemplate.from_tokenizer(chat_tokenizer(name), where=name)


@cache
def tokenizer(name: str) -> Any:
    return chat_tokenizer(name)


def of(text: str, **options: Any) -> ChatTemplate:
    return ChatTemplate(JinjaRender(text, {"bos_token": "<bos>", "eos_token": "<eos>"}), **options)


def trained_text(name: str, messages: tuple[Message, ...], completion: Message, template: str | None) -> str:
    """The row as Transformers renders it for a trainer."""
    rendered = tokenizer(name).apply_chat_template(
        [message.to_dict() for message in (*messages, completion)],
        tokenize=False,
        chat_template=shipped_template(template) if template else None,
        **chat(name).arguments,
    )
    return str(rendered)


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["user", "system", "turns"])
def test_prompts_are_those_that_transformers_renders(name: str, messages: tuple[Message, ...]) -> None:
    template = chat(name)
    messages = template.messages(messages)
    theirs = tokenizer(name).apply_chat_template(
        [message.to_dict() for message in messages],
        tokenize=False,
        add_generation_prompt=True,
        **template.arguments,
    )
    opening = template.thinking.opening if template.thinking else ""
    assert template.prompt(messages) == theirs + opening
    for message in messages:
        assert message.content in template.prompt(messages)
        assert message.content in template.unthinking_prompt(messages)


@pytest.mark.parametrize("name", [name for name in TEXT if name not in NO_ROWS])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["user", "system", "turns"])
def test_rows_hold_prompt_thinking_closing_response_end(name: str, messages: tuple[Message, ...]) -> None:
    template = chat(name)
    messages = template.messages(messages)
    thinking = "6 * 7 is 42.\n\nWait, {{ 6 * 7 }} {% raw %} weft3thought" if template.thinking else ""
    response = "42\n\nweft4response"
    row = trained_text(name, messages, *template.completion(thinking, response))
    start = template.prompt(messages) + thinking + (template.thinking.closing if template.thinking else "")
    assert row.startswith(start + response)
    assert row.removeprefix(start + response).strip().startswith(template.end)


@pytest.mark.parametrize("name", [name for name in THINKING if name not in NO_ROWS])
@settings(deadline=None, max_examples=8)
@given(
    thinking=st.text("ab {}%#<>|/\n", min_size=1).map(str.strip).filter(bool),
    response=st.text("ab {}%#<>|/\n", min_size=1).map(str.strip).filter(bool),
)
def test_rows_keep_any_thinking_and_response(name: str, thinking: str, response: str) -> None:
    template = chat(name)
    assert template.thinking
    row = trained_text(name, (USER,), *template.completion(thinking, response))
    assert row.startswith(template.prompt([USER]) + thinking + template.thinking.closing + response)


@pytest.mark.parametrize("name", THINKING)
def test_closing_starts_with_its_marker_and_no_tag_is_forgotten(name: str) -> None:
    template = chat(name)
    assert template.thinking
    assert template.thinking.closing.strip().startswith(template.thinking.marker)
    tags = template.tag_strings()
    assert template.thinking.marker in tags
    assert {template.end} - {""} <= tags
    assert all(tag == tag.strip() and tag for tag in tags)
    ending = template.prompt([USER]).rstrip()
    assert any(ending.endswith(tag) for tag in tags) or ending.endswith("thought")


QWEN3 = Thinking("<think>\n", "\n</think>\n\n", "</think>", "reasoning_content")
OPENED = Thinking("", "\n</think>\n\n", "</think>", "reasoning_content")
DROPPED = Thinking("", "\n</think>\n\n", "</think>", None)
ANSWER = "<|end|><|start|>assistant<|channel|>final<|message|>"
HARMONY = Thinking("<|channel|>analysis<|message|>", ANSWER, "<|end|>", "thinking")
EXPECTED: dict[str, tuple[Thinking | None, str]] = {
    "qwen3": (QWEN3, "<|im_end|>"),
    "qwen3_training": (QWEN3, "<|im_end|>"),
    "qwen3_5_think": (OPENED, "<|im_end|>"),
    "qwen3_5_nothink": (OPENED, "<|im_end|>"),
    "qwen3_6": (OPENED, "<|im_end|>"),
    "qwen3_8": (OPENED, "<|im_end|>"),
    "qwen3_instruct_2507": (None, "<|im_end|>"),
    "deepseek_r1_distill": (DROPPED, "<｜end▁of▁sentence｜>"),
    "deepseekv3": (DROPPED, "<｜end▁of▁sentence｜>"),
    "gptoss": (HARMONY, "<|return|>"),
    "gptoss_training": (HARMONY, "<|return|>"),
    "llama3": (None, "<|eot_id|>"),
    "llama3_1": (None, "<|eot_id|>"),
    "llama3_2": (None, "<|eot_id|>"),
    "gemma": (None, "<end_of_turn>"),
    "gemma3": (None, "<end_of_turn>"),
    "gemma4": (Thinking("<|channel>thought\n", "\n<channel|>", "<channel|>", None), "<turn|>"),
    "gemma4_v5": (Thinking("<|channel>thought\n", "\n<channel|>", "<channel|>", "reasoning"), "<turn|>"),
    "glm4moe": (Thinking("\n<think>", "</think>\n", "</think>", "reasoning_content"), ""),
    "nemotron_3_nano": (Thinking("", "\n</think>\n", "</think>", "reasoning_content"), "<|im_end|>"),
    "nemotron_3_ultra": (Thinking("", "</think>", "</think>", "reasoning_content"), "<|im_end|>"),
    "muse_glimmer": (
        Thinking(
            " to=self<|message|>",
            "<|eom|><|start|>assistant to=user<|message|>",
            "<|eom|>",
            "reasoning_content",
        ),
        "<|eot|>",
    ),
    "phi3": (None, "<|end|>"),
    "lfm2": (None, "<|im_end|>"),
    "lfm2_2_5": (Thinking("<think>", "</think>", "</think>", "thinking"), "<|im_end|>"),
    "cohere2": (None, "<|END_RESPONSE|>"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_thinking_and_end_are_read_from_the_template(name: str) -> None:
    assert (chat(name).thinking, chat(name).end) == EXPECTED[name]


UNTHINKING = {
    "qwen3": "assistant\n<think>\n\n</think>\n\n",
    "qwen3_5_think": "assistant\n<think>\n\n</think>\n\n",
    "deepseek_r1_distill": "<｜Assistant｜><think>\n\n</think>\n\n",
    "gptoss": "<|start|>assistant<|channel|>final<|message|>",
    "glm4moe": "/nothink<|assistant|>\n<think></think>\n",
    "nemotron_3_nano": "assistant\n<think></think>",
    "gemma4": "<|turn>model\n",
    "lfm2_2_5": "assistant\n<think></think>",
    "muse_glimmer": "<|start|>assistant to=user<|message|>",
    "llama3": "assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("name", UNTHINKING)
def test_unthinking_prompts_end_where_the_response_starts(name: str) -> None:
    assert chat(name).unthinking_prompt([USER]).endswith(UNTHINKING[name])


@pytest.mark.parametrize("name", [name for name in THINKING if name not in NO_ROWS])
def test_rows_without_thinking_continue_the_unthinking_prompt(name: str) -> None:
    prompt = chat(name).unthinking_prompt([USER])
    if name.startswith("lfm2"):  # rows leave the tags out, but at this prompt the model may open them itself
        prompt = prompt.removesuffix("<think></think>")
    assert prompt[-15:] + "Forty-two" in trained_text(name, (USER,), *chat(name).completion("", "Forty-two"))


def test_without_thinking_both_prompts_are_the_same() -> None:
    assert [name for name in TEXT if chat(name).thinking] == THINKING
    for name in sorted(set(TEXT) - set(THINKING)):
        assert chat(name).prompt([USER]) == chat(name).unthinking_prompt([USER])
        with pytest.raises(ValueError, match="knows none"):
            chat(name).completion("thinking", "response")


def test_rows_that_the_own_template_would_empty_name_one_that_keeps_them() -> None:
    message, template = chat("deepseek_r1_distill").completion("T", "R")
    assert (message.content, message.thinking) == ("<think>\nT\n</think>\n\nR", None)
    assert template == "deepseek_r1_distill_training.jinja"
    assert "T" not in trained_text("deepseek_r1_distill", (), message, None).split("Assistant")[1]
    assert chat("deepseekv3").completion("T", "R")[1] == "deepseek_r1_distill_training.jinja"
    assert chat("deepseek_r1_distill_training").completion("T", "R")[1] is None
    message, template = chat("qwen3").completion("T", "R")
    assert message == Message("assistant", "R", "T", "reasoning_content")
    assert template is None


@pytest.mark.parametrize("name", sorted(NO_ROWS))
def test_a_template_that_nothing_can_train_says_so(name: str) -> None:
    with pytest.raises(UserError, match="drops thinking"):
        chat(name).completion("T", "R")


@pytest.mark.parametrize("name", sorted(NO_TEXT))
def test_templates_without_text_messages_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: .*drops messages"):
        chat(name)


def test_shipped_templates_are_found_by_name() -> None:
    assert shipped_template("qwen3.jinja") == template_text("qwen3")
    with pytest.raises(UserError, match="not found"):
        shipped_template("no_such.jinja")
    with pytest.raises(UserError, match="was not found"):
        shipped_template("../__init__.py")


def test_template_arguments_reach_every_rendering() -> None:
    effort = ChatTemplate.from_tokenizer(tokenizer("gptoss"), arguments={"reasoning_effort": "high"})
    assert "Reasoning: high" in effort.prompt([USER])
    assert "Reasoning: high" in effort.unthinking_prompt([USER])
    silent = ChatTemplate.from_tokenizer(tokenizer("qwen3"), arguments={"enable_thinking": False})
    assert silent.thinking is None
    assert silent.prompt([USER]) == chat("qwen3").unthinking_prompt([USER])
    for ignored in (True, False):
        deaf = ChatTemplate.from_tokenizer(
            tokenizer("deepseek_r1_distill"), arguments={"enable_thinking": ignored}
        )
        assert deaf.thinking == DROPPED
        assert deaf.unthinking_prompt([USER]) == chat("deepseek_r1_distill").unthinking_prompt([USER])
    assert chat("qwen3_5_nothink").arguments == {"enable_thinking": True}
    assert chat("llama3").arguments == {}


@pytest.mark.parametrize(
    ("name", "day"),
    [("gptoss", "2024-02-29"), ("llama3_1", "29 Feb 2024"), ("llama3_2", "29 Feb 2024"), ("qwen3", None)],
)
def test_the_date_is_the_one_given(name: str, day: str | None) -> None:
    dated = ChatTemplate.from_tokenizer(tokenizer(name), date=DAY)
    assert (day or "") in dated.prompt([USER])
    assert str(datetime.date.today().year) not in dated.prompt([USER])
    assert ("date_string" in dated.arguments) == name.startswith("llama")


def test_a_system_message_goes_to_the_user_where_there_is_no_such_role() -> None:
    messages = [Message("system", "Be brief."), Message("user", "Why?")]
    assert chat("gemma").messages(messages) == (Message("user", "Be brief.\n\nWhy?"),)
    assert "user\nBe brief.\n\nWhy?<end_of_turn>" in chat("gemma").prompt(messages)
    assert chat("gemma3").messages(messages) == tuple(messages)
    for name in TEXT:
        assert (chat(name).messages(messages) != tuple(messages)) == (name in NO_SYSTEM)
    with pytest.raises(UserError, match=r"gemma: .*System role not supported"):
        chat("gemma").prompt(messages[:1])


def test_what_a_template_raises_is_told_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"gemma: .*must alternate") as caught:
        chat("gemma").prompt([USER, USER])
    assert caught.value.remedy
    with pytest.raises(UserError, match="no messages"):
        chat("qwen3").prompt([])
    with pytest.raises(UserError, match="undefined"):
        of("{{ messages[0].content + nothing.at_all }}")


def test_earlier_thinking_stands_under_the_key_that_the_template_reads() -> None:
    text = (
        "{% for m in messages %}[{{ m.role }}]{{ '<t>' + m.thinking + '</t>' if m.thinking }}{{ m.content }}"
    )
    template = of(text + "<end>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}")
    assert template.thinking == Thinking("<t>", "</t>", "</t>", "thinking")
    earlier = Message("assistant", "Hello!", "greet", "reasoning")
    assert "[assistant]<t>greet</t>Hello!<end>" in template.prompt([USER, earlier, USER])


def test_tags_of_ones_own_take_the_response_place() -> None:
    tags = ("<reason>", "</reason>")
    for name in ("llama3", "qwen3", "qwen3_5_think", "gptoss", "glm4moe", "gemma4"):
        template = ChatTemplate.from_tokenizer(tokenizer(name), tags=tags)
        assert template.thinking
        assert template.thinking.field is None
        assert (template.thinking.closing, template.thinking.marker) == ("\n</reason>\n\n", "</reason>")
        assert template.prompt([USER]) == chat(name).unthinking_prompt([USER]) + "<reason>\n"
        assert template.unthinking_prompt([USER]).endswith("<reason>\n\n</reason>\n\n")
        assert set(tags) <= template.tag_strings()
        message, trained_with = template.completion("T", "R")
        assert trained_with is None
        row = tokenizer(name).apply_chat_template(
            [USER.to_dict(), message.to_dict()], tokenize=False, **template.arguments
        )
        assert row.startswith(template.prompt([USER]) + "T\n</reason>\n\nR")
    same = ChatTemplate.from_tokenizer(tokenizer("qwen3"), tags=("<think>", "</think>"))
    assert same.thinking == QWEN3
    spaced = ChatTemplate.from_tokenizer(tokenizer("llama3"), tags=("[R] ", " [/R] "))
    assert spaced.thinking == Thinking("[R] ", " [/R] ", "[/R]", None)
    for wrong in (("<a>", "<a>"), ("", "<a>"), ("<a>", " ")):
        with pytest.raises(UserError, match="two different tags"):
            ChatTemplate.from_tokenizer(tokenizer("llama3"), tags=wrong)


def test_notations_of_templates_that_never_write_thinking() -> None:
    head = "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}<end>{% endfor %}"
    empty = of(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}"
        "[assistant]{{ '<think>\n\n</think>\n' if enable_thinking is false }}{% endif %}"
    )
    assert empty.thinking == Thinking("<think>\n", "\n</think>\n", "</think>", None)
    assert empty.completion("T", "R") == (Message("assistant", "<think>\nT\n</think>\nR"), None)
    named = of(head + "{% if add_generation_prompt %}[assistant]{{ '<think>' if thinking }}{% endif %}")
    assert named.thinking == Thinking("", "</think>", "</think>", None)
    assert named.arguments == {"thinking": True}
    assert of(head + "{% if add_generation_prompt %}[assistant]{% endif %}").thinking == Thinking(
        "<think>\n", "\n</think>\n\n", "</think>", None
    )
    unaware = of(
        "{{ 'Think!' if thinking }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert (unaware.thinking, unaware.arguments, unaware.end) == (None, {}, "")


def test_templates_are_chosen_by_name_or_given_as_text() -> None:
    several = chat_tokenizer("llama3")
    several.chat_template = {"default": template_text("llama3"), "other": template_text("qwen3")}
    assert ChatTemplate.from_tokenizer(several).thinking is None
    assert ChatTemplate.from_tokenizer(several, template="other").thinking == QWEN3
    assert ChatTemplate.from_tokenizer(several, template=template_text("gptoss")).thinking == HARMONY
    several.chat_template = {"one": template_text("llama3"), "two": template_text("qwen3")}
    with pytest.raises(UserError, match="one, two"):
        ChatTemplate.from_tokenizer(several)
    with pytest.raises(UserError, match=r"no chat template named 'three'\n.*: one, two"):
        ChatTemplate.from_tokenizer(several, template="three")
    several.chat_template = {"one": template_text("qwen3")}
    assert ChatTemplate.from_tokenizer(several).thinking == QWEN3
    several.chat_template = None
    with pytest.raises(UserError, match=r"models/base: no chat template") as caught:
        ChatTemplate.from_tokenizer(several, where="models/base")
    assert "--student-chat-template" in caught.value.remedy
    with pytest.raises(UserError, match="line 1"):
        ChatTemplate.from_tokenizer(several, template="{% if %}")
