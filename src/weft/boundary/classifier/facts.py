"""What a classifier's folder says of itself, in ``boundary.json`` beside the weights.

Folders that others published have no such file: what the paper and its authors' code say holds for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from weft.errors import UserError

FILE = "boundary.json"
FACTS_VERSION = 1
"""Version of the file; it rises when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How a classifier was trained, as far as its use depends on it."""

    window: int = 200
    """Tokens of the texts that it learned from, at most (the authors' code: 200)."""
    threshold: float = 0.5
    """From this probability of style on, a token is style."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """What made it: base, data, settings, versions, figures; for people and for `weft boundary eval`."""
    schema: int = FACTS_VERSION

    def write(self, folder: Path) -> None:
        """Write them beside the weights."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path | None) -> Self:
        """The facts in ``file``; the defaults if there is none.

        Raises:
            UserError: it holds something else.
        """
        if file is None or not file.is_file():
            return cls()
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            facts = cls(**row)
            sound = isinstance(facts.window, int) and facts.window > 0 and 0 < facts.threshold < 1
            sound = sound and isinstance(facts.training, dict)
            if facts.schema != FACTS_VERSION or not sound:
                raise ValueError(f"version {facts.schema}, window {facts.window}, {facts.threshold=}")
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"not what `weft boundary train` writes: {error}",
                where=str(file),
                remedy="restore it, or remove it: then the paper's window and threshold are taken",
            ) from error
        return facts
