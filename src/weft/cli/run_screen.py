"""What a person sees while the stages of a recipe run: each as its own command shows it, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from weft.cli.show import visible

HEADS = ("[", "failed:", "not run:", "weft:")
"""How lines begin that are said even if all else is quiet."""


class Terminal:
    """The screen of `weft run`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, line: str) -> None:
        if self._quiet and not line.startswith(HEADS):
            return
        sys.stderr.write("\n".join(visible(part) for part in line.splitlines()) + "\n")
        sys.stderr.flush()

    def watch(self, kind: str, output: Path, total: int | None) -> AbstractContextManager[Any]:
        """The observer that the command of a kind of stage takes."""
        if kind == "synth":
            from weft.cli.progress import display

            return display(total or 0, output, quiet=self._quiet)
        if kind == "verify":
            from weft.cli.verify_progress import display as verdicts

            return verdicts(output, quiet=self._quiet)
        if kind == "eval":
            from weft.cli.eval_progress import display as evaluation

            return evaluation(output, quiet=self._quiet)
        if kind == "gap-style":
            from weft.cli.gap_progress import display as readings

            return readings(output, quiet=self._quiet)
        if kind.startswith("pairs-"):
            from weft.cli.pairs_progress import display as pairs

            return pairs(output, quiet=self._quiet)
        return _reward(output, quiet=self._quiet)

    def came(self, observer: Any, found: Any) -> None:
        from weft.cli.pairs_progress import PairTally
        from weft.cli.verify_progress import VerifyTally

        if isinstance(observer, PairTally):
            observer.paired = found
        elif isinstance(observer, VerifyTally):
            observer.counts = found

    def steps(self) -> AbstractContextManager[Callable[[int, int], None] | None]:
        return _steps(self._quiet)


@contextmanager
def _reward(output: Path, *, quiet: bool) -> Iterator[Any]:
    from weft.cli.gap_reward_progress import display
    from weft.cli.training import calm

    with calm(True), display(output, quiet=quiet) as tally:
        yield tally


@contextmanager
def _steps(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    from weft.cli.training import bar, calm

    with calm(quiet), bar(quiet) as advance:
        yield advance
