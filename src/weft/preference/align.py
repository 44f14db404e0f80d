"""``align``: from preference pairs to a model, through TRL, with a prefix policy.

It reads and checks the pairs, tokenises them once, shows what the policy does to them, and trains; the same
call goes on from the last checkpoint where an earlier one was stopped. What is trained, and how, is in
``trainer.py`` and ``simpo.py``.

Invariants
    - Nothing is trained before the pairs have been looked through as a whole.
    - A row that is dropped is counted; the numbers of rows in messages are those of the data that came in.
    - With several processes (``torchrun``, ``accelerate launch``) only the first one speaks and writes.

It does not know whether the policy suits the data; ``preview.py`` says what can be known beforehand.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import DPOConfig

from weft.engines.language import first_line, no_bars_of_weights
from weft.engines.opening import model_folder
from weft.errors import RunError, UserError
from weft.preference.arguments import arguments, lora
from weft.preference.card import Card, card_text, versions
from weft.preference.folder import (
    ADAPTER,
    MODEL,
    Earlier,
    asked_more,
    begin,
    check_folder,
    check_inputs,
    compare,
    finish,
    has_adapter,
    model_facts,
    remove,
)
from weft.preference.pairs import Pairs
from weft.preference.preparing import Prepared, Tell, held_out_rows, prepared, read_held_out, read_pairs
from weft.preference.preview import Preview
from weft.preference.recipe import AlignSettings, deciding
from weft.preference.simpo import SimPOTrainer
from weft.preference.trainer import PrefixDPOTrainer
from weft.store.files import replace_file, writing

Advance = Callable[[int, int], None]
"""Steps done, and steps in all."""
NOISE = {
    # `max_length` is applied to them afterwards.
    "tokenization_utils_base": "Token indices sequence length is longer",
    # The head is tied to the embeddings, which were there.
    "trainer": "There were missing keys in the checkpoint model loaded: ['lm_head.weight'].",
    # Then checkpoints are ordered by their numbers, which is as good.
    "trainer_utils": "mtime may not be reliable",
}
"""Loggers of transformers', and how what they say for nothing begins."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """What one call did."""

    output: Path
    steps: int
    resumed_from: int | None
    """The step that an earlier run had reached."""
    was_finished: bool
    """There was nothing left to do."""
    figures: Mapping[str, float]
    """As they were logged last; evaluation's begin with ``eval_``. What was no number is not among them."""
    seconds: float


def look(settings: AlignSettings, *, tell: Tell = print) -> Preview:
    """What the settings' policy does to their data; nothing is trained, no weights are loaded.

    Args:
        tell: takes one line at a time.

    Raises:
        UserError: the tokenizer or the data cannot be used.
    """
    with _quiet():
        return prepared(settings, read_pairs(settings), tell).preview


def align(
    settings: AlignSettings,
    output: Path,
    *,
    overwrite: bool = False,
    tell: Tell = print,
    advance: Advance | None = None,
    show: Callable[[Prepared], None] | None = None,
) -> Aligned:
    """Train a model on preference pairs; its folder is ``output``.

    A finished run is not repeated. What is asked of it besides (a merged adapter, an evaluation) is done with
    its last checkpoint.

    Args:
        overwrite: start again where an earlier run stands.
        tell: takes one line at a time.
        advance: is told each step.
        show: is told what the policy does to the data, before anything is trained.

    Raises:
        UserError: a setting, the model, the data or the output cannot be used; or ``output`` holds a run with
            other settings.
        RunError: the loss is no number any more, or memory or the disk is full.
    """
    with _quiet():
        return _align(settings, output, overwrite=overwrite, tell=tell, advance=advance, show=show)


def _align(
    settings: AlignSettings,
    output: Path,
    *,
    overwrite: bool,
    tell: Tell,
    advance: Advance | None,
    show: Callable[[Prepared], None] | None,
) -> Aligned:
    started = time.monotonic()
    manifest = check_folder(output, overwrite=overwrite)
    evaluation = settings.evaluation[0] if settings.evaluation else None
    check_inputs(output, {"model": settings.model, "data": settings.data, "held-out data": evaluation})
    args = arguments(settings, output)
    main = PartialState().is_main_process
    speak = tell if main else _silent
    pairs, held_out = read_pairs(settings), read_held_out(settings)
    decides = {
        "settings": deciding(settings),
        "model": model_facts(settings.model),
        "data": {"pairs": len(pairs.rows), "sha256": pairs.sha256},
        "processes": PartialState().num_processes,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "float32",
    }
    earlier = None if manifest is None else compare(output, manifest, decides)
    facts = None if held_out is None else {"pairs": len(held_out.rows), "sha256": held_out.sha256}
    if earlier is not None and earlier.finished:
        more = asked_more(output, earlier, merge=settings.merge_adapter, held_out=facts)
        if not more:
            speak(f"{output} is finished; there is nothing to do")
            figures, steps = earlier.figures, int(earlier.figures.get("step", 0))
            return Aligned(output, steps, None, True, figures, time.monotonic() - started)
        speak(f"{output} is finished; this call {' and '.join(more)}")
        # An adapter that was merged stays so.
        merged = bool(settings.lora_r) and not has_adapter(output)
        settings = settings.model_copy(update={"merge_adapter": settings.merge_adapter or merged})
    ready = prepared(settings, pairs, speak)
    if show is not None and main:
        show(ready)
    trainer = _trainer(settings, args, ready, held_out, speak)
    trainer.add_callback(_Voice(speak, advance if main else None))
    PartialState().wait_for_everyone()
    if main:
        manifest = begin(output, earlier, decides, {"data": pairs.name, **versions()})
    PartialState().wait_for_everyone()
    resumed = _train(trainer, earlier, speak)
    figures = _figures(trainer, earlier)
    _save(trainer, settings, output)
    known = {name: value for name, value in figures.items() if math.isfinite(value)}
    if main:
        assert manifest is not None
        card = Card(settings, pairs, ready.preview, known, manifest.created)
        with writing(output):
            replace_file(output / "README.md", [card_text(card).encode()])
        finish(output, manifest, figures, facts or (earlier.held_out if earlier else None))
    seconds = time.monotonic() - started
    return Aligned(output, trainer.state.global_step, resumed, False, known, seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars of weights, and without what is no news to whoever runs this."""
    loggers = [logging.getLogger(f"transformers.{name}") for name in NOISE]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        with no_bars_of_weights(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # Schedulers complain of the order of two calls that transformers makes.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*", category=UserWarning)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(tuple(NOISE.values()))


def _trainer(
    settings: AlignSettings, args: DPOConfig, ready: Prepared, held_out: Pairs | None, tell: Tell
) -> Any:
    evaluation = None if held_out is None else held_out_rows(settings, held_out, ready.tokenizer, tell)
    kind = SimPOTrainer if settings.simpo else PrefixDPOTrainer
    try:
        trainer = kind(
            model_folder(settings.model),
            args=args,
            train_dataset=ready.rows,
            eval_dataset=evaluation,
            processing_class=ready.tokenizer,
            peft_config=lora(settings),
            prefix=settings.prefix,
            share_prompt=settings.share_prompt,
            tell=tell,
        )
    except torch.OutOfMemoryError as error:
        raise _memory_full(error) from error
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


def _refusal(error: Exception, settings: AlignSettings) -> UserError | None:
    """What other libraries refuse is a setting; what else goes wrong is a defect: ``None``."""
    if "requires" in str(error) and settings.report_to != ("none",):
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


def _train(trainer: Any, earlier: Earlier | None, tell: Tell) -> int | None:
    """Train, from the last checkpoint if there is one; the step that it had reached."""
    checkpoint, resumed = (None, None) if earlier is None else (earlier.checkpoint, earlier.step)
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    tell(
        f"{batch:,} pairs a step ({args.per_device_train_batch_size} a batch, "
        f"{args.gradient_accumulation_steps} batch{_many(args.gradient_accumulation_steps)}, "
        f"{args.world_size} process{_many(args.world_size)})"
        + ("" if resumed is None else f"; an earlier run had reached step {resumed:,}, this one goes on")
    )
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except torch.OutOfMemoryError as error:
        raise _memory_full(error) from error
    return resumed


def _memory_full(error: BaseException) -> RunError:
    return RunError(
        f"the GPU's memory is full: {str(error).splitlines()[0]}",
        where="weft align",
        remedy="lower --per-device-train-batch-size and raise --gradient-accumulation-steps by as much, "
        "or try --precompute-ref-log-probs, --lora-r 16 or a shorter --max-length",
    )


def _figures(trainer: Any, earlier: Earlier | None) -> dict[str, float]:
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


def _save(trainer: Any, settings: AlignSettings, output: Path) -> None:
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


class _Voice(TrainerCallback):  # type: ignore[misc]
    """One line each time that something is logged, and the steps to whoever counts them."""

    def __init__(self, tell: Tell, advance: Advance | None) -> None:
        self._tell, self._advance = tell, advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last step's figures are the run's
        if self._advance:
            self._advance(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        logs = logs or {}
        at = f"step {state.global_step:,} of {state.max_steps:,}"
        if "loss" in logs:
            self._tell(
                f"{at}: loss {float(logs['loss']):.4f}{_shown(logs, 'rewards/accuracies', 'accuracy')}"
                f"{_shown(logs, 'rewards/margins', 'margin')}{_shown(logs, 'drift/chosen', 'chosen drift')}"
            )
        elif "eval_loss" in logs:
            self._tell(
                f"{at}: held out {float(logs['eval_loss']):.4f}"
                f"{_shown(logs, 'eval_rewards/accuracies', 'accuracy')}"
                f"{_shown(logs, 'eval_uncut/rewards/accuracies', 'on whole responses')}"
            )


def _shown(logs: Mapping[str, Any], name: str, label: str) -> str:
    value = logs.get(name)
    return "" if value is None or not math.isfinite(float(value)) else f", {label} {float(value):.3f}"


def _many(number: int) -> str:
    return "" if number == 1 else "es"


def _silent(_: str) -> None: ...
