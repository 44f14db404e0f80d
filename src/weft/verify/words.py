"""Texts as words and runs of words, so that two can be compared.

A text is taken in Unicode's NFKC form and without case. Its words are runs of letters, marks and digits; in
scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is one.
White space and punctuation separate words and do not count otherwise, unless ``symbols`` are asked for: then
each sign is a word (``x + 1`` and ``x - 1`` differ).

Runs are known by 64-bit digests, the same on every machine: two different ones share a digest once in some
10^19 comparisons.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import regex

from weft.records import Message

Digests = npt.NDArray[np.uint64]

_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = rf"[{_DENSE}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_DENSE}]]+"
_WORD = regex.compile(_LETTERS, regex.V1)
_SIGN = regex.compile(rf"{_LETTERS}|\S", regex.V1)


def words_of(text: str, *, symbols: bool = False) -> list[str]:
    """The words of a text, in order."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    found: list[str] = (_SIGN if symbols else _WORD).findall(plain)
    return found


def asked(messages: Sequence[Message]) -> list[str]:
    """What a prompt asks, message by message: system messages say how to answer, and stand before many."""
    return [message.content for message in messages if message.role != "system"]


def runs(words: list[str], length: int) -> Digests:
    """A digest of each run of ``length`` words. ``[max(0, len(words) - length + 1)]``"""
    known = np.fromiter((_digest(word) for word in words), dtype=np.uint64, count=len(words))
    count = max(0, len(words) - length + 1)
    found = np.zeros(count, dtype=np.uint64)
    for place in range(length if count else 0):
        # Arrays wrap round, as is meant here.
        found += known[place : place + count] * np.uint64(_digest(f"place {place}") | 1)
    return found


def whole(words: list[str]) -> int:
    """A digest of all words, in order."""
    return int.from_bytes(blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest())


@lru_cache(maxsize=1 << 16)
def _digest(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())
