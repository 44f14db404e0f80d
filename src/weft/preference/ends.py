"""One beginning and one end of sequence in each pair.

TRL tokenises a text with what the tokenizer puts around it, and writes an end of sequence after each response
that does not end with one. Where a text begins with the beginning of sequence (a prompt that a chat template
wrote) and the tokenizer adds one, it stands there twice. An end stands there twice where the tokenizer adds
ends, or where a line break follows the one in the text. No model has seen two of either. Conversations go
through their template alone, which TRL adds nothing to; a template may still write one twice.

Invariants
    - Nothing but a second, third, ... sign at the start of a prompt or at the end of a response goes, and
      blanks between two ends.
    - Rows that came in as ids are their owner's and stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

_BATCH = 1000
_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class OneEach:
    """A tokenised row in, its ids with one sign each out; picklable, and all that decides is a field."""

    bos: int | None
    eos: int | None
    eos_text: str = ""
    """As it stands in texts; empty if none is to be looked for there."""

    def __call__(self, row: dict[str, Any]) -> dict[str, list[int]]:
        found = {"prompt_ids": self._begun(row["prompt_ids"])}
        return found | {f"{side}_ids": self._ended(row[f"{side}_ids"], row.get(side)) for side in _SIDES}

    def doubled(self, row: dict[str, Any]) -> tuple[bool, bool]:
        """Whether the prompt begins twice, and whether a response ends twice."""
        found = self(row)
        shorter = [len(found[name]) < len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
        return shorter[0], any(shorter[1:])

    def _begun(self, ids: list[int]) -> list[int]:
        extra = 0
        while self.bos is not None and ids[extra : extra + 2] == [self.bos, self.bos]:
            extra += 1
        return ids[extra:]

    def _ended(self, ids: list[int], text: Any) -> list[int]:
        """The ids up to their first end of those that follow each other.

        Args:
            text: that TRL made ids of, with the end that it wrote; of a conversation, messages.
        """
        kept = len(ids)
        while self.eos is not None and ids[max(0, kept - 2) : kept] == [self.eos, self.eos]:
            kept -= 1
        if not self.eos_text or not isinstance(text, str):
            return ids[:kept]
        # Which tokens are blank only a tokenizer knows: blanks between ends are looked for in the text.
        sign = re.escape(self.eos_text)
        tail = re.search(rf"(?:{sign}\s*)*{sign}\Z", text)
        if tail is not None:
            before, there = (part.count(self.eos_text) for part in (text[: tail.start()], tail.group()))
            ends = [at for at, token in enumerate(ids) if token == self.eos]
            # Unless each stands in the ids, and perhaps one that the tokenizer adds, they tell nothing.
            if len(ends) - before - there in (0, 1):
                kept = min(kept, ends[before] + 1)
        return ids[:kept]


def one_each(rows: Any, tokenizer: Any, name: str, *, mend: bool) -> tuple[Any, str | None]:
    """Tokenised rows with one beginning and one end each, and what to say; ``None`` if nothing was double.

    A stream is mended while it streams, and nothing is said.

    Args:
        name: of the data, for the line.
        mend: else the rows are only looked at.
    """
    step = OneEach(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.eos_token or "")
    if not isinstance(rows, Dataset):
        return (rows.map(step) if mend else rows), None
    names = [name for name in ("prompt_ids", "chosen_ids", "rejected_ids", *_SIDES) if name in rows.features]
    found = [0, 0]
    for batch in rows.select_columns(names).iter(batch_size=_BATCH):
        for values in zip(*(batch[column] for column in names), strict=True):
            doubled = step.doubled(dict(zip(names, values, strict=True)))
            found = [count + twice for count, twice in zip(found, doubled, strict=True)]
    if not any(found):
        return rows, None
    line = (
        f"{name} data: {found[0]:,} of {len(rows):,} prompts begin with {tokenizer.bos_token!r} twice and "
        f"{found[1]:,} pairs end with {tokenizer.eos_token!r} twice: TRL or the tokenizer adds what "
        "the text or the template has; " + ("one of each is kept" if mend else "take them out of the texts")
    )
    return (rows.map(step, desc="Keeping one beginning and end of sequence") if mend else rows), line
