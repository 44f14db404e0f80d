"""Sets of samples: checked, named, and drawn so that all of them hold the same prompts.

Invariants
    - Where a set holds more than is asked for, prompts that other sets hold too are drawn first, then in an
      order of seed and prompt alone. So sets over the same prompts give the same prompts, wherever these
      stand in their files.
    - Files are read twice, row by row, and never held. Memory grows by some hundred bytes per row.

It does not know models, nor how files hold samples.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest
from pathlib import Path

from weft.errors import UserError
from weft.gap.distance.samples import FORMATS, Sample, read_samples
from weft.prompts.files import file_kind
from weft.store.files import file_digest

NOT_COMPLETE, NOT_DRAWN = "not_complete", "not_drawn"
"""Why a text is not read: its trace was rejected; there are more texts than are asked for."""


@dataclass(frozen=True)
class Samples:
    """A checked set, made by :func:`open_sets`; each iteration reads the drawn samples from the start."""

    label: str
    name: str
    """File or data set, as it was named."""
    split: str
    sha256: str
    """Of the file; of a data set's samples."""
    strategy: str
    """Those of its traces, joined; empty where it names none."""
    writers: frozenset[str]
    """Models that wrote whole samples by themselves; holds the empty string if there is another sample."""
    seeds: frozenset[int]
    """Of the student's draws in it."""
    texts: int
    """Complete ones, drawn or not."""
    left_out: Mapping[str, int]
    """Texts that are not read, by reason."""
    drawn: frozenset[int]
    """Rows of the drawn ones, from 0."""
    ids: frozenset[int]
    """Hashes of their ids, in this process."""

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(read_samples(self.name, self.label, self.split)):
            if number in self.drawn and sample is not None:
                yield sample


def open_sets(
    names: Sequence[str], *, limit: int | None = None, seed: int = 0, split: str = "train"
) -> list[Samples]:
    """Read each set once: check every row, and draw.

    Args:
        names: paths of files, or of data sets' folders, or their hub ids.
        limit: samples of each, at most; ``None`` for all.
        split: of data sets; files have none.

    Raises:
        UserError: there is no such file or data set, a row is malformed, an id stands twice, or there is no
            text in one.
    """
    looked = [_look(name, label, split) for name, label in zip(names, labels(names), strict=True)]
    holds: Counter[str] = Counter()
    if limit is not None and any(len(one.rows) > limit for one in looked):
        for one in looked:
            holds.update({row.prompt for row in one.rows})

    def order(row: _Row) -> tuple[int, bytes, bytes]:
        return (-holds[row.prompt], *draw_order(seed, row.prompt, row.id))

    return [one.drawn(one.rows if limit is None else nsmallest(limit, one.rows, key=order)) for one in looked]


def draw_order(seed: int, prompt: str, sample: str) -> tuple[bytes, bytes]:
    """By what samples are drawn, the least first: all of one prompt stand together."""
    return _hash(f"{seed}|{prompt}"), _hash(sample)


def labels(names: Sequence[str]) -> list[str]:
    """A short name for each file or data set: its stem, and as many folders as tell it from others."""
    paths = [Path(name.rstrip("/")) for name in names]
    folders = [[part for part in path.parts[:-1] if part not in ("/", ".")] for path in paths]
    found = [_stem(path) for path in paths]
    for depth in range(1, max(map(len, folders), default=0) + 1):
        clashing = {label for label, count in Counter(found).items() if count > 1}
        for place, parts in enumerate(folders):
            if found[place] in clashing:
                found[place] = ":".join([*parts[-depth:], _stem(paths[place])])
    for place, label in enumerate(found):
        if label in found[:place]:  # told apart by the kind of file alone
            found[place] = f"{label}:{place + 1}"
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    """A complete sample, without its text."""

    number: int
    prompt: str
    id: str


@dataclass(frozen=True)
class _Looked:
    """A set that was read once."""

    label: str
    name: str
    split: str
    sha256: str
    strategy: str
    writers: frozenset[str]
    seeds: frozenset[int]
    incomplete: int
    rows: list[_Row]

    def drawn(self, rows: Sequence[_Row]) -> Samples:
        """The set with ``rows`` of it."""
        counts = {NOT_COMPLETE: self.incomplete, NOT_DRAWN: len(self.rows) - len(rows)}
        return Samples(
            label=self.label,
            name=self.name,
            split=self.split,
            sha256=self.sha256,
            strategy=self.strategy,
            writers=self.writers,
            seeds=self.seeds,
            texts=len(self.rows),
            left_out={reason: count for reason, count in counts.items() if count},
            drawn=frozenset(row.number for row in rows),
            ids=frozenset(hash(row.id) for row in rows),
        )


def _look(name: str, label: str, split: str) -> _Looked:
    path = Path(name).expanduser()
    file = file_digest(path) if path.is_file() else None
    digest = hashlib.sha256()
    rows: dict[str, _Row] = {}
    strategies: dict[str, None] = {}
    writers: set[str] = set()
    seeds: set[int] = set()
    number = -1
    for number, sample in enumerate(read_samples(name, label, split)):
        if sample is None:
            continue
        if sample.id in rows:
            raise UserError(
                f"the id {sample.id} is there twice, first in row {rows[sample.id].number + 1}",
                where=sample.where,
                expected="each id once",
                remedy="remove one of the two, or name their files one by one",
            )
        rows[sample.id] = _Row(number, sample.prompt, sample.id)
        if file is None:
            digest.update(f"{sample.id} {sample.digest}\n".encode(errors="backslashreplace"))
        strategies.setdefault(sample.strategy)
        writers.add(sample.writer)
        if sample.seed is not None:
            seeds.add(sample.seed)
    incomplete = number + 1 - len(rows)
    if not rows:
        raise UserError(
            f"no complete traces; {incomplete:,} were rejected" if incomplete else "there are no rows",
            where=name,
            expected=FORMATS,
            remedy="name another file",
        )
    strategy = ", ".join(filter(None, strategies))
    return _Looked(
        label,
        name,
        split,
        file or digest.hexdigest(),
        strategy,
        frozenset(writers),
        frozenset(seeds),
        incomplete,
        list(rows.values()),
    )


def _stem(path: Path) -> str:
    """A file's name without what says its kind; a data set's last part."""
    kind = file_kind(path)
    return path.name if kind is None else path.name[: path.name.lower().rindex(kind)]


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
