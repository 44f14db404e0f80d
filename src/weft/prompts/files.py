"""Rows of a prompt file or data set, one at a time, each with the place where it stands.

Invariants
    - Every reader streams: it holds one row (one Parquet batch), never the file. A row is at most
      :data:`MAX_ROW` long, so a file without line feeds or with an open quote cannot fill the memory.
    - Text is UTF-8, with or without a byte order mark. Nothing is guessed and nothing is replaced.
    - Whatever is wrong with the bytes becomes a :class:`UserError` that names the file and the line.

JSON files: an array is streamed; several objects one after another (JSON Lines under another name) are
streamed too; a single object is read whole, up to :data:`MAX_ROW`, and gives the rows of its list
``data``, or of its only list, or is itself the only row.

This module does not know what a prompt is; it knows only that a CSV cell of the prompt column may hold
messages, because CSV has no other way to write them.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from weft.errors import UserError

MAX_ROW = 64 * 2**20
"""Longest line, cell or JSON value that is read: bytes of a line, else characters."""

PIECE = 2**20
"""Bytes read at a time from a JSON array."""

PARQUET_BATCH = 256
"""Rows decoded at a time from a Parquet file."""

Row = dict[str, Any]
LocatedRow = tuple[str, Row]
Reader = Callable[[Path, str], Iterator[LocatedRow]]
"""Takes the path and the name of the prompt column."""

_BLANK = re.compile(r"[ \t\n\r]*")
_COMPRESSED = (".gz", ".zst")


def reader_for(path: Path) -> Reader:
    """The reader for a file's extension.

    Raises:
        UserError: no reader has this extension.
    """
    kind = file_kind(path)
    if kind is None:
        raise UserError(
            f"unknown kind of file {path.suffix!r}" if path.suffix else "a file without an extension",
            where=str(path),
            expected=f"one of {', '.join(READERS)}; all but Parquet also with .gz or .zst",
            remedy="rename the file to its kind, or convert it",
        )
    return READERS[kind]


def file_kind(path: Path) -> str | None:
    """The extension that says how to read the file, without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    if packed:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in READERS or (packed and suffixes[-1] == ".parquet"):
        return None
    return suffixes[-1]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the system and the decompressors say into errors for people."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError("no such file", where=str(path), remedy="check the path") from error
    except PermissionError as error:
        raise UserError(
            "permission denied", where=str(path), remedy=f"make it readable: chmod u+r {path}"
        ) from error
    except EOFError as error:
        raise UserError(
            "the compressed file is cut short", where=str(path), remedy="copy or compress it again"
        ) from error
    except (OSError, zlib.error) as error:
        packed = path.suffix.lower() in _COMPRESSED
        raise UserError(
            f"cannot be read: {error}",
            where=str(path),
            expected=f"a file compressed as {path.suffix} says" if packed else "",
            remedy="copy or compress it again" if packed else "check the disk, or copy the file again",
        ) from error


def _open(path: Path) -> BinaryIO:
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".zst":
            import pyarrow  # type: ignore[import-untyped]

            return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
        case _:
            return path.open("rb")


def _not_utf8(path: Path, line: int, offset: int, raw: bytes, at: int) -> UserError:
    """``offset`` counts bytes of the (decompressed) file; ``at`` is the same byte's place in ``raw``."""
    wide = offset == 0 and raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    guess = "UTF-16" if wide else "WINDOWS-1252"
    return UserError(
        f"byte 0x{raw[at]:02x} at offset {offset} is not UTF-8",
        where=f"{path}:{line}",
        expected="UTF-8" + (", and this file looks like UTF-16" if wide else ""),
        remedy=f"convert it, for example: iconv -f {guess} -t UTF-8 OLD > NEW",
    )


def _too_long(path: Path, line: int) -> UserError:
    return UserError(
        f"a row longer than {MAX_ROW >> 20} MiB, or one that is never closed",
        where=f"{path}:{line}",
        remedy="write one JSON object per line to a .jsonl file",
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Physical lines with their numbers, line feeds kept."""
    offset = 0
    with _reading(path), _open(path) as file:
        for number in itertools.count(1):
            raw = file.readline(MAX_ROW + 1)
            if not raw:
                return
            if len(raw) > MAX_ROW:
                raise _too_long(path, number)
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, offset + error.start, raw, error.start) from error
            yield number, text.removeprefix("\ufeff") if number == 1 else text
            offset += len(raw)


def _pieces(path: Path) -> Iterator[str]:
    """The text in pieces of about :data:`PIECE`, for files that are not made of lines."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line, first = 0, 1, True
    with _reading(path), _open(path) as file:
        while True:
            raw = file.read(PIECE)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                at = offset - len(pending) + error.start
                raise _not_utf8(path, line, at, error.object, error.start) from error
            yield text.removeprefix("\ufeff") if first else text
            if not raw:
                return
            first, offset, line = first and not text, offset + len(raw), line + text.count("\n")


def _object(value: Any, where: str, remedy: str) -> Row:
    if isinstance(value, dict):
        return value
    raise UserError(
        f"a row is a JSON {json_kind(value)}",
        where=where,
        expected='an object, such as {"prompt": "..."}',
        remedy=remedy,
    )


def json_kind(value: Any) -> str:
    """What JSON calls a value of this type."""
    for kind, name in ((bool, "boolean"), (str, "string"), (int | float, "number"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "array" if isinstance(value, list) else type(value).__name__


def _not_json(error: Exception, where: str, before: int = 0) -> UserError:
    """``before`` counts characters of the line that the decoder did not see."""
    said = str(error)
    if isinstance(error, json.JSONDecodeError):
        said = f"{error.msg} at column {before + error.colno}"
    return UserError(
        f"not valid JSON: {said}", where=where, expected="one complete JSON object", remedy="mend this row"
    )


def _jsonl_rows(path: Path, column: str) -> Iterator[LocatedRow]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _not_json(error, where) from error
        yield where, _object(value, where, "name a JSON array .json; else write one object per line")


class _JsonText:
    """The text of a JSON file from the place reached on; it grows until one value is complete."""

    def __init__(self, path: Path) -> None:
        self._path, self._pieces = path, _pieces(path)
        self._text, self._at = "", 0
        self._line, self._column = 1, 0
        """Where ``_text`` begins: number of its first line, and characters of that line before it."""

    def _grow(self) -> bool:
        """Read at least as much as is still unread, so that retries cost no more than the text."""
        feed = self._text.rfind("\n", 0, self._at)
        self._column = self._at - feed - 1 if feed >= 0 else self._column + self._at
        self._line += self._text.count("\n", 0, self._at)
        parts, got = [self._text[self._at :]], 0
        for piece in self._pieces:
            parts.append(piece)
            got += len(piece)
            if got and got >= len(parts[0]):
                break
        self._text, self._at = "".join(parts), 0
        return got > 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, allowed: str) -> str:
        """The next character that is not blank, which has to be one of ``allowed``."""
        found = self.peek()
        if not found or found not in allowed:
            line = self._line + self._text.count("\n", 0, self._at)
            raise UserError(
                f"not valid JSON: {found!r} stands here" if found else "the JSON ends too early",
                where=f"{self._path}:{line}",
                expected=" or ".join(f"'{character}'" for character in allowed),
                remedy="mend the file, or write it again if it was cut short",
            )
        self._at += 1
        return found

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        while True:
            try:
                value, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                line = self._line + getattr(error, "lineno", 1) - 1
                before = self._column if line == self._line else 0
                if len(self._text) - self._at > MAX_ROW:
                    raise _too_long(self._path, line) from error
                if self._grow():
                    continue
                raise _not_json(error, f"{self._path}:{line}", before) from error
            return value


def _json_values(path: Path, column: str) -> Iterator[Any]:
    text = _JsonText(path)
    if text.peek() == "[":
        text.take("[")
        if text.peek() == "]":
            text.take("]")
        else:
            yield text.value()
            while text.take(",]") == ",":
                yield text.value()
        if text.peek():
            raise UserError("text after the end of the JSON array", where=str(path), remedy="remove it")
    elif text.peek():
        value = text.value()
        yield from [value] if text.peek() else _only_list(value, column)
        while text.peek():
            yield text.value()


def _only_list(value: Any, column: str) -> list[Any]:
    """The rows in the only value of a JSON file."""
    if not isinstance(value, dict) or column in value or "messages" in value:
        return [value]
    lists = [content for content in value.values() if isinstance(content, list)]
    data = value.get("data")
    return data if isinstance(data, list) else lists[0] if len(lists) == 1 else [value]


def _json_rows(path: Path, column: str) -> Iterator[LocatedRow]:
    for number, value in enumerate(_json_values(path, column), 1):
        where = f"{path}: row {number}"
        yield where, _object(value, where, "make the file one array of objects")


def _cell(name: str, cell: str, column: str) -> Any:
    """A CSV cell: empty is null, and messages may be written as a JSON array."""
    if name in (column, "messages") and cell.lstrip().startswith("["):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return value
    return cell or None


def _csv_rows(path: Path, column: str, delimiter: str = ",") -> Iterator[LocatedRow]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"not valid CSV: {error}",
                where=where,
                expected='cells with line feeds, quotes or commas in "double quotes", quotes doubled',
                remedy="mend the row that begins here, or convert the file to JSONL",
            ) from error
        if cells is None:
            return
        if not cells:
            continue
        if not header:
            header = cells
            if len(set(header)) < len(header):
                raise UserError("two columns of one name", where=where, remedy="rename one of them")
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{len(cells)} cells in this row",
                where=where,
                expected=f"{len(header)}, as in the header",
                remedy='mend the row; a cell that holds a comma stands in "double quotes"',
            )
        yield where, {name: _cell(name, cell, column) for name, cell in zip(header, cells, strict=True)}


def _tsv_rows(path: Path, column: str) -> Iterator[LocatedRow]:
    return _csv_rows(path, column, delimiter="\t")


def _parquet_rows(path: Path, column: str) -> Iterator[LocatedRow]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with _reading(path), path.open("rb") as file, parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=PARQUET_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"not a sound Parquet file: {error}",
            where=f"{path}: after row {number}" if number else str(path),
            remedy="write or copy it again",
        ) from error


READERS: dict[str, Reader] = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".parquet": _parquet_rows,
}
