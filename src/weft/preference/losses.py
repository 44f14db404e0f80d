"""Losses of ours, as pure functions of log-probabilities; TRL's own stay in TRL.

Shape suffixes: B pairs of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def simpo_loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    beta: float,
    gamma_beta_ratio: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """SimPO's objective for each pair, in nats (arXiv 2405.14734, eq. 6).

    ``-log sigmoid(beta * (chosen - rejected) - gamma)`` with ``gamma = gamma_beta_ratio * beta``.

    Args:
        chosen_B: mean log-probability per token of the chosen responses under the policy, in nats.
        rejected_B: the same of the rejected ones.
        label_smoothing: probability that a label is wrong, from 0 to below 0.5.
    """
    logits_B = beta * (chosen_B - rejected_B - gamma_beta_ratio)
    return -(1 - label_smoothing) * logsigmoid(logits_B) - label_smoothing * logsigmoid(-logits_B)


def mean_per_token(log_probs_RT: Tensor, weights_RT: Tensor) -> Tensor:
    """Sum of the log-probabilities over summed weights, ``[R]`` in nats; 0 for a response without weight.

    Args:
        log_probs_RT: already weighted; 0 outside the responses.
        weights_RT: of the same positions; 0 outside the responses.
    """
    return log_probs_RT.sum(dim=1) / weights_RT.sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
