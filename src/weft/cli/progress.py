"""What a person sees while traces are written, and the summary at the end.

With a terminal a live line with a bar; without one a plain line now and then, without control characters;
``quiet`` neither. The summary comes always, whatever ends the run, once anything has happened. All of it
goes to stderr: stdout belongs to results.

It does not know engines, strategies or how traces are written: it is an observer that counts.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from weft.cli.show import visible
from weft.records import Author, PerAuthor, Status, Trace
from weft.store import manifest_path, rejected_path
from weft.synthesis.run import Observer

WINDOW = 15.0
"""Seconds over which the present speed is measured."""
MOST_NOTES = 10
"""Notes in the summary, at most: a server that comes and goes makes many."""
LINE_SECONDS = 10.0
"""Without a terminal: at least so long from one line to the next."""
LINE_GROWTH = 0.05
"""And at least this part of the time since the start, so that a run of days fills no log."""

Clock = Callable[[], float]


@contextmanager
def display(total: int, output: Path, *, quiet: bool) -> Iterator[Observer]:
    """Show a run of ``total`` traces into ``output`` while it goes on; the summary when it has ended.

    The summary is left out only if the run failed before anything happened.
    """
    tally, ended = Tally(total), False
    try:
        with watched(tally, quiet=quiet):
            yield tally
        ended = True
    finally:
        if ended or tally.started is not None:
            print_rows(summary(tally, output))


@contextmanager
def watched(tally: Tally, *, quiet: bool = False) -> Iterator[None]:
    """Show the counts of ``tally`` while they change."""
    console = _console()
    if quiet:
        yield
    elif sys.stderr.isatty() and not console.is_dumb_terminal:
        with Live(Bar(tally), console=console, refresh_per_second=4, transient=True):
            yield
    else:
        lines = _Lines(tally)
        tally.on_event, tally.on_note = lines, lines.note
        yield


T = TypeVar("T", bound="Tally")


@contextmanager
def with_summary(
    tally: T, summary: Callable[[T], Sequence[tuple[str, str]]], *, quiet: bool = False
) -> Iterator[T]:
    """As :func:`watched`; the summary when the run has ended, if anything happened."""
    try:
        with watched(tally, quiet=quiet):
            yield tally
    finally:
        if tally.started is not None:
            print_rows(summary(tally))


class Tally:
    """An observer that counts. Read from the display's thread while the run's thread counts."""

    def __init__(self, total: int, *, clock: Clock = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.on_event: Callable[[], None] = lambda: None
        self.on_note: Callable[[str], None] = lambda text: None
        self.opened = clock()
        self.started: float | None = None
        """When the first thing happened: before it, models are opened."""
        self.skips = 0
        self.statuses: Counter[Status] = Counter()
        self.kept = PerAuthor()
        """Tokens of complete traces, in the student's tokens."""
        self.rejected_tokens = 0
        """Tokens of rejected traces, in the student's tokens."""
        self.generated_tokens = PerAuthor()
        self.discarded = PerAuthor()
        """Generated tokens that are in no trace, in each model's own tokens, as are the generated ones."""
        self.requests = PerAuthor()
        self.turns = 0
        """Turns of complete traces."""
        self.notes: list[str] = []
        self._first_token: float | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._lock = Lock()

    def skipped(self) -> None:
        self.skips += 1
        self._happened()

    def generated(self, author: Author, tokens: int) -> None:
        now = self.clock()
        self._first_token = now if self._first_token is None else self._first_token
        self.generated_tokens = self.generated_tokens.plus(author, tokens)
        with self._lock:
            self._recent.append((now, tokens))
            while self._recent[0][0] < now - WINDOW:
                self._recent.popleft()
        self._happened()

    def finished(self, trace: Trace) -> None:
        usage = trace.usage
        self.statuses[trace.status] += 1
        if trace.status is Status.COMPLETE:
            self.kept = _sum(self.kept, usage.tokens)
            self.turns += usage.turns
        else:
            self.rejected_tokens += usage.tokens.total
        self.discarded = _sum(self.discarded, usage.discarded)
        self.requests = _sum(self.requests, usage.requests)
        self._happened()

    def noted(self, text: str) -> None:
        self.notes.append(text)
        self.on_note(text)

    @property
    def complete(self) -> int:
        return self.statuses[Status.COMPLETE]

    @property
    def rejected(self) -> int:
        return self.statuses.total() - self.complete

    @property
    def done(self) -> int:
        """Traces that are finished, by this run or an earlier one."""
        return self.skips + self.statuses.total()

    @property
    def teacher_share(self) -> float | None:
        """Of the kept tokens."""
        return self.kept.teacher / self.kept.total if self.kept.total else None

    @property
    def speed(self) -> float | None:
        """Tokens per second that the engines generated of late."""
        if self._first_token is None:
            return None
        now = self.clock()
        with self._lock:
            tokens = sum(count for at, count in self._recent if at >= now - WINDOW)
        return tokens / max(1.0, min(WINDOW, now - self._first_token))

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; ``None`` until this run has finished a trace."""
        written = self.statuses.total()
        if not written or self._first_token is None:
            return None
        return (self.clock() - self._first_token) / written * (self.total - self.done)

    @property
    def writing_seconds(self) -> float | None:
        """From the first tokens until now."""
        return None if self._first_token is None else self.clock() - self._first_token

    def _happened(self) -> None:
        self.started = self.clock() if self.started is None else self.started
        self.on_event()


class Bar:
    """The live display: a bar and, below it, the counts."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __rich__(self) -> RenderableType:
        tally = self._tally
        if tally.started is None:
            return Text(f"opening the models … {_clock(tally.clock() - tally.opened)}")
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True)
        left = tally.seconds_left
        bar = ProgressBar(total=max(1, tally.total), completed=tally.done)
        line.add_row(
            bar, f"{tally.done:,}/{tally.total:,}", f"{_clock(left)} left" if left is not None else ""
        )
        shown: list[str] = [" · ".join(_counts(tally)), *map(visible, tally.notes[-1:])]
        return Group(line, *(Text(text, no_wrap=True, overflow="ellipsis") for text in shown))


class _Lines:
    """Without a terminal: called at every event, writes a line now and then."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._next = tally.opened + LINE_SECONDS

    def __call__(self) -> None:
        tally, now = self._tally, self._tally.clock()
        if now < self._next or tally.done == tally.total:
            return
        self._next = now + max(LINE_SECONDS, LINE_GROWTH * (now - tally.opened))
        left = tally.seconds_left
        parts = [f"{tally.done:,} of {tally.total:,}", *_counts(tally)]
        parts += [f"{_clock(left)} left"] if left is not None else []
        sys.stderr.write(f"weft: {', '.join(parts)}\n")
        sys.stderr.flush()

    def note(self, text: str) -> None:
        """Say at once what a person may be waiting for."""
        sys.stderr.write(f"weft: {visible(text)}\n")
        sys.stderr.flush()


def _counts(tally: Tally) -> list[str]:
    counts = [f"{tally.complete:,} complete", f"{tally.rejected:,} rejected"]
    if tally.speed is not None:
        counts.append(f"{tally.speed:,.0f} tokens/s")
    if tally.teacher_share is not None:
        counts.append(f"teacher {tally.teacher_share:.0%}")
    if tally.skips:
        counts.append(f"{tally.skips:,} skipped")
    return counts


def summary(tally: Tally, output: Path) -> list[tuple[str, str]]:
    """The summary's rows: what, and how much or where. What was not measured is left out."""
    now = " in this run" if tally.skips else ""
    rows = [("complete", f"{tally.complete:,}{now}"), ("rejected", _rejected(tally, now))]
    if tally.skips:
        rows.append(("skipped", f"{tally.skips:,}, finished by an earlier run"))
    if tally.done < tally.total:
        rows.append(("not written", f"{tally.total - tally.done:,}; the same command goes on"))
    if errors := tally.statuses[Status.ENGINE_ERROR]:
        rows.append(("to try again", f"{errors:,}; the same command tries engine errors again"))
    if tally.statuses.total():
        rows += _costs(tally)
    seconds, writing = tally.clock() - tally.opened, tally.writing_seconds
    rows.append(("seconds", f"{seconds:,.1f}" + (f", {writing:,.1f} of them writing" if writing else "")))
    if writing:
        rows.append(("speed", f"{tally.generated_tokens.total / writing:,.0f} tokens/s"))
    rejected = rejected_path(output)
    some = {path: path.exists() and path.stat().st_size > 0 for path in (output, rejected)}
    rows.append(("traces in", str(output)))
    if some[rejected]:
        rows.append(("rejected in", str(rejected)))
    rows.append(("made by", str(manifest_path(output))))
    if len(tally.notes) > MOST_NOTES:
        rows.append(("notes", f"{len(tally.notes):,}, of which the last {MOST_NOTES} are"))
    rows += [("note", visible(note)) for note in tally.notes[-MOST_NOTES:]]
    looks = {"look at": output, "what failed": rejected}
    rows += [(name, f"weft show {shlex.quote(str(path))}") for name, path in looks.items() if some[path]]
    return rows


def _rejected(tally: Tally, now: str) -> str:
    counts = sorted(tally.statuses.items(), key=lambda item: (-item[1], item[0]))
    statuses = ", ".join(f"{status} {count:,}" for status, count in counts if status is not Status.COMPLETE)
    return f"{tally.rejected:,}{now}" + (f": {statuses}" if statuses else "")


def _costs(tally: Tally) -> list[tuple[str, str]]:
    """Tokens, requests and turns of the traces that this run wrote."""
    share = tally.teacher_share
    rows = [("tokens kept", _by(tally.kept))]
    if share is not None:
        rows.append(("  teacher's share", f"{share:.1%}"))
    if tally.rejected_tokens:
        rows.append(("  in rejected", f"{tally.rejected_tokens:,}"))
    rows += [("  discarded", _by(tally.discarded)), ("requests", _by(tally.requests))]
    if tally.complete:
        rows.append(("turns", f"{tally.turns:,}; {tally.turns / tally.complete:.1f} per trace"))
    return rows


def _by(count: PerAuthor) -> str:
    return f"{count.total:,} (student {count.student:,}, teacher {count.teacher:,})"


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Two columns on stderr: a table in a terminal, else plain lines."""
    if not sys.stderr.isatty():
        width = max(len(name) for name, _ in rows)
        sys.stderr.write("".join(f"{name:{width}}  {value}\n" for name, value in rows))
        return
    table = Table(box=box.HORIZONTALS, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    _console().print(table)


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def _clock(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _sum(a: PerAuthor, b: PerAuthor) -> PerAuthor:
    return PerAuthor(a.student + b.student, a.teacher + b.teacher)
