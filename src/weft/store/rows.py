"""Rows on disk: two append-only JSONL files and the manifest that says what made them.

::

    rows.jsonl             complete ones
    rows.rejected.jsonl    all others, with the reason and what had been written
    rows.manifest.json     settings, versions, machine, runs

Invariants
    - A record is one line, written by one ``write`` before :meth:`RowStore.append` returns: a killed process
      loses none. Files are synced to the medium at least every :data:`SYNC_SECONDS` while records arrive, and
      at the end; a power cut loses no more than that, and the next run makes those records again.
    - After opening, each file is whole lines, no id is twice, and nothing is left in them that is to be tried
      again.
    - A write that fails half-way is taken back, so a full disk leaves no torn line.
    - Settings under one output name never change. What differs is listed, and nothing is touched.
    - One run at a time: ``rows.jsonl`` is locked while a store is open (not on Windows, nor on file systems
      without locks).

Memory: about 110 bytes per finished record (64-bit digests of its id and of what it was made from).

This module does not know what a record is (a :class:`Kind` says it) nor what the settings mean. A store is
used by one thread.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from weft.errors import UserError, WeftError
from weft.store.files import replace_file, writing
from weft.store.lines import read_lines
from weft.store.manifest import Manifest, Run, differences, manifest_path, read_manifest, utc_now
from weft.store.output import check_name, lock, rejected_path

SYNC_SECONDS = 1.0
"""Longest time between two syncs to the medium while records arrive.

A killed process loses nothing even without them; one per record was measured at 40 times the cost of writing.
"""

R = TypeVar("R")
S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Kind(Generic[R, S]):
    """What a store has to know of its records."""

    name: str
    """What one is called, and with an s, several: ``trace``."""
    maker: str
    """The command that writes them."""
    source: str
    """What one is made from, and with an s, several: ``prompt``."""
    from_row: Callable[[Mapping[str, Any]], R]
    """Raises ValueError for a row that is none."""
    to_row: Callable[[R], Mapping[str, Any]]
    id: Callable[[R], str]
    made_from: Callable[[R], Any]
    """As a JSON value. A finished id that would be made from something else is refused."""
    status: Callable[[R], S]
    complete: S
    """The status of records that go to the first file; all others go to the second."""
    again: S
    """The status of records that the next run makes again."""

    def expected(self) -> str:
        """What a file of them holds, for messages."""
        return f"{self.name}s, as `{self.maker}` writes them"

    def read(self, row: Mapping[str, Any], where: str) -> R:
        """The record of a row.

        Raises:
            UserError: it is none.
        """
        try:
            return self.from_row(row)
        except (ValueError, AttributeError) as error:
            raise self.bad_row(where, str(error)) from error

    def bad_row(self, where: str, said: str) -> UserError:
        """What to say of a line that is none."""
        a = "an" if self.name[0] in "aeiou" else "a"
        return UserError(
            said,
            where=where,
            expected=f"{a} {self.name} that Weft wrote",
            remedy="remove this line, or name another file",
        )


def read_rows(kind: Kind[R, S], path: Path) -> Iterator[R]:
    """The records of a file, streamed, in the order in which they were finished.

    Raises:
        UserError: there is no such file, or a line is no record of this version, or the last line is torn.
    """
    for where, row in read_lines(path, kind.expected()):
        yield kind.read(row, where)


def _hash64(value: Any) -> int:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class RowStore(Generic[R, S]):
    """The records of one output, open for one run. A context manager: leaving it ends the run."""

    manifest: Manifest
    """The one on disk: ``created`` and ``date`` are those of the first run."""
    repaired: tuple[str, ...] = ()
    """What opening cut off or took out, in words."""

    def __init__(self, kind: Kind[R, S], path: Path, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Open or create an output, repair it, and begin a run.

        Args:
            path: the file for complete records; its name ends in ``.jsonl``.
            manifest: what makes the records now; see :meth:`Manifest.create`.
            overwrite: remove what was there before.

        Raises:
            UserError: the settings are not those of the records there, or another run writes them, or a file
                there is not Weft's, or the folder cannot be written.
            RunError: the disk is full or fails.
        """
        check_name(path, kind.name)
        self.kind = kind
        self._paths = {True: path, False: rejected_path(path)}
        self._files: dict[bool, int] = {}
        self._done: dict[int, int] = {}
        self._synced, self._torn = time.monotonic(), False
        self.counts: Counter[S] = Counter()
        """Records on disk by status, those of earlier runs included."""
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open(True)
                lock(self._files[True], path)
                if overwrite:
                    self._check_ours()
                    os.ftruncate(self._files[True], 0)
                    self._paths[False].unlink(missing_ok=True)
                    manifest_path(path).unlink(missing_ok=True)
                self._begin(manifest)
                self._repair()
                self._open(False)
                self._before = self.counts.copy()
                self._write_manifest()
        except BaseException:
            self._close_files()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except WeftError:
            if error is None:
                raise

    @property
    def complete(self) -> int:
        """Complete records on disk."""
        return self.counts[self.kind.complete]

    @property
    def rejected(self) -> int:
        """Rejected records on disk."""
        return self.counts.total() - self.complete

    def is_finished(self, id: str, made_from: Any, where: str = "") -> bool:
        """Whether the record is finished: complete, or rejected and not to be tried again.

        Args:
            made_from: see :attr:`Kind.made_from`.
            where: the place of what it would be made from now, for the message.

        Raises:
            UserError: it was made from something else.
        """
        content = self._done.get(_hash64(id))
        if content is not None and content != _hash64(made_from):
            source = self.kind.source
            raise UserError(
                f"the {self.kind.name} {id} in {self._paths[True]} was made from another {source} of the "
                "same id",
                where=where,
                remedy=f"choose another output, take the old {source}s, or --overwrite to start again",
            )
        return content is not None

    def append(self, record: R) -> None:
        """Write one finished record; it survives the process once this returns.

        Raises:
            ValueError: a record of this id is finished already.
            WeftError: the disk is full or fails, or may no longer be written; nothing of the record is left.
        """
        id, status = self.kind.id(record), self.kind.status(record)
        key = _hash64(id)
        if key in self._done:
            raise ValueError(f"the {self.kind.name} {id} is finished already")
        complete = status is self.kind.complete
        line = _line(self.kind.to_row(record))
        with writing(self._paths[complete]):
            self._write(self._files[complete], line)
            self.counts[status] += 1
            if status is not self.kind.again:
                self._done[key] = _hash64(self.kind.made_from(record))
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                self._sync()

    def close(self) -> None:
        """End the run: sync the files, write its counts to the manifest, let the lock go."""
        if not self._files:
            return
        wrote = self.counts - self._before
        complete = wrote[self.kind.complete]
        run = replace(
            self.manifest.runs[-1], ended=utc_now(), complete=complete, rejected=wrote.total() - complete
        )
        self.manifest = replace(self.manifest, runs=(*self.manifest.runs[:-1], run))
        try:
            with writing(self._paths[True]):
                self._sync()
                self._write_manifest()
        finally:
            self._close_files()

    def _open(self, complete: bool) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._files[complete] = os.open(self._paths[complete], flags, 0o644)

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _check_ours(self) -> None:
        """Files are only overwritten if Weft wrote such records: then their first lines are some, or torn."""
        for path in self._paths.values():
            if not path.exists():
                continue
            with path.open("rb") as file:
                line = file.readline()
            if not line or (not line.endswith(b"\n") and manifest_path(self._paths[True]).exists()):
                continue
            try:
                self.kind.from_row(json.loads(line))
            except (ValueError, AttributeError, RecursionError) as error:
                raise UserError(
                    f"this file does not hold what `{self.kind.maker}` writes; it is not overwritten",
                    where=str(path),
                    remedy="choose another output",
                ) from error

    def _begin(self, now: Manifest) -> None:
        """Take over the manifest that is there, if its settings are those of now, and add this run."""
        path = self._paths[True]
        before = read_manifest(path)
        if before is None:
            if any(file.exists() and file.stat().st_size for file in self._paths.values()):
                raise UserError(
                    f"the file exists, but not {manifest_path(path).name}, which says what made it",
                    where=str(path),
                    remedy="choose another output, or --overwrite to start again",
                )
            before = replace(now, runs=())
        if changed := differences(before.settings, now.settings):
            raise UserError(
                f"the {self.kind.name}s there were made with other settings:\n  " + "\n  ".join(changed),
                where=str(path),
                remedy="choose another output, take the old settings, or --overwrite to start again",
            )
        other = {name: value for name, value in now.info.items() if before.info.get(name) != value}
        run = Run(started=utc_now(), weft=now.weft, info=other or None)
        self.manifest = replace(before, runs=(*before.runs, run))

    def _write_manifest(self) -> None:
        made = asdict(self.manifest)
        try:
            text = json.dumps(made, ensure_ascii=False, indent=2).encode()
        except UnicodeEncodeError:  # a file's name that is no UTF-8; JSON's own escapes can hold it
            text = json.dumps(made, indent=2).encode()
        replace_file(manifest_path(self._paths[True]), [text + b"\n"])

    def _repair(self) -> None:
        """Cut torn ends off, take out what is to be tried again, and learn what is done."""
        notes: list[str] = []
        kind = self.kind
        for complete, path in self._paths.items():
            if not path.exists():
                continue
            dropped: set[int] = set()
            for number, record in _whole_lines(kind, path, notes.append):
                id, status = kind.id(record), kind.status(record)
                key = _hash64(id)
                again = status is kind.again or key in self._done
                if not complete and status is not kind.complete and again:
                    dropped.add(number)
                    continue
                if key in self._done or complete is not (status is kind.complete):
                    raise UserError(
                        f"the {kind.name} {id} ({status}) does not belong here, or not twice",
                        where=f"{path}:{number}",
                        remedy="remove this line",
                    )
                self._done[key] = _hash64(kind.made_from(record))
                self.counts[status] += 1
            if dropped:
                with path.open("rb") as file:
                    replace_file(path, (line for number, line in enumerate(file, 1) if number not in dropped))
                notes.append(f"{path}: {len(dropped)} taken out, to be tried again or complete by now")
        self.repaired = tuple(notes)

    def _write(self, file: int, line: bytes) -> None:
        if self._torn:
            raise OSError(errno.EIO, "an earlier write failed and could not be taken back")
        end = os.lseek(file, 0, os.SEEK_END)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except BaseException:
            try:
                os.ftruncate(file, end)
            except OSError:
                self._torn = True
            raise

    def _sync(self) -> None:
        for file in self._files.values():
            os.fsync(file)
        self._synced = time.monotonic()


def _line(row: Mapping[str, Any]) -> bytes:
    """The row as one line of JSON, line feed included."""
    try:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # half a character; JSON's own escapes can hold it
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _whole_lines(kind: Kind[R, S], path: Path, note: Callable[[str], None]) -> Iterator[tuple[int, R]]:
    """The records of a file with their line numbers; a torn end is cut off, and ``note`` is told."""
    start, bad = 0, -1
    with path.open("r+b") as file:
        for number, line in enumerate(file, 1):
            torn = not line.endswith(b"\n")
            if bad >= 0 and not torn:
                raise kind.bad_row(f"{path}:{number - 1}", "not valid JSON")
            if torn:
                break
            try:
                row = json.loads(line)
            except ValueError:
                bad = start
            else:
                yield number, kind.read(row, f"{path}:{number}")
            start += len(line)
        end = bad if bad >= 0 else start
        size = file.seek(0, os.SEEK_END)
        if end < size:
            file.truncate(end)
            note(f"{path}: a torn last line of {size - end} bytes is cut off")
