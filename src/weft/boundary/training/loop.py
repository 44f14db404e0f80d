"""The training itself: transformers' ``Trainer`` with a loss, a measure and a voice of its own.

Shapes: B examples of a batch, T positions, 2 classes; N validation examples.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from weft.boundary.measuring.matching import Matches, boundary_matches
from weft.boundary.training.examples import IGNORED, STYLE, Example, Examples
from weft.boundary.training.scores import Advance, Scores, Tell
from weft.boundary.training.settings import TrainingSettings
from weft.engines.language import first_line
from weft.engines.loading import TINY
from weft.errors import RunError, UserError

TOLERANCES = (0, 1, 3)
CHOSEN_BY = "boundary_f1_1"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training leaves: the best weights, and a way to score them."""

    model: Any
    steps: int
    best_step: int
    seconds: float
    score: Callable[[PreTrainedModel], Scores]


def run(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    settings: TrainingSettings,
    checkpoints: Path,
    tell: Tell,
    advance: Advance | None,
) -> Trained:
    """Train ``model`` in place, up to the weights with the best boundary F1.

    Raises:
        UserError: there is no such logger as settings name.
        RunError: the loss is no number any more, or memory is full.
    """
    trainer = _trainer(model, tokenizer, examples, settings, checkpoints)
    trainer.add_callback(_Voice(tell, advance))
    started = time.monotonic()
    try:
        with _threads(model):
            trainer.train()
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the GPU's memory is full: {first_line(error)}",
            where="weft boundary train",
            remedy="lower --per-device-train-batch-size and raise --gradient-accumulation-steps by as much, "
            "or try --gradient-checkpointing or --lora-rank 16",
        ) from error
    seconds = time.monotonic() - started
    state = trainer.state

    def score(other: PreTrainedModel) -> Scores:
        trainer.callback_handler.callbacks.clear()  # this evaluation is no step of the training
        trainer.model = trainer.model_wrapped = other
        with _threads(other):
            return _scores(trainer.evaluate())

    return Trained(trainer.model, state.global_step, state.best_global_step or 0, seconds, score)


def _trainer(
    model: Any, tokenizer: Any, examples: Examples, settings: TrainingSettings, checkpoints: Path
) -> Any:
    try:
        trainer = Trainer(
            model=model,
            args=_arguments(settings, checkpoints),
            data_collator=Collator(tokenizer.pad_token_id or 0),
            train_dataset=_Rows(examples.train),
            eval_dataset=_Rows(examples.validation),
            compute_loss_func=Loss(_weights(examples.tokens, settings)),
            compute_metrics=measured,
            preprocess_logits_for_metrics=_predicted,
        )
    except (ImportError, RuntimeError, ValueError) as error:
        if settings.report_to == "none":
            raise
        raise UserError(
            first_line(error), where="--report-to", remedy="install it, choose another, or leave it out"
        ) from error
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if settings.patience:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    return trainer


class Loss:
    """Mean cross-entropy over labelled tokens; a class's tokens count as much as its weight says."""

    def __init__(self, weights: Tensor | None) -> None:
        self._weights = weights

    def __call__(
        self, outputs: Any, labels_BT: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """
        Args:
            num_items_in_batch: labelled tokens of the whole batch, of which this may be a part; ``None``:
                those at hand.

        Raises:
            RunError: the loss is no number.
        """
        logits_BT2 = outputs.logits.float()
        weights = None if self._weights is None else self._weights.to(logits_BT2.device)
        labels_N = labels_BT.flatten().to(logits_BT2.device)
        total = cross_entropy(
            logits_BT2.flatten(0, 1), labels_N, weight=weights, ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            items = (labels_N != IGNORED).sum()
        else:  # of several GPUs each gets the same number once more
            items = torch.as_tensor(num_items_in_batch, device=total.device).flatten()[0]
        loss: Tensor = total / items
        if not torch.isfinite(loss):
            raise RunError(
                "the loss is no number any more; nothing was saved",
                where="weft boundary train",
                remedy="lower --learning-rate, or raise --warmup-ratio",
            )
        return loss


@dataclass(frozen=True, slots=True)
class Collator:
    """Examples as one batch, padded on the right: with causal attention no token sees the padding."""

    pad: int

    def __call__(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``. ``[B, T]`` each"""
        longest = max(len(row.ids) for row in rows)
        ids_BT = torch.full((len(rows), longest), self.pad)
        labels_BT = torch.full((len(rows), longest), IGNORED)
        mask_BT = torch.zeros((len(rows), longest), dtype=torch.long)
        for at, row in enumerate(rows):
            ids_BT[at, : len(row.ids)] = torch.tensor(row.ids)
            labels_BT[at, : len(row.ids)] = torch.tensor(row.labels)
            mask_BT[at, : len(row.ids)] = 1
        return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}


class _Rows(torch.utils.data.Dataset[Example]):
    def __init__(self, rows: Sequence[Example]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        return self._rows[index]


class _Voice(TrainerCallback):  # type: ignore[misc]
    """One line per evaluation, and the steps to whoever counts them."""

    def __init__(self, tell: Tell, advance: Advance | None) -> None:
        self._tell, self._advance = tell, advance
        self._best = -1.0
        self._loss = math.nan

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._advance:
            self._advance(state.global_step, state.max_steps)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        scores = _scores(metrics)
        f1 = scores.boundary_f1["1"]
        best, self._best = f1 > self._best, max(f1, self._best)
        self._tell(
            f"epoch {state.epoch:.2f}, step {state.global_step:,}: loss {self._loss:.3f}, "
            f"held out {scores.loss:.3f}; boundary F1 {f1:.3f}{', best so far' if best else ''}"
        )


def measured(prediction: EvalPrediction) -> dict[str, float]:
    """Boundary F1 by tolerance and token accuracy, over all examples.

    Args:
        prediction: predicted classes and labels. ``[N, T]`` each
    """
    matches = {tolerance: Matches(0, 0, 0) for tolerance in TOLERANCES}
    right = of = 0
    labels_NT: NDArray[np.int64] = np.asarray(prediction.label_ids)
    for labels_T, predicted_T in zip(labels_NT, np.asarray(prediction.predictions), strict=True):
        asked = labels_T != IGNORED
        truth, found = labels_T[asked] == STYLE, predicted_T[asked] == STYLE
        right, of = right + int((truth == found).sum()), of + len(truth)
        for tolerance in TOLERANCES:
            matches[tolerance] += boundary_matches(truth.tolist(), found.tolist(), tolerance)
    figures = {f"boundary_f1_{tolerance}": one.f1 or 0.0 for tolerance, one in matches.items()}
    return {**figures, "token_accuracy": right / of}


def _predicted(logits_BT2: Any, labels_BT: Tensor) -> Tensor:
    logits: Tensor = logits_BT2[0] if isinstance(logits_BT2, tuple) else logits_BT2
    return logits.argmax(-1)


def _scores(metrics: Mapping[str, float]) -> Scores:
    return Scores(
        loss=metrics["eval_loss"],
        token_accuracy=metrics["eval_token_accuracy"],
        boundary_f1={str(tolerance): metrics[f"eval_boundary_f1_{tolerance}"] for tolerance in TOLERANCES},
    )


@contextmanager
def _threads(model: Any) -> Iterator[None]:
    """One processor thread for tiny models, as engines have it; see :mod:`weft.engines.loading`."""
    threads = torch.get_num_threads()
    tiny = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < TINY
    if tiny and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _weights(tokens: tuple[int, int], settings: TrainingSettings) -> Tensor | None:
    """A weight for each class; over all tokens they average to one."""
    if settings.class_weights == "none":
        return None
    return torch.tensor([sum(tokens) / (2 * count) for count in tokens])


def _arguments(settings: TrainingSettings, checkpoints: Path) -> TrainingArguments:
    on_gpu = torch.cuda.is_available() and settings.device != "cpu"
    strategy = "epoch" if settings.eval_steps is None else "steps"
    return TrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        eval_strategy=strategy,
        eval_steps=settings.eval_steps,
        logging_strategy=strategy,
        logging_steps=settings.eval_steps or 500,
        save_strategy="best",
        save_total_limit=1,
        save_only_model=True,
        load_best_model_at_end=True,
        metric_for_best_model=CHOSEN_BY,
        greater_is_better=True,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to=settings.report_to,
        disable_tqdm=True,
    )
