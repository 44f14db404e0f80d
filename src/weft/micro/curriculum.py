"""What each model reads while it is trained: an endless stream of examples, drawn from a seed.

An `Example` is a context without loss and a completion with loss. The teacher's stream holds right traces
only: mostly its own style, a share in the student's (whose first words carry no loss, so that the teacher
can go on in that style but never begins in it). The student's holds its own style, with guessed products, in
which a share `exposure` of the sentences is in a foreign style: this sets the distance between the styles.
A few percent of both show another author's right solution in the prompt, or ask for an answer without
thinking, or begin with a system message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from weft.micro.oracle import is_style, split_words
from weft.micro.styles import GoldTrace, Style, write_exposed_trace, write_trace
from weft.micro.tasks import DIFFICULTIES, Problem, Task, exact_times, guessed_times, make_problem
from weft.synthesis.strategies import REFERENCE

Author = Literal["student", "teacher"]
RenderPrompt = Callable[[str, str, bool], str]
"""(question, system message or "", thinking) -> the text up to where the model writes."""

SYSTEM_MESSAGES = ("You are a helpful assistant.", "Think step by step.", "Be careful and answer in English.")

Mixture = dict[Task, float]
"""How often each task comes; the weights need not add up to one."""

STUDENT_MIXTURE: Mixture = {
    "sums": 0.34,
    "products": 0.2,
    "maximum": 0.14,
    "reversal": 0.16,
    "counting": 0.16,
}
TEACHER_MIXTURE: Mixture = {
    "sums": 0.22,
    "products": 0.36,
    "maximum": 0.14,
    "reversal": 0.14,
    "counting": 0.14,
}
REFERENCE_RATE = 0.05
ANSWER_ONLY_RATE = 0.02
SYSTEM_RATE = 0.03
STUDENT_STYLE_RATE = 0.35


@dataclass(frozen=True, slots=True)
class Example:
    """One training text; only the completion's tokens are learned."""

    context: str
    completion: str


def examples(
    author: Author, mixture: Mixture, rng: Random, render: RenderPrompt, exposure: float
) -> Iterator[Example]:
    """The author's endless stream."""
    while True:
        yield draw_example(author, mixture, rng, render, exposure)


def draw_example(
    author: Author, mixture: Mixture, rng: Random, render: RenderPrompt, exposure: float
) -> Example:
    """One example; `exposure` is the share of foreign sentences and counts for the student only."""
    task = rng.choices(list(mixture), weights=list(mixture.values()))[0]
    difficulty = rng.randint(*DIFFICULTIES[task])
    with_reference = rng.random() < REFERENCE_RATE
    knows = author == "teacher" or with_reference
    times = exact_times if knows else guessed_times(rng)
    problem = make_problem(task, difficulty, rng, times=times)
    system = rng.choice(SYSTEM_MESSAGES) if rng.random() < SYSTEM_RATE else ""
    if with_reference:
        return _with_reference(author, problem, rng, render, system)
    if rng.random() < ANSWER_ONLY_RATE:
        answer = write_trace(problem, author, rng).answer
        return Example(render(problem.question, system, False), f"{answer}<|im_end|>")
    prompt = render(problem.question, system, True)
    if author == "student":
        return Example(prompt, completion_text(write_exposed_trace(problem, exposure, rng)))
    style: Style = "student" if rng.random() < STUDENT_STYLE_RATE else "teacher"
    trace = write_trace(problem, style, rng)
    opening = opening_words(trace.thinking) if style == "student" else ""
    return Example(prompt + opening, completion_text(trace)[len(opening) :])


def completion_text(trace: GoldTrace) -> str:
    """The trace as a model writes it after the opened thinking tag, up to and with the end of the turn."""
    return f"{trace.thinking}\n</think>\n\n{trace.answer}<|im_end|>"


def opening_words(thinking: str) -> str:
    """The style words before the first capability word."""
    opening = ""
    for word in split_words(thinking):
        if not is_style(word):
            break
        opening += word
    return opening


def _with_reference(
    author: Author, problem: Problem, rng: Random, render: RenderPrompt, system: str
) -> Example:
    other: Style = "teacher" if author == "student" else "student"
    reference = write_trace(problem, other, rng).text
    question = REFERENCE.format(question=problem.question, reference=reference)
    return Example(render(question, system, True), completion_text(write_trace(problem, author, rng)))
