"""Ctrl-C that is not lost in a destructor.

Python raises ``KeyboardInterrupt`` wherever the main thread is, and ignores what a ``__del__`` raises. Some
libraries run many of them (a tokenizer that compiles a regular expression, hundreds), so now and then a
Ctrl-C, or the only SIGTERM that a cluster sends, would change nothing.

It does not know what is interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_AFTER = 0.01
"""Seconds; by then the destructor has ended."""


@contextmanager
def heeded() -> Iterator[None]:
    """Within, an interrupt that Python ignored comes again."""
    before = sys.unraisablehook

    def again(ignored: UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        # Not at once: it would be raised in this function, and ignored like the first.
        timer = threading.Timer(AGAIN_AFTER, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
