"""Stages that train a model: ``sft`` and ``align``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from weft.finetuning.settings import SftSettings
from weft.preference.recipe import AlignSettings
from weft.recipes.kinds.base import MODELS, PAIRS, TRACES, Estimate, FolderKind, Known, Screen

IDLE = frozenset({"report_to", "run_name", "logging_steps", "save_steps", "save_total_limit"})


class _Align(FolderKind):
    def run(self, settings: AlignSettings, output: Path, screen: Screen) -> None:
        from weft.preference.align import align

        with screen.steps() as advance:
            align(settings, output, tell=screen.say, advance=advance)

    def estimate(self, settings: AlignSettings, output: Path, known: Known) -> Estimate:
        rows = known.rows(settings.data, split=settings.split, limit=settings.limit)
        return training(settings, rows, None, "pairs")


class _Sft(FolderKind):
    def run(self, settings: SftSettings, output: Path, screen: Screen) -> None:
        from weft.finetuning.sft import sft

        with screen.steps() as advance:
            sft(settings, output, tell=screen.say, advance=advance)

    def estimate(self, settings: SftSettings, output: Path, known: Known) -> Estimate:
        counts = [known.rows(name, split=settings.split) for name in settings.data]
        there = [count for count in counts if count is not None]
        rows = sum(there) if len(there) == len(counts) else None
        if settings.limit is not None:
            rows = settings.limit if rows is None else min(rows, settings.limit)
        tokens = [known.tokens_of(name) for name in settings.data]
        whole = None if None in tokens or settings.limit is not None else sum(one or 0 for one in tokens)
        return training(settings, rows, whole, "texts")


def training(settings: Any, rows: int | None, tokens: int | None, what: str) -> Estimate:
    """Steps and tokens of a run of TRL's on one process.

    Args:
        tokens: in all rows, once; ``None``: not known.
    """
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    if settings.max_steps > 0:
        return Estimate(steps=settings.max_steps, training_tokens=None, how=f"{batch:,} {what} a step")
    if rows is None:
        return Estimate(steps=None, training_tokens=None, how=f"the number of {what} is not known here")
    epochs = settings.num_train_epochs
    return Estimate(
        steps=math.ceil(math.ceil(rows / batch) * epochs),
        training_tokens=None if tokens is None else round(tokens * epochs),
        how=f"{rows:,} {what} at most, {batch:,} a step on one process, {epochs:g} epochs",
    )


INPUTS = frozenset({"model", "data", "eval_data"})
ALIGN = _Align(
    "align", AlignSettings, INPUTS, IDLE, takes={"model": MODELS, "data": PAIRS, "eval_data": PAIRS}
)
SFT = _Sft("sft", SftSettings, INPUTS, IDLE, takes={"model": MODELS, "data": TRACES, "eval_data": TRACES})
