"""What a person sees while policies read pairs and write texts, and where it went at the end.

The display itself is that of :mod:`weft.cli.progress`; here pairs and texts are counted in place of traces,
stage by stage.
"""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from pathlib import Path

from weft.cli.progress import MOST_NOTES, Tally, with_summary
from weft.cli.show import visible
from weft.records import Author


class StageTally(Tally):
    """Counts the pairs or texts of the stage at hand."""

    def __init__(self) -> None:
        super().__init__(0)
        self.stage = ""
        self.stages: dict[str, int] = {}
        """What was done in each, in order."""
        self._began = 0.0
        self._begun: set[str] = set()

    def began(self, what: str, total: int) -> None:
        self.stage, self.total, self._began = what, total, self.clock()
        self.stages[what] = 0
        line = f"{total:,} {what}"
        self._begun.add(line)
        self.noted(line)  # the display shows the last note
        self._happened()

    def advanced(self) -> None:
        self.stages[self.stage] += 1
        self._happened()

    def wrote(self, tokens: int) -> None:
        self.generated(Author.STUDENT, tokens)

    @property
    def remarks(self) -> list[str]:
        """What was noted beside the stages."""
        return [note for note in self.notes if note not in self._begun]

    @property
    def complete(self) -> int:
        return self.done

    @property
    def rejected(self) -> int:
        return 0

    @property
    def done(self) -> int:
        return self.stages.get(self.stage, 0)

    @property
    def seconds_left(self) -> float | None:
        if not self.done:
            return None
        return (self.clock() - self._began) / self.done * (self.total - self.done)


def display(output: Path | None, *, quiet: bool) -> AbstractContextManager[StageTally]:
    """Show a run while it goes on; the summary when it has ended, if anything happened."""
    return with_summary(StageTally(), lambda tally: summary(tally, output), quiet=quiet)


def summary(tally: StageTally, output: Path | None) -> list[tuple[str, str]]:
    """The summary's rows."""
    rows = [(visible(what), f"{count:,}") for what, count in tally.stages.items()]
    rows.append(("seconds", f"{tally.clock() - tally.opened:,.1f}"))
    if output is not None:
        files = [output, output.with_suffix(".pairs.jsonl"), output.with_suffix(".texts.jsonl")]
        there = [str(path) for path in files if path.exists() and path.stat().st_size]
        rows += [("in", path) for path in there]
        if output.exists():
            rows.append(("look at it", f"weft report {shlex.quote(str(output))} -o report.html"))
    return [*rows, *(("note", visible(note)) for note in tally.remarks[-MOST_NOTES:])]
