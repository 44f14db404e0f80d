"""Asking one server: single requests for one token each, and which kind of server answers them.

It does not know what else is to be found out; :mod:`weft.engines.server.probe` asks that.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from weft.engines.server.dialects import DIALECTS, Ask, LlamaCpp, OpenAI, Prompt, SGLang, Transformers
from weft.engines.server.reading import choice_of
from weft.engines.server.transport import FINAL, RequestError, Transport, Trouble
from weft.errors import UserError
from weft.records import GREEDY, Sampling

T = TypeVar("T")

TRIES = 4
"""Attempts at each request: one that fails may be bad luck, four are not."""
UNKNOWN_FIELD = "weft_asks_whether_unknown_fields_are_refused"


class Interview:
    """One server, one model."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        *,
        name: str,
        model: str,
        text: str,
        ids: Sequence[int],
        stop: tuple[int, ...],
    ) -> None:
        """Prepare to ask.

        Args:
            name: the engine's, for messages.
            model: what the server calls it.
            text, ids: the prompt that is asked.
            stop: ids that end a response.
        """
        self._transport, self.url, self.where, self.model = transport, url, f"engine {name}", model
        self.text, self.ids, self._stop = text, ids, stop
        self._models: list[Mapping[str, Any]] = []

    async def ask(self, dialect: OpenAI, prompt: Prompt, sampling: Sampling = GREEDY) -> dict[str, Any]:
        """One token after ``prompt``.

        Raises:
            RequestError: no answer, or one without a choice.
        """
        return await self.post(dialect.body(self.asked(prompt, sampling)))

    def asked(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Ask:
        return Ask(self.model, prompt, 1, sampling, 0, self._stop)

    async def post(self, body: Mapping[str, object]) -> dict[str, Any]:
        """One completion, as :meth:`ask`."""

        async def once() -> dict[str, Any]:
            answer = await self._transport.post(f"{self.url}/completions", body)
            choice_of(answer, self.url)
            return answer

        return await self._patiently(once)

    async def page(self, path: str) -> str:
        """A page beside the API; empty if there is none."""
        try:
            return await self._transport.get_text(f"{self.url.removesuffix('/v1')}/{path}")
        except RequestError:
            return ""

    async def json_page(self, path: str) -> dict[str, Any]:
        """A page of JSON beside the API; empty if there is none."""
        try:
            return await self._transport.get(f"{self.url.removesuffix('/v1')}/{path}")
        except RequestError:
            return {}

    @property
    def listed(self) -> Mapping[str, Any]:
        """What ``/v1/models`` says of the model; empty if it does not list it."""
        return next((model for model in self._models if model.get("id") == self.model), {})

    async def recognise(self) -> tuple[OpenAI, dict[str, Any], bool]:
        """The kind of server, its answer to the prompt, and whether it says itself what it is.

        Raises:
            UserError: it refuses the key or the model, or takes no completion.
            RequestError: it does not answer, which may pass.
        """
        try:
            await self._list()
            owners = {str(model.get("owned_by")) for model in self._models}
            known = next((dialect for dialect in DIALECTS if owners & dialect.owners), None)
            if known is not None:
                self._check_model(known)
                return known, await self.ask(known, self.ids), True
            dialect, answer = await self._by_answers()
            return dialect, answer, False
        except RequestError as error:
            raise self._refusal(error) from error

    async def _by_answers(self) -> tuple[OpenAI, dict[str, Any]]:
        """The first kind whose requests are answered as that kind answers them."""
        for dialect in DIALECTS:
            if dialect.takes_ids and (answer := await self._if_taken(dialect, self.ids)) is not None:
                if dialect.ids(answer, choice_of(answer, self.url)) is not None:
                    return dialect, answer
            elif isinstance(dialect, Transformers) and await self._refuses_unknown_fields():
                # Who ignores unknown fields would ignore `generation_config`, and all of sampling with it.
                answer = await self._if_taken(dialect, self.text)
                if answer is not None:
                    return dialect, answer
        plain = DIALECTS[-1]
        return plain, await self.ask(plain, self.text)

    async def _refuses_unknown_fields(self) -> bool:
        try:
            await self.post({**DIALECTS[-1].body(self.asked(self.text)), UNKNOWN_FIELD: True})
        except RequestError as error:
            return error.trouble is Trouble.REFUSED
        return False

    async def _if_taken(self, dialect: OpenAI, prompt: Prompt) -> dict[str, Any] | None:
        """The answer; ``None`` if the server takes no such request."""
        try:
            return await self.ask(dialect, prompt)
        except RequestError as error:
            if error.trouble in (Trouble.REFUSED, Trouble.BROKEN):
                return None
            raise

    async def _list(self) -> None:
        """Read ``/v1/models``."""
        try:
            answer = await self._patiently(lambda: self._transport.get(f"{self.url}/models"))
        except RequestError as error:
            if error.status == 404:  # not every proxy has the page
                return
            raise
        data = answer.get("data")
        self._models = [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []

    def _check_model(self, dialect: OpenAI) -> None:
        """Some servers serve what they have under any name."""
        names = self._names
        adapted = isinstance(dialect, SGLang) and self.model.partition(":")[0] in names
        if isinstance(dialect, SGLang | LlamaCpp) and names and self.model not in names and not adapted:
            raise self._no_such_model(f"it lists {', '.join(names[:5])}")

    @property
    def _names(self) -> list[str]:
        names = [str(model.get("id")) for model in self._models]
        for model in self._models:
            aliases = model.get("aliases")
            names += [str(alias) for alias in aliases] if isinstance(aliases, list) else []
        return list(dict.fromkeys(names))

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try a few times where a failure may be bad luck."""
        for attempt in range(TRIES - 1):
            try:
                return await once()
            except RequestError as error:
                if error.trouble in FINAL or error.timed_out:
                    raise
                await asyncio.sleep(min(error.retry_after or 0.25 * 2**attempt, 10.0))
        return await once()

    def _refusal(self, error: RequestError) -> Exception:
        """What a refusal means at the start; what may pass stays as it is."""
        if error.status in (401, 403):
            return UserError(
                f"the server refuses the key ({error.what})",
                where=self.where,
                remedy="put the key into OPENAI_API_KEY, or name another variable by --student-api-key-env "
                "or --teacher-api-key-env",
            )
        if error.trouble not in (Trouble.DENIED, Trouble.REFUSED):
            return error
        if self._names and self.model not in self._names:
            return self._no_such_model(error.what)
        return UserError(
            f"{self.url} takes no completion: {error.what}",
            where=self.where,
            expected="an OpenAI-compatible server with /v1/completions",
            remedy="check the address; chat alone (/v1/chat/completions) cannot continue a text exactly",
        )

    def _no_such_model(self, why: str) -> UserError:
        names = self._names
        near = difflib.get_close_matches(self.model, names, n=1, cutoff=0.3) or names
        return UserError(
            f"{self.url} does not serve {self.model!r}: {why}",
            where=self.where,
            expected=", ".join(names[:5]) + (", …" if len(names) > 5 else ""),
            remedy=f"name it as the server does: {near[0]}@{self.url.removesuffix('/v1')}, and its own "
            "name or folder by --student-tokenizer or --teacher-tokenizer",
        )
