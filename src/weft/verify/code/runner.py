"""Runs one program to its end, whatever it does, and says how it ended and what it printed.

The program runs below :mod:`weft.verify.code.launcher`, a process of its own that builds the wall, sets the
limits and ends all that the program left. Here is the side that talks to it: what the program prints is read
up to a bound; beyond it, past the deadline, or when the caller is cancelled, the program dies.

Invariants: :meth:`Runner.run` never raises for what a program does; when it has returned or raised, nothing
that the program started is alive. Without namespaces a program of the same user can kill the launcher first;
its process group is killed then, and no more can be.

The bound on memory is one for each process, so all of a program's together may have ``processes`` times as
much, and what it keeps in files without a name comes on top. Linux is told to kill it first if memory ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from weft.verify.code.enclosure import Enclosure, Isolation, own_python

_GRACE = 10.0
"""Seconds that the launcher has to build the wall, and again to end everything after the deadline."""
_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of a program may use."""

    wall_seconds: float = 20.0
    cpu_seconds: int = 10
    """Of each process."""
    memory_bytes: int = 1 << 30
    """Address space of each process."""
    processes: int = 16
    """Processes and threads at a time."""
    open_files: int = 64
    file_bytes: int = 16 << 20
    """Of each file that is written."""
    disk_bytes: int = 64 << 20
    """Of all files; has no effect without a wall."""
    disk_files: int = 4096
    """Has no effect without a wall or in bubblewrap."""
    output_bytes: int = 1 << 20
    """Of what is printed, on each of the two streams."""
    source_bytes: int = 1 << 18

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"the limit {name} is {value}, not above zero")


class Ended(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    CPU = "cpu"
    """The processor time ran out."""
    WALL = "wall"
    """The deadline passed."""
    OUTPUT = "output"
    """It printed more than is read."""
    NOT_STARTED = "not_started"
    """Weft or the machine failed to run it; nothing is known of the program."""


@dataclass(frozen=True, slots=True)
class Job:
    """A program to be run once."""

    command: tuple[str, ...]
    files: Mapping[str, str]
    """Name in the program's folder → text."""
    stdin: bytes = b""


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished run."""

    ended: Ended
    code: int | None = None
    """Exit code, or the signal's number if it was signalled."""
    stdout: bytes = b""
    stderr: bytes = b""
    said: str = ""
    """Why it was not started."""


class Runner:
    """Runs programs within one enclosure, so many at a time."""

    def __init__(self, enclosure: Enclosure, limits: Limits, *, at_once: int | None = None) -> None:
        """
        Args:
            at_once: programs that run at the same time; one for each processor by default.
        """
        self.enclosure, self.limits = enclosure, limits
        self._places = asyncio.Semaphore(at_once or os.cpu_count() or 1)
        self._source = _LAUNCHER.read_text(encoding="utf-8")

    async def run(self, job: Job) -> Ran:
        """Run a program; its end, whatever it is."""
        async with self._places:
            if self.enclosure.isolation is not Isolation.NONE:
                return await self._launch(job, "/tmp")
            with tempfile.TemporaryDirectory(prefix="weft-", ignore_cleanup_errors=True) as folder:
                return await self._launch(job, folder)

    async def _launch(self, job: Job, folder: str) -> Ran:
        python = [own_python(), "-I", "-S", "-B", "-c"]
        listening = _Listening(self.limits.output_bytes)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            try:
                transport, _ = await asyncio.get_running_loop().subprocess_exec(
                    lambda: listening,
                    *python,
                    self._source,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                return Ran(Ended.NOT_STARTED, said=f"no launcher: {error}")
            theirs.close()
            try:
                return await self._follow(job, transport, listening, ours, self._request(job, folder, python))
            finally:
                ours.close()  # The launcher reads the end of this as the order to end everything.
                await asyncio.shield(_end(transport, listening))

    def _request(self, job: Job, folder: str, python: Sequence[str]) -> bytes:
        limits = self.limits
        request = {
            **self.enclosure.request(folder, limits.disk_bytes, limits.disk_files),
            **asdict(limits),
            "command": job.command,
            "files": dict(job.files),
            "python": python,
            "source": self._source if self.enclosure.isolation is Isolation.BUBBLEWRAP else "",
        }
        return json.dumps(request).encode()

    async def _follow(
        self,
        job: Job,
        transport: asyncio.SubprocessTransport,
        listening: _Listening,
        control: socket.socket,
        request: bytes,
    ) -> Ran:
        """Send the request and the standard input; wait for the report, too much output, or the deadline."""
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(job.stdin)
        stdin.write_eof()
        talking = asyncio.create_task(_talk(control, request))
        too_much = asyncio.create_task(listening.too_much.wait())
        try:
            async with asyncio.timeout(self.limits.wall_seconds + 2 * _GRACE):
                await asyncio.wait((talking, too_much), return_when=asyncio.FIRST_COMPLETED)
                if not too_much.done():
                    await listening.finished.wait()
        except TimeoutError:
            return listening.ran(Ended.NOT_STARTED, said="the launcher did not come to an end")
        finally:
            for task in (talking, too_much):
                task.cancel()
            results = await asyncio.gather(talking, too_much, return_exceptions=True)
        if listening.too_much.is_set():
            return listening.ran(Ended.OUTPUT)
        report = results[0]
        if not isinstance(report, dict):
            return listening.ran(Ended.NOT_STARTED, said=f"the launcher gave no report: {report!r}")
        return self._understood(report, listening)

    def _understood(self, report: Mapping[str, str], listening: _Listening) -> Ran:
        """What the launcher's report means."""
        lines = [line.partition(" ") for line in report["told"].splitlines()]
        told = {first: rest for first, _, rest in lines}
        if report["why"] == "not started" or "trouble" in told:
            return listening.ran(Ended.NOT_STARTED, said=told.get("trouble", report["told"]))
        if "started" not in told:
            said = listening.streams[2].decode("utf-8", "replace").strip() or "the wall could not be built"
            return listening.ran(Ended.NOT_STARTED, said=said)
        if report["why"] == "wall":
            return listening.ran(Ended.WALL)
        if "ended" not in told:
            return listening.ran(Ended.NOT_STARTED, said="the process that waits for the program was killed")
        word, seconds = told["ended"].split()
        code = int(word)
        if code > 128 and self.enclosure.isolation is Isolation.BUBBLEWRAP:
            code = 128 - code  # What bwrap says of a program that a signal ended.
        killed = code == -signal.SIGKILL and float(seconds) >= self.limits.cpu_seconds
        if killed or code == -signal.SIGXCPU:
            return listening.ran(Ended.CPU)
        return listening.ran(Ended.SIGNALLED if code < 0 else Ended.EXITED, abs(code))


class _Listening(asyncio.SubprocessProtocol):
    """What the launcher and the program print, up to a bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.streams = {1: bytearray(), 2: bytearray()}
        self.too_much = asyncio.Event()
        self.finished = asyncio.Event()
        """The launcher is dead and its streams are closed."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        stream = self.streams[fd]
        room = self._most - len(stream)
        stream += data[:room]
        if len(data) > room:
            self.too_much.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finished.set()

    def ran(self, ended: Ended, code: int | None = None, said: str = "") -> Ran:
        return Ran(ended, code, bytes(self.streams[1]), bytes(self.streams[2]), said)


async def _talk(control: socket.socket, request: bytes) -> dict[str, str]:
    """Send the request; the launcher's report.

    Raises:
        OSError, ValueError: the launcher died first.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(control, len(request).to_bytes(8, "big") + request)
    text = b""
    while some := await loop.sock_recv(control, 65536):
        text += some
    report: dict[str, str] = json.loads(text)
    return report


async def _end(transport: asyncio.SubprocessTransport, listening: _Listening) -> None:
    """Wait for the launcher, which has been told to end; kill it if it does not."""
    try:
        async with asyncio.timeout(_GRACE):
            await listening.finished.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
    transport.close()
