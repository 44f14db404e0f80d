"""The probability of style after each token of many growing texts, each token read once while it is new.

A label depends on a bounded context at a fixed place. Texts are divided into blocks of W tokens, W the window
that the classifier learned from; a token of block *b* is read after all before it in blocks *b - 1* and *b*.
So a context holds one to two windows, its key-value cache restarts at each block (which reads the block
before it once more), and a label does not depend on how the text came: in chunks, cut back, or at once.

What is kept for a text: two windows of keys and values, and one float for each token. Where memory holds
fewer texts, the one that waited longest gives up its keys and reads them again.

It does not know units, authors or thresholds.

Shape suffixes: B rows of the batch, T new tokens, L attended length.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from weft.engines.slots import STEP, Layout, Masks, SlotCache, common_start

READ_TOKENS = 4096
"""Most tokens, padding included, that one pass reads."""
PASS_TOKENS = 32
"""On a processor: what one more pass costs beside its tokens, in tokens that take as long. From 16 to 64 were
measured to serve alike."""
GPU_PASS_TOKENS = 512
"""On a GPU, where a pass of so few waits for weights, not for arithmetic; not measured."""
LENGTH_STEP = 32
"""The attended length is rounded up to this, so that few tensor shapes occur."""


@dataclass(slots=True)
class _Context:
    ids: list[int] = field(default_factory=list)
    style: array[float] = field(default_factory=lambda: array("f"))
    """For each id the probability that the next token is style."""
    slot: int | None = None
    start: int = 0
    """Where in the text the slot's first token stands."""
    end: int = 0
    """Up to where in the text its keys and values are in the slot."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Tokens of one text to be read in one pass."""

    context: _Context
    ids: Sequence[int]
    first: int
    """From this one of ``ids`` on, labels are new."""


class Contexts:
    """A causal token classifier of two labels, the second of which is style, over growing texts."""

    def __init__(self, model: Any, masks: Masks, *, window: int, memory: int) -> None:
        """Take over ``model``, in evaluation mode and on its device.

        Args:
            window: W, in tokens.
            memory: bytes for keys and values; one text is held at least.
        """
        self._model, self._masks, self.window = model, masks, window
        self._device = model.device
        self._pass_tokens = PASS_TOKENS if self._device.type == "cpu" else GPU_PASS_TOKENS
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        numbers = 2 * config.num_hidden_layers * heads * size
        self._capacity = -(-2 * window // LENGTH_STEP) * LENGTH_STEP + 1
        slot = -(-self._capacity // STEP) * STEP
        self.text_bytes: int = numbers * slot * torch.finfo(model.dtype).bits // 8
        """Of the keys and values of one text."""
        self._most = max(1, memory // self.text_bytes)
        """Texts whose keys are held at a time."""
        self._cache = SlotCache()
        self._slots = 0
        self._free: list[int] = []
        self._reading: set[int] = set()
        """The contexts (by ``id``) that the pass at hand reads: they keep their slots."""
        self._texts: dict[str, _Context] = {}
        """The one that was read longest ago comes first."""

    def read(self, texts: Sequence[tuple[str, list[int], int]]) -> list[list[float]]:
        """Probabilities of style.

        Args:
            texts: for each its name, all its ids (kept: they may not be changed afterwards), and the first
                place whose label is wanted.

        Returns:
            For each text, from its first place on, the probability that the next token is style.
        """
        contexts = [self._continued(name, ids) for name, ids, _ in texts]
        while unread := [context for context in contexts if len(context.style) < len(context.ids)]:
            try:
                now = unread[: self._most]
                self._reading = {id(context) for context in now}
                pieces = [self._piece(context) for context in now]
                for batch in _batches(pieces, self._pass_tokens):
                    self._read(batch)
            except torch.OutOfMemoryError:
                if self._most == 1:
                    raise
                self._forget()
        return [
            context.style[first:].tolist() for context, (_, _, first) in zip(contexts, texts, strict=True)
        ]

    def _forget(self) -> None:
        """Memory holds fewer texts than it was thought to: drop all keys, then hold half as many."""
        self._most = max(1, min(self._most, self._slots) // 2)
        self._cache, self._slots, self._free = SlotCache(), 0, []
        for context in self._texts.values():
            context.slot = None

    def release(self, name: str) -> None:
        """Forget one text; unknown names are ignored."""
        context = self._texts.pop(name, None)
        if context is not None and context.slot is not None:
            self._free.append(context.slot)

    def _continued(self, name: str, ids: list[int]) -> _Context:
        """The context of a text, cut back to what it shares with ``ids``."""
        context = self._texts.pop(name, None) or _Context()
        self._texts[name] = context
        kept = common_start(context.ids, ids)
        del context.style[kept:]
        context.ids, context.end = ids, min(context.end, kept)
        return context

    def _piece(self, context: _Context) -> _Piece:
        """What comes next: the rest of the block in which the first missing label stands."""
        known = len(context.style)
        block = known // self.window
        start = max(0, block - 1) * self.window
        if context.slot is None or context.start != start or context.end < start:
            context.slot = self._slot() if context.slot is None else context.slot
            context.start = context.end = start
        end = min(len(context.ids), (block + 1) * self.window)
        return _Piece(context, context.ids[context.end : end], known - context.end)

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._slots == self._most:
            held = (context for context in self._texts.values() if context.slot is not None)
            oldest = next(context for context in held if id(context) not in self._reading)
            assert oldest.slot is not None
            slot, oldest.slot = oldest.slot, None
            return slot
        self._slots += 1
        return self._slots - 1

    def _read(self, batch: Sequence[_Piece]) -> None:
        """One pass. Rows are aligned at their last token; padding writes past what is attended to."""
        T = max(len(piece.ids) for piece in batch)
        starts = [piece.context.end - piece.context.start for piece in batch]
        longest = max(start + len(piece.ids) for start, piece in zip(starts, batch, strict=True))
        L = -(-longest // LENGTH_STEP) * LENGTH_STEP
        self._cache.reserve(self._slots, self._capacity)
        ids, positions, write = [], [], []
        for start, piece in zip(starts, batch, strict=True):
            pad, own = T - len(piece.ids), range(start, start + len(piece.ids))
            ids.append([0] * pad + list(piece.ids))
            positions.append([0] * pad + list(own))
            write.append([L] * pad + list(own))
        positions_BT = torch.tensor(positions, device=self._device)
        slots_B = torch.tensor([piece.context.slot for piece in batch], device=self._device)
        self._cache.layout = Layout(
            slots_B=slots_B,
            write_slots_BT=slots_B[:, None].expand(-1, T),
            write_positions_BT=torch.tensor(write, device=self._device),
            length=L,
        )
        logits_BT2 = self._model(
            input_ids=torch.tensor(ids, device=self._device),
            attention_mask=self._masks.of(positions_BT, L),
            position_ids=positions_BT,
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        style_BT = torch.softmax(logits_BT2.float(), -1)[..., 1].tolist()
        for piece, style in zip(batch, style_BT, strict=True):
            piece.context.end += len(piece.ids)
            piece.context.style.extend(style[T - len(piece.ids) + piece.first :])


def _batches(pieces: list[_Piece], pass_tokens: int) -> list[list[_Piece]]:
    """Pieces of similar length together; a new pass where padding all shorter ones would cost more."""
    batches: list[list[_Piece]] = []
    ordered = sorted(pieces, key=lambda piece: -len(piece.ids))
    for number, piece in enumerate(ordered):
        longest = len(batches[-1][0].ids) if batches else 0
        padding = (longest - len(piece.ids)) * (len(ordered) - number)
        if batches and padding <= pass_tokens and longest * (len(batches[-1]) + 1) <= READ_TOKENS:
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches
