"""A model behind servers, as an engine.

Every completion is one plain request for a chunk of tokens. Streaming with an abort at the boundary was
measured and is slower (``benchmarks/chunks.py``): each streamed token costs the server more than a discarded
one.

Invariants
    - A completion has ids, or says that the context is full, or fails. There is no silent empty text.
    - Greedy text is a function of the prefix. Drawn text is one of prefix and seed where the server keeps its
      promise, and it depends on where chunks end: a server draws by request, not by position.

It does not know traces, authors or boundaries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from weft.chat import ChatTemplate
from weft.engines.base import Completion, CompletionRequest, Finish
from weft.engines.server.cost import RequestCost
from weft.engines.server.dialects import Ask
from weft.engines.server.probe import Abilities
from weft.engines.server.reading import choice_of, ids_of
from weft.engines.server.replicas import Replicas
from weft.engines.server.text import Texts, whole
from weft.engines.server.transport import RequestError, Transport, Trouble
from weft.errors import EngineError, UserError
from weft.records import Sampling
from weft.vocabulary import Vocabulary

INVISIBLE = 3
"""Requests, each for twice as many tokens, after which a server that writes nothing visible is given up."""


class ServerEngine:
    """See the module's docstring; :func:`weft.engines.server.open_server` makes one."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        end_ids: frozenset[int],
        end_id: int,
        sampling: Sampling,
        abilities: Abilities,
        transport: Transport,
        replicas: Replicas,
        description: Mapping[str, object],
    ) -> None:
        """``end_id``: the one of ``end_ids`` that stands for an end that the server does not show."""
        self.name, self.model = name, model
        self.vocabulary, self.template = vocabulary, template
        self.end_ids, self.sampling = end_ids, sampling
        self.abilities = abilities
        self.context = abilities.context
        self._cost = RequestCost(abilities.dialect.request_tokens)
        self._end_id = end_id
        self._texts = Texts(vocabulary, abilities.start)
        self._transport, self._replicas = transport, replicas
        self._description = description

    @property
    def request_tokens(self) -> float:
        """What one more request costs, in tokens: learned from how long requests take."""
        return self._cost.tokens

    def describe(self) -> Mapping[str, object]:
        return self._description

    async def complete(self, request: CompletionRequest) -> Completion:
        """Continue the prefix; see :meth:`weft.engines.base.Engine.complete`.

        Raises:
            EngineError: no answer after all that was tried.
            RunError: the server knows the model, or the key, no longer.
            UserError: the server does not take a sampling field that is not off.
        """
        room = request.max_tokens if self.context is None else self.context - len(request.prefix)
        if room <= 0:
            return Completion((), Finish.CONTEXT, 0)
        self._check_sampling(request.sampling)
        most, full = min(room, request.max_tokens), Finish.LENGTH
        if room < request.max_tokens:
            full = Finish.CONTEXT
        requests, ask = 0, self._ask(request, most)
        for _ in range(INVISIBLE):
            try:
                (ids, stopped), sent = await self._replicas.send(
                    request.session,
                    lambda url, ask=ask: self._complete(url, ask),  # type: ignore[misc]
                )
            except RequestError as error:
                if error.trouble is Trouble.TOO_LONG:
                    return Completion((), Finish.CONTEXT, requests + 1)
                raise
            requests += sent
            if ids or stopped is not None:
                break
            # A server that gives text alone: the beginning of a character, or tokens that it hides.
            ask = Ask(ask.model, ask.prompt, ask.max_tokens * 2, ask.sampling, ask.seed, ask.stop)
        else:
            raise EngineError(
                f"wrote {ask.max_tokens // 2} tokens of which none is visible", where=f"engine {self.name}"
            )
        if stopped is not None and (not ids or ids[-1] not in request.stop):
            ids.append(stopped)
        for index, token in enumerate(ids):
            if token in request.stop:
                return Completion(tuple(ids[: index + 1]), Finish.STOP, requests)
        if len(ids) > most and self.abilities.ids_out:
            ids = ids[:most]
        return Completion(tuple(ids), full if len(ids) >= most else Finish.LENGTH, requests)

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> list[float]:
        """Log-probability in nats of each id of ``continuation``. See :class:`weft.engines.base.Scorer`.

        Raises:
            EngineError: the server cannot, or failed after all that was tried.
        """
        if not continuation:
            return []
        if not self.abilities.scores:
            raise EngineError(
                f"{self.abilities.dialect.title} gives no log-probabilities of a given text",
                where=f"engine {self.name}",
                remedy="use vLLM or SGLang, or a model in process",
            )
        sampling = Sampling(0.0, 1.0, 0, 0.0)
        ask = Ask(self.model, [*prefix, *continuation], 1, sampling, 0, tuple(sorted(self.end_ids)))
        session = f"score {id(ask)}"
        try:
            logps, _ = await self._replicas.send(
                session, lambda url: self._score(url, ask, len(continuation))
            )
        finally:
            self._replicas.release(session)
        return logps

    def release(self, session: str) -> None:
        self._replicas.release(session)

    async def close(self) -> None:
        await self._transport.close()

    def _ask(self, request: CompletionRequest, most: int) -> Ask:
        prompt = request.prefix if self.abilities.ids_in else self._texts.of(request.prefix)
        return Ask(
            self.model,
            prompt,
            most,
            request.sampling,
            _seed(request.seed, len(request.prefix)),
            tuple(sorted(request.stop)),
        )

    def _check_sampling(self, sampling: Sampling) -> None:
        for name, off in self.abilities.refused.items():
            given = getattr(sampling, name)
            if given != off:
                raise UserError(
                    f"the server does not take {name}, which is {given}",
                    where=f"engine {self.name}",
                    remedy=f"turn it off: --{name.replace('_', '-')} {off:g}",
                )

    async def _complete(self, url: str, ask: Ask) -> tuple[list[int], int | None]:
        """The ids of one answer, and the id that ended it where the server stopped by itself."""
        started = time.monotonic()
        answer = await self._transport.post(f"{url}/completions", self.abilities.dialect.body(ask))
        seconds = time.monotonic() - started
        choice = choice_of(answer, url)
        finish = choice.get("finish_reason")
        if finish not in ("stop", "length"):
            raise RequestError(Trouble.BROKEN, f"ended with finish_reason {finish!r}", where=url)
        stopped = self._stopped_by(choice, ask) if finish == "stop" else None
        if self.abilities.ids_out:
            ids = ids_of(self.abilities.dialect.ids(answer, choice), url)
            if not ids and stopped is None:
                raise RequestError(Trouble.BROKEN, "returned no token and no reason", where=url)
            self._cost.learn(len(ids), seconds)
            return ids, stopped
        text = choice.get("text")
        if not isinstance(text, str):
            raise RequestError(Trouble.BROKEN, f"returned {text!r} in place of a text", where=url)
        if finish == "length":
            text = whole(text)
        try:
            return self._texts.ids(text), stopped
        except ValueError as error:
            raise RequestError(Trouble.REFUSED, str(error), where=url) from error

    def _stopped_by(self, choice: Mapping[str, Any], ask: Ask) -> int:
        said = self.abilities.dialect.stopped_by(choice)
        return said if isinstance(said, int) and said in ask.stop else self._end_id

    async def _score(self, url: str, ask: Ask, count: int) -> list[float]:
        dialect = self.abilities.dialect
        answer = await self._transport.post(f"{url}/completions", dialect.score_body(ask))
        try:
            logps = [float(logp) for logp in dialect.scored(choice_of(answer, url))[-count:]]
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration, IndexError) as error:
            raise RequestError(Trouble.BROKEN, f"no log-probabilities: {error!r}", where=url) from error
        if len(logps) != count:
            raise RequestError(Trouble.BROKEN, f"{len(logps)} log-probabilities of {count} tokens", where=url)
        return logps


def _seed(seed: int, position: int) -> int:
    """The seed of one request: of the text's seed and where it goes on."""
    digest = blake2b(f"{seed}|{position}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
