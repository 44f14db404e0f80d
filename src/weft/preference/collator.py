"""TRL's collator of preference pairs, and what prefix policies add to its batch.

With weights in the rows: ``completion_mask`` holds the weights in place of ones (so that TRL's losses that
divide by length divide by their sum), ``token_weights`` the same for the forward, and ``response_mask`` the
tokens to score, those of weight 0 among them. Without weights the batch is TRL's, and the number of each row.

Shape suffixes: B pairs; R rows, the B chosen ones and then the B rejected ones; T positions, padded on the
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.dpo_trainer import DataCollatorForPreference

from weft.preference.applying import ROW, Apply
from weft.preference.policies import PrefixPolicy, at_epoch

SFT = "sft_"
"""What the keys of the likelihood term's batch begin with."""


@dataclass
class Draw:
    """Applies a policy that draws anew in every epoch to the rows of a batch."""

    policy: PrefixPolicy
    max_length: int | None
    keeps_uncut: bool
    epoch: Tensor
    """In shared memory: workers that read ahead see it as well. ``[1]``"""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        policy = at_epoch(self.policy, int(self.epoch))
        return row | Apply(policy, self.max_length, keeps_uncut=self.keeps_uncut)(row)


@dataclass
class Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the collator, wherever its copies are, which epoch begins.

    Epochs are counted as they begin: of a stream nobody knows the length, and transformers' own number then
    says how much of the run is done.
    """

    epoch: Tensor = field()
    _begun: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        reached = int((state.epoch or 0) + 1e-6)
        self._begun = reached if self._begun is None else self._begun + 1
        self.epoch.fill_(self._begun)


@dataclass
class PrefixCollator(DataCollatorForPreference):  # type: ignore[misc]
    """Rows as ``rows.py`` prepared them -> a batch."""

    draw: Draw | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        if self.draw is not None and "chosen_weights" not in examples[0]:
            examples = [self.draw(example) for example in examples]
        batch: dict[str, Any] = super().torch_call(examples)
        if "chosen_weights" in examples[0]:
            batch |= self._weighed(examples, batch["completion_mask"])
        if "chosen_uncut_ids" in examples[0]:
            batch |= self._likelihood(examples)
        if ROW in examples[0]:
            batch[ROW] = torch.tensor([example[ROW] for example in examples])
        return batch

    def _weighed(self, examples: Sequence[dict[str, Any]], response_RT: Tensor) -> dict[str, Tensor]:
        weights_RT = torch.zeros(response_RT.shape)
        sides = [(one, one["chosen_weights"]) for one in examples]
        sides += [(one, one["rejected_weights"]) for one in examples]
        for row, (example, weights) in enumerate(sides):
            start = len(example["prompt_ids"])
            weights_RT[row, start : start + len(weights)] = torch.tensor(weights)
        is_mask = bool(((weights_RT == 0) | (weights_RT == 1)).all())
        return {
            "completion_mask": weights_RT.long() if is_mask else weights_RT,
            "token_weights": weights_RT,
            "response_mask": response_RT,
        }

    def _likelihood(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The chosen responses before the cut, padded by TRL's collator, which wants pairs."""
        rows = [
            {
                "prompt_ids": one["prompt_ids"],
                "chosen_ids": one["chosen_uncut_ids"],
                "rejected_ids": [],
            }
            for one in examples
        ]
        pairs = super().torch_call(rows)
        names = ("input_ids", "attention_mask", "completion_mask")
        return {SFT + name: pairs[name].chunk(2)[0] for name in names}
