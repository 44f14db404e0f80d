"""``reward:MODEL``: a model with a head of one number, trained to say how good a response is.

Prompt and response are rendered in the model's own chat template and read in batches of alike lengths; the
number is what the model's ``forward`` returns for the text alone.

Invariants
    - A batch holds at most :data:`PROCESSOR_TOKENS` (or :data:`GPU_TOKENS`) positions, padding included, or
      one text; so memory is bounded by the longest text.
    - In 32 bits what shares a batch changes a reward only in its last digits; in 16 bits more.
    - Weights are safetensors and code is transformers' own.

There is no reward (``None``) for an empty response (such models never saw one, so its reward would mean
nothing), for a text longer than the model's positions, for messages that its template refuses, and where the
model says not-a-number.

It does not see thinking, nor the right answer.
"""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from weft.chat.rendering import TEMPLATE_ERRORS, JinjaRender, template_source
from weft.chat.template import NOTATIONS
from weft.engines.language import first_line, loaded_head
from weft.engines.loading import weights
from weft.engines.settings import EngineSettings
from weft.errors import EngineError, UserError
from weft.quality.base import Answered
from weft.quality.plain import Plain
from weft.records import Message

PROCESSOR_TOKENS = 4_096
"""Positions of a batch on a processor."""
GPU_TOKENS = 16_384
"""Positions of a batch on a GPU."""
PROBE = Answered((Message("user", "What is two and two?"),), "weft0probe")


class RewardModel:
    """A :class:`weft.quality.base.Quality`; the model runs in a thread of its own."""

    binary = False

    def __init__(
        self, name: str, model: Any, tokenizer: Any, *, date: datetime.date, positions: int | None = None
    ) -> None:
        """Take a loaded model.

        Args:
            name: as the user named it.
            date: what the template prints as today.
            positions: of a batch; left out: see the module's invariants.

        Raises:
            UserError: there is no chat template, or it does not show the response.
        """
        self.name = name
        where = f"quality {name}"
        self._model, self._tokenizer, self._date = model, tokenizer, date
        self._render = _template(tokenizer, where)
        self._plain = Plain(_controls(tokenizer))
        config = model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._pad: int | None = config.pad_token_id
        self._positions = positions or (PROCESSOR_TOKENS if model.device.type == "cpu" else GPU_TOKENS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"weft {name}")
        self._waiting: list[tuple[list[Answered], asyncio.Future[list[float | None]]]] = []
        self._reading: asyncio.Task[None] | None = None
        rendered = self._text(PROBE)
        if rendered is None or PROBE.response not in rendered:
            raise UserError(
                "its chat template does not show what the assistant says",
                where=where,
                expected="a template that renders a user's message and the response to it",
                remedy="choose a reward model of chats",
            )
        self._description = {
            "quality": "reward",
            "architecture": type(model).__name__,
            "weights": weights(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "chat_template": rendered,
            "transformers": transformers.__version__,
        }

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        """The reward of each. Calls that wait for the model at the same time share batches. ``[n]``

        Raises:
            EngineError: the model failed at one of them, for want of memory say, or was closed.
        """
        future: asyncio.Future[list[float | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(answered), future))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await future

    async def _read(self) -> None:
        """Read all that waits, until nothing does."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            waiting = [(texts, future) for texts, future in waiting if not future.done()]
            texts = [text for several, _ in waiting for text in several]
            try:
                read = await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, texts)
            except Exception as error:  # a defect is of those who asked; nobody may wait for ever
                failure = error if not isinstance(error, RuntimeError) else self._failed(error)
                read = [failure] * len(texts)
            answers = iter(read)
            for several, future in waiting:
                given = list(islice(answers, len(several)))
                if future.done():
                    continue
                if failures := [one for one in given if isinstance(one, Exception)]:
                    future.set_exception(failures[0])
                else:
                    future.set_result([one for one in given if not isinstance(one, Exception)])

    def describe(self) -> Mapping[str, object]:
        return self._description

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._model = None

    def check(self) -> None:
        """Read one short text.

        Raises:
            UserError: model and tokenizer do not fit together.
        """
        try:
            reward = self._rewards([self._ids(PROBE) or []])[0]
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise UserError(
                f"it cannot read a short text: {first_line(error)}",
                where=f"quality {self.name}",
                remedy="check that the folder's tokenizer is that of its model",
            ) from error
        if not math.isfinite(reward):
            raise UserError(
                "its reward is not a number (NaN or infinite)",
                where=f"quality {self.name}",
                remedy="train it again",
            )

    # -- in the thread -----------------------------------------------------------------------------

    def _judge(self, answered: Sequence[Answered]) -> list[float | Exception | None]:
        """The reward of each, or how the model failed at it."""
        rewards: list[float | Exception | None] = [None] * len(answered)
        texts = [(at, ids) for at, one in enumerate(answered) if (ids := self._ids(one)) is not None]
        texts.sort(key=lambda text: len(text[1]))
        for batch in self._batches(texts):
            try:
                read = self._rewards([ids for _, ids in batch])
            except RuntimeError as error:  # torch's, for want of memory too
                for at, _ in batch:
                    rewards[at] = self._failed(error)
                continue
            for (at, _), reward in zip(batch, read, strict=True):
                rewards[at] = reward if math.isfinite(reward) else None
        return rewards

    def _failed(self, error: Exception) -> EngineError:
        return EngineError(f"the reward model failed: {first_line(error)}", where=f"quality {self.name}")

    def _batches(self, texts: Sequence[tuple[int, list[int]]]) -> list[list[tuple[int, list[int]]]]:
        """Texts in the given order, as many together as fit."""
        batches: list[list[tuple[int, list[int]]]] = []
        for text in texts:
            last = batches[-1] if batches else []
            # Without an id for padding the model cannot tell where a text ends.
            room = 0 if self._pad is None else self._positions
            if last and len(text[1]) * (len(last) + 1) <= room:
                last.append(text)
            else:
                batches.append([text])
        return batches

    @torch.inference_mode()
    def _rewards(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """``texts`` in one pass; a model pools at the last id that is not padding."""
        longest = max(map(len, texts))
        ids_BT = torch.full((len(texts), longest), self._pad or 0, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, ids in enumerate(texts):
            ids_BT[row, : len(ids)] = torch.tensor(ids)
            mask_BT[row, : len(ids)] = 1
        device = self._model.device
        logits_B1: Tensor = self._model(ids_BT.to(device), attention_mask=mask_BT.to(device)).logits
        rewards: list[float] = logits_B1.float()[:, 0].tolist()
        return rewards

    def _ids(self, answered: Answered) -> list[int] | None:
        """The text in the model's tokens; ``None`` where it gives no reward."""
        text = self._text(answered) if answered.response.strip() else None
        if text is None:
            return None
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids if self._context is None or len(ids) <= self._context else None

    def _text(self, answered: Answered) -> str | None:
        """Prompt and response in the model's template; ``None`` if it refuses them."""
        said = Message("assistant", answered.response.strip())
        messages = [
            {"role": message.role, "content": self._plain(message.content)}
            for message in (*answered.messages, said)
        ]
        try:
            return self._render(messages, add_generation_prompt=False, strftime_now=self._date.strftime)
        except TEMPLATE_ERRORS:
            return None


def _controls(tokenizer: Any) -> set[str]:
    """What would act in a text: control tokens, few of which tokenizers list as special, and tags of
    thinking, before the last of which templates drop everything."""
    tags = {tag.strip() for notation in NOTATIONS for tag in notation}
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {*tokenizer.all_special_tokens, *added, *tags}


def _template(tokenizer: Any, where: str) -> JinjaRender:
    """The tokenizer's chat template.

    Raises:
        UserError: there is none that can be used.
    """
    try:
        source = template_source(tokenizer.chat_template, None, where)
    except UserError as error:
        raise UserError(
            error.what, where=where, expected=error.expected, remedy="choose a reward model of chats"
        ) from error
    return JinjaRender(source, dict(tokenizer.special_tokens_map), where=where)


def load_reward_model(name: str, folder: str, *, date: datetime.date) -> RewardModel:
    """Load a folder or hub id.

    Args:
        name: as the user named it.
        date: what the template prints as today.

    Raises:
        UserError: it is no model with a trained head of one number, or has no chat template.
    """
    where = f"quality {name}"
    settings = EngineSettings(name=folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer, model, missing = loaded_head(
            AutoModelForSequenceClassification, "reward model", settings, folder, device=device
        )
    except UserError as error:
        raise UserError(error.what, where=where, expected=error.expected, remedy=error.remedy) from error
    if missing:
        raise UserError(
            f"a model without a trained head: {', '.join(sorted(missing)[:3])} is not in its weights",
            where=where,
            expected="a reward model: a sequence classifier with one label",
        )
    if model.config.num_labels != 1:
        raise UserError(
            f"a classifier of {model.config.num_labels} labels",
            where=where,
            expected="a reward model: a sequence classifier with one label",
        )
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot move the model to {device}: {first_line(error)}", where=where) from error
    reward_model = RewardModel(name, model, tokenizer, date=date)
    reward_model.check()
    return reward_model
