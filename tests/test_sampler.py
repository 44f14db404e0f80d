"""Drawing: what a row draws depends on its own logits and number alone."""

from __future__ import annotations

import pytest
import torch

from weft.engines.sampler import HEAD, _top, draw
from weft.records import Sampling


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0, 0.95, 0, 0.0),
        Sampling(1.0, 0.9, 20, 0.0),
        Sampling(0.7, 1.0, 50, 0.0),
        Sampling(1.0, 1.0, 0, 0.05),
        Sampling(0.0, 1.0, 0, 0.0),
    ],
)
def test_tied_rows_draw_alone_what_they_draw_together(sampling: Sampling) -> None:
    generator = torch.Generator().manual_seed(0)
    # Peaked rows, flat rows whose nucleus passes the head, and rows between; bfloat16 ties many logits.
    scale = torch.tensor([4.0, 0.1, 1.5]).repeat(100)[:, None]
    logits_BV = (torch.randn(300, 2 * HEAD, generator=generator) * scale).bfloat16()
    uniforms = torch.rand(300, generator=generator).tolist()
    together = draw(logits_BV, [sampling] * 300, uniforms)
    alone = [draw(logits_BV[i : i + 1], [sampling], [uniforms[i]])[0] for i in range(300)]
    assert together == alone


def test_ties_at_the_last_place_go_to_the_lowest_ids() -> None:
    logps_BV = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    logps_BK, ids_BK = _top(logps_BV, 4)
    assert ids_BK.tolist() == [[3, 1, 0, 2], [0, 1, 2, 3]]
    assert logps_BK.tolist() == [[2.0, 1.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0]]
