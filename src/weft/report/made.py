"""What made it all: the manifests inside results and beside rows, as tables.

It does not know what a setting means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from weft.gap.made import Made
from weft.report.blocks import Part, Section, Table, flat
from weft.store import Manifest

LONGEST = 400
"""Characters of a setting that are shown."""
MOST = 300
"""Settings of one file that are shown."""


def made_section(results: Mapping[str, Made], manifests: Mapping[str, Manifest], id: str) -> Section | None:
    """All of them, by the name of their file; ``None`` if there are none."""
    parts = [Part(name, (_of_result(name, made),)) for name, made in results.items()]
    parts += [Part(name, (_of_rows(name, manifest),)) for name, manifest in manifests.items()]
    if not parts:
        return None
    return Section(id, "What made this", tuple(parts), lead="Versions, settings and digests, as recorded.")


def _of_result(name: str, made: Made) -> Table:
    values = {
        "weft": made.weft,
        "created": made.created,
        "command": " ".join(made.command),
        "files": {Path(file).name: f"sha256 {digest}" for file, digest in made.files.items()},
        "settings": made.settings,
    }
    return _table(name, values)


def _of_rows(name: str, manifest: Manifest) -> Table:
    values = asdict(manifest)
    return _table(name, {key: values[key] for key in ("weft", "created", "runs", "settings", "info")})


def _table(name: str, values: Mapping[str, object]) -> Table:
    lines = list(flat(values))
    rows = [(_start(key), _start(text)) for key, text in lines[:MOST]]
    if len(lines) > MOST:
        rows.append(("…", f"{len(lines) - MOST:,} more are in the file"))
    return Table(f"What made {name}", ("setting", "value"), tuple(rows), open=False)


def _start(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
