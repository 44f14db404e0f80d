"""Ctrl-C where Python would ignore it."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from weft.cli.interrupts import heeded


class Closing:
    """A library's object that is interrupted while it goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_destructor_comes_again() -> None:
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), heeded():
        one = Closing()
        del one
        threading.Event().wait(30)
        raise AssertionError("the interrupt was lost")
    assert sys.unraisablehook is hook


class Broken:
    def __del__(self) -> None:
        raise ZeroDivisionError


def test_other_errors_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_type))
    with heeded():
        one = Broken()
        del one
    assert told == [ZeroDivisionError]
