"""What a person sees while traces are verified, and what became of them at the end.

The display itself is that of :mod:`weft.cli.progress`; here marks are counted in place of traces' ends.
"""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

from weft.cli.progress import MOST_NOTES, Tally, with_summary
from weft.cli.show import visible
from weft.store import manifest_path, rejected_path
from weft.verify.base import Verdict
from weft.verify.marked import Mark, Marked
from weft.verify.marking import Counts


class VerifyTally(Tally):
    """Counts marks, or right answers that were checked."""

    def __init__(self) -> None:
        super().__init__(0)
        self.marks: Counter[Mark] = Counter()
        self.accepted: Counter[bool] = Counter()
        self.counts: Counts | None = None
        """Of the whole output, once the run has ended."""
        self._began = 0.0

    def began(self, total: int) -> None:
        self.total, self._began = total, self.clock()
        self._happened()

    def settled(self, marked: Marked) -> None:
        self.marks[marked.mark] += 1
        self._happened()

    def checked(self, accepted: bool) -> None:
        self.accepted[accepted] += 1
        self.total = self.accepted.total()
        self._happened()

    @property
    def complete(self) -> int:
        return self.marks[Mark.KEPT] + self.accepted[True]

    @property
    def rejected(self) -> int:
        return self.marks.total() - self.marks[Mark.KEPT] + self.accepted[False]

    @property
    def done(self) -> int:
        return self.skips + self.marks.total() + self.accepted.total()

    @property
    def seconds_left(self) -> float | None:
        settled = self.marks.total()
        if not settled:
            return None
        return (self.clock() - self._began) / settled * (self.total - self.done)


def display(output: Path, *, quiet: bool) -> AbstractContextManager[VerifyTally]:
    """Show a run while it goes on; the summary when it has ended, if anything happened."""
    return with_summary(VerifyTally(), lambda tally: summary(tally, output), quiet=quiet)


def summary(tally: VerifyTally, output: Path) -> list[tuple[str, str]]:
    """The summary's rows: of the whole output where the run came to its end, else of this run."""
    rows = _whole(tally.counts) if tally.counts else _part(tally)
    if tally.skips:
        rows.append(("skipped", f"{tally.skips:,}, settled by an earlier run"))
    rows.append(("seconds", f"{tally.clock() - tally.opened:,.1f}"))
    rejected = rejected_path(output)
    some = {path: path.exists() and path.stat().st_size > 0 for path in (output, rejected)}
    rows += [("kept in", str(output))]
    rows += [("rejected in", str(rejected))] if some[rejected] else []
    rows.append(("made by", str(manifest_path(output))))
    rows += [("note", visible(note)) for note in tally.notes[-MOST_NOTES:]]
    looks = {"look at": output, "what was rejected": rejected}
    return [
        *rows,
        *((name, f"weft show {shlex.quote(str(path))}") for name, path in looks.items() if some[path]),
    ]


def _whole(counts: Counts) -> list[tuple[str, str]]:
    rows = [("kept", f"{counts.kept:,} of {counts.traces:,}")]
    for verdict, count in sorted(counts.verdicts.items()):
        found = sorted((-number, reason) for (of, reason), number in counts.reasons.items() if of is verdict)
        reasons = ", ".join(f"{reason} {-number:,}" for number, reason in found)
        rows.append((verdict.value, f"{count:,}" + (f": {reasons}" if reasons else "")))
    others = {
        Mark.UNFINISHED: "not complete, not looked at",
        Mark.CONTAMINATED: "hold a benchmark's words",
        Mark.DUPLICATE: "nearly the same as an earlier one",
        Mark.VERIFIER_ERROR: "the same command tries them again",
    }
    rows += [
        (mark.value, f"{counts.marks[mark]:,}; {said}")
        for mark, said in others.items()
        if counts.marks.get(mark)
    ]
    if counts.verdicts and not counts.verdicts.get(Verdict.CORRECT):
        rows.append(("none is correct", "--self-check says whether the verifier accepts right answers"))
    return rows


def _part(tally: VerifyTally) -> list[tuple[str, str]]:
    rows = [("kept", f"{tally.complete:,} in this run"), ("rejected", f"{tally.rejected:,} in this run")]
    left = tally.total - tally.done
    return [*rows, *([("not looked at", f"{left:,}; the same command goes on")] if left else [])]
