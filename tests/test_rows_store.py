"""A store of any kind of records: what traces are promised holds for annotations, in words of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from weft.boundary.spans import SPANS, Annotation, AnnotationStatus, read_annotations
from weft.errors import UserError
from weft.records import Author
from weft.store import Manifest, RowStore, check_output, read_rows, rejected_path

ONE = Annotation("p#0@0/0", "p#0", "p", 0, "Okay, so 4. 🙂", ((0, 8),), answers=('["Okay, so"]',))


def open_store(
    path: Path, *, overwrite: bool = False, seed: int = 0
) -> RowStore[Annotation, AnnotationStatus]:
    return RowStore(SPANS, path, Manifest.create("0.1", {"seed": seed}), overwrite=overwrite)


def numbered(number: int, status: AnnotationStatus = AnnotationStatus.COMPLETE) -> Annotation:
    complete = status is AnnotationStatus.COMPLETE
    return replace(
        ONE,
        id=f"p#0@0/{number}",
        number=number,
        status=status,
        style=ONE.style if complete else (),
        reason=None if complete else "so it was",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


def test_annotations_come_back_as_they_were(path: Path) -> None:
    bad = numbered(1, AnnotationStatus.NOT_JSON)
    with open_store(path) as store:
        store.append(ONE)
        store.append(bad)
        assert store.counts == {AnnotationStatus.COMPLETE: 1, AnnotationStatus.NOT_JSON: 1}
        assert (store.complete, store.rejected) == (1, 1)
    assert list(read_rows(SPANS, path)) == list(read_annotations(path)) == [ONE]
    assert list(read_rows(SPANS, rejected_path(path))) == [bad]


def test_errors_of_engines_are_tried_again(path: Path) -> None:
    with open_store(path) as store:
        store.append(numbered(0, AnnotationStatus.ENGINE_ERROR))
        store.append(numbered(1, AnnotationStatus.NOT_FOUND))
    with open_store(path) as store:
        assert not store.is_finished("p#0@0/0", SPANS.made_from(ONE))
        assert store.is_finished("p#0@0/1", SPANS.made_from(ONE))
        store.append(numbered(0))
        with pytest.raises(ValueError, match="the annotation p#0@0/0 is finished already"):
            store.append(numbered(0))


def test_a_torn_end_is_repaired(path: Path) -> None:
    with open_store(path) as store:
        store.append(numbered(0))
        store.append(numbered(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with open_store(path) as store:
        assert "torn last line" in store.repaired[0]
        store.append(numbered(1))
    assert path.read_bytes() == whole


def test_messages_name_what_it_is(path: Path) -> None:
    with open_store(path) as store:
        store.append(ONE)
        with pytest.raises(UserError, match="another text of the same id") as refused:
            store.is_finished(ONE.id, SPANS.made_from(replace(ONE, text="Wait.")), "traces.jsonl")
        assert refused.value.where == "traces.jsonl"
        assert "take the old texts" in refused.value.remedy
    with pytest.raises(UserError, match="the annotations there were made with other settings"):
        open_store(path, seed=1)
    with pytest.raises(UserError, match="rejected annotations"):
        check_output(rejected_path(path), SPANS.name)
    path.write_text('{"schema": 1, "id": 1}\n')
    with pytest.raises(UserError, match="not a row of spans") as refused:
        list(read_rows(SPANS, path))
    assert (refused.value.where, refused.value.expected) == (f"{path}:1", "an annotation that Weft wrote")
    with pytest.raises(UserError) as refused:
        list(read_rows(SPANS, path.with_name("none.jsonl")))
    assert refused.value.expected == "annotations, as `weft boundary annotate` writes them"


def test_only_its_own_kind_is_overwritten(path: Path) -> None:
    path.write_text('{"question": "mine"}\n')
    with pytest.raises(UserError, match="does not hold what `weft boundary annotate` writes"):
        open_store(path, overwrite=True)
    assert path.read_text() == '{"question": "mine"}\n'


def test_settings_are_compared_as_json(path: Path) -> None:
    for author in (Author.STUDENT, "student"):
        RowStore(SPANS, path, Manifest.create("0.1", {"by": author})).close()
    assert path.exists()
