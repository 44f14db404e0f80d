"""Processes that can be killed, for work that may hang, die or eat memory.

A pool runs one function, call by call, in processes of its own: each is a fresh interpreter (nothing is
forked from a process that has threads), has a limit on its memory, and is killed if a call takes too long.
A worker that was killed, that died or that ran out of memory is replaced at the next call.

Arguments and results are JSON values, results too: what a worker sends is never run here.

Workers end with the process that started them, also if that one is killed: an idle worker reads the end of
its input; for one at work the kernel is told (Linux), and its processor time is limited to that of one call.

It does not know what it runs. It keeps no file and no network from a worker: the function is trusted, what it
is given is not. Nor does it bound processes that the function starts: killing a worker kills those that
stayed in its process group, and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import math
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from weft.errors import RunError
from weft.verify.base import Reason

_LENGTH = 8
"""Bytes that give a message's length."""
_MOST_REPLY = 1_000_000
"""Bytes of the longest result."""
_MOST_CALLS = 1000
"""Calls after which a worker is replaced, since caches grow."""
_START_SECONDS = 120.0
_SERVE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from weft.verify import workers as w; w.serve()"
)
_PR_SET_PDEATHSIG = 1
_ROOM = 64 << 20
"""Bytes of address space that a call needs at least, beyond what the worker has taken when it is prepared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call."""

    value: object = None
    """What the function returned, as JSON gives it back; ``None`` if it did not."""
    reason: Reason | None = None
    """Why it did not return: ``timeout``, ``memory``, ``crashed``, ``output_limit``, or ``verifier_error`` if
    it raised; ``None`` if it did."""
    said: str = ""


class WorkerPool:
    """Runs a function in other processes. Bound to the event loop of its first call."""

    def __init__(
        self,
        function: Callable[..., object],
        *,
        prepare: Callable[[], object] | None = None,
        workers: int = 1,
        seconds: float = 10.0,
        memory_bytes: int = 2 << 30,
    ) -> None:
        """No process is started yet.

        Args:
            function: of a module that can be imported; takes and returns JSON values.
            prepare: is called once in each worker, before time and memory are limited: for slow imports.
            workers: calls at a time.
            seconds: of one call, on the clock.
            memory_bytes: of address space of one worker.
        """
        self._setup = {
            "function": _named(function),
            "prepare": _named(prepare) if prepare else None,
            "seconds": seconds,
            "memory_bytes": memory_bytes,
        }
        self._seconds = seconds
        self._slots: asyncio.Queue[_Worker | None] = asyncio.Queue()
        for _ in range(workers):
            self._slots.put_nowait(None)
        self._started: set[_Worker] = set()
        self._closed = False

    async def run(self, *arguments: object) -> Outcome:
        """What the function makes of these JSON values. Calls wait for a worker in turn.

        Raises:
            RunError: no worker can be started, or the pool is closed.
        """
        worker = await self._slots.get()
        kept: _Worker | None = None
        try:
            if self._closed:
                raise RunError("the workers were told to end", where="verifier")
            worker = worker or await self._start()
            outcome = await worker.ask(arguments, self._seconds)
            if worker.is_fresh and not self._closed and outcome.reason in (None, Reason.VERIFIER_ERROR):
                kept = worker
        finally:
            if worker is not None and kept is None:
                worker.kill()
            self._slots.put_nowait(kept)
        if kept is None:
            await self._reap(worker)
        return outcome

    async def close(self) -> None:
        """Kill all workers and wait until they are gone. Idempotent. Calls under way end as crashed."""
        self._closed = True
        for worker in tuple(self._started):
            worker.kill()
        for worker in tuple(self._started):
            await self._reap(worker)

    async def _start(self) -> _Worker:
        worker = _Worker(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-c",
                _SERVE,
                json.dumps([str(folder) for folder in sys.path]),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,  # for a group to kill; and Ctrl-C is the pool's business
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
        )
        self._started.add(worker)
        try:
            outcome = await worker.ask(self._setup, _START_SECONDS)
        except BaseException:
            worker.kill()
            raise
        if outcome.reason is not None:
            worker.kill()
            await self._reap(worker)
            raise RunError(
                f"a worker process cannot start: {outcome.said or outcome.reason}",
                where="verifier",
                remedy="see that the verifier's packages are installed, that memory is free, and that its "
                "limit (--memory-bytes) leaves room",
            )
        return worker

    async def _reap(self, worker: _Worker) -> None:
        await worker.gone()
        self._started.discard(worker)


class _Worker:
    """One process, seen from outside."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._calls = 0

    @property
    def is_fresh(self) -> bool:
        return self._calls < _MOST_CALLS

    async def ask(self, message: object, seconds: float) -> Outcome:
        """The answer, or why there is none; in the latter case the worker is of no use any more."""
        self._calls += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(message)
        except TimeoutError:
            return Outcome(reason=Reason.TIMEOUT, said=f"it took more than {seconds:g} seconds")
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self.gone() if self._process.returncode is None else self._process.returncode
            ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return Outcome(reason=Reason.CRASHED, said=f"the worker ended: {ended}")

    async def _exchange(self, message: object) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(_framed(message))
        await self._process.stdin.drain()
        length = int.from_bytes(await self._process.stdout.readexactly(_LENGTH))
        if length > _MOST_REPLY:
            return Outcome(reason=Reason.OUTPUT_LIMIT, said=f"a result of {length} bytes")
        try:
            reply = json.loads(await self._process.stdout.readexactly(length))
            reason = reply["reason"]
            return Outcome(reply["value"], Reason(reason) if reason else None, str(reply["said"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return Outcome(reason=Reason.CRASHED, said="the worker sent something unreadable")

    def kill(self) -> None:
        """It and what stayed in its group, at once. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        # Until it was waited for, its id belongs to nobody else.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """Kill it and wait for it. Its exit status, negative for a signal."""
        self.kill()
        assert self._process.stdout is not None
        # It counts as gone when its output was read to the end. A call that still reads does that itself.
        with contextlib.suppress(RuntimeError):
            while await self._process.stdout.read(_MOST_REPLY):
                pass
        return await self._process.wait()


# -- in the worker -----------------------------------------------------------------------------------


def serve() -> None:
    """Answer calls until there are no more. For a pool's own processes only."""
    requests, replies = _taken_pipes()
    _end_with_parent()
    try:
        setup = _receive(requests)
        assert isinstance(setup, dict)
        function = _found(setup["function"])
        if setup["prepare"]:
            _found(setup["prepare"])()
    except Exception as error:
        _send(replies, Outcome(reason=Reason.VERIFIER_ERROR, said=_told(error)))
        return
    taken, most = _address_space(), setup["memory_bytes"]
    if taken is not None and taken + _ROOM > most:
        said = f"it may have {most:,} bytes of memory and needs {taken + _ROOM:,}"
        _send(replies, Outcome(reason=Reason.MEMORY, said=said))
        return
    _limit_memory(most)
    _send(replies, Outcome())
    while (arguments := _receive(requests)) is not None:
        _limit_processor(setup["seconds"])
        _send(replies, _called(function, arguments))


def _called(function: Callable[..., object], arguments: object) -> Outcome:
    assert isinstance(arguments, list)
    try:
        value = function(*arguments)
        json.dumps(value)
    except MemoryError:
        return Outcome(reason=Reason.MEMORY, said="memory ran out")
    except BaseException as error:  # a call that asks the interpreter to exit is a failed call
        return Outcome(reason=Reason.VERIFIER_ERROR, said=_told(error))
    return Outcome(value)


def _taken_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for this module alone: what the function prints goes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, replies


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent's thread ends."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)


def _address_space() -> int | None:
    """Bytes that this process has mapped; ``None`` where the system does not say."""
    import resource

    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


def _limit_memory(most: int) -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # a lower limit holds already, or the system has none
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor(seconds: float) -> None:
    """Let the kernel end a worker that nobody is left to kill. The pool's clock ends others before that."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + seconds) + 2
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def _receive(requests: BinaryIO) -> object | None:
    head = requests.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    received: object = json.loads(requests.read(int.from_bytes(head)))
    return received


def _send(replies: BinaryIO, outcome: Outcome) -> None:
    said = outcome.said[:1000]
    replies.write(_framed({"value": outcome.value, "reason": outcome.reason, "said": said}))
    replies.flush()


def _framed(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(_LENGTH) + body


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an error that cannot be printed
        return type(error).__name__


def _named(function: Callable[..., object]) -> tuple[str, str]:
    name = (function.__module__, function.__qualname__)
    if name[0] == "__main__" or _found(name) is not function:
        raise ValueError(f"{'.'.join(name)} cannot be imported by another process")
    return name


def _found(name: tuple[str, str]) -> Callable[..., object]:
    found: object = importlib.import_module(name[0])
    for part in name[1].split("."):
        found = getattr(found, part)
    assert callable(found)
    return found
