"""A wall that holds on this machine: Weft's own namespaces, else bubblewrap, else a refusal.

A wall is believed only after a program inside it has tried, and failed, to see what is in the home folder
and in the system's ``/tmp``, to write to the system, to reach a socket that listens, to see Weft's process,
and to make a user namespace. Bubblewrap comes second, for systems that let it alone make namespaces: it
bounds neither shared memory nor the number of files, and root stays root outside, so root does not use it.

It does not try what only a hole in the kernel would allow.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from weft.errors import UserError
from weft.verify.code.enclosure import Enclosure, Isolation, enclosure, own_python
from weft.verify.code.runner import Job, Limits, Ran, Runner

PYTHON = (own_python(), "-I", "-S", "-B", "-X", "utf8", "{file}")
"""How Weft's own Python runs a program: with the standard library and nothing else."""
_PROBE = Path(__file__).with_name("probe.py")
_NAMES = 64
"""Entries of the home folder that the probe looks for, at most."""


async def open_sandbox(
    *, unsandboxed: bool = False, readable: Sequence[Path] = (), limits: Limits | None = None
) -> Enclosure:
    """The wall that programs run behind.

    Args:
        unsandboxed: run programs with limits only if no wall holds here.
        readable: further files and folders that programs may read, as far as everybody may.
        limits: the limits that programs will have; a program that does nothing must come through with them.

    Raises:
        UserError: no wall holds and ``unsandboxed`` is not set, or a path in ``readable`` does not exist.
    """
    for path in readable:
        if not path.exists():
            raise UserError("there is no such path", where=str(path), remedy="name what programs may read")
    tried = []
    for candidate in _candidates(readable):
        trouble = await probe(candidate, limits or Limits())
        if not trouble:
            return candidate
        tried.append(f"{candidate.isolation}: {trouble}")
    if unsandboxed:
        return enclosure(Isolation.NONE)
    raise UserError(
        "programs cannot be kept apart from this machine: " + "; ".join(tried),
        where="verifier code",
        expected="a kernel that lets this user make namespaces, or bubblewrap",
        remedy="allow user namespaces (in a container, an option of what starts it), or install bubblewrap; "
        "to run the programs of a model with all that this user may do, say so: unsandboxed",
    )


def _candidates(readable: Sequence[Path]) -> Iterator[Enclosure]:
    yield enclosure(Isolation.NAMESPACES, readable=readable)
    bubblewrap = shutil.which("bwrap")
    if bubblewrap and os.getuid():
        yield enclosure(Isolation.BUBBLEWRAP, readable=readable, bubblewrap=bubblewrap)


async def probe(candidate: Enclosure, limits: Limits) -> str:
    """What is wrong with a wall; empty if it holds."""
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="weft-probe-") as folder, socket.socket() as listening:
        secret = Path(folder, "secret")
        secret.write_text(word, encoding="utf-8")
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        question = {
            "paths": [str(secret), *_hidden(candidate)],
            "address": listening.getsockname(),
            "parent": os.getpid(),
            "word": word,
        }
        # Neither a busy machine nor what the probe has to say must look like a wall that fails.
        roomy = replace(
            limits,
            wall_seconds=max(limits.wall_seconds, 60.0),
            cpu_seconds=max(limits.cpu_seconds, 10),
            output_bytes=max(limits.output_bytes, 1 << 20),
        )
        runner = Runner(candidate, roomy)
        command = tuple(part.replace("{file}", "probe.py") for part in PYTHON)
        files = {"probe.py": _PROBE.read_text(encoding="utf-8")}
        ran = await runner.run(Job(command, files, json.dumps(question).encode()))
    return _trouble(ran, word)


def _trouble(ran: Ran, word: str) -> str:
    try:
        answer = json.loads(ran.stdout)
        found = answer["found"] if answer["word"] == word else ["gave a wrong word"]
    except (ValueError, KeyError, TypeError):
        last = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return ran.said or f"a program could not run ({ran.ended}, {ran.code}) {last}".rstrip()
    return f"a program inside {', '.join(found[:5])}" if found else ""


def _hidden(candidate: Enclosure) -> list[str]:
    """Entries of the home folder that no path which is let through explains."""
    try:
        home = Path.home().resolve()
        entries = sorted(str(entry) for entry in home.iterdir())
    except (OSError, RuntimeError):
        return []
    if home == Path("/"):
        return []

    def explained(entry: str) -> bool:
        return any(f"{path}/".startswith(f"{entry}/") or f"{entry}/".startswith(f"{path}/") for path in shown)

    shown = (*candidate.readable, "/tmp", "/proc", "/dev", "/etc")
    return [entry for entry in entries if not explained(entry)][:_NAMES]
