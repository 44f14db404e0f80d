"""``stage.json``: what a stage was made from, beside its output.

Invariants
    - It is written before a stage begins and after it has ended, each time at once: a killed run leaves a
      stage that says `begun`, and the next run goes on with it.
    - ``settings`` and ``inputs`` are all that decides the output; paths of other stages stand there as
      ``stage:NAME``, so a run's folder may be moved.

It does not decide whether anything runs; :mod:`weft.recipes.state` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from weft.errors import UserError
from weft.recipes.content import digest, stamp
from weft.store.files import replace_file, writing

FILE = "stage.json"
SCHEMA_VERSION = 1


class Ended(StrEnum):
    """How far a stage came."""

    BEGUN = "begun"
    """It was stopped, or still runs."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Content:
    """A file or folder at one moment."""

    digest: str | None
    stamp: str | None

    @classmethod
    def of(cls, path: Path, before: Content | None = None) -> Self:
        """What the path holds now; ``before`` saves reading it where nothing was written since.

        Raises:
            UserError: it cannot be read.
        """
        if not path.exists():
            return cls(None, None)
        try:
            now = stamp(path)
            if before is not None and before.stamp == now:
                return cls(before.digest, now)
            return cls(digest(path), now)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=error.filename or str(path)) from error


@dataclass(frozen=True, slots=True)
class Record:
    """One stage, as its last run left it."""

    stage: str
    kind: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, Content]
    state: Ended
    weft: str
    began: str
    """ISO 8601 in UTC."""
    seconds: float = 0.0
    """Of all runs that it took."""
    output: Content = field(default_factory=lambda: Content(None, None))
    message: str = ""
    """Why it failed."""
    schema: int = SCHEMA_VERSION

    @property
    def decides(self) -> dict[str, Any]:
        """All that decides the output, for comparison."""
        inputs = {name: content.digest for name, content in self.inputs.items()}
        plain: dict[str, Any] = json.loads(json.dumps({"settings": self.settings, "inputs": inputs}))
        return {"kind": self.kind, "version": self.version, **plain}

    def write(self, folder: Path) -> None:
        """Put it into a stage's folder, at once."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / FILE, [text.encode()])


def read_record(folder: Path) -> Record | None:
    """The record of a stage's folder; ``None`` if there is none.

    Raises:
        UserError: it is none, or one of another version.
    """
    path = folder / FILE
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["schema"] != SCHEMA_VERSION:
            raise ValueError(f"version {row['schema']!r}, this Weft writes {SCHEMA_VERSION}")
        inputs = {name: Content(**content) for name, content in row["inputs"].items()}
        known = {"inputs": inputs, "output": Content(**row["output"]), "state": Ended(row["state"])}
        return Record(**{**row, **known})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"not the record of a stage: {error}",
            where=str(path),
            remedy=f"remove the folder {folder}, and the stage runs again",
        ) from error
