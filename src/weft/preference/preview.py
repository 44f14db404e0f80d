"""What a prefix policy does to pairs, before anything is trained: what goes, what stays, where it may hurt.

Numbers are of the pairs as a trainer would take them: cut by ``rows.Apply``, the same that cuts for training.

Invariants
    - All figures are counted over all pairs; only positions are an estimate, from batches drawn by a seed.
    - What is not known is ``None``, never 0.

It does not know whether a label still holds after the cut; only a judge of prefixes can say that. The
warnings are rules of thumb that were not measured, and say so.

Lengths are in tokens of the model that is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.preference.packing import Run, apart, run
from weft.preference.policies import PrefixPolicy, Whole

if TYPE_CHECKING:
    from rich.console import RenderableType

LATE_PART = 0.75
"""A difference is late if it first comes in the last quarter of the shorter response."""
LATE_SHARE = 0.25
"""That in more than this part of the pairs is a warning."""
LOST_SHARE = 0.05
"""A pair in twenty that loses every difference is a warning, too."""
TAIL_PART = 0.5
"""No warning follows from long tails: pairs of very unequal lengths are where POET helped in its paper."""
BATCHES = 256
"""Batches at most that the estimate of positions is drawn from."""
ROW = 512
"""Tokens of a packed row in that estimate."""


@dataclass(frozen=True, slots=True)
class PairLengths:
    """One pair: tokens before and after the policy."""

    prompt: int
    chosen: int
    rejected: int
    chosen_kept: int
    """Tokens that weigh more than 0."""
    rejected_kept: int
    chosen_run: int
    """Tokens that go through the model: those of weight 0 go, too."""
    rejected_run: int
    differs_at: int | None
    """Where the whole responses first differ, from 0; ``None``: nowhere."""
    same: bool
    """No differing token is left after the policy."""

    @property
    def shorter(self) -> int:
        return min(self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Spread:
    """Tokens: median and 90th percentile."""

    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Positions:
    """Tokens that policy or reference compute in one epoch, estimated."""

    whole: int
    """Whole responses, rows padded to the longest of their batch: TRL's way."""
    cut: int
    """After the policy, padded."""
    packed: int
    """After the policy, prompts shared and pairs packed."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a policy does to one data set."""

    policy: str
    pairs: int
    """That came in."""
    kept: int
    """That are left to train on."""
    dropped_empty: int
    dropped_too_long: int
    """The prompt alone fills ``max_length``."""
    dropped_same: int
    """Both responses are the same from the start."""
    dropped_cut: int
    """They differ, but not in what is left after the policy and ``max_length``."""
    tokens: tuple[int, int]
    """Response tokens of the pairs that are left, before and after."""
    prompt: Spread
    chosen: tuple[Spread, Spread]
    """Before and after."""
    rejected: tuple[Spread, Spread]
    chosen_longer: float
    """Share of the pairs whose chosen response is the longer one."""
    first_difference: Spread
    """Response tokens before the two differ."""
    late: float
    """Share of the pairs that first differ in the last quarter of the shorter response, or after it."""
    long_tails: float
    """Share of the pairs that lose more than half of their longer response."""
    positions: Positions
    label_consistency: float | None
    """How often the preference still holds after the cut; ``None``: no judge was asked."""
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measured(row: Mapping[str, Any], applied: Mapping[str, Any]) -> PairLengths:
    """The lengths of one pair.

    Args:
        row: its ids, before the policy.
        applied: what ``rows.Apply`` made of it.
    """
    chosen, rejected = row["chosen_ids"], row["rejected_ids"]
    return PairLengths(
        prompt=len(row["prompt_ids"]),
        chosen=len(chosen),
        rejected=len(rejected),
        chosen_kept=applied["chosen_kept"],
        rejected_kept=applied["rejected_kept"],
        chosen_run=len(applied["chosen_ids"]),
        rejected_run=len(applied["rejected_ids"]),
        differs_at=first_difference(chosen, rejected),
        same=applied["weft_same"],
    )


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place at which two lists differ; ``None`` if they are equal."""
    if one == other:
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def preview(
    pairs: Iterable[PairLengths],
    policy: PrefixPolicy,
    *,
    batch: int,
    empty: int = 0,
    too_long: int = 0,
    max_length: int | None = None,
    seed: int = 0,
) -> Preview:
    """What ``policy`` does to pairs.

    Args:
        batch: pairs in a batch of one device.
        empty: pairs that were dropped before, for a response without text.
        too_long: pairs that were dropped before, whose prompt fills ``max_length``.
        seed: draws the batches for the estimate.

    Raises:
        ValueError: no pair is left.
    """
    every = list(pairs)
    left = [pair for pair in every if not pair.same] if not isinstance(policy, Whole) else every
    if not left:
        raise ValueError("no pair is left")
    gone = [pair for pair in every if pair.same]
    cut_away = [pair for pair in gone if pair.differs_at is not None] if left is not every else []
    found = Preview(
        policy=policy.spec,
        pairs=len(every) + empty + too_long,
        kept=len(left),
        dropped_empty=empty,
        dropped_too_long=too_long,
        dropped_same=len(gone) - len(cut_away) if left is not every else 0,
        dropped_cut=len(cut_away),
        tokens=(
            sum(pair.chosen + pair.rejected for pair in left),
            sum(pair.chosen_kept + pair.rejected_kept for pair in left),
        ),
        prompt=_spread([pair.prompt for pair in left]),
        chosen=(_spread([pair.chosen for pair in left]), _spread([pair.chosen_kept for pair in left])),
        rejected=(
            _spread([pair.rejected for pair in left]),
            _spread([pair.rejected_kept for pair in left]),
        ),
        chosen_longer=_share(pair.chosen > pair.rejected for pair in left),
        first_difference=_spread(
            [pair.shorter if pair.differs_at is None else pair.differs_at for pair in left]
        ),
        late=_share(_is_late(pair) for pair in [*left, *cut_away]),
        long_tails=_share(_loses_most(pair) for pair in left),
        positions=positions(left, batch=batch, max_length=max_length, seed=seed),
        label_consistency=None,
        warnings=(),
    )
    return _with_warnings(found) if not isinstance(policy, Whole) else found


def positions(
    pairs: Sequence[PairLengths], *, batch: int, max_length: int | None = None, seed: int = 0
) -> Positions:
    """Positions of one epoch, from random batches: the part of the last, smaller batch is left out."""
    order = list(pairs)
    Random(seed).shuffle(order)
    batch = min(batch, len(order))
    taken = order[: batch * min(BATCHES, len(order) // batch)]
    whole = cut = packed = 0
    for start in range(0, len(taken), batch):
        part = taken[start : start + batch]
        whole += _padded(part, [max(pair.chosen, pair.rejected) for pair in part], max_length)
        cut += _padded(part, [max(pair.chosen_run, pair.rejected_run) for pair in part], max_length)
        packed += sum(row.positions for row in apart([_run(pair).tokens for pair in part], ROW))
    scale = len(order) / len(taken)
    return Positions(round(whole * scale), round(cut * scale), round(packed * scale))


def _padded(part: Sequence[PairLengths], responses: Sequence[int], max_length: int | None) -> int:
    widest = max(pair.prompt + tokens for pair, tokens in zip(part, responses, strict=True))
    return 2 * len(part) * (widest if max_length is None else min(widest, max_length))


def _run(pair: PairLengths) -> Run:
    """What a pair takes when its common beginning stands once; its last tokens predict nothing."""
    chosen, rejected = (pair.prompt + tokens - 1 for tokens in (pair.chosen_run, pair.rejected_run))
    differs = pair.shorter if pair.differs_at is None else pair.differs_at
    return run(pair.prompt + differs, max(chosen, pair.prompt), max(rejected, pair.prompt))


def _is_late(pair: PairLengths) -> bool:
    return pair.differs_at is not None and pair.differs_at >= LATE_PART * pair.shorter


def _loses_most(pair: PairLengths) -> bool:
    lost = [(pair.chosen, pair.chosen_kept), (pair.rejected, pair.rejected_kept)]
    whole, kept = max(lost)
    return kept < TAIL_PART * whole


def _with_warnings(found: Preview) -> Preview:
    said = []
    if found.late > LATE_SHARE:
        said.append(
            f"{found.late:.0%} of the pairs first differ in the last quarter of the shorter response: the "
            f"preference sits late, and what is cut may hold it (the rule: more than {LATE_SHARE:.0%})"
        )
    decided = found.kept + found.dropped_cut
    if found.dropped_cut > LOST_SHARE * decided:
        said.append(
            f"{found.dropped_cut / decided:.0%} of the pairs lose every difference: the preference lies "
            f"in what goes (the rule: more than {LOST_SHARE:.0%})"
        )
    return replace(found, warnings=tuple(said))


def _spread(values: Sequence[int]) -> Spread:
    median, p90 = np.percentile(np.asarray(values), [50, 90])
    return Spread(float(median), float(p90))


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))


# --- for people ---------------------------------------------------------------------------------------------


def lines(found: Preview) -> list[tuple[str, str]]:
    """Name and value, one line each, for a terminal or a card."""
    before, after = found.tokens
    where = found.positions
    dropped = [
        (found.dropped_empty, "without text in a response"),
        (found.dropped_too_long, "whose prompt fills max_length"),
        (found.dropped_same, "with equal responses"),
        (found.dropped_cut, "without a difference in what is left"),
    ]
    reasons = "; ".join(f"{number:,} {why}" for number, why in dropped if number)
    return [
        ("pairs", f"{found.kept:,} of {found.pairs:,}"),
        ("dropped", reasons or "none"),
        ("response tokens", f"{before:,} -> {after:,}: {_less(before, after)}"),
        ("chosen", _change(found.chosen)),
        ("rejected", _change(found.rejected)),
        ("prompt", _one(found.prompt)),
        ("chosen is longer", f"in {found.chosen_longer:.0%} of the pairs"),
        ("lose over half", f"{found.long_tails:.0%} of the pairs, of their longer response"),
        ("first difference", f"after {_one(found.first_difference)} response tokens"),
        ("  it comes late", f"in {found.late:.1%}: in the last quarter of the shorter response"),
        ("labels that hold", "not known: a judge of prefixes would have to say it")
        if found.label_consistency is None
        else ("labels that hold", f"{found.label_consistency:.1%}, as the judge says"),
        ("positions", f"about {where.whole:,} in an epoch, whole and padded"),
        ("  cut", f"{where.cut:,}, {_less(where.whole, where.cut)}"),
        ("  cut and packed", f"{where.packed:,}, {_less(where.whole, where.packed)}; prompts shared"),
    ]


def table(found: Preview, title: str) -> RenderableType:
    """The same for a terminal, with warnings below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines(found):
        grid.add_row(Text(name), Text(value))
    warnings = [Text(f"warning: {text}", style="yellow") for text in found.warnings]
    note = [Text("These are rules of thumb; nobody has measured them yet.", style="dim")] if warnings else []
    return Group(
        Text(title, style="bold"),
        grid,
        Text("Tokens are median / 90th percentile.", style="dim"),
        *warnings,
        *note,
    )


def _change(sides: tuple[Spread, Spread]) -> str:
    before, after = sides
    return f"{_one(before)}" + (f" -> {_one(after)}" if before != after else "")


def _one(spread: Spread) -> str:
    return f"{spread.median:,.0f} / {spread.p90:,.0f}"


def _less(before: int, after: int) -> str:
    if not before or before == after:
        return "as before"
    return f"{abs(1 - after / before):.1%} {'less' if after < before else 'more'}"
