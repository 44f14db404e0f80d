"""Short fine-tuning runs for the tests, on the micro student and traces of several lengths."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from gap_world import STUDENT, TEACHER, trace_of, write_traces
from weft.finetuning.settings import SftSettings
from weft.records import Span, Trace


def traces(number: int = 12, seed: int = 0) -> list[Trace]:
    """Both authors write in each, and none is as long as the next."""
    rng = Random(seed)
    found = []
    for at in range(number):
        steps = [
            Span(author, text)
            for one in range(1 + 3 * (at % 4))
            for author, text in ((STUDENT, " okay , so"), (TEACHER, f" {rng.randint(1, 9)} + {one} is {at}"))
        ]
        thinking = (Span(STUDENT, steps[0].text.lstrip()), *steps[1:])
        found.append(trace_of(10 + at, thinking, f"the answer is {at} ."))
    return found


def run_settings(folder: Path, **other: Any) -> SftSettings:
    """Four steps of four texts on a processor, a checkpoint each two."""
    values = {
        "model": "micro:student",
        "data": write_traces(folder / "traces.jsonl", traces()),
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "gradient_checkpointing": False,
        "report_to": "none",
        "trl": {"use_cpu": True},
        **other,
    }
    return SftSettings(**values)
