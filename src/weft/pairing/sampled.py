"""Responses from traces: which can be in a pair, and which belong to one prompt.

Files of `weft synth` and of `weft verify` are read alike, each together with its ``.rejected.jsonl``: what
was found wrong stands there, and a wrong response is half of a pair. Left out, and counted, are responses
that are not whole, that repeat others, and that hold a benchmark's question.

Invariants
    - All responses are in the form of one student: one training template, with the same arguments.
    - Prompts are one if their messages are; what they are called does not matter.

It does not know what makes a response good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import UserError
from weft.gap.ranking.pairs import prompt_digest
from weft.records import Status, Trace
from weft.store import rejected_path
from weft.store.files import file_digest
from weft.store.lines import read_lines
from weft.store.traces import TRACES
from weft.verify.marked import MARKED, Mark

UNFINISHED, REPEATED, CONTAMINATED = "not whole", "repeated", "contaminated"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response."""

    key: str
    """The trace's id; of several files, with the file's number before it."""
    trace: Trace
    prompt: str
    """The prompt's digest."""
    verdict: str | None
    """``correct``, ``wrong`` or ``unverifiable``; ``None``: no verifier was asked."""
    where: str
    """File and line, for messages to people."""

    @property
    def tokens(self) -> int:
        """In the student's tokens."""
        return self.trace.usage.tokens.total


@dataclass(frozen=True, slots=True)
class Samples:
    """The responses of some files."""

    found: tuple[Sampled, ...]
    """Those that can be in a pair, in the files' order."""
    left_out: Mapping[str, int]


def files_of(inputs: Sequence[Path]) -> list[tuple[int, Path]]:
    """The files to read, each once, with the number of the input that it belongs to: those that are named,
    and what was rejected beside them.

    Raises:
        UserError: one is not there.
    """
    found: dict[Path, tuple[int, Path]] = {}
    for number, path in enumerate(inputs):
        if not path.is_file():
            raise UserError(
                "no such file",
                where=str(path),
                expected="traces, as `weft synth` or `weft verify` writes them",
            )
        for file in (path, rejected_path(path)):
            if file.is_file():
                found.setdefault(file.resolve(), (number, file))
    return list(found.values())


def digests(files: Iterable[Path]) -> list[str]:
    """What decides pairs of the files, for a manifest.

    Raises:
        UserError: one cannot be read.
    """
    found = []
    for file in files:
        try:
            found.append(file_digest(file))
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=str(file)) from error
    return found


def read_samples(inputs: Sequence[Path]) -> Samples:
    """All responses of the files, and of those beside them.

    Raises:
        UserError: a file or a row cannot be read, or the responses are not of one form.
    """
    found: list[Sampled] = []
    places: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    files = files_of(inputs)
    several = len({number for number, _ in files}) > 1
    for number, file in files:
        prefix = f"{number}/" if several else ""
        for sampled in _read(file, prefix):
            if isinstance(sampled, str):
                left_out[sampled] += 1
                continue
            if sampled.key in places:
                raise UserError(
                    f"two traces are called {sampled.trace.id}",
                    where=sampled.where,
                    expected=f"another id than in {places[sampled.key]}",
                    remedy="name the files of several runs one by one, not joined",
                )
            places[sampled.key] = sampled.where
            found.append(sampled)
    if not found:
        raise UserError(
            "no trace is whole", where=", ".join(map(str, inputs)), expected="complete traces of `weft synth`"
        )
    _check_form(found)
    return Samples(tuple(found), dict(left_out))


def _read(file: Path, prefix: str) -> Iterator[Sampled | str]:
    """The responses of one file, or why one is left out."""
    for where, row in read_lines(file, TRACES.expected()):
        mark, verdict = None, None
        if "mark" in row:
            marked = MARKED.read(row, where)
            trace, mark = marked.trace, marked.mark
            verdict = marked.judgement.verdict.value if marked.judgement else None
        else:
            trace = TRACES.read(row, where)
        if trace.status is not Status.COMPLETE:
            yield UNFINISHED
        elif mark is Mark.DUPLICATE:
            yield REPEATED
        elif mark is Mark.CONTAMINATED:
            yield CONTAMINATED
        else:
            digest = prompt_digest(trace.prompt.messages)
            yield Sampled(f"{prefix}{trace.id}", trace, digest, verdict, where)


def _check_form(found: Sequence[Sampled]) -> None:
    """Whether one student's template takes all of them.

    Raises:
        UserError: it does not.
    """

    def form(one: Sampled) -> tuple[Any, ...]:
        trace = one.trace
        return trace.training_template, trace.template_arguments, trace.completion.thinking_field

    first = found[0]
    for one in found[1:]:
        if form(one) != form(first):
            raise UserError(
                "the response is in another form than the first one: of another student, or with other "
                "template arguments",
                where=one.where,
                expected=f"one student's traces throughout, as in {first.where}",
                remedy="make pairs of each student's traces by themselves",
            )
