"""The micro world as its users see it: prompts with checkable answers, and the check.

Pure Python: nothing here loads torch or transformers. Prompts come in three splits. `finetune` is the
student's weak skill at moderate difficulty, what training data are made for; `harder` the same skill with
longer chains and the larger modulus only; `retention` the skills that fine-tuning never shows and must not
destroy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Literal, get_args

from weft.micro.tasks import DIFFICULTIES, Problem, Task, make_problem

Split = Literal["finetune", "harder", "retention"]
SPLITS: tuple[Split, ...] = get_args(Split)

FINETUNE_DIFFICULTIES = (2, 4)
HARDER_DIFFICULTIES = (5, 7)
HARDER_MODULUS = 11
RETENTION_TASKS: tuple[Task, ...] = ("sums", "maximum", "reversal", "counting")


@dataclass(frozen=True, slots=True)
class MicroPrompt:
    """One question with its answer; `difficulty` counts the task's steps or numbers (see `tasks.py`)."""

    id: str
    prompt: str
    answer: str
    task: Task
    difficulty: int
    split: Split


def make_prompts(n: int, seed: int, split: Split | None = None) -> Iterator[MicroPrompt]:
    """The first `n` prompts of a seed, of one split or of all three in turn.

    Each split of a seed is one fixed stream without repeated questions: asking for more prompts, or for
    one split alone, never changes those already seen.
    """
    chosen = SPLITS if split is None else (split,)
    streams = [_stream(one, seed) for one in chosen]
    for index in range(n):
        yield next(streams[index % len(streams)])


def prompt_lines(n: int, seed: int, split: Split | None) -> Iterator[str]:
    """The same as lines of JSON, line feeds included, as every command reads them."""
    for prompt in make_prompts(n, seed, split):
        yield json.dumps(asdict(prompt), ensure_ascii=False) + "\n"


def is_correct(final_answer_text: str, answer: str) -> bool:
    """Whether the text states the answer: its integers, in order, are the answer's and no others.

    White space, punctuation and words do not matter; text up to a last `</think>` does not count.
    """
    final = final_answer_text.rpartition("</think>")[2]
    return _numerals(final) == _numerals(answer)


def _numerals(text: str) -> list[int]:
    return [int(numeral) for numeral in re.findall(r"-?[0-9]+", text)]


def _stream(split: Split, seed: int) -> Iterator[MicroPrompt]:
    rng = Random(f"weft-micro/{split}/{seed}")
    seen: set[str] = set()
    while True:
        problem = draw_problem(split, rng)
        if problem.question in seen:
            continue
        name = f"{split}-{seed}-{len(seen):06d}"
        seen.add(problem.question)
        yield MicroPrompt(name, problem.question, problem.answer, problem.task, problem.difficulty, split)


def draw_problem(split: Split, rng: Random) -> Problem:
    """One problem drawn from a split's distribution."""
    if split == "finetune":
        return make_problem("products", rng.randint(*FINETUNE_DIFFICULTIES), rng)
    if split == "harder":
        return make_problem("products", rng.randint(*HARDER_DIFFICULTIES), rng, modulus=HARDER_MODULUS)
    task = rng.choice(RETENTION_TASKS)
    return make_problem(task, rng.randint(*DIFFICULTIES[task]), rng)
