"""The rows of a run on their way to a trainer: read, tokenised once, counted, looked through.

Invariants
    - A row that is left out is counted, by reason.
    - Traces are ordered by their ids, so that the order in which they were finished decides nothing; other
      rows keep theirs.
    - Rows stay on disk; memory does not grow with them, but for one short text each.
    - The digest is of ids and labels: equal ones train alike, whatever files they came from.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset, Features, Value
from datasets import Sequence as Many
from transformers import AutoConfig, AutoTokenizer

from weft.engines.language import loaded
from weft.engines.opening import model_folder
from weft.engines.settings import EngineSettings
from weft.errors import UserError
from weft.finetuning.packing import packs
from weft.finetuning.settings import LossOn, SftSettings
from weft.finetuning.survey import Survey, left_out
from weft.finetuning.texts import Left, Renderer, tokenised
from weft.prompts.source import rows_of
from weft.records import Author
from weft.training.cached import cached
from weft.training.card import versions

BATCH = 64
"""Rows that are tokenised together."""
FORM = 4
"""Rises when the same row becomes other tokens or labels: what is in the cache is then made anew."""
AUTHORS = (*(author.value for author in Author), "unknown")
FEATURES = Features(
    {
        "input_ids": Many(Value("int32")),
        "labels": Many(Value("int32")),
        **{name: Value("int32") for name in AUTHORS},
        "left": Value("string"),
        "place": Value("string"),
    }
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that a trainer can take."""

    names: tuple[str, ...]
    rows: Dataset
    """``input_ids`` and ``labels``."""
    survey: Survey
    sha256: str
    tokenizer: Any

    @property
    def facts(self) -> dict[str, Any]:
        """What a run is compared by."""
        return {"texts": len(self.rows), "sha256": self.sha256}


def prepared(settings: SftSettings, *, held_out: bool = False) -> Prepared:
    """The settings' rows, or those to evaluate on.

    Raises:
        UserError: the model's tokenizer or a row cannot be used, or no row is left.
    """
    names, split = (settings.data, settings.split)
    if held_out:
        assert settings.evaluation is not None
        names, split = settings.evaluation
    tokenizer, context = _reader(settings)
    longest = min(settings.max_length, context or settings.max_length)
    given = {
        "names": names,
        "split": split,
        "limit": None if held_out else settings.limit,
        "model": settings.model,
        "revision": settings.revision,
        "loss_on": settings.loss_on,
        "longest": longest,
        "stamp": (FORM, versions(), _fingerprint(tokenizer), [_stamp(name, split) for name in names]),
    }
    for name in names:
        if next(rows_of(name, split, 1, "text")(), None) is None:
            raise UserError("there are no rows", where=name, expected="at least one text")
    with PartialState().main_process_first():
        every = cached(_texts, given, FEATURES)
    left, places = list(every["left"]), list(every["place"])
    kept = [number for number, reason in enumerate(left) if reason == Left.NO]
    rows = every.select(sorted(kept, key=places.__getitem__))
    survey = _survey(settings, rows, longest, Counter(filter(None, left)))
    if not len(rows):
        raise _nothing_left(survey, names)
    return Prepared(names, rows.select_columns(["input_ids", "labels"]), survey, _digest(rows), tokenizer)


def _reader(settings: SftSettings) -> tuple[Any, int | None]:
    """The model's tokenizer, and the tokens that the model can hold if it says so."""
    engine = EngineSettings(name=settings.model, revision=settings.revision)
    folder = model_folder(settings.model)
    try:
        tokenizer = loaded(AutoTokenizer, "tokenizer", engine, folder)
        config = loaded(AutoConfig, "configuration", engine, folder).get_text_config()
    except UserError as error:
        where = f"model {settings.model}"
        raise UserError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} has no `tokenizers` backend",
            where=f"model {settings.model}",
            expected="a fast tokenizer (tokenizer.json)",
        )
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has no end-of-sequence token",
            where=f"model {settings.model}",
            remedy="set eos_token in its tokenizer_config.json",
        )
    return tokenizer, getattr(config, "max_position_embeddings", None)


def _fingerprint(tokenizer: Any) -> str:
    """Of all that decides how a row is spelled."""
    said = [tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]


def _stamp(name: str, split: str) -> tuple[Any, ...]:
    """What tells a file from what it was before, and a data set by its rows."""
    path = Path(name).expanduser()
    if path.is_file():
        stat = path.stat()
        return str(path.resolve()), stat.st_size, stat.st_mtime_ns
    digest = hashlib.sha256()
    for _, row in rows_of(name, split, None, "text")():
        digest.update(json.dumps(row, default=str, sort_keys=True).encode() + b"\n")
    return name, digest.hexdigest()


def _texts(
    names: Sequence[str],
    split: str,
    limit: int | None,
    model: str,
    revision: str | None,
    loss_on: LossOn,
    longest: int,
    stamp: Any,
) -> Iterator[dict[str, Any]]:
    """``stamp`` makes another cache of files that changed."""
    tokenizer = loaded(
        AutoTokenizer, "tokenizer", EngineSettings(name=model, revision=revision), model_folder(model)
    )
    render = Renderer(tokenizer, f"model {model}")
    located = (item for name in names for item in rows_of(name, split, None, "text")())
    rows = enumerate(islice(located, limit))
    while batch := list(islice(rows, BATCH)):
        rendered = [_rendered(render, row, where, loss_on) for _, (where, row) in batch]
        texts = tokenised(rendered, tokenizer, loss_on=loss_on, longest=longest)
        for (number, (_, row)), text in zip(batch, texts, strict=True):
            counts = {name: text.completion.get(name, 0) for name in AUTHORS}
            place = str(row["id"]) if "spans" in row else f"{number:012}"
            yield {
                "input_ids": text.ids,
                "labels": text.labels,
                **counts,
                "left": text.left.value,
                "place": place,
            }


def _rendered(render: Renderer, row: Mapping[str, Any], where: str, loss_on: LossOn) -> Any:
    if loss_on != "all" and "spans" not in row:
        raise UserError(
            f"the row does not say who wrote what, so it has no tokens of the {loss_on} alone",
            where=where,
            expected="traces of `weft synth` or `weft verify`",
            remedy="name traces, or leave out --loss-on",
        )
    return render(row, where)


def _lengths(rows: Dataset) -> np.ndarray[Any, Any]:
    sizes = [
        np.diff(batch["input_ids"].combine_chunks().offsets.to_numpy())
        for batch in rows.with_format("arrow").iter(1000)
    ]
    return np.concatenate(sizes) if sizes else np.zeros(0, int)


def _values(rows: Dataset, column: str) -> Iterator[np.ndarray[Any, Any]]:
    for batch in rows.with_format("arrow").iter(1000):
        yield batch[column].combine_chunks().flatten().to_numpy()


def _survey(settings: SftSettings, rows: Dataset, limit: int, left: Counter[str]) -> Survey:
    lengths, (packed, why) = _lengths(rows), packs(settings)
    learned = sum(int((labels >= 0).sum()) for labels in _values(rows, "labels"))
    return Survey(
        texts=len(rows),
        tokens=int(lengths.sum()),
        learned=learned,
        completion={name: int(np.sum(rows[name])) for name in AUTHORS},
        longest=int(lengths.max(initial=0)),
        median=float(np.median(lengths)) if len(lengths) else 0.0,
        limit=limit,
        left=dict(sorted(left.items())),
        packed=packed,
        why=why,
    )


def _digest(rows: Dataset) -> str:
    """Over the lengths, ids and labels of all rows, in order."""
    digest = hashlib.sha256(_lengths(rows).astype("<i8").tobytes())
    for column in ("input_ids", "labels"):
        for values in _values(rows, column):
            digest.update(values.astype("<i4").tobytes())
    return digest.hexdigest()


def _nothing_left(survey: Survey, names: Sequence[str]) -> UserError:
    long = Left.LONG.value in survey.left
    return UserError(
        f"no row is left to train on: {'; '.join(left_out(survey))}",
        where=" and ".join(names),
        expected=f"texts of at most {survey.limit:,} tokens" if long else "rows with something to learn",
        remedy="raise --max-length, or take a model with a longer context" if long else "look at the data",
    )
