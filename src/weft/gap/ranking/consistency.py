"""Label consistency: how often the preference still holds after a prefix policy's cut.

A pair's label *holds* if the chosen side's cut text is the better one::

    continued    by the mean quality of what the policy writes on from each cut
    as it is     by the quality of the cut texts themselves

A response that the cut leaves whole is judged as it is either way. Inside thinking there is no response yet:
as it is, such a cut is worth what an empty response is. Equal qualities count half, and are counted.
``none`` cuts nothing: its figure says how far the judge agrees with the labels at all, which no cut can be
blamed for.

POET (arXiv 2506.09457) reports 91.4 to 98.5% for its equal-length cut: the share of pairs whose cut
responses are still in the label's order by a Q that it has from an oracle model. Here Q is the user's judge
over the measured policy's continuations, so figures compare among prefix policies of one run, not with the
paper's. Few samples make noise, and noise pulls the share towards one half.

Policies that weigh tokens cut nothing: whether the label holds is not measured for them, only how many tokens
keep any weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from weft.errors import UserError
from weft.gap.ranking.judged import SIDES, Job, Judged, mean_quality, side_jobs
from weft.gap.ranking.pairs import SpelledPair
from weft.gap.ranking.result import LabelConsistency
from weft.intervals import NOT_MEASURED, Figure, by_group, ratio, resample
from weft.preference.policies import Cut, Pair, PrefixPolicy, Weighing, Whole

CONTINUED, AS_IT_IS = "continued", "as it is"


def consistency_jobs(
    pairs: Sequence[SpelledPair], policies: Sequence[PrefixPolicy], samples: int
) -> Iterator[Job]:
    """The texts that label consistency needs.

    Args:
        samples: continuations of each cut; 0: it is judged as it is.

    Raises:
        UserError: one of the policies finds its cuts by a judge of its own.
    """
    for policy in policies:
        if isinstance(policy, Weighing):
            continue
        for pair in pairs:
            for side, tokens in zip(SIDES, kept_tokens(policy, pair), strict=True):
                yield from side_jobs(pair, side, tokens, samples)


def consistency(
    policy: str,
    pairs: Sequence[SpelledPair],
    found: Mapping[str, Judged],
    policies: Sequence[PrefixPolicy],
    samples: int,
    *,
    seed: int = 0,
) -> tuple[LabelConsistency, ...]:
    """How often labels hold after each policy's cut; intervals over prompts, ``n`` pairs.

    Pairs with a side of which no text could be judged are left out of ``holds`` and ``ties``.

    Args:
        policy: the model that wrote the texts, by its name.
        found: judged texts by their ids (:func:`weft.gap.ranking.judged.by_id`).
        policies: prefix policies.
        samples: as for :func:`consistency_jobs`.
        seed: of the intervals.
    """
    results = []
    for cut in policies:
        holds = ties = NOT_MEASURED
        if not isinstance(cut, Weighing):
            holds, ties = _holding(policy, pairs, found, cut, samples, seed)
        # Whole responses are judged as they are, whatever was asked for.
        how = CONTINUED if samples and not isinstance(cut, Whole) else AS_IT_IS
        results.append(LabelConsistency(cut.spec, how, holds, ties, _kept(pairs, cut, seed)))
    return tuple(results)


def kept_tokens(policy: PrefixPolicy, pair: SpelledPair) -> tuple[int, int]:
    """How many tokens of chosen and rejected the policy keeps; of a weighing one, how many weigh anything.

    Raises:
        UserError: it finds its cuts by a judge of its own.
    """
    spelled = Pair(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)
    if isinstance(policy, Cut):
        return policy.lengths(spelled)
    if isinstance(policy, Whole):
        return len(spelled.chosen), len(spelled.rejected)
    if isinstance(policy, Weighing):
        chosen, rejected = policy.weights(spelled)
        return sum(weight > 0 for weight in chosen), sum(weight > 0 for weight in rejected)
    raise UserError(
        f"the prefix policy {policy.spec!r} cuts where a judge of prefixes agrees with the label, so its own "
        "label consistency says nothing",
        expected="a policy whose cut is known beforehand",
        remedy="leave it out; `equal-length` is what it starts from",
    )


def _holding(
    policy: str,
    pairs: Sequence[SpelledPair],
    found: Mapping[str, Judged],
    cut: PrefixPolicy,
    samples: int,
    seed: int,
) -> tuple[Figure, Figure]:
    """The shares of pairs whose label holds, ties by half, and that are tied."""
    groups: list[str] = []
    rows: list[tuple[float, float, float]] = []
    for pair in pairs:
        chosen, rejected = (
            mean_quality(policy, side_jobs(pair, side, tokens, samples), found)
            for side, tokens in zip(SIDES, kept_tokens(cut, pair), strict=True)
        )
        if chosen is not None and rejected is not None:
            groups.append(pair.prompt_id)
            rows.append((chosen > rejected, chosen == rejected, 1.0))
    if not rows:
        return NOT_MEASURED, NOT_MEASURED
    drawn = resample(by_group(groups, rows), seed=seed)
    return (
        drawn.figure(ratio((1, 0.5, 0), (0, 0, 1)), len(rows)),
        drawn.figure(ratio((0, 1, 0), (0, 0, 1)), len(rows)),
    )


def _kept(pairs: Sequence[SpelledPair], policy: PrefixPolicy, seed: int) -> Figure:
    """The share of all response tokens that the policy keeps."""
    if not pairs:
        return NOT_MEASURED
    rows = [(sum(kept_tokens(policy, pair)), len(pair.chosen_ids) + len(pair.rejected_ids)) for pair in pairs]
    drawn = resample(by_group([pair.prompt_id for pair in pairs], rows), seed=seed)
    return drawn.figure(ratio((1, 0), (0, 1)), len(pairs))
