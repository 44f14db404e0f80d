"""Writing files: what the system says in terms of what to do, and replacement at once.

This module does not know traces or manifests.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weft.errors import RunError, UserError, WeftError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise what the system says about writing as :func:`write_error`."""
    try:
        yield
    except OSError as error:
        raise write_error(error, Path(error.filename or path)) from error


def write_error(error: OSError, path: Path) -> WeftError:
    """What the system said about writing, in terms of what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up",
            where=str(path),
            remedy="free some space and run the same command again; what was finished is kept",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        why = "a read-only file system" if error.errno == errno.EROFS else "permission denied"
        return UserError(
            f"cannot write: {why}",
            where=str(path),
            remedy="choose an output in a folder that you may write to",
        )
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return UserError(f"cannot write: {error.strerror}", where=str(path), remedy="choose another output")
    return RunError(
        f"cannot write: {error.strerror or error}",
        where=str(path),
        remedy="check the disk and run the same command again; what was finished is kept",
    )


def file_digest(path: Path) -> str:
    """SHA-256 of the file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Put a new file in place of ``path`` at once: a killed process leaves the old one or the new one."""
    new = path.with_name(path.name + ".tmp")
    try:
        with new.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
