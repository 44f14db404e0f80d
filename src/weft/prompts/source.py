"""The stream of prompts: checked as a whole before anything costly starts, then read again as often as asked.

Invariants
    - Ids are unique. A row without one gets ``<16 hex of its messages' SHA-256>-<occurrence>``, so equal
      prompts stay distinct and a prompt keeps its id when others are added or removed before it.
    - Iterating twice gives the same prompts; a file that changed since the check is refused.
    - Memory grows by 8 bytes per row while the check runs (16 where only some rows have an id), and by 12
      bytes per prompt that repeats; nothing else grows with the file.

Local files are read as they are. Other names are data sets, read through the ``datasets`` library: from its
cache on disk, or streamed where a limit says that only the first rows are wanted. ``owner/name:config``
picks a configuration.

This module does not know engines or outputs.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from weft.errors import UserError
from weft.prompts.files import LocatedRow, file_kind, reader_for
from weft.prompts.rows import prompt_from_row
from weft.records import Prompt

Rows = Callable[[], Iterator[LocatedRow]]


def sample_id(prompt: Prompt, k: int) -> str:
    """The id of a prompt's trace number ``k``: ``<prompt id>#<k>``, ``k`` after the last ``#``."""
    return f"{prompt.id}#{k}"


@dataclass(frozen=True)
class PromptSource:
    """Checked prompts, made by :func:`open_prompts`. Each iteration streams them from the start."""

    name: str
    count: int
    """Rows; at least one."""
    digest: str
    """SHA-256 in hex over all ids, messages, answers and extras, in order."""
    _rows: Rows = field(repr=False)
    _column: str = field(repr=False)
    _repeated: array[int] = field(repr=False)
    """Sorted content hashes of the rows without an id that occur more than once."""

    def __iter__(self) -> Iterator[Prompt]:
        drafts = (prompt_from_row(row, where, self._column) for where, row in self._rows())
        yield from _named(drafts, self._repeated)


def open_prompts(
    name: str, *, split: str = "train", limit: int | None = None, prompt_column: str = "prompt"
) -> PromptSource:
    """Check all prompts of a file or data set, and return the stream of them.

    Args:
        name: path of a JSONL, JSON, CSV, TSV or Parquet file; or a folder or Hugging Face data set id.
        split: the data set's split; files have none.
        limit: take only the first rows; the others are neither read nor checked.
        prompt_column: the column that holds the prompt.

    Raises:
        UserError: there is no such file or data set, or no prompt in it, or a row is malformed, or an id
            stands twice; with the file, the line and the remedy.
    """
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} prompts", expected="1 or more", remedy="leave it out for all")
    rows = rows_of(name, split, limit, prompt_column)
    named, contents = array("Q"), array("Q")
    digest = hashlib.sha256()
    for where, row in rows():
        prompt = prompt_from_row(row, where, prompt_column)
        if prompt.id:
            named.append(_hash64(prompt.id))
        else:
            contents.append(_content_hash(prompt))
        messages = [message.to_dict() for message in prompt.messages]
        digest.update(_canonical([prompt.id, messages, prompt.answer, prompt.extra]).encode() + b"\n")
    count = len(named) + len(contents)
    if not count:
        raise UserError(f"no prompts in {name}", remedy="check the file or the split")
    repeated = _repeated_values(contents)
    source = PromptSource(name, count, digest.hexdigest(), rows, prompt_column, repeated)
    if named:
        named.extend(_given_hashes(contents))
        if clashing := set(_repeated_values(named)):
            _refuse_equal_ids(source, clashing)
    return source


def _named(drafts: Iterable[Prompt], repeated: array[int]) -> Iterator[Prompt]:
    """Give an id to each prompt that has none."""
    seen = array("I", bytes(array("I").itemsize * len(repeated)))
    for prompt in drafts:
        if prompt.id:
            yield prompt
            continue
        content = _content_hash(prompt)
        occurrence = 0
        place = bisect_left(repeated, content)
        if place < len(repeated) and repeated[place] == content:
            occurrence = seen[place]
            seen[place] += 1
        yield replace(prompt, id=_given_id(content, occurrence))


def _given_id(content: int, occurrence: int) -> str:
    return f"{content:016x}-{occurrence}"


def _given_hashes(ordered: array[int]) -> Iterator[int]:
    """Hashes of the ids that rows without one are given; ``ordered`` are their sorted content hashes."""
    last, occurrence = -1, 0
    for content in ordered:
        occurrence = occurrence + 1 if content == last else 0
        last = content
        yield _hash64(_given_id(content, occurrence))


def _repeated_values(values: array[int]) -> array[int]:
    """The values that occur more than once, sorted; sorts ``values`` in place."""
    import numpy as np

    if not values:
        return array("Q")
    view = np.frombuffer(values, dtype=np.uint64)
    view.sort()
    return array("Q", np.unique(view[1:][view[1:] == view[:-1]]).tobytes())


def _refuse_equal_ids(source: PromptSource, clashing: set[int]) -> None:
    """Read again to name both places; ids that only share a hash pass."""
    places: dict[str, str] = {}
    for prompt in source:
        if _hash64(prompt.id) not in clashing:
            continue
        if prompt.id in places:
            raise UserError(
                f'the id "{prompt.id}" stands twice, first at {places[prompt.id]}',
                where=prompt.where,
                expected="each id once",
                remedy="change one of them, or leave the column out: ids are then made from the content",
            )
        places[prompt.id] = prompt.where


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _content_hash(prompt: Prompt) -> int:
    """Over the messages only: the answer is no part of what a model is asked."""
    return _hash64(_canonical([message.to_dict() for message in prompt.messages]))


def rows_of(name: str, split: str, limit: int | None, column: str) -> Rows:
    """The rows of a file or data set; each call reads them from the start.

    Args:
        split: of a data set; files have none.
        limit: rows at most; ``None`` for all.
        column: that a file of plain lines would fill.

    Raises:
        UserError: there is no such file or data set; each iteration, too, where a row cannot be read.
    """
    path = Path(name).expanduser()
    try:
        if path.is_file():
            return partial(_file_rows, path, _stamp(path), limit, column)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=name, remedy="check the path") from error
    if path.exists() and not path.is_dir():
        raise UserError("neither a file nor a folder", where=name, remedy="write the prompts to a file first")
    looks_like_path = file_kind(path) is not None or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path and not path.exists():
        raise UserError("no such file", where=name, remedy="check the path; data set ids are owner/name")
    return partial(_dataset_rows, _load(name, path, split, limit), f"{name}[{split}]", limit)


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _file_rows(path: Path, stamp: tuple[int, ...], limit: int | None, column: str) -> Iterator[LocatedRow]:
    reader = reader_for(path)
    if not path.exists() or _stamp(path) != stamp:
        raise UserError(
            "the file changed after it had been checked", where=str(path), remedy="run the same command again"
        )
    return islice(reader(path, column), limit)


def _load(name: str, path: Path, split: str, limit: int | None) -> Any:
    import datasets

    try:
        if path.is_dir() and any((path / part).exists() for part in ("dataset_dict.json", "state.json")):
            saved = datasets.load_from_disk(str(path))
            return saved[split] if isinstance(saved, dict) else saved
        repository, _, config = (str(path), "", "") if path.is_dir() else name.partition(":")
        return datasets.load_dataset(repository, config or None, split=split, streaming=limit is not None)
    except Exception as error:  # the library raises whatever its loaders and the network raise
        raise _not_loaded(name, split, error) from error


def _not_loaded(where: str, split: str, error: Exception) -> UserError:
    said = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
    return UserError(
        f"cannot be loaded as a data set: {type(error).__name__}: {said}",
        where=where,
        expected=f"a file, a folder, or a Hugging Face data set id, with a split `{split}`",
        remedy="check the name, the split, the configuration (owner/name:config), the network and your token",
    )


def _dataset_rows(dataset: Any, label: str, limit: int | None) -> Iterator[LocatedRow]:
    rows = iter(dataset)
    number = 0
    while limit is None or number < limit:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _not_loaded(f"{label}: after row {number}", label, error) from error
        if row is None:
            return
        number += 1
        yield f"{label}: row {number}", row
