"""Models behind scripted servers of every kind: what opens, what is refused, what is written."""

from __future__ import annotations

import asyncio
import datetime
import json
import shutil
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from scripted_server import BOS, DIALECTS, GREEDY, Dialect, ScriptedServer, micro_vocabulary
from test_server_parts import KEY, Clock, Twisted, said
from weft.engines.base import Completion, CompletionRequest, Engine, Finish, Scored, Scorer
from weft.engines.opening import open_engine
from weft.engines.scripted import CLOSE, END, OPEN, START, Script, ScriptedEngine, View
from weft.engines.server.engine import ServerEngine
from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import EngineError, UserError, WeftError
from weft.micro import model_path
from weft.records import Sampling

T = TypeVar("T")

PROMPT = f"{START}user\nWhat is 6 * 7?{END}\n{START}assistant\n{OPEN}\n"
THOUGHT, RESPONSE = "Okay , wonderful 好的，我们 🙂👩‍🚀 naïve : 6 * 7 is 42 .", "the answer 是 42 🎉"
WHOLE = f"{THOUGHT}\n{CLOSE}\n\n{RESPONSE}"
EXACT: tuple[Dialect, ...] = ("vllm", "sglang", "llama.cpp")
TEXT: tuple[Dialect, ...] = ("transformers", "openai")
DRAWN = Sampling(0.7, 0.8, 20, 0.05)
REPLACED = "\ufffd"


def script(view: View) -> str:
    """Goes on from any character of its text, also inside what closes thinking."""
    if view.response is None:
        return (WHOLE + END)[len(view.thinking) :]
    return (RESPONSE + END)[len(view.response) :]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """No key or address from outside, and waiting takes no time."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    clock = Clock()
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


@asynccontextmanager
async def opened(
    *urls: str, model: str = "student", patience: float = 30.0, **changes: Any
) -> AsyncIterator[Engine]:
    chosen = EngineSettings(
        **{"name": f"{model}@{','.join(urls)}", "tokenizer": "micro:student", **changes},
    )
    servers = ServerSettings(timeout=30.0, patience=patience)
    engine = await open_engine(chosen, date=datetime.date(2026, 1, 1), servers=servers)
    try:
        yield engine
    finally:
        await engine.close()


def ask(
    server: ScriptedServer | Sequence[ScriptedServer],
    work: Callable[[ServerEngine], Awaitable[T]],
    **changes: Any,
) -> T:
    """Open the server as an engine and do something with it."""

    async def play() -> T:
        servers = [server] if isinstance(server, ScriptedServer) else server
        async with opened(*(each.url for each in servers), **changes) as engine:
            assert isinstance(engine, ServerEngine)
            return await work(engine)

    return asyncio.run(play())


async def described(engine: ServerEngine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(engine.describe()))
    return {**found, "context": engine.context}


def prompt_ids(prompt: str = PROMPT) -> list[int]:
    return micro_vocabulary().encode_prompt(prompt)


def request(
    prefix: Sequence[int],
    max_tokens: int = 20,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (END,),
    session: str = "text",
) -> CompletionRequest:
    ids = frozenset(micro_vocabulary().encode_prompt(name)[0] for name in stop)
    return CompletionRequest(session, prefix, max_tokens, sampling, seed, ids)


async def written(
    engine: Engine, step: int, *, stop: Sequence[str] = (END,), prompt: str = PROMPT
) -> tuple[list[int], list[Completion]]:
    """All that is written in chunks of ``step`` tokens."""
    prefix, ids, made = prompt_ids(prompt), list[int](), list[Completion]()
    while not made or made[-1].finish is Finish.LENGTH:
        made.append(await engine.complete(request([*prefix, *ids], step, stop=stop)))
        assert made[-1].ids or made[-1].finish is Finish.CONTEXT
        ids += made[-1].ids
    return ids, made


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that waits for nothing, in whatever event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    raise AssertionError("it waits")


def reference(stop: Sequence[str] = (END,), own: Script = script, prompt: str = PROMPT) -> list[int]:
    """What the script writes in process."""
    engine = ScriptedEngine(own, vocabulary=micro_vocabulary())
    return list(at_once(engine.complete(request(prompt_ids(prompt), 10**6, stop=stop))).ids)


# -- what is written --


@pytest.mark.parametrize("step", [1, 3, 20, 512])
@pytest.mark.parametrize("dialect", EXACT)
def test_ids_are_exact_whatever_the_chunks(dialect: Dialect, step: int) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        ids, made = ask(server, lambda engine: written(engine, step))
    assert ids == reference()
    assert micro_vocabulary().decode(ids) == WHOLE + END
    assert [len(one.ids) for one in made[:-1]] == [step] * (len(made) - 1)
    assert made[-1].finish is Finish.STOP and all(one.requests == 1 for one in made)


@pytest.mark.parametrize("step", [1, 3, 20, 512])
@pytest.mark.parametrize("dialect", TEXT)
def test_text_is_the_same_whatever_the_chunks(dialect: Dialect, step: int) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        ids, made = ask(server, lambda engine: written(engine, step))
    assert micro_vocabulary().decode(ids) == WHOLE + END
    assert made[-1].finish is Finish.STOP and ids[-1] == server.end


class Replacing:
    """Shows the bytes of an unfinished character as U+FFFD, as most detokenizers do."""

    def __init__(self, vocabulary: Any) -> None:
        self._vocabulary = vocabulary

    def visible(self, tokens: Sequence[int], *, specials: bool) -> str:
        names = ((self.control(t) or "").encode() if specials else b"" for t in tokens)
        shown = [self.piece(t) or name for t, name in zip(tokens, names, strict=True)]
        return b"".join(shown).decode(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize("dialect", TEXT)
def test_characters_that_chunks_divide_come_whole(dialect: Dialect, step: int) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        server.vocabulary = Replacing(server.vocabulary)  # type: ignore[assignment]
        ids, made = ask(server, lambda engine: written(engine, step))
    assert micro_vocabulary().decode(ids) == WHOLE + END
    assert all(REPLACED not in micro_vocabulary().decode(one.ids) for one in made)


class Spoken:
    """What servers of all kinds say, and their engines; one event loop serves them all."""

    def __init__(self, stack: ExitStack) -> None:
        self.text, self._stack = "", stack
        self.runner = stack.enter_context(asyncio.Runner())
        self._engines: dict[Dialect, tuple[Engine, AbstractAsyncContextManager[Engine]]] = {}

    def engine(self, dialect: Dialect) -> Engine:
        if dialect not in self._engines:
            server = self._stack.enter_context(ScriptedServer(self._script, dialect=dialect))
            opening = opened(server.url)
            engine = self.runner.run(opening.__aenter__())
            self._engines[dialect] = engine, opening
            self._stack.callback(lambda: self.runner.run(engine.close()))
        return self._engines[dialect][0]

    def _script(self, view: View) -> str:
        return (self.text + END)[len(view.thinking) :] or END


@pytest.fixture(scope="module")
def spoken() -> Iterator[Spoken]:
    with ExitStack() as stack:
        yield Spoken(stack)


LETTERS = st.sampled_from("ab ,.\n12好的🙂👩‍🚀éก่ا") | st.characters(codec="utf-8")


@settings(max_examples=60)
@given(
    text=st.text(
        st.sampled_from("ab ,.\n12好的🙂👩‍🚀éก่ا") | st.characters(codec="utf-8"), max_size=40
    ).filter(lambda text: REPLACED not in text),
    step=st.integers(1, 12),
    dialect=st.sampled_from(DIALECTS),
)
def test_any_text_comes_through_in_any_chunks(text: str, step: int, dialect: Dialect, spoken: Spoken) -> None:
    spoken.text = text
    ids, _ = spoken.runner.run(written(spoken.engine(dialect), step))
    assert micro_vocabulary().decode(ids) == text + END
    if dialect in EXACT:
        assert ids == micro_vocabulary().encode_template(text + END)


@pytest.mark.parametrize("step", [1, 20, 512])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_completion_ends_with_the_id_that_stops_it(dialect: Dialect, step: int) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        ids, made = ask(server, lambda engine: written(engine, step, stop=(END, CLOSE)))
    assert micro_vocabulary().decode(ids) == f"{THOUGHT}\n{CLOSE}"
    assert made[-1].finish is Finish.STOP and made[-1].ids[-1] == prompt_ids(CLOSE)[0]
    if dialect in EXACT:
        assert ids == reference((END, CLOSE))


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_end_alone_is_a_completion(dialect: Dialect, hides: bool) -> None:
    with ScriptedServer(lambda view: END, dialect=dialect, hides_specials=hides) as server:
        made = ask(server, lambda engine: engine.complete(request(prompt_ids(), 5)))
        one = ask(server, lambda engine: engine.complete(request(prompt_ids(), 1)))
    assert made == Completion((server.end,), Finish.STOP, 1)
    assert (one.ids, one.finish) == ((server.end,), Finish.STOP)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_end_at_the_last_place_is_not_lost(dialect: Dialect) -> None:
    own = reference()
    with ScriptedServer(script, dialect=dialect) as server:
        for step in (len(own) - 1, len(own), len(own) + 1):
            ids, made = ask(server, lambda engine, step=step: written(engine, step))  # type: ignore[misc]
            assert micro_vocabulary().decode(ids) == WHOLE + END and made[-1].finish is Finish.STOP


@pytest.mark.parametrize("dialect", EXACT)
def test_a_full_context_is_no_request(dialect: Dialect) -> None:
    async def play(engine: ServerEngine) -> list[Completion]:
        assert engine.context == 64
        text = [*prompt_ids(), *reference()[:-1]]
        before = len(server.requests)
        full = [await engine.complete(request(text[:length], 10)) for length in (64, 65)]
        assert len(server.requests) == before
        rest = await engine.complete(request(text[:61], 10))
        assert server.requests[-1]["max_tokens"] == 3
        return [*full, rest]

    def long(view: View) -> str:
        return (" so" * 1000)[len(view.thinking) :]

    with ScriptedServer(long, dialect=dialect, context=64) as server:
        *full, rest = ask(server, play)
    assert full == [Completion((), Finish.CONTEXT, 0)] * 2
    assert len(rest.ids) == 3 and rest.finish is Finish.CONTEXT


def test_a_context_that_only_a_refusal_tells_ends_the_text() -> None:
    with ScriptedServer(script, dialect="openai", context=80) as server:
        made = ask(server, lambda engine: engine.complete(request([*prompt_ids()] + [5] * 80, 10)))
    assert (made.ids, made.finish) == ((), Finish.CONTEXT) and made.requests >= 1


def test_asking_for_more_than_fits_is_no_full_context() -> None:
    """The server counts what may be written with the prompt."""
    with ScriptedServer(script, dialect="openai", context=256) as server:
        made = ask(server, lambda engine: engine.complete(request(prompt_ids(), 2000)))
    assert made.ids


def test_requests_before_a_refusal_are_counted() -> None:
    with Twisted(script, dialect="openai", context=80) as server:

        async def play(engine: ServerEngine) -> Completion:
            busy = [429, 503]
            server.twist = lambda path, headers, body: said("", busy.pop()) if busy else None
            return await engine.complete(request([*prompt_ids()] + [5] * 80, 1))

        assert ask(server, play) == Completion((), Finish.CONTEXT, 3)


@pytest.mark.parametrize("dialect", TEXT)
def test_nothing_visible_is_an_error(dialect: Dialect) -> None:
    with (
        ScriptedServer(lambda view: START * 1000, dialect=dialect, hides_specials=True) as server,
        pytest.raises(EngineError, match=r"no text|visible|no whole"),
    ):
        ask(server, lambda engine: engine.complete(request(prompt_ids(), 5)))


# -- what is sent --


@pytest.mark.parametrize("dialect", DIALECTS)
def test_seeds_are_of_the_texts_seed_and_its_position(dialect: Dialect) -> None:
    async def play(engine: ServerEngine) -> list[int]:
        prefix = prompt_ids()
        further = [*prefix, *prompt_ids("Okay")]
        for seed, text, session in (
            (0, prefix, "a"),
            (0, prefix, "b"),
            (0, further, "a"),
            (1, prefix, "a"),
            (2**63 - 1, prefix, "a"),
            (2**64, prefix, "a"),
        ):
            await engine.complete(request(text, 3, seed=seed, session=session))
        return [body["seed"] for body in server.requests[-6:]]

    with ScriptedServer(script, dialect=dialect) as server:
        seeds = ask(server, play)
        again = ask(server, play)
    assert seeds == again and seeds[0] == seeds[1] and len(set(seeds)) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sampling_is_sent_as_it_is(dialect: Dialect) -> None:
    drawn = Sampling(0.7, 0.8, 0, 0.0) if dialect == "openai" else DRAWN

    async def play(engine: ServerEngine) -> dict[str, Any]:
        await engine.complete(request(prompt_ids(), 3, sampling=drawn))
        return server.requests[-1]

    with ScriptedServer(script, dialect=dialect) as server:
        body = ask(server, play)
    fields = json.loads(body["generation_config"]) if dialect == "transformers" else body
    assert (fields["temperature"], fields["top_p"]) == (0.7, 0.8)
    assert dialect == "openai" or (fields["top_k"], fields["min_p"]) == (20, 0.05)
    assert body["prompt"] == (PROMPT if dialect == "transformers" else prompt_ids())


async def sampled(engine: ServerEngine, sampling: Sampling) -> Completion:
    """What a run does: look first whether all of sampling is taken."""
    engine.check(sampling)
    return await engine.complete(request(prompt_ids(), 3, sampling=sampling))


@pytest.mark.parametrize(("field", "value"), [("top_k", 20), ("min_p", 0.05)])
def test_a_field_that_the_server_does_not_take_is_refused(field: str, value: float) -> None:
    changes: dict[str, Any] = {field: value}
    sampling = replace(Sampling(0.7, 0.8, 0, 0.0), **changes)
    with ScriptedServer(script, dialect="openai", refuses_unknown=True) as server:
        with pytest.raises(UserError, match=field) as refused:
            ask(server, lambda engine: sampled(engine, sampling))
        assert f"--{field.replace('_', '-')} 0" in refused.value.remedy
        assert not any(field in body for body in server.requests[-1:])


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_server_that_refuses_sampling_is_asked_for_none(dialect: Dialect) -> None:
    with Twisted(script, dialect=dialect) as server:
        server.twist = lambda path, headers, body: (
            said({"error": {"message": "top_p is fixed"}}, 400)
            if body and body.get("top_p", 1.0) != 1.0
            else None
        )
        with pytest.raises(UserError, match="top_p") as refused:
            ask(server, lambda engine: sampled(engine, Sampling(0.7, 0.8, 0, 0.0)))
        assert "--top-p 1" in refused.value.remedy
        assert ask(server, lambda engine: sampled(engine, Sampling(0.7, 1.0, 0, 0.0))).ids


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llama.cpp", "transformers"])
def test_all_of_sampling_is_taken(dialect: Dialect) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        assert ask(server, lambda engine: sampled(engine, DRAWN)).ids


# -- scores --


async def scored(engine: Engine, *texts: Sequence[int]) -> list[Scored]:
    assert isinstance(engine, Scorer)
    return [await engine.score(prompt_ids(), text) for text in texts]


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_scores_are_those_of_the_model(dialect: Dialect) -> None:
    own = reference()
    texts = [own, [*own[:5], *prompt_ids(" wonder"), *own[6:]], own[3:9], [own[0]], []]
    with ScriptedServer(script, dialect=dialect) as server:
        scores = ask(server, lambda engine: scored(engine, *texts))
    expected = at_once(scored(ScriptedEngine(script, vocabulary=micro_vocabulary()), *texts))
    if dialect == "sglang":  # it does not say ranks; of no token there is nothing to say
        expected = [replace(one, ranks=None if one.logps else ()) for one in expected]
    assert scores == expected


@pytest.mark.parametrize("dialect", ["llama.cpp", "transformers", "openai"])
def test_a_server_without_scores_is_no_scorer(dialect: Dialect) -> None:
    async def play(engine: ServerEngine) -> None:
        assert not isinstance(engine, Scorer)

    with ScriptedServer(script, dialect=dialect) as server:
        ask(server, play)


# -- what opens --


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_kind_of_server_opens(dialect: Dialect, listed: bool) -> None:
    """Also without the page that says which kind it is."""
    with Twisted(script, dialect=dialect) as server:
        if not listed:
            server.twist = lambda path, headers, body: (
                said({"detail": "Not Found"}, 404) if path.endswith("/models") else None
            )
        found = ask(server, described)
        ids, _ = ask(server, lambda engine: written(engine, 7))
    assert micro_vocabulary().decode(ids) == WHOLE + END
    assert found["engine"] == "server" and found["urls"] == [f"{server.url}/v1"] and found["silent"] == []
    assert found["server"] == dialect or (dialect == "sglang" and not listed)
    assert found["ids"] == {"in": dialect != "transformers", "out": dialect in EXACT}
    assert (found["guarantees"]["tokens"] == "exact") == (dialect in EXACT)
    assert bool(found["notes"]) == (dialect in TEXT)
    if listed or dialect == "llama.cpp":
        assert found["context"] == 2048


def test_a_strict_server_of_the_standard_opens() -> None:
    with ScriptedServer(script, dialect="openai", refuses_unknown=True) as server:
        assert ask(server, described)["server"] == "openai"
        ids, _ = ask(server, lambda engine: written(engine, 7))
    assert micro_vocabulary().decode(ids) == WHOLE + END


@pytest.mark.parametrize("strict", [False, True])
def test_a_server_that_refuses_ids_is_sent_text(strict: bool) -> None:
    with Twisted(script, dialect="openai", refuses_unknown=strict) as server:
        server.twist = lambda path, headers, body: (
            said({"error": {"message": "prompt must be a string"}}, 400)
            if body and not isinstance(body.get("prompt"), str)
            else None
        )
        found = ask(server, described)
        ids, _ = ask(server, lambda engine: written(engine, 7))
        sent = server.requests[-1]
    assert found["server"] == "openai" and found["ids"] == {"in": False, "out": False}
    assert micro_vocabulary().decode(ids) == WHOLE + END
    assert sent["temperature"] == 0.0


def folder_with(tmp_path: Path, *, special: Sequence[str] = (), starts: bool = False) -> str:
    """The micro tokenizer with ``special`` tokens, or with a template that begins with a start token."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for path in Path(model_path("student")).iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] |= token["content"] in special
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if starts:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": BOS}))
        template = folder / "chat_template.jinja"
        template.write_text("{{- bos_token -}}\n" + template.read_text())
    return str(folder)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_closing_tag_that_is_hidden_is_refused(dialect: Dialect, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, special=[OPEN, CLOSE])
    with ScriptedServer(script, dialect=dialect, hides_specials=True) as server:
        if dialect in EXACT:
            ids, _ = ask(server, lambda engine: written(engine, 7), tokenizer=folder)
            assert ids == reference()
            return
        with pytest.raises(UserError, match=f"hides special tokens.*{CLOSE}") as refused:
            ask(server, described, tokenizer=folder)
    assert "vLLM" in refused.value.expected and "in process" in refused.value.remedy


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_start_token_is_not_doubled(dialect: Dialect, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, starts=True)
    prompt = BOS + PROMPT
    with ScriptedServer(script, dialect=dialect, adds_bos=True) as server:
        ids, _ = ask(server, lambda engine: written(engine, 20, prompt=prompt), tokenizer=folder)
        sent = server.requests[-1]["prompt"]
    assert micro_vocabulary().decode(ids) == WHOLE + END
    text = sent if isinstance(sent, str) else micro_vocabulary().decode(sent)
    assert text.startswith(PROMPT if isinstance(sent, str) else prompt)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_start_token_that_only_the_server_has(dialect: Dialect) -> None:
    with ScriptedServer(script, dialect=dialect, adds_bos=True) as server:
        ids, _ = ask(server, lambda engine: written(engine, 20))
    assert micro_vocabulary().decode(ids) == WHOLE + END


def test_a_wrong_model_is_refused() -> None:
    with ScriptedServer(script, dialect="transformers") as server:
        with pytest.raises(UserError, match="pinned to 'student'; requested 'teacher'") as refused:
            ask(server, described, model="teacher")
        assert refused.value.remedy


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("variable", [None, "WEFT_TEST_KEY"])
def test_keys_come_from_the_environment(
    dialect: Dialect, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable or "OPENAI_API_KEY", KEY)
    if variable is not None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    with ScriptedServer(script, dialect=dialect, api_key=KEY) as server:
        found = ask(server, described, api_key_env=variable)
        assert KEY not in json.dumps(found) and "sk-another" not in json.dumps(found)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("given_", [None, "sk-wrong-9d8c7b"])
def test_a_wrong_key_is_refused_with_the_remedy(
    dialect: Dialect, given_: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given_ is not None:
        monkeypatch.setenv("OPENAI_API_KEY", given_)
    with ScriptedServer(script, dialect=dialect, api_key=KEY) as server:
        with pytest.raises(UserError, match="refuses the key") as refused:
            ask(server, described)
        assert "OPENAI_API_KEY" in refused.value.remedy
        assert "--student-api-key-env" in refused.value.remedy
        assert "sk-wrong" not in str(refused.value) and KEY not in str(refused.value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_without_a_key_is_refused(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("WEFT_TEST_KEY", value)
    with (
        ScriptedServer(script) as server,
        pytest.raises(UserError, match="no WEFT_TEST_KEY"),
    ):
        ask(server, described, api_key_env="WEFT_TEST_KEY")
    assert not server.requests


@pytest.mark.parametrize("value", ["sk one two", "sk-\u00e4", "sk\nX-Other: 1"])
def test_what_can_be_no_key_is_refused_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with ScriptedServer(script) as server, pytest.raises(UserError, match="OPENAI_API_KEY") as refused:
        ask(server, described)
    assert value not in str(refused.value) and not server.requests


def test_a_server_of_nothing_is_refused() -> None:
    with Twisted(script) as server:
        server.twist = lambda path, headers, body: said({"detail": "Not Found"}, 404)
        with pytest.raises(UserError, match="takes no completion") as refused:
            ask(server, described)
    assert "/v1/completions" in refused.value.expected and "check the address" in refused.value.remedy


class Longer:
    """Reads prompts as more tokens than there are, or fewer."""

    def __init__(self, vocabulary: Any, more: int) -> None:
        self._vocabulary, self._more = vocabulary, more

    def encode_prompt(self, text: str) -> list[int]:
        ids: list[int] = self._vocabulary.encode_prompt(text)
        return [5] * self._more + ids if self._more > 0 else ids[-self._more :]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocabulary, name)


@pytest.mark.parametrize("more", [-1, 2, 7])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_another_tokenizer_is_refused(dialect: Dialect, more: int) -> None:
    with ScriptedServer(script, dialect=dialect) as server:
        server.vocabulary = Longer(server.vocabulary, more)  # type: ignore[assignment]
        with pytest.raises(UserError, match="tokenizer") as refused:
            ask(server, described)
    assert "--student-tokenizer" in refused.value.remedy


def test_device_and_dtype_are_not_for_servers() -> None:
    with ScriptedServer(script) as server:
        for changes in ({"device": "cpu"}, {"dtype": "float32"}):
            with pytest.raises(UserError, match="device and dtype"):
                ask(server, described, **changes)


def test_a_model_without_a_tokenizer_here_is_refused(tmp_path: Path) -> None:
    with ScriptedServer(script) as server:
        for tokenizer in (str(tmp_path), str(tmp_path / "nothing"), "micro:nobody"):
            with pytest.raises(UserError):
                ask(server, described, tokenizer=tokenizer)
    assert not server.requests


# -- several servers --


@pytest.fixture
def three() -> Iterator[list[Twisted]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Twisted(script, context=context)) for context in (512, 64, 2048)]


def test_the_least_context_of_several_holds(three: list[Twisted]) -> None:
    assert ask(three, described)["context"] == 64


@pytest.mark.parametrize("dead", [[0], [1], [2], [0, 1]])
def test_dead_servers_of_several_are_said(dead: list[int], three: list[Twisted]) -> None:
    for index in dead:
        three[index].stop()
    silent = [f"{three[index].url}/v1" for index in dead]

    async def play(engine: ServerEngine) -> list[Completion]:
        found = engine.describe()
        assert sorted(silent) == found["silent"] and len(found["urls"]) == 3  # type: ignore[arg-type]
        assert all(url in str(found["notes"]) for url in silent)
        return [await engine.complete(request(prompt_ids(), 5, session=f"text {n}")) for n in range(6)]

    made = ask(three, play)
    assert all(one == made[0] and list(one.ids) == reference()[:5] for one in made)


def test_none_of_several_is_an_error(three: list[Twisted]) -> None:
    for server in three:
        server.stop()
    with pytest.raises(UserError, match="cannot be reached") as refused:
        ask(three, described)
    assert "check the address" in refused.value.remedy


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("dead", [None, 0])
def test_another_model_at_one_of_several_is_refused(
    wrong: int, dead: int | None, three: list[Twisted]
) -> None:
    three[wrong].model = "teacher"
    if dead is not None and dead != wrong:
        three[dead].stop()
    with pytest.raises(UserError, match="does not serve 'student'") as refused:
        ask(three, described)
    assert three[wrong].url in str(refused.value)


def test_a_wrong_key_at_one_of_several_is_refused(
    three: list[Twisted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    three[1].api_key = "sk-another"
    with pytest.raises(UserError, match="refuses the key"):
        ask(three, described)


def test_another_tokenizer_at_one_of_several_is_refused(three: list[Twisted]) -> None:
    three[1].vocabulary = Longer(three[1].vocabulary, 2)  # type: ignore[assignment]
    with pytest.raises(UserError, match="tokenizer"):
        ask(three, described)


def test_servers_of_several_kinds_are_refused() -> None:
    with (
        ScriptedServer(script) as one,
        ScriptedServer(script, dialect="llama.cpp") as other,
        pytest.raises(UserError, match="differ") as refused,
    ):
        ask([one, other], described)
    assert other.url in str(refused.value)


def test_scores_need_all_of_several(three: list[Twisted]) -> None:
    three[2].twist = lambda path, headers, body: (
        said({"error": {"message": "no log-probs here"}}, 400) if body and "prompt_logprobs" in body else None
    )

    async def play(engine: ServerEngine) -> None:
        assert not isinstance(engine, Scorer)

    ask(three, play)


# -- the key --

ECHOES: dict[str, Callable[[], Any]] = {
    "400": lambda: said({"error": {"message": f"bad request: Authorization: Bearer {KEY}"}}, 400),
    "401": lambda: said({"error": {"message": f"Incorrect API key provided: {KEY}."}}, 401),
    "404": lambda: said(f"<p>no page for {KEY}</p>", 404),
    "429": lambda: said({"detail": [{"key": KEY}]}, 429),
    "500": lambda: said(f"Bearer {KEY}", 500),
    "text in 200": lambda: said(f"Bearer {KEY}"),
    "error in 200": lambda: said({"error": {"message": f"Bearer {KEY}", "code": 500}}),
    "string in 200": lambda: said({"error": f"Bearer {KEY}"}),
    "object in 200": lambda: said({"object": "error", "message": f"Bearer {KEY}"}),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("key", ["EMPTY", "0", "text", "o"])
def test_a_key_that_is_a_word_changes_no_text(
    key: str, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People give such keys to servers that need none."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with ScriptedServer(lambda view: f"EMPTY o text 0{END}"[len(view.thinking) :], dialect=dialect) as server:
        ids, _ = ask(server, lambda engine: written(engine, 512))
    assert micro_vocabulary().decode(ids) == f"EMPTY o text 0{END}"


def sealed(error: WeftError) -> None:
    chain = "".join(traceback.format_exception(error, limit=0))
    assert KEY not in str(error) + repr(error) + error.remedy + error.expected + chain


@pytest.mark.parametrize("echo", ECHOES)
def test_the_key_is_not_in_errors_at_the_start(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Twisted(script, api_key=KEY) as server:
        server.twist = lambda path, headers, body: ECHOES[echo]() if body else None
        with pytest.raises(WeftError) as failed:
            ask(server, described)
    sealed(failed.value)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("work", ["complete", "score"])
def test_the_key_is_not_in_errors_later(work: str, echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def play(engine: ServerEngine) -> object:
        assert KEY not in repr(vars(engine).values()) + json.dumps(engine.describe())
        server.twist = lambda path, headers, body: ECHOES[echo]()
        if work == "score":
            return await scored(engine, reference())
        return await engine.complete(request(prompt_ids(), 5))

    with Twisted(script, api_key=KEY) as server, pytest.raises(WeftError) as failed:
        ask(server, play, patience=5.0)
    sealed(failed.value)
