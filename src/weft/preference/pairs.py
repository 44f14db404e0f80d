"""Preference pairs from files and data sets, in the one form that TRL tokenises.

::

    prompt, chosen, rejected                    texts, or lists of messages
    both responses begin with the same turns    those are the prompt, whether or not `prompt` says so, too
    `prompt` is text, the responses messages    it becomes the user's message
    prompt_ids, chosen_ids, rejected_ids        token ids, where the caller takes them: they stay as they are

Invariants
    - A row is checked where it is read, so that what is wrong with it names the file and the line.
    - Rows keep their order; nothing is dropped here.
    - The digest is of prompts and responses: the same pairs in another format have the same one.

Other columns are left behind, but for ``tools`` and ``chat_template_kwargs``, which templates read,
``training_template`` (the template to render messages by, :mod:`weft.chat.shipped`), ``vocabulary`` beside
token ids, and those that a caller asks for by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

from weft import __version__
from weft.errors import UserError
from weft.preference.applying import POLICY, ROW
from weft.preference.checking import IDS, SIDES, check_row, is_tokenised
from weft.prompts.files import LocatedRow, file_kind, reader_for

KEPT = ("prompt", *SIDES, "tools", "chat_template_kwargs")
TEMPLATE = "training_template"
VOCABULARY = "vocabulary"
"""The column that says of which vocabulary token ids are: the start of its fingerprint."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs as they came in, before anything is dropped."""

    name: str
    rows: Dataset
    """``prompt`` (unless both are texts that begin with it), ``chosen``, ``rejected``, ``weft_row``; or token
    ids and ``weft_row``."""
    sha256: str
    from_hub: bool


def open_pairs(
    name: str,
    *,
    split: str = "train",
    limit: int | None = None,
    keep: Sequence[str] = (),
    ids: bool = False,
) -> Pairs:
    """Read all pairs of a file or data set, and check each.

    Args:
        name: path of a JSONL, JSON, CSV, TSV or Parquet file; a data set's folder, or hub id.
        split: of a data set; files have none.
        limit: take only the first rows.
        keep: columns to keep besides, as JSON text, so that each has one type whatever its rows hold; they
            are not checked, and no part of the digest.
        ids: take rows of token ids, too.

    Raises:
        UserError: there is no such file or data set, or a row cannot be used.
    """
    path = Path(name).expanduser()
    if path.is_file():
        stat = path.stat()
        stamp = (__version__, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        rows, label = _of_file(path, stamp, limit, _Form(tuple(keep), ids)), str(path)
    else:
        like_path = file_kind(path) is not None or name.startswith((".", "/", "~")) or name.count("/") > 1
        if like_path and not path.is_dir():
            raise UserError("no such file", where=name, remedy="check the path; data set ids are owner/name")
        rows, label = _of_dataset(name, path, split, limit, _Form(tuple(keep), ids)), f"{name}[{split}]"
    if len(rows) == 0:
        raise _no_rows(label)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_canonical(row) + b"\n")
    numbered = rows.add_column(ROW, list(range(len(rows))))
    return Pairs(name if path.exists() else label, numbered, digest.hexdigest(), from_hub=not path.exists())


def _canonical(row: Mapping[str, Any]) -> bytes:
    """What a row says, whichever columns and keys stand there empty."""

    def said(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: said(inner) for key, inner in value.items() if inner is not None}
        return [said(inner) for inner in value] if isinstance(value, list) else value

    if is_tokenised(row):
        return json.dumps([row[key] for key in IDS]).encode()
    told = [said(row.get(key)) for key in KEPT] + ([row[TEMPLATE]] if row.get(TEMPLATE) else [])
    return json.dumps(told, sort_keys=True, ensure_ascii=False).encode()


def normalised(row: Mapping[str, Any], where: str, *, ids: bool = False) -> dict[str, Any]:
    """One row in TRL's form.

    Args:
        ids: rows of token ids are taken, too.

    Raises:
        UserError: a column is missing, or the row cannot be used.
    """
    if is_tokenised(row):
        return _tokens(row, where, ids=ids)
    found = {key: row[key] for key in KEPT if row.get(key) is not None}
    _check_columns(row, found, where)
    prompt: Any = found.get("prompt")
    chosen, rejected = found["chosen"], found["rejected"]
    if _messages(chosen) and _messages(rejected):
        if len(chosen) > 1 or len(rejected) > 1:
            shared = _shared_turns(chosen, rejected)
            turns, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
            if isinstance(prompt, str) and turns and all(turn.get("content") != prompt for turn in turns):
                raise _not_the_prompt(where)
            if _messages(prompt) and prompt != turns[: len(prompt)]:
                if any(turn in prompt for turn in turns):
                    raise _not_the_prompt(where)
                turns = [*prompt, *turns]
            found |= {"chosen": chosen, "rejected": rejected}
            if turns:
                found["prompt"] = prompt = turns
        if isinstance(prompt, str):
            found["prompt"] = [{"role": "user", "content": prompt}]
    _check(found, where)
    if _messages(found["chosen"]):
        if isinstance(row.get(TEMPLATE), str) and row[TEMPLATE]:
            found[TEMPLATE] = row[TEMPLATE]
        # One type for the column, whatever the first row has; TRL reads texts.
        tools = row.get("tools")
        found["tools"] = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
    return found


def _tokens(row: Mapping[str, Any], where: str, *, ids: bool) -> dict[str, Any]:
    """One row of token ids."""
    if not ids:
        raise UserError(
            "the row holds token ids",
            where=where,
            expected="`prompt`, `chosen` and `rejected`, each a text or a list of messages",
            remedy="train on such rows: weft align",
        )
    _check_columns(row, {key: row[key] for key in IDS}, where)
    found = {key: row[key] for key in IDS}
    _check(found, where)
    return found | {VOCABULARY: row[VOCABULARY] if isinstance(row.get(VOCABULARY), str) else ""}


def _check(found: dict[str, Any], where: str) -> None:
    try:
        check_row(found, 0, "")
    except UserError as error:
        raise UserError(error.what, where=where, expected=error.expected, remedy=error.remedy) from None


def _not_the_prompt(where: str) -> UserError:
    return UserError(
        "the turns with which both responses begin are not the prompt",
        where=where,
        expected="responses that begin with the whole prompt, or with none of it",
        remedy="keep the prompt in `prompt` alone",
    )


def _shared_turns(chosen: list[Any], rejected: list[Any]) -> int:
    """How many turns both begin with; the last one of each is always its own."""
    most = min(len(chosen), len(rejected)) - 1
    return next((turn for turn in range(most) if chosen[turn] != rejected[turn]), most)


def _check_columns(row: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    if POLICY in row:
        raise UserError(
            f"the data set was already cut, by {row[POLICY]}",
            where=where,
            expected="rows that were not cut",
            remedy="name the raw pairs; PrefixDPOTrainer takes rows that weft.preference.cut made",
        )
    if "image" in row or "images" in row:
        raise UserError(
            "the row holds images, which prefix policies do not cut", where=where, remedy="take rows of text"
        )
    missing = [] if is_tokenised(found) else [side for side in SIDES if side not in found]
    if missing:
        names = ", ".join(f"`{name}`" for name in row) or "no column"
        raise UserError(
            "no " + " and no ".join(f"`{side}`" for side in missing),
            where=where,
            expected="`prompt`, `chosen` and `rejected`, each a text or a list of messages; "
            f"the row has {names}",
            remedy="rename the columns, or mend the row",
        )


def _messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


@dataclass(frozen=True)
class _Form:
    """What a caller takes beside TRL's rows; picklable, and all that decides is a field."""

    keep: tuple[str, ...] = ()
    ids: bool = False

    def normalised(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """One row in TRL's form, and the columns to keep."""
        kept = {name: json.dumps(row.get(name), ensure_ascii=False, default=str) for name in self.keep}
        return normalised(row, where, ids=self.ids) | kept


def _uniform(rows: Iterable[LocatedRow], form: _Form) -> Iterator[dict[str, Any]]:
    """Normalised rows that all have the columns and kinds of the first one; and the columns to keep."""
    first: dict[str, type] | None = None
    arguments: set[str] | None = None
    beside: list[Any] | None = None
    for where, row in rows:
        found = form.normalised(row, where)
        kinds = {key: type(value) for key, value in found.items() if key in ("prompt", *SIDES, *IDS)}
        first = kinds if first is None else first
        if kinds != first:
            raise UserError(
                "the row is of another kind than the first one",
                where=where,
                expected=", ".join(
                    f"`{key}` as {'ids' if key in IDS else 'text' if kind is str else 'messages'}"
                    for key, kind in first.items()
                ),
                remedy="write all rows in one way",
            )
        given = {key for key, value in (found.get("chat_template_kwargs") or {}).items() if value is not None}
        arguments = given if arguments is None else arguments
        if given != arguments:
            raise UserError(
                "the row's `chat_template_kwargs` are other ones than the first row's",
                where=where,
                expected=f"the same keys in every row: {', '.join(sorted(arguments)) or 'none'}",
                remedy="write out the template's default in the rows that leave it out",
            )
        told = [found.get(TEMPLATE), found.get(VOCABULARY)]
        beside = told if beside is None else beside
        if told != beside:
            column = TEMPLATE if told[0] != beside[0] else VOCABULARY
            raise UserError(
                f"the row's `{column}` is another one than the first row's",
                where=where,
                remedy="train on each kind of rows by itself",
            )
        yield found


def _of_file(path: Path, stamp: tuple[Any, ...], limit: int | None, form: _Form) -> Dataset:
    # Through the cache of `datasets`: rows stay on disk, and what TRL caches of them is found again.
    try:
        arguments = {"path": str(path), "stamp": stamp, "limit": limit}
        return Dataset.from_generator(_file_rows, gen_kwargs=arguments | {"form": form})
    except DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        if "at least one example" in str(error.__cause__):
            raise _no_rows(str(path)) from None
        raise UserError(
            f"cannot be read as pairs: {error.__cause__ or error}",
            where=str(path),
            remedy="check that a column holds values of one kind",
        ) from error


def _no_rows(where: str) -> UserError:
    return UserError("there are no rows", where=where, expected="at least one preference pair")


def _file_rows(path: str, stamp: tuple[Any, ...], limit: int | None, form: _Form) -> Iterator[dict[str, Any]]:
    """``stamp`` makes another cache of a file that changed, and for another Weft."""
    file = Path(path)
    yield from _uniform(islice(reader_for(file)(file, "prompt"), limit), form)


def _of_dataset(name: str, path: Path, split: str, limit: int | None, form: _Form) -> Dataset:
    try:
        if path.is_dir() and any((path / part).exists() for part in ("dataset_dict.json", "state.json")):
            saved = load_from_disk(str(path))
            rows = saved[split] if isinstance(saved, dict) else saved
        else:
            repository, _, config = (str(path), "", "") if path.is_dir() else name.partition(":")
            rows = load_dataset(repository, config or None, split=split)
    except Exception as error:  # the library raises whatever its loaders and the network raise
        said = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise UserError(
            f"cannot be loaded as a data set: {type(error).__name__}: {said}",
            where=name,
            expected=f"a file, a folder, or a hub id, with a split `{split}`",
            remedy="check the name, the split, the configuration (owner/name:config), the network "
            "and your token",
        ) from error
    if isinstance(rows, IterableDataset):
        raise UserError("a streamed data set cannot be looked through beforehand", where=name)
    rows = rows.select(range(min(limit, len(rows)))) if limit is not None else rows
    label = f"{name}[{split}]"
    located = ((f"{label}: row {number}", row) for number, row in enumerate(rows))
    for _ in _uniform(located, form):  # all of them are checked before one is rewritten
        pass
    return rows.map(_Normalise(label, form), with_indices=True, remove_columns=rows.column_names)


@dataclass(frozen=True)
class _Normalise:
    label: str
    form: _Form

    def __call__(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        return self.form.normalised(row, f"{self.label}: row {number}")
