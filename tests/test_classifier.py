"""The learned boundary: what it reads, what its labels depend on, and which models it refuses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
)

from classifiers import save_classifier
from weft.boundary.base import Proposal, Tokens, Verdict
from weft.boundary.batched import Batched
from weft.boundary.classifier.judge import Classifier
from weft.boundary.classifier.loading import load_classifier
from weft.boundary.classifier.reading import LONGEST_WORD, Reader, spelled, words
from weft.boundary.opening import open_boundary
from weft.engines.slots import SlotCache
from weft.errors import TextError, UserError
from weft.micro import model_path
from weft.records import Author
from weft.vocabulary import TokenizerVocabulary, Vocabulary

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER
WINDOW = 12
TEXT = (
    "okay so start with 10 . hmm next , 10 * 6 is 8 . let me see , 8 - 7 is 1 .\n\n"
    "wait no , let me redo that one , 8 - 7 is 1 . 所以，好的。不对 ! alright so the answer is 1"
)
PIECES = [" so", " 1", "2", "\n", "\n\n", "，", "所以", " ", "  ", "\t", "x" * 70, ".", "é", "don't", " okay"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier"), window=WINDOW)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return TokenizerVocabulary(AutoTokenizer.from_pretrained(model_path("student")))


@pytest.fixture
def classifier(folder: Path) -> Classifier:
    return load_classifier(str(folder))


def plain(folder: Path, ids: list[int], window: int = WINDOW) -> list[float]:
    """Probabilities of style by the model alone, without a cache: after the definition."""
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.no_grad():
        for place in range(len(ids)):
            start = max(0, place // window - 1) * window
            logits = model(input_ids=torch.tensor([ids[start : place + 1]])).logits[0, -1]
            found.append(float(torch.softmax(logits, -1)[1]))
    return found


def proposal(
    before: list[list[int]],
    units: list[list[int]],
    vocabulary: Vocabulary,
    author: Author,
    *,
    own: bool = True,
    trace: str = "t",
) -> Proposal:
    said = [vocabulary.decode(unit) for unit in units]
    flat = [token for unit in before for token in unit]
    tokens = Tokens(vocabulary.fingerprint, flat, units) if own else None
    return Proposal(trace, author, vocabulary.decode(flat), said, False, tokens=tokens)


# -- what is read --


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.data())
def test_words_stay_what_they_are(text: str, data: st.DataObject) -> None:
    whole = words(text)
    assert "".join(whole) == text and all(0 < len(word) <= LONGEST_WORD for word in whole)
    part = words(text[: data.draw(st.integers(0, len(text)))])
    assert part[:-1] == whole[: max(0, len(part) - 1)]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30).map("".join), st.data())
@settings(max_examples=50)
def test_a_text_of_another_vocabulary_is_read_alike_in_all_chunks(text: str, data: st.DataObject) -> None:
    vocabulary = TokenizerVocabulary(AutoTokenizer.from_pretrained(model_path("student")))
    units = list(text)
    whole = Reader(vocabulary).read(Proposal("t", STUDENT, "", units, True))
    ids = [token for unit in spelled(vocabulary, text) for token in unit.ids]
    assert list(whole.ids) == ids
    reader, end = Reader(vocabulary), 0
    while end < len(text):
        start = data.draw(st.integers(0, end))
        end += data.draw(st.integers(1, 9))
        part = reader.read(Proposal("t", STUDENT, text[:start], units[start:end], False))
        for index, label in enumerate(part.labels):
            if label is not None:
                assert start + index > len(text) or whole.labels[start + index] == label
                assert list(part.ids[: label + 1]) == ids[: label + 1]


def test_a_unit_is_decided_by_the_label_before_it(vocabulary: Vocabulary) -> None:
    reading = Reader(vocabulary).read(
        Proposal("t", STUDENT, "okay so", [" start", " wi", "th", " 10"], False)
    )
    texts = [vocabulary.decode([token]) for token in reading.ids]
    assert "".join(texts) == "okay so start with"
    start = texts.index(" start")
    with_ = len(texts) - texts[::-1].index(next(t for t in texts[::-1] if t.startswith(" wi"))) - 1
    assert reading.labels[:2] == [start - 1, with_ - 1]
    assert reading.labels[3] == len(texts) - 1, "what comes after the last complete word is known"
    assert reading.labels[4] is None, "whether 10 goes on is not known"
    own = Tokens(vocabulary.fingerprint, [5, 6], [[7], [8, 9]])
    assert list(
        Reader(vocabulary).read(Proposal("t", STUDENT, "x", ["a", "b"], False, tokens=own)).labels
    ) == [1, 2, 4]


# -- what labels depend on --


def test_labels_are_the_models_own_in_a_bounded_context(folder: Path, classifier: Classifier) -> None:
    pieces, style = classifier.probabilities([TEXT])[0]
    units = spelled(classifier.vocabulary, TEXT)
    assert pieces == [unit.text for unit in units] and style[0] is None
    ids = [token for unit in units for token in unit.ids]
    expected, place = plain(folder, ids), 0
    assert len(ids) > 5 * WINDOW
    for unit, found in zip(units, style, strict=True):
        if found is not None:
            assert found == pytest.approx(expected[place - 1], abs=1e-5)
        place += len(unit.ids)
    assert max(expected) - min(expected) > 0.2, "random weights that say the same everywhere test nothing"


CHUNKS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 30), st.sampled_from(list(Author)), st.integers(1, 4)),
    min_size=1,
    max_size=12,
)


@given(CHUNKS)
@settings(max_examples=40)
@pytest.mark.parametrize("own", [True, False])
def test_verdicts_do_not_depend_on_chunks_or_company(
    folder: Path, own: bool, chunks: list[tuple[int, int, Author, int]]
) -> None:
    classifier = _shared(folder)
    vocabulary = classifier.vocabulary
    units = [list(unit.ids) for unit in spelled(vocabulary, TEXT)]
    said = classifier.probabilities([TEXT])[0][1]
    end = 0
    for back, length, author, others in chunks:
        start = max(0, end - back)  # a text may be cut back, too
        end = min(start + length, len(units))
        asked = proposal(units[:start], units[start:end], vocabulary, author, own=own)
        company = Proposal("other", author, "", ["okay", " so", " 10", " is"][:others], False)
        verdicts, _ = classifier.decide([asked, company])
        assert not isinstance(verdicts, TextError) and len(verdicts) == len(asked.units) + 1
        for place, verdict in enumerate(verdicts, start):
            probability = said[place] if place < len(said) else None
            if verdict is Verdict.UNDECIDED:
                assert not own and place >= end - 3
            elif probability is not None and abs(probability - 0.5) > 1e-4:
                keep = (probability >= 0.5) == (author is STUDENT)
                assert verdict is (Verdict.KEEP if keep else Verdict.CUT)
    classifier.release("t")


_OPEN: dict[Path, Classifier] = {}


def _shared(folder: Path) -> Classifier:
    if folder not in _OPEN:
        _OPEN[folder] = load_classifier(str(folder))
    return _OPEN[folder]


def test_each_new_token_is_read_once(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    model = classifier._contexts._model
    forward = model.forward

    def counted(**given: Any) -> Any:
        read.append(given["input_ids"].shape[1])
        return forward(**given)

    monkeypatch.setattr(model, "forward", counted)
    vocabulary = classifier.vocabulary
    units = [list(unit.ids) for unit in spelled(vocabulary, TEXT)]
    for end in range(1, len(units) + 1):
        classifier.decide([proposal(units[: end - 1], units[end - 1 : end], vocabulary, STUDENT)])
    tokens = sum(map(len, units))
    restarts = (tokens - 1) // WINDOW
    assert sum(read) <= tokens + restarts * WINDOW, "new tokens, and one window more at each restart"


def test_memory_for_fewer_texts_changes_nothing(
    folder: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT, TEXT[10:], TEXT[20:], TEXT[::-1]]
    expected = classifier.probabilities(texts)
    monkeypatch.setattr("weft.boundary.classifier.loading.PROCESSOR_MEMORY", 2 * classifier.text_bytes)
    narrow = load_classifier(str(folder))
    assert narrow._contexts._most == 2
    found = narrow.probabilities(texts)
    for (_, one), (_, other) in zip(expected, found, strict=True):
        assert other[1:] == pytest.approx(one[1:], abs=1e-5)
    spelled_texts = [[list(unit.ids) for unit in spelled(narrow.vocabulary, text)] for text in texts]
    for end in range(1, 30):  # four texts take turns in two slots
        for name, ids in enumerate(spelled_texts):
            asked = proposal(ids[: end - 1], ids[end - 1 : end], narrow.vocabulary, STUDENT, trace=f"{name}")
            (verdicts,) = narrow.decide([asked])
            probability = expected[name][1][end]
            assert probability is not None and not isinstance(verdicts, TextError)
            assert abs(probability - 0.5) < 1e-4 or (verdicts[1] is Verdict.KEEP) == (probability >= 0.5)


def test_out_of_memory_holds_fewer_texts_and_goes_on(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT, TEXT[10:], TEXT[20:]]
    expected = classifier.probabilities(texts)
    reserve, failures = SlotCache.reserve, [2]

    def full(cache: Any, slots: int, length: int) -> None:
        if slots > 1 and failures[0]:
            failures[0] -= 1
            raise torch.OutOfMemoryError("no memory left")
        reserve(cache, slots, length)

    monkeypatch.setattr(SlotCache, "reserve", full)
    found = classifier.probabilities(texts)
    assert failures[0] == 1 and classifier._contexts._most == 1
    for (_, one), (_, other) in zip(expected, found, strict=True):
        assert other[1:] == pytest.approx(one[1:], abs=1e-5)


def test_released_texts_give_their_place_back(classifier: Classifier) -> None:
    for name in range(50):
        classifier.decide([Proposal(f"t{name}", STUDENT, "", ["okay", " so", " 10"], True)])
        classifier.release(f"t{name}")
    assert classifier._contexts._slots <= 2


def test_the_threshold_decides_and_is_described(folder: Path) -> None:
    verdicts = {}
    for threshold in (0.01, 0.99):
        judge = load_classifier(str(folder), threshold=threshold)
        (verdicts[threshold],) = judge.decide(
            [Proposal("t", STUDENT, "", ["okay", " so", " 10", " is"], True)]
        )
        assert judge.describe()["threshold"] == threshold
    assert verdicts[0.01] == [Verdict.KEEP] * 5
    assert verdicts[0.99] == [Verdict.KEEP] + [Verdict.CUT] * 4, "nothing is said of the first unit"
    described = load_classifier(str(folder)).describe()
    assert described["window"] == WINDOW and described["threshold"] == 0.5
    json.dumps(described)


def test_a_text_it_cannot_spell_fails_alone(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = classifier.vocabulary.encode

    def narrow(text: str) -> list[int]:
        if "é" in text:
            raise ValueError("no token for 'é'")
        return encode(text)

    monkeypatch.setattr(classifier.vocabulary, "encode", narrow)

    async def both() -> list[Any]:
        boundary = Batched(classifier)
        proposals = [Proposal(name, STUDENT, "", [text], True) for name, text in (("a", "é"), ("b", "so"))]
        return await asyncio.gather(*map(boundary.judge, proposals), return_exceptions=True)

    failed, decided = asyncio.run(both())
    assert isinstance(failed, TextError) and "é" in str(failed)
    assert decided[0] is Verdict.KEEP


# -- what is refused --


def test_the_authors_shape_loads_as_it_is(tmp_path: Path) -> None:
    judge = load_classifier(str(save_classifier(tmp_path)))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForTokenClassification"]
    assert "id2label" not in config or config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert judge.facts.window == 200 and judge.threshold == 0.5


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({0: "style", 1: "capability"}, "its labels are 0: style, 1: capability"),
        ({0: "O", 1: "B", 2: "I"}, "a classifier of 3 labels"),
        ({0: "O", 1: "X"}, "its labels are 0: O, 1: X"),
    ],
)
def test_labels_that_mean_something_else_are_refused(
    tmp_path: Path, labels: dict[int, str], said: str
) -> None:
    save_classifier(tmp_path, labels=labels)
    with pytest.raises(UserError, match=said):
        load_classifier(str(tmp_path))


def test_a_model_that_writes_text_is_no_classifier() -> None:
    with pytest.raises(UserError, match="without a trained head"):
        load_classifier(str(model_path("student")))


def test_a_model_that_reads_ahead_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=695,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20.0)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_path("student")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="reads ahead"):
        load_classifier(str(tmp_path))


def test_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    for text in (
        "{",
        "[]",
        '{"window": 0}',
        '{"window": 12, "threshold": 2}',
        '{"words": 1}',
        '{"schema": 9}',
    ):
        (tmp_path / "boundary.json").write_text(text)
        with pytest.raises(UserError, match=r"boundary\.json"):
            load_classifier(str(tmp_path))


@pytest.mark.parametrize("name", ["orakel", "./nowhere", "a/b/c", "micro:x"])
def test_names_of_no_boundary(name: str) -> None:
    with pytest.raises(UserError, match="no boundary"):
        open_boundary(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        open_boundary(str(tmp_path))
    with pytest.raises(UserError, match="no threshold"):
        open_boundary("oracle", threshold=0.4)


def test_what_people_are_told(folder: Path) -> None:
    told: list[str] = []
    boundary = open_boundary(str(folder), tell=told.append)
    assert f"window of {WINDOW} tokens" in told[0] and "MB of memory for each trace" in told[0]
    assert boundary.name == str(folder) and boundary.describe()["boundary"] == "classifier"
