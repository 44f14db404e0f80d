"""``sft``: from traces, or any other texts, to a fine-tuned model, through TRL.

It reads the rows, tokenises them once with labels for what is learned, says what they hold, and trains; the
same call goes on from the last checkpoint where an earlier one was stopped. The run itself is in
:mod:`weft.training.job`.

Invariants
    - What is made keeps the model's own chat template: a training template serves rows alone.
    - Nothing is trained before all rows have been read; what is left out is counted.

It does not know what the model can do afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from trl import SFTConfig

from weft.engines.opening import model_folder
from weft.finetuning.card import Card, card_text
from weft.finetuning.packing import attention, check_apart, is_flash
from weft.finetuning.preparing import Prepared, prepared
from weft.finetuning.settings import SftSettings
from weft.finetuning.survey import Survey
from weft.finetuning.trainer import TextTrainer
from weft.training.arguments import lora, made
from weft.training.job import Data, Trained, carry_out
from weft.training.quiet import quiet
from weft.training.settings import TrainingSettings
from weft.training.trainer import opened
from weft.training.voice import Advance, Tell

ACCURACY = "mean_token_accuracy"


def look(settings: SftSettings) -> Survey:
    """What the settings' rows hold; nothing is trained, no weights are loaded.

    Raises:
        UserError: the tokenizer or the data cannot be used.
    """
    with quiet():
        return prepared(settings).survey


def sft(
    settings: SftSettings,
    output: Path,
    *,
    overwrite: bool = False,
    tell: Tell = print,
    advance: Advance | None = None,
    show: Callable[[Survey], None] | None = None,
) -> Trained:
    """Fine-tune a model; its folder is ``output``.

    A finished run is not repeated. What is asked of it besides (a merged adapter, an evaluation) is done with
    its last checkpoint.

    Args:
        overwrite: start again where an earlier run stands.
        tell: takes one line at a time.
        advance: is told each step.
        show: is told what the rows hold, before anything is trained.

    Raises:
        UserError: a setting, the model, the data or the output cannot be used; or ``output`` holds a run with
            other settings.
        RunError: the loss is no number any more, or memory or the disk is full.
    """
    with quiet():
        job = Finetuning(settings, output, show)
        return carry_out(job, output, overwrite=overwrite, tell=tell, advance=advance)


class Finetuning:
    """A job of training on texts; see :class:`weft.training.job.Job`."""

    command = "sft"
    said: tuple[Mapping[str, str], Mapping[str, str]] = (
        {ACCURACY: "token accuracy"},
        {f"eval_{ACCURACY}": "token accuracy"},
    )

    def __init__(
        self, settings: SftSettings, output: Path, show: Callable[[Survey], None] | None = None
    ) -> None:
        self._settings, self._show = settings, show
        self.args = made(SFTConfig, settings, output, {"max_length": None})
        self._ready: Prepared | None = None
        self._held_out: Prepared | None = None

    @property
    def settings(self) -> SftSettings:
        return self._settings

    @property
    def unit(self) -> str:
        packed = self._ready is not None and self._ready.survey.packed
        return "rows of texts" if packed else "texts"

    @property
    def inputs(self) -> Mapping[str, str | Sequence[str] | None]:
        evaluation = self._settings.evaluation
        return {
            "model": self._settings.model,
            "data": self._settings.data,
            "held-out data": evaluation[0] if evaluation else None,
        }

    def read(self, tell: Tell) -> Data:
        self._ready = prepared(self._settings)
        self._held_out = prepared(self._settings, held_out=True) if self._settings.evaluates else None
        held_out = None if self._held_out is None else self._held_out.facts
        return Data(" and ".join(self._settings.data), self._ready.facts, held_out)

    def trainer(self, settings: TrainingSettings, tell: Tell) -> Any:
        ready, held_out = self._ready, self._held_out
        assert ready is not None
        if self._show is not None and PartialState().is_main_process:
            self._show(ready.survey)
        if ready.survey.packed:
            lengths = [ready.survey.longest] + ([held_out.survey.longest] if held_out else [])
            self.args.packing, self.args.max_length = True, max(lengths)

        def make() -> Any:
            return TextTrainer(
                model_folder(settings.model),
                args=self.args,
                train_dataset=ready.rows,
                eval_dataset=None if held_out is None else held_out.rows,
                processing_class=ready.tokenizer,
                peft_config=lora(settings),
            )

        trainer = opened(make, settings, self.command)
        # DeepSpeed has taken the weights apart by now, so that no single process can be asked.
        asked = not is_flash(attention(self._settings)) and not trainer.is_deepspeed_enabled
        if ready.survey.packed and len(ready.rows) > 1 and asked:
            plain = trainer.accelerator.unwrap_model(trainer.model)
            check_apart(plain.get_base_model() if settings.lora_r else plain, ready.rows[:2]["input_ids"])
        return trainer

    def card(self, settings: TrainingSettings, figures: Mapping[str, float], created: str) -> str:
        assert self._ready is not None
        chosen = self._settings.model_copy(update={"merge_adapter": settings.merge_adapter})
        return card_text(Card(chosen, self._ready, figures, created))
