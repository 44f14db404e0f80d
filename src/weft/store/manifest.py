"""The manifest beside the traces: what made them, and what may not change between runs.

Invariants
    - ``settings`` hold everything that decides the text. They never change under one output name.
    - ``created`` and ``date`` are those of the first run, so that templates print one date throughout.
    - The file is replaced at once: a killed process leaves the old one or the new one.

This module does not know what a setting means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

from weft.errors import UserError
from weft.store.files import write_error

MANIFEST_VERSION = 1
"""Version of the manifest; it rises when a field changes its meaning or goes."""


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Run:
    """One run that wrote to the output. A run that was killed has no end and no counts."""

    started: str
    weft: str
    ended: str | None = None
    complete: int | None = None
    """Complete traces that this run wrote."""
    rejected: int | None = None
    """Rejected traces that this run wrote."""
    info: Mapping[str, Any] | None = None
    """Facts that were others than in the manifest's ``info``."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What made the traces beside it. Times are ISO 8601 in UTC."""

    weft: str
    """Weft's version."""
    settings: Mapping[str, Any]
    """Everything that decides the text; compared when a run goes on."""
    info: Mapping[str, Any]
    """Machine, versions, prompts' digest and the like; recorded, not compared."""
    created: str
    date: str
    """The day (``YYYY-MM-DD``) for templates that print one: that of the first run, in all runs."""
    runs: tuple[Run, ...] = ()
    schema: int = MANIFEST_VERSION

    @classmethod
    def create(
        cls,
        weft: str,
        settings: Mapping[str, Any],
        info: Mapping[str, Any] | None = None,
        *,
        date: str | None = None,
    ) -> Self:
        """A manifest of now. ``settings`` and ``info`` hold what JSON can hold; ``date`` is what templates
        were given as today, else the day of now."""
        created = utc_now()
        return cls(weft, _as_json(settings), _as_json(info or {}), created, date=date or created[:10])


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` as it will be read again: tuples are lists, enums are text."""
    plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return plain


def manifest_path(path: Path) -> Path:
    """Where the manifest of the output ``path`` is."""
    return path.with_suffix(".manifest.json")


def first_day(path: Path, *, overwrite: bool) -> date:
    """What templates print as today: the day of the first run into the output ``path``, else this one.

    Args:
        overwrite: what was there before does not count.

    Raises:
        UserError: what is there is no manifest, or one of another version.
    """
    created = None if overwrite else read_manifest(path)
    return date.fromisoformat(created.date) if created else datetime.now(UTC).date()


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the output ``path``; ``None`` if there is none.

    Raises:
        UserError: it is no manifest, or one of another version.
    """
    file = manifest_path(path)
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        if row["schema"] != MANIFEST_VERSION:
            raise UserError(
                f"a manifest of version {row['schema']!r}",
                where=str(file),
                expected=f"version {MANIFEST_VERSION}, which this Weft writes",
                remedy="go on with the Weft that wrote it, or choose another output",
            )
        return Manifest(**{**row, "runs": tuple(Run(**run) for run in row["runs"])})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(error, file) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"not a manifest: {error}", where=str(file), remedy="restore it, or --overwrite to start again"
        ) from error


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, one line each: ``sampling.top_p: 0.9 before, 1.0 now``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        missing = object()
        lines: list[str] = []
        for key in sorted({*before, *now}):
            path, old, new = f"{name}.{key}" if name else key, before.get(key, missing), now.get(key, missing)
            if old is missing or new is missing:
                said = ["not set" if value is missing else _shown(value, value) for value in (old, new)]
                lines.append(f"{path}: {said[0]} before, {said[1]} now")
            else:
                lines += differences(old, new, path)
        return lines
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        if not any(differences(old, new) for old, new in zip(before, now, strict=True)):
            return []
    elif before == now and isinstance(before, bool) == isinstance(now, bool):
        return []
    return [f"{name}: {_shown(before, now)} before, {_shown(now, before)} now"]


def _shown(value: Any, other: Any) -> str:
    """``value`` in JSON; of a long one the part around its first difference from ``other``."""
    text, against = json.dumps(value, ensure_ascii=False), json.dumps(other, ensure_ascii=False)
    if len(text) <= 80:
        return text
    same = next((at for at, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), 0)
    start = max(0, same - 20)
    return f"{'…' if start else ''}{text[start : start + 60]}{'…' if start + 60 < len(text) else ''}"
