"""How many tokens are asked for: the least expected cost, compared with a search over all policies."""

from __future__ import annotations

from itertools import product

import pytest

from weft.synthesis import pace as module
from weft.synthesis.pace import MOST_TOKENS, Pace


def cost(sizes: tuple[int, ...], lengths: list[int], request: float) -> float:
    """What turns of these lengths cost where ``sizes[s]`` tokens are asked for after s."""
    total = 0.0
    for length in lengths:
        so_far = 0
        while so_far < length:
            so_far += sizes[so_far]
            total += request
        total += so_far - length
    return total


@pytest.mark.parametrize("request_tokens", [0.5, 2.0, 8.0])
def test_no_policy_is_cheaper(monkeypatch: pytest.MonkeyPatch, request_tokens: float) -> None:
    monkeypatch.setattr(module, "MOST_TOKENS", 5)
    monkeypatch.setattr(module, "PRIOR_TURNS", 1e-9)
    lengths = [1, 1, 2, 4, 4, 5, 5, 5, 5, 3]
    pace = Pace(lambda: request_tokens)
    for length in lengths:
        pace.turn(length)
    ours = tuple(pace.size(s) for s in range(5))
    best = min(
        cost(sizes, lengths, request_tokens) for sizes in product(*(range(1, 6 - s) for s in range(5)))
    )
    assert cost(ours, lengths, request_tokens) == pytest.approx(best)


def test_turns_of_one_length_are_asked_for_at_once() -> None:
    pace = Pace(lambda: 6.0)
    for _ in range(200):
        pace.turn(9)
    assert pace.size(0) == 9
    assert pace.size(4) == 5


def test_a_dear_request_asks_for_more() -> None:
    cheap, dear = Pace(lambda: 0.5), Pace(lambda: 30.0)
    assert cheap.size(0) < dear.size(0)


def test_sizes_are_whole_and_within_bounds_however_long_a_turn_is() -> None:
    pace = Pace(lambda: 1.0)
    for length in (1, MOST_TOKENS, 10 * MOST_TOKENS, 0):
        pace.turn(length)
    for so_far in (0, 1, MOST_TOKENS - 1, MOST_TOKENS, 10**6):
        assert 1 <= pace.size(so_far) <= MOST_TOKENS
