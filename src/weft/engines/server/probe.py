"""What a server can do, found out by asking it: real requests for one token each, never its name alone.

A health page says little: a server may answer there and nowhere else. So findings come from answers of
``/v1/completions`` or, where those cannot show it, from the page that the server has for it.

It does not know replicas, sampling that a run wants, or how findings are shown.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weft.chat import ChatTemplate
from weft.engines.server.abilities import Abilities, Finding
from weft.engines.server.dialects import VLLM, LlamaCpp, OpenAI, Prompt, Transformers
from weft.engines.server.interview import Interview
from weft.engines.server.reading import choice_of, ids_of
from weft.engines.server.transport import RequestError, Transport, Trouble
from weft.errors import UserError
from weft.records import Message, Sampling
from weft.vocabulary import TokenizerVocabulary

DRAWN = Sampling(0.7, 0.9, 20, 0.01)
ALL_OFF = Sampling(0.7, 1.0, 0, 0.0)
OFF: dict[str, float] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""The value at which each field of sampling is off."""
PLAIN = "The quick brown fox, naïve: 12 + 7 = 19.\n\n你好 🙂 it's done"
"""What the probe asks: text that two tokenizers hardly spell alike."""
CACHED_TOKENS = 1_024
"""Length of the text that is sent twice to see a prefix cache: several of any server's blocks."""
CACHE_HITS = "vllm:prefix_cache_hits_total"
"""vLLM's count of tokens that its prefix cache has served."""


class Probe:
    """Asks one server, once."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        *,
        name: str,
        model: str,
        vocabulary: TokenizerVocabulary,
        template: ChatTemplate,
        end_ids: frozenset[int],
        start: str,
    ) -> None:
        """Prepare to ask.

        Args:
            name: the engine's, for messages.
            model: what the server calls it.
            start: the token that the tokenizer puts before a text; empty if it has none.
        """
        self._url, self._where = url, f"engine {name}"
        self._vocabulary, self._template, self._start = vocabulary, template, start
        self._text = template.prompt([Message("user", PLAIN)])
        self._ids = vocabulary.encode_template(self._text)
        self._server = Interview(
            transport,
            url,
            name=name,
            model=model,
            text=self._text,
            ids=self._ids,
            stop=tuple(sorted(end_ids)),
        )
        self._findings: list[Finding] = []

    async def run(self, *, thorough: bool = False) -> Abilities:
        """Ask all that Weft has to know; ``thorough``: also what only people want to know.

        Raises:
            UserError: the server refuses the key or the model, has another tokenizer, or cannot serve.
            RequestError: it does not answer, which may pass.
        """
        dialect, answer, by_itself = await self._server.recognise()
        how = "as it says of itself" if by_itself else "by what it answers"
        self._note("server", True, f"{dialect.title}, {how}")
        said = dialect.ids(answer, choice_of(answer, self._url))
        ids_in, ids_out = await self._takes_ids(dialect, answer), said is not None
        if ids_out:
            ids_of(said, self._url)
        start = await self._tokenizer(dialect, ids_in)
        self._note("ids in", ids_in, "taken" if ids_in else "not taken", "" if ids_in else "text is sent")
        kept = "tokens are kept as they were drawn" if ids_out else "text is tokenised again on this side"
        self._note("ids out", ids_out, "given" if ids_out else "not given", kept)
        await self._tags(dialect, ids_out, thorough)
        prompt: Prompt = self._ids if ids_in else self._text
        abilities = Abilities(
            dialect=dialect,
            version=await self._version(dialect),
            ids_in=ids_in,
            ids_out=ids_out,
            start=start,
            context=await self._context(dialect),
            scores=await self._scores(dialect, ids_in and ids_out),
            refused=await self._sampling(dialect, prompt),
        )
        if thorough:
            await self._log_probs(dialect, prompt)
            await self._prefix_cache(dialect, abilities)
        return replace(abilities, findings=tuple(self._findings))

    async def _takes_ids(self, dialect: OpenAI, answer: Mapping[str, Any]) -> bool:
        """Whether ids are taken for what they are: the server counts as many as were sent."""
        if isinstance(dialect, Transformers):
            return False
        if not dialect.takes_ids:
            try:
                answer = await self._server.ask(dialect, self._ids)
            except RequestError as error:
                if error.trouble in (Trouble.REFUSED, Trouble.BROKEN):
                    return False
                raise
        counted = _usage(answer).get("prompt_tokens")
        return dialect.takes_ids if counted is None else counted == len(self._ids)

    async def _version(self, dialect: OpenAI) -> str | None:
        if dialect.version_page is None:
            return None
        page, key = dialect.version_page
        said = (await self._server.json_page(page)).get(key)
        return None if said is None else str(said)

    # -- tokens ------------------------------------------------------------------------------------

    async def _tokenizer(self, dialect: OpenAI, ids_in: bool) -> str:
        """Compare how the server reads a text with how it is read here; the start token that it adds.

        Raises:
            UserError: it reads it otherwise.
        """
        answer = await self._server.ask(dialect, self._text)
        choice = choice_of(answer, self._url)
        theirs, count = dialect.prompt_ids(choice), _usage(answer).get("prompt_tokens")
        start = ""
        if isinstance(theirs, list):
            added = theirs[: -len(self._ids)] if len(theirs) > len(self._ids) else []
            if theirs != [*added, *self._ids] or len(added) > 1:
                raise self._other_tokenizer(f"ids {theirs[:12]}… where it gives {self._ids[:12]}…")
            start = "".join(self._vocabulary.control(token) or "" for token in added)
            extra = len(added)
        elif not isinstance(count, int):
            self._note("tokenizer", None, "the server does not say how it reads a text")
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
            if ids_in:
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

    async def _tags(self, dialect: OpenAI, ids_out: bool, thorough: bool) -> None:
        """Whether the tag that closes thinking can be seen.

        Raises:
            UserError: the server hides it.
        """
        thinking = self._template.thinking
        tag = self._vocabulary.encode_template(thinking.marker) if thinking is not None else []
        special = len(tag) == 1 and self._vocabulary.control(tag[0]) is not None
        if thinking is None:
            self._note("closing tag", None, "the template knows no thinking")
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
        elif isinstance(dialect, Transformers) and self._vocabulary.loses_first_space:
            raise UserError(
                "the server would drop the space before the first word of every answer",
                where=self._where,
                expected="a server that returns token ids (vLLM, SGLang, llama.cpp's server)",
                remedy="serve the model with one of those, or run it in process",
            )
        else:
            self._note("closing tag", True, "visible as text", "found in the text")

    async def _forced(self, dialect: OpenAI, token: int) -> bool:
        try:
            answer = await self._server.post(dialect.forced(self._server.asked(self._ids), token))
        except RequestError:
            return False
        return dialect.ids(answer, choice_of(answer, self._url)) == [token]

    # -- limits and fields -------------------------------------------------------------------------

    async def _context(self, dialect: OpenAI) -> int | None:
        said = self._server.listed.get("max_model_len")
        if isinstance(dialect, LlamaCpp):
            given = (await self._server.json_page("props")).get("default_generation_settings")
            said = given.get("n_ctx") if isinstance(given, dict) else None
        context = said if isinstance(said, int) and said > 0 else None
        self._note(
            "context",
            None if context is None else True,
            "the server does not say" if context is None else f"{context:,} tokens",
            "the server's refusal ends a text" if context is None else "requests stay within it",
        )
        return context

    async def _sampling(self, dialect: OpenAI, prompt: Prompt) -> Mapping[str, float]:
        """The sampling fields that are not taken, all at once or else one by one."""
        refused = dict(dialect.refused)
        if not await self._takes(dialect, prompt, DRAWN):
            for name, off in OFF.items():
                alone = replace(ALL_OFF, **{name: getattr(DRAWN, name)})
                if not await self._takes(dialect, prompt, alone):
                    refused[name] = off
        taken = [name for name in ("temperature", "top_p", "top_k", "min_p", "seed") if name not in refused]
        self._note("sampling", not refused, f"takes {', '.join(taken)}", f"draws by seed: {dialect.seeds}")
        return refused

    async def _takes(self, dialect: OpenAI, prompt: Prompt, sampling: Sampling) -> bool:
        try:
            await self._server.ask(dialect, prompt, sampling)
        except RequestError as error:
            if error.trouble is not Trouble.REFUSED:
                raise
            return False
        return True

    async def _scores(self, dialect: OpenAI, exact: bool) -> bool:
        """Whether log-probabilities of a given text can be had."""
        scores = False
        if dialect.scores and exact:
            try:
                answer = await self._server.post(dialect.score_body(self._server.asked(self._ids)))
                given = dialect.scored(choice_of(answer, self._url))
                scores = len(given) == len(self._ids) and all(isinstance(p, float) for p, _ in given[1:])
            except (RequestError, KeyError, TypeError, AttributeError, StopIteration):
                scores = False
        self._note(
            "scoring",
            scores,
            "log-probs of a given text" if scores else "no log-probs of a given text",
            "teacher-score, `weft gap` work" if scores else "teacher-score, `weft gap` need another engine",
        )
        return scores

    async def _log_probs(self, dialect: OpenAI, prompt: Prompt) -> None:
        try:
            answer = await self._server.post({**dialect.body(self._server.asked(prompt)), "logprobs": 1})
            given = choice_of(answer, self._url).get("logprobs") is not None
        except RequestError:
            given = False
        self._note("log-probs", given, "of generated tokens" if given else "none of generated tokens")

    async def _prefix_cache(self, dialect: OpenAI, abilities: Abilities) -> None:
        """Send one long text twice."""
        length = min(CACHED_TOKENS, (abilities.context or CACHED_TOKENS) - 2)
        words = self._vocabulary.encode(" ".join(random.choices(PLAIN.split(), k=length)))[:length]
        prompt: Prompt = words if abilities.ids_in else self._vocabulary.decode(words)
        cached: object = None
        for _ in range(2):
            before = await self._hits(dialect)
            try:
                answer = await self._server.ask(dialect, prompt)
            except RequestError:
                break
            details = _usage(answer).get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            if cached is None and before is not None:
                after = await self._hits(dialect)
                cached = None if after is None else int(after - before)
        if isinstance(cached, int):
            said = f"{cached:,} of {len(words):,} tokens of a repeated text were not computed again"
            self._note("prefix cache", cached > 0, said, "a trace stays with one server" if cached else "")
        else:
            self._note("prefix cache", None, "the server does not say")

    async def _hits(self, dialect: OpenAI) -> float | None:
        """Tokens that vLLM's prefix cache has served so far."""
        if not isinstance(dialect, VLLM):
            return None
        lines = (await self._server.page("metrics")).splitlines()
        values = [line.split()[-1] for line in lines if line.startswith(CACHE_HITS)]
        return sum(map(float, values)) if values else None

    def _note(self, check: str, ok: bool | None, said: str, use: str = "") -> None:
        self._findings.append(Finding(check, ok, said, use))


def _usage(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    usage = answer.get("usage")
    return usage if isinstance(usage, dict) else {}
