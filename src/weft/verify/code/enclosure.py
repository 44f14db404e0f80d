"""What a program sees of the machine: which kind of wall stands around it, and what is let through.

Let through, read-only: the system's programs and libraries, the Python that runs Weft with its standard
library, and what the user adds. A program has a ``/tmp`` of its own and of bounded size, a fresh ``/proc``,
five harmless devices, and neither network, home, ``/etc``, environment nor other processes.

It only says so, as the request that :mod:`weft.verify.code.launcher` reads; whether it holds on this machine
is found out by :mod:`weft.verify.code.sandbox`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from weft.verify.code.launcher import NOBODY

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache")
_DEVICES = ("null", "zero", "full", "random", "urandom")

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
}
"""All of the program's environment but ``HOME`` and ``TMPDIR``, which are its folder."""


class Isolation(StrEnum):
    """The wall around a program."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    """Namespaces of the kernel that Weft's launcher makes itself."""
    NONE = "none"
    """Limits only: the program reads and writes what the user may, and reaches the network."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A wall and what is let through it."""

    isolation: Isolation
    readable: tuple[str, ...] = ()
    """Real paths, none below another."""
    links: tuple[tuple[str, str], ...] = ()
    """Symbolic links of the system's root and what they say."""
    bubblewrap: str = ""
    """Where ``bwrap`` is."""

    def request(self, folder: str, disk_bytes: int, disk_files: int) -> dict[str, object]:
        """The launcher's fields that say what the program sees; it runs in ``folder`` if there is no wall."""
        return {
            "mode": str(self.isolation),
            "readable": self.readable,
            "links": self.links,
            "bubblewrap": self._bubblewrap(disk_bytes),
            "folder": folder if self.isolation is Isolation.NONE else "/tmp",
            "disk_bytes": disk_bytes,
            "disk_files": disk_files,
            "environment": dict(ENVIRONMENT),
        }

    def _bubblewrap(self, disk_bytes: int) -> Sequence[str]:
        if self.isolation is not Isolation.BUBBLEWRAP:
            return []
        options = [
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--die-with-parent",
            "--new-session",
        ]
        options += ["--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL", "--clearenv"]
        options += ["--size", str(disk_bytes), "--tmpfs", "/tmp"]
        for path in self.readable:
            options += ["--ro-bind", path, path]
        for link, target in self.links:
            options += ["--symlink", target, link]
        for device in _DEVICES:
            options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        return [self.bubblewrap, *options, "--proc", "/proc", "--remount-ro", "/", "--chdir", "/tmp", "--"]


def own_python() -> str:
    """The Python that runs Weft, without its virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def enclosure(isolation: Isolation, *, readable: Iterable[Path] = (), bubblewrap: str = "") -> Enclosure:
    """What is let through on this machine; ``readable`` is added to it."""
    if isolation is Isolation.NONE:
        return Enclosure(isolation)
    links = tuple((path, str(Path(path).readlink())) for path in _SYSTEM if Path(path).is_symlink())
    wanted = [path for path in _SYSTEM if not Path(path).is_symlink()] + list(_SETTINGS)
    wanted += [sys.base_prefix, sys.base_exec_prefix, own_python(), *map(str, readable)]
    real = {os.path.realpath(path) for path in wanted if Path(path).exists()}
    outermost = sorted(path for path in real if not any(str(up) in real for up in Path(path).parents))
    return Enclosure(isolation, tuple(outermost), links, bubblewrap)
