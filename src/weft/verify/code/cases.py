"""The tests that a prompt brings as its right answer, and what output passes them.

The answer is JSON, one of::

    {"cases": [{"stdin": "3\\n4\\n", "stdout": "7\\n"}, ...]}     the program reads and prints
    {"asserts": "assert add(3, 4) == 7\\n..."}                   Python, run after the program in its names
    {"asserts": ["assert add(3, 4) == 7", ...]}                 the same, one after the other

Output is compared line by line as bytes of UTF-8; white space at the end of a line and empty lines at the end
do not count. Numbers are text: ``7`` is not ``7.0``.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass


class BadTestsError(ValueError):
    """An answer that holds no tests; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: what goes in and what must come out."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A prompt's tests: either cases or asserts, at least one."""

    cases: tuple[Case, ...] = ()
    asserts: tuple[str, ...] = ()
    """Sources of Python."""


def read_tests(answer: str) -> Suite:
    """The tests of an answer.

    Raises:
        BadTestsError: it holds none, or not only tests.
    """
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise BadTestsError(f"the answer is not JSON: {error}") from error
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"cases", "asserts"}:
        raise BadTestsError('the answer is not an object with "cases" or with "asserts"')
    if "cases" in value:
        return Suite(cases=_cases(value["cases"]))
    return Suite(asserts=_asserts(value["asserts"]))


def _cases(value: object) -> tuple[Case, ...]:
    if not isinstance(value, list) or not value:
        raise BadTestsError('"cases" is not a list of at least one')
    cases = []
    for number, entry in enumerate(value, 1):
        texts = isinstance(entry, dict) and all(isinstance(text, str) for text in entry.values())
        if not texts or not {"stdout"} <= entry.keys() <= {"stdin", "stdout"}:
            raise BadTestsError(f'case {number} is not {{"stdin": text, "stdout": text}}')
        cases.append(Case(entry.get("stdin", ""), entry["stdout"]))
    return tuple(cases)


def _asserts(value: object) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise BadTestsError('"asserts" is neither a text nor a list of at least one')
    for number, entry in enumerate(entries, 1):
        try:
            tree = ast.parse(entry)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadTestsError(f"assert {number} is not Python: {error}") from error
        if not tree.body:
            raise BadTestsError(f"assert {number} says nothing")
    return tuple(entries)


def same_output(printed: bytes, wanted: str) -> bool:
    """Whether what a program printed is what a case wants."""
    return _lines(printed) == _lines(wanted.encode("utf-8", "replace"))


def _lines(text: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
