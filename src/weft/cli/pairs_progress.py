"""What a person sees while pairs are made, and what came of it at the end.

The display itself is that of :mod:`weft.cli.progress`, its stages those of `weft gap reward`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from weft.cli.gap_reward_progress import StageTally
from weft.cli.progress import MOST_NOTES, with_summary
from weft.cli.show import visible
from weft.store import manifest_path, rejected_path

if TYPE_CHECKING:
    from weft.pairing.outcome import Paired

COUNT, SHARE = "{:,.1f}".format, "{:.1%}".format
FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "chosen_tokens": ("chosen, tokens", COUNT),
    "rejected_tokens": ("rejected, tokens", COUNT),
    "chosen_longer": ("chosen longer", SHARE),
    "margin": ("margin", "{:.3g}".format),
    "compared": ("compared", "{:,.0f}".format),
    "student_success": ("right, student's", SHARE),
    "teacher_success": ("right, teacher's", SHARE),
    "unfinished": ("cut by a limit", SHARE),
    "teacher_chosen": ("teacher's chosen", SHARE),
}
"""Figures as people see them: means over the pairs, or over what they were made from."""


class PairTally(StageTally):
    """Counts the stage at hand, and holds what came of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.paired: Paired | None = None


def display(output: Path, *, quiet: bool) -> AbstractContextManager[PairTally]:
    """Show a run while it goes on; the summary when it has ended."""
    return with_summary(PairTally(), lambda tally: summary(tally, output), quiet=quiet)


def summary(tally: PairTally, output: Path) -> list[tuple[str, str]]:
    """The summary's rows."""
    rows: list[tuple[str, str]] = []
    paired = tally.paired
    if paired is not None:
        rows.append(("pairs", f"{paired.pairs:,}"))
        rows += [(f"  {FIGURES[name][0]}", FIGURES[name][1](value)) for name, value in paired.figures.items()]
        rows += [("left out", f"{count:,}: {why}") for why, count in paired.counts.items()]
    else:
        rows += [(visible(what), f"{count:,}") for what, count in tally.stages.items()]
    rows.append(("seconds", f"{tally.clock() - tally.opened:,.1f}"))
    if paired is not None:
        files = {"pairs in": output, "others in": rejected_path(output), "made by": manifest_path(output)}
        for name, path in files.items():
            if path.exists() and path.stat().st_size:
                rows.append((name, str(path)))
        if paired.pairs:
            look = f"weft align --model MODEL --data {shlex.quote(str(output))} --preview"
            rows.append(("look at them", look))
    return [*rows, *(("note", visible(note)) for note in tally.remarks[-MOST_NOTES:])]
