"""What a person sees while windows are annotated, and the summary at the end.

The display itself is that of :mod:`weft.cli.progress`; here annotations are counted in place of traces.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from weft.boundary.spans import Annotation
from weft.cli.progress import MOST_NOTES, Tally, with_summary
from weft.cli.show import visible
from weft.store import manifest_path, rejected_path


class AnnotationTally(Tally):
    """Counts annotations in place of traces."""

    def __init__(self) -> None:
        super().__init__(0)
        self.outcomes: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}
        """For each status but complete the first id and its reason."""
        self.second_tries = 0
        """Complete annotations whose first answer could not be used."""
        self.spans = 0
        self.style, self.characters = 0, 0
        """Characters of complete annotations: in spans, and all."""

    def began(self, total: int) -> None:
        self.total = total
        self._happened()

    def annotated(self, annotation: Annotation) -> None:
        status = annotation.status.value
        self.outcomes[status] += 1
        if status == "complete":
            self.second_tries += len(annotation.answers) > 1
            self.spans += len(annotation.style)
            self.style += sum(end - start for start, end in annotation.style)
            self.characters += len(annotation.text)
        else:
            self.examples.setdefault(status, (annotation.id, annotation.reason or "not given"))
        self._happened()

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
        written, seconds = self.outcomes.total(), self.writing_seconds
        return seconds / written * (self.total - self.done) if written and seconds else None


def display(output: Path, *, quiet: bool) -> AbstractContextManager[AnnotationTally]:
    """Show a run into ``output`` while it goes on; the summary when it has ended, if anything happened."""
    return with_summary(AnnotationTally(), lambda tally: summary(tally, output), quiet=quiet)


def summary(tally: AnnotationTally, output: Path) -> list[tuple[str, str]]:
    """The summary's rows. What was not measured is left out."""
    now = " in this run" if tally.skips else ""
    bad = sorted((-count, status) for status, count in tally.outcomes.items() if status != "complete")
    by_status = ", ".join(f"{status} {-count:,}" for count, status in bad)
    rows = [
        ("complete", f"{tally.complete:,}{now}"),
        ("rejected", f"{tally.rejected:,}{now}" + (f": {by_status}" if bad else "")),
    ]
    rows += [(f"  {status}", visible(": ".join(tally.examples[status]))) for _, status in bad]
    if tally.skips:
        rows.append(("skipped", f"{tally.skips:,}, finished by an earlier run"))
    if tally.done < tally.total:
        rows.append(("not written", f"{tally.total - tally.done:,}; the same command goes on"))
    if errors := tally.outcomes["engine_error"]:
        rows.append(("to try again", f"{errors:,}; the same command tries engine errors again"))
    if tally.complete:
        share = tally.style / tally.characters
        rows += [
            ("second tries", f"{tally.second_tries:,} of the complete ones"),
            ("spans", f"{tally.spans:,}; {tally.spans / tally.complete:.1f} per window"),
            ("style", f"{share:.1%} of the characters"),
        ]
    seconds, writing = tally.clock() - tally.opened, tally.writing_seconds
    rows.append(("seconds", f"{seconds:,.1f}" + (f", {writing:,.1f} of them writing" if writing else "")))
    if writing:
        rows.append(("speed", f"{tally.generated_tokens.total / writing:,.0f} tokens/s"))
    rejected = rejected_path(output)
    files = {"annotations in": output, "rejected in": rejected}
    rows += [(name, str(path)) for name, path in files.items() if path.exists() and path.stat().st_size]
    rows.append(("made by", str(manifest_path(output))))
    rows += [("note", visible(note)) for note in tally.notes[-MOST_NOTES:]]
    if output.exists() and output.stat().st_size:
        rows.append(("learn from them", f"weft boundary train {shlex.quote(str(output))} -o FOLDER"))
    return rows


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what is said of them, in two columns."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:{width}}  {value}\n" for name, value in rows)
