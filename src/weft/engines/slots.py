"""Key-value caches of many growing texts in one tensor per layer.

Each text owns a *slot*; a forward pass names the slots of its batch and where in each slot the new keys go.
Cutting a text back is a smaller length and costs nothing. Tensors grow in proportion to their size, so that
growing costs a constant number of copies for each token.

Models run on slots only with a mask that says which positions of its slot each new token sees.

Shape suffixes: S slots, H key-value heads, C capacity in tokens, D head size, B batch, T new tokens, L length
that this pass attends to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from weft.errors import UserError

STEP = 64
"""Capacity is a multiple of this, in tokens."""


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

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.slots = 0
        self.capacity = 0
        """Tokens of each slot."""
        self.layout: Layout | None = None
        self._keys_SHCD: dict[int, torch.Tensor] = {}
        self._values_SHCD: dict[int, torch.Tensor] = {}

    def reserve(self, slots: int, length: int) -> None:
        """Make room for ``slots`` slots of ``length`` tokens each.

        Layers grow one after the other, so that the old and the new are held together for one tensor only.
        If one fails, all are dropped: the cache is empty, as at the start, and the error is raised.
        """
        if slots <= self.slots and length <= self.capacity:
            return
        if slots > self.slots:
            self.slots = max(slots, self.slots * 9 // 8)
        if length > self.capacity:
            self.capacity = -(-max(length, self.capacity * 5 // 4) // STEP) * STEP
        try:
            for tensors in (self._keys_SHCD, self._values_SHCD):
                for layer in tensors:
                    tensors[layer] = self._grown(tensors[layer])
        except BaseException:
            self._keys_SHCD, self._values_SHCD = {}, {}
            self.slots = self.capacity = 0
            raise

    def _grown(self, old_SHCD: torch.Tensor) -> torch.Tensor:
        slots, heads, capacity, size = old_SHCD.shape
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


@dataclass(slots=True)
class Masks:
    """What each new token attends to, for each kind of layer that a model has."""

    kinds: tuple[str, ...]
    window: int | None
    """Of sliding attention, in tokens."""
    boolean: bool
    """Whether the model takes masks of bool; else they are numbers to add, of type ``dtype``."""
    dtype: torch.dtype

    @classmethod
    def of_model(cls, model: Any, name: str) -> Masks:
        """Raises UserError: it has layers of another kind than full and sliding attention."""
        config = model.config.get_text_config()
        kinds = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        window: int | None = getattr(config, "sliding_window", None)
        known = {"full_attention", "sliding_attention"}
        if any(kind not in known for kind in kinds):
            raise UserError(
                f"layers of kind {', '.join(sorted(set(kinds) - known))} do not run in this process",
                where=f"engine {name}",
                expected="full or sliding attention in every layer",
                remedy="serve the model (vLLM, SGLang) and name it MODEL@URL",
            )
        kinds = kinds or (("sliding_attention",) if window else ("full_attention",))
        return cls(kinds, window, config._attn_implementation == "sdpa", model.dtype)

    def of(self, positions_BT: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks over ``length`` keys for new tokens at these positions; a dict for several kinds."""
        distance_B1TL = positions_BT[:, None, :, None] - torch.arange(length, device=positions_BT.device)
        causal_B1TL = distance_B1TL >= 0
        masks = {}
        for kind in self.kinds:
            allowed_B1TL = causal_B1TL
            if kind == "sliding_attention" and self.window is not None:
                allowed_B1TL = causal_B1TL & (distance_B1TL < self.window)
            if not self.boolean:
                zero = torch.zeros((), dtype=self.dtype, device=positions_BT.device)
                allowed_B1TL = torch.where(allowed_B1TL, zero, torch.finfo(self.dtype).min)
            masks[kind] = allowed_B1TL
        return masks if len(masks) > 1 else next(iter(masks.values()))


def common_start(old: list[int], new: list[int]) -> int:
    """Length of the common start of two texts' ids, found without a loop over tokens in the usual case."""
    n = min(len(old), len(new))
    if old[:n] == new[:n]:
        return n
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle
    return low
