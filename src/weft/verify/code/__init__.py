"""Whether a response's program passes its tests, whatever else the program tries.

::

    program.py      the program in a response
    cases.py        the tests in a prompt's answer, and what output passes
    verifier.py     tests run one after the other, and what their end means
    runner.py       one program, run to its end within limits
    sandbox.py      a wall that holds on this machine, or a refusal
    enclosure.py    what the wall lets through
    launcher.py     runs by itself: builds the wall, starts, watches, ends everything
    check.py        runs by itself, inside: the asserts
    probe.py        runs by itself, inside: tries what must not be possible
"""

from weft.verify.code.runner import Limits
from weft.verify.code.verifier import CodeVerifier, open_code

__all__ = ["CodeVerifier", "Limits", "open_code"]
