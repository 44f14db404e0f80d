"""Text that a model is shown, without strings that its tokenizer would read as control tokens.

A chat template is rendered to text and then tokenised, so a response that spells ``<|im_end|>`` would end its
own turn, and what follows could speak in the grader's place.

It does not know what else a text may say: words that ask for a good grade stay words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class Plain:
    """Breaks some strings, wherever they stand in a text."""

    def __init__(self, tags: Iterable[str]) -> None:
        """``tags`` of one character are left alone: they cannot be broken."""
        ordered = sorted({tag for tag in tags if len(tag) > 1})
        # What begins a tag is looked for at each place, since tags may overlap.
        begins = f"(?={'|'.join(map(re.escape, ordered))})."
        self._pattern = re.compile(begins, re.DOTALL) if ordered else None

    def __call__(self, text: str) -> str:
        """``text`` with a space after the first character of each tag, and a replacement character for each
        half of one, which no tokenizer takes."""
        whole = text.encode("utf-8", "replace").decode()
        if self._pattern is None:
            return whole
        return self._pattern.sub(lambda first: f"{first[0]} ", whole)
