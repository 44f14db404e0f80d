"""The problems of the micro world: five skills, each with several difficulties.

A `Problem` holds the question and the *facts* of its solution in order, free of any style: what is worked
out (`left`) and what it comes to (`right`). `styles.py` turns facts into text. Every random draw comes from
the generator that the caller hands in, so a seed fixes a problem wholly.

| task | what is asked | difficulty |
|---|---|---|
| `sums` | a chain of + and - modulo 7 or 11 | operations, 2-7 |
| `products` | the same with at least one * | operations, 2-7 |
| `maximum` | the largest of some numbers, as a running maximum | numbers, 3-8 |
| `reversal` | a list of distinct numbers from back to front | numbers, 3-7 |
| `counting` | how often a number occurs in a list, as a running count | numbers, 3-8 |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Task = Literal["sums", "products", "maximum", "reversal", "counting"]
TASKS: tuple[Task, ...] = get_args(Task)

MODULI = (7, 11)
LARGEST_NUMBER = 20

DIFFICULTIES: dict[Task, tuple[int, int]] = {
    "sums": (2, 7),
    "products": (2, 7),
    "maximum": (3, 8),
    "reversal": (3, 7),
    "counting": (3, 8),
}
"""The easiest and the hardest difficulty of each task, both included."""

Times = Callable[[int, int, int], int]
"""How someone multiplies: (a, b, modulus) -> what they believe a * b modulo modulus to be."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One step of a solution: `left` comes to `right`; a `right` of None states `left` alone."""

    left: str
    right: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its solution as facts; `start` is the value known before the first of them."""

    task: Task
    difficulty: int
    question: str
    start: str | None
    facts: tuple[Fact, ...]
    answer: str


def exact_times(a: int, b: int, modulus: int) -> int:
    """The true product."""
    return a * b % modulus


def guessed_times(rng: Random) -> Times:
    """How the student multiplies: it can double and knows 0 and 1; anything else is a guess."""

    def times(a: int, b: int, modulus: int) -> int:
        return a * b % modulus if a < 2 or b == 2 else rng.randrange(modulus)

    return times


def make_problem(
    task: Task, difficulty: int, rng: Random, *, times: Times = exact_times, modulus: int | None = None
) -> Problem:
    """One problem of the task; `times` decides the products in its facts and so its answer."""
    low, high = DIFFICULTIES[task]
    if not low <= difficulty <= high:
        raise ValueError(f"difficulty of {task} is {low} to {high}, not {difficulty}")
    if task in ("sums", "products"):
        return _chain(task, difficulty, rng, times, modulus or rng.choice(MODULI))
    if task == "maximum":
        return _maximum(difficulty, rng)
    if task == "reversal":
        return _reversal(difficulty, rng)
    return _counting(difficulty, rng)


CHAIN_QUESTIONS = (
    "Work out {} modulo {}, one operation at a time from left to right.",
    "Compute {} modulo {} step by step, strictly from left to right.",
    "What does {} come to modulo {}? Go from left to right.",
    "Starting at the left, evaluate {} modulo {} and show each step.",
)
MAXIMUM_QUESTIONS = (
    "Find the largest of these numbers: {}.",
    "Which number of {} has the greatest value?",
    "Go through {} and name the maximum.",
)
REVERSAL_QUESTIONS = (
    "Write this list in reverse order: {}.",
    "Turn the list {} around, last number first.",
    "Give the numbers {} from back to front.",
)
COUNTING_QUESTIONS = (
    "How many times does {} occur in {}?",
    "Count the number {} in this list: {}.",
    "How often do you see {} among {}?",
)


def _chain(task: Task, length: int, rng: Random, times: Times, modulus: int) -> Problem:
    if task == "sums":
        operators = rng.choices("+-", k=length)
    else:
        operators = rng.choices("+-*", k=length)
        operators[rng.randrange(length)] = "*"
    value = rng.randrange(2, modulus)
    start = value
    expression = [str(start)]
    facts = []
    for operator in operators:
        # A product with 0 or 1 would make the rest of the chain trivial.
        operand = rng.randrange(2 if operator == "*" else 1, modulus)
        expression += [operator, str(operand)]
        left = f"{value} {operator} {operand}"
        if operator == "+":
            value = (value + operand) % modulus
        elif operator == "-":
            value = (value - operand) % modulus
        else:
            value = times(value, operand, modulus)
        facts.append(Fact(left, str(value)))
    question = rng.choice(CHAIN_QUESTIONS).format(" ".join(expression), modulus)
    return Problem(task, length, question, str(start), tuple(facts), str(value))


def _maximum(length: int, rng: Random) -> Problem:
    numbers = [rng.randint(0, LARGEST_NUMBER) for _ in range(length)]
    best = numbers[0]
    facts = []
    for number in numbers[1:]:
        left = f"{best} vs {number}"
        best = max(best, number)
        facts.append(Fact(left, str(best)))
    question = rng.choice(MAXIMUM_QUESTIONS).format(_listed(numbers))
    return Problem("maximum", length, question, str(numbers[0]), tuple(facts), str(best))


def _reversal(length: int, rng: Random) -> Problem:
    numbers = rng.sample(range(LARGEST_NUMBER + 1), length)
    facts = tuple(Fact(str(number)) for number in reversed(numbers))
    question = rng.choice(REVERSAL_QUESTIONS).format(_listed(numbers))
    return Problem("reversal", length, question, None, facts, " ".join(map(str, reversed(numbers))))


def _counting(length: int, rng: Random) -> Problem:
    wanted, *others = rng.sample(range(LARGEST_NUMBER + 1), 4)
    numbers = [wanted if rng.random() < 0.45 else rng.choice(others) for _ in range(length)]
    count = 0
    facts = []
    for number in numbers:
        # The number, what it is compared with and the count so far stand together: two layers can follow.
        left = f"{number} vs {wanted} + {count}"
        count += number == wanted
        facts.append(Fact(left, str(count)))
    question = rng.choice(COUNTING_QUESTIONS).format(wanted, _listed(numbers))
    return Problem("counting", length, question, None, tuple(facts), str(count))


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
