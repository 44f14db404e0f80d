"""The store: nothing lost, nothing twice, whatever ends a run."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import RunError, UserError
from weft.records import (
    Author,
    Message,
    Prompt,
    Provenance,
    Sampling,
    Span,
    Status,
    Trace,
    Usage,
)
from weft.store import (
    Manifest,
    TraceStore,
    check_output,
    differences,
    manifest_path,
    read_manifest,
    read_traces,
    rejected_path,
)

IDS = [f"p{number}#0" for number in range(12)]


def prompt_of(trace_id: str, text: str = "What is 2 + 2? 🙂") -> Prompt:
    name = trace_id.rpartition("#")[0]
    return Prompt(name, (Message("user", f"{name}: {text}"),), answer="4", extra='{"level": 1}')


def trace_of(trace_id: str, status: Status = Status.COMPLETE, text: str = "Zwölf,\nso 4.") -> Trace:
    return Trace(
        id=trace_id,
        prompt=prompt_of(trace_id),
        sample=int(trace_id.rpartition("#")[2]),
        status=status,
        reason=None if status is Status.COMPLETE else "it was so",
        spans=(Span(Author.STUDENT, "Let me think. "), Span(Author.TEACHER, text), Span(Author.STUDENT, "4")),
        thinking_spans=2,
        completion=Message("assistant", "4", "Let me think. " + text, "reasoning_content"),
        training_template=None,
        usage=Usage(turns=3),
        provenance=Provenance("rotate", "tiny", "big", Sampling(0.6), Sampling(1.0), 1, "0.1"),
    )


def manifest(**settings: Any) -> Manifest:
    return Manifest.create("0.1", {"strategy": "rotate", **settings}, {"gpu": "none"})


def status_of(trace_id: str) -> Status:
    """Every third trace of the tests is rejected."""
    return Status.REPETITION if int(trace_id[1:].partition("#")[0]) % 3 == 2 else Status.COMPLETE


def go_on(path: Path, ids: Iterable[str]) -> None:
    """One run: make what is not done."""
    with TraceStore(path, manifest()) as store:
        for trace_id in ids:
            if not store.is_done(trace_id, prompt_of(trace_id)):
                store.append(trace_of(trace_id, status_of(trace_id)))


def rows(path: Path) -> list[Trace]:
    return [*read_traces(path), *read_traces(rejected_path(path))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "traces.jsonl"


def test_complete_and_rejected_are_written_apart_and_at_once(path: Path) -> None:
    with TraceStore(path, manifest()) as store:
        for trace_id in IDS:
            store.append(trace_of(trace_id, status_of(trace_id)))
            assert store.is_done(trace_id, prompt_of(trace_id))
        assert {trace.id for trace in rows(path)} == set(IDS)
        assert (store.complete, store.rejected) == (8, 4)
        assert store.counts == {Status.COMPLETE: 8, Status.REPETITION: 4}
    assert all(trace.status is Status.COMPLETE for trace in read_traces(path))
    rejected = list(read_traces(rejected_path(path)))
    assert [(trace.reason, trace.text) for trace in rejected] == [("it was so", trace_of("a#0").text)] * 4
    assert next(read_traces(path)) == trace_of(IDS[0])


def test_the_manifest_names_every_run(path: Path) -> None:
    go_on(path, IDS[:6])
    first = read_manifest(path)
    other = replace(manifest(), weft="0.2", created="2099", date="2099-01-01", info={"gpu": "one", "os": "x"})
    with TraceStore(path, other) as store:
        running = read_manifest(path)
        assert running is not None
        assert running.runs[-1].ended is None
        assert running.runs[-1].complete is None
        store.append(trace_of(IDS[6]))
    last = read_manifest(path)
    assert first is not None
    assert last is not None
    assert (last.created, last.date, last.weft) == (first.created, first.created[:10], "0.1")
    assert [(run.complete, run.rejected, run.weft) for run in last.runs] == [(4, 2, "0.1"), (1, 0, "0.2")]
    assert [run.info for run in last.runs] == [None, {"gpu": "one", "os": "x"}]
    assert all(run.ended for run in last.runs)


def test_a_run_killed_before_its_manifest_starts_again(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    manifest_path(path).with_suffix(".json.tmp").write_text("{")
    go_on(path, IDS[:1])
    assert len(rows(path)) == 1
    assert not list(path.parent.glob("*.tmp"))


def test_a_finished_run_goes_on_without_making_anything(path: Path) -> None:
    go_on(path, IDS)
    before = path.read_bytes(), rejected_path(path).read_bytes()
    with TraceStore(path, manifest()) as store:
        assert all(store.is_done(trace_id, prompt_of(trace_id)) for trace_id in IDS)
        assert not store.is_done("p0#1", prompt_of("p0#1"))
        assert (store.complete, store.rejected) == (8, 4)
        assert store.repaired == ()
    assert (path.read_bytes(), rejected_path(path).read_bytes()) == before


def test_engine_errors_are_tried_again_and_other_rejects_stay(path: Path) -> None:
    with TraceStore(path, manifest()) as store:
        store.append(trace_of(IDS[0], Status.ENGINE_ERROR))
        store.append(trace_of(IDS[1], Status.LENGTH))
        assert not store.is_done(IDS[0], prompt_of(IDS[0]))
    with TraceStore(path, manifest()) as store:
        assert "1 taken out" in store.repaired[0]
        assert store.counts == {Status.LENGTH: 1}
        assert not store.is_done(IDS[0], prompt_of(IDS[0]))
        assert store.is_done(IDS[1], prompt_of(IDS[1]))
        store.append(trace_of(IDS[0]))
    assert [trace.id for trace in rows(path)] == [IDS[0], IDS[1]]


def test_a_trace_that_is_also_complete_leaves_the_rejected(path: Path) -> None:
    go_on(path, IDS[:1])
    rejected_path(path).write_text(trace_of(IDS[0], Status.LENGTH).to_line())
    with TraceStore(path, manifest()) as store:
        assert (store.complete, store.rejected) == (1, 0)
    assert [trace.status for trace in rows(path)] == [Status.COMPLETE]


def test_another_prompt_under_a_finished_id_is_refused(path: Path) -> None:
    go_on(path, IDS[:1])
    with TraceStore(path, manifest()) as store, pytest.raises(UserError, match="another prompt"):
        store.is_done(IDS[0], replace(prompt_of(IDS[0], "And 3 + 3?"), where="q.jsonl:1"))


def test_the_same_trace_is_not_written_twice(path: Path) -> None:
    with TraceStore(path, manifest()) as store:
        store.append(trace_of(IDS[0]))
        with pytest.raises(ValueError, match="finished already"):
            store.append(trace_of(IDS[0]))
    assert len(rows(path)) == 1


def test_half_a_character_is_kept_as_an_escape(path: Path) -> None:
    trace = trace_of(IDS[0], Status.INVALID_TEXT, text="broken \ud83d here")
    with TraceStore(path, manifest()) as store:
        store.append(trace)
    assert rows(path) == [trace]
    go_on(path, IDS[:1])


# Settings


def test_changed_settings_are_refused_with_the_whole_list(path: Path) -> None:
    before = manifest(sampling={"temperature": 0.7, "top_p": 1, "gone": True}, limits=[1, 2])
    now = manifest(sampling={"temperature": 0.6, "top_p": 1.0, "new": None}, limits=[1, 3])
    with TraceStore(path, before) as store:
        store.append(trace_of(IDS[0]))
    kept = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(UserError) as refused:
        TraceStore(path, now)
    for line in (
        "  limits: [1, 2] before, [1, 3] now",
        "  sampling.gone: true before, not set now",
        "  sampling.new: not set before, null now",
        "  sampling.temperature: 0.7 before, 0.6 now",
    ):
        assert line in str(refused.value).splitlines()
    assert "top_p" not in str(refused.value)
    assert "--overwrite" in refused.value.remedy
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == kept


def test_overwrite_starts_again(path: Path) -> None:
    go_on(path, IDS)
    with TraceStore(path, manifest(seed=2), overwrite=True) as store:
        assert store.counts.total() == 0
        assert not store.is_done(IDS[0], prompt_of(IDS[0], "other"))
    last = read_manifest(path)
    assert last is not None
    assert last.settings["seed"] == 2
    assert len(last.runs) == 1
    assert rows(path) == []


def test_settings_are_compared_as_json(path: Path) -> None:
    with TraceStore(path, manifest(tags=("a", "b"), author=Author.STUDENT)):
        pass
    with TraceStore(path, manifest(tags=["a", "b"], author="student")):
        pass
    assert differences({"a": True}, {"a": 1}) == ["a: true before, 1 now"]
    assert differences({"a": [True, 1]}, {"a": [True, 1.0]}) == []
    assert differences({"a": [True]}, {"a": [1]}) == ["a: [true] before, [1] now"]


def test_long_settings_are_shown_where_they_differ() -> None:
    (line,) = differences({"template": "x" * 500 + "old" + "y" * 500}, {"template": "x" * 500 + "new"})
    assert "old" in line
    assert "new" in line
    assert len(line) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_differences_are_empty_only_for_equal_values(before: Any, now: Any) -> None:
    equal = json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True)
    assert differences(before, before) == []
    assert bool(differences({"x": before}, {"x": now})) is not equal


# What is refused


def edit_manifest(path: Path, change: Callable[[Any], Any]) -> None:
    file = manifest_path(path)
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def test_traces_without_a_manifest_are_refused(path: Path) -> None:
    go_on(path, IDS[:1])
    manifest_path(path).unlink()
    with pytest.raises(UserError, match="which says what made it"):
        TraceStore(path, manifest())
    assert len(rows(path)) == 1


def test_other_manifests_are_refused(path: Path) -> None:
    go_on(path, IDS[:1])
    edit_manifest(path, lambda row: {**row, "schema": 99})
    with pytest.raises(UserError, match="version 99"):
        TraceStore(path, manifest())
    edit_manifest(path, lambda row: {**row, "schema": 1, "unknown": 1})
    with pytest.raises(UserError, match="not a manifest"):
        TraceStore(path, manifest())
    manifest_path(path).write_text("{")
    with pytest.raises(UserError, match="not a manifest"):
        TraceStore(path, manifest())
    with TraceStore(path, manifest(), overwrite=True) as store:
        assert store.complete == 0


def test_two_runs_on_one_output_are_refused(path: Path) -> None:
    pytest.importorskip("fcntl")
    with TraceStore(path, manifest()) as store:
        with pytest.raises(UserError, match="another weft run"):
            TraceStore(path, manifest(), overwrite=True)
        store.append(trace_of(IDS[0]))
    go_on(path, IDS[:2])
    assert len(rows(path)) == 2


def test_an_output_is_checked_without_writing(path: Path) -> None:
    check_output(path)
    assert not path.parent.exists()
    path.mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        check_output(path)


def test_an_output_in_use_is_found_out_early(path: Path) -> None:
    pytest.importorskip("fcntl")
    with TraceStore(path, manifest()) as store:
        with pytest.raises(UserError, match="another weft run"):
            check_output(path)
        store.append(trace_of(IDS[0]))
    check_output(path)
    assert len(rows(path)) == 1


def test_a_folder_that_may_not_be_written_is_found_out_early(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="permission denied"):
        check_output(path)


def test_the_day_of_a_manifest_may_be_given() -> None:
    assert Manifest.create("0.1", {}, date="2026-01-31").date == "2026-01-31"


def test_an_output_that_is_not_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a \.jsonl file"):
        TraceStore(tmp_path / "traces.json", manifest())


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        TraceStore(tmp_path / "file" / "traces.jsonl", manifest())


@pytest.mark.parametrize("bad", [b"{]\n", b"\x00\xff\n", b'{"id": 1}\n', b"[]\n"])
def test_a_bad_line_in_the_middle_is_named(path: Path, bad: bytes) -> None:
    go_on(path, IDS[:6])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], bad, *lines[1:]]))
    content = path.read_bytes()
    for act in (lambda: TraceStore(path, manifest()), lambda: list(read_traces(path))):
        with pytest.raises(UserError) as refused:
            act()
        assert refused.value.where == f"{path}:2"
    assert path.read_bytes() == content


def test_a_rejected_trace_among_the_complete_is_refused(path: Path) -> None:
    go_on(path, IDS[:1])
    path.write_text(trace_of(IDS[0]).to_line() + trace_of(IDS[1], Status.LENGTH).to_line())
    with pytest.raises(UserError, match="does not belong here") as refused:
        TraceStore(path, manifest())
    assert refused.value.where == f"{path}:2"


def test_reading_says_what_is_wrong(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        list(read_traces(path))
    go_on(path, IDS[:1])
    path.write_bytes(path.read_bytes() + b'{"schema"')
    with pytest.raises(UserError, match="torn"):
        list(read_traces(path))


# Ends of all kinds


@pytest.mark.parametrize("tail", [b"{", b'{"schema": 1, "id', b"\x00" * 300, b'{"sch\n', b'{"sch\n{"a'])
def test_a_torn_end_is_repaired(path: Path, tail: bytes) -> None:
    go_on(path, IDS[:6])
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with TraceStore(path, manifest()) as store:
        assert f"{len(tail)} bytes" in store.repaired[0]
    assert path.read_bytes() == whole


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1))
def test_cut_anywhere_a_resumed_run_equals_an_uninterrupted_one(cut: float, other: float) -> None:
    lines: set[bytes] = set()
    kept: set[bytes] = set()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "traces.jsonl"
        with TraceStore(path, manifest()):
            pass
        for file, complete, share in zip(
            (path, rejected_path(path)), (True, False), (cut, other), strict=True
        ):
            made = [trace_of(name, status_of(name)) for name in IDS]
            whole = [trace.to_line().encode() for trace in made if complete is (trace.reason is None)]
            content = b"".join(whole)[: round(share * sum(map(len, whole)))]
            file.write_bytes(content)
            lines |= set(whole)
            kept |= {line for line in content.splitlines(True) if line.endswith(b"\n")}
        with TraceStore(path, manifest()) as store:
            assert store.counts.total() == len(kept)
        after = path.read_bytes() + rejected_path(path).read_bytes()
        assert set(after.splitlines(True)) == kept
        go_on(path, IDS)
        after = path.read_bytes() + rejected_path(path).read_bytes()
        assert set(after.splitlines(True)) == lines
        assert len(after.splitlines()) == len(IDS)


KILLED = """
import json, sys
from dataclasses import replace
from pathlib import Path
from weft.records import Status, Trace
from weft.store import Manifest, TraceStore
model = Trace.from_row(json.loads(sys.argv[2]))
with TraceStore(Path(sys.argv[1]), Manifest.create("0.1", {"strategy": "rotate"})) as store:
    for number in range(400):
        prompt = replace(model.prompt, id=f"p{number}", extra=json.dumps({"long": "word " * 20_000}))
        status = Status.REPETITION if number % 3 == 2 else Status.COMPLETE
        if not store.is_done(f"p{number}#0", prompt):
            store.append(replace(model, id=f"p{number}#0", prompt=prompt, status=status))
            print(number, flush=True)
"""


def test_killed_again_and_again_a_run_ends_with_every_trace_once(path: Path) -> None:
    random.seed(7)
    command = [sys.executable, "-c", KILLED, str(path), trace_of(IDS[0]).to_line()]
    reported: set[str] = set()
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(random.randrange(1, 40)):
                reported.add(f"p{int(child.stdout.readline())}#0")
            child.kill()
            reported |= {f"p{line.strip()}#0" for line in child.stdout if line.endswith("\n")}
    with TraceStore(path, manifest()):
        assert reported <= {trace.id for trace in rows(path)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    ids = [trace.id for trace in rows(path)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {f"p{number}#0" for number in range(400)}


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    go_on(path, IDS)
    assert {trace.id for trace in rows(path)} == set(IDS)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (errno.ENOSPC, RunError, "disk is full"),
        (errno.EDQUOT, RunError, "quota"),
        (errno.EIO, RunError, "cannot write"),
        (errno.EROFS, UserError, "read-only file system"),
    ],
)
def test_a_failed_write_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], said: str
) -> None:
    write = os.write

    def half(file: int, data: Any) -> int:
        if len(data) < 200:
            raise OSError(code, os.strerror(code))
        return write(file, data[: len(data) // 2])

    with TraceStore(path, manifest()) as store:
        store.append(trace_of(IDS[0]))
        whole = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(error, match=said) as failed:
                store.append(trace_of(IDS[1]))
        assert isinstance(failed.value, UserError | RunError)
        assert failed.value.where == str(path)
        assert failed.value.remedy
        assert path.read_bytes() == whole
        store.append(trace_of(IDS[1]))
    assert [trace.id for trace in rows(path)] == IDS[:2]


def test_ctrl_c_in_a_write_keeps_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def interrupted(file: int, data: Any) -> int:
        write(file, data[:10])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), TraceStore(path, manifest()) as store:
        store.append(trace_of(IDS[0]))
        monkeypatch.setattr(os, "write", interrupted)
        store.append(trace_of(IDS[1]))
    assert [trace.id for trace in rows(path)] == IDS[:1]
    last = read_manifest(path)
    assert last is not None
    assert last.runs[-1].complete == 1


def test_nothing_is_written_behind_a_torn_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def failing(*_: Any) -> int:
        raise OSError(errno.EIO, "the disk is gone")

    def torn(file: int, data: Any) -> int:
        write(file, data[:10])
        return failing()

    with TraceStore(path, manifest()) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", torn)
            patch.setattr(os, "ftruncate", failing)
            with pytest.raises(RunError, match="the disk is gone"):
                store.append(trace_of(IDS[0]))
        with pytest.raises(RunError, match="could not be taken back"):
            store.append(trace_of(IDS[1]))
    go_on(path, IDS)
    assert {trace.id for trace in rows(path)} == set(IDS)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(file: Any, *_: Any) -> int:
        raise OSError(code, os.strerror(code), str(file))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match="cannot write") as refused:
        TraceStore(path, manifest())
    assert refused.value.where == str(path)


@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "replace")], ids=["sync", "manifest"])
def test_a_full_disk_at_the_end_is_told_and_the_lock_is_let_go(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = TraceStore(path, manifest())
    store.append(trace_of(IDS[0]))
    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        with pytest.raises(RunError, match="disk is full"):
            store.close()
    assert not list(path.parent.glob("*.tmp"))
    go_on(path, IDS[:2])
    assert [trace.id for trace in rows(path)] == IDS[:2]
