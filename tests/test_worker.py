"""The device's thread: what one model raises is its own affair."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from weft.engines.worker import Worker

SECONDS = 60
"""Patience with a thread that would otherwise hang the tests."""


class Model:
    """Runs each job, a function, in a pass."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self.jobs: list[Callable[[], None]] = []
        self.was_shut = threading.Event()
        self.error: Exception | None = None

    def take(self, job: Any) -> None:
        if job is None or isinstance(job, str):
            raise MemoryError("take")
        self.jobs.append(job)

    def ready(self) -> int:
        return len(self.jobs)

    def run_pass(self) -> None:
        self.jobs.pop(0)()

    def shut(self, error: Exception | None = None) -> None:
        self.error = self.error or error
        self.jobs.clear()
        self.was_shut.set()


def raises() -> None:
    raise ValueError("pass")


@pytest.mark.parametrize("job", ["cannot be taken", raises])
def test_a_model_that_raises_is_shut_and_the_others_go_on(job: Any) -> None:
    bad, good = Model(), Model()
    worker = Worker.join("test", bad)
    assert Worker.join("test", good) is worker
    ran = threading.Event()
    worker.post(bad, job)
    assert bad.was_shut.wait(SECONDS)
    assert bad.error is not None
    worker.post(good, ran.set)
    assert ran.wait(SECONDS)
    worker.leave(bad)
    worker.leave(good)
    assert not worker._thread.is_alive()


def test_leaving_a_dead_thread_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    model = Model()
    worker = Worker.join("test", model)

    def die() -> None:
        raise SystemExit

    worker.post(model, die)
    worker._thread.join(SECONDS)
    worker.leave(model)
    assert model.was_shut.is_set()
    again = Worker.join("test", model)
    assert again is not worker
    again.leave(model)


def test_a_models_threads_are_its_own() -> None:
    default = torch.get_num_threads()
    tiny, other = Model(threads=1), Model()
    worker = Worker.join("test", tiny)
    Worker.join("test", other)
    seen: list[int] = []
    for model in (other, tiny, other):
        done = threading.Event()

        def look(done: threading.Event = done) -> None:
            seen.append(torch.get_num_threads())
            done.set()

        worker.post(model, look)
        assert done.wait(SECONDS)
    worker.leave(tiny)
    worker.leave(other)
    assert seen == [default, 1, default]
