"""What a run says while it trains: one line each time that something is logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

Tell = Callable[[str], None]
"""Takes one line."""
Advance = Callable[[int, int], None]
"""Steps done, and steps in all."""


class Voice(TrainerCallback):  # type: ignore[misc]
    """The lines to ``tell``, and the steps to whoever counts them."""

    def __init__(
        self, tell: Tell, advance: Advance | None, trained: Mapping[str, str], held_out: Mapping[str, str]
    ) -> None:
        """``trained`` and ``held_out``: figures that are said besides the loss, and what they are called."""
        self._tell, self._advance = tell, advance
        self._trained, self._held_out = trained, held_out

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last step's figures are the run's
        if self._advance:
            self._advance(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        logs = logs or {}
        at = f"step {state.global_step:,} of {state.max_steps:,}"
        if "loss" in logs:
            self._tell(f"{at}: loss {float(logs['loss']):.4f}{_shown(logs, self._trained)}")
        elif "eval_loss" in logs:
            self._tell(f"{at}: held out {float(logs['eval_loss']):.4f}{_shown(logs, self._held_out)}")


def _shown(logs: Mapping[str, Any], named: Mapping[str, str]) -> str:
    known = {label: float(logs[name]) for name, label in named.items() if logs.get(name) is not None}
    return "".join(f", {label} {value:.3f}" for label, value in known.items() if math.isfinite(value))


def silent(_: str) -> None: ...
