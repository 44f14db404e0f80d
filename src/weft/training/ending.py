"""A trainer that knows when it is at its end."""

from __future__ import annotations

from typing import Any


class EndsOnce:
    """To be put before a class of transformers' trainers.

    A run that is resumed at its last step would take one more.
    """

    state: Any
    control: Any

    def _run_epoch(self, *args: Any, **named: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **named)  # type: ignore[misc]
