"""The traces of several files as one stream, checked before anything costly starts.

Invariants
    - Each id stands once over all files.
    - Iterating twice gives the same traces; a file that changed since the check is refused.

Memory: about 100 bytes per trace. It does not know what traces are verified for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft.errors import UserError
from weft.records import Trace
from weft.store.lines import read_lines
from weft.store.traces import TRACES


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """Checked traces, made by :func:`open_traces`. Each iteration streams them from the start."""

    paths: tuple[Path, ...]
    count: int
    """Traces; at least one."""
    digests: Mapping[str, str]
    """SHA-256 of each file's traces, as they are read, by its name."""
    _stamps: Mapping[Path, tuple[int, int]] = field(repr=False)

    def __iter__(self) -> Iterator[tuple[str, Trace]]:
        """Each trace with its place (``file:line``)."""
        for path in self.paths:
            rows = _read(path)
            while True:
                try:
                    located = next(rows, None)
                finally:  # At each row, whatever it is: a run takes hours, and others write meanwhile.
                    self._check(path)
                if located is None:
                    break
                yield located

    def _check(self, path: Path) -> None:
        if _stamp(path) != self._stamps[path]:
            raise UserError(
                "the file changed after it had been checked",
                where=str(path),
                remedy="wait until what writes it has ended, then run the same command again",
            )


def open_traces(paths: Sequence[Path]) -> TraceFiles:
    """Check all traces of some files.

    Raises:
        UserError: a file is not there or holds no traces, or an id stands twice; with both places.
    """
    seen: dict[int, int] = {}
    digests: dict[str, str] = {}
    stamps: dict[Path, tuple[int, int]] = {}
    for number, path in enumerate(paths):
        if not path.is_file():
            expected = TRACES.expected()
            raise UserError("no such file", where=str(path), expected=expected, remedy="check the path")
        stamps[path] = _stamp(path)
        digest = hashlib.sha256()
        for where, trace in _read(path):
            digest.update(trace.to_line().encode("utf-8", "surrogatepass"))
            id = trace.id.encode("utf-8", "surrogatepass")
            key = int.from_bytes(hashlib.blake2b(id, digest_size=8).digest())
            if key in seen:
                raise _twice(trace.id, where, path, paths[seen[key]])
            seen[key] = number
        digests[str(path)] = digest.hexdigest()
    if not seen:
        where = ", ".join(map(str, paths)) or "the command line"
        raise UserError("no traces", where=where, expected=TRACES.expected(), remedy="check the paths")
    return TraceFiles(tuple(paths), len(seen), digests, stamps)


def _twice(id: str, where: str, path: Path, first: Path) -> UserError:
    several = "verify files with the same prompts one by one, each into an output of its own"
    return UserError(
        f'the trace "{id}" stands twice, first in {first}',
        where=where,
        expected="each id once",
        remedy="name each file once, and each of its rows once" if path == first else several,
    )


def _read(path: Path) -> Iterator[tuple[str, Trace]]:
    for where, row in read_lines(path, TRACES.expected()):
        yield where, TRACES.read(row, where)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return stat.st_size, stat.st_mtime_ns
