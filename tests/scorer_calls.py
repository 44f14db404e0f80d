"""What the scorers' worker can do, tried in one: each wall by itself, past the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def refused(what: str, path: str) -> str:
    """The name of the error with which it fails; empty if it works."""
    tries: dict[str, Callable[[], object]] = {
        "write": lambda: Path(path).write_text("x", encoding="utf-8"),
        "os.open": lambda: os.open(path, os.O_CREAT | os.O_RDWR),
        "read": lambda: Path("/etc/hostname").read_bytes(),
        "remove": lambda: Path(path).unlink(),
        "shell": lambda: os.system(f"touch {path}"),
        "process": lambda: subprocess.run(["touch", path], check=True),
        "network": lambda: socket.create_connection(("127.0.0.1", 9)),
        "parser": _parse,
        "top parser": _parse_from_the_top,
        "evaluation": lambda: _evaluate("[__import__('sys')]"),
        "execution": _execute,
        "python's own": lambda: Path(os.__file__).read_bytes(),
        "arithmetic": lambda: _evaluate("[1, 2]"),
    }
    try:
        tries[what]()
    except Exception as error:
        return type(error).__name__
    return ""


def _parse() -> None:
    from sympy.parsing import sympy_parser  # type: ignore[import-untyped]

    sympy_parser.parse_expr("print(1)")


def _parse_from_the_top() -> None:
    # As a module that took the name before the worker was told.
    sys.modules["reasoning_gym.games.countdown"].parse_expr("print(1)")


def _evaluate(text: str) -> None:
    sys.modules["reasoning_gym.algorithmic.string_insertion"].eval(text)


def _execute() -> None:
    sys.modules["reasoning_gym.code.codeio"].exec("x = 1")
