"""What to do with a source, in words: train on it, mix it, or synthesise anew; and which traces stand out.

What decides is how much more a token of the source surprises the student than one of its own texts does. The
first of these that was measured is taken; differences are by prompt, and every prompt weighs the same:

1. surprise beyond what the student expects (``excess_nll_per_token``), less that of its own traces;
2. surprise (``nll_per_token``), less that of its own traces of the same prompts;
3. surprise beyond what the student expects, by itself: 0 for text that it would draw at temperature 1.

The first is preferred to the second since hard prompts surprise in anybody's words, and to the third since
the student's own traces are drawn colder than at temperature 1.

It does not know whether a source is right or worth learning: text that only repeats itself is near to any
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from weft.gap.distance.likelihood import ByPrompt, paired
from weft.gap.distance.result import Advice, Outlier, Verdict
from weft.intervals import NOT_MEASURED, Figure

TRAIN_UP_TO = 0.1
"""Nats per token. Provisional, from the micro world, where no training was measured: cooperation lies there
less than 0.05 from the student's own traces, whole traces of the teacher 0.5 to 0.7 above. Twice 0.05."""
MIX_UP_TO = 0.2
"""Nats per token. Provisional: what an equal number of the student's own traces brings down to
:data:`TRAIN_UP_TO`. Half teacher and half student lies 0.3 to 0.4 above in the micro world; such a mix hurt
in TESSY's Table 1."""
OUTLIER_Z = 3.5
"""Robust standard deviations above the median (Iglewicz and Hoaglin 1993)."""
MOST_OUTLIERS = 20
MANY_UNREAD = 0.1
"""Share of texts that could not be read from which on the verdict says so."""

EXCESS_OVER_REFERENCE = "excess_nll_per_token less the reference's"
NLL_OVER_REFERENCE = "nll_per_token less the reference's"
EXCESS = "excess_nll_per_token"

_DO = {
    Advice.TRAIN: "Train on it as it is",
    Advice.MIX: "Mix it with the student's own traces",
    Advice.SYNTHESISE: "Synthesise it anew, by cooperation",
}
_OWN = "less that of the student's own traces of the same {n:,} prompt{s}, prompt by prompt"
_SURPRISE = {
    EXCESS_OVER_REFERENCE: f"its surprise beyond what the student expects, {_OWN}, is",
    NLL_OVER_REFERENCE: f"its surprise, {_OWN}, is",
    EXCESS: "its surprise beyond what the student expects, over {n:,} prompt{s}, is",
}


def verdict(
    source: ByPrompt,
    excess: Figure,
    reference: ByPrompt | None,
    outliers: tuple[Outlier, ...],
    *,
    unread: int = 0,
    texts: int = 0,
    seed: int = 0,
    resamples: int = 1000,
) -> Verdict:
    """What the figures say of one source.

    Args:
        source: its surprise by prompt.
        excess: of all of its tokens.
        reference: the surprise of the student's own traces, if there are any.
        unread: texts that the student could not read, of which the figures say nothing.
        texts: those that it read.
    """
    candidates = [(EXCESS, excess)]
    if reference is not None:
        pairs = (
            (EXCESS_OVER_REFERENCE, source.excess, reference.excess),
            (NLL_OVER_REFERENCE, source.nll, reference.nll),
        )
        candidates = [
            *((name, paired(ours, own, seed=seed, resamples=resamples)) for name, ours, own in pairs),
            *candidates,
        ]
    for measure, figure in candidates:
        if figure.value is not None:
            found = _decided(measure, figure, figure.value, outliers)
            return replace(found, said=f"{found.said} {_unread(unread, texts)}".rstrip())
    return unknown("Nothing was measured that would tell what to do with it.", outliers)


def unknown(said: str, outliers: tuple[Outlier, ...]) -> Verdict:
    """No advice, and why."""
    return Verdict(Advice.UNKNOWN, said, "", {}, True, outliers, NOT_MEASURED)


def outlying(ids: Sequence[str], nll_per_token: NDArray[np.float64]) -> tuple[Outlier, ...]:
    """Texts far more surprising than the others of their source, the farthest first.

    None where at least half of all texts are equally surprising: there is no scale to measure by.

    Args:
        nll_per_token: of each text, in nats; not a number where it has no tokens. ``[texts]``
    """
    known = nll_per_token[np.isfinite(nll_per_token)]
    if not len(known):
        return ()
    median = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - median))
    if not spread:
        return ()
    zs = (nll_per_token - median) / spread
    far = [(float(zs[at]), at) for at in np.flatnonzero(zs >= OUTLIER_Z).tolist()]
    far.sort(key=lambda found: (-found[0], ids[found[1]]))
    return tuple(Outlier(ids[at], float(nll_per_token[at]), z) for z, at in far[:MOST_OUTLIERS])


def _decided(measure: str, figure: Figure, value: float, outliers: tuple[Outlier, ...]) -> Verdict:
    advice = Advice.SYNTHESISE
    if value <= MIX_UP_TO:
        advice = Advice.TRAIN if value <= TRAIN_UP_TO else Advice.MIX
    what = _SURPRISE[measure].format(n=figure.n, s="" if figure.n == 1 else "s")
    said = f"{_DO[advice]}: {what} {figure.shown()} nats per token. {_doubt(figure)}".rstrip()
    thresholds: Mapping[str, float] = {Advice.TRAIN.value: TRAIN_UP_TO, Advice.MIX.value: MIX_UP_TO}
    return Verdict(advice, said, measure, thresholds, True, outliers, figure)


def _unread(unread: int, texts: int) -> str:
    """How few texts it is of, if that matters: those that are not read are often the strangest."""
    if unread < MANY_UNREAD * (unread + texts) or not unread:
        return ""
    return f"It is of {texts:,} of {unread + texts:,} texts: the student could not read the others."


def _doubt(figure: Figure) -> str:
    """What the interval leaves open; empty if nothing."""
    if figure.low is None or figure.high is None:
        return "With one prompt nothing is known of the spread."
    crossed = [limit for limit in (TRAIN_UP_TO, MIX_UP_TO) if figure.low <= limit < figure.high]
    if not crossed:
        return ""
    limits = " and ".join(f"{limit:g}" for limit in crossed)
    return f"The interval reaches across {limits}: more prompts may change the advice."
