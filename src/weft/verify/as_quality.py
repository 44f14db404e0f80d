"""A verifier where a quality is asked for: 1 for correct, 0 for wrong, ``None`` for unverifiable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from weft.errors import EngineError
from weft.quality.base import Answered, Quality
from weft.verify.base import Reason, Verdict, Verifier

_WORTH: Mapping[Verdict, float | None] = {
    Verdict.CORRECT: 1.0,
    Verdict.WRONG: 0.0,
    Verdict.UNVERIFIABLE: None,
}


class VerifierQuality:
    """A :class:`weft.quality.base.Quality` that asks a verifier."""

    binary = True

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    @property
    def name(self) -> str:
        return self._verifier.name

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        """1, 0, or ``None`` of each. ``[n]``

        Raises:
            EngineError: the verifier itself failed at one of them; asked again it may not.
            RunError: the verifier cannot serve at all.
        """
        judgements = await asyncio.gather(*(self._verifier.verify(one) for one in answered))
        for judgement in judgements:
            if judgement.reason is Reason.VERIFIER_ERROR:
                raise EngineError(judgement.said or "it failed", where=f"verifier {self.name}")
        return [_WORTH[judgement.verdict] for judgement in judgements]

    def describe(self) -> Mapping[str, object]:
        return {"quality": self.name, "verifier": dict(self._verifier.describe())}

    async def close(self) -> None:
        await self._verifier.close()


def as_quality(verifier: Verifier) -> Quality:
    """The verifier as a quality; closing it closes the verifier."""
    return VerifierQuality(verifier)
