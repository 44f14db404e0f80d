"""Attempts to break boundaries: what held is a test, what broke is marked with the number of its defect."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedTokenizerFast

from annotation_world import trace_of, write_traces
from classifiers import save_classifier
from weft.boundary.batched import Batched
from weft.boundary.classifier.facts import Facts
from weft.boundary.classifier.loading import load_classifier
from weft.boundary.measuring.marked import Marked
from weft.boundary.measuring.measure import measure
from weft.boundary.spans import Annotation, read_annotations
from weft.cli.main import main
from weft.errors import UserError
from weft.micro import model_path
from worlds import KINDS, PIECES, STEPS, World, hostile, parrot

WINDOW = 12
ALL_PIECES = [piece for pieces in PIECES.values() for piece in pieces]


# -- a classifier in short memory --


def test_more_texts_than_memory_holds_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(save_classifier(tmp_path, window=WINDOW))
    roomy = load_classifier(folder)
    monkeypatch.setattr("weft.boundary.classifier.loading.PROCESSOR_MEMORY", 2 * roomy.text_bytes)
    narrow = load_classifier(folder)
    texts = {name: [Random(name).randrange(100, 600) for _ in range(20)] for name in "abc"}
    first = [(name, texts[name][:10], 0) for name in "ab"]
    then = [(name, texts[name], 0) for name in "cab"]
    with torch.inference_mode():
        narrow._contexts.read(first)
        found = narrow._contexts.read(then)
        expected = roomy._contexts.read(then)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


# -- what a run may remove --


def test_overwriting_never_removes_the_traces_that_are_read(tmp_path: Path) -> None:
    traces = write_traces(tmp_path / "w.rejected.jsonl", [trace_of(0, "Okay, so it is 7.")])
    before = traces.read_bytes()
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"thinks": False, "scripts": [{"response": "[]"}]}))
    main(
        [
            "boundary",
            "annotate",
            str(traces),
            "--annotator",
            f"scripted:{script}",
            "-o",
            str(tmp_path / "w.jsonl"),
            "--overwrite",
            "-q",
        ]
    )
    assert traces.read_bytes() == before


def test_overwriting_spares_a_file_of_traces(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is 6 * 7?"}\n')
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"scripts": [{"thinking": "Okay, so it is 42.", "response": "[]"}]}))
    own, other = tmp_path / "own.jsonl", tmp_path / "other.jsonl"
    engine = f"scripted:{script}"
    for output in (own, other):
        synth = ["synth", str(prompts), "--student", engine, "--strategy", "student-only", "-q"]
        assert main([*synth, "-o", str(output)]) == 0
    before = other.read_bytes()
    main(
        [
            "boundary",
            "annotate",
            str(own),
            "--annotator",
            engine,
            "-o",
            str(other),
            "--overwrite",
            "-q",
        ]
    )
    assert other.read_bytes() == before


# -- lines that nobody would write --


def row(text: str = "okay so 9") -> str:
    return json.dumps(Annotation("t0@0/0", "t0", "g0", 0, text, ((0, 4),)).to_row())


@pytest.mark.parametrize(
    "line",
    [
        row().replace('"start": 0', '"start": 1e999'),
        row().replace("[[0, 4]]", "[[0, 1e999]]"),
        '{"schema": 1, "id": ' + "[" * 100_000 + "]" * 100_000 + "}",
        row().replace("[[0, 4]]", "[[0.9, 3.9]]"),
        row().replace("[[0, 4]]", "[[0, NaN]]"),
        row().replace("[[0, 4]]", "[[4, 0]]"),
        row().replace("[[0, 4]]", '{"0": 4}'),
        "[]",
        "{",
    ],
    ids=["infinite start", "infinite span", "deep", "fraction", "no number", "empty", "object", "list", "{"],
)
def test_a_nasty_row_is_refused_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "spans.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=r"spans\.jsonl:1"):
        list(read_annotations(file))


# -- a classifier with a vocabulary of its own --


def other_vocabulary(folder: Path, *, nfc: bool) -> str:
    """A classifier of random weights whose tokenizer learned from many scripts."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<e>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(ALL_PIECES * 10, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>")
    torch.manual_seed(1)
    ids = {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0}
    config = AutoConfig.from_pretrained(model_path("student"), vocab_size=len(fast), **ids)
    model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    Facts(window=WINDOW).write(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["as it is", "composed"])
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Batched:
    folder = tmp_path_factory.mktemp("foreign")
    judge = load_classifier(other_vocabulary(folder, nfc=request.param == "composed"))
    text = "".join(Random(0).choices(ALL_PIECES, k=200))
    style = sorted(p for _, found in judge.probabilities([text]) for p in found if p is not None)
    judge.threshold = style[len(style) // 2]  # so that both verdicts are common
    return Batched(judge)


@given(hostile(), hostile(), st.sampled_from(KINDS), st.sampled_from(KINDS))
@settings(max_examples=25)
def test_chunks_do_not_matter_whatever_the_classifiers_vocabulary(
    foreign: Batched, one: str, other: str, first: str, second: str
) -> None:
    scripts = [
        parrot(text, "So: 42.", spells=kind == "tagless") for text, kind in ((one, first), (other, second))
    ]
    world = World(scripts[0], scripts[1], kinds=(first, second), boundary=foreign)  # type: ignore[arg-type]
    outcomes = [world.write(step).outcome for step in STEPS]
    assert all(outcome == outcomes[0] for outcome in outcomes)


# -- figures by another way of counting --


@given(st.lists(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=20), max_size=5))
@settings(max_examples=60)
def test_figures_are_what_another_count_gives(texts: list[list[tuple[bool, float]]]) -> None:
    truth, marked = [], []
    for number, tokens in enumerate(texts):
        pieces = [f" w{i}" for i in range(len(tokens) + 1)]
        ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
        spans = tuple((ends[i] + 1, ends[i + 1]) for i, (style, _) in enumerate(tokens) if style)
        truth.append(Annotation(f"{number}", "t", f"{number}", 0, "".join(pieces), spans))
        style = (None, *(p for _, p in tokens))
        called = tuple(None if p is None else p >= 0.5 for p in style)
        marked.append(Marked(tuple(pieces), called, style))
    found = measure(truth, marked, threshold=0.5, resamples=2)
    every = [token for tokens in texts for token in tokens]
    wrong = sum(not style and p >= 0.5 for style, p in every)
    assert found.leaked.capability.value == (pytest.approx(wrong / len(every)) if every else None)
    if every:
        assert found.calibration is not None
        bins: dict[int, list[float]] = {}
        for is_style, p in every:
            bins.setdefault(min(int(p * 15), 14), []).append(p - is_style)
        error = sum(abs(math.fsum(one)) for one in bins.values()) / len(every)
        assert found.calibration.error.value == pytest.approx(error)
    both = [([style for style, _ in tokens], [p >= 0.5 for _, p in tokens]) for tokens in texts]
    exact = sum(
        (a[i - 1], a[i]) == (b[i - 1], b[i]) and a[i - 1] != a[i] for a, b in both for i in range(1, len(a))
    )
    runs = sum(len(list(groupby(labels))) - 1 for pair in both for labels in pair)
    assert found.boundaries[0].f1.value == (pytest.approx(2 * exact / runs) if runs else None)
