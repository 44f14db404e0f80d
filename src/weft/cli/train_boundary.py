"""``weft boundary train``: from annotated text to a boundary predictor.

:func:`train` is long because it is a list: for each flag a parameter, a line of help and its place in the
settings.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from pydantic import ValidationError

from weft.boundary.training.settings import ClassWeights, Scheduler, TrainingSettings
from weft.errors import UserError

if TYPE_CHECKING:
    from weft.boundary.training.scores import Advance
    from weft.boundary.training.train import TrainingResult

DATA = Group("Data", sort_key=1)
BASE = Group("Base", sort_key=2)
TRAINING = Group("Training (names as in transformers)", sort_key=3)
RUN = Group("Run", sort_key=4)

INTERRUPTED = 130
"""The exit code that shells expect."""


def train(
    *spans: Path,
    model: Annotated[str | None, Parameter(group=BASE)] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    revision: Annotated[str | None, Parameter(group=BASE)] = None,
    device: Annotated[Literal["cpu"] | None, Parameter(group=BASE)] = None,
    window: Annotated[int | None, Parameter(group=DATA)] = None,
    validation: Annotated[float | None, Parameter(group=DATA)] = None,
    split_seed: Annotated[int | None, Parameter(group=DATA)] = None,
    class_weights: Annotated[ClassWeights | None, Parameter(group=TRAINING)] = None,
    learning_rate: Annotated[float | None, Parameter(group=TRAINING)] = None,
    per_device_train_batch_size: Annotated[int | None, Parameter(group=TRAINING)] = None,
    gradient_accumulation_steps: Annotated[int | None, Parameter(group=TRAINING)] = None,
    num_train_epochs: Annotated[float | None, Parameter(group=TRAINING)] = None,
    max_steps: Annotated[int | None, Parameter(group=TRAINING)] = None,
    lr_scheduler_type: Annotated[Scheduler | None, Parameter(group=TRAINING)] = None,
    warmup_ratio: Annotated[float | None, Parameter(group=TRAINING)] = None,
    weight_decay: Annotated[float | None, Parameter(group=TRAINING)] = None,
    eval_steps: Annotated[int | None, Parameter(group=TRAINING)] = None,
    patience: Annotated[int | None, Parameter(group=TRAINING)] = None,
    lora_rank: Annotated[int | None, Parameter(group=TRAINING)] = None,
    lora_alpha: Annotated[float | None, Parameter(group=TRAINING)] = None,
    gradient_checkpointing: Annotated[bool, Parameter(group=TRAINING, negative="")] = False,
    report_to: Annotated[str | None, Parameter(group=TRAINING)] = None,
    seed: Annotated[int | None, Parameter(group=TRAINING)] = None,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Train a boundary predictor: a token classifier that says whether the next token is style.

    Of the weights that were measured on held-out prompts, those with the best
    boundary F1 are kept. OUTPUT becomes a folder that transformers loads as it is,
    with boundary.json beside the weights.

    Parameters
    ----------
    spans
        Files of complete annotations, from `weft boundary annotate`.
    model
        The base, a causal language model: hub id or folder, such as Qwen/Qwen3-0.6B-Base.
    output
        The folder that is made.
    revision
        Branch, tag or commit of a hub model.
    device
        cpu; left out: a GPU where there is one.
    window
        Longer texts are cut into windows of at most so many tokens [200].
    validation
        Share of the prompts that is held out [0.05].
    split_seed
        Another seed holds other prompts out [0].
    class_weights
        balanced lifts the rarer class: it is found more often and called too often [none].
    learning_rate
        The highest [1e-5].
    per_device_train_batch_size
        Windows in a batch [32].
    gradient_accumulation_steps
        Batches in a step [1].
    num_train_epochs
        How often each text is seen [3].
    max_steps
        In place of epochs; -1 is off [-1].
    lr_scheduler_type
        How the learning rate falls [linear].
    warmup_ratio
        Share of the steps in which the learning rate rises [0].
    weight_decay
        AdamW's [0].
    eval_steps
        Steps between evaluations; left out: one after each epoch.
    patience
        Evaluations without a better boundary F1 that end training; 0 is off [3].
    lora_rank
        LoRA, merged at the end; 0 trains all weights [0].
    lora_alpha
        LoRA's scale is alpha / rank [twice the rank].
    gradient_checkpointing
        Less memory for more time.
    report_to
        Where transformers logs: tensorboard, wandb, trackio, ... [none].
    seed
        Decides the new head, the order of the texts and dropout [0].
    overwrite
        Replace the predictor that OUTPUT holds.
    quiet
        No progress; only the summary.
    """
    settings = _settings(
        {
            "model": model,
            "revision": revision,
            "device": device,
            "window": window,
            "validation": validation,
            "split_seed": split_seed,
            "class_weights": class_weights,
            "learning_rate": learning_rate,
            "per_device_train_batch_size": per_device_train_batch_size,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "num_train_epochs": num_train_epochs,
            "max_steps": max_steps,
            "lr_scheduler_type": lr_scheduler_type,
            "warmup_ratio": warmup_ratio,
            "weight_decay": weight_decay,
            "eval_steps": eval_steps,
            "patience": patience,
            "lora_rank": lora_rank,
            "lora_alpha": lora_alpha,
            "gradient_checkpointing": gradient_checkpointing or None,
            "report_to": report_to,
            "seed": seed,
        }
    )
    if not spans:
        raise UserError(
            "no file of spans",
            where="weft boundary train",
            expected="one or more, as `weft boundary annotate` writes them",
        )
    from weft.boundary.training.train import train as train_boundary

    try:
        with _bar(quiet) as advance:
            result = train_boundary(
                settings,
                spans,
                output,
                overwrite=overwrite,
                tell=(lambda _: None) if quiet else _say,
                advance=advance,
            )
    except KeyboardInterrupt:
        _say("weft: interrupted; nothing was saved")
        return INTERRUPTED
    _summary(result, spans)
    return 0


def _settings(given: Mapping[str, Any]) -> TrainingSettings:
    """The settings that were given.

    Raises:
        UserError: one of them is wrong, or there is no base.
    """
    if not given["model"]:
        raise UserError(
            "no base",
            where="--model",
            expected="a causal language model that transformers loads",
            remedy="name one: --model Qwen/Qwen3-0.6B-Base is the paper's, micro:student the smallest",
        )
    try:
        return TrainingSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = []
        for item in error.errors():
            flag = "--" + str(item["loc"][0]).replace("_", "-") if item["loc"] else ""
            lines.append(f"{flag} {item['msg'].removeprefix('Value error, ')}".strip())
        raise UserError("\n  ".join(lines), where="the command line") from error


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _bar(quiet: bool) -> Iterator[Advance | None]:
    """A bar of steps in a terminal; nothing elsewhere, where lines at evaluations must do."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield None
        return
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("steps", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _summary(result: TrainingResult, spans: tuple[Path, ...]) -> None:
    f1 = result.scores.boundary_f1
    files = shlex.join(map(str, spans))
    folder = shlex.quote(str(result.output))
    rows = (
        ("boundary F1", f"{f1['1']:.3f} within 1 token (exact {f1['0']:.3f}, within 3 {f1['3']:.3f})"),
        ("tokens right", f"{result.scores.token_accuracy:.1%}"),
        ("measured on", f"{result.held_out:,} held-out prompts"),
        ("steps", f"{result.steps:,}; kept: those of step {result.best_step:,}"),
        ("seconds", f"{result.seconds:,.1f}"),
        ("predictor in", folder),
        ("measure it", f"weft boundary eval {folder} {files}"),
    )
    _say("\n".join(f"{name:<14}{value}" for name, value in rows))
