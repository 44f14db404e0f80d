"""The figures of a trained pair: right answers, cooperation, the distance between the styles.

Every figure comes with its n. Problems are drawn from a seed of their own; simple ones can still coincide
with problems seen in training, which is endless and random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch

from weft.micro.curriculum import Author
from weft.micro.measuring import (
    JointTrace,
    Writer,
    chat_prompt,
    complete,
    cooperate,
    final_answer,
    load_writer,
    mean_nll,
)
from weft.micro.oracle import split_words
from weft.micro.styles import write_trace
from weft.micro.tasks import DIFFICULTIES, TASKS, Problem, Task, make_problem
from weft.micro.world import (
    SPLITS,
    MicroPrompt,
    Split,
    draw_problem,
    is_correct,
    make_prompts,
)
from weft.synthesis.strategies import REFERENCE

TEMPERATURE = 0.7
MEASURING_SEED = 90_001
"""The seed of the measured problems and samples."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its count."""

    right: int
    n: int

    @property
    def share(self) -> float:
        return self.right / self.n

    def __str__(self) -> str:
        return f"{100 * self.share:.0f}%"

    def with_interval(self) -> str:
        """The share with its 95% Wilson interval and n."""
        z = 1.96
        middle = (self.right + z * z / 2) / (self.n + z * z)
        half = z * math.sqrt(self.right * (self.n - self.right) / self.n + z * z / 4) / (self.n + z * z)
        low, high = 100 * (middle - half), 100 * (middle + half)
        return f"{100 * self.share:.1f}% [{low:.1f}, {high:.1f}], n = {self.n}"


@dataclass(frozen=True, slots=True)
class Distances:
    """The student's mean negative log-likelihood of three kinds of traces on one split, in nats per token."""

    own: float
    teacher: float
    joint: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that the card reports."""

    grid: dict[tuple[Task, int, Author], Rate]  # (task, difficulty, author), greedy
    greedy: dict[tuple[Split, Author], Rate]
    sampled: dict[tuple[Split, Author], Rate]
    joint: dict[Split, Rate]
    teacher_share: dict[Split, float]  # of the thinking's tokens
    goes_on: dict[tuple[Split, str], Rate]  # "right" and "in style"
    with_reference: Rate
    distances: dict[Split, Distances]
    tokens: dict[Author, float]  # mean length of a sampled thinking trace


def measure_pair(folder: Path, *, scale: float = 1.0, device: str = "cpu") -> Figures:
    """Measures the pair under `folder`; `scale` multiplies every n."""
    writers: dict[Author, Writer] = {
        "student": load_writer(folder / "student", device),
        "teacher": load_writer(folder / "teacher", device),
    }
    student, teacher = writers["student"], writers["teacher"]
    torch.manual_seed(MEASURING_SEED)
    prompts = {split: list(make_prompts(round(192 * scale), MEASURING_SEED, split)) for split in SPLITS}
    sampled: dict[tuple[Split, Author], list[str]] = {}
    greedy: dict[tuple[Split, Author], Rate] = {}
    for split in SPLITS:
        for author, writer in writers.items():
            contexts = [chat_prompt(writer, one.prompt) for one in prompts[split]]
            greedy[split, author] = _rate(complete(writer, contexts), prompts[split])
            sampled[split, author] = complete(writer, contexts, TEMPERATURE)
    joint = {
        split: cooperate(
            student,
            teacher,
            [one.prompt for one in prompts[split]],
            temperature=TEMPERATURE,
            seed=MEASURING_SEED,
        )
        for split in SPLITS
    }
    return Figures(
        grid=_grid(writers, round(48 * scale)),
        greedy=greedy,
        sampled={(split, a): _rate(texts, prompts[split]) for (split, a), texts in sampled.items()},
        joint={split: _rate([one.text for one in joint[split]], prompts[split]) for split in SPLITS},
        teacher_share={split: _teacher_share(joint[split]) for split in SPLITS},
        goes_on=_goes_on(teacher, round(192 * scale)),
        with_reference=_with_reference(student, prompts["finetune"]),
        distances={
            split: _distances(
                student,
                prompts[split],
                sampled[split, "student"],
                sampled[split, "teacher"],
                [one.text for one in joint[split]],
            )
            for split in SPLITS
        },
        tokens={author: _mean_tokens(writers[author], sampled["finetune", author]) for author in writers},
    )


def _rate(completions: Sequence[str], prompts: Sequence[MicroPrompt]) -> Rate:
    right = sum(
        is_correct(final_answer(text), one.answer) for text, one in zip(completions, prompts, strict=True)
    )
    return Rate(right, len(prompts))


def _grid(writers: dict[Author, Writer], n: int) -> dict[tuple[Task, int, Author], Rate]:
    rng = Random(MEASURING_SEED)
    cells: dict[tuple[Task, int], list[Problem]] = {}
    for task in TASKS:
        low, high = DIFFICULTIES[task]
        for difficulty in range(low, high + 1):
            cells[task, difficulty] = [make_problem(task, difficulty, rng) for _ in range(n)]
    problems = [problem for cell in cells.values() for problem in cell]
    grid: dict[tuple[Task, int, Author], Rate] = {}
    for author, writer in writers.items():
        texts = iter(complete(writer, [chat_prompt(writer, problem.question) for problem in problems]))
        for (task, difficulty), cell in cells.items():
            pairs = zip(cell, islice(texts, len(cell)), strict=True)
            right = sum(is_correct(final_answer(text), problem.answer) for problem, text in pairs)
            grid[task, difficulty, author] = Rate(right, len(cell))
    return grid


def _teacher_share(traces: Sequence[JointTrace]) -> float:
    teacher = sum(one.teacher_tokens for one in traces)
    return teacher / (teacher + sum(one.student_tokens for one in traces))


def _goes_on(teacher: Writer, n: int) -> dict[tuple[Split, str], Rate]:
    """The teacher completes the second half of right traces in the student's style, sampling."""
    found: dict[tuple[Split, str], Rate] = {}
    for split in SPLITS:
        rng = Random(f"{MEASURING_SEED}/{split}")
        problems = [draw_problem(split, rng) for _ in range(n)]
        contexts = []
        for problem in problems:
            words = split_words(write_trace(problem, "student", rng).thinking)
            contexts.append(chat_prompt(teacher, problem.question) + "".join(words[: len(words) // 2]))
        texts = complete(teacher, contexts, TEMPERATURE)
        pairs = list(zip(texts, problems, strict=True))
        right = sum(is_correct(final_answer(text), problem.answer) for text, problem in pairs)
        in_style = sum(
            not any(mark in text for mark in ("operation", "=", "Hence", "Result")) for text in texts
        )
        found[split, "right"], found[split, "in style"] = Rate(right, n), Rate(in_style, n)
    return found


def _with_reference(student: Writer, prompts: Sequence[MicroPrompt]) -> Rate:
    """The student on fine-tuning questions with a right solution by the teacher in view, sampling."""
    rng = Random(f"weft-micro/finetune/{MEASURING_SEED}")
    questions = {one.prompt: one for one in prompts}
    contexts: list[str] = []
    kept: list[MicroPrompt] = []
    while len(kept) < len(prompts):
        problem = draw_problem("finetune", rng)
        if problem.question in questions:
            reference = write_trace(problem, "teacher", rng).text
            question = REFERENCE.format(question=problem.question, reference=reference)
            contexts.append(chat_prompt(student, question))
            kept.append(questions.pop(problem.question))
    return _rate(complete(student, contexts, TEMPERATURE), kept)


def _distances(
    student: Writer,
    prompts: Sequence[MicroPrompt],
    own: Sequence[str],
    teacher: Sequence[str],
    joint: Sequence[str],
) -> Distances:
    contexts = [chat_prompt(student, one.prompt) for one in prompts]

    def nll(texts: Sequence[str]) -> float:
        return mean_nll(student, contexts, [f"{text}<|im_end|>" for text in texts])

    return Distances(nll(own), nll(teacher), nll(joint))


def _mean_tokens(writer: Writer, texts: Sequence[str]) -> float:
    thinking = [text.partition("</think>")[0] for text in texts]
    return sum(len(ids) for ids in writer.tokenizer(thinking)["input_ids"]) / len(texts)
