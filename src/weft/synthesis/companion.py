"""The model that does not write, for boundaries that ask what it would have written.

It reads the shared text in its own prompt and tokens and continues by its likeliest tokens. What it says is
never part of the trace: all of it counts as generated and discarded.
"""

from __future__ import annotations

from weft.engines.base import CompletionRequest
from weft.records import GREEDY, Author
from weft.synthesis.ledger import Ledger
from weft.synthesis.pen import Pen
from weft.synthesis.rules import Closers
from weft.synthesis.tags import without_begun
from weft.vocabulary import spell


def asked_session(trace: str, author: Author) -> str:
    """The engine's session for what ``author`` is asked and does not write."""
    return f"{trace}|{author}|asked"


class OtherModel:
    """A :class:`weft.boundary.base.Companion`."""

    def __init__(self, session: str, pen: Pen, closers: Closers, ledger: Ledger) -> None:
        """Take the pen of the model that does not write; it is read and never moved."""
        self._session, self._pen, self._closers, self._ledger = session, pen, closers, ledger

    async def continuation(self, text: str, tokens: int) -> str:
        """See :class:`weft.boundary.base.Companion`. Empty where its context is full.

        Raises:
            EngineError: the engine failed.
            TextError: its vocabulary cannot spell ``text``.
        """
        pen = self._pen
        assert pen.end <= len(text), "a boundary asks from the turn's start on, not before"
        completion = await pen.engine.complete(
            CompletionRequest(
                session=self._session,
                prefix=[*pen.ids, *pen.spelled(text[pen.end :])],
                max_tokens=tokens,
                sampling=GREEDY,
                seed=0,
                stop=frozenset(self._closers.events),
            )
        )
        self._ledger.requested(pen.author, len(completion.ids), completion.requests)
        self._ledger.discard(pen.author, len(completion.ids))
        vocabulary = pen.engine.vocabulary
        end = next((i for i, token in enumerate(completion.ids) if vocabulary.piece(token) is None), None)
        said = "".join(unit.text for unit in spell(completion.ids[:end], vocabulary).units)
        tag = self._closers.text
        if tag is None:
            return said
        # The end may be the start of the tag, or text that one more token would tell.
        return without_begun(said.partition(tag)[0], tag)
