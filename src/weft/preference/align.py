"""``align``: from preference pairs to a model, through TRL, with a prefix policy.

It reads and checks the pairs, tokenises them once, shows what the policy does to them, and trains; the same
call goes on from the last checkpoint where an earlier one was stopped. What is trained, and how, is in
``trainer.py`` and ``simpo.py``; the run itself is in :mod:`weft.training.job`.

Invariant: a row that is dropped is counted; the numbers of rows in messages are those of the data that came
in.

It does not know whether the policy suits the data; ``preview.py`` says what can be known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from trl import DPOConfig

from weft.engines.opening import model_folder
from weft.preference.arguments import arguments
from weft.preference.card import Card, card_text
from weft.preference.pairs import Pairs
from weft.preference.preparing import Prepared, held_out_rows, prepared, read_held_out, read_pairs
from weft.preference.preview import Preview
from weft.preference.recipe import AlignSettings
from weft.preference.simpo import SimPOTrainer
from weft.preference.trainer import PrefixDPOTrainer
from weft.training.arguments import lora
from weft.training.job import Data, Trained, carry_out
from weft.training.quiet import quiet
from weft.training.settings import TrainingSettings
from weft.training.trainer import opened
from weft.training.voice import Advance, Tell

ACCURACY = "rewards/accuracies"


def look(settings: AlignSettings, *, tell: Tell = print) -> Preview:
    """What the settings' policy does to their data; nothing is trained, no weights are loaded.

    Args:
        tell: takes one line at a time.

    Raises:
        UserError: the tokenizer or the data cannot be used.
    """
    with quiet():
        return prepared(settings, read_pairs(settings), tell).preview


def align(
    settings: AlignSettings,
    output: Path,
    *,
    overwrite: bool = False,
    tell: Tell = print,
    advance: Advance | None = None,
    show: Callable[[Prepared], None] | None = None,
) -> Trained:
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
    with quiet():
        job = Alignment(settings, arguments(settings, output), show)
        return carry_out(job, output, overwrite=overwrite, tell=tell, advance=advance)


class Alignment:
    """A job of training on pairs; see :class:`weft.training.job.Job`."""

    command, unit = "align", "pairs"
    said: tuple[Mapping[str, str], Mapping[str, str]] = (
        {ACCURACY: "accuracy", "rewards/margins": "margin", "drift/chosen": "chosen drift"},
        {f"eval_{ACCURACY}": "accuracy", f"eval_uncut/{ACCURACY}": "on whole responses"},
    )

    def __init__(
        self, settings: AlignSettings, args: DPOConfig, show: Callable[[Prepared], None] | None = None
    ) -> None:
        self._settings, self.args, self._show = settings, args, show
        self._pairs: Pairs | None = None
        self._held_out: Pairs | None = None
        self._ready: Prepared | None = None

    @property
    def settings(self) -> AlignSettings:
        return self._settings

    @property
    def inputs(self) -> Mapping[str, str | Sequence[str] | None]:
        evaluation = self._settings.evaluation
        named = {"model": self._settings.model, "data": self._settings.data}
        return {**named, "held-out data": evaluation[0] if evaluation else None}

    def read(self, tell: Tell) -> Data:
        self._pairs, self._held_out = read_pairs(self._settings), read_held_out(self._settings)
        held_out = None if self._held_out is None else _facts(self._held_out)
        return Data(self._pairs.name, _facts(self._pairs), held_out)

    def trainer(self, settings: TrainingSettings, tell: Tell) -> Any:
        assert self._pairs is not None
        self._ready = prepared(self._settings, self._pairs, tell)
        if self._show is not None and PartialState().is_main_process:
            self._show(self._ready)
        return trainer(self._settings, self.args, self._ready, self._held_out, tell, merging=settings)

    def card(self, settings: TrainingSettings, figures: Mapping[str, float], created: str) -> str:
        assert self._pairs is not None and self._ready is not None
        chosen = self._settings.model_copy(update={"merge_adapter": settings.merge_adapter})
        return card_text(Card(chosen, self._pairs, self._ready.preview, figures, created))


def _facts(pairs: Pairs) -> Mapping[str, Any]:
    return {"pairs": len(pairs.rows), "sha256": pairs.sha256}


def trainer(
    settings: AlignSettings,
    args: DPOConfig,
    ready: Prepared,
    held_out: Pairs | None,
    tell: Tell,
    *,
    merging: TrainingSettings | None = None,
) -> Any:
    """TRL's trainer with the settings' policy.

    Args:
        merging: the settings that say whether an adapter is merged, if those are others.

    Raises:
        UserError: TRL or the model refuses a setting, or held-out pairs cannot be used.
        RunError: memory is full.
    """
    evaluation = None if held_out is None else held_out_rows(settings, held_out, ready.tokenizer, tell)
    kind = SimPOTrainer if settings.simpo else PrefixDPOTrainer

    def make() -> Any:
        return kind(
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

    return opened(make, merging or settings, "align")
