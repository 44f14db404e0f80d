r"""``math``: the response's final answer is, as mathematics, the prompt's.

Math-Verify reads and compares them (``pip install 'weft[verify]'``): ``\frac{1}{2}``, ``0.5`` and ``2/4`` are
one answer, and so are sets, intervals, matrices and expressions that are equal. It runs in processes of its
own, see :mod:`weft.verify.workers`: computer algebra hangs and eats memory on texts that are easy to write,
and its own alarm works in a main thread only.

What is read of a text:

1. its final answer after :func:`weft.quality.answer.final_answer`, or of a text without one the last 2,000
   characters;
2. where that has LaTeX's delimiters, the mathematics in them, the last that can be read;
3. where it has none and no words, all of it as LaTeX; ``1 1/2``, ``1.5e3``, ``sqrt(2)`` and ``x²`` are
   understood too;
4. where it has words, the last number in it, or arithmetic of numbers; a short text without a digit is a
   name.

The verdict is ``unverifiable`` where the right answer cannot be read, or is not equal to itself (``1/0``),
and where time or memory run out. A response in which nothing can be read is wrong.

It does not know units (they are dropped), nor words: two names are one answer if they are spelled alike.
Numbers with commas between them are a set, in any order; those with spaces alone (``16 5 11``) are not read.
Numbers with a decimal point are equal if they agree to six decimals.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from weft.errors import UserError
from weft.quality.answer import final_answer
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, Verdict, correct, shown, unverifiable, wrong
from weft.verify.workers import WorkerPool

RULES = 1
"""Version of the rules above."""

_MOST = 10_000
"""Characters of the longest final answer that is read."""
_TAIL = 2_000
"""Characters that are read of a text that marks no final answer."""
_DECIMALS = 6
_PACKAGES = ("math-verify", "latex2sympy2-extended", "sympy")

_MOST_NAME = 100
"""Characters of the longest text that is a name."""

_ALL_DELIMITED = re.compile(r"\$+([^$]+)\$+")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed\b")
_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp)(?![A-Za-z])"
)
_ROOT = re.compile(r"(?:(?<![\\A-Za-z])sqrt|√)(?:\(([^()]*)\)|(\d+|[a-z]))")
_MIXED = re.compile(r"(?<![\d.,/])(\d+) +(\d+)/(\d+)(?![\d.,/])")
_GROUPS = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SEVERAL = re.compile(r"[\d.]\s+[\d.]")
_POWER_OF_TEN = re.compile(r"(?<=\d)[eE]([+-]?\d+)(?![\w.])")
_SUPERSCRIPTS = re.compile(r"[⁰¹²³⁴-⁹]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_PRICE = re.compile(r"\\\$")
_MARKUP = " *_`"
_EDGES = " .,;:!?*_'\"`()"
# Of two letters only some that stand alone: others are products.
_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{3,}|(?:^|\s)(?i:is|it|so|we|of|to|in|if)(?=\s)")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}")


class MathVerifier:
    """A :class:`weft.verify.base.Verifier`; holds worker processes from its first call on."""

    name = "math"

    def __init__(
        self, *, workers: int | None = None, seconds: float = 10.0, memory_bytes: int = 2 << 30
    ) -> None:
        """
        Args:
            workers: processes; as many as there are processors, four at most, if not given.
            seconds: for one response, on the clock.
            memory_bytes: of address space for one process.

        Raises:
            UserError: Math-Verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise UserError(
                "the package math-verify is not installed",
                where="verifier math",
                remedy="pip install 'weft[verify]'",
            )
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self._pool = WorkerPool(
            compared,
            prepare=load,
            workers=workers or min(4, os.cpu_count() or 1),
            seconds=seconds,
            memory_bytes=memory_bytes,
        )

    async def verify(self, answered: Answered) -> Judgement:
        right, said = _last(answered.answer or ""), _last(answered.response)
        if not right:
            return unverifiable(Reason.NO_ANSWER)
        if len(right) > _MOST:
            return unverifiable(Reason.BAD_ANSWER, f"the right answer has {len(right)} characters")
        if not said:
            return wrong(Reason.NO_RESPONSE)
        if len(said) > _MOST:
            return wrong(Reason.TOO_LARGE, f"an answer of {len(said)} characters")
        outcome = await self._pool.run(right, said)
        if outcome.reason is not None:
            return unverifiable(outcome.reason, outcome.said)
        assert isinstance(outcome.value, list)
        verdict, reason = outcome.value
        both = f"{shown(said)}, right is {shown(right)}"
        if verdict == Verdict.CORRECT:
            return correct(both)
        return Judgement(Verdict(verdict), Reason(reason), both)

    def describe(self) -> Mapping[str, object]:
        return {
            "verifier": self.name,
            "rules": RULES,
            "decimals": _DECIMALS,
            "seconds": self._seconds,
            "memory_bytes": self._memory_bytes,
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        }

    async def close(self) -> None:
        await self._pool.close()


def _last(text: str) -> str:
    """What of a text is read at all."""
    text = text.rpartition("</think>")[2]
    found = final_answer(text)
    return (found[-_TAIL:] if found == text else found).strip()


# -- in a worker -------------------------------------------------------------------------------------


def load() -> None:
    """Load what is slow to load, and read one answer, since the first is slow to read."""
    import logging

    # It warns that nobody watches the clock.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    compared("\\frac{1}{2}", "0.5")


def compared(right: str, said: str) -> tuple[Verdict, Reason | None]:
    """The verdict on one final answer."""
    right_read = _read(right)
    if not right_read:
        return Verdict.UNVERIFIABLE, Reason.BAD_ANSWER
    said_read = _read(said)
    if not said_read:
        return Verdict.WRONG, Reason.UNPARSABLE
    if _equal(right_read, said_read):
        return Verdict.CORRECT, None
    if not _equal(right_read, right_read):
        return Verdict.UNVERIFIABLE, Reason.BAD_ANSWER
    return Verdict.WRONG, Reason.DIFFERENT


def _read(text: str) -> list[Any]:
    """What SymPy makes of a text; empty if nothing."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig

    text = _PRICE.sub("", _plain(text)).lstrip(_MARKUP).rstrip(f".{_MARKUP}")  # the sentence's point
    if whole := _ALL_DELIMITED.fullmatch(text):
        text = whole[1].strip()
    if _DELIMITED.search(text):
        return _parsed(text, LatexExtractionConfig()) or _parsed(text, ExprExtractionConfig())
    latex = _as_latex(text)
    if not _WORD.search(_TEXT_COMMAND.sub("", latex)):
        if "\\" not in latex and _SEVERAL.search(latex):
            return []  # it would be read as a sum or product
        return _parsed(f"${latex}$", LatexExtractionConfig())
    if any(character.isdigit() for character in text):
        return _parsed(text, ExprExtractionConfig())
    name = re.sub(r"[\\{}$]", "", text).strip(_EDGES)
    return _parsed(f"$\\text{{{name}}}$", LatexExtractionConfig()) if len(name) <= _MOST_NAME else []


def _plain(text: str) -> str:
    """Unicode's forms of one character made one; ``x²`` and ``1½``, which would lose sense, are spelled."""
    text = _SUPERSCRIPTS.sub(lambda power: f"^{{{unicodedata.normalize('NFKC', power[0])}}}", text)
    text = _VULGAR.sub(lambda one: _fraction(unicodedata.normalize("NFKC", one[0])), text)
    return unicodedata.normalize("NFKC", text).replace("−", "-").replace("·", "\\cdot ")


def _fraction(spelled: str) -> str:
    above, _, below = spelled.partition("⁄")
    return f"\\frac{{{above}}}{{{below}}}"


def _as_latex(text: str) -> str:
    """Some of what people write for LaTeX, as LaTeX."""
    if _GROUPS.fullmatch(text):
        return "".join(text.split())
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text.replace("**", "^"))
    text = _POWER_OF_TEN.sub(r"\\times 10^{\1}", text)
    return _FUNCTION.sub(r"\\\1", _ROOT.sub(r"\\sqrt{\1\2}", text))


def _parsed(text: str, target: object) -> list[Any]:
    from math_verify import parse

    try:
        return list(
            parse(text, [target], fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
        )
    except MemoryError:
        raise
    except Exception:  # what cannot be read fails in many ways
        return []


def _equal(right: list[Any], said: list[Any]) -> bool:
    from math_verify import verify

    try:
        return bool(verify(right, said, float_rounding=_DECIMALS, timeout_seconds=None, raise_on_error=True))
    except MemoryError:
        raise
    except Exception:  # some things cannot be compared, as a matrix and an inequality
        return False
