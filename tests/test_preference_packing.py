"""Where each token of a batch of pairs stands: numbers, and the tensors made of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from weft.preference import layout
from weft.preference.attention import PairMask
from weft.preference.layout import IGNORED, Call, Plan
from weft.preference.packing import Run, apart, first_fit, one_block, run

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
IDS = st.lists(st.integers(1, 3), max_size=6)
PAIRS = st.lists(st.tuples(IDS, IDS, IDS), min_size=1, max_size=5)
"""Prompts, chosen and rejected responses of so few different ids that they often begin alike."""


@given(LENGTHS, st.integers(1, 100))
def test_every_run_stands_in_one_row_and_only_single_runs_pass_the_capacity(
    lengths: list[int], capacity: int
) -> None:
    packed = first_fit(lengths, capacity)
    assert sorted(number for row in packed.rows for number in row) == list(range(len(lengths)))
    filled = [sum(lengths[number] for number in row) for row in packed.rows]
    assert max(filled) == packed.width
    assert all(tokens <= capacity for tokens, row in zip(filled, packed.rows, strict=True) if len(row) > 1)


@given(LENGTHS)
def test_one_block_pads_no_more_than_a_row_for_each_run(lengths: list[int]) -> None:
    packed = one_block(lengths)
    assert sum(lengths) <= packed.positions <= len(lengths) * max(lengths)
    assert packed.width <= 2 * max(lengths)


@given(LENGTHS, st.integers(1, 100))
def test_rows_apart_have_no_padding(lengths: list[int], capacity: int) -> None:
    calls = apart(lengths, capacity)
    assert sum(packed.positions for packed in calls) == sum(lengths)
    assert all(len(packed.rows) == 1 for packed in calls)


def test_a_run_shares_no_more_than_both_sequences_need() -> None:
    assert run(9, 12, 10) == Run(9, 12, 10)
    assert run(9, 12, 10).tokens == 13
    assert run(9, 12, 5) == Run(5, 12, 5)
    assert run(9, 12, 0).tokens == 12
    with pytest.raises(ValueError, match="6 tokens cannot be shared by 5 and 9"):
        Run(6, 5, 9)


def padded(
    pairs: list[tuple[list[int], list[int], list[int]]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and labels as TRL's collator and trainer make them."""
    rows = [prompt + chosen for prompt, chosen, _ in pairs] + [
        prompt + rejected for prompt, _, rejected in pairs
    ]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows]).long().view(len(rows), width)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]).view(len(rows), width)
    labels = ids.masked_fill(mask == 0, IGNORED)
    for number, (prompt, _, _) in enumerate(pairs):
        labels[[number, number + len(pairs)], : len(prompt)] = IGNORED
    return ids, mask, labels


def reads(call: Call, ids: torch.Tensor, row: int, token: int) -> list[tuple[int, int]]:
    """The (position, id) pairs that a token of the padded rows sees where it stands now, itself last."""
    place = int(call.place_RT[row, token])
    packed, at = divmod(place, call.source_QW.size(1))
    seen = call.mask("sdpa", torch.float32)[packed, 0, at]
    order = seen.nonzero().squeeze(1)
    found = ids.flatten()[call.source_QW[packed, order]].tolist()
    return list(zip(call.position_QW[packed, order].tolist(), found, strict=True))


@given(PAIRS, st.booleans())
def test_each_needed_token_sees_its_own_sequence_and_nothing_else(
    pairs: list[tuple[list[int], list[int], list[int]]], together: bool
) -> None:
    ids, mask, labels = padded(pairs)
    plan = layout.lay_out(ids, mask, labels, together=together) if ids.size(1) else "empty"
    if isinstance(plan, str):
        assert not (labels[:, 1:] != IGNORED).any()
        return
    calls = [layout.call(plan.runs, packed, ids) for packed in plan.calls]
    assert plan.positions <= int(mask.sum()) or together
    for row in range(len(ids)):
        last = int((labels[row] != IGNORED).nonzero().max()) if (labels[row] != IGNORED).any() else 0
        homes = [call for call in calls if bool((call.place_RT[row, :last] >= 0).all())] if last else []
        assert len(homes) == (1 if last else 0)
        for token in range(last):
            sequence = list(enumerate(ids[row, : token + 1].tolist()))
            assert reads(homes[0], ids, row, token) == sequence


@given(PAIRS)
def test_scores_come_back_to_every_labelled_token_and_to_no_other(
    pairs: list[tuple[list[int], list[int], list[int]]],
) -> None:
    ids, mask, labels = padded(pairs)
    plan = layout.lay_out(ids, mask, labels, together=False) if ids.size(1) else "empty"
    if isinstance(plan, str):
        assert not (labels[:, 1:] != IGNORED).any()
        return
    where = plan.scored_RS.flatten().nonzero().squeeze(1)
    scores = layout.scatter(labels[:, 1:].flatten()[where].float(), where, plan)
    assert torch.equal(scores, labels[:, 1:].clamp(min=0).float())


def test_what_cannot_be_laid_out_is_named() -> None:
    ids, mask, labels = padded([([1, 2], [3], [1, 1])])
    left = layout.lay_out(ids.flip(1), mask.flip(1), labels.flip(1), together=False)
    assert left == "rows are padded on the left, or within"
    unscored = layout.lay_out(ids, mask, torch.full_like(labels, IGNORED), together=False)
    assert unscored == "no token of this batch is scored"


def some_call() -> Call:
    ids, mask, labels = padded([([1, 2, 3], [3, 1, 1], [1, 1]), ([1] * 4, [2], [3, 3, 3]), ([1], [], [2, 2])])
    plan = layout.lay_out(ids, mask, labels, together=True)
    assert isinstance(plan, Plan)
    return layout.call(plan.runs, plan.calls[0], ids)


def test_a_mask_of_pairs_gives_what_the_same_tensor_gives() -> None:
    mask = some_call().mask("sdpa", torch.float32)
    rows, _, width, _ = mask.shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, 2, width, 4, generator=generator, requires_grad=True) for _ in range(3)
    )
    plain = mask.as_subclass(torch.Tensor)
    real = some_call().pair_QW >= 0
    found, grads = [], []
    for one in (mask, plain):
        output = scaled_dot_product_attention(query, key, value, attn_mask=one, scale=0.3)
        found.append(output.transpose(1, 2)[real])
        grads.append(torch.autograd.grad(found[-1].square().sum(), (query, key, value)))
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*grads, strict=True))


def test_a_mask_of_pairs_is_a_plain_tensor_to_everything_else() -> None:
    mask = some_call().mask("sdpa", torch.float32)
    assert isinstance(mask, PairMask)
    assert type(mask[:, :, :3]) is torch.Tensor
    assert type(~mask) is torch.Tensor
    query = torch.zeros(mask.size(0), 2, mask.size(2), 4)
    dropped = scaled_dot_product_attention(query, query, query, attn_mask=mask, dropout_p=1.0)
    assert dropped.shape == query.shape


def test_eager_attention_gets_numbers_to_add() -> None:
    call = some_call()
    seen, added = call.mask("sdpa", torch.float32), call.mask("eager", torch.bfloat16)
    assert added.dtype == torch.bfloat16
    assert torch.equal(added == 0, seen.as_subclass(torch.Tensor))
    assert float(added.min()) == torch.finfo(torch.bfloat16).min
