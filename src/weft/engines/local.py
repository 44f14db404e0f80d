"""A transformers model in this process, batched as its requests come.

The device's worker runs one forward pass after another over whatever is ready: texts that have new tokens to
read, and one new token for every text that writes. Requests join and leave between passes, so no text waits
for another's end. Each session keeps its slot of the key-value cache from request to request: what
it shares with the last prefix is not computed again, and what was cut back costs nothing.

Where memory does not hold all texts, fewer are under way at a time: the cache is dropped, and what they had
read is read again. A text fails for want of memory only if it does not fit alone.

It does not know traces or boundaries. Attention must be by keys and values: models with recurrent state
cannot be cut back and are refused, and so is every model that does not compute the same text in slots as on
its own.

Shape suffixes: B rows of the batch, T new tokens, L attended length, V vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from weft.chat import ChatTemplate
from weft.engines.base import Completion, CompletionRequest, Finish, Scored, uniform
from weft.engines.sampler import draw
from weft.engines.scoring import Score, pop_batch, scored
from weft.engines.slots import Layout, Masks, SlotCache, common_start
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
CHECK_WINDOW = 512
"""Sliding windows shorter than this are passed when a model is checked; in tokens."""
CHECK_EXACT = 1e-3
"""Most distance of logits in a check, as a share of how much they vary, in float32 and wider."""
CHECK_HALF = 0.2
"""The same in 16 bits, where rounding differs with the shape of the batch."""
LENGTH_STEP = 32
"""The attended length is rounded up to this, so that few tensor shapes occur."""


@dataclass(slots=True)
class _Session:
    slot: int | None = None
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
            UserError: it does not write in slots what it writes alone, such as with recurrent state.
        """
        self._model = model
        config = model.config.get_text_config()
        self._masks = Masks.of_model(model, name)
        self._device = model.device
        self.name = name
        self.vocabulary = vocabulary
        self.template = template
        self.end_ids = end_ids
        self.sampling = sampling
        self.request_tokens = 1.0
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._attended = layers * heads * size
        self._parameters = sum(parameter.numel() for parameter in model.parameters())
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        self._description = dict(description)
        self._cache = SlotCache()
        self._slots = 0
        """Slots given out, free or not."""
        self._free: list[int] = []
        self._sessions: dict[str, _Session] = {}
        self._rows: list[_Row] = []
        """All completions in progress, the oldest first."""
        self._most_rows: int | None = None
        """How many of them are under way, and slots in use, at a time: what memory was found to hold."""
        self._scores: list[Score] = []
        self._score_tokens = READ_TOKENS
        self._closed = False
        self.threads = threads
        self._check()
        self._worker: Worker | None = Worker.join(str(self._device), self)

    def describe(self) -> Mapping[str, object]:
        return self._description

    def check(self, sampling: Sampling) -> None:
        """All fields are taken."""

    async def complete(self, request: CompletionRequest) -> Completion:
        future: Future[Completion] = Future()
        self._post((request, future))
        return await asyncio.wrap_future(future)

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        """What the model thinks of each id of ``continuation``, in one pass. See :class:`Scorer`.

        Raises:
            ValueError: ``prefix`` is empty.
        """
        if not continuation:
            return Scored((), (), ())
        if not prefix:
            raise ValueError("the first id of a text has no probability: the prefix is empty")
        job = Score([*prefix, *continuation], len(prefix), Future())
        self._post(job)
        return await asyncio.wrap_future(job.future)

    def release(self, session: str) -> None:
        if self._worker is not None:
            with suppress(EngineError):  # without a thread there is nothing to give back
                self._worker.post(self, session)

    async def close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.leave(self)

    def _post(self, job: tuple[CompletionRequest, Future[Completion]] | Score) -> None:
        if self._worker is None:
            raise EngineError(f"engine {self.name} was closed")
        self._worker.post(self, job)

    # -- in the worker's thread --------------------------------------------------------------------

    def take(self, job: object) -> None:
        """A request, a text to score, or the name of a session to forget. See :class:`Served`."""
        if isinstance(job, str):
            if (session := self._sessions.pop(job, None)) is not None:
                self._drop(session)
                if session.slot is not None:
                    self._free.append(session.slot)
        elif isinstance(job, Score):
            self._scores.append(job)
            if self._closed:
                self.shut()
        else:
            assert isinstance(job, tuple)
            request, future = job
            if not future.set_running_or_notify_cancel():
                return
            try:
                self._admit(request, future)
            except Exception as error:  # of this request alone
                self._give(future, error)

    def ready(self) -> int:
        rows = len(self._rows)
        return len(self._scores) + (rows if self._most_rows is None else min(rows, self._most_rows))

    def shut(self, error: Exception | None = None) -> None:
        self._closed = True
        rows, self._rows = self._rows, []
        scores, self._scores = self._scores, []
        waiting: list[Future[Any]] = [row.future for row in rows]
        waiting += [score.future for score in scores]
        for future in waiting:
            self._give(future, error or self._closing())
        self._sessions.clear()
        self._model, self._cache = None, SlotCache()

    def run_pass(self) -> None:
        """One pass: score what waits, else read what is new, else write a token for every text."""
        if self._scores:
            self._score_batch()
            return
        batch = self._next()
        try:
            self._step(batch)
        except Exception as error:  # whatever torch raises belongs to the rows at hand
            self._recover(batch, error)

    def _admit(self, request: CompletionRequest, future: Future[Completion]) -> None:
        if self._closed:
            raise self._closing()
        if not request.prefix:
            raise EngineError(
                "the prefix is empty: there is nothing to continue", where=f"engine {self.name}"
            )
        room = request.max_tokens if self.context is None else self.context - len(request.prefix)
        if room <= 0:
            future.set_result(Completion((), Finish.CONTEXT))
            return
        session = self._sessions.setdefault(request.session, _Session())
        self._drop(session)
        prefix = list(request.prefix)
        # The last id is read again even if its keys are there: its output yields the next token.
        kept = min(common_start(session.ids, prefix), len(prefix) - 1)
        session.ids = prefix[:kept]
        finish = Finish.LENGTH if request.max_tokens <= room else Finish.CONTEXT
        row = _Row(request, future, session, prefix[kept:], min(request.max_tokens, room), finish)
        self._rows.append(row)

    def _drop(self, session: _Session) -> None:
        """End what is under way for ``session``; nobody waits for it, as its requests never overlap."""
        for row in [row for row in self._rows if row.session is session]:
            self._rows.remove(row)
            self._give(row.future, EngineError("the session was released", where=f"engine {self.name}"))

    def _next(self) -> list[_Row]:
        """The rows of the next pass: those that read, as many as fit, else all that write."""
        active = self._rows[: self._most_rows]
        reading = sorted((row for row in active if len(row.unread) > 1), key=lambda row: len(row.unread))
        writing = [row for row in active if len(row.unread) == 1]
        if not reading:
            return writing
        # One pass for both, padded to one length, where that is cheaper than one after the other.
        lengths = [len(row.unread) for row in active]
        padding = len(lengths) * max(lengths) - sum(lengths)
        if writing and padding <= self._most_padding(max(len(row.session.ids) for row in active)):
            return [*writing, *reading]
        batch: list[_Row] = []
        for row in reading:
            if batch and min(len(row.unread), READ_TOKENS) * (len(batch) + 1) > READ_TOKENS:
                break
            batch.append(row)
        return batch

    def _most_padding(self, length: int) -> int:
        """Most tokens of padding that cost less than another pass, where texts are ``length`` tokens long."""
        if self._device.type != "cpu":
            return MERGE_TOKENS
        # Two operations for each weight, four for each key and each dimension of a head.
        return int(MERGE_FLOPS / (2 * self._parameters + 4 * self._attended * length))

    def _step(self, batch: list[_Row]) -> None:
        """One pass that reads the unread tokens of ``batch`` and writes one token for each row."""
        for row in batch:
            if row.session.slot is None:
                row.session.slot = self._slot()
        most = READ_TOKENS if len(batch) == 1 else max(len(row.unread) for row in batch)
        logits_BV = self._forward(batch, most)
        if batch[0].unread:  # a long text, read in part
            return
        batch, logits_BV = self._finite(batch, logits_BV)
        positions = [len(row.session.ids) for row in batch]
        uniforms = [
            uniform(row.request.seed, position) if row.request.sampling.temperature else 0.0
            for row, position in zip(batch, positions, strict=True)
        ]
        tokens = draw(logits_BV[:, : self.vocabulary.size], [row.request.sampling for row in batch], uniforms)
        done: set[int] = set()
        for row, token in zip(batch, tokens, strict=True):
            row.written.append(token)
            row.unread = [token]
            row.budget -= 1
            if token in row.request.stop:
                row.future.set_result(Completion(tuple(row.written), Finish.STOP))
            elif row.budget == 0:
                row.future.set_result(Completion(tuple(row.written), row.finish_at_budget))
            else:
                continue
            done.add(id(row))
        if done:
            self._rows = [row for row in self._rows if id(row) not in done]

    def _finite(self, batch: list[_Row], logits_BV: torch.Tensor) -> tuple[list[_Row], torch.Tensor]:
        """The rows whose logits are numbers; the others fail, since a token drawn from them means nothing."""
        finite = logits_BV.amax(dim=1).isfinite().tolist()
        if all(finite):
            return batch, logits_BV
        error = EngineError(
            "the model's logits are not finite",
            where=f"engine {self.name}",
            remedy="try --student-dtype (or --teacher-dtype) float32, or bfloat16 in place of float16",
        )
        whole = [row for row, ok in zip(batch, finite, strict=True) if ok]
        broken = {id(row): row for row, ok in zip(batch, finite, strict=True) if not ok}
        for row in broken.values():
            self._give(row.future, error)
        self._rows = [row for row in self._rows if id(row) not in broken]
        return whole, logits_BV[torch.tensor(finite, device=logits_BV.device)]

    def _slot(self) -> int:
        """A free slot, a new one, or where memory holds no more that of a session out of the current rows."""
        if self._free:
            return self._free.pop()
        if self._slots == self._most_rows:
            active = {id(row.session) for row in self._rows[: self._most_rows]}
            for session in self._sessions.values():
                if session.slot is not None and id(session) not in active:
                    slot, session.slot, session.ids = session.slot, None, []
                    for row in self._rows:
                        if row.session is session:
                            row.unread = [*row.request.prefix, *row.written]
                    return slot
        self._slots += 1
        return self._slots - 1

    def _recover(self, batch: list[_Row], error: Exception) -> None:
        """After a failed pass: for want of memory go on with fewer rows; any other error is of ``batch``."""
        memory = _is_memory(error)
        held = sum(session.slot is not None for session in self._sessions.values())
        if memory or not self._cache.slots:
            self._forget()
        if memory:
            # What did not fit alone was itself the cause: the others may be many again.
            self._most_rows = held // 2 or None
            if held > 1:
                return
        failed = {id(row) for row in batch}
        self._rows = [row for row in self._rows if id(row) not in failed]
        for row in batch:
            row.session.ids = []
            self._give(row.future, error)

    def _forget(self) -> None:
        """Drop the cache; all that was read is to be read again."""
        self._cache, self._slots, self._free = SlotCache(), 0, []
        for session in self._sessions.values():
            session.slot, session.ids = None, []
        for row in self._rows:
            row.unread = [*row.request.prefix, *row.written]

    def _forward(self, batch: list[_Row], most: int) -> torch.Tensor:
        """Read up to ``most`` unread ids of each row; logits (B, V) after the last of them.

        Rows are aligned at their last token. Padding on the left writes past the end of what is attended to.
        """
        news = [row.unread[:most] for row in batch]
        T = max(map(len, news))
        starts = [len(row.session.ids) for row in batch]
        longest = max(start + len(new) for start, new in zip(starts, news, strict=True))
        L = -(-longest // LENGTH_STEP) * LENGTH_STEP
        padded = any(len(new) < T for new in news)
        self._cache.reserve(self._slots, L + padded)
        ids, positions, write = [], [], []
        for start, new in zip(starts, news, strict=True):
            pad, own = T - len(new), range(start, start + len(new))
            ids.append([0] * pad + new)
            positions.append([0] * pad + list(own))
            write.append([L] * pad + list(own))
        positions_BT = torch.tensor(positions, device=self._device)
        slots_B = torch.tensor([row.session.slot for row in batch], device=self._device)
        self._cache.layout = Layout(
            slots_B=slots_B,
            write_slots_BT=slots_B[:, None].expand(-1, T),
            write_positions_BT=torch.tensor(write, device=self._device) if padded else positions_BT,
            length=L,
        )
        output = self._model(
            input_ids=torch.tensor(ids, device=self._device),
            attention_mask=self._masks.of(positions_BT, L),
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

    @torch.inference_mode()
    def _check(self) -> None:
        """Refuse a model that ignores this engine's masks, positions or cache: its text would be wrong.

        Two texts of random ids, one of them past the end of a short window, are read in two passes in slots;
        after each pass the logits must be those of the model by itself.
        """
        window = self._masks.window
        length = min(window + 8 if window and window < CHECK_WINDOW else 24, self.context or 24)
        generator = torch.Generator().manual_seed(0)
        config = self._model.config.get_text_config()
        size = min(self.vocabulary.size, getattr(config, "vocab_size", self.vocabulary.size))
        ids = torch.randint(size, (length,), generator=generator).tolist()
        first = length // 2 + 1
        rows = []
        for slot, text in ((1, ids), (0, ids[::-1][: min(first + 2, length)])):
            request = CompletionRequest("", text, 1, self.sampling, 0, frozenset())
            rows.append(_Row(request, Future(), _Session(slot), text, 1, Finish.LENGTH))
        self._slots = 2
        try:
            agreement = 1.0
            for _ in range(2):
                ours_BV = self._forward(rows, first)
                for row, ours_V in zip(rows, ours_BV, strict=True):
                    read = torch.tensor([row.session.ids], device=self._device)
                    theirs_V = self._model(input_ids=read, use_cache=False).logits[0, -1]
                    agreement = min(agreement, _agreement(ours_V[:size].double(), theirs_V[:size].double()))
            exact = torch.finfo(self._model.dtype).bits >= 32
            if not agreement >= (1 - CHECK_EXACT if exact else 1 - CHECK_HALF):
                raise ValueError(f"its logits agree with its own by {agreement:.4f} only")
        except Exception as error:
            raise UserError(
                f"this model cannot be run in this process exactly ({_first_line(error)})",
                where=f"engine {self.name}",
                remedy="serve it (vLLM, SGLang) and name it MODEL@URL",
            ) from error
        self._forget()

    def _score_batch(self) -> None:
        batch = pop_batch(self._scores, self._score_tokens)
        live = [job for job in batch if not job.future.cancelled()]
        try:
            for job, found in zip(live, scored(self._model, live, self.vocabulary.size), strict=True):
                with suppress(InvalidStateError):  # cancelled meanwhile
                    job.future.set_result(found)
        except Exception as error:  # whatever torch raises belongs to the texts at hand
            if _is_memory(error) and (len(live) > 1 or self._slots):
                self._forget()
                self._score_tokens = max(len(job.ids) for job in live) * (len(live) // 2)
                self._scores.extend(live)
                return
            for job in live:
                self._give(job.future, error)

    def _give(self, future: Future[Any], error: Exception) -> None:
        with suppress(InvalidStateError):  # cancelled, or given before
            future.set_exception(self._error(error))

    def _closing(self) -> EngineError:
        return EngineError(f"engine {self.name} was closed")

    def _error(self, error: Exception) -> EngineError:
        if isinstance(error, EngineError):
            return error
        return EngineError(
            _first_line(error),
            where=f"engine {self.name}",
            remedy="lower --concurrency, or serve the model and name it MODEL@URL"
            if _is_memory(error)
            else "",
        )


def _agreement(ours_V: torch.Tensor, theirs_V: torch.Tensor) -> float:
    """1 less the distance of the logits, as a share of how much they vary."""
    ours_V, theirs_V = ours_V - ours_V.mean(), theirs_V - theirs_V.mean()
    return 1.0 - float((ours_V - theirs_V).norm() / theirs_V.norm().clamp_min(1e-9))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no message'}"


def _is_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "alloc" in str(error).lower()
