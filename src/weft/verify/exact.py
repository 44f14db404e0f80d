"""``exact``: the response's final answer is the prompt's, as text.

Both are read by :func:`weft.quality.answer.final_answer`: a box, ``####``, ``answer:``, else the whole text.
They are the same if their characters are, but for Unicode's forms of one character (NFKC) and white space:
any run of it is one space, and none stands at either end. With ``exact:nocase``, capitals do not count.

A response without text is wrong. A right answer that is blank is no answer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from weft.quality.answer import final_answer
from weft.quality.base import Answered
from weft.verify.base import Judgement, Reason, correct, shown, unverifiable, wrong

RULES = 1
"""Version of the rules above."""


class ExactVerifier:
    """A :class:`weft.verify.base.Verifier`; needs no model and no process."""

    def __init__(self, *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case

    @property
    def name(self) -> str:
        return "exact:nocase" if self._ignore_case else "exact"

    async def verify(self, answered: Answered) -> Judgement:
        if answered.answer is None:
            return unverifiable(Reason.NO_ANSWER)
        right = normalised(final_answer(answered.answer), ignore_case=self._ignore_case)
        if not right:
            return unverifiable(Reason.NO_ANSWER, "the right answer is blank")
        said = normalised(final_answer(answered.response), ignore_case=self._ignore_case)
        if not said:
            return wrong(Reason.NO_RESPONSE)
        if said != right:
            return wrong(Reason.DIFFERENT, f"{shown(said)}, not {shown(right)}")
        return correct(shown(said))

    def describe(self) -> Mapping[str, object]:
        return {"verifier": "exact", "rules": RULES, "ignore_case": self._ignore_case}

    async def close(self) -> None:
        """Nothing is held."""


def normalised(text: str, *, ignore_case: bool = False) -> str:
    """The text in the form in which it is compared."""
    text = unicodedata.normalize("NFKC", text)
    if ignore_case:
        # Folding may take a text out of its normal form.
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())
