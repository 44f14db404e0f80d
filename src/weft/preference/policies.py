"""Prefix policies: how much of a preference pair's two responses a loss sees.

A policy is a small pure function of the token ids of one pair. It *cuts* (:class:`Cut`: how many tokens stay)
or it *weighs* (:class:`Weighing`: one factor per token). ``parse_policy`` reads the one text that stands for
it in recipes, columns and cards.

Invariants
    - A policy has no state: the same pair gives the same answer in every process, for policy and reference
      alike. A draw comes from the seed and the pair's own tokens (and the epoch, where one was asked for).
    - Every response keeps at least one token, and never more than it has.
    - ``parse_policy(policy.spec) == policy``.

It knows nothing of text, templates or length limits; those are in ``rows.py``. The end of sequence is a token
like any other, so it stays with a response that is kept whole and goes with the rest of one that is cut.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from weft.errors import UserError


class Judge(Protocol):
    """Says how good the beginning of a response is; ``consistent`` asks it."""

    def score(self, prompt: str, prefix: str) -> float:
        """Expected quality of responses to ``prompt`` that begin with ``prefix``; higher is better."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids of one preference pair."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]

    @property
    def shared(self) -> int:
        """Tokens of the shorter response: the paper's k."""
        return min(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class PrefixPolicy:
    """What all policies have in common."""

    @property
    def spec(self) -> str:
        """The policy as a recipe writes it, with every parameter."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Whole(PrefixPolicy):
    """``none``: both responses as they are."""

    @property
    def spec(self) -> str:
        return "none"


# --- policies that cut --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut(PrefixPolicy):
    """A policy that keeps the beginning of each response and throws the rest away."""

    def lengths(self, pair: Pair) -> tuple[int, int]:
        """Tokens that stay of the chosen and of the rejected response, each from 1 to its length."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class EqualLength(Cut):
    """``equal-length``: both responses to the length of the shorter one (POET, arXiv 2506.09457)."""

    @property
    def spec(self) -> str:
        return "equal-length"

    def lengths(self, pair: Pair) -> tuple[int, int]:
        return pair.shared, pair.shared


@dataclass(frozen=True, slots=True)
class Ratio(Cut):
    """``ratio:r`` of each response's own length, ``ratio:r@equal`` of the shorter one's (POET's ablation)."""

    share: float
    of_equal: bool = False

    @property
    def spec(self) -> str:
        return f"ratio:{_plain(self.share)}" + ("@equal" if self.of_equal else "")

    def lengths(self, pair: Pair) -> tuple[int, int]:
        if self.of_equal:
            kept = _share(self.share, pair.shared)
            return kept, kept
        return _share(self.share, len(pair.chosen)), _share(self.share, len(pair.rejected))


@dataclass(frozen=True, slots=True)
class First(Cut):
    """``first:k``: the first k tokens of each response, or all of a shorter one."""

    tokens: int

    @property
    def spec(self) -> str:
        return f"first:{self.tokens}"

    def lengths(self, pair: Pair) -> tuple[int, int]:
        return min(self.tokens, len(pair.chosen)), min(self.tokens, len(pair.rejected))


@dataclass(frozen=True, slots=True)
class RandomCut(Cut):
    """``random[:seed][@epoch]``: both to one length, uniform from 1 to the shorter response's."""

    seed: int = 0
    per_epoch: bool = False
    epoch: int = 0
    """Which of the draws; stays 0 unless ``per_epoch``."""

    @property
    def spec(self) -> str:
        return _drawn_spec("random", self.seed, self.per_epoch)

    def lengths(self, pair: Pair) -> tuple[int, int]:
        kept = _generator(self.seed, self.epoch, pair).randint(1, pair.shared)
        return kept, kept


@dataclass(frozen=True, slots=True)
class Consistent(PrefixPolicy):
    """``consistent[:grid]``: as ``equal-length`` where a judge of prefixes still agrees with the label.

    Otherwise the longer response grows over the grid, in multiples of the shorter one's length, and is whole
    at last. It needs a judge, so the lengths are found in ``consistent.py``.
    """

    grid: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0)

    @property
    def spec(self) -> str:
        return "consistent:" + ",".join(map(_plain, self.grid))


# --- policies that weigh ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weighing(PrefixPolicy):
    """A policy that multiplies the log-probability of each token, in policy and reference alike."""

    def weights(self, pair: Pair) -> tuple[list[float], list[float]]:
        """One factor from 0 to 1 for each token of the chosen and of the rejected response."""
        raise NotImplementedError

    @property
    def is_mask(self) -> bool:
        """Whether every weight is 0 or 1."""
        return False


@dataclass(frozen=True, slots=True)
class Decay(Weighing):
    """``decay:g``: token t weighs g to the power of t, the first one 1 (D2PO, arXiv 2502.14340)."""

    rate: float

    @property
    def spec(self) -> str:
        return f"decay:{_plain(self.rate)}"

    def weights(self, pair: Pair) -> tuple[list[float], list[float]]:
        powers = [self.rate**position for position in range(max(len(pair.chosen), len(pair.rejected)))]
        return powers[: len(pair.chosen)], powers[: len(pair.rejected)]


@dataclass(frozen=True, slots=True)
class Tail(Weighing):
    """``tail:alpha``: tokens past the shorter response's length weigh alpha (LD-DPO, arXiv 2409.06411)."""

    alpha: float

    @property
    def spec(self) -> str:
        return f"tail:{_plain(self.alpha)}"

    @property
    def is_mask(self) -> bool:
        return self.alpha in (0, 1)

    def weights(self, pair: Pair) -> tuple[list[float], list[float]]:
        chosen, rejected = (
            [1.0] * pair.shared + [float(self.alpha)] * (len(response) - pair.shared)
            for response in (pair.chosen, pair.rejected)
        )
        return chosen, rejected


@dataclass(frozen=True, slots=True)
class Sample(Weighing):
    """``sample[:seed][@epoch]``: of the longer response as many tokens as the shorter one has.

    SamPO (arXiv 2406.10957): they are drawn at random, so both sides sum over equally many tokens.
    """

    seed: int = 0
    per_epoch: bool = False
    epoch: int = 0
    """Which of the draws; stays 0 unless ``per_epoch``."""

    @property
    def spec(self) -> str:
        return _drawn_spec("sample", self.seed, self.per_epoch)

    @property
    def is_mask(self) -> bool:
        return True

    def weights(self, pair: Pair) -> tuple[list[float], list[float]]:
        longer = max(len(pair.chosen), len(pair.rejected))
        drawn = set(_generator(self.seed, self.epoch, pair).sample(range(longer), pair.shared))
        sampled = [1.0 if position in drawn else 0.0 for position in range(longer)]
        whole = [1.0] * pair.shared
        if len(pair.chosen) == len(pair.rejected):
            return whole, whole
        return (sampled, whole) if len(pair.chosen) == longer else (whole, sampled)


# --- reading them -------------------------------------------------------------------------------------------

NAMES = "none, equal-length, ratio:r, ratio:r@equal, first:k, random, consistent, decay:g, tail:alpha, sample"


def parse_policy(spec: str | PrefixPolicy) -> PrefixPolicy:
    """The policy that ``spec`` names.

    ``none``, ``equal-length``, ``ratio:0.5``, ``ratio:0.5@equal``, ``first:64``, ``random``, ``random:7``
    (another seed), ``random@epoch`` (new draws in every epoch), ``consistent``, ``consistent:1.5,2``,
    ``decay:0.98``, ``tail:0.3``, ``sample``, ``sample:7``, ``sample@epoch``.

    Raises:
        UserError: it names none, or a parameter is missing, not a number or out of its range.
    """
    if isinstance(spec, PrefixPolicy):
        return spec
    head, _, suffix = spec.strip().partition("@")
    name, colon, value = head.partition(":")
    if suffix and (name, suffix) not in (("ratio", "equal"), ("random", "epoch"), ("sample", "epoch")):
        raise _unknown(spec)
    match name, bool(colon):
        case "none", False:
            return Whole()
        case "equal-length", False:
            return EqualLength()
        case "ratio", True:
            return Ratio(_within(spec, value, 0, 1, low_too=False), suffix == "equal")
        case "first", True:
            return First(_whole_number(spec, value, 1))
        case "random", _:
            return RandomCut(_whole_number(spec, value, 0) if colon else 0, suffix == "epoch")
        case "sample", _:
            return Sample(_whole_number(spec, value, 0) if colon else 0, suffix == "epoch")
        case "decay", True:
            return Decay(_within(spec, value, 0, 1, low_too=False))
        case "tail", True:
            return Tail(_within(spec, value, 0, 1))
        case "consistent", _:
            return Consistent(_grid(spec, value)) if colon else Consistent()
    raise _unknown(spec)


def at_epoch(policy: PrefixPolicy, epoch: int) -> PrefixPolicy:
    """The policy with the draws of that epoch, counted from 0; the same one if it draws nothing anew."""
    return replace(policy, epoch=epoch) if redraws(policy) else policy  # type: ignore[call-arg]


def redraws(policy: PrefixPolicy) -> bool:
    """Whether the policy draws anew in every epoch."""
    return isinstance(policy, RandomCut | Sample) and policy.per_epoch


def _plain(number: float) -> str:
    """As a person would write it, and no digit less than it has."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _share(share: float, tokens: int) -> int:
    return max(1, min(tokens, int(share * tokens + 0.5)))


def _drawn_spec(name: str, seed: int, per_epoch: bool) -> str:
    return name + (f":{seed}" if seed else "") + ("@epoch" if per_epoch else "")


def _generator(seed: int, epoch: int, pair: Pair) -> Random:
    """A generator that depends on nothing but these."""
    digest = hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=16)
    for ids in (pair.prompt, pair.chosen, pair.rejected):
        digest.update(b"|" + array("q", ids).tobytes())
    return Random(digest.digest())


def _unknown(spec: str) -> UserError:
    return UserError(f"no prefix policy is called {spec!r}", expected=NAMES, remedy="choose one of them")


def _number(spec: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(
            f"{value!r} is not a number",
            where=f"prefix policy {spec!r}",
            expected=NAMES,
            remedy="give a number",
        ) from None


def _within(spec: str, value: str, low: float, high: float, *, low_too: bool = True) -> float:
    number = _number(spec, value)
    if not (low <= number <= high) or (number == low and not low_too):
        raise UserError(
            f"{value} is out of range",
            where=f"prefix policy {spec!r}",
            expected=f"a number {'from' if low_too else 'above'} {low:g} and up to {high:g}",
        )
    return number


def _whole_number(spec: str, value: str, least: int) -> int:
    if not value.isascii() or not value.isdecimal() or int(value) < least:
        raise UserError(
            f"{value!r} will not do",
            where=f"prefix policy {spec!r}",
            expected=f"a whole number of at least {least}",
        )
    return int(value)


def _grid(spec: str, value: str) -> tuple[float, ...]:
    factors = tuple(_number(spec, part) for part in value.removesuffix(",whole").split(","))
    if list(factors) != sorted(set(factors)) or not all(1 < factor < float("inf") for factor in factors):
        raise UserError(
            "the grid does not grow",
            where=f"prefix policy {spec!r}",
            expected="rising factors above 1, such as consistent:1.25,1.5,2,3",
        )
    return factors
