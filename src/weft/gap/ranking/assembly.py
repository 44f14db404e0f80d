"""From the rows on disk to a :class:`weft.gap.ranking.result.RewardGap`.

Invariants
    - Everything comes from the rows and from what was known of the models: a run that was interrupted gives
      the same result as one that was not, as far as its rows are the same (:mod:`weft.gap.ranking.reading`).
    - A pair that is in no figure is counted by reason.

It opens no model and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weft
from weft.gap.made import Made
from weft.gap.ranking.claims import named
from weft.gap.ranking.consistency import consistency
from weft.gap.ranking.correlation import Points, correlate
from weft.gap.ranking.delta_q import delta_q
from weft.gap.ranking.drawing import drawn, drawn_texts
from weft.gap.ranking.judged import JUDGED, Judged, by_id
from weft.gap.ranking.pairs import PlainPairs, SpelledPair, SpelledPairs
from weft.gap.ranking.positions import positions
from weft.gap.ranking.reading import PAIR_READINGS, PairStatus
from weft.gap.ranking.result import ImplicitReward, PolicyGap, RewardGap
from weft.gap.ranking.rewards import (
    ReadPair,
    ReadRow,
    RewardKind,
    as_arrays,
    correct,
    implicit_reward,
    joined,
)
from weft.gap.ranking.settings import RewardGapSettings
from weft.gap.ranking.words import said
from weft.records import Sampling
from weft.store import read_rows, rejected_path
from weft.store.files import file_digest
from weft.store.manifest import utc_now

KINDS: tuple[RewardKind, ...] = ("dpo", "simpo")


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a model after it was closed."""

    name: str
    spelled: SpelledPairs
    vocabulary: str
    """Its fingerprint."""
    facts: Mapping[str, Any]
    continued: tuple[SpelledPair, ...]
    """Pairs whose prefixes are continued, and whose prompts are answered."""
    grid: tuple[Sampling, ...]
    """Ways of drawing; the first is the policy's own."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows are."""

    pairs: Path
    texts: Path

    def readings(self, model: str) -> dict[int, ReadRow]:
        """A model's complete readings, by row of the data set."""
        rows = read_rows(PAIR_READINGS, self.pairs)
        return {one.row: as_arrays(one) for one in rows if one.model == model}

    def failed(self, model: str) -> dict[int, PairStatus]:
        """How its others ended."""
        path = rejected_path(self.pairs)
        rows = read_rows(PAIR_READINGS, path) if path.exists() else ()
        return {one.row: one.status for one in rows if one.model == model}

    def judged(self, policy: str) -> dict[str, Judged]:
        """A policy's complete texts, by their ids."""
        return by_id(text for text in read_rows(JUDGED, self.texts) if text.policy == policy)


def assemble(
    settings: RewardGapSettings,
    plain: PlainPairs,
    known: Mapping[str, Known],
    rows: Rows,
    *,
    quality: Mapping[str, Any] | None,
    command: Sequence[str] = (),
) -> RewardGap:
    """All figures.

    Args:
        known: all models, by name.
        quality: what it says of itself, where there is one.
        command: the command line's arguments.
    """
    found = _Assembly(settings, plain, known, rows)
    points: dict[RewardKind, dict[str, Points]] = {kind: {} for kind in KINDS}
    told: Counter[bool] = Counter()
    policies = [found.policy(known[model.name], points, told) for model in settings.policies]
    correlated = (correlate(kind, points[kind], seed=settings.seed) for kind in KINDS)
    correlations = tuple(one for one in correlated if one is not None)
    reference = settings.reference is not None
    sentences = said(policies, correlations, reference=reference, quality=settings.quality is not None)
    return RewardGap(
        pairs=plain.name,
        reference=None if settings.reference is None else settings.reference.name,
        quality=settings.quality,
        policies=tuple(policies),
        correlations=correlations,
        said=(*found.strangers(policies), *untold(told), *sentences),
        made=found.made(quality, tuple(command)),
    )


def untold(told: Mapping[bool, int]) -> list[str]:
    """Of how many texts there is no quality: figures leave them out, and may be of easier ones."""
    missing, texts = told.get(False, 0), sum(told.values())
    if not missing:
        return []
    if missing == texts:
        return [f"The quality could not be told of any of {texts:,} texts: no verdict on them, or no answer."]
    share = f"{missing / texts:.1%}"
    return [
        f"The quality could not be told of {missing:,} of {texts:,} texts ({share}), which figures leave out."
    ]


@dataclass(frozen=True, slots=True)
class _Assembly:
    settings: RewardGapSettings
    plain: PlainPairs
    known: Mapping[str, Known]
    rows: Rows

    def policy(
        self, known: Known, points: Mapping[RewardKind, dict[str, Points]], told: Counter[bool]
    ) -> PolicyGap:
        """One policy's figures; what correlates goes to ``points``, and to ``told`` of how many texts the
        quality could be told, and of how many not."""
        settings, name, seed = self.settings, known.name, self.settings.seed
        readings = self.rows.readings(name)
        pairs = joined(known.spelled.pairs, readings, self._reference(known))
        judged = settings.quality is not None
        texts = self.rows.judged(name) if judged else {}
        told.update(text.quality is not None for text in texts.values())
        continued, samples = known.continued, settings.continuations
        at = settings.prefixes_at if judged and samples else ()
        cuts = settings.prefix_policies
        for kind in KINDS:
            points[kind][name] = self._points(kind, known, pairs, texts)
        return PolicyGap(
            name=name,
            pairs=len(pairs),
            prompts=len({pair.prompt for pair in pairs}),
            left_out=self._left_out(known, readings),
            positions=positions(pairs, seed=seed),
            rewards=self._rewards(pairs),
            delta_q=delta_q(name, continued, texts, at, samples, seed=seed),
            consistency=consistency(name, continued, texts, cuts, samples, seed=seed) if judged else (),
            drawn=drawn(name, continued, texts, known.grid, settings.draws, seed=seed)
            if judged and settings.draws
            else (),
        )

    def strangers(self, policies: Sequence[PolicyGap]) -> list[str]:
        """Of which policies DPO's reward is not known though there is a reference, and why."""
        if self.settings.reference is None:
            return []
        name = self.settings.reference.name
        whose: dict[str, list[str]] = {}
        for policy in policies:
            if any(reward.kind == "dpo" for reward in policy.rewards):
                continue
            if policy.name == name:
                why = "it is the reference, for which that is 0"
            elif self.known[policy.name].vocabulary != self.known[name].vocabulary:
                why = f"the reference {name} has another vocabulary"
            else:
                why = f"the reference {name} has read none of its pairs in the same tokens"
            whose.setdefault(why, []).append(policy.name)
        return [f"{named(names)}: no DPO reward; {why}." for why, names in whose.items()]

    def made(self, quality: Mapping[str, Any] | None, command: tuple[str, ...]) -> Made:
        path = Path(self.plain.name)
        deciding = {
            **self.settings.deciding(),
            "rows": self.plain.rows,
            "drawn": self.plain.drawn,
            "engines": {name: dict(known.facts) for name, known in self.known.items()},
            "judge": None if quality is None else dict(quality),
        }
        digest = file_digest(path) if path.is_file() else self.plain.sha256
        return Made(weft.__version__, utc_now(), command, deciding, {self.plain.name: digest})

    def _rewards(self, pairs: Sequence[ReadPair]) -> tuple[ImplicitReward, ...]:
        settings = self.settings
        betas: dict[RewardKind, float] = {"dpo": settings.beta, "simpo": settings.simpo_beta}
        found = (
            implicit_reward(kind, pairs, beta=beta, policies=settings.prefix_policies, seed=settings.seed)
            for kind, beta in betas.items()
        )
        return tuple(one for one in found if one is not None)

    def _points(
        self, kind: RewardKind, known: Known, pairs: Sequence[ReadPair], texts: Mapping[str, Judged]
    ) -> Points:
        right = ((pair.prompt, correct(kind, pair)) for pair in pairs)
        own = drawn_texts(known.name, known.continued, texts, known.grid[0], self.settings.draws)
        return Points(
            [(prompt, value) for prompt, value in right if value is not None],
            [(text.prompt, text.quality) for text in own if text.quality is not None],
        )

    def _reference(self, known: Known) -> dict[int, ReadRow]:
        """What the reference thinks of the pairs, if it is another model with the policy's vocabulary."""
        if self.settings.reference is None or self.settings.reference.name == known.name:
            return {}
        reference = self.known[self.settings.reference.name]
        same = reference.vocabulary == known.vocabulary
        return self.rows.readings(reference.name) if same else {}

    def _left_out(self, known: Known, readings: Mapping[int, ReadRow]) -> dict[str, int]:
        """Pairs of the draw that are in no figure, by reason."""
        left_out = Counter({reason.value: count for reason, count in known.spelled.left_out.items()})
        failed = self.rows.failed(known.name)
        for pair in known.spelled.pairs:
            if pair.row not in readings and pair.row in failed:
                left_out[failed[pair.row].value.replace("_", " ")] += 1
        return dict(left_out)
