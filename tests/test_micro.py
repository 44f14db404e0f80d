"""The micro world: prompts, answers, styles, the oracle, the tokenizer and the shipped models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from weft.micro import is_correct, make_prompts, model_path
from weft.micro.curriculum import completion_text, opening_words
from weft.micro.oracle import is_style, split_words
from weft.micro.styles import ORDINALS, Style, write_exposed_trace, write_trace
from weft.micro.tasks import DIFFICULTIES, TASKS, Problem, make_problem
from weft.micro.world import SPLITS
from weft.synthesis.strategies import REFERENCE

pytestmark = pytest.mark.usefixtures("one_thread")

STYLES: tuple[Style, ...] = ("student", "teacher", "plain")


def some_problems(per_cell: int = 5) -> list[Problem]:
    rng = Random(7)
    return [
        make_problem(task, difficulty, rng)
        for task, (low, high) in DIFFICULTIES.items()
        for difficulty in range(low, high + 1)
        for _ in range(per_cell)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path("student"))


def test_a_seed_fixes_the_prompts_and_another_gives_others() -> None:
    assert list(make_prompts(60, 3)) == list(make_prompts(60, 3))
    assert list(make_prompts(60, 3)) != list(make_prompts(60, 4))


def test_asking_for_more_or_for_one_split_never_changes_a_prompt() -> None:
    many = list(make_prompts(90, 5))
    assert many[:30] == list(make_prompts(30, 5))
    for split in SPLITS:
        assert [one for one in many if one.split == split] == list(make_prompts(30, 5, split))


def test_ids_and_questions_are_unique_and_all_splits_and_tasks_appear() -> None:
    prompts = list(make_prompts(600, 1)) + list(make_prompts(600, 2))
    assert len({one.id for one in prompts}) == len(prompts)
    assert len({one.prompt for one in prompts[:600]}) == 600
    assert {one.split for one in prompts} == set(SPLITS)
    assert {one.task for one in prompts} == set(TASKS)


def test_fine_tuning_shows_one_skill_and_harder_has_longer_chains() -> None:
    prompts = list(make_prompts(300, 1))
    finetune = [one for one in prompts if one.split == "finetune"]
    harder = [one for one in prompts if one.split == "harder"]
    assert {one.task for one in finetune + harder} == {"products"}
    assert max(one.difficulty for one in finetune) < min(one.difficulty for one in harder)
    assert "products" not in {one.task for one in prompts if one.split == "retention"}


def test_every_gold_answer_is_accepted_in_every_style() -> None:
    rng = Random(1)
    for problem in some_problems():
        for style in STYLES:
            trace = write_trace(problem, style, rng)
            assert is_correct(trace.answer, problem.answer)
            assert is_correct(completion_text(trace), problem.answer)
            assert trace.thinking.split()[-2] == problem.answer.split()[-1]


@pytest.mark.parametrize(
    "text", ["", "the answer is 8 .", "7 or 8", "77", "-7", "7 7", "7</think>8", "7.5", "seven"]
)
def test_a_wrong_answer_is_refused(text: str) -> None:
    assert not is_correct(text, "7")


@pytest.mark.parametrize("text", ["7", "Result: 7", "  the answer is\n7.", "(7)!", "3 * 4 = 5</think>\n\n7"])
def test_white_space_punctuation_and_thinking_do_not_matter(text: str) -> None:
    assert is_correct(text, "7")


def test_a_list_has_to_be_right_in_order() -> None:
    assert is_correct("3, 1,2 .", "3 1 2")
    assert not is_correct("1 2 3", "3 1 2")
    assert not is_correct("3 1", "3 1 2")


def test_every_word_of_a_trace_is_style_or_capability_by_itself() -> None:
    rng = Random(2)
    for problem in some_problems():
        for style in STYLES:
            words = split_words(write_trace(problem, style, rng).thinking)
            for word in words:
                has_number_or_operator = any(c.isdigit() or c in "+-*=" for c in word)
                assert is_style(word) == (not has_number_or_operator and word.strip() not in RESULT_VERBS)
            capability = [word for word in words if not is_style(word)]
            numerals = [word.strip() for word in capability if word.strip().isdigit()]
            assert problem.answer.split() == numerals[-len(problem.answer.split()) :]


RESULT_VERBS = {"is", "gives", "makes", "vs", "equals"}


def test_exposure_is_the_share_of_foreign_sentences() -> None:
    rng = Random(6)
    problems = some_problems()
    traces = {rate: [write_exposed_trace(one, rate, rng) for one in problems] for rate in (0.0, 0.3, 1.0)}
    marks = ("operation", "obtains", "Hence", "follows", "Initial", "Solution")

    def foreign_sentences(rate: float) -> int:
        return sum(trace.thinking.count(mark) for trace in traces[rate] for mark in marks)

    assert foreign_sentences(0.0) == 0 < foreign_sentences(0.3) < foreign_sentences(1.0)
    for rate, written in traces.items():
        assert all(
            is_correct(trace.answer, one.answer) for trace, one in zip(written, problems, strict=True)
        ), rate


def test_the_students_traces_open_with_style_words() -> None:
    rng = Random(3)
    for problem in some_problems():
        opening = opening_words(write_trace(problem, "student", rng).thinking)
        assert opening and all(is_style(word) for word in split_words(opening))


@pytest.mark.parametrize(
    "word", [" okay", "hmm", ".", " ...", "\n", "", " 's", "self-evident", "</think>", "—", "“so”"]
)
def test_words_without_content_are_style(word: str) -> None:
    assert is_style(word)


@pytest.mark.parametrize("word", [" 7", "12", " =", "-", "+", " is", "Is", "is,", "x=3", "3rd", " **", "vs"])
def test_numbers_operators_and_results_are_capability(word: str) -> None:
    assert not is_style(word)


@given(st.text())
def test_words_joined_equal_the_text_and_any_word_gets_a_label(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == text
    assert all(isinstance(is_style(word), bool) for word in words)


@settings(deadline=None)
@given(st.text())
def test_the_tokenizer_gives_any_text_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_are_single_tokens_and_texts_cut_between_words_tokenise_like_their_parts(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert all(len(tokenizer.encode(f" {number}")) == 1 for number in range(21))
    rng = Random(4)
    for problem in some_problems(1):
        text = completion_text(write_trace(problem, rng.choice(STYLES), rng))
        pieces: Sequence[str] = split_words(text.partition("\n</think>")[0])
        joined = [token for piece in pieces for token in tokenizer.encode(piece)]
        whole = tokenizer.encode(text)
        assert whole[: len(joined)] == joined


def test_both_models_share_one_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    other = AutoTokenizer.from_pretrained(model_path("teacher"))
    assert other.get_vocab() == tokenizer.get_vocab()
    assert other.chat_template == tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert "<think>" not in tokenizer.all_special_tokens


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 3 + 4 modulo 7?"},
]
REPLY = {"role": "assistant", "reasoning_content": "okay so 0 .", "content": "it is 0 ."}


def test_training_text_starts_with_generation_text(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*MESSAGES, REPLY], tokenize=False)
    assert whole == f"{prompt}okay so 0 .\n</think>\n\nit is 0 .<|im_end|>\n"
    assert tokenizer.encode(whole)[: len(tokenizer.encode(prompt))] == tokenizer.encode(prompt)


def test_without_thinking_the_tags_are_empty(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = tokenizer.apply_chat_template(
        MESSAGES, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    plain = {"role": "assistant", "content": "it is 0 ."}
    whole = tokenizer.apply_chat_template([*MESSAGES, plain], tokenize=False)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert whole == f"{prompt}it is 0 .<|im_end|>\n"


def test_only_the_last_reply_keeps_its_reasoning(tokenizer: PreTrainedTokenizerBase) -> None:
    text = tokenizer.apply_chat_template([*MESSAGES, REPLY, MESSAGES[1], REPLY], tokenize=False)
    assert text.count("okay so 0 .") == 1
    assert text.rindex("<think>") > text.rindex("user")


def test_the_template_marks_the_assistants_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = tokenizer.apply_chat_template(
        [*MESSAGES, REPLY], return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [
        token for token, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark
    ]
    assert tokenizer.decode(marked) == "<think>\nokay so 0 .\n</think>\n\nit is 0 .<|im_end|>"


def test_a_reference_stands_between_question_and_request() -> None:
    text = REFERENCE.format(question="Q?", reference="T\n\nA")
    assert text == (
        "Q?\n\nA reference solution by another author:\nT\n\nA"
        "\n\nSolve the problem yourself, in your own words."
    )


def test_importing_the_world_loads_no_tensors() -> None:
    code = (
        "import sys, weft.micro, weft.micro.oracle; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_teacher_is_right_in_its_own_style() -> None:
    from weft.micro.measuring import chat_prompt, complete, final_answer, load_writer

    teacher = load_writer(model_path("teacher"))
    prompts = list(islice(make_prompts(20, 11), 20))
    texts = complete(teacher, [chat_prompt(teacher, one.prompt) for one in prompts])
    right = sum(is_correct(final_answer(text), one.answer) for text, one in zip(texts, prompts, strict=True))
    assert right >= 18
    assert all(text.startswith(("Initial value", ORDINALS[0])) for text in texts)


def test_the_oracle_cooperation_is_right_where_the_student_is_not() -> None:
    from weft.micro.measuring import cooperate, final_answer, load_writer

    student, teacher = (load_writer(model_path(name)) for name in ("student", "teacher"))
    prompts = list(make_prompts(8, 12, "finetune"))
    traces = cooperate(student, teacher, [one.prompt for one in prompts], temperature=0.0, seed=1)
    right = sum(
        is_correct(final_answer(trace.text), one.answer) for trace, one in zip(traces, prompts, strict=True)
    )
    assert right >= 7
    assert all(trace.teacher_tokens > 0 and trace.student_tokens > 0 for trace in traces)
