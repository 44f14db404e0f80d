"""What a person sees while a student reads texts, and the summary at the end.

The display itself is that of :mod:`weft.cli.progress`; here readings are counted in place of traces.
"""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

from weft.cli.progress import MOST_NOTES, Tally, with_summary
from weft.cli.show import visible
from weft.gap.distance.readings import Reading
from weft.records import Author


class ReadingTally(Tally):
    """Counts readings in place of traces."""

    def __init__(self) -> None:
        super().__init__(0)
        self.outcomes: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}
        """For each status but complete the first id and its reason."""

    def began(self, total: int) -> None:
        self.total = total
        self._happened()

    def read(self, reading: Reading) -> None:
        status = reading.status.value
        self.outcomes[status] += 1
        if status != "complete":
            self.examples.setdefault(status, (reading.id, reading.reason or "not given"))
        self.generated(Author.STUDENT, reading.tokens)

    @property
    def complete(self) -> int:
        return self.outcomes["complete"]

    @property
    def rejected(self) -> int:
        return self.outcomes.total() - self.complete

    @property
    def done(self) -> int:
        return self.skips + self.outcomes.total()

    @property
    def seconds_left(self) -> float | None:
        read, seconds = self.outcomes.total(), self.writing_seconds
        return seconds / read * (self.total - self.done) if read and seconds else None


def display(output: Path | None, *, quiet: bool) -> AbstractContextManager[ReadingTally]:
    """Show a run while it goes on; the summary when it has ended, if anything happened."""
    return with_summary(ReadingTally(), lambda tally: summary(tally, output), quiet=quiet)


def summary(tally: ReadingTally, output: Path | None) -> list[tuple[str, str]]:
    """The summary's rows. What was not measured is left out."""
    rows = [("texts read", f"{tally.complete:,}" + (" in this run" if tally.skips else ""))]
    bad = sorted((-count, status) for status, count in tally.outcomes.items() if status != "complete")
    for count, status in bad:
        rows.append((f"  {status}", f"{-count:,}, such as {visible(': '.join(tally.examples[status]))}"))
    if tally.skips:
        rows.append(("skipped", f"{tally.skips:,}, read by an earlier run"))
    if tally.done < tally.total:
        then = "the same command goes on" if output is not None else "without -o nothing is kept"
        rows.append(("not read", f"{tally.total - tally.done:,}; {then}"))
    elif tally.outcomes["engine_error"] and output is not None:
        rows.append(("to try again", "the same command tries engine errors again"))
    seconds = tally.clock() - tally.opened
    rows.append(("seconds", f"{seconds:,.1f}"))
    if output is not None and output.exists():
        readings = output.with_suffix(".readings.jsonl")
        files = shlex.join([str(output), str(readings)])
        rows += [("result in", str(output)), ("readings in", str(readings))]
        rows.append(("look at it", f"weft report {files} -o report.html"))
    return [*rows, *(("note", visible(note)) for note in tally.notes[-MOST_NOTES:])]
