"""Where a hand-over threw the student's text away: that text, and what the teacher wrote in its place.

::

    prompt | thinking so far | what the student went on to propose, and was thrown away
                             | the teacher's span, up to its own hand-over

Both are continuations of one beginning. Hand-overs from teacher to student are not looked at: what the
teacher would have said there is style, and says nothing of what is right. Where one continuation begins with
the other the student would have written what the teacher wrote, and there is nothing to prefer.

White space at the end of either belongs to what would have come next. This module does not know tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from weft.records import Author, Trace


@dataclass(frozen=True, slots=True)
class Cut:
    """Two continuations of one beginning."""

    trace: Trace
    at: int
    """Characters of the trace's text that both follow."""
    student: str
    """What the student proposed."""
    teacher: str
    """What stands in the trace."""

    @property
    def id(self) -> str:
        return f"{self.trace.id}@{self.at}"

    @property
    def beginning(self) -> str:
        return self.trace.text[: self.at]

    @property
    def differs(self) -> bool:
        """Whether neither continuation begins with the other."""
        return not (self.student.startswith(self.teacher) or self.teacher.startswith(self.student))


def cuts_of(trace: Trace) -> Iterator[Cut]:
    """The trace's hand-overs from student to teacher at which text was thrown away.

    A trace without ``proposals`` has none.
    """
    starts = accumulate((len(span.text) for span in trace.spans), initial=0)
    # Without a word for thinking both write the response.
    shared = trace.spans[: trace.thinking_spans or None]
    teacher = {
        start: span.text.rstrip()
        for start, span in zip(starts, shared, strict=False)
        if span.author is Author.TEACHER
    }
    for proposal in trace.proposals or ():
        student = proposal.text.rstrip()
        if proposal.author is Author.STUDENT and student and teacher.get(proposal.at):
            yield Cut(trace, proposal.at, student, teacher[proposal.at])


def drawn(trace: str, cuts: Sequence[Cut], most: int, seed: int) -> list[Cut]:
    """At most ``most`` of a trace's hand-overs, drawn by seed and trace, in the text's order."""
    found = list(cuts)
    if len(found) > most:
        found = Random(f"{seed} {trace}").sample(found, most)
    return sorted(found, key=lambda cut: cut.at)
