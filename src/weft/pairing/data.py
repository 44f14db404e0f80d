"""One call for the whole job: a preference data set in, pairs with an explicit prompt out.

Rows are read and checked as ``weft align`` does (:func:`weft.preference.pairs.open_pairs`): what is wrong
with the form of one stops with its place. What is wrong with a pair is counted, and the pair is kept apart
with the reason: equal responses, a response without text, scores that contradict the label or lie too close.

Texts whose prompt is what both begin with are split as TRL does it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import weft
from weft.errors import UserError
from weft.gap.ranking.measure import Observer, Silence
from weft.gap.ranking.pairs import split_texts, without_gaps
from weft.gap.ranking.reading import digest_of
from weft.pairing.outcome import Paired, PairStatus, check_pairs
from weft.pairing.pairs import PAIRS, Pair, Said, Side
from weft.pairing.samples import figures_of
from weft.pairing.settings import SCORES, DataSettings
from weft.store import Manifest, RowStore

LABEL, SCORE = "label", "score"
WORDS = {
    PairStatus.SAME: "identical responses",
    PairStatus.EMPTY: "a response without text",
    PairStatus.TIE: "scores too close",
    PairStatus.CONTRADICTED: "the rejected response has the higher score",
}
SWAPPED = "swapped by their scores"


def from_data(
    settings: DataSettings,
    data: str,
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Paired:
    """Write the pairs of a data set in one form, checked.

    Args:
        data: a file, a data set's folder or a hub id, as ``weft align`` takes them.
        command: the command line's arguments, for the manifest.

    Raises:
        UserError: there is no such data, a row cannot be used, or ``output`` was made with others.
    """
    from weft.preference.pairs import open_pairs

    observer = observer or Silence()
    check_pairs(output, [Path(data)] if Path(data).is_file() else [])
    keep = ("id", "answer", *(settings.scores or ()))
    found = open_pairs(data, split=settings.split, limit=settings.limit, keep=keep)
    reader = _Reader(settings, found.rows, found.name)
    deciding = {"pairs": "data", **settings.deciding(), "data": found.sha256, "beside": reader.beside}
    info = {"command": list(command), "data": {"name": found.name, "rows": len(found.rows)}}
    made: list[Pair] = []
    observer.began("pairs looked at", len(found.rows))
    with RowStore(
        PAIRS, output, Manifest.create(weft.__version__, deciding, info), overwrite=overwrite
    ) as store:
        for note in store.repaired:
            observer.noted(note)
        for row in found.rows:
            pair = reader.pair(row)
            if not store.is_finished(pair.id, pair.made_from):
                store.append(pair)
            if pair.status is PairStatus.COMPLETE:
                made.append(pair)
            observer.advanced()
        counts = {words: store.counts[status] for status, words in WORDS.items() if store.counts[status]}
    if reader.swapped:
        observer.noted(f"{reader.swapped:,} pairs were {SWAPPED}")
    if not made:
        observer.noted("no pair can be used")
    return Paired(output, len(made), counts, figures_of(made))


class _Reader:
    """Rows of one data set as pairs."""

    def __init__(self, settings: DataSettings, rows: Any, name: str) -> None:
        self._settings, self._name = settings, name
        self.swapped = 0
        columns = set(rows.column_names)
        self._tools = "tools" in columns and any(json.loads(tools or "null") for tools in rows["tools"])
        self._scored = settings.scores is not None and any(
            value != "null" for column in settings.scores for value in rows[column]
        )
        if settings.scores not in (None, SCORES) and not self._scored:
            raise UserError(
                f"no row has a score in `{settings.scores[0]}` or `{settings.scores[1]}`",
                where=name,
                remedy="name the columns that hold scores, or none",
            )
        ids = [json.loads(value) for value in rows["id"]]
        named = all(isinstance(id, str | int) and not isinstance(id, bool) for id in ids)
        own = named and len({str(id) for id in ids}) == len(ids)
        self._ids = [str(id) for id in ids] if own else [str(number) for number in range(len(ids))]
        self._scores = self._read_scores(rows) if self._scored else []
        self.beside = digest_of(self._ids, list(rows["answer"]), self._scores)

    def _read_scores(self, rows: Any) -> list[tuple[float | None, float | None]]:
        """Of all rows, so that a bad one is found before anything is written."""
        assert self._settings.scores is not None
        columns = [
            [self._score(value, column, number) for number, value in enumerate(rows[column])]
            for column in self._settings.scores
        ]
        return list(zip(*columns, strict=True))

    def _score(self, text: str, column: str, number: int) -> float | None:
        value = json.loads(text)
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (sound and math.isfinite(value)):
            raise UserError(
                f"`{column}` is no number: {text[:40]}",
                where=f"{self._name}: row {number}",
                expected="a score",
                remedy="mend the row, or name other columns, or none, by --scores",
            )
        return None if value is None else float(value)

    def pair(self, row: Mapping[str, Any]) -> Pair:
        """One row, whole or with why it is no pair."""
        number = row["weft_row"]
        prompt, chosen, rejected = _explicit(row)
        answer = json.loads(row["answer"])
        better, worse = self._scores[number] if self._scores else (None, None)
        sides = Side(chosen, quality=better), Side(rejected, quality=worse)
        status, reason = self._status(*sides)
        by = LABEL
        if status is PairStatus.CONTRADICTED and self._settings.contradicted != "drop":
            if self._settings.contradicted == "swap":
                sides, by = (sides[1], sides[0]), SCORE
                self.swapped += 1
            status, reason = PairStatus.COMPLETE, None
        arguments = {k: v for k, v in (row.get("chat_template_kwargs") or {}).items() if v is not None}
        return Pair(
            id=self._ids[number],
            prompt=prompt,
            chosen=sides[0],
            rejected=sides[1],
            by=by,
            prompt_id=digest_of(prompt),
            made_from=digest_of(prompt, chosen, rejected, answer, better, worse),
            answer=None if answer is None else answer if isinstance(answer, str) else json.dumps(answer),
            status=status,
            reason=reason,
            template_arguments=json.dumps(arguments, sort_keys=True),
            training_template=row.get("training_template"),
            tools=row["tools"] if self._tools else None,
        )

    def _status(self, chosen: Side, rejected: Side) -> tuple[PairStatus, str | None]:
        from weft.preference.checking import says_something

        if not (says_something(chosen.said) and says_something(rejected.said)):
            return PairStatus.EMPTY, WORDS[PairStatus.EMPTY]
        if chosen.said == rejected.said:
            return PairStatus.SAME, WORDS[PairStatus.SAME]
        better, worse = chosen.quality, rejected.quality
        if better is None or worse is None:
            return PairStatus.COMPLETE, None
        if abs(better - worse) < self._settings.min_margin:
            return PairStatus.TIE, f"{WORDS[PairStatus.TIE]}: {better:g} and {worse:g}"
        if better < worse:
            return PairStatus.CONTRADICTED, f"{WORDS[PairStatus.CONTRADICTED]}: {worse:g} to {better:g}"
        return PairStatus.COMPLETE, None


def _explicit(row: Mapping[str, Any]) -> tuple[Said, Said, Said]:
    """Prompt and responses; messages without the keys that a table of other messages gave them."""
    if isinstance(row["chosen"], str):
        return split_texts(row)
    prompt, chosen, rejected = (without_gaps(row[key]) for key in ("prompt", "chosen", "rejected"))
    return prompt, chosen, rejected
