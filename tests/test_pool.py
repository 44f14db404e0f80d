"""Jobs side by side: as many as may be at a time, all of them, and none left behind when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from weft.errors import RunError
from weft.synthesis.pool import FEWEST, ErrorShare, side_by_side


@pytest.mark.parametrize("concurrency", [1, 3, 100])
def test_all_jobs_are_done_and_so_many_at_a_time(concurrency: int) -> None:
    done: list[int] = []
    taken, under_way, most = 0, 0, 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 21):
            assert taken - 1 - len(done) < concurrency  # none is taken before there is room
            yield taken

    async def do(job: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(1 + job % 4):
            await asyncio.sleep(0)
        under_way -= 1
        done.append(job)

    asyncio.run(side_by_side(jobs(), do, concurrency))
    assert sorted(done) == list(range(1, 21))
    assert most == min(concurrency, 20)


def test_the_first_failure_ends_all() -> None:
    ended: list[int] = []

    async def do(job: int) -> None:
        try:
            if job == 2:
                raise RunError("out of memory")
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(job)

    with pytest.raises(RunError, match="out of memory"):
        asyncio.run(side_by_side(range(10), do, 4))
    assert sorted(ended) == [0, 1, 2, 3]


def test_a_share_of_errors_ends_the_run() -> None:
    told: list[str] = []
    share = ErrorShare(0.5, 1, name="window", tell=told.append)
    for number in range(FEWEST - 1):
        share.finished(f"w{number}", "HTTP 500" if number % 2 else None)
    with pytest.raises(RunError, match="10 of the last 20 windows failed by engine errors, the last: down"):
        share.finished("last", "down")
    assert told == ["the first engine error, in w1: HTTP 500"]


def test_more_jobs_under_way_take_more_errors_to_end() -> None:
    share = ErrorShare(0.5, 32, name="window", tell=lambda text: None)
    for _ in range(63):
        share.finished("w", "down")
    with pytest.raises(RunError, match="64 of the last 64"):
        share.finished("w", "down")
