"""What `weft align` and `weft sft` share on the command line: progress, interruption, the summary."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cyclopts import Group

from weft.errors import UserError
from weft.training.settings import TrainingSettings

if TYPE_CHECKING:
    from weft.training.job import Trained
    from weft.training.voice import Advance, Tell

MODEL = Group("Model", sort_key=1)
DATA = Group("Data", sort_key=2)
METHOD = Group("Method", sort_key=3)
TRAINING = Group("Training (names as in TRL and transformers)", sort_key=4)
LORA = Group("LoRA", sort_key=5)
RUN = Group("Run", sort_key=6)

INTERRUPTED = 130
"""The exit code that shells expect."""


def check_packages(settings: TrainingSettings, command: str) -> None:
    """Whether what trains is installed.

    Raises:
        UserError: a package is missing.
    """
    for package in ("trl", "accelerate", "peft") if settings.lora_r else ("trl", "accelerate"):
        if find_spec(package) is None:
            raise UserError(
                f"this needs the package {package}",
                where=f"weft {command}",
                remedy="pip install 'weft[train]'",
            )


def run(
    train: Callable[[Tell, Advance | None], Trained],
    settings: TrainingSettings,
    rows: Callable[[Trained], Sequence[tuple[str, str]]],
    *,
    quiet: bool,
) -> int:
    """Train, and say at the end what came of it; the exit code.

    Args:
        rows: the command's own lines of the summary.
    """
    try:
        with calm(quiet), bar(quiet) as advance:
            result = train((lambda _: None) if quiet else say, advance)
    except KeyboardInterrupt:
        say(
            "weft: interrupted; the same command (without --overwrite) goes on from the last checkpoint, "
            f"one each {settings.save_steps:,} steps"
        )
        return INTERRUPTED
    if not result.was_finished and is_first():
        _summary(result, rows(result))
    return 0


def say(line: str) -> None:
    """One line for people: stdout is for data."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def is_first() -> bool:
    """Whether this is the first of the run's processes."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


@contextmanager
def calm(quiet: bool) -> Iterator[None]:
    """Bars of data sets only where somebody watches them."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silent = (quiet or not sys.stderr.isatty()) and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        yield
    finally:
        if silent:
            enable_progress_bars()


@contextmanager
def bar(quiet: bool) -> Iterator[Advance | None]:
    """A bar of steps in a terminal; nothing elsewhere, where lines must do."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield None
        return
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("steps", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def _summary(result: Trained, own: Sequence[tuple[str, str]]) -> None:
    figures = result.figures
    earlier = f", {result.resumed_from:,} of them in an earlier run" if result.resumed_from else ""
    adapter = (result.output / "adapter_config.json").is_file()
    rows = [
        ("steps", f"{result.steps:,}{earlier}"),
        ("loss", f"{figures['loss']:.4f}" if "loss" in figures else ""),
        *own,
        ("seconds", f"{result.seconds:,.1f}"),
        ("adapter in" if adapter else "model in", shlex.quote(str(result.output))),
        ("its card", shlex.quote(str(result.output / "README.md"))),
    ]
    say("\n".join(f"{name:<18}{value}" for name, value in rows if value))
