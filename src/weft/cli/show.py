"""``weft show``: traces for a person to read, with who wrote what.

Invariants
    - Every change of author carries a mark, with colour or without.
    - What a model wrote cannot act on the terminal, reorder the line, or pass for a mark: such characters are
      shown by their code. It stands indented, so it cannot pass for a heading either.

It does not know how traces are made.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from weft.errors import UserError
from weft.records import Author, Span, Status, Trace
from weft.store import read_traces, rejected_path
from weft.store.lines import read_lines
from weft.store.traces import TRACES

MARKS = {Author.STUDENT: "‹S›", Author.TEACHER: "‹T›"}
STYLES = {Author.STUDENT: Style(color="#0079bd"), Author.TEACHER: Style(color="#c65a00")}
"""Blue and orange: told apart by every kind of colour vision, contrast over 4.3 on black and on white."""

_UNUSUAL = re.compile(r"[^\x20-\x7e\n\t]")
_JOINERS = "\u200c\u200d"
"""Invisible, but emoji and Persian are spelled with them."""
_MARK = re.compile("‹(?=[ST]›)")
_IDS_COMPARED = 20_000
"""Ids among which the nearest to an unknown one are looked for."""


def show(
    traces: Path,
    id: str | None = None,
    /,
    *,
    limit: int = 3,
    color: Annotated[bool | None, Parameter(negative="--no-color")] = None,
) -> None:
    """Print traces, each author in its own colour, and the share of each.

    A mark stands where the author changes: ‹S› the student goes on, ‹T› the teacher.

    Parameters
    ----------
    traces
        A file that `weft synth` wrote; its .rejected.jsonl too.
    id
        The one trace of this id, or all traces of the prompt of this id; left out: the first ones.
    limit
        How many of the first traces.
    color
        With or without colour; left out: with, in a terminal, unless NO_COLOR is set.
    """
    if limit < 1:
        raise UserError(f"a limit of {limit} traces", expected="1 or more", where="--limit")
    console = _console(color)
    if id is not None:
        for trace, verdict in _named(traces, id):
            print_trace(trace, console, verdict)
        return
    rows = _rows(traces)
    shown = 0
    for shown, (trace, verdict) in enumerate(islice(rows, limit), 1):  # noqa: B007 - the count is read below
        print_trace(trace, console, verdict)
    if not shown:
        sys.stdout.write(f"no traces in {traces}\n")
    elif any(True for _ in islice(rows, 1)):
        sys.stdout.write("… there are more: --limit N shows the first N, an id shows one\n")


def print_trace(trace: Trace, console: Console | None = None, verdict: str = "") -> None:
    """One trace on stdout: header, prompt, thinking, response.

    Args:
        verdict: what `weft verify` found, in words.
    """
    console = console or _console(None)
    with console.capture() as capture:
        render_trace(trace, console, wrap=sys.stdout.isatty(), verdict=verdict)
    sys.stdout.write(capture.get() + "\n")
    sys.stdout.flush()


def visible(text: str) -> str:
    """``text`` with all that a terminal would obey, hide or reorder by its code: ``<U+001B>``."""
    return _UNUSUAL.sub(_by_code, text)


def _by_code(found: re.Match[str]) -> str:
    character = found[0]
    if character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return f"<U+{ord(character):04X}>"


def _on_one_line(text: str) -> str:
    return visible(text).replace("\n", "<U+000A>")


def _rows(path: Path) -> Iterator[tuple[Trace, str]]:
    """The traces of a file, each with what `weft verify` found of it; ``""`` where it was not asked."""
    for where, row in read_lines(path, TRACES.expected()):
        yield TRACES.read(row, where), _verdict(row)


def _verdict(row: Mapping[str, Any]) -> str:
    if "mark" not in row:
        return ""
    said = [str(row[name]) for name in ("verdict", "verdict_reason", "verdict_said") if row.get(name)]
    if row.get("duplicate_of"):
        said.append(f"nearly the same as {row['duplicate_of']}")
    if row.get("contaminated_by"):
        said.append(f"holds words of {row['contaminated_by']}")
    return ": ".join(said) + (f" ({row['verifier']})" if row.get("verifier") else "")


def _named(path: Path, wanted: str) -> Iterator[tuple[Trace, str]]:
    """The trace of this id, or the samples of the prompt of this id.

    Raises:
        UserError: there is none.
    """
    ids: list[str] = []
    found = False
    for trace, verdict in _rows(path):
        if wanted in (trace.id, trace.prompt.id):
            found = True
            yield trace, verdict
            if wanted == trace.id:
                return
        elif len(ids) < _IDS_COMPARED:
            ids += (trace.id, trace.prompt.id)
    if found:
        return
    other = rejected_path(path)
    remedy = "leave the id out to see the first traces"
    if other.is_file() and any(wanted in (trace.id, trace.prompt.id) for trace in read_traces(other)):
        remedy = f"it was rejected: weft show {shlex.quote(str(other))} {shlex.quote(wanted)}"
    near = difflib.get_close_matches(wanted, ids, n=3) or ids[:6:2]
    raise UserError(
        f'no trace and no prompt has the id "{visible(wanted)}"',
        where=str(path),
        expected=f"an id such as {', '.join(map(visible, near))}" if near else "a file with traces in it",
        remedy=remedy,
    )


def render_trace(trace: Trace, console: Console, *, wrap: bool, verdict: str = "") -> None:
    """One trace on any console: header, prompt, thinking, response; ``wrap`` long lines at its width."""
    made, tokens = trace.provenance, trace.usage.tokens
    header = Text(_on_one_line(trace.id), style="bold")
    status = trace.status.value
    for part in (status, made.strategy, f"{trace.usage.turns} turn{'s' if trace.usage.turns != 1 else ''}"):
        header.append("  ·  ", style="dim").append(_on_one_line(part), style="not bold")
    console.print(header, soft_wrap=True)
    if tokens.total:
        share = Text("tokens  ")
        for author in Author:
            count = tokens.of(author)
            share.append(f"{MARKS[author]} {author}", style=STYLES[author])
            share.append(f" {count:,} ({count / tokens.total:.0%})   ")
        share.rstrip()
        console.print(share, soft_wrap=True)
    if trace.status is not Status.COMPLETE:
        reason = visible(trace.reason or "not given").replace("\n", "\n        ")
        console.print(Text(f"reason  {reason}"), soft_wrap=True)
    if verdict:
        console.print(Text(f"verdict  {_on_one_line(verdict)}"), soft_wrap=True)
    for message in trace.prompt.messages:
        role = "" if message.role == "user" else f", {_on_one_line(message.role)}"
        _section(console, f"prompt{role}", Text(visible(message.content)), wrap)
    if trace.prompt.answer is not None:
        _section(console, "expected answer", Text(visible(trace.prompt.answer)), wrap)
    if trace.thinking_spans:
        _section(console, "thinking", _written(trace.spans[: trace.thinking_spans]), wrap)
    _section(console, "response", _written(trace.spans[trace.thinking_spans :]), wrap)


def _written(spans: Sequence[Span]) -> Text:
    """Spans with their marks and colours."""
    text, last = Text(), None
    for span in spans:
        if span.author is not last:
            text.append(MARKS[span.author], style=STYLES[span.author] + Style(bold=True))
            last = span.author
        text.append(_MARK.sub("<U+2039>", visible(span.text)), style=STYLES[span.author])
    return text if spans else Text("(none)", style="dim")


def _section(console: Console, name: str, body: Text, wrap: bool) -> None:
    """A heading at the margin and the text below it, indented."""
    console.print(Text(f"── {name} ──", style="dim"), soft_wrap=True)
    if wrap:
        console.print(Padding(body, (0, 0, 0, 2), expand=False))
        return
    lines = body.split("\n", allow_blank=True)
    console.print(
        Text("\n").join(Text.assemble("  ", line) if line.plain else line for line in lines), soft_wrap=True
    )


def _console(color: bool | None) -> Console:
    """On stdout. Forced colour is for pipes into viewers that know it; the width is the terminal's."""
    if color:
        return Console(force_terminal=True, no_color=False, color_system="truecolor", highlight=False)
    return Console(no_color=True if color is False else None, highlight=False)
