"""reasoning-gym's scorers as :mod:`weft.verify.task` calls them, in worker processes alone.

Some scorers evaluate what they are given as Python: ``eval``, or SymPy's parser, which is one. What they are
given is a model's text, so in a worker

- ``eval`` in reasoning-gym's modules reads literals and whole-number arithmetic, ``exec`` refuses, and
  SymPy's parser takes numbers, one-letter names and the usual functions, and no others;
- an audit hook, which nothing can take away again, refuses other processes, sockets, foreign libraries, and
  files but for reading those of Python and its packages.

It does not know verdicts.
"""

from __future__ import annotations

import ast
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

Score = Callable[..., object]

_MOST_EXPRESSION = 5_000
"""Characters of the longest expression that is evaluated."""
_EXPRESSION = re.compile(r"[\sA-Za-z0-9+\-*/^().,!=]*")
_ATTRIBUTE = re.compile(r"\.\s*(?![eE][+-]?\d)[A-Za-z]|(?<!\d)\.\s*[A-Za-z]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FUNCTIONS = frozenset(
    (
        *("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh", "asin", "acos", "atan"),
        *("arcsin", "arccos", "arctan", "log", "ln", "exp", "sqrt", "pi", "Abs"),
    )
)
_ARITHMETIC = re.compile(r"[\s0-9a-fA-FxX+\-*/%()<>&|^~]*")
_REFUSED = (
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.startfile",
        "os.kill",
        "os.putenv",
    ),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.chown", "os.putenv", "shutil.", "subprocess.", "socket.", "ctypes.", "pty.", "mmap."),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Metadata whose lists are compared with tuples; JSON has lists alone.
_TUPLES = ("arc_agi", "rearc")


def load() -> None:
    """Load all scorers, and wall them in. For a worker: it cannot be undone."""
    import sympy  # type: ignore[import-untyped]
    from sympy.parsing import sympy_parser  # type: ignore[import-untyped]

    guarded = _guarded(sympy_parser.parse_expr)
    sympy.parse_expr = sympy_parser.parse_expr = guarded
    import reasoning_gym

    del reasoning_gym
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "reasoning_gym":
            vars(module).update(eval=evaluated, exec=_refuse)
    # What the first call would import or open is imported and opened now.
    scored("simple_integration", {"answer": "x", "metadata": {"variable": "x", "integrand": "1"}}, "x")
    sys.addaudithook(audit)


def scored(dataset: str, entry: Mapping[str, Any], answer: str) -> list[Any]:
    """The score of an answer: ``["score", 1.0]``; or why there is none: ``["unknown", …]``, if there is no
    such data set, ``["entry", …]``, if its scorer fails at the right answer, too, else ``["answer", …]``."""
    scorer = _scorer(dataset)
    if scorer is None:
        return ["unknown", f"reasoning-gym has no data set {dataset!r}"]
    if dataset in _TUPLES:
        entry = {**entry, "metadata": _with_tuples(entry.get("metadata"))}
    try:
        return ["score", _number(scorer(answer=answer, entry=entry))]
    except MemoryError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:200]
    try:
        _number(scorer(answer=entry.get("answer"), entry=entry))
    except MemoryError:
        raise
    except Exception:
        return ["entry", said]
    return ["answer", said]


@lru_cache(maxsize=32)
def _scorer(dataset: str) -> Score | None:
    """The scorer of a data set in its default settings; rows bring what their scores depend on."""
    import reasoning_gym

    try:
        scorer: Score = reasoning_gym.get_score_answer_fn(dataset)
    except (ValueError, AssertionError, TypeError):  # there is none, or it cannot be made by its name alone
        return None
    return scorer


def _number(score: object) -> float:
    number = float(score)  # type: ignore[arg-type]  # numpy's numbers, too
    if not math.isfinite(number):
        raise ValueError(f"a score of {number}")
    return number


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def evaluated(text: str, *_: object) -> Any:
    """What ``eval`` gives for literals and whole-number arithmetic.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        if not isinstance(text, str) or len(text) > _MOST_EXPRESSION or not _ARITHMETIC.fullmatch(text):
            raise ValueError("neither a literal nor arithmetic") from None
    return eval(text, {"__builtins__": {}})


def check_expression(text: object) -> None:
    """Whether SymPy's parser may see a text.

    Raises:
        ValueError: it may not.
    """
    if not isinstance(text, str) or len(text) > _MOST_EXPRESSION or not _EXPRESSION.fullmatch(text):
        raise ValueError("not an expression of numbers, names and operators")
    if _ATTRIBUTE.search(text):
        raise ValueError("an attribute in an expression")
    for name in _NAME.findall(text):
        # `2e10` and `x2`: digits may stand in a name; what SymPy knows by longer names may run code.
        if len(name.rstrip("0123456789")) > 1 and name not in _FUNCTIONS:
            raise ValueError(f"the name {name!r} in an expression")


def _guarded(parse: Score) -> Score:
    def parse_expr(text: object, *arguments: Any, **named: Any) -> object:
        check_expression(text)
        return parse(text, *arguments, **named)

    return parse_expr


def _refuse(*_: object) -> None:
    raise PermissionError("code is not run here")


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: refuse what no scorer needs.

    Raises:
        PermissionError: it is refused.
    """
    if event.startswith(_REFUSED):
        raise PermissionError(f"{event} is not allowed here")
    if event == "open":
        path, mode, flags = arguments
        writes = (flags or 0) & _WRITING or any(letter in (mode or "r") for letter in "wax+")
        if writes or not _is_pythons(path):
            raise PermissionError("this file may not be opened here")


def _is_pythons(path: object) -> bool:
    """Whether a file belongs to Python or to a package."""
    if not isinstance(path, str | bytes):
        return False  # an open file's number
    whole = Path(os.fsdecode(path)).resolve()
    return any(whole.is_relative_to(home) for home in _homes())


@lru_cache(maxsize=1)
def _homes() -> tuple[Path, ...]:
    return tuple({Path(home).resolve() for home in (sys.prefix, sys.base_prefix, *filter(None, sys.path))})
