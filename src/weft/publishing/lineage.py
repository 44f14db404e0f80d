"""The manifests of what an output was made from, as far as they still lie where they were, and its own; for
rows and for models.

A file that was begun after the output was is another one by now, and is left out, with what it was made from.
They come without keys and passwords (:mod:`weft.publishing.secrets`). This module reads manifests only.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from weft.cli.main import COMMANDS
from weft.errors import UserError
from weft.publishing.secrets import hidden, secrets_of
from weft.store import Manifest, read_manifest

_INPUTS = ("traces", "inputs", "data")
"""Keys of a manifest's ``info`` under which commands name what they read: a name, a list, or names with
digests."""


def lineage(path: Path, manifest: Manifest) -> list[Manifest]:
    """The manifests behind the output ``path``, each after what it was made from; its own last."""
    found = _whole_lineage(path, manifest)
    secrets = _secrets_in(found)
    return [_without_secrets(made, secrets) for made in found]


def lineage_secrets(path: Path, manifest: Manifest) -> set[str]:
    """The keys and passwords in the manifests behind the output ``path``, its own included."""
    return _secrets_in(_whole_lineage(path, manifest))


def _whole_lineage(path: Path, manifest: Manifest) -> list[Manifest]:
    found: dict[Path, Manifest] = {}
    _collect(path, manifest, found, {path.resolve()})
    return list(found.values())


def _secrets_in(manifests: Iterable[Manifest]) -> set[str]:
    return {secret for manifest in manifests for secret in secrets_of(asdict(manifest))}


def _without_secrets(manifest: Manifest, secrets: Collection[str]) -> Manifest:
    runs = tuple(replace(run, info=hidden(run.info, secrets)) for run in manifest.runs)
    settings, info = hidden(manifest.settings, secrets), hidden(manifest.info, secrets)
    return replace(manifest, settings=settings, info=info, runs=runs)


def _collect(path: Path, manifest: Manifest, found: dict[Path, Manifest], seen: set[Path]) -> None:
    for name in inputs(manifest):
        for place in (Path(name), path.parent / Path(name).name):
            made = _manifest_of(place)
            if made is None or made.created > manifest.created:
                continue
            if place.resolve() not in seen:
                seen.add(place.resolve())
                _collect(place, made, found, seen)
            break
    found[path.resolve()] = manifest


def inputs(manifest: Manifest) -> Iterator[str]:
    """The names of what a command read, as they were given."""
    for key in _INPUTS:
        value = manifest.info.get(key)
        names = (
            [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping | list) else []
        )
        yield from (name for name in names if isinstance(name, str) and name)


def commands(manifests: Iterable[Manifest]) -> list[str]:
    """The command lines of Weft's that wrote them, each once; what a script of somebody's ran is none."""
    lines = [line for manifest in manifests for line in _commands(manifest)]
    return list(dict.fromkeys(lines))


def _commands(manifest: Manifest) -> Iterator[str]:
    for given in (manifest.info.get("command"), *((run.info or {}).get("command") for run in manifest.runs)):
        if isinstance(given, list | tuple) and given and str(given[0]) in COMMANDS:
            yield f"weft {shlex.join(map(str, given))}"


def _manifest_of(path: Path) -> Manifest | None:
    try:
        inside = sorted(path.glob("*.manifest.json")) if path.is_dir() else []
        return read_manifest(inside[0].with_suffix("").with_suffix("") if inside else path)
    except (UserError, OSError, ValueError):  # not ours, or a name that no file can have
        return None
