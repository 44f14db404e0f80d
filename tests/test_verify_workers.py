"""The worker processes: whatever a call does, the pool answers, goes on, and leaves no process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import worker_calls
from weft.errors import RunError
from weft.verify.base import Reason
from weft.verify.workers import Outcome, WorkerPool

MEMORY = 1 << 28


def in_pool(use: Callable[[WorkerPool], Awaitable[Any]], *, seconds: float = 60.0, workers: int = 1) -> Any:
    async def used() -> Any:
        pool = WorkerPool(worker_calls.do, workers=workers, seconds=seconds, memory_bytes=MEMORY)
        try:
            return await use(pool)
        finally:
            await pool.close()

    return asyncio.run(used())


def test_values_go_there_and_back() -> None:
    values = [None, 1, -0.5, "é\ud800\x00\n", [1, [2]], {"a": None}, "x" * 100_000]

    async def use(pool: WorkerPool) -> object:
        return [(await pool.run("echo", value)).value for value in values]

    assert in_pool(use) == values


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("die", Reason.CRASHED),
        ("be killed", Reason.CRASHED),
        ("raise", Reason.VERIFIER_ERROR),
        ("raise the unprintable", Reason.VERIFIER_ERROR),
        ("exit", Reason.VERIFIER_ERROR),
        ("recurse", Reason.VERIFIER_ERROR),
        ("eat memory", Reason.MEMORY),
        ("eat memory slowly", Reason.MEMORY),
        ("answer at length", Reason.OUTPUT_LIMIT),
        ("answer an object", Reason.VERIFIER_ERROR),
    ],
)
def test_a_bad_call_has_a_reason_and_the_next_one_an_answer(what: str, reason: Reason) -> None:
    async def use(pool: WorkerPool) -> object:
        return await pool.run(what), await pool.run("echo", 7)

    bad, good = in_pool(use)
    assert bad.reason is reason and bad.said and bad.value is None
    assert good == Outcome(7)


@pytest.mark.parametrize("what", ["hang", "hang and ignore signals", "compute for ever"])
def test_a_call_that_does_not_end_is_ended(what: str) -> None:
    async def use(pool: WorkerPool) -> object:
        before = (await pool.run("pid")).value
        hung = await pool.run(what)
        return before, hung, (await pool.run("pid")).value

    before, hung, after = in_pool(use, seconds=2.0)
    assert hung == Outcome(reason=Reason.TIMEOUT, said="it took more than 2 seconds")
    assert before != after
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_what_a_call_prints_and_reads_does_not_disturb() -> None:
    async def use(pool: WorkerPool) -> object:
        return [await pool.run("print"), await pool.run("echo", "still here")]

    assert in_pool(use) == [Outcome(""), Outcome("still here")]


def test_calls_share_workers_and_no_call_is_mixed_up() -> None:
    async def use(pool: WorkerPool) -> object:
        pids = await asyncio.gather(*(pool.run("pid") for _ in range(20)))
        told = await asyncio.gather(*(pool.run("echo", number) for number in range(50)))
        return {one.value for one in pids}, [one.value for one in told]

    pids, told = in_pool(use, workers=2)
    assert 1 <= len(pids) <= 2
    assert told == list(range(50))


def test_one_bad_call_spoils_no_other() -> None:
    async def use(pool: WorkerPool) -> object:
        calls = [
            pool.run(*call) for call in (("echo", 1), ("die",), ("echo", 2), ("be killed",), ("echo", 3))
        ]
        return [outcome.value for outcome in await asyncio.gather(*calls)]

    assert in_pool(use, workers=2) == [1, None, 2, None, 3]


@pytest.mark.parametrize("by_child", [False, True])
def test_a_call_that_is_cancelled_takes_its_worker_and_its_children_along(
    tmp_path: Path, by_child: bool
) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)

    async def use() -> object:
        pool = WorkerPool(worker_calls.hold_by_child if by_child else worker_calls.hold, seconds=600.0)
        call = asyncio.create_task(pool.run(path) if by_child else pool.run(path, True))
        pipe = await asyncio.to_thread(os.open, path, os.O_RDONLY)
        assert os.read(pipe, 4) == b"held"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        ended = await asyncio.to_thread(ends, pipe)
        await pool.close()
        return ended

    assert asyncio.run(use())


def test_a_worker_that_nobody_is_left_to_kill_uses_little_time() -> None:
    code = "from weft.verify.workers import _limit_processor\n_limit_processor(0)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.parametrize("at_work", [True, False])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, at_work: bool) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    code = (
        "import asyncio, sys, worker_calls\n"
        "from weft.verify.workers import WorkerPool\n"
        "async def main():\n"
        "    await WorkerPool(worker_calls.hold, seconds=600).run(sys.argv[1], sys.argv[2] == 'True')\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, path, str(at_work)], cwd=Path(__file__).parent)
    pipe = os.open(path, os.O_RDONLY)
    assert os.read(pipe, 4) == b"held"
    parent.kill()
    parent.wait()
    assert ends(pipe)


def test_a_pool_that_cannot_start_says_why() -> None:
    async def use() -> None:
        pool = WorkerPool(worker_calls.echo, prepare=worker_calls.fail_to_prepare)
        try:
            for _ in range(2):
                with pytest.raises(RunError, match="ImportError: no such package") as refused:
                    await pool.run(1)
                assert refused.value.remedy
        finally:
            await pool.close()

    asyncio.run(use())


def test_each_worker_is_prepared_once() -> None:
    async def use() -> object:
        pool = WorkerPool(worker_calls.do, prepare=worker_calls.prepare)
        counts = [(await pool.run("prepared")).value for _ in range(3)]
        await pool.close()
        return counts

    assert asyncio.run(use()) == [1, 1, 1]


def test_a_closed_pool_refuses_and_closes_again() -> None:
    async def use() -> None:
        pool = WorkerPool(worker_calls.echo)
        assert (await pool.run(1)).value == 1
        await pool.close()
        await pool.close()
        with pytest.raises(RunError):
            await pool.run(1)

    asyncio.run(use())


def test_closing_ends_calls_under_way(tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)

    async def use() -> object:
        pool = WorkerPool(worker_calls.hold, seconds=600.0)
        call = asyncio.create_task(pool.run(path, True))
        pipe = await asyncio.to_thread(os.open, path, os.O_RDONLY)
        assert os.read(pipe, 4) == b"held"
        await pool.close()
        return (await call).reason, ends(pipe)

    assert asyncio.run(use()) == (Reason.CRASHED, True)


def test_a_function_that_no_other_process_can_import_is_refused() -> None:
    def inner() -> None: ...

    with pytest.raises((ValueError, AttributeError)):
        WorkerPool(inner)


def ends(pipe: int) -> bool:
    """Whether the last process that held the pipe's other end is gone, within a minute."""
    ready = select.select([pipe], [], [], 60.0)[0]
    try:
        return bool(ready) and os.read(pipe, 1) == b""
    finally:
        os.close(pipe)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what a process has mapped")
def test_a_limit_that_leaves_a_worker_no_room_is_said_at_once() -> None:
    # Else each call fails for want of memory, in whatever way its library has for that.
    async def use() -> None:
        pool = WorkerPool(worker_calls.do, memory_bytes=1000)
        try:
            await pool.run("echo", 1)
        finally:
            await pool.close()

    with pytest.raises(RunError, match=r"it may have 1,000 bytes of memory and needs \d+,"):
        asyncio.run(use())
