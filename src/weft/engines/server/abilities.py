"""What a server can do, as found by asking it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.engines.server.dialects import OpenAI


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked, and what came of it."""

    check: str
    ok: bool | None
    """``None``: it cannot be told, or does not matter here."""
    said: str
    use: str = ""
    """What Weft does about it."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one server can do."""

    dialect: OpenAI
    version: str | None
    ids_in: bool
    ids_out: bool
    start: str
    """The token that the server puts before every text by itself; empty if none."""
    context: int | None
    scores: bool
    refused: Mapping[str, float]
    """Sampling fields that the server does not take, and the value at which each is off."""
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @property
    def exact(self) -> bool:
        """Whether token ids go to the server and come back."""
        return self.ids_in and self.ids_out
