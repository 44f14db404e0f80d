"""Whether a trace holds a benchmark's question.

A benchmark is a file or data set of prompts. A trace is contaminated by the first of its rows for which

- the trace's prompt shares ``ngram`` words in a row (13 unless told otherwise) with the row's question, or
  both are the same words and no others, however few: *in the prompt*;
- or its thinking or its response shares so many words in a row with it: *in the text*. A model that recites a
  benchmark does so there.

:mod:`weft.verify.words` says what words are. System messages do not count, on neither side. A run of words
that more than ten rows of one benchmark hold is its way of asking, not a question, and does not count.

It does not know paraphrases and translations: only words in order are compared. Nor does it look at a
benchmark's answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from weft.errors import UserError
from weft.prompts.rows import PROMPT_LIKE, prompt_from_row
from weft.prompts.source import rows_of
from weft.records import Prompt, Trace
from weft.verify.words import Digests, asked, runs, whole, words_of

MOST_ROWS = 10
"""Rows of one benchmark that may share a run of words before it counts as its way of asking."""


@dataclass(frozen=True, slots=True)
class _Benchmark:
    """One benchmark, to be searched."""

    name: str
    sha256: str
    """Over its questions' words."""
    places: tuple[str, ...]
    """Of each row, for people. ``[rows]``"""
    runs: Digests
    """All that count, sorted. ``[runs]``"""
    rows: Digests
    """The first row that holds each. ``[runs]``"""
    wholes: Mapping[int, int]
    """Digests of whole questions, and the first row with each."""

    def row_with(self, found: Digests) -> int | None:
        """The first row that holds one of these runs."""
        if not len(found) or not len(self.runs):
            return None
        at = np.searchsorted(self.runs, found)
        at[at == len(self.runs)] = 0
        held = self.rows[at[self.runs[at] == found]]
        return int(held.min()) if len(held) else None


class Benchmarks:
    """Benchmarks in memory: 16 bytes for each word of theirs, and their rows' places."""

    def __init__(self, benchmarks: Sequence[_Benchmark], ngram: int) -> None:
        self._benchmarks, self._ngram = tuple(benchmarks), ngram

    def hit(self, trace: Trace) -> str | None:
        """The benchmark's row that a trace holds, as ``bench.jsonl:12 in the prompt``; ``None`` if none."""
        spoken = [words_of(content) for content in asked(trace.prompt.messages)]
        if place := self._place([runs(words, self._ngram) for words in spoken], whole([*chain(*spoken)])):
            return f"{place} in the prompt"
        said = [runs(words_of(text), self._ngram) for text in (trace.thinking, trace.response)]
        place = self._place(said, None)
        return f"{place} in the text" if place else None

    def describe(self) -> list[dict[str, Any]]:
        """All that decides what is found, as JSON values."""
        return [{"name": one.name, "rows": len(one.places), "sha256": one.sha256} for one in self._benchmarks]

    def _place(self, found: Sequence[Digests], entire: int | None) -> str | None:
        together = np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)
        for benchmark in self._benchmarks:
            row = benchmark.row_with(together)
            same = None if entire is None else benchmark.wholes.get(entire)
            held = [number for number in (row, same) if number is not None]
            if held:
                return benchmark.places[min(held)]
        return None


def read_benchmarks(names: Iterable[str], *, split: str, ngram: int) -> Benchmarks:
    """Read benchmarks.

    Args:
        names: files or data sets; questions are in a column ``prompt``, or in one that is usual for them.
        split: of data sets.

    Raises:
        UserError: one cannot be read, or holds no words.
    """
    return Benchmarks([_read(name, split, ngram) for name in names], ngram)


def _read(name: str, split: str, ngram: int) -> _Benchmark:
    digest = hashlib.sha256()
    places: list[str] = []
    wholes: dict[int, int] = {}
    held: list[Digests] = []
    for row, prompt in enumerate(_prompts(name, split)):
        places.append(prompt.where)
        spoken = [words_of(content) for content in asked(prompt.messages)]
        together = [*chain(*spoken)]
        digest.update("\0".join(together).encode("utf-8", "replace") + b"\n")
        if together:
            wholes.setdefault(whole(together), row)
        held.append(np.unique(np.concatenate([runs(words, ngram) for words in spoken])))
    if not wholes:
        raise UserError("no words in this benchmark", where=name, remedy="check the file or the split")
    kept, rows = _searchable(held)
    return _Benchmark(name, digest.hexdigest(), tuple(places), kept, rows, wholes)


def _searchable(held: Sequence[Digests]) -> tuple[Digests, Digests]:
    """All runs but those of too many rows, sorted, and the first row of each.

    Args:
        held: of each row, each once.
    """
    every = np.concatenate(held)
    numbers = np.repeat(np.arange(len(held), dtype=np.uint64), [len(one) for one in held])
    kept, first, counts = np.unique(every, return_index=True, return_counts=True)
    few = counts <= MOST_ROWS
    return kept[few], numbers[first[few]]


def _prompts(name: str, split: str) -> Iterator[Prompt]:
    column = None
    for where, row in rows_of(name, split, None, "prompt")():
        if column is None:
            usual = (one for one in PROMPT_LIKE if one in row)
            column = "prompt" if {"prompt", "messages"} & row.keys() else next(usual, "prompt")
        yield prompt_from_row(row, where, column)
