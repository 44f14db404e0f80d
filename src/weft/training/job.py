"""One training run, from the check of its folder to the model's card; :class:`Job` says what is trained.

Invariants
    - Nothing is trained before the data have been looked through as a whole.
    - The same call goes on from the last checkpoint where an earlier one was stopped; a finished run is not
      repeated, and what is asked of it besides is done with its last checkpoint.
    - With several processes (``torchrun``, ``accelerate launch``) only the first one speaks and writes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from accelerate import PartialState

from weft.store.files import replace_file, writing
from weft.store.manifest import Manifest
from weft.training.arguments import precision
from weft.training.card import commands_section, versions
from weft.training.folder import (
    Earlier,
    asked_more,
    begin,
    check_folder,
    check_inputs,
    compare,
    finish,
    has_adapter,
    held,
    model_facts,
)
from weft.training.settings import TrainingSettings, deciding
from weft.training.trackers import tracked
from weft.training.trainer import figures, save, train
from weft.training.voice import Advance, Tell, Voice, silent


@dataclass(frozen=True, slots=True)
class Trained:
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


@dataclass(frozen=True, slots=True)
class Data:
    """What a run is told of its data before it is known whether there is anything to do."""

    name: str
    facts: Mapping[str, Any]
    """Compared when a run goes on."""
    held_out: Mapping[str, Any] | None
    """Facts of what to evaluate on."""


class Job(Protocol):
    """What one command trains."""

    command: str
    """align or sft."""
    args: Any
    """TRL's config."""
    said: tuple[Mapping[str, str], Mapping[str, str]]
    """Figures of training and of evaluation that are said besides the loss, and what they are called."""

    @property
    def unit(self) -> str:
        """What a batch is of, in the plural."""

    @property
    def settings(self) -> TrainingSettings: ...

    @property
    def inputs(self) -> Mapping[str, str | Sequence[str] | None]:
        """What the run reads: what each is, and its path or hub id."""

    def read(self, tell: Tell) -> Data:
        """Read the data.

        Raises:
            UserError: they cannot be used.
        """

    def trainer(self, settings: TrainingSettings, tell: Tell) -> Any:
        """Make the data ready, show them, and open TRL's trainer.

        Raises:
            UserError: the data or a setting cannot be used.
        """

    def card(self, settings: TrainingSettings, figures: Mapping[str, float], created: str) -> str:
        """The model's card, in Markdown."""


def carry_out(
    job: Job, output: Path, *, overwrite: bool = False, tell: Tell = print, advance: Advance | None = None
) -> Trained:
    """Train what ``job`` says; its folder is ``output``.

    Args:
        overwrite: start again where an earlier run stands.
        tell: takes one line at a time.
        advance: is told each step.

    Raises:
        UserError: a setting, the model, the data or the output cannot be used; or ``output`` holds a run with
            other settings, or another run goes on in it.
        RunError: memory or the disk is full.
    """
    main = PartialState().is_main_process
    with held(output) if main else nullcontext():
        return _carried_out(job, output, overwrite, tell if main else silent, advance if main else None)


def _carried_out(job: Job, output: Path, overwrite: bool, speak: Tell, advance: Advance | None) -> Trained:
    """As :func:`carry_out`, in a folder that is held; ``speak`` and ``advance`` are the first process's."""
    started = time.monotonic()
    main = PartialState().is_main_process
    manifest = check_folder(output, job.command, overwrite=overwrite)
    check_inputs(output, job.inputs)
    data = job.read(speak)
    decides = _decides(job, data)
    earlier = None if manifest is None else compare(output, manifest, decides)
    settings = job.settings
    if earlier is not None and earlier.finished:
        more = asked_more(output, earlier, merge=settings.merge_adapter, held_out=data.held_out)
        if not more:
            speak(f"{output} is finished; there is nothing to do")
            found, steps = earlier.figures, int(earlier.figures.get("step", 0))
            return Trained(output, steps, None, True, found, time.monotonic() - started)
        speak(f"{output} is finished; this call {' and '.join(more)}")
        # An adapter that was merged stays so.
        merged = bool(settings.lora_r) and not has_adapter(output)
        settings = settings.model_copy(update={"merge_adapter": settings.merge_adapter or merged})
    trainer = job.trainer(settings, speak)
    trainer.add_callback(Voice(speak, advance, *job.said))
    PartialState().wait_for_everyone()
    if main:
        manifest = begin(output, job.command, earlier, decides, _facts(job, data))
    PartialState().wait_for_everyone()
    name = f"{output.resolve().name} {manifest.created}" if manifest else None
    with tracked(trainer, speak, name=name, required="trackio" in settings.report_to):
        resumed = train(trainer, earlier, job.unit, job.command, speak)
        measured = figures(trainer, earlier)
    save(trainer, settings, output)
    known = {name: value for name, value in measured.items() if math.isfinite(value)}
    if main:
        assert manifest is not None
        _close(job, output, settings, manifest, measured, known, _held_out(data, earlier))
    return Trained(output, trainer.state.global_step, resumed, False, known, time.monotonic() - started)


def _decides(job: Job, data: Data) -> dict[str, Any]:
    """Everything that decides the weights."""
    return {
        "settings": deciding(job.settings),
        "model": model_facts(job.settings.model),
        "data": data.facts,
        "processes": PartialState().num_processes,
        "precision": precision(job.args),
    }


def _facts(job: Job, data: Data) -> dict[str, Any]:
    """What is recorded and not compared."""
    given = [[value] if isinstance(value, str) else list(value or ()) for value in job.inputs.values()]
    return {
        "data": data.name,
        "inputs": [name for names in given for name in names],
        "command": sys.argv[1:],
        **versions(),
    }


def _held_out(data: Data, earlier: Earlier | None) -> Mapping[str, Any] | None:
    return data.held_out or (earlier.held_out if earlier else None)


def _close(
    job: Job,
    output: Path,
    settings: TrainingSettings,
    manifest: Manifest,
    measured: Mapping[str, float],
    known: Mapping[str, float],
    held_out: Mapping[str, Any] | None,
) -> None:
    """The card, and then the note that all is written."""
    card = job.card(settings, known, manifest.created) + commands_section(output, manifest)
    with writing(output):
        replace_file(output / "README.md", [card.encode()])
    finish(output, job.command, manifest, measured, held_out)
