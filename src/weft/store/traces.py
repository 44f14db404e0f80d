"""Traces on disk: two append-only JSONL files and the manifest that says what made them.

::

    traces.jsonl             complete traces
    traces.rejected.jsonl    all others, with the reason and what had been written
    traces.manifest.json     settings, versions, machine, runs

Invariants
    - A trace is one line, written by one ``write`` before :meth:`TraceStore.append` returns: a killed process
      loses none. Files are synced to the medium at least every :data:`SYNC_SECONDS` while traces arrive, and
      at the end; a power cut loses no more than that, and the next run makes those traces again.
    - After opening, each file is whole lines, no id is twice, and no engine error is left in them.
    - A write that fails half-way is taken back, so a full disk leaves no torn line.
    - Settings under one output name never change. What differs is listed, and nothing is touched.
    - One run at a time: ``traces.jsonl`` is locked while a store is open (not on Windows, nor on file systems
      without locks).

Memory: about 110 bytes per finished trace (64-bit digests of its id and of its prompt).

This module does not know engines or strategies, nor what the settings mean. A store is used by one thread.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from weft.errors import UserError, WeftError
from weft.records import Prompt, Status, Trace
from weft.store.files import replace_file, writing
from weft.store.manifest import Manifest, Run, differences, manifest_path, read_manifest, utc_now

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SYNC_SECONDS = 1.0
"""Longest time between two syncs to the medium while traces arrive.

A killed process loses nothing even without them; one per trace was measured at 40 times the cost of writing.
"""


def rejected_path(path: Path) -> Path:
    """Where the rejected traces of the output ``path`` are."""
    return path.with_suffix(".rejected.jsonl")


def _hash64(value: Any) -> int:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _content_hash(prompt: Prompt) -> int:
    """Over all of a prompt that its trace's row repeats, so that a resumed run writes equal rows."""
    return _hash64([[message.to_dict() for message in prompt.messages], prompt.answer, prompt.extra])


def _bad_row(path: Path, number: int, error: Exception) -> UserError:
    broken = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
    said = "not valid JSON" if broken else str(error)
    return UserError(
        said, where=f"{path}:{number}", expected="a trace that Weft wrote", remedy="remove this line"
    )


def read_traces(path: Path) -> Iterator[Trace]:
    """The traces of a file, streamed, in the order in which they were finished.

    Raises:
        UserError: there is no such file, or a line is no trace of this version, or the last line is torn.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            expected="traces, as `weft synth` writes them",
        ) from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise UserError(
                    "the last line is torn: the run that wrote it was killed or still writes",
                    where=f"{path}:{number}",
                    remedy="run the command that wrote it once more; it repairs the file and goes on",
                )
            try:
                yield Trace.from_row(json.loads(line))
            except (ValueError, AttributeError) as error:
                raise _bad_row(path, number, error) from error


def check_output(path: Path) -> None:
    """Find out, without writing anything, what would keep a run from writing to ``path``; cheap, for use
    before models are loaded.

    Raises:
        UserError: it is no ``.jsonl`` file, or cannot be written, or another run writes to it.
    """
    _check_name(path)
    with writing(path):
        if path.exists():
            file = os.open(path, os.O_RDWR | os.O_APPEND)
            try:
                _lock(file, path)
            finally:
                os.close(file)
            return
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _check_name(path: Path) -> None:
    if path.suffix != ".jsonl":
        raise UserError(
            "not a .jsonl file", where=str(path), remedy=f"call the output {path.with_suffix('.jsonl').name}"
        )
    if path.name.endswith(".rejected.jsonl"):
        raise UserError(
            "the name of another output's rejected traces", where=str(path), remedy="choose another name"
        )


def _check_ours(path: Path) -> None:
    """A file is only overwritten if Weft wrote it: it has a manifest, or its first line is a trace."""
    if manifest_path(path).exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        try:
            Trace.from_row(json.loads(file.readline()))
        except (ValueError, AttributeError) as error:
            raise UserError(
                "this file is not one that Weft wrote; it is not overwritten",
                where=str(path),
                remedy="choose another output",
            ) from error


def _lock(file: int, path: Path) -> None:
    """Lock an open file until it is closed; without effect where there are no locks."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            "another weft run is writing to this output",
            where=str(path),
            remedy="wait until it has ended or end it (and what it started), or choose another output",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise


class TraceStore:
    """The traces of one output, open for one run. A context manager: leaving it ends the run."""

    manifest: Manifest
    """The one on disk: ``created`` and ``date`` are those of the first run."""
    repaired: tuple[str, ...] = ()
    """What opening cut off or took out, in words."""

    def __init__(self, path: Path, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Open or create an output, repair it, and begin a run.

        Args:
            path: the file for complete traces; its name ends in ``.jsonl``.
            manifest: what makes the traces now; see :meth:`Manifest.create`.
            overwrite: remove what was there before.

        Raises:
            UserError: the settings are not those of the traces there, or another run writes them, or a file
                there is not Weft's, or the folder cannot be written.
            RunError: the disk is full or fails.
        """
        _check_name(path)
        self._paths = {True: path, False: rejected_path(path)}
        self._files: dict[bool, int] = {}
        self._done: dict[int, int] = {}
        self._synced, self._torn = time.monotonic(), False
        self.counts: Counter[Status] = Counter()
        """Traces on disk by status, those of earlier runs included."""
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open(True)
                _lock(self._files[True], path)
                if overwrite:
                    _check_ours(path)
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
        """Complete traces on disk."""
        return self.counts[Status.COMPLETE]

    @property
    def rejected(self) -> int:
        """Rejected traces on disk."""
        return self.counts.total() - self.complete

    def is_done(self, trace_id: str, prompt: Prompt) -> bool:
        """Whether the trace is finished: complete, or rejected for another reason than an engine's failure.

        Raises:
            UserError: it was made from another prompt.
        """
        content = self._done.get(_hash64(trace_id))
        if content is not None and content != _content_hash(prompt):
            raise UserError(
                f"the trace {trace_id} in {self._paths[True]} was made from another prompt of the same id",
                where=prompt.where,
                remedy="choose another output, take the old prompts, or --overwrite to start again",
            )
        return content is not None

    def append(self, trace: Trace) -> None:
        """Write one finished trace; it survives the process once this returns.

        Raises:
            ValueError: a trace of this id is finished already.
            WeftError: the disk is full or fails, or may no longer be written; nothing of the trace is left.
        """
        key = _hash64(trace.id)
        if key in self._done:
            raise ValueError(f"the trace {trace.id} is finished already")
        complete = trace.status is Status.COMPLETE
        try:
            line = trace.to_line().encode()
        except UnicodeEncodeError:  # half a character; JSON's own escapes can hold it
            line = json.dumps(trace.to_row(), separators=(",", ":")).encode() + b"\n"
        with writing(self._paths[complete]):
            self._write(self._files[complete], line)
            self.counts[trace.status] += 1
            if trace.status is not Status.ENGINE_ERROR:
                self._done[key] = _content_hash(trace.prompt)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                self._sync()

    def close(self) -> None:
        """End the run: sync the files, write its counts to the manifest, let the lock go."""
        if not self._files:
            return
        wrote = self.counts - self._before
        complete = wrote[Status.COMPLETE]
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
                "the traces there were made with other settings:\n  " + "\n  ".join(changed),
                where=str(path),
                remedy="choose another output, take the old settings, or --overwrite to start again",
            )
        other = {name: value for name, value in now.info.items() if before.info.get(name) != value}
        run = Run(started=utc_now(), weft=now.weft, info=other or None)
        self.manifest = replace(before, runs=(*before.runs, run))

    def _write_manifest(self) -> None:
        text = json.dumps(asdict(self.manifest), ensure_ascii=False, indent=2) + "\n"
        replace_file(manifest_path(self._paths[True]), [text.encode()])

    def _repair(self) -> None:
        """Cut torn ends off, take out what is to be tried again, and learn what is done."""
        notes: list[str] = []
        for complete, path in self._paths.items():
            if not path.exists():
                continue
            dropped: set[int] = set()
            for number, trace in _whole_lines(path, notes.append):
                key = _hash64(trace.id)
                again = trace.status is Status.ENGINE_ERROR or key in self._done
                if not complete and trace.status is not Status.COMPLETE and again:
                    dropped.add(number)
                    continue
                if key in self._done or complete is not (trace.status is Status.COMPLETE):
                    raise UserError(
                        f"the trace {trace.id} ({trace.status}) does not belong here, or not twice",
                        where=f"{path}:{number}",
                        remedy="remove this line",
                    )
                self._done[key] = _content_hash(trace.prompt)
                self.counts[trace.status] += 1
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


def _whole_lines(path: Path, note: Callable[[str], None]) -> Iterator[tuple[int, Trace]]:
    """The traces of a file with their line numbers; a torn end is cut off, and ``note`` is told."""
    start, bad = 0, -1
    with path.open("r+b") as file:
        for number, line in enumerate(file, 1):
            torn = not line.endswith(b"\n")
            if bad >= 0 and not torn:
                raise _bad_row(path, number - 1, ValueError("not valid JSON"))
            if torn:
                break
            try:
                row = json.loads(line)
            except ValueError:
                bad = start
            else:
                try:
                    yield number, Trace.from_row(row)
                except (ValueError, AttributeError) as error:
                    raise _bad_row(path, number, error) from error
            start += len(line)
        end = bad if bad >= 0 else start
        size = file.seek(0, os.SEEK_END)
        if end < size:
            file.truncate(end)
            note(f"{path}: a torn last line of {size - end} bytes is cut off")
