"""The thread that runs the models of one device, one forward pass at a time.

Models that share a device would only slow each other down side by side, and each would run half-empty
batches. So one thread serves them all: the next pass is that of the model for which most texts are ready,
weighted by how many passes it has waited. A model with few texts comes to its turn, and a trace that hands
over finds company. A model that raises is shut, so that nobody waits for it, and the others go on.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

import torch

from weft.errors import EngineError

LOOK = 0.5
"""Seconds between looks at whether the thread still lives, while a model leaves."""


class Served(Protocol):
    """A model that a worker runs. All methods are called in the worker's thread."""

    threads: int | None
    """Processor threads for its arithmetic; ``None`` leaves torch's choice."""

    def take(self, job: object) -> None:
        """Accept one job that was posted; after :meth:`shut`, fail it."""

    def ready(self) -> int:
        """How many texts could take part in a pass now."""

    def run_pass(self) -> None:
        """Run one forward pass; must not raise."""

    def shut(self, error: Exception | None = None) -> None:
        """No more passes will come; fail what is under way, with ``error`` if this model raised."""


class Worker:
    """One device's thread; it ends with its last model."""

    _of_device: dict[str, Worker] = {}  # noqa: RUF012 - one for each device in the process
    _lock = threading.Lock()

    def __init__(self, device: str) -> None:
        self._device = device
        self._inbox: SimpleQueue[tuple[Served, object | None]] = SimpleQueue()
        self._waited: dict[Served, int] = {}
        """Passes since each model's last one."""
        self._members = 0
        self._default_threads = torch.get_num_threads()
        self._threads = 0
        """What this thread has set; torch gives a new thread what any other set last."""
        self._thread = threading.Thread(target=self._run, name=f"weft {device}", daemon=True)
        self._thread.start()

    @classmethod
    def join(cls, device: str, model: Served) -> Worker:
        """The device's worker, which serves ``model`` from now on."""
        with cls._lock:
            worker = cls._of_device.get(device)
            if worker is None or not worker._thread.is_alive():
                worker = cls._of_device[device] = Worker(device)
            worker._members += 1
        return worker

    def post(self, model: Served, job: object) -> None:
        """Give ``model`` something to do; from any thread."""
        if not self._thread.is_alive():
            raise EngineError(f"the thread of {self._device} has ended")
        self._inbox.put((model, job))

    def leave(self, model: Served) -> None:
        """Serve ``model`` no longer; returns when it is shut."""
        with self._lock:
            self._members -= 1
            last = self._members == 0
            if last and self._of_device.get(self._device) is self:
                del self._of_device[self._device]
        shut = threading.Event()
        self._inbox.put((model, shut))
        while not shut.wait(LOOK):
            if not self._thread.is_alive():
                model.shut()
                return
        if last:
            self._inbox.put((model, None))
            self._thread.join()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._take():
                    self._pass()
        finally:
            self._use_threads(None)  # for threads that come after this one

    def _pass(self) -> None:
        ready = {model: self._ready(model) for model in list(self._waited)}
        chosen = max(ready, key=lambda model: ready[model] * (self._waited.get(model, 0) + 1))
        if not ready[chosen]:
            return
        for model in self._waited:
            self._waited[model] += 1
        self._waited[chosen] = 0
        self._use_threads(chosen.threads)
        try:
            chosen.run_pass()
        except Exception as error:
            self._shut(chosen, error)

    def _take(self) -> bool:
        """Take all that was posted; wait where nothing is ready. False when the last model has left."""
        while True:
            idle = not any(self._ready(model) for model in list(self._waited))
            try:
                model, job = self._inbox.get(block=idle)
            except Empty:
                return True
            if job is None:
                return False
            if isinstance(job, threading.Event):
                self._shut(model, None)
                job.set()
                continue
            self._waited.setdefault(model, 0)
            try:
                model.take(job)
            except Exception as error:
                self._shut(model, error)

    def _ready(self, model: Served) -> int:
        try:
            return model.ready()
        except Exception as error:
            self._shut(model, error)
            return 0

    def _shut(self, model: Served, error: Exception | None) -> None:
        self._waited.pop(model, None)
        with suppress(Exception):  # a model that cannot even be shut must not keep the others from their turn
            model.shut(error)

    def _use_threads(self, threads: int | None) -> None:
        wanted = threads or self._default_threads
        if wanted != self._threads:
            torch.set_num_threads(wanted)
            self._threads = wanted
