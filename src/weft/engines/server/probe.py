"""What a server can do, found out by asking it: real requests for one token each, never its name alone.

A health page says little: a server may answer there and nowhere else. So findings come from answers of
``/v1/completions`` or, where those cannot show it, from the page that the server has for it.

It does not know replicas, sampling that a run wants, or how findings are shown.
"""

from __future__ import annotations

import asyncio
import difflib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from weft.chat import ChatTemplate
from weft.engines.server.dialects import DIALECTS, VLLM, Ask, LlamaCpp, OpenAI, Prompt, Transformers
from weft.engines.server.reading import choice_of, ids_of
from weft.engines.server.transport import RequestError, Transport, Trouble
from weft.errors import UserError
from weft.records import Message, Sampling
from weft.vocabulary import Vocabulary

T = TypeVar("T")

GREEDY = Sampling(0.0, 1.0, 0, 0.0)
DRAWN = Sampling(0.7, 0.9, 20, 0.01)
PLAIN = "The quick brown fox, naïve: 12 + 7 = 19.\n\n你好 🙂 it's done"
"""What the probe asks: text that two tokenizers hardly spell alike."""
CACHED_TOKENS = 1_024
"""Length of the text that is sent twice to see a prefix cache: several of any server's blocks."""
CACHE_HITS = "vllm:prefix_cache_hits_total"
"""vLLM's count of tokens that its prefix cache has served."""
TRIES = 4
"""Attempts at each request of the probe: one that fails may be bad luck, four are not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked, and what came of it."""

    check: str
    ok: bool | None
    """``None``: it cannot be told, or does not matter here."""
    said: str
    use: str = ""
    """What Weft does about it."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one server can do."""

    dialect: OpenAI
    version: str | None
    ids_in: bool
    ids_out: bool
    start: str
    """The token that the server puts before every text by itself; empty if none."""
    context: int | None
    scores: bool
    refused: Mapping[str, float]
    """Sampling fields that the server does not take, and the value at which each is off."""
    findings: tuple[Finding, ...] = field(default=(), compare=False)


class Probe:
    """Asks one server, once."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        *,
        name: str,
        model: str,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        end_ids: frozenset[int],
        start: str,
    ) -> None:
        """``name`` is the engine's, for messages; ``model`` what the server calls it; ``start`` the
        token that the tokenizer puts before a text, empty if none."""
        self._start = start
        self._transport, self._url, self._where, self._model = transport, url, f"engine {name}", model
        self._vocabulary, self._template = vocabulary, template
        self._stop = tuple(sorted(end_ids))
        self._text = template.prompt([Message("user", PLAIN)])
        self._ids = vocabulary.encode_template(self._text)
        self._models: list[Mapping[str, Any]] = []
        self._findings: list[Finding] = []

    async def run(self, *, thorough: bool = False) -> Abilities:
        """Ask all that Weft has to know; ``thorough``: also what only people want to know.

        Raises:
            UserError: the server refuses the key or the model, has another tokenizer, or cannot serve.
            RequestError: it does not answer, which may pass.
        """
        await self._list()
        dialect, answer = await self._recognise()
        choice = choice_of(answer, self._url)
        ids_in = self._took_ids(dialect, answer)
        ids_out = dialect.ids(answer, choice) is not None
        if ids_out:
            ids_of(dialect.ids(answer, choice), self._url)
        start = await self._tokenizer(dialect)
        self._note_ids(ids_in, ids_out)
        await self._tags(dialect, ids_out, thorough)
        abilities = Abilities(
            dialect=dialect,
            version=await self._version(dialect),
            ids_in=ids_in,
            ids_out=ids_out,
            start=start,
            context=await self._context(dialect),
            scores=await self._scores(dialect, ids_in, thorough),
            refused=await self._sampling(dialect),
        )
        if thorough:
            await self._prefix_cache(dialect, abilities)
        return replace(abilities, findings=tuple(self._findings))

    # -- which server, which model -----------------------------------------------------------------

    async def _list(self) -> None:
        """Read ``/v1/models``."""
        try:
            answer = await self._patiently(lambda: self._transport.get(f"{self._url}/models"))
        except RequestError as error:
            if error.status == 404:  # not every proxy has the page
                return
            raise self._refusal(error) from error
        data = answer.get("data")
        self._models = [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []

    @property
    def _listed(self) -> Mapping[str, Any]:
        """What ``/v1/models`` says of the model; empty if it does not list it."""
        return next((model for model in self._models if model.get("id") == self._model), {})

    async def _recognise(self) -> tuple[OpenAI, dict[str, Any]]:
        """The kind of server, by what it says of itself or else by what it answers; and that answer."""
        owners = {str(model.get("owned_by")) for model in self._models}
        known = [dialect for dialect in DIALECTS if owners & dialect.owners]
        refusals: list[RequestError] = []
        for dialect in known or DIALECTS:
            if not known and isinstance(dialect, Transformers) and not refusals:
                continue  # it refuses fields that it does not know; a server that took them is another
            try:
                answer = await self._ask(dialect, self._ids if dialect.takes_ids else self._text)
            except RequestError as error:
                if error.trouble is not Trouble.REFUSED or dialect in known:
                    raise self._refusal(error) from error
                refusals.append(error)
                continue
            if (
                known
                or not dialect.takes_ids
                or dialect.ids(answer, choice_of(answer, self._url)) is not None
            ):
                how = "as it says of itself" if known else "by what it answers"
                self._note("server", True, f"{dialect.title}, {how}", "")
                if not dialect.takes_ids and not isinstance(dialect, Transformers):
                    answer = await self._with_ids(dialect, answer)
                return dialect, answer
        raise self._refusal(refusals[-1])

    async def _with_ids(self, dialect: OpenAI, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer to a prompt of ids, if the server takes one; else ``answer``."""
        try:
            return await self._ask(dialect, self._ids)
        except RequestError as error:
            if error.trouble is Trouble.REFUSED:
                return answer
            raise

    def _took_ids(self, dialect: OpenAI, answer: Mapping[str, Any]) -> bool:
        """Whether the answer is one to ids, as many as were sent."""
        if isinstance(dialect, Transformers):
            return False
        counted = _prompt_tokens(answer)
        return dialect.takes_ids if counted is None else counted == len(self._ids)

    async def _version(self, dialect: OpenAI) -> str | None:
        if dialect.version_page is None:
            return None
        page, key = dialect.version_page
        try:
            said = await self._transport.get(f"{self._url.removesuffix('/v1')}/{page}")
        except RequestError:
            return None
        return str(said[key]) if key in said else None

    # -- tokens ------------------------------------------------------------------------------------

    async def _tokenizer(self, dialect: OpenAI) -> str:
        """Compare how the server reads a text with how it is read here; the start token that it adds.

        Raises:
            UserError: it reads it otherwise.
        """
        answer = await self._ask(dialect, self._text)
        choice = choice_of(answer, self._url)
        theirs, count = dialect.prompt_ids(choice), _prompt_tokens(answer)
        start = ""
        if isinstance(theirs, list):
            added = theirs[: -len(self._ids)] if len(theirs) > len(self._ids) else []
            if theirs != [*added, *self._ids] or len(added) > 1:
                raise self._other_tokenizer(f"ids {theirs[:12]}… where it gives {self._ids[:12]}…")
            start = "".join(self._vocabulary.control(token) or "" for token in added)
            extra = len(added)
        elif count is None:
            self._note("tokenizer", None, "the server does not say how it reads a text", "")
            return ""
        else:
            extra = count - len(self._ids)
            if extra not in (0, 1):
                raise self._other_tokenizer(f"{count} tokens where it gives {len(self._ids)}")
            start = self._start if extra else ""
        self._note(
            "tokenizer",
            True,
            "reads a prompt as the tokenizer here does" + ("" if isinstance(theirs, list) else " (by count)"),
            "",
        )
        said, use = "none is added to a text", ""
        if extra:
            doubled = bool(start) and self._text.startswith(start)
            said = f"{start or 'one'} is added to every text" + (", where the template has it, too" * doubled)
            use = "taken off the text before it is sent" if doubled else "it cannot be taken off"
            if dialect.takes_ids:
                use = "ids are sent, to which nothing is added"
        self._note("start token", not extra, said, use)
        return start

    def _other_tokenizer(self, said: str) -> UserError:
        return UserError(
            f"the server's tokenizer is not the one given here: it reads the same text as {said}",
            where=self._where,
            expected=f"the tokenizer of the model that {self._url} serves",
            remedy="name the served model's folder or hub id by --student-tokenizer or --teacher-tokenizer "
            "(and its --…-revision)",
        )

    def _note_ids(self, ids_in: bool, ids_out: bool) -> None:
        self._note("ids in", ids_in, "taken" if ids_in else "refused", "" if ids_in else "text is sent")
        self._note(
            "ids out",
            ids_out,
            "given" if ids_out else "not given",
            "tokens are kept as they were drawn" if ids_out else "text is tokenised again on this side",
        )

    async def _tags(self, dialect: OpenAI, ids_out: bool, thorough: bool) -> None:
        """Whether the tag that closes thinking can be seen.

        Raises:
            UserError: the server hides it.
        """
        thinking = self._template.thinking
        tag = self._vocabulary.encode_template(thinking.marker) if thinking is not None else []
        special = len(tag) == 1 and self._vocabulary.control(tag[0]) is not None
        if thinking is None:
            self._note("closing tag", None, "the template knows no thinking", "")
        elif ids_out:
            said, use = "found by its id" if len(tag) == 1 else "found as text", ""
            if thorough and len(tag) == 1 and not await self._forced(dialect, tag[0]):
                said, use = "the server does not let it be forced, so it was not seen", "found by its id"
            self._note("closing tag", True, said, use)
        elif special:
            raise UserError(
                f"the server hides special tokens, and {thinking.marker} is one: the end of thinking would "
                "not be seen",
                where=self._where,
                expected="a server that returns token ids (vLLM, SGLang, llama.cpp's server)",
                remedy="serve the model with one of those, or run it in process; a tokenizer that has "
                "the tag as an ordinary added token (special: false) does as well",
            )
        else:
            self._note("closing tag", True, "visible as text", "found in the text")

    async def _forced(self, dialect: OpenAI, token: int) -> bool:
        try:
            answer = await self._post(dialect.forced(self._asked(self._ids), token))
        except RequestError:
            return False
        return dialect.ids(answer, choice_of(answer, self._url)) == [token]

    # -- limits and fields -------------------------------------------------------------------------

    async def _context(self, dialect: OpenAI) -> int | None:
        said = self._listed.get("max_model_len")
        if isinstance(dialect, LlamaCpp):
            try:
                props = await self._transport.get(f"{self._url.removesuffix('/v1')}/props")
            except RequestError:
                props = {}
            said = (props.get("default_generation_settings") or {}).get("n_ctx")
        context = said if isinstance(said, int) and said > 0 else None
        self._note(
            "context",
            None if context is None else True,
            "the server does not say" if context is None else f"{context:,} tokens",
            "the server's refusal ends a text" if context is None else "requests stay within it",
        )
        return context

    async def _sampling(self, dialect: OpenAI) -> Mapping[str, float]:
        """The sampling fields that are not taken."""
        refused = dict(dialect.refused)
        try:
            await self._ask(dialect, self._text if not dialect.takes_ids else self._ids, DRAWN)
        except RequestError as error:
            if error.trouble is not Trouble.REFUSED:
                raise
            refused |= {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
        taken = [name for name in ("temperature", "top_p", "top_k", "min_p", "seed") if name not in refused]
        self._note("sampling", not refused, f"takes {', '.join(taken)}", f"draws by seed: {dialect.seeds}")
        return refused

    async def _scores(self, dialect: OpenAI, ids_in: bool, thorough: bool) -> bool:
        """Whether log-probabilities of a given text can be had."""
        scores = False
        if dialect.scores and ids_in:
            try:
                answer = await self._post(dialect.score_body(self._asked(self._ids)))
                logps = dialect.scored(choice_of(answer, self._url))
                scores = len(logps) == len(self._ids) and all(isinstance(logp, float) for logp in logps[1:])
            except (RequestError, KeyError, TypeError, AttributeError, StopIteration):
                scores = False
        if thorough:
            try:
                answer = await self._post(
                    {**dialect.body(self._asked(self._ids if ids_in else self._text)), "logprobs": 1}
                )
                given = choice_of(answer, self._url).get("logprobs") is not None
            except RequestError:
                given = False
            self._note("log-probs", given, "of generated tokens" if given else "none of generated tokens", "")
        self._note(
            "scoring",
            scores,
            "log-probs of a given text" if scores else "no log-probs of a given text",
            "teacher-score works" if scores else "teacher-score needs another teacher",
        )
        return scores

    async def _prefix_cache(self, dialect: OpenAI, abilities: Abilities) -> None:
        """Send one long text twice."""
        length = min(CACHED_TOKENS, (abilities.context or CACHED_TOKENS) - 2)
        words = self._vocabulary.encode(" ".join(random.choices(PLAIN.split(), k=length)))[:length]
        prompt: Prompt = words if abilities.ids_in else self._vocabulary.decode(words)
        cached: int | None = None
        for _ in range(2):
            before = await self._hits(dialect)
            answer = await self._ask(dialect, prompt)
            details = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
            cached = details.get("cached_tokens")
            if cached is None and before is not None:
                after = await self._hits(dialect)
                cached = None if after is None else int(after - before)
        self._note(
            "prefix cache",
            None if cached is None else cached > 0,
            "the server does not say"
            if cached is None
            else f"{cached:,} of {len(words):,} tokens of a repeated text were not computed again",
            "a trace stays with one server" if cached else "",
        )

    async def _hits(self, dialect: OpenAI) -> float | None:
        """Tokens that vLLM's prefix cache has served so far."""
        if not isinstance(dialect, VLLM):
            return None
        try:
            metrics = await self._transport.get_text(f"{self._url.removesuffix('/v1')}/metrics")
        except RequestError:
            return None
        values = [
            line.split()[-1]
            for line in metrics.splitlines()
            if line.startswith("vllm:prefix_cache_hits_total")
        ]
        return sum(map(float, values)) if values else None

    # -- asking ------------------------------------------------------------------------------------

    def _asked(self, prompt: Prompt, sampling: Sampling = GREEDY) -> Ask:
        return Ask(self._model, prompt, 1, sampling, 0, self._stop)

    async def _ask(self, dialect: OpenAI, prompt: Prompt, sampling: Sampling = GREEDY) -> dict[str, Any]:
        return await self._post(dialect.body(self._asked(prompt, sampling)))

    async def _post(self, body: Mapping[str, object]) -> dict[str, Any]:
        """One completion; an answer without a choice is none."""

        async def once() -> dict[str, Any]:
            answer = await self._transport.post(f"{self._url}/completions", body)
            choice_of(answer, self._url)
            return answer

        return await self._patiently(once)

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try a few times where a failure may be bad luck."""
        for attempt in range(TRIES - 1):
            try:
                return await once()
            except RequestError as error:
                if (
                    error.trouble not in (Trouble.BUSY, Trouble.BROKEN, Trouble.UNREACHABLE)
                    or error.timed_out
                ):
                    raise
                await asyncio.sleep(min(error.retry_after or 0.25 * 2**attempt, 10.0))
        return await once()

    def _note(self, check: str, ok: bool | None, said: str, use: str) -> None:
        self._findings.append(Finding(check, ok, said, use))

    def _refusal(self, error: RequestError) -> Exception:
        """What a refusal means at the start; what may pass stays as it is."""
        if error.status in (401, 403):
            return UserError(
                f"the server refuses the key ({error.what})",
                where=self._where,
                remedy="put the key into OPENAI_API_KEY, or name another variable by --student-api-key-env "
                "or --teacher-api-key-env",
            )
        names = [str(model.get("id")) for model in self._models]
        if error.trouble in (Trouble.DENIED, Trouble.REFUSED) and names and self._model not in names:
            near = difflib.get_close_matches(self._model, names, n=1, cutoff=0.3) or names
            return UserError(
                f"{self._url} does not serve {self._model!r}: {error.what}",
                where=self._where,
                expected=", ".join(names[:5]) + (", …" if len(names) > 5 else ""),
                remedy=f"name it as the server does: {near[0]}@{self._url.removesuffix('/v1')}, and its own "
                "name or folder by --student-tokenizer or --teacher-tokenizer",
            )
        if error.trouble in (Trouble.DENIED, Trouble.REFUSED):
            return UserError(
                f"{self._url} takes no completion: {error.what}",
                where=self._where,
                expected="an OpenAI-compatible server with /v1/completions",
                remedy="check the address; chat alone (/v1/chat/completions) cannot continue a text exactly",
            )
        return error


def _prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    counted = (answer.get("usage") or {}).get("prompt_tokens")
    return counted if isinstance(counted, int) else None
