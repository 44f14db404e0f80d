"""``weft run`` that kills itself in the middle of one stage: a driver for tests.

``python killed_in_a_stage.py STAGE AT RECIPE DIR``: in the stage, before the event number AT (a row that
would be appended, a step of training, a file that would be put in its place), it dies as by ``kill -9``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weft.cli.run_screen import Terminal
from weft.recipes import running
from weft.recipes.kinds.base import Screen
from weft.recipes.plan import Stage, read_plan
from weft.store import RowStore


class Killer:
    """Counts events while a stage runs."""

    def __init__(self, stage: str, at: int) -> None:
        self._stage, self._at = stage, at
        self.inside = False

    def event(self) -> None:
        if not self.inside:
            return
        self._at -= 1
        if not self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, run: Callable[..., str]) -> Callable[..., str]:
        def wrapped(stage: Stage, *arguments: Any) -> str:
            self.inside = stage.name == self._stage
            try:
                return run(stage, *arguments)
            finally:
                self.inside = False

        return wrapped

    def before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.event()
            return method(*arguments, **named)

        return wrapped


class Watched(Terminal):
    """A screen that counts steps of training."""

    def __init__(self, killer: Killer) -> None:
        super().__init__(quiet=True)
        self._killer = killer

    @contextmanager
    def steps(self) -> Iterator[Callable[[int, int], None] | None]:
        yield lambda done, total: self._killer.event()


def main(stage: str, at: str, recipe: str, folder: str) -> int:
    killer = Killer(stage, int(at))
    running._run_stage = killer.around(running._run_stage)
    RowStore.append = killer.before(RowStore.append)  # type: ignore[method-assign]
    Path.replace = killer.before(Path.replace)  # type: ignore[method-assign]
    screen: Screen = Watched(killer)
    outcomes = running.run(read_plan(Path(recipe), Path(folder)), screen)
    return 1 if any(one.became.value in ("failed", "not run") for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
