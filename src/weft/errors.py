"""The exception tree.

::

    WeftError
    ├── UserError      the user can mend it: a bad file, option, model or setting        exit code 2
    └── RunError       the run cannot go on: disk full, endpoint dead, out of memory      exit code 1
        ├── EngineError    one engine failed at one request; recorded on the trace
        └── TextError      one vocabulary cannot spell a text; recorded on the trace

Every error says *what* happened, *where*, what was *expected* and the *remedy*; the command line prints
those four and no traceback. Anything outside this tree is a defect of Weft's and keeps its traceback.
"""

from __future__ import annotations


class WeftError(Exception):
    """Base of all errors that Weft raises on purpose."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", remedy: str = "") -> None:
        self.what, self.where, self.expected, self.remedy = what, where, expected, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        parts = [head]
        if self.expected:
            parts.append(f"  expected: {self.expected}")
        if self.remedy:
            parts.append(f"  remedy:   {self.remedy}")
        return "\n".join(parts)


class UserError(WeftError):
    """The input or a setting is wrong; the message says how to put it right."""

    exit_code = 2


class RunError(WeftError):
    """The run cannot go on; what was finished is on disk."""


class EngineError(RunError):
    """One request to an engine failed; the trace records it and is tried again on the next run."""


class TextError(RunError):
    """A text that one model wrote cannot be spelled in the other's vocabulary; the trace records it."""
