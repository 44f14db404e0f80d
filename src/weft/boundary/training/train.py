"""``train``: from files of spans to a folder that `weft synth` and `weft boundary eval` take.

Chosen is the checkpoint with the best boundary F1 on prompts that were held out: a predictor is right about
nearly every token long before it is right about where the pen changes hands.

Invariants
    - The output never holds a part of a predictor, whenever the process dies.
    - Figures are of the weights as they are stored.
    - On a processor, the same settings, files and number of threads give the same weights.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from weft import __version__
from weft.boundary.classifier.facts import FILE, Facts
from weft.boundary.training.base import load_base, load_tokenizer, merged, quiet, with_lora
from weft.boundary.training.examples import Examples, read_examples
from weft.boundary.training.scores import Advance, Scores, Tell
from weft.boundary.training.settings import TrainingSettings
from weft.errors import UserError
from weft.store.files import writing


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of one training."""

    output: Path
    scores: Scores
    """Of the weights as they are stored."""
    held_out: int
    """Groups that they are measured on."""
    steps: int
    best_step: int
    """Whose weights were kept."""
    seconds: float


def train(
    settings: TrainingSettings,
    spans: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    tell: Tell = print,
    advance: Advance | None = None,
) -> TrainingResult:
    """Train a classifier and put its folder at ``output``.

    Args:
        spans: files of complete annotations.
        overwrite: replace a predictor that stands there.
        tell: takes one line at a time.

    Raises:
        UserError: the base, a file or the output cannot be used, or a package is missing.
        RunError: the loss is no number any more, or memory or the disk is full.
    """
    for package in ("accelerate", "peft") if settings.lora_rank else ("accelerate",):
        if find_spec(package) is None:
            raise UserError(
                f"this training needs {package}",
                where="weft boundary train",
                remedy="pip install 'weft[train]'",
            )
    from weft.boundary.training.loop import run

    place = output.resolve()
    _check_output(place, overwrite)
    if len({path.resolve() for path in spans}) < len(spans):
        raise UserError("a file of spans is named twice", where=", ".join(map(str, spans)))
    tokenizer, vocabulary = load_tokenizer(settings)
    examples = read_examples(
        spans,
        vocabulary,
        window=settings.window,
        validation=settings.validation,
        split_seed=settings.split_seed,
    )
    for line in _read(examples, settings):
        tell(line)
    transformers.set_seed(settings.seed)
    model, stored = load_base(settings)
    if settings.lora_rank:
        model = with_lora(model, settings)
    with _workplace(place) as work, quiet():
        trained = run(model, tokenizer, examples, settings, work / "checkpoints", tell, advance)
        plain = merged(trained.model).to(stored).float()  # as it will be read again
        scores = trained.score(plain)
        result = TrainingResult(
            output, scores, examples.validation_groups, trained.steps, trained.best_step, trained.seconds
        )
        plain.config.use_cache = True
        folder = work / "predictor"
        with writing(output):
            plain.to(device="cpu", dtype=stored).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            _facts(settings, examples, result, stored).write(folder)
            _replace(folder, place)
    return result


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A folder beside the output, from where a finished predictor moves there at once; gone at the end."""
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / FILE).is_file():
        # --overwrite shall not cost anybody a folder of something else.
        raise UserError(
            "exists and is no predictor" if output.is_dir() else "is a file",
            where=str(output),
            expected="a new folder",
            remedy="choose another --output",
        )
    if not overwrite:
        raise UserError(
            "the folder holds a predictor",
            where=str(output),
            remedy="choose another --output, or --overwrite",
        )


def _replace(folder: Path, output: Path) -> None:
    """Put ``folder`` at ``output``; what stood there goes only when the new one is whole."""
    old = folder.with_name("old")
    if output.exists():
        output.rename(old)
    try:
        folder.rename(output)
    except BaseException:
        if old.exists():
            old.rename(output)
        raise


def _read(examples: Examples, settings: TrainingSettings) -> tuple[str, str]:
    texts = sum(file.texts for file in examples.files)
    capability, style = examples.tokens
    cut = f"; {examples.cut:,} cut into windows of {settings.window} tokens" if examples.cut else ""
    return (
        f"{texts:,} texts of {examples.train_groups + examples.validation_groups:,} prompts, "
        f"{examples.validation_groups:,} held out{cut}",
        f"{capability + style:,} labelled tokens to learn from, "
        f"{style / (capability + style):.1%} of them style",
    )


def _facts(
    settings: TrainingSettings, examples: Examples, result: TrainingResult, stored: torch.dtype
) -> Facts:
    scores = result.scores
    training: dict[str, Any] = {
        "base": settings.model,
        "files": [{"sha256": file.sha256, "texts": file.texts} for file in examples.files],
        "validation": settings.validation,
        "split_seed": settings.split_seed,
        "train_groups": examples.train_groups,
        "validation_groups": examples.validation_groups,
        "tokens": dict(zip(("capability", "style"), examples.tokens, strict=True)),
        "settings": settings.model_dump(exclude={"model", "validation", "split_seed"}),
        "figures": {**asdict(scores), "boundary_f1": dict(scores.boundary_f1)},
        "steps": result.steps,
        "best_step": result.best_step,
        "seconds": round(result.seconds, 1),
        "dtype": str(stored).removeprefix("torch."),
        "versions": {
            "weft": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
    }
    return Facts(window=settings.window, threshold=0.5, training=training)
