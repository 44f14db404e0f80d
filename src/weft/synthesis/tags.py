"""Tags and control tokens that stand in the text as if they were words.

A model may spell another model's tag, or its own, with ordinary tokens. Training would read it as the tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class TagFinder:
    """Finds the first of some strings in a growing text."""

    def __init__(self, tags: Iterable[str]) -> None:
        ordered = sorted({tag for tag in tags if tag}, key=lambda tag: (-len(tag), tag))
        self._longest = len(ordered[0]) if ordered else 0
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def find(self, text: str, new: int) -> tuple[str, int] | None:
        """The first tag that ends within the last ``new`` characters of ``text``, and where it starts."""
        if self._pattern is None:
            return None
        match = self._pattern.search(text, max(0, len(text) - new - self._longest + 1))
        return (match.group(), match.start()) if match else None


def without_begun(text: str, tag: str | None) -> str:
    """``text`` without an end that may be the start of ``tag``."""
    if tag is None:
        return text
    begun = max((n for n in range(1, len(tag)) if text.endswith(tag[:n])), default=0)
    return text[: len(text) - begun]
