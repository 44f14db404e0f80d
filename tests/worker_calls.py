"""What the tests of the worker processes have them do. A module of its own, since workers import it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

_held: list[int] = []
_prepared: list[int] = []


def echo(value: object) -> object:
    return value


def pid() -> int:
    return os.getpid()


def do(what: str, argument: object = None) -> object:
    """Something bad, by name."""
    calls: dict[str, Callable[[], object]] = {
        "hang": _hang,
        "hang and ignore signals": _hang_deaf,
        "compute for ever": lambda: len(str(9**9**9)),
        "die": lambda: os._exit(3),
        "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "raise": lambda: 1 / 0,
        "raise the unprintable": _raise_unprintable,
        "exit": lambda: sys.exit(0),
        "recurse": _recurse,
        "eat memory": lambda: len(bytearray(1 << 45)),
        "eat memory slowly": _eat,
        "print": _print,
        "answer at length": lambda: "x" * 2_000_000,
        "answer an object": object,
        "echo": lambda: argument,
        "pid": os.getpid,
        "prepared": lambda: len(_prepared),
    }
    return calls[what]()


def prepare() -> None:
    _prepared.append(1)


def fail_to_prepare() -> None:
    raise ImportError("no such package")


def hold(path: str, for_ever: bool) -> None:
    """Open a pipe for as long as this process lives; say so in it."""
    _held.append(os.open(path, os.O_WRONLY))
    os.write(_held[-1], b"held")
    if for_ever:
        _hang()


def hold_by_child(path: str) -> None:
    """As :func:`hold`, by a child."""
    code = (
        "import os, sys, signal; f = os.open(sys.argv[1], os.O_WRONLY); os.write(f, b'held'); signal.pause()"
    )
    subprocess.run([sys.executable, "-c", code, path], check=False)


def _hang() -> None:
    while True:
        signal.pause()


def _hang_deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _hang()


def _recurse() -> object:
    return _recurse()


def _eat() -> int:
    held = []
    while True:
        held.append(bytearray(1 << 24))


def _print() -> str:
    sys.stdout.write("x" * 1_000_000 + "\n")
    os.write(1, b"x" * 1_000_000)
    os.write(2, b"x" * 1_000_000)
    return input() if sys.stdin is None else str(sys.stdin.read())


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def _raise_unprintable() -> None:
    raise _UnprintableError
