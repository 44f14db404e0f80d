"""Key-value caches of many growing texts in one tensor per layer.

Each text owns a *slot*; a forward pass names the slots of its batch and where in each slot the new keys go.
Cutting a text back is a smaller length and costs nothing. Tensors double when a slot or a position is
missing.

Shape suffixes: S slots, H key-value heads, C capacity in tokens, D head size, B batch, T new tokens, L length
that this pass attends to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Cache

SCRATCH = 0
"""The slot that takes the keys of padding; never read."""


@dataclass(slots=True)
class Layout:
    """Where the batch at hand reads and writes."""

    slots_B: torch.Tensor
    write_slots_BT: torch.Tensor
    write_positions_BT: torch.Tensor
    length: int
    """L, in tokens."""


class SlotCache(Cache):  # type: ignore[misc]
    """A transformers cache over slots: set :attr:`layout`, then run the model with a mask of its own."""

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self.capacity = 0
        self.layout: Layout | None = None
        self._keys_SHCD: dict[int, torch.Tensor] = {}
        self._values_SHCD: dict[int, torch.Tensor] = {}

    def reserve(self, slots: int, length: int) -> None:
        """Make room for ``slots`` slots of ``length`` tokens each, by doubling."""
        while self.slots < slots:
            self.slots *= 2
        self.capacity = max(self.capacity, 64)
        while self.capacity < length:
            self.capacity *= 2
        for tensors in (self._keys_SHCD, self._values_SHCD):
            for layer, tensor_SHCD in tensors.items():
                tensors[layer] = self._grown(tensor_SHCD)

    def _grown(self, old_SHCD: torch.Tensor) -> torch.Tensor:
        slots, heads, capacity, size = old_SHCD.shape
        if slots == self.slots and capacity == self.capacity:
            return old_SHCD
        new_SHCD = old_SHCD.new_zeros(self.slots, heads, self.capacity, size)
        new_SHCD[:slots, :, :capacity] = old_SHCD
        return new_SHCD

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new states (B, H, T, D) and return all that the batch attends to (B, H, L, D)."""
        layout = self.layout
        assert layout is not None, "layout is set before every forward pass"
        read = []
        for tensors, new_BHTD in ((self._keys_SHCD, key_states), (self._values_SHCD, value_states)):
            if layer_idx not in tensors:
                heads, size = new_BHTD.shape[1], new_BHTD.shape[3]
                tensors[layer_idx] = new_BHTD.new_zeros(self.slots, heads, self.capacity, size)
            tensor_SHCD = tensors[layer_idx]
            tensor_SHCD[layout.write_slots_BT, :, layout.write_positions_BT] = new_BHTD.transpose(1, 2)
            read.append(tensor_SHCD[:, :, : layout.length].index_select(0, layout.slots_B))
        return read[0], read[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Texts differ in length; positions are always given, so nobody should rely on this."""
        return 0 if self.layout is None else self.layout.length
