"""The one seam towards models that write text.

An engine continues a list of token ids. It knows its vocabulary, its chat template and how it samples by
default; it does not know traces, authors, boundaries or tags. Everything a completion depends on is in the
request, so an engine may keep what it likes between requests (key-value caches, connections) and may drop
it at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol, runtime_checkable

from weft.chat import ChatTemplate
from weft.records import Sampling
from weft.vocabulary import Vocabulary


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """Its last id is one of the request's ``stop`` ids."""
    LENGTH = "length"
    """``max_tokens`` ids were generated."""
    CONTEXT = "context"
    """The model's context is full; there may be fewer ids than asked for, or none."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Continue ``prefix`` by at most ``max_tokens`` ids."""

    session: str
    """One growing text; its requests never overlap, and engines may keep a cache for it."""
    prefix: Sequence[int]
    """All ids so far, the prompt's included."""
    max_tokens: int
    sampling: Sampling
    """All fields set; temperature 0 is greedy."""
    seed: int
    """With a position it decides each draw: token *i* of a text is drawn with ``uniform(seed, i)``."""
    stop: frozenset[int]
    """Ids after which the completion ends; the id itself is part of the completion."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine wrote."""

    ids: tuple[int, ...]
    finish: Finish
    requests: int = 1
    """Requests that it took, those included that failed and were sent again."""


@runtime_checkable
class Engine(Protocol):
    """A model that continues token ids."""

    @property
    def name(self) -> str:
        """The engine as the user named it."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def template(self) -> ChatTemplate: ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids with which the model ends its response."""

    @property
    def context(self) -> int | None:
        """Most tokens that prompt and completion may hold together; ``None`` is no known limit."""

    @property
    def sampling(self) -> Sampling:
        """The model's own defaults, all fields set."""

    @property
    def request_tokens(self) -> float:
        """What one more request costs, in tokens of this engine that take as long."""

    def describe(self) -> Mapping[str, object]:
        """What identifies the model, as JSON values, for the manifest; no secrets."""

    def check(self, sampling: Sampling) -> None:
        """Whether the engine can draw so; all fields are set.

        Raises:
            UserError: it cannot.
        """

    async def complete(self, request: CompletionRequest) -> Completion:
        """Continue the prefix.

        Raises:
            EngineError: this request failed; the trace records it and the run goes on.
            RunError: the engine cannot serve at all; the run stops.
        """

    def release(self, session: str) -> None:
        """Forget what is kept for ``session``; unknown sessions are ignored."""

    async def close(self) -> None:
        """Give back threads, memory and connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model thinks of ids that were given to it, each given all before it. ``[n]`` each."""

    logps: tuple[float, ...]
    """Log-probabilities in nats, at temperature 1 and without any filter."""
    ranks: tuple[int, ...] | None = None
    """How many ids are likelier, plus one; ``None``: the engine does not say."""
    entropies: tuple[float, ...] | None = None
    """Of the distribution that each id would have been drawn from, in nats; ``None``: it does not say."""


@runtime_checkable
class Scorer(Protocol):
    """An engine that can say how likely it finds a text."""

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        """What the model thinks of each id of ``continuation``.

        Raises:
            EngineError: this request failed.
            RunError: the engine cannot serve at all.
        """


def uniform(seed: int, position: int) -> float:
    """The draw in [0, 1) for the token at ``position`` of a text.

    A function of seed and position alone: chunk sizes, batches and concurrency do not change what is drawn.
    """
    digest = blake2b(
        position.to_bytes(8, "little"), digest_size=8, key=seed.to_bytes(16, "little", signed=True)
    )
    return (int.from_bytes(digest.digest(), "little") >> 11) * 2.0**-53
