"""A trainer of TRL's, from outside: what it refuses, its figures, its weights.

It does not know what is trained, nor the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback

from weft.engines.language import first_line
from weft.errors import RunError, UserError
from weft.store.files import writing
from weft.training.folder import ADAPTER, MODEL, Earlier, remove
from weft.training.settings import TrainingSettings
from weft.training.trackers import trackers
from weft.training.voice import Tell


def opened(make: Callable[[], Any], settings: TrainingSettings, command: str) -> Any:
    """The trainer that ``make`` makes, without its own progress.

    Raises:
        UserError: TRL or the model refuses a setting.
        RunError: memory is full.
    """
    try:
        trainer = make()
    except torch.OutOfMemoryError as error:
        raise memory_full(error, command) from error
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        refusal = _refusal(error, settings)
        if refusal is None:
            raise
        raise refusal from error
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if settings.merge_adapter and sharded:
        raise UserError(
            "an adapter cannot be merged into weights that are sharded over processes",
            where="--merge-adapter",
            remedy="leave it out, and merge the saved adapter afterwards",
        )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _refusal(error: Exception, settings: TrainingSettings) -> UserError | None:
    """What other libraries refuse is a setting; what else goes wrong is a defect: ``None``."""
    if "requires" in str(error) and trackers(settings.report_to):
        remedy = "install it, choose another, or leave it out"
        return UserError(first_line(error), where="--report-to", remedy=remedy)
    if not _of_others(error) or type(error) is RuntimeError:
        return None
    where = f"model {settings.model}" if isinstance(error, OSError) else "TRL"
    return UserError(first_line(error), where=where, remedy="check the model and the settings")


def _of_others(error: BaseException) -> bool:
    """Whether another library raised it: what it refuses is a setting, the rest are defects of ours."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and not str(at.tb_frame.f_globals.get("__name__", "")).startswith("weft.")


def memory_full(error: BaseException, command: str) -> RunError:
    """What to do about it."""
    reference = "--precompute-ref-log-probs, " if command == "align" else ""
    return RunError(
        f"the GPU's memory is full: {str(error).splitlines()[0]}",
        where=f"weft {command}",
        remedy="lower --per-device-train-batch-size and raise --gradient-accumulation-steps by as much, "
        f"or try {reference}--lora-r 16 or a shorter --max-length",
    )


def train(trainer: Any, earlier: Earlier | None, unit: str, command: str, tell: Tell) -> int | None:
    """Train, from the last checkpoint if there is one; the step that it had reached.

    Args:
        unit: what a batch is of, in the plural.

    Raises:
        RunError: memory is full.
    """
    checkpoint, resumed = (None, None) if earlier is None else (earlier.checkpoint, earlier.step)
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    tell(
        f"{batch:,} {unit} a step ({args.per_device_train_batch_size} a batch, "
        f"{args.gradient_accumulation_steps} batch{_many(args.gradient_accumulation_steps)}, "
        f"{args.world_size} process{_many(args.world_size)})"
        + ("" if resumed is None else f"; an earlier run had reached step {resumed:,}, this one goes on")
    )
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except torch.OutOfMemoryError as error:
        raise memory_full(error, command) from error
    return resumed


def _many(number: int) -> str:
    return "" if number == 1 else "es"


def figures(trainer: Any, earlier: Earlier | None) -> dict[str, float]:
    """What was logged last of training, and an evaluation of the trained weights."""
    steps = trainer.state.global_step
    found: dict[str, float] = {}
    for entry in trainer.state.log_history:
        if "loss" in entry:
            found |= {name: value for name, value in entry.items() if name != "epoch"}
        elif "train_runtime" in entry:
            found["train_runtime"] = entry["train_runtime"]
    # Without a step of its own this run adds to what another one found.
    trained = earlier is None or earlier.step != steps
    if earlier is not None and not trained:
        found |= earlier.figures
    if trainer.eval_dataset is not None:
        last = next((one for one in reversed(trainer.state.log_history) if "eval_loss" in one), None)
        fresh = trained and last is not None and last["step"] == steps
        metrics = last if fresh and last is not None else trainer.evaluate()
        found = {name: value for name, value in found.items() if not name.startswith("eval_")}
        found |= {name: value for name, value in metrics.items() if name.startswith("eval_")}
    found["step"] = steps
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def save(trainer: Any, settings: TrainingSettings, output: Path) -> None:
    """Write the weights and the tokenizer.

    Raises:
        RunError: the disk is full.
    """
    # Training turns the cache off, and whoever generates wants it on.
    trainer.accelerator.unwrap_model(trainer.model).config.use_cache = True
    main = trainer.accelerator.is_main_process
    with writing(output):
        if not settings.merge_adapter:
            trainer.save_model(str(output))
        elif main:
            plain = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
            plain.save_pretrained(output)
            trainer.processing_class.save_pretrained(output)
        if main and settings.lora_r:
            # With both in one folder an adapter would be added to weights that hold it already.
            remove(output, ADAPTER if settings.merge_adapter else MODEL)
    trainer.accelerator.wait_for_everyone()
