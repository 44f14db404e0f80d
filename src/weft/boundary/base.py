"""Where a proposal is cut: the question and the possible answers.

The answer at position *i* speaks of unit *i* itself: may the writer keep it, or does it belong to the other
model? A proposal of n units gets n + 1 answers; the last speaks of the unit that would come next, so that a
hand-over can be due at the very end of a proposal. A boundary that has to see a unit before it can judge it
answers *undecided* there.

Invariant that every boundary keeps: an answer other than *undecided* never changes when the proposal grows.
Then the text does not depend on where chunks end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from weft.records import Author


class Verdict(Enum):
    """What becomes of one unit of a proposal."""

    KEEP = "keep"
    CUT = "cut"
    """It belongs to the other model: hand over before it."""
    UNDECIDED = "undecided"
    """More of the proposal is needed."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one writer proposes to append to the shared text."""

    trace: str
    """The trace's id; boundaries may keep a cache for it."""
    author: Author
    """Who proposes."""
    before: str
    """The shared text so far."""
    units: Sequence[str]
    """The proposal, token by token; tokens that share a character stand together."""
    ended: bool
    """Nothing follows: the writer closed thinking or ended its response after the last unit."""
    turn: int = 0
    """Where in ``before`` the writer's turn began, in characters."""
    tokens: Tokens | None = None
    """The text in the writer's own tokens; ``None`` where they are not known."""
    other: Companion | None = None
    """The model that does not write; ``None`` where there is none."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A proposal and the text before it, in the writer's tokens."""

    vocabulary: str
    """The fingerprint of the writer's vocabulary."""
    before: Sequence[int]
    """Ids of the shared text so far, without the prompt."""
    units: Sequence[Sequence[int]]
    """Ids of each unit. ``[len(units)]``"""


class Companion(Protocol):
    """The model that does not write at the moment."""

    async def continuation(self, text: str, tokens: int) -> str:
        """What it would write after ``text``, the shared text up to some place, by its likeliest tokens:
        about ``tokens`` of them, up to where it would close the passage.

        Raises:
            EngineError: it failed.
        """


class Boundary(Protocol):
    """Judges proposals. One boundary may serve both authors."""

    @property
    def name(self) -> str:
        """As the user named it, for the manifest."""

    @property
    def reach(self) -> int:
        """Tokens past a cut that it has to see, as a rule: so many more are asked for. At least one, since
        where a word ends is seen from beyond."""

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        """One verdict for each unit and one for the unit that would follow. ``[len(units) + 1]``

        Raises:
            TextError: the boundary's vocabulary cannot spell the text.
            EngineError: a model that it asks failed.
        """

    def describe(self) -> Mapping[str, object]:
        """All that decides its verdicts, as JSON values, for the manifest: weights, not names of folders."""

    def release(self, trace: str) -> None:
        """Forget what is kept for ``trace``."""
