"""What is kept of a set of texts when its readings are gone: tokens and words by number.

Four bytes for each token and five for each word, some four kilobytes for a text of 500 tokens. The numbers
are shared by all sets that are measured together, and mean nothing outside.

Invariant: texts are sorted by prompt, then by id, so that no figure depends on the order in which they came.

This module does not know models, nor what is made of the bags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.readings import Reading

Row = NDArray[np.int32]
"""Tokens or words of one text, by number. ``[n]``"""


class Names:
    """Numbers for strings, 0 for the first that came."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbers(self, strings: Iterable[str]) -> Row:
        known = self._numbers
        return np.array([known.setdefault(string, len(known)) for string in strings], dtype=np.int32)

    def strings(self) -> list[str]:
        """By number."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


@dataclass(frozen=True, slots=True)
class Texts:
    """A set of texts. Sequences are over texts. ``[texts]``"""

    ids: Sequence[str]
    """Each text's in its file."""
    prompts: Sequence[str]
    tokens: Sequence[Row]
    words: Sequence[Row]
    marks: Sequence[NDArray[np.uint8]]
    """What is known of each word, see :mod:`weft.gap.distance.markers`."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, prompts: Iterable[str]) -> Texts:
        """Only the texts of these prompts."""
        wanted = frozenset(prompts)
        return self.at([place for place, prompt in enumerate(self.prompts) if prompt in wanted])

    def at(self, places: Iterable[int]) -> Texts:
        """Only the texts at these places, in this order."""
        chosen = list(places)
        return Texts(
            [self.ids[place] for place in chosen],
            [self.prompts[place] for place in chosen],
            [self.tokens[place] for place in chosen],
            [self.words[place] for place in chosen],
            [self.marks[place] for place in chosen],
        )


def token_strings(reading: Reading) -> list[str]:
    """The student's tokens as strings; joined they equal the text.

    A token that ends amid a character joins with the next.
    """
    pieces, start = [], 0
    for length in reading.chars:
        if length:
            pieces.append(reading.text[start : start + length])
            start += length
    return pieces


def shared(first: Texts, second: Texts) -> list[str]:
    """The prompts that both sets have, sorted."""
    return sorted(set(first.prompts) & set(second.prompts))


def bag(rows: Sequence[Row], width: int) -> Any:
    """How often each token stands in each text, sparse. ``[texts, width]``"""
    return _sparse([np.unique(row, return_counts=True) for row in rows], width)


def grams(rows: Sequence[Row], width: int) -> Any:
    """How often each token, and each two in a row, stand in each text: those that two texts have. Sparse.

    Args:
        width: numbers of tokens lie below.
    """
    keyed = [np.unique(_with_pairs(row.astype(np.int64), width), return_counts=True) for row in rows]
    if not keyed:
        return _sparse([], 0)
    keys, column, texts = np.unique(
        np.concatenate([values for values, _ in keyed]), return_inverse=True, return_counts=True
    )
    splits = np.cumsum([len(values) for values, _ in keyed])[:-1]
    found = zip(np.split(column, splits), (counts for _, counts in keyed), strict=True)
    return _sparse(list(found), len(keys))[:, texts >= 2]


def summed(groups: Sequence[str], rows: Any) -> Any:
    """Add up the sparse rows of each group, in the order in which groups first come. ``[groups, width]``"""
    from scipy.sparse import csr_array

    places: dict[str, int] = {}
    index = [places.setdefault(group, len(places)) for group in groups]
    belongs = csr_array((np.ones(len(index)), (index, range(len(index)))), shape=(len(places), len(index)))
    return belongs @ rows


def tfidf(counts: Any) -> Any:
    """Counts weighted by smooth inverse document frequency, rows of length 1: scikit-learn's defaults."""
    from sklearn.feature_extraction.text import TfidfTransformer

    return TfidfTransformer().fit_transform(counts)


def _with_pairs(row: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Tokens, and pairs by numbers that come after all tokens'."""
    return np.concatenate([row, (row[:-1] + 1) * width + row[1:]])


def _sparse(rows: Sequence[tuple[Any, Any]], width: int) -> Any:
    """From columns and counts of each row; indices of 32 bits, as scikit-learn's solvers want them."""
    from scipy.sparse import csr_array

    starts = np.cumsum([0, *(len(columns) for columns, _ in rows)], dtype=np.int32)
    columns = np.concatenate([columns for columns, _ in rows]) if rows else np.empty(0)
    counts = np.concatenate([counts for _, counts in rows]) if rows else np.empty(0)
    cells = (counts.astype(np.float64), columns.astype(np.int32), starts)
    return csr_array(cells, shape=(len(rows), width))
