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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from weft.chat import ChatTemplate
from weft.engines.base import Completion, CompletionRequest, Finish, Scored
from weft.engines.server.abilities import Abilities
from weft.engines.server.dialects import Ask
from weft.engines.server.reading import choice_of, ids_of
from weft.engines.server.replicas import Replicas
from weft.engines.server.text import Texts, whole
from weft.engines.server.transport import RequestError, Transport, Trouble
from weft.errors import UserError
from weft.records import GREEDY, Sampling
from weft.vocabulary import Vocabulary

BUSY = 32
"""Completions in flight, for each server, at which a request costs what it does under load."""
INVISIBLE = 4
"""Requests, each for twice as many tokens, after which an answer that shows nothing is taken for broken."""
MOST_GROWN = 64
"""Tokens up to which they grow where the context is not known."""
OTHER_ENDS = ("abort", "cancelled", "content_filter", "error", "eos", "tool_calls", "function_call")
"""Ends of a completion, other than a stop and its length, that are no secret."""


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
        self._in_flight = 0
        """Completions that are waited for."""
        self._end_id = end_id
        self._texts = Texts(vocabulary, abilities.start)
        self._transport, self._replicas = transport, replicas
        self._description = description

    @property
    def request_tokens(self) -> float:
        """What one more request costs, in tokens: the more, the more requests are in flight."""
        alone, busy = self.abilities.dialect.request_tokens
        return alone + (busy - alone) * min(1.0, self._in_flight / BUSY / len(self._replicas.all))

    def describe(self) -> Mapping[str, object]:
        return self._description

    def check(self, sampling: Sampling) -> None:
        for name, off in self.abilities.refused.items():
            given = getattr(sampling, name)
            if given != off:
                raise UserError(
                    f"the server does not take {name}, which is {given}",
                    where=f"engine {self.name}",
                    remedy=f"turn it off: --{name.replace('_', '-')} {off:g}",
                )

    async def complete(self, request: CompletionRequest) -> Completion:
        """Continue the prefix; see :meth:`weft.engines.base.Engine.complete`.

        Raises:
            EngineError: no answer after all that was tried.
            RunError: the server knows the model, or the key, no longer.
        """
        room = request.max_tokens if self.context is None else self.context - len(request.prefix)
        if room <= 0:
            return Completion((), Finish.CONTEXT, 0)
        most, full = min(room, request.max_tokens), Finish.LENGTH
        if room < request.max_tokens:
            full = Finish.CONTEXT
        ask, requests = self._ask(request, most), 0
        # How far a request may grow that brought nothing to be seen.
        limit = max(most, MOST_GROWN) if self.context is None else room
        while True:
            self._in_flight += 1
            try:
                (ids, stopped, posts), sent = await self._replicas.send(
                    request.session,
                    lambda url, ask=ask: self._visible(url, ask, limit),  # type: ignore[misc]
                )
                break
            except RequestError as error:
                if error.trouble is not Trouble.TOO_LONG:
                    raise
                requests += error.requests
                if ask.max_tokens == 1:
                    return Completion((), Finish.CONTEXT, requests)
                # It may be text and completion together: the context is full when not one token fits.
                ask, full = replace(ask, max_tokens=ask.max_tokens // 2), Finish.LENGTH
            finally:
                self._in_flight -= 1
        requests += sent + posts - 1
        if not ids and stopped is None:
            return Completion((), Finish.CONTEXT, requests)
        if stopped is not None and (not ids or ids[-1] not in request.stop):
            ids.append(stopped)
        for index, token in enumerate(ids):
            if token in request.stop:
                return Completion(tuple(ids[: index + 1]), Finish.STOP, requests)
        if len(ids) > most and self.abilities.ids_out:
            ids = ids[:most]
        return Completion(tuple(ids), full if len(ids) >= most else Finish.LENGTH, requests)

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

    async def _visible(self, url: str, ask: Ask, limit: int) -> tuple[list[int], int | None, int]:
        """As :meth:`_complete`, and how many requests it took; nothing where the context ends in a character.

        A server that gives text alone may have nothing to show: of a character's first bytes, of an end that
        came as the last token. It is asked for more, up to ``limit`` tokens.
        """
        for posts in range(1, INVISIBLE + 1):
            try:
                ids, stopped, begun = await self._complete(url, ask)
            except RequestError as error:
                if posts > 1 and error.trouble is Trouble.TOO_LONG:
                    break
                raise
            if ids or stopped is not None or (begun and ask.max_tokens == limit):
                return ids, stopped, posts
            ask = replace(ask, max_tokens=min(limit, ask.max_tokens * 2))
        raise RequestError(Trouble.BROKEN, f"wrote {ask.max_tokens} tokens and nothing visible", where=url)

    async def _complete(self, url: str, ask: Ask) -> tuple[list[int], int | None, bool]:
        """The ids of one answer, the id that ended it where the server stopped by itself, and whether the
        beginning of a character was left out at its end."""
        answer = await self._transport.post(f"{url}/completions", self.abilities.dialect.body(ask))
        choice = choice_of(answer, url)
        finish = choice.get("finish_reason")
        if finish not in ("stop", "length"):
            known = finish if finish is None or finish in OTHER_ENDS else "unknown"
            raise RequestError(Trouble.BROKEN, f"ended with finish_reason {known}", where=url)
        stopped = self._stopped_by(choice, ask) if finish == "stop" else None
        if self.abilities.ids_out:
            ids = ids_of(self.abilities.dialect.ids(answer, choice), url)
            if not ids:  # the token that ends a text is one of them
                raise RequestError(Trouble.BROKEN, "returned no token", where=url)
            return ids, stopped, False
        text = choice.get("text")
        if not isinstance(text, str):
            raise RequestError(
                Trouble.BROKEN, f"returned {type(text).__name__} in place of a text", where=url
            )
        kept = whole(text) if finish == "length" else text
        try:
            return self._texts.ids(kept), stopped, len(kept) < len(text)
        except ValueError as error:
            raise RequestError(Trouble.REFUSED, str(error), where=url) from error

    def _stopped_by(self, choice: Mapping[str, Any], ask: Ask) -> int:
        said = self.abilities.dialect.stopped_by(choice)
        return said if isinstance(said, int) and said in ask.stop else self._end_id


class ScoringServerEngine(ServerEngine):
    """A server that gives log-probabilities of a given text."""

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        """What the model thinks of each id of ``continuation``. See :class:`weft.engines.base.Scorer`.

        Raises:
            EngineError: the server failed after all that was tried.
        """
        if not continuation:
            return Scored((), ())
        ask = Ask(self.model, [*prefix, *continuation], 1, GREEDY, 0, tuple(sorted(self.end_ids)))
        session = f"score {id(ask)}"
        try:
            scored, _ = await self._replicas.send(
                session, lambda url: self._score(url, ask, len(continuation))
            )
        finally:
            self._replicas.release(session)
        return scored

    async def _score(self, url: str, ask: Ask, count: int) -> Scored:
        dialect = self.abilities.dialect
        answer = await self._transport.post(f"{url}/completions", dialect.score_body(ask))
        try:
            given = dialect.scored(choice_of(answer, url))[-count:]
            logps = tuple(float(logp) for logp, _ in given)
            ranks = tuple(int(rank) for _, rank in given if rank is not None)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration, IndexError) as error:
            raise RequestError(
                Trouble.BROKEN, f"no log-probabilities: {type(error).__name__}", where=url
            ) from error
        if len(logps) != count:
            raise RequestError(Trouble.BROKEN, f"{len(logps)} log-probabilities of {count} tokens", where=url)
        return Scored(logps, ranks if len(ranks) == count else None)


def _seed(seed: int, position: int) -> int:
    """The seed of one request: of the text's seed and where it goes on."""
    digest = blake2b(f"{seed}|{position}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
