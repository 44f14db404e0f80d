"""All texts of a report in a few words each: what each is, where its rows lie, how large it would be.

A text is a trace, or what a student read (a reading), or both: they are joined where the reading's source is
the trace's file, its sample the trace's id, and the texts are equal. Readings alone (of data that Weft did
not write, or of files that were not given) are texts, too, of the source that they name.

Invariants
    - Files are streamed; kept are some hundred bytes for each row, never its text.
    - The order is that of the files and their rows.

It does not know what is shown of a text, nor which ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weft.errors import UserError
from weft.gap.distance.readings import READINGS, Reading, ReadingStatus
from weft.records import Trace
from weft.report.files import FileKind, Files, Found, source_name
from weft.store import read_rows, read_traces

NUMBERS = 9
"""Bytes that a token's numbers take in the page, packed: surprise, rank, entropy, style, length."""
FRAME = 400
"""Bytes that a text takes besides."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a file."""

    file: Found
    row: int
    """From 0."""
    digest: bytes
    """Of the id and the text, so that a file that changes while it is read is noticed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One text."""

    number: int
    """Its place among all, from 0."""
    source: str
    id: str
    """As in its file."""
    prompt: str
    """Equal for texts of the same prompt, whatever files they are of."""
    strategy: str
    status: str
    characters: int
    size: int
    """Bytes in the page, about, were it shown whole."""
    trace: Place | None
    reading: Place | None
    outlier: float | None = None
    """How far it is from its source's others; see :class:`weft.gap.distance.result.Outlier`."""
    read_as: str = ""
    """The source's label in the reading and in the results of `weft gap style`."""

    @property
    def called(self) -> str:
        """The source's label in results."""
        return self.read_as or self.source

    @property
    def stratum(self) -> tuple[str, str, str]:
        return (self.source, self.strategy, self.status)

    def size_within(self, characters: int) -> int:
        """Bytes in the page, about, if so many characters of it are shown at most."""
        if self.characters <= characters:
            return self.size
        return FRAME + (self.size - FRAME) * characters // self.characters


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All texts."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    """What could not be joined, in words."""
    own: frozenset[str] = frozenset()
    """Sources that are the student's own traces."""


def content_digest(id: str, text: str) -> bytes:
    """Of what joins a reading to a trace."""
    both = json.dumps([id, text])
    return hashlib.sha256(both.encode()).digest()[:16]


def prompt_key(trace: Trace) -> str:
    """Equal for traces of the same messages."""
    messages = json.dumps([message.to_dict() for message in trace.prompt.messages])
    return hashlib.sha256(messages.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Measured:
    """A source as a result of `weft gap style` names it."""

    file: str
    strategy: str
    own: bool = False
    """Whether it is the student's own traces."""


def catalogue(
    files: Files,
    outliers: Mapping[tuple[str, str], float],
    measured: Mapping[str, Measured] | None = None,
) -> Catalogue:
    """Go through all rows once.

    Args:
        files: of the report.
        outliers: by source and by the text's id in its file.
        measured: sources of the results, by label.

    Raises:
        UserError: a row is broken.
    """
    measured = measured or {}
    traces = list(_traces(files.of(FileKind.TRACES)))
    by_digest: dict[bytes, list[int]] = {}
    for at, entry in enumerate(traces):
        if entry.trace is not None:
            by_digest.setdefault(entry.trace.digest, []).append(at)
    alone: dict[tuple[str, bytes], Entry] = {}
    prompts: dict[str, str] = {}
    again = 0
    for place, reading in _readings(files.of(FileKind.READINGS)):
        equal = by_digest.get(place.digest, ())
        if equal:
            prompts[reading.prompt] = traces[equal[0]].prompt
        meant = _meant(traces, equal, place, reading.source, measured)
        if not meant:
            again += (reading.source, place.digest) in alone
            alone.setdefault((reading.source, place.digest), _alone(place, reading, measured))
        for at in meant:
            if traces[at].reading is None:
                size = traces[at].size + NUMBERS * reading.tokens
                traces[at] = replace(traces[at], reading=place, size=size, read_as=reading.source)
            else:
                again += 1
    joined = [
        replace(entry, prompt=prompts.get(entry.prompt) or _prompt_of_reading(entry.prompt))
        for entry in alone.values()
    ]
    entries = [
        replace(entry, number=number, outlier=outliers.get((entry.called, entry.id)))
        for number, entry in enumerate([*traces, *joined])
    ]
    own = [entry.source for entry in entries if entry.called in measured and measured[entry.called].own]
    notes = []
    if again:
        notes.append(f"{again:,} texts were read more than once; the first reading of each is shown.")
    return Catalogue(tuple(entries), tuple(notes), frozenset(own))


def rows_at(places: Iterable[Place]) -> Iterator[tuple[Place, Trace | Reading]]:
    """The rows at some places: traces first, each file in its order.

    Raises:
        UserError: a file has changed since it was catalogued.
    """
    wanted: dict[Found, dict[int, Place]] = {}
    for place in places:
        wanted.setdefault(place.file, {})[place.row] = place
    for file in sorted(wanted, key=lambda file: file.kind is not FileKind.TRACES):
        left = wanted[file]
        for number, row in enumerate(_rows(file)):
            found = left.pop(number, None)
            if found is None:
                continue
            id = row.sample if isinstance(row, Reading) else row.id
            if content_digest(id, row.text) != found.digest:
                left[number] = found
                break
            yield found, row
            if not left:
                break
        if left:
            raise UserError(
                "it changed while the report was made", where=str(file.path), remedy="run the command again"
            )


def _rows(file: Found) -> Iterator[Trace | Reading]:
    if file.kind is FileKind.TRACES:
        yield from read_traces(file.path)
    else:
        yield from read_rows(READINGS, file.path)


def _traces(files: Sequence[Found]) -> Iterator[Entry]:
    for file in files:
        for row, trace in enumerate(read_traces(file.path)):
            text = trace.text
            made_of = len(text.encode("utf-8", "surrogatepass"))
            yield Entry(
                number=0,
                source=file.label,
                id=trace.id,
                prompt=prompt_key(trace),
                strategy=trace.provenance.strategy,
                status=trace.status.value,
                characters=len(text),
                size=FRAME + made_of + 12 * len(trace.spans) + _prompt_size(trace),
                trace=Place(file, row, content_digest(trace.id, text)),
                reading=None,
            )


def _prompt_size(trace: Trace) -> int:
    return sum(len(message.content.encode("utf-8", "surrogatepass")) for message in trace.prompt.messages)


def _readings(files: Sequence[Found]) -> Iterator[tuple[Place, Reading]]:
    for file in files:
        for row, reading in enumerate(read_rows(READINGS, file.path)):
            yield Place(file, row, content_digest(reading.sample, reading.text)), reading


def _meant(
    traces: Sequence[Entry], equal: Sequence[int], place: Place, source: str, measured: Mapping[str, Measured]
) -> Sequence[int]:
    """Among traces of equal id and text those of the file that a reading's source is.

    The same text in another file is another text. Of files of one name, the one beside the reading is meant.
    """
    called = {source, source_name(Path(measured[source].file))} if source in measured else {source}
    folder = place.file.path.resolve().parent
    named: list[int] = []
    beside: list[int] = []
    for at in equal:
        trace = traces[at].trace
        path = trace.file.path if trace is not None else Path()
        if traces[at].source == source or source_name(path) in called:
            named.append(at)
            beside += [at] if path.resolve().parent == folder else []
    return beside or [at for at in named if traces[at].source == source] or named


def _prompt_of_reading(prompt: str) -> str:
    """A key for the page of a prompt of which only the id is known, whatever that is."""
    return f"r{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _alone(place: Place, reading: Reading, measured: Mapping[str, Measured]) -> Entry:
    complete = reading.status is ReadingStatus.COMPLETE
    made_of = len(reading.text.encode("utf-8", "surrogatepass"))
    return Entry(
        number=0,
        source=reading.source,
        id=reading.sample,
        prompt=reading.prompt,
        strategy=measured[reading.source].strategy if reading.source in measured else "",
        status="complete" if complete else reading.status.value,
        characters=len(reading.text),
        size=FRAME + made_of + NUMBERS * reading.tokens,
        trace=None,
        reading=place,
    )
