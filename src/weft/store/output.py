"""An output before anything is written to it: its names, whether it may be written, and its lock.

This module does not know what the files hold.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from weft.errors import UserError
from weft.store.files import writing
from weft.store.manifest import manifest_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def rejected_path(path: Path) -> Path:
    """Where the rejected records of the output ``path`` are."""
    return path.with_suffix(".rejected.jsonl")


def check_output(path: Path, name: str = "trace") -> None:
    """Find out, without writing anything, what would keep a run from writing to ``path``; cheap, for use
    before models are loaded.

    Args:
        name: what one record is called.

    Raises:
        UserError: it is no ``.jsonl`` file, or cannot be written, or another run writes to it.
    """
    check_name(path, name)
    with writing(path):
        if path.exists():
            file = os.open(path, os.O_RDWR | os.O_APPEND)
            try:
                lock(file, path)
            finally:
                os.close(file)
            return
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_source(output: Path, source: Path, holds: str) -> None:
    """Find out whether a run that reads ``source`` may write to ``output``: no file may be both.

    Raises:
        UserError: it may not.
    """
    for path in (output, rejected_path(output), manifest_path(output)):
        if path.exists() and source.exists() and path.samefile(source):
            raise UserError(
                f"the output is the file of the {holds}"
                if path == output
                else f"the output would write to the file of the {holds}, {source.name}",
                where=str(output),
                remedy="choose another output",
            )


def check_name(path: Path, name: str) -> None:
    """Whether an output of records called ``name`` may have this name.

    Raises:
        UserError: it may not.
    """
    if path.suffix != ".jsonl":
        raise UserError(
            "not a .jsonl file", where=str(path), remedy=f"call the output {path.with_suffix('.jsonl').name}"
        )
    if path.name.endswith(".rejected.jsonl"):
        raise UserError(
            f"the name of another output's rejected {name}s", where=str(path), remedy="choose another name"
        )


def lock(file: int, path: Path) -> None:
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
