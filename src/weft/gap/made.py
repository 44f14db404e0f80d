"""What made a measurement: the manifest inside a result file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Made:
    """What was measured, with what, and when."""

    weft: str
    """Weft's version."""
    created: str
    """ISO 8601 in UTC."""
    command: tuple[str, ...]
    """The command line's arguments; empty from Python."""
    settings: Mapping[str, Any]
    """Everything that decides the figures, engines by their facts."""
    files: Mapping[str, str]
    """SHA-256 of each file that was read, in hexadecimal, by its name."""
