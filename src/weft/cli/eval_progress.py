"""What a person sees while a model is evaluated, and where it went at the end.

The display itself is that of :mod:`weft.cli.progress`, counting stage by stage as `weft gap reward` does.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weft.cli.gap_reward_progress import StageTally
from weft.cli.progress import MOST_NOTES, with_summary
from weft.cli.show import visible
from weft.evaluation.settings import RESULT


@contextmanager
def display(output: Path, *, quiet: bool) -> Iterator[StageTally]:
    """Show a run while it goes on; the summary when it has ended, if anything happened."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = made(output)
    silent = not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        with with_summary(StageTally(), lambda tally: summary(tally, output, before), quiet=quiet) as tally:
            yield tally
    finally:
        if silent:
            enable_progress_bars()


def made(output: Path) -> int | None:
    """When the result that is there was written, in nanoseconds."""
    result = output / RESULT
    return result.stat().st_mtime_ns if result.is_file() else None


def summary(tally: StageTally, output: Path, before: int | None) -> list[tuple[str, str]]:
    """The summary's rows.

    Args:
        before: when the result was written that was there before this run, which is not this run's.
    """
    rows = [(visible(what), f"{count:,}") for what, count in tally.stages.items()]
    rows.append(("seconds", f"{tally.clock() - tally.opened:,.1f}"))
    if made(output) != before:
        rows.append(("in", str(output / RESULT)))
        rows.append(("look at it", f"weft report {shlex.quote(str(output))} -o report.html"))
    return [*rows, *(("note", visible(note)) for note in tally.remarks[-MOST_NOTES:])]
