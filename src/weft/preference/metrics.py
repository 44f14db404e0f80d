"""What a step says of its pairs: reward accuracy and margin by prefix length, drift, lengths.

A reward here is TRL's: beta times the log-ratio of policy and reference, summed over response tokens (for
SimPO, the mean of beta times the log-probability). Its value over the first k tokens says how far the model
tells the pair apart before the rest is written.

Everything is detached and unweighted: a policy that weighs tokens changes the loss, not these.
``None`` means that it cannot be known (the reference's per-token values were cached as sums), and is not
logged. A pair whose two sides are the same tokens has no order to find: accuracies leave it out (NaN, here).

Shape suffixes: B pairs; R rows, the B chosen ones and then the B rejected ones; T positions of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PREFIXES: tuple[int | None, ...] = (8, 32, 128, None)
"""Tokens; ``None`` is all that there are."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of a batch's pairs over some of their tokens."""

    chosen_B: Tensor
    rejected_B: Tensor

    @property
    def accuracy(self) -> Tensor:
        """1 where the chosen response has the higher reward, else 0; ``[B]``."""
        return (self.chosen_B > self.rejected_B).float()

    @property
    def margin(self) -> Tensor:
        """The chosen response's reward less the rejected one's, ``[B]``."""
        return self.chosen_B - self.rejected_B


def prefix_rewards(
    scores_RT: Tensor, response_RT: Tensor, tokens: int | None, *, mean: bool = False
) -> Rewards:
    """Rewards over the first ``tokens`` response tokens; a shorter response counts with all it has.

    Args:
        scores_RT: the reward of each token.
        response_RT: not 0 at the response tokens.
        tokens: ``None`` for all of them.
        mean: the reward is the mean over these tokens, not the sum.
    """
    within_RT = first(response_RT, tokens)
    rewards_R = (scores_RT.float() * within_RT).sum(dim=1)
    if mean:
        rewards_R = rewards_R / within_RT.sum(dim=1).clamp(min=1)
    chosen_B, rejected_B = rewards_R.chunk(2)
    return Rewards(chosen_B, rejected_B)


def by_prefix(
    scores_RT: Tensor | None,
    response_RT: Tensor,
    prefixes: Sequence[int | None] = PREFIXES,
    *,
    mean: bool = False,
    ids_RT: Tensor | None = None,
) -> dict[str, Tensor | None]:
    """Accuracy and margin of each pair by prefix length, ``[B]`` each: ``rewards/accuracies@8``, ...

    Args:
        scores_RT: the reward of each token, or ``None`` where only sums are known.
        ids_RT: the tokens; with them, the accuracy of a pair that does not differ yet is NaN.
    """
    found: dict[str, Tensor | None] = {}
    for tokens in prefixes:
        at = "all" if tokens is None else str(tokens)
        rewards = None if scores_RT is None else prefix_rewards(scores_RT, response_RT, tokens, mean=mean)
        accuracy = None if rewards is None else rewards.accuracy
        if accuracy is not None and ids_RT is not None:
            accuracy = accuracy.masked_fill(same(ids_RT, first(response_RT, tokens)), float("nan"))
        found[f"rewards/accuracies@{at}"] = accuracy
        found[f"rewards/margins@{at}"] = None if rewards is None else rewards.margin
    return found


def first(response_RT: Tensor, tokens: int | None) -> Tensor:
    """Where the first ``tokens`` response tokens stand; all of them for ``None``."""
    within_RT = response_RT != 0
    return within_RT if tokens is None else within_RT & (within_RT.cumsum(dim=1) <= tokens)


def same(ids_RT: Tensor, weights_RT: Tensor) -> Tensor:
    """Which pairs have the same tokens with the same weights on both sides, up to the last that weighs.

    Args:
        weights_RT: 0 outside the responses.

    Returns:
        Booleans, ``[B]``.
    """
    seen_RT = (weights_RT != 0).flip(1).cumsum(dim=1).flip(1) > 0
    (ids, its_ids), (weights, its_weights), (seen, its_seen) = (
        values.chunk(2) for values in (ids_RT, weights_RT, seen_RT)
    )
    differs = (seen != its_seen) | (seen & ((ids != its_ids) | (weights != its_weights)))
    return ~differs.any(dim=1)


@dataclass(slots=True)
class Tally:
    """How many pairs each noted mean is of; TRL averages batches as if they were all alike.

    A mode is ``train`` or ``eval``; what was noted in one is gone once it was logged.
    """

    pairs: dict[str, list[int]] = field(default_factory=dict)
    """Of each batch, by mode."""
    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Pairs behind each mean, by mode and name."""

    def note(
        self,
        mode: str,
        metrics: dict[str, list[float]],
        values: Mapping[str, Tensor],
        gather: Callable[[Tensor], Tensor],
    ) -> None:
        """Append the means of one batch to ``metrics``; a name that no pair counts for gets none.

        Args:
            values: ``[B]`` each; NaN where a pair is left out.
        """
        # One exchange between processes, and one wait for the device, for all of them.
        table = gather(torch.stack([one.float() for one in values.values()], dim=1))
        sums, counts = torch.stack([table.nansum(dim=0), (~table.isnan()).sum(dim=0).float()]).tolist()
        for name, total, count in zip(values, sums, counts, strict=True):
            if count:
                metrics[name].append(total / count)
                self.counts.setdefault((mode, name), []).append(int(count))
            elif name in metrics and not metrics[name]:
                del metrics[name]  # TRL divides by the number of values
        self.pairs.setdefault(mode, []).append(table.size(0))

    def weigh(self, mode: str, metrics: dict[str, list[float]], *, every: bool) -> None:
        """Put one mean over pairs in place of the batches' means, and forget the batches.

        Args:
            every: weigh all; else only those for which pairs were left out.
        """
        pairs = self.pairs.pop(mode, [])
        for name, values in metrics.items():
            counts = self.counts.pop((mode, name), pairs)
            if len(values) == len(counts) and (every or counts != pairs):
                total = sum(count * value for count, value in zip(counts, values, strict=True))
                metrics[name] = [total / sum(counts)]


def drift(policy_B: Tensor, reference_B: Tensor, tokens_B: Tensor) -> Tensor:
    """How far a response's log-probability has moved from the reference, ``[B]`` in nats per token.

    Below 0 for chosen responses is the well-known sinking of both likelihoods.
    """
    return (policy_B - reference_B) / tokens_B.clamp(min=1)


def lengths(response_RT: Tensor) -> dict[str, Tensor]:
    """Response tokens that the loss sees, ``[B]`` for each side."""
    chosen_B, rejected_B = (response_RT != 0).sum(dim=1).float().chunk(2)
    return {"lengths/chosen": chosen_B, "lengths/rejected": rejected_B}


def bad_pairs(sums: Mapping[str, Tensor]) -> tuple[list[int], list[str]]:
    """Which pairs of the batch hold a number that is none, and which of the named sums hold it.

    Args:
        sums: ``[B]`` each.
    """
    bad_B = torch.stack([~torch.isfinite(values_B) for values_B in sums.values()]).any(dim=0)
    names = [name for name, values_B in sums.items() if not bool(torch.isfinite(values_B).all())]
    return bad_B.nonzero().flatten().tolist(), names
