"""Training a boundary predictor: what it reads, what it learns, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    EvalPrediction,
    RobertaConfig,
    RobertaForTokenClassification,
)

from weft.boundary.classifier.causal import is_causal
from weft.boundary.classifier.facts import Facts
from weft.boundary.classifier.reading import spelled
from weft.boundary.measuring.matching import Matches, boundary_matches
from weft.boundary.spans import Annotation, AnnotationStatus, Range, labels, read_annotations
from weft.boundary.training.base import load_base, merged, with_lora
from weft.boundary.training.examples import IGNORED, Example, read_examples, windows_of
from weft.boundary.training.loop import Collator, Loss, measured
from weft.boundary.training.settings import TrainingSettings
from weft.boundary.training.split import split_of
from weft.boundary.training.train import TrainingResult, train
from weft.cli.main import main
from weft.errors import RunError, UserError
from weft.micro import model_path
from weft.micro.boundaries import annotated_texts
from weft.micro.curriculum import Author
from weft.micro.oracle import is_style, split_words
from weft.micro.training import Shape, build_model
from weft.vocabulary import TokenizerVocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

STYLE = "okay so then"
WORK = "3 + 4 = 7 ;"
QUICK: dict[str, Any] = {
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 16,
    "validation": 0.2,
    "num_train_epochs": 4,
    "device": "cpu",
}
VOCABULARY = TokenizerVocabulary(AutoTokenizer.from_pretrained(model_path("student")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model of one layer that has learned nothing."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    build_model(Shape(width=32, layers=1, inner=64, heads=1, kv_heads=1), tokenizer, 0).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def annotation(text: str, style: Sequence[Range] = (), group: str = "g", **other: Any) -> Annotation:
    return Annotation(f"{group}#0@0/0", f"{group}#0", group, 0, text, tuple(style), **other)


def of_turns(turns: int, group: str, *, style: int = len(STYLE)) -> Annotation:
    """An easy language: the last word of each kind says that the other one comes.

    Args:
        style: characters of each style phrase that are marked as style.
    """
    text, spans = "", []
    for turn in range(turns):
        part = WORK if turn % 2 else STYLE
        text += " " if text else ""
        if part == STYLE:
            spans.append((len(text), len(text) + style))
        text += part
    return annotation(text, spans, group)


def write(path: Path, annotations: Sequence[Annotation]) -> Path:
    path.write_text("".join(json.dumps(one.to_row()) + "\n" for one in annotations), encoding="utf-8")
    return path


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    return write(tmp_path / "spans.jsonl", [of_turns(3 + n % 4, f"q{n}") for n in range(80)])


def lines_of(run: Any) -> tuple[TrainingResult, list[str]]:
    lines: list[str] = []
    return run(lines.append), lines


# --- what is read ---------------------------------------------------------------------------------------


def test_a_label_speaks_of_the_next_token() -> None:
    text = "okay 3 + 4 so"
    (example,) = windows_of(annotation(text, [(0, 4), (11, 13)]), VOCABULARY, 200)
    assert [VOCABULARY.decode([token]) for token in example.ids] == ["okay", " 3", " +", " 4", " so"]
    assert list(example.labels) == [0, 0, 0, 1, IGNORED]


def test_tokens_of_one_character_share_its_label() -> None:
    text = "3 🙂 3"
    (example,) = windows_of(annotation(text, [(2, 3)]), VOCABULARY, 200)
    between = len(example.ids) - 2
    assert max(len(unit.ids) for unit in spelled(VOCABULARY, text)) > 1
    assert list(example.labels) == [1] * between + [0, IGNORED]


@given(st.text(max_size=80), st.integers(8, 30), st.data())
def test_windows_hold_every_token_once_and_break_no_character(
    text: str, window: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    marked = annotation(text, list(zip(cuts[::2], cuts[1::2], strict=False)))
    whole = [unit.ids for unit in spelled(VOCABULARY, text)]
    starts = {sum(map(len, whole[:n])) for n in range(len(whole) + 1)}
    (one,) = list(windows_of(marked, VOCABULARY, 10_000)) or [Example(array("i"), array("i"))]
    many = list(windows_of(marked, VOCABULARY, window))
    assert (
        [token for part in many for token in part.ids] == list(one.ids) == [t for ids in whole for t in ids]
    )
    assert [label for part in many for label in part.labels] == list(one.labels)
    place = 0
    for part in many:
        assert 0 < len(part.ids) == len(part.labels) <= window
        assert place in starts
        place += len(part.ids)


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1), st.integers())
def test_a_larger_share_holds_out_the_same_groups_and_more(
    group: str, one: float, other: float, seed: int
) -> None:
    less, more = sorted((one, other))
    assert split_of(group, 0, seed) == "train"
    assert split_of(group, 1, seed) == "validation"
    assert split_of(group, less, seed) == "train" or split_of(group, more, seed) == "validation"


def test_the_share_is_kept_as_expected_and_seeds_differ() -> None:
    held = [{g for g in range(4000) if split_of(f"q{g}", 0.05, seed) == "validation"} for seed in (0, 1)]
    assert all(150 < len(part) < 250 for part in held)
    assert len(held[0] & held[1]) < 30


def test_texts_of_one_group_stand_on_one_side(tmp_path: Path) -> None:
    groups = [f"q{n}" for n in range(30)]
    files = [write(tmp_path / f"{n}.jsonl", [of_turns(4, group) for group in groups]) for n in (0, 1)]
    found = read_examples(files, VOCABULARY, window=200, validation=0.3, split_seed=0)
    held = [group for group in groups if split_of(group, 0.3, 0) == "validation"]
    assert 0 < len(held) < 30
    assert (found.train_groups, found.validation_groups) == (30 - len(held), len(held))
    assert len(found.validation) == 2 * len(held)
    assert len(found.train) == 2 * (30 - len(held))
    style = sum(label == 1 for example in found.train for label in example.labels)
    capability = sum(label == 0 for example in found.train for label in example.labels)
    assert found.tokens == (capability, style)


# --- what is learned ------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]]])
    labels = torch.tensor([[1, 0, IGNORED]])
    half, sure = torch.log(torch.tensor(2.0)), torch.log1p(torch.exp(torch.tensor(-2.0)))
    outputs = SimpleNamespace(logits=logits)
    assert torch.isclose(Loss(None)(outputs, labels), (half + sure) / 2)
    weighted = Loss(torch.tensor([0.5, 2.0]))
    assert torch.isclose(weighted(outputs, labels), (2 * half + 0.5 * sure) / 2)
    for items in (8, torch.tensor(8), torch.full((2, 1), 8)):
        assert torch.isclose(weighted(outputs, labels, items), (2 * half + 0.5 * sure) / 8)


def test_figures_by_hand() -> None:
    pad = IGNORED
    labels = np.array([[0, 1, 1, 0, pad], [1, 1, pad, pad, pad]])
    predicted = np.array([[0, 0, 1, 0, 1], [1, 0, 1, pad, pad]])
    figures = measured(EvalPrediction(predictions=predicted, label_ids=labels))
    # True: into style at 1, out at 3. Predicted: in at 2, out at 3; and a false one in the second text.
    assert figures == pytest.approx(
        {"boundary_f1_0": 2 / 5, "boundary_f1_1": 4 / 5, "boundary_f1_3": 4 / 5, "token_accuracy": 4 / 6}
    )


def test_a_tiny_base_learns_an_easy_language(base: str, spans: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "predictor"
    settings = TrainingSettings(model=base, **QUICK)
    result, lines = lines_of(lambda tell: train(settings, [spans], output, tell=tell))
    assert result.scores.boundary_f1["1"] > 0.9
    assert result.output == output
    assert "80 texts of 80 prompts" in lines[0]
    assert len(lines) == 2 + 4
    assert all("boundary F1" in line for line in lines[2:])
    assert [path.name for path in output.parent.iterdir()] == ["predictor"]
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "boundary.json"} <= names
    assert not [name for name in names if "checkpoint" in name or name.endswith((".bin", ".pt", ".pth"))]


def held_out_f1(folder: Path, file: Path) -> float:
    """Exact boundary F1 of a folder on what its training held out, by other code."""
    training = Facts.read(folder / "boundary.json").training
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    assert model.config.id2label == {0: "capability", 1: "style"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total = Matches(0, 0, 0)
    for one in read_annotations(file):
        if split_of(one.group, training["validation"], training["split_seed"]) == "train":
            continue
        ids = tokenizer(one.text, add_special_tokens=False)["input_ids"]
        (example,) = windows_of(one, VOCABULARY, 200)
        assert ids == list(example.ids)
        with torch.inference_mode():
            predicted = model(torch.tensor([ids])).logits[0, :-1].argmax(-1)
        truth = [label == 1 for label in example.labels[:-1]]
        total += boundary_matches(truth, predicted.bool().tolist(), 0)
    assert total.f1 is not None
    return total.f1


@pytest.mark.parametrize("lora", [0, 4])
def test_the_folder_does_what_its_figures_say(base: str, tmp_path: Path, lora: int) -> None:
    # Annotators who disagree, so that no predictor can be right throughout.
    texts = [of_turns(6, f"q{n}", style=len(STYLE if n % 2 else "okay")) for n in range(80)]
    spans = write(tmp_path / "spans.jsonl", texts)
    settings = TrainingSettings(model=base, lora_rank=lora, max_steps=8, eval_steps=4, **QUICK)
    result = train(settings, [spans], tmp_path / "out", tell=lambda line: None)
    facts = Facts.read(tmp_path / "out" / "boundary.json")
    assert facts.window == 200
    assert facts.threshold == 0.5
    training = facts.training
    assert training["files"][0]["texts"] == 80
    assert training["settings"]["lora_rank"] == lora
    assert training["figures"]["boundary_f1"] == dict(result.scores.boundary_f1)
    assert 0 < result.scores.boundary_f1["0"] < 1
    assert held_out_f1(tmp_path / "out", spans) == pytest.approx(result.scores.boundary_f1["0"])


def test_the_best_weights_are_kept(base: str, spans: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(model=base, max_steps=12, eval_steps=1, **{**QUICK, "learning_rate": 0.05})
    result, lines = lines_of(lambda tell: train(settings, [spans], tmp_path / "out", tell=tell))
    seen = [float(line.partition("boundary F1 ")[2].split(",")[0]) for line in lines[2:]]
    assert max(seen) > min(seen)
    assert result.scores.boundary_f1["1"] == pytest.approx(max(seen), abs=6e-4)
    assert result.best_step == 1 + seen.index(max(seen))


def test_training_ends_when_nothing_gets_better(base: str, spans: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(model=base, eval_steps=2, patience=2, **{**QUICK, "num_train_epochs": 100})
    result = train(settings, [spans], tmp_path / "out", tell=lambda line: None)
    assert result.steps == result.best_step + 4
    assert result.scores.boundary_f1["1"] > 0.9


def test_the_same_run_gives_the_same_weights(base: str, spans: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        settings = TrainingSettings(model=base, max_steps=4, eval_steps=2, seed=seed, **QUICK)
        train(settings, [spans], tmp_path / name, tell=lambda line: None)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_weights_are_stored_in_the_bases_precision(spans: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(model="micro:student", max_steps=1, gradient_checkpointing=True, **QUICK)
    train(settings, [spans], tmp_path / "out", tell=lambda line: None)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.bfloat16
    assert model.config.use_cache
    assert Facts.read(tmp_path / "out" / "boundary.json").training["base"] == "micro:student"


def test_merged_lora_is_the_model_that_was_trained(base: str) -> None:
    settings = TrainingSettings(model=base, lora_rank=2)
    plain, _ = load_base(settings)
    ids = torch.arange(20).unsqueeze(0)
    with torch.inference_mode():
        before = plain(ids).logits
    model = with_lora(plain, settings).eval()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("score" in name for name in trained)
    assert not any("score" in name and "lora" in name for name in trained)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.add_(torch.randn_like(parameter))
    with torch.inference_mode():
        adapted = model(ids).logits
        assert not torch.allclose(adapted, before, atol=1e-3)
        assert torch.allclose(merged(model)(ids).logits, adapted, atol=1e-4)


def test_a_batch_is_padded_on_the_right() -> None:
    rows = [
        Example(array("i", [5, 6]), array("i", [1, IGNORED])),
        Example(array("i", [7]), array("i", [IGNORED])),
    ]
    batch = Collator(9)(rows)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 9]]
    assert batch["labels"].tolist() == [[1, IGNORED], [IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]


# --- what is refused ------------------------------------------------------------------------------------


def refused(spans: Sequence[Path], output: Path, **settings: Any) -> str:
    """What the error says; nothing was made and nothing is left behind."""
    before = sorted(output.parent.rglob("*"))
    with pytest.raises((UserError, RunError)) as error:
        train(TrainingSettings(**{**QUICK, **settings}), spans, output, tell=lambda line: None)
    assert sorted(output.parent.rglob("*")) == before
    return str(error.value)


def test_a_loss_that_is_no_number(base: str, spans: Path, tmp_path: Path) -> None:
    said = refused([spans], tmp_path / "out", model=base, learning_rate=1e30)
    assert "the loss is no number" in said
    assert "--learning-rate" in said


def test_a_base_that_looks_ahead(spans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=0,
    )
    RobertaForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    said = refused([spans], tmp_path / "out", model=str(folder))
    assert "looks ahead" in said
    assert "causal language model" in said


def test_a_base_of_a_kind_without_classifiers(base: str, spans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t5"
    folder.mkdir()
    for path in Path(base).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps({"model_type": "openai-gpt"}))
    assert "no token classifier of this kind (OpenAIGPTConfig)" in refused(
        [spans], tmp_path / "out", model=str(folder)
    )


def test_a_base_that_lacks_weights(base: str, spans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    folder.mkdir()
    for path in Path(base).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = refused([spans], tmp_path / "out", model=str(folder))
    assert "lack 1 of the model's, such as model.norm.weight" in said


def test_a_causal_base_is_known_by_what_it_does(base: str) -> None:
    model, stored = load_base(TrainingSettings(model=base))
    assert is_causal(model)
    assert stored == model.dtype == torch.float32


@pytest.mark.parametrize(
    ("model", "expected"),
    [("/no/such/folder", "no such folder"), ("micro:teachers", "micro:student or micro:teacher")],
)
def test_a_base_that_is_not_there(spans: Path, tmp_path: Path, model: str, expected: str) -> None:
    assert expected in refused([spans], tmp_path / "out", model=model)


def test_a_folder_without_weights(base: str, spans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(base) / name).read_bytes())
    assert "the base cannot be loaded" in refused([spans], tmp_path / "out", model=str(folder))


def test_a_tokenizer_that_cannot_be_read_back(tmp_path: Path, spans: Path, base: str) -> None:
    from tokenizers import Tokenizer
    from tokenizers.decoders import WordPiece as Decoder
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path / "wordpiece"
    backend = Tokenizer(WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.decoder = Decoder()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(folder)
    (folder / "config.json").write_bytes((Path(base) / "config.json").read_bytes())
    assert "cannot be turned into bytes" in refused([spans], tmp_path / "out", model=str(folder))


def test_a_text_that_the_tokenizer_cannot_spell(tmp_path: Path) -> None:
    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return getattr(VOCABULARY, name)

        def encode(self, text: str) -> list[int]:
            raise ValueError(f"no token for {text!r}")

    with pytest.raises(UserError, match=r"here\.jsonl, g#0@0/0: no token for 'abc'"):
        list(windows_of(annotation("abc"), Deaf(), 200, where="here.jsonl"))


def test_files_that_hold_nothing_to_learn(base: str, tmp_path: Path) -> None:
    def file(*annotations: Annotation) -> Path:
        return write(tmp_path / "spans.jsonl", annotations)

    def said(path: Path) -> str:
        return refused([path], tmp_path / "out", model=base)

    groups = [f"q{n}" for n in range(40)]
    assert "holds no annotation" in said(file())
    assert "nothing is left for validation" in said(file(of_turns(4, "q0")))
    assert "--split-seed" in said(file(of_turns(4, "q0")))
    assert "no style in the training part" in said(file(*(annotation(WORK, (), one) for one in groups)))
    everything = (annotation(STYLE, [(0, len(STYLE))], one) for one in groups)
    assert "no capability in the training part" in said(file(*everything))
    held = [one for one in groups if split_of(one, QUICK["validation"], 0) == "validation"]
    some = (annotation(WORK, (), one) if one in held else of_turns(4, one) for one in groups)
    assert "no style in the validation part" in said(file(*some))
    rejected = annotation("a b", (), "q1", status=AnnotationStatus.NOT_JSON, reason="prose")
    assert "a rejected annotation (not_json)" in said(file(of_turns(4, "q0"), rejected))
    single = (annotation("okay", [(0, 4)], one) for one in groups)
    assert "nothing is left for training" in said(file(*single))


def test_files_that_are_not_there_or_come_twice(base: str, spans: Path, tmp_path: Path) -> None:
    assert "cannot be read" in refused([tmp_path / "no.jsonl"], tmp_path / "out", model=base)
    assert "named twice" in refused([spans, spans], tmp_path / "out", model=base)


@pytest.mark.parametrize("package", ["accelerate", "peft"])
def test_a_package_that_is_missing(
    base: str, spans: Path, tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = refused([spans], tmp_path / "out", model=base, lora_rank=2)
    assert f"needs {package}" in said
    assert "pip install 'weft[train]'" in said


def test_an_output_that_holds_something(base: str, spans: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = TrainingSettings(model=base, max_steps=1, **QUICK)
    output.mkdir()  # empty: nothing is lost
    train(settings, [spans], output, tell=lambda line: None)
    assert "--overwrite" in refused([spans], output, model=base)
    before = (output / "model.safetensors").read_bytes()
    other = TrainingSettings(model=base, max_steps=2, **QUICK)
    train(other, [spans], output, overwrite=True, tell=lambda line: None)
    assert (output / "model.safetensors").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "spans.jsonl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no predictor"):
        train(settings, [spans], tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(UserError, match="is a file"):
        train(settings, [spans], spans, overwrite=True)


def test_an_output_by_way_of_a_link(base: str, spans: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    settings = TrainingSettings(model=base, max_steps=1, **QUICK)
    train(settings, [spans], tmp_path / "link", tell=lambda line: None)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "away" / "boundary.json").is_file()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["away"]


def test_a_logger_that_is_not_there(base: str, spans: Path, tmp_path: Path) -> None:
    said = refused([spans], tmp_path / "out", model=base, report_to="carrier-pigeon")
    assert "carrier-pigeon" in said
    assert "--report-to" in said


def test_memory_that_is_full(base: str, spans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Loss, "__call__", full)
    said = refused([spans], tmp_path / "out", model=base)
    assert "memory is full: no room" in said
    assert "--gradient-checkpointing" in said


def test_settings_that_say_nothing() -> None:
    for wrong in ({"lora_alpha": 8.0}, {"max_steps": 0}, {"validation": 0}, {"validation": 1}, {"window": 0}):
        with pytest.raises(ValidationError):
            TrainingSettings(model="m", **wrong)


# --- the command ----------------------------------------------------------------------------------------


def command(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = main(["boundary", "train", *map(str, arguments)])
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


def test_the_command(base: str, spans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["--learning-rate", "1e-2", "--validation", "0.2", "--max-steps", "4", "--eval-steps", "2"]
    output = tmp_path / "out"
    code, said = command(capfd, spans, "--model", base, "-o", output, "--device", "cpu", *quick)
    lines = said.splitlines()
    assert code == 0
    assert lines[0].startswith("80 texts of 80 prompts")
    assert "labelled tokens to learn from" in lines[1]
    assert ", step 2: loss " in lines[2]
    assert ", step 4: loss " in lines[3]
    assert lines[4].startswith("boundary F1   1.000 within 1 token")
    assert lines[-1] == f"measure it    weft boundary eval {output} {spans}"
    assert len(lines) == 4 + 7
    assert "%|" not in said  # no bars
    code, said = command(capfd, spans, "--model", base, "-o", output, "--device", "cpu", *quick)
    assert code == 2
    assert "--overwrite" in said
    code, said = command(
        capfd, spans, "--model", base, "-o", output, "--device", "cpu", "--overwrite", "-q", *quick
    )
    assert code == 0
    assert said.splitlines()[0].startswith("boundary F1")


def test_the_command_says_what_is_missing_or_wrong(
    spans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = ("-o", tmp_path / "out")
    code, said = command(capfd, spans, *output)
    assert code == 2
    assert "Qwen/Qwen3-0.6B-Base" in said
    code, said = command(capfd, "--model", "micro:student", *output)
    assert code == 2
    assert "no file of spans" in said
    code, said = command(
        capfd, spans, "--model", "micro:student", "--window", "1", "--lora-rank", "-1", *output
    )
    assert code == 2
    assert "--window" in said
    assert "--lora-rank" in said
    code, said = command(capfd, spans, "--model", "micro:student", "--lora-alpha", "3", *output)
    assert code == 2
    assert "lora_rank" in said


def test_an_interrupted_training_leaves_nothing(
    base: str, spans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loss, "__call__", interrupted)
    code, said = command(capfd, spans, "--model", base, "-o", tmp_path / "out", "--validation", "0.2")
    assert code == 130
    assert "nothing was saved" in said
    assert [path.name for path in tmp_path.iterdir()] == ["spans.jsonl"]


def test_help_loads_no_torch() -> None:
    script = (
        "import sys; from weft.cli.main import main; main(['boundary', 'train', '--help']);"
        "assert not {'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--lora-rank" in done.stdout


# --- the micro world's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("author", get_args(Author))
def test_texts_for_predictors_have_the_oracles_labels(author: Author) -> None:
    texts = list(annotated_texts(author, 60, 5))
    assert texts == list(annotated_texts(author, 60, 5)) != list(annotated_texts(author, 60, 6))
    assert len({one.group for one in texts}) == 60
    assert any(one.start for one in texts)
    assert not all(one.start for one in texts)
    for one in texts:
        words = split_words(one.text)
        assert labels(one.text, one.style, words) == [is_style(word) for word in words]


@pytest.mark.parametrize("author", get_args(Author))
def test_the_shipped_predictors_are_right_on_new_texts(author: Author, tmp_path: Path) -> None:
    folder = model_path("student").with_name(f"{author}-boundary")
    facts = Facts.read(folder / "boundary.json")
    assert facts.training["base"] == "micro:student"
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    total = Matches(0, 0, 0)
    for one in annotated_texts(author, 60, 77):
        for example in windows_of(one, VOCABULARY, facts.window):
            with torch.inference_mode():
                predicted = model(torch.tensor([example.ids])).logits[0].argmax(-1)
            truth = torch.tensor(example.labels)
            asked = truth != IGNORED
            total += boundary_matches(truth[asked].bool().tolist(), predicted[asked].bool().tolist(), 1)
    assert total.f1 is not None
    assert total.f1 > 0.95
