"""Prompts: what is read, what is refused, and that reading streams."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import UserError
from weft.prompts import PromptSource, files, open_prompts, sample_id, source
from weft.records import Message, Prompt

ROWS = [
    {"id": "a", "prompt": "What is 2 + 2?", "answer": "4", "level": 1},
    {"id": "b#7", "prompt": "Größe?\nIn one word. 🙂", "system": "Be brief.", "answer": 0.5, "level": None},
    {"id": 3, "prompt": [{"role": "user", "content": "Hi"}], "answer": True, "level": {"z": [1], "a": "é"}},
]


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


Write = Callable[[str, str | bytes], str]


def only(prompts: PromptSource) -> Prompt:
    (prompt,) = prompts
    return prompt


def refused(name: str, **options: Any) -> UserError:
    with pytest.raises(UserError) as error:
        open_prompts(name, **options)
    return error.value


# Kinds of files


def test_jsonl_rows_become_prompts(write: Write) -> None:
    name = write("q.jsonl", "\ufeff" + jsonl(ROWS[0]) + "\n  \r\n" + jsonl(*ROWS[1:]))
    prompts = open_prompts(name)
    first, second, third = prompts
    assert first == Prompt(
        "a", (Message("user", "What is 2 + 2?"),), answer="4", extra='{"level": 1}', where=f"{name}:1"
    )
    assert second.messages == (
        Message("system", "Be brief."),
        Message("user", "Größe?\nIn one word. 🙂"),
    )
    assert (second.answer, second.extra, second.where) == ("0.5", '{"level": null}', f"{name}:4")
    assert (third.id, third.answer, third.extra) == ("3", "true", '{"level": {"a": "é", "z": [1]}}')
    assert (prompts.name, prompts.count) == (name, 3)
    assert list(prompts) == [first, second, third]
    assert sample_id(second, 2) == "b#7#2"


def pretty(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        pretty(ROWS),
        "\ufeff\n [" + " ,\n".join(json.dumps(row) for row in ROWS) + "\n]\n ",
        json.dumps({"data": ROWS, "tags": ["x"]}),
        json.dumps({"version": 1, "rows": ROWS}, indent=1),
        jsonl(*ROWS),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_json_in_all_its_forms(
    write: Write, content: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIECE", piece)
    expected = open_prompts(write("q.jsonl", jsonl(*ROWS)))
    name = write("q.json", content)
    prompts = open_prompts(name)
    assert prompts.digest == expected.digest
    assert [prompt.where for prompt in prompts] == [f"{name}: row {number}" for number in (1, 2, 3)]


def test_a_json_object_that_is_the_only_row(write: Write) -> None:
    row = {"prompt": [{"role": "user", "content": "Hi"}], "id": "x"}
    assert only(open_prompts(write("q.json", json.dumps(row, indent=1)))).id == "x"


def test_csv_names_the_physical_line(write: Write) -> None:
    name = write(
        "q.csv",
        "\ufeffid,prompt,answer,topic\r\n"
        'a,"one\nand, ""two""",,x\r\n'
        "\r\n"
        '"","[{""role"": ""user"", ""content"": ""Hi""}]",4,\r\n'
        '"c\u2028",[1] is a list,0.50,y\r\n',
    )
    first, second, third = open_prompts(name)
    assert (first.id, first.messages[0].content, first.answer) == ("a", 'one\nand, "two"', None)
    assert second.messages == (Message("user", "Hi"),)
    assert (second.answer, second.extra) == ("4", '{"topic": null}')
    assert (third.messages[0].content, third.answer) == ("[1] is a list", "0.50")
    assert [prompt.where for prompt in (first, second, third)] == [f"{name}:{line}" for line in (2, 5, 6)]


def test_tsv(write: Write) -> None:
    assert only(open_prompts(write("q.tsv", "prompt\tanswer\na, b\t2\n"))).answer == "2"


def test_a_csv_cell_may_be_long(write: Write) -> None:
    text = "word " * 400_000
    assert only(open_prompts(write("q.csv", f'prompt\n"{text}"\n'))).messages[0].content == text


def test_parquet_and_what_json_cannot_hold(tmp_path: Path) -> None:
    name = str(tmp_path / "q.parquet")
    table = pa.table(
        {
            "messages": [[{"role": "user", "content": "Hi", "name": None}]],
            "id": [7],
            "answer": [Decimal("0.10")],
            "day": [date(2026, 1, 2)],
            "blob": [b"\x00\xff"],
            "score": [float("nan")],
            "many": [[float("inf"), 1.5]],
        }
    )
    pq.write_table(table, name)
    prompt = only(open_prompts(name))
    assert (prompt.id, prompt.answer, prompt.where) == ("7", "0.10", f"{name}: row 1")
    assert json.loads(prompt.extra) == {
        "day": "2026-01-02",
        "blob": base64.b64encode(b"\x00\xff").decode(),
        "score": None,
        "many": [None, 1.5],
    }


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_compressed_files(write: Write, kind: str) -> None:
    content = {"jsonl": jsonl({"prompt": "Hi"}), "json": '[{"prompt": "Hi"}]', "csv": "prompt\nHi\n"}[kind]
    packed = pa.compress(content.encode(), codec="zstd", asbytes=True)
    for name in (write(f"q.{kind}.gz", gzip.compress(content.encode())), write(f"q.{kind}.zst", packed)):
        assert only(open_prompts(name)).messages[0].content == "Hi"


# What is refused, with its place


BAD_ROWS: list[tuple[Any, str]] = [
    ({"prompt": ""}, "`prompt` is empty"),
    ({"prompt": " \n"}, "`prompt` is empty"),
    ({"prompt": None}, "`prompt` is a JSON null"),
    ({"prompt": 5}, "`prompt` is a JSON number"),
    ({"prompt": True}, "`prompt` is a JSON boolean"),
    ({"prompt": {"role": "user"}}, "`prompt` is a JSON object"),
    ({"prompt": []}, "no messages"),
    ({"prompt": ["Hi"]}, "message 1 of `prompt` is a JSON string"),
    ({"prompt": [{"role": "human", "content": "Hi"}]}, "role 'human'"),
    ({"prompt": [{"from": "human", "value": "Hi"}]}, "no `role`"),
    ({"prompt": [{"role": ["user"], "content": "Hi"}]}, "role"),
    ({"prompt": [{"role": "user"}]}, "`content` of message 1 of `prompt` is a JSON null"),
    ({"prompt": [{"role": "user", "content": " "}]}, "last message of `prompt` is empty"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "`assistant`"),
    ({"messages": "Hi"}, "`messages` is a JSON string"),
    ({"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "part of type 'image'"),
    ({"prompt": [{"role": "user", "content": [{"type": "text"}]}]}, "part of type 'text'"),
    ({"prompt": [{"role": "user", "content": "Hi", "thinking": 1}]}, "`thinking` of message 1"),
    ({"prompt": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "calls tools"),
    ({"prompt": "Hi", "system": 3}, "`system` is a JSON number"),
    (
        {"prompt": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "system": "c"},
        "a `system` column and a system message",
    ),
    ({"prompt": "a\0b"}, "NUL character at 1"),
    ({"prompt": "Hi", "system": "a\0b"}, "NUL"),
    ({"prompt": "Hi", "id": "a\0"}, "NUL"),
    ({"prompt": "Hi", "answer": {"x": 1}}, "`answer` is a JSON object"),
    ({"prompt": "Hi", "answer": ["x"]}, "`answer` is a JSON array"),
    ({"prompt": "Hi", "id": ""}, "an `id` ''"),
    ({"prompt": "Hi", "id": "a\nb"}, "an `id` 'a\\nb'"),
    ({"prompt": "Hi", "id": "x" * 513}, "an `id` of 513 characters"),
    ({"prompt": "Hi", "id": 1.5}, "`id` is a JSON number"),
    ({"prompt": "Hi", "id": True}, "`id` is a JSON boolean"),
    ({"prompt": "x" * (8 * 2**20 + 1)}, "a prompt of 8,388,609 bytes"),
    ({"x": "Hi"}, "no column `prompt`"),
    ({}, "no column `prompt`"),
    (["Hi"], "a row is a JSON array"),
    ("Hi", "a row is a JSON string"),
]


@pytest.mark.parametrize(("row", "said"), BAD_ROWS, ids=[said for _, said in BAD_ROWS])
def test_a_malformed_row_is_refused_with_its_line(write: Write, row: Any, said: str) -> None:
    name = write("q.jsonl", jsonl({"prompt": "Hi"}) + "\n" + jsonl(row))
    error = refused(name)
    assert said in error.what
    assert error.where == f"{name}:3"
    assert error.expected or error.remedy
    assert len(str(error)) < 600


@pytest.mark.parametrize("column", ["prompt", "system", "answer", "id", "topic"])
def test_half_a_character_is_refused(write: Write, column: str) -> None:
    name = write("q.jsonl", json.dumps({"prompt": "Hi", column: "ab\ud83d"}) + "\n")
    assert "lone surrogate U+D83D" in refused(name).what
    whole = write("q.jsonl", json.dumps({"prompt": "Hi", column: "ab🙂"}) + "\n")
    assert open_prompts(whole).count == 1


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'{"prompt": "Hi"}\n{"prompt": "Hi"\n', 2, "not valid JSON: Expecting"),
        (b'{"prompt": "Hi"}\n\n{"prompt": "a\x00b"}\n', 3, "not valid JSON: Invalid control character"),
        (b'{"prompt": "Hi"}\n{"prompt": "caf\xe9"}\n', 2, "byte 0xe9 at offset 32 is not UTF-8"),
        ('{"prompt": "Hi"}\n'.encode("utf-16"), 1, "byte 0xff at offset 0 is not UTF-8"),
        (b"[" * 100_000, 1, "not valid JSON"),
        (b'{"prompt": "Hi", "n": 1' + b"0" * 5000 + b"}", 1, "not valid JSON"),
    ],
)
def test_malformed_jsonl(write: Write, content: bytes, line: int, said: str) -> None:
    name = write("q.jsonl", content)
    error = refused(name)
    assert said in error.what
    assert error.where == f"{name}:{line}"


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'[\n{"prompt": "Hi"},\n{"prompt": Hi}\n]', 3, "not valid JSON: Expecting value at column 12"),
        (b'[\n{"prompt": "Hi"}\n{"prompt": "Hi"}]', 3, "'{' stands here"),
        (b'[{"prompt": "Hi"},\n', 2, "not valid JSON"),
        (b'[{"prompt": "Hi"}\n', 2, "ends too early"),
        (b'[{"prompt": "Hi"},\n{"prompt": "caf\xe9"}]', 2, "byte 0xe9 at offset 34 is not UTF-8"),
        (b'{"prompt": "Hi"}\n{"prompt": Hi\n', 2, "not valid JSON"),
    ],
)
@pytest.mark.parametrize("piece", [5, 2**20])
def test_malformed_json(
    write: Write, content: bytes, line: int, said: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIECE", piece)
    name = write("q.json", content)
    error = refused(name)
    assert said in error.what
    assert error.where == f"{name}:{line}"


def test_json_that_is_no_list_of_rows(write: Write) -> None:
    assert "text after the end" in refused(write("a.json", '[{"prompt": "Hi"}] 5')).what
    assert "a row is a JSON number" in refused(write("b.json", "5")).what
    assert "no column `prompt`" in refused(write("c.json", '{"a": [1], "b": [2]}')).what


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("question,answer\na,b\n", 2, "no column `prompt`"),
        ('prompt\nx\n"a\nb\n', 3, "not valid CSV"),
        ('prompt\n"a" b\n', 2, "not valid CSV"),
        ('prompt,id\n"a\nb",1\n\na,b,c\n', 5, "3 cells in this row"),
        ("prompt,id,id\na,b,c\n", 1, "two columns of one name"),
        ("id,prompt\n1,\n", 2, "`prompt` is a JSON null"),
    ],
)
def test_malformed_csv(write: Write, content: str, line: int, said: str) -> None:
    name = write("q.csv", content)
    error = refused(name)
    assert said in error.what
    assert error.where == f"{name}:{line}"


def test_malformed_files(write: Write, tmp_path: Path) -> None:
    packed = gzip.compress(jsonl(*({"prompt": f"{number}"} for number in range(100))).encode())
    assert "cut short" in refused(write("a.jsonl.gz", packed[:-20])).what
    assert "cannot be read" in refused(write("b.jsonl.gz", b"plain")).what
    assert "cannot be read" in refused(write("b.jsonl.zst", b"plain")).what
    assert "Parquet" in refused(write("c.parquet", b"PAR1 no")).what
    pq.write_table(
        pa.table({"prompt": [f"Hi {number}" * 50 for number in range(1000)]}), tmp_path / "d.parquet"
    )
    content = bytearray((tmp_path / "d.parquet").read_bytes())
    content[100:200] = bytes(100)
    assert refused(write("d.parquet", bytes(content))).where.startswith(str(tmp_path / "d.parquet"))


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.csv"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_files_without_prompts(write: Write, name: str, content: str) -> None:
    path = write(name, content)
    if name == "q.csv" and content == "\n \n":
        content = "prompt\n"
        path = write(name, content)
    error = refused(path)
    assert error.what == f"no prompts in {path}"


def test_names_that_are_no_files(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refused("prompts.jsonl").what
    assert "no such file" in refused(str(tmp_path / "none")).what
    error = refused(write("q.xlsx", "x"))
    assert "'.xlsx'" in error.what
    assert ".jsonl, .ndjson, .json, .csv, .tsv, .parquet" in error.expected
    assert "without an extension" in refused(write("q", "x")).what
    assert "'.gz'" in refused(write("q.parquet.gz", "x")).what
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "neither a file nor a folder" in refused(str(tmp_path / "pipe.jsonl")).what
    assert "cannot be read" in refused("x" * 5000 + ".jsonl").what

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    name = write("q.jsonl", jsonl({"prompt": "Hi"}))
    monkeypatch.setattr(Path, "open", refuse)
    error = refused(name)
    assert (error.what, error.where) == ("permission denied", name)


def test_a_row_without_end_does_not_fill_the_memory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ROW", 2**20)
    monkeypatch.setattr(files, "PIECE", 2**16)
    text = "x" * 3 * 2**20
    assert "longer than 1 MiB" in refused(write("q.jsonl", json.dumps({"prompt": text}))).what
    assert "longer than 1 MiB" in refused(write("q.json", "[" + json.dumps({"prompt": text}) + "]")).what


# Columns


@pytest.mark.parametrize("column", ["question", "instruction", "problem"])
def test_the_remedy_names_the_column_that_looks_like_a_prompt(write: Write, column: str) -> None:
    name = write("q.jsonl", jsonl({"n": 1, column: "Why?"}))
    assert refused(name).remedy == f"rename `{column}` to `prompt`, or --prompt-column {column}"
    prompt = only(open_prompts(name, prompt_column=column))
    assert (prompt.messages[0].content, prompt.extra) == ("Why?", '{"n": 1}')
    error = refused(name, prompt_column="no")
    assert "--prompt-column" in error.remedy
    assert f"`n`, `{column}`" in error.expected


def test_messages_stand_in_for_a_missing_prompt(write: Write) -> None:
    chat = [{"role": "user", "content": "a"}]
    rows = [{"prompt": None, "messages": chat}, {"messages": chat}, {"prompt": "b", "messages": chat}]
    first, second, third = open_prompts(write("q.jsonl", jsonl(*rows)))
    assert first.messages == second.messages == (Message("user", "a"),)
    assert third.messages == (Message("user", "b"),)
    assert json.loads(third.extra) == {"messages": chat}


def test_messages_keep_roles_thinking_and_text_parts(write: Write) -> None:
    chat = [
        {"role": "developer", "content": "", "weight": 0},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "hm"},
        {"role": "tool", "content": "c"},
        {"role": "user", "content": [{"type": "text", "text": "d "}, {"type": "text", "text": "e"}]},
    ]
    prompt = only(open_prompts(write("q.jsonl", jsonl({"prompt": chat, "system": " "}))))
    assert prompt.messages == (
        Message("developer", ""),
        Message("user", "a"),
        Message("assistant", "b", "hm", "reasoning"),
        Message("tool", "c"),
        Message("user", "d e"),
    )


def test_answers_that_are_not_given(write: Write) -> None:
    name = write(
        "q.jsonl", '{"prompt": "a", "answer": null}\n{"prompt": "b", "answer": NaN}\n{"prompt": "c"}\n'
    )
    assert [prompt.answer for prompt in open_prompts(name)] == [None, None, None]


def test_a_prompt_of_two_megabytes_is_read(write: Write) -> None:
    text = "Wörter " * 300_000
    assert only(open_prompts(write("q.jsonl", jsonl({"prompt": text})))).messages[0].content == text


# Ids


def test_missing_ids_are_content_and_occurrence(write: Write) -> None:
    rows = [{"prompt": text, "answer": n} for n, text in enumerate(["x", "y", "x", "x", "z"])]
    prompts = open_prompts(write("q.jsonl", jsonl(*rows)))
    ids = [prompt.id for prompt in prompts]
    assert [name.rpartition("-")[2] for name in ids] == ["0", "0", "1", "2", "0"]
    assert len({name.rpartition("-")[0] for name in ids}) == 3
    assert [prompt.id for prompt in prompts] == ids
    moved = open_prompts(write("r.jsonl", jsonl({"prompt": "new"}, *rows)))
    assert [prompt.id for prompt in moved][1:] == ids
    given = [{**row, "id": name} for row, name in zip(rows, ids, strict=True)]
    assert [prompt.id for prompt in open_prompts(write("s.jsonl", jsonl(*given)))] == ids


def test_an_id_that_stands_twice_is_refused_with_both_places(write: Write) -> None:
    name = write("q.jsonl", jsonl(*({"id": number % 4, "prompt": "x"} for number in range(1, 6))))
    error = refused(name)
    assert error.what == f'the id "1" stands twice, first at {name}:1'
    assert error.where == f"{name}:5"


def test_a_given_id_that_a_missing_one_would_get_is_refused(write: Write) -> None:
    taken = [prompt.id for prompt in open_prompts(write("q.jsonl", jsonl(*[{"prompt": "x"}] * 2)))][1]
    name = write("r.jsonl", jsonl({"prompt": "x"}, {"id": taken, "prompt": "y"}, {"prompt": "x"}))
    assert "stands twice" in refused(name).what


def test_ids_that_only_share_a_hash_pass(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_hash64", lambda text: 1)
    name = write("q.jsonl", jsonl(*({"id": number, "prompt": "x"} for number in range(5))))
    assert open_prompts(name).count == 5


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(texts, st.none() | texts), min_size=1, max_size=6))
def test_all_kinds_of_files_give_the_same_prompts(rows: list[tuple[str, str | None]]) -> None:
    made = [{"prompt": prompt, "topic": topic} for prompt, topic in rows]
    with TemporaryDirectory() as folder:
        names = [f"{folder}/q.{kind}" for kind in ("jsonl", "json", "parquet", "csv")]
        Path(names[0]).write_text(jsonl(*made), encoding="utf-8", newline="")
        Path(names[1]).write_text(json.dumps(made), encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(made), names[2])
        with Path(names[3]).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "topic"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(made)
        sources = [open_prompts(name) for name in names]
        assert len({prompts.digest for prompts in sources}) == 1
        found = [[(p.id, p.messages, p.extra) for p in prompts] for prompts in sources]
        assert all(prompts == found[0] for prompts in found)
        assert [p.messages[0].content for p in sources[0]] == [prompt for prompt, _ in rows]
        assert len({p.id for p in sources[0]}) == len(rows)


# The stream


def test_a_limit_leaves_the_rest_unread(write: Write) -> None:
    name = write("q.jsonl", jsonl({"prompt": "a"}, {"prompt": "b"}) + "broken")
    prompts = open_prompts(name, limit=2)
    assert prompts.count == len(list(prompts)) == 2
    assert "limit of 0" in refused(name, limit=0).what


def test_the_digest_follows_ids_and_contents(write: Write) -> None:
    row = {"id": "a", "prompt": "x", "answer": "1", "n": 1}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"id": "b"},
        {"prompt": "y"},
        {"answer": "2"},
        {"n": 2},
        {"system": "s"},
    )
    digests = [open_prompts(write("q.jsonl", jsonl({**row, **change}))).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert open_prompts(write("r.jsonl", "\n" + jsonl(row))).digest == digests[0]


def test_a_file_that_changed_since_the_check_is_refused(write: Write) -> None:
    name = write("q.jsonl", jsonl({"prompt": "a"}))
    prompts = open_prompts(name)
    write("q.jsonl", jsonl({"prompt": "a longer one"}))
    with pytest.raises(UserError, match="changed after it had been checked"):
        list(prompts)


def test_the_first_prompt_comes_before_the_last_is_read(write: Write) -> None:
    prompts = open_prompts(write("q.jsonl", jsonl(*({"prompt": f"{number}"} for number in range(10)))))
    one, two = iter(prompts), iter(prompts)
    assert next(one).messages == next(two).messages
    assert len(list(one)) == len(list(two)) == 9


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIECE", 2**16)
    import numpy as np  # so that its import is not counted

    assert np.uint64(1)
    padding = "x" * 400

    def peak(count: int) -> int:
        rows = [
            {"prompt": f"{number} {padding}", "id": None if number % 2 else f"i{number}"}
            for number in range(count)
        ]
        path = tmp_path / f"{count}.{kind}"
        if kind == "jsonl":
            path.write_text(jsonl(*rows))
        elif kind == "json":
            path.write_text(json.dumps(rows))
        elif kind == "csv":
            path.write_text("prompt,id\n" + "".join(f"{row['prompt']},{row['id'] or ''}\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)
        del rows
        tracemalloc.start()
        for _ in open_prompts(str(path)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(10)
    small, large = peak(1000), peak(4000)
    assert large - small < 3000 * 32 + 50_000


# Data sets


class FakeSets:
    """Stands in for the ``datasets`` library."""

    def __init__(self, rows: list[Any], error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.asked: tuple[Any, ...] = ()

    def load_dataset(
        self, name: str, config: str | None, *, split: str, streaming: bool
    ) -> Iterator[Any] | Any:
        self.asked = (name, config, split, streaming)
        if self.error:
            raise self.error
        return self.rows


def test_data_sets_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSets(ROWS)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    prompts = open_prompts("owner/name:main", split="test")
    assert list(fake.asked) == ["owner/name", "main", "test", False]
    assert [prompt.id for prompt in prompts] == ["a", "b#7", "3"]
    assert next(iter(prompts)).where == "owner/name:main[test]: row 1"
    assert open_prompts("owner/name", limit=1).count == 1
    assert list(fake.asked) == ["owner/name", None, "train", True]


def test_data_sets_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeSets([], ConnectionError("\nno network\nmore")))
    error = refused("owner/name")
    assert error.what == "cannot be loaded as a data set: ConnectionError: no network"
    assert error.where == "owner/name"
    monkeypatch.setitem(sys.modules, "datasets", FakeSets([{"prompt": "Hi"}, {"prompt": object()}]))
    assert refused("owner/name").where == "owner/name[train]: row 2"
    monkeypatch.setitem(sys.modules, "datasets", FakeSets([{"prompt": "Hi", "image": object()}]))
    assert "column `image` holds a object" in refused("owner/name").what
    monkeypatch.setitem(sys.modules, "datasets", FakeSets([]))
    assert refused("owner/name").what == "no prompts in owner/name"
