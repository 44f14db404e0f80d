"""A transformers model in this process, batched as its requests come.

The device's worker runs one forward pass after another over whatever is ready: texts that have new tokens to
read, and one new token for every text that writes. Requests join and leave between passes, so no text waits
for another's end. Each session keeps its slot of the key-value cache from request to request: what
it shares with the last prefix is not computed again, and what was cut back costs nothing.

It does not know traces or boundaries. Attention must be by keys and values: models with recurrent state
cannot be cut back and are refused.

Shape suffixes: B rows of the batch, T new tokens, L attended length, V vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from weft.chat import ChatTemplate
from weft.engines.base import Completion, CompletionRequest, Finish, uniform
from weft.engines.sampler import draw
from weft.engines.slots import SCRATCH, Layout, SlotCache
from weft.engines.worker import Worker
from weft.errors import EngineError, UserError
from weft.records import Sampling
from weft.vocabulary import Vocabulary

MERGE_FLOPS = 5e7
"""On a processor: most work (floating-point operations) on padding for which two passes are made one."""
MERGE_TOKENS = 512
"""On a GPU: most tokens of such padding; a pass of so few waits for weights, not for arithmetic."""
READ_TOKENS = 4096
"""Most tokens, padding included, that one pass reads."""
SCORE_LOGITS = 2**27
"""Most logits (float32) that scoring holds at a time."""
LENGTH_STEP = 32
"""The attended length is rounded up to this, so that few tensor shapes occur."""


@dataclass(slots=True)
class _Session:
    slot: int
    ids: list[int] = field(default_factory=list)
    """Ids whose keys and values are in the slot."""


@dataclass(slots=True)
class _Row:
    """A completion in progress."""

    request: CompletionRequest
    future: Future[Completion]
    session: _Session
    unread: list[int]
    """Ids that the model has not read yet; the last of them yields the next token."""
    budget: int
    """Tokens still to write."""
    finish_at_budget: Finish
    written: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Score:
    ids: list[int]
    start: int
    future: Future[list[float]]


class LocalEngine:
    """A causal language model of transformers, with the tokenizer and template of its folder."""

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        end_ids: frozenset[int],
        sampling: Sampling,
        description: Mapping[str, object],
        threads: int | None = None,
    ) -> None:
        """Take over ``model``, in evaluation mode and on its device.

        Args:
            end_ids: see :class:`Engine`; so are ``name``, ``vocabulary``, ``template`` and ``sampling``.
            description: what :meth:`describe` returns.
            threads: processor threads for the model's arithmetic; ``None`` leaves torch's choice.

        Raises:
            UserError: its layers keep a recurrent state, which cannot be cut back.
        """
        self._model = model
        config = model.config.get_text_config()
        self._mask_kinds = _mask_kinds(config, name)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._device = model.device
        self._boolean_mask = config._attn_implementation == "sdpa"
        self.name = name
        self.vocabulary = vocabulary
        self.template = template
        self.end_ids = end_ids
        self.sampling = sampling
        self.request_tokens = 1.0
        parameters = sum(parameter.numel() for parameter in model.parameters())
        on_cpu = self._device.type == "cpu"
        self._merge_tokens = int(MERGE_FLOPS / (2 * parameters)) if on_cpu else MERGE_TOKENS
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        self._description = dict(description)
        self._cache = SlotCache(slots=2)
        self._free = [1]
        self._sessions: dict[str, _Session] = {}
        self._reading: list[_Row] = []
        self._writing: list[_Row] = []
        self._scores: list[_Score] = []
        self.threads = threads
        self._worker: Worker | None = Worker.join(str(self._device), self)

    def describe(self) -> Mapping[str, object]:
        return self._description

    async def complete(self, request: CompletionRequest) -> Completion:
        future: Future[Completion] = Future()
        self._post((request, future))
        return await asyncio.wrap_future(future)

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> list[float]:
        """Log-probability in nats of each id of ``continuation``, in one pass. See :class:`Scorer`."""
        if not continuation:
            return []
        job = _Score([*prefix, *continuation], len(prefix), Future())
        self._post(job)
        return await asyncio.wrap_future(job.future)

    def release(self, session: str) -> None:
        if self._worker is not None:
            self._worker.post(self, session)

    def close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.leave(self)

    def _post(self, job: tuple[CompletionRequest, Future[Completion]] | _Score) -> None:
        if self._worker is None:
            raise EngineError(f"engine {self.name} was closed")
        self._worker.post(self, job)

    # -- in the worker's thread --------------------------------------------------------------------

    def take(self, job: object) -> None:
        """A request, a text to score, or the name of a session to forget. See :class:`Served`."""
        if isinstance(job, _Score):
            self._scores.append(job)
        elif isinstance(job, tuple):
            self._admit(*job)
        elif isinstance(job, str) and (session := self._sessions.pop(job, None)) is not None:
            self._free.append(session.slot)

    def ready(self) -> int:
        return len(self._reading) + len(self._writing) + len(self._scores)

    def shut(self) -> None:
        self._fail(EngineError(f"engine {self.name} was closed"))

    def run_pass(self) -> None:
        """One pass: score what waits, else read what is new, else write a token for every text."""
        try:
            if self._scores:
                self._score_batch()
            elif not self._reading:
                self._step(self._writing)
            elif self._fits_one_pass():
                self._writing, self._reading = self._writing + self._reading, []
                self._step(self._writing)
            else:
                self._read()
        except Exception as error:  # whatever torch raises belongs to the requests at hand
            self._fail(error)

    def _admit(self, request: CompletionRequest, future: Future[Completion]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        room = request.max_tokens if self.context is None else self.context - len(request.prefix)
        if room <= 0:
            future.set_result(Completion((), Finish.CONTEXT))
            return
        session = self._sessions.get(request.session)
        if session is None:
            session = self._sessions[request.session] = _Session(self._slot())
        prefix = list(request.prefix)
        # The last id is read again even if its keys are there: its output yields the next token.
        kept = min(_common(session.ids, prefix), len(prefix) - 1)
        session.ids = prefix[:kept]
        finish = Finish.LENGTH if request.max_tokens <= room else Finish.CONTEXT
        row = _Row(request, future, session, prefix[kept:], min(request.max_tokens, room), finish)
        (self._reading if len(row.unread) > 1 else self._writing).append(row)

    def _slot(self) -> int:
        if not self._free:
            slots = self._cache.slots
            self._cache.reserve(slots + 1, self._cache.capacity)
            self._free.extend(range(self._cache.slots - 1, slots - 1, -1))
        return self._free.pop()

    def _fits_one_pass(self) -> bool:
        """Whether reading and writing together, padded to one length, is cheaper than one after the other."""
        if not self._writing:
            return False
        lengths = [len(row.unread) for row in (*self._reading, *self._writing)]
        return len(lengths) * max(lengths) - sum(lengths) <= self._merge_tokens

    def _read(self) -> None:
        """One pass over texts with unread tokens, as many as fit; those read to the end write from now on."""
        self._reading.sort(key=lambda row: len(row.unread))
        batch: list[_Row] = []
        for row in self._reading:
            if batch and min(len(row.unread), READ_TOKENS) * (len(batch) + 1) > READ_TOKENS:
                break
            batch.append(row)
        self._reading = self._reading[len(batch) :]
        whole = [row for row in batch if len(row.unread) <= READ_TOKENS]
        if whole:
            self._writing.extend(whole)
            self._step(whole)
        else:
            row = batch[0]
            self._forward([row], READ_TOKENS)
            self._reading.append(row)

    def _step(self, batch: list[_Row]) -> None:
        """One pass that reads all unread tokens of ``batch`` and writes one token for each row."""
        logits_BV = self._forward(batch, max(len(row.unread) for row in batch))
        positions = [len(row.session.ids) for row in batch]
        uniforms = [
            uniform(row.request.seed, position) if row.request.sampling.temperature else 0.0
            for row, position in zip(batch, positions, strict=True)
        ]
        tokens = draw(logits_BV[:, : self.vocabulary.size], [row.request.sampling for row in batch], uniforms)
        done = False
        for row, token in zip(batch, tokens, strict=True):
            row.written.append(token)
            row.unread = [token]
            row.budget -= 1
            done |= token in row.request.stop or row.budget == 0
        if done:
            self._resolve()

    def _resolve(self) -> None:
        still = []
        for row in self._writing:
            if not row.written:
                still.append(row)
            elif row.written[-1] in row.request.stop:
                row.future.set_result(Completion(tuple(row.written), Finish.STOP))
            elif row.budget == 0:
                row.future.set_result(Completion(tuple(row.written), row.finish_at_budget))
            else:
                still.append(row)
        self._writing = still

    def _forward(self, batch: list[_Row], most: int) -> torch.Tensor:
        """Read up to ``most`` unread ids of each row; logits (B, V) after the last of them.

        Rows are aligned at their last token. Padding on the left writes to the scratch slot.
        """
        news = [row.unread[:most] for row in batch]
        T = max(map(len, news))
        ids, slots, positions = [], [], []
        for row, new in zip(batch, news, strict=True):
            pad, start = T - len(new), len(row.session.ids)
            ids.append([0] * pad + new)
            slots.append([SCRATCH] * pad + [row.session.slot] * len(new))
            positions.append([0] * pad + list(range(start, start + len(new))))
        longest = max(line[-1] for line in positions) + 1
        L = -(-longest // LENGTH_STEP) * LENGTH_STEP
        self._cache.reserve(self._cache.slots, L)
        positions_BT = torch.tensor(positions, device=self._device)
        self._cache.layout = Layout(
            slots_B=torch.tensor([row.session.slot for row in batch], device=self._device),
            write_slots_BT=torch.tensor(slots, device=self._device),
            write_positions_BT=positions_BT,
            length=L,
        )
        output = self._model(
            input_ids=torch.tensor(ids, device=self._device),
            attention_mask=self._masks(positions_BT, L),
            position_ids=positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        for row, new in zip(batch, news, strict=True):
            row.session.ids.extend(new)
            row.unread = row.unread[len(new) :]
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV

    def _masks(self, positions_BT: torch.Tensor, L: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Which of the L keys each new token attends to, for each kind of layer that the model has."""
        distance_B1TL = positions_BT[:, None, :, None] - torch.arange(L, device=self._device)
        causal_B1TL = distance_B1TL >= 0
        masks = {}
        for kind in self._mask_kinds:
            allowed_B1TL = causal_B1TL
            if kind == "sliding_attention" and self._window is not None:
                allowed_B1TL = causal_B1TL & (distance_B1TL < self._window)
            if not self._boolean_mask:
                dtype = self._model.dtype
                zero = torch.zeros((), dtype=dtype, device=self._device)
                allowed_B1TL = torch.where(allowed_B1TL, zero, torch.finfo(dtype).min)
            masks[kind] = allowed_B1TL
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _score_batch(self) -> None:
        """Score what waits, as many texts of like length as one pass reads."""
        self._scores.sort(key=lambda job: len(job.ids))
        batch = [self._scores.pop()]
        longest = len(batch[0].ids)
        while self._scores and longest * (len(batch) + 1) <= READ_TOKENS:
            batch.append(self._scores.pop())
        live = [job for job in batch if job.future.set_running_or_notify_cancel()]
        try:
            for job, logps in zip(live, self._logps(live), strict=True):
                job.future.set_result(logps)
        except Exception as error:  # whatever torch raises belongs to the texts at hand
            for job in live:
                if not job.future.done():
                    job.future.set_exception(self._error(error))

    def _logps(self, jobs: list[_Score]) -> list[list[float]]:
        """Log-probabilities of each job's ids from its start on, read in pieces to bound memory."""
        B, T = len(jobs), max((len(job.ids) for job in jobs), default=0)
        ids_BT = torch.zeros(B, T, dtype=torch.long, device=self._device)
        for row, job in enumerate(jobs):
            ids_BT[row, : len(job.ids)] = torch.tensor(job.ids, device=self._device)
        piece = max(1, SCORE_LOGITS // max(1, B * self.vocabulary.size))
        logps: list[list[float]] = [[] for _ in jobs]
        cache = None
        for start in range(0, T - 1, piece):
            # Right padding under a causal mask: no text sees its padding.
            end = min(start + piece, T - 1)
            output = self._model(input_ids=ids_BT[:, start:end], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logps_BTV = output.logits.float().log_softmax(dim=-1)
            logps_BT = logps_BTV.gather(2, ids_BT[:, start + 1 : end + 1].unsqueeze(2)).squeeze(2)
            for row, job in enumerate(jobs):
                first, last = max(job.start - 1, start), min(len(job.ids) - 1, end)
                if first < last:
                    logps[row] += logps_BT[row, first - start : last - start].tolist()
        return logps

    def _fail(self, error: Exception) -> None:
        """Give ``error`` to everything under way and start afresh."""
        waiting: list[Future[Any]] = [
            row.future for row in {id(r): r for r in self._reading + self._writing}.values()
        ]
        waiting += [job.future for job in self._scores]
        self._reading, self._writing, self._scores = [], [], []
        for session in self._sessions.values():
            session.ids = []
        for future in waiting:
            if not future.done():
                future.set_exception(self._error(error))

    def _error(self, error: Exception) -> EngineError:
        if isinstance(error, EngineError):
            return error
        memory = isinstance(error, torch.OutOfMemoryError) or "alloc" in str(error).lower()
        return EngineError(
            f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no message'}",
            where=f"engine {self.name}",
            remedy="lower --concurrency, or serve the model and name it MODEL@URL" if memory else "",
        )


def _common(old: list[int], new: list[int]) -> int:
    """Length of the common start, found without a loop over tokens in the usual case."""
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


def _mask_kinds(config: Any, name: str) -> tuple[str, ...]:
    """The kinds of attention mask that the model's layers want."""
    kinds = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
    known = {"full_attention", "sliding_attention"}
    if any(kind not in known for kind in kinds):
        raise UserError(
            f"layers of kind {', '.join(sorted(set(kinds) - known))} keep a state that cannot be cut back",
            where=f"engine {name}",
            expected="full or sliding attention in every layer",
            remedy="serve the model (vLLM, SGLang) and name it MODEL@URL",
        )
    if not kinds:
        kinds = ("sliding_attention",) if getattr(config, "sliding_window", None) else ("full_attention",)
    return kinds
