"""The parts of the server engine, each by itself: address, dialects, reading, text, transport, replicas."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import tenacity
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json
from transformers import GenerationConfig

from scripted_server import ScriptedServer, micro_vocabulary
from weft.engines.scripted import CLOSE, END, START, ScriptedVocabulary, View
from weft.engines.server.address import Address, parse_address
from weft.engines.server.dialects import DIALECTS, VLLM, Ask, LlamaCpp, OpenAI, SGLang, Transformers
from weft.engines.server.reading import choice_of, ids_of
from weft.engines.server.replicas import (
    BROKEN_ANSWERS,
    FIRST_WAIT,
    LONGEST_ASKED,
    LONGEST_WAIT,
    Replicas,
)
from weft.engines.server.text import REPLACEMENT, Texts, whole
from weft.engines.server.transport import SHOWN, RequestError, Transport, Trouble
from weft.errors import EngineError, RunError, UserError
from weft.records import Sampling

T = TypeVar("T")

KEY = "sk-of-nobody-5d4c3b"
GREEDY = Sampling(0.0, 1.0, 0, 0.0)
DRAWN = Sampling(0.7, 0.8, 20, 0.05)
HERE = "http://127.0.0.1:1/v1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


# -- a server that says something else --

Twist = Callable[[str, Mapping[str, str], Any], web.Response | None]
"""From path, headers and JSON body of a request to what is answered; ``None``: what the server says."""


def mute(view: View) -> str:
    return END


class Twisted(ScriptedServer):
    """A scripted server whose answers may be replaced."""

    twist: Twist | None = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        data = await request.read()
        said = self.twist and self.twist(request.path, request.headers, json.loads(data) if data else None)
        return said or await super()._answer(request)


def said(
    body: object = "", status: int = 200, headers: Mapping[str, str] | None = None, kind: str = "text/plain"
) -> web.Response:
    """An answer: text as it is, anything else as JSON."""
    if not isinstance(body, str):
        body, kind = json.dumps(body), "application/json"
    return web.Response(text=body, status=status, headers=headers, content_type=kind)


# -- address --


@pytest.mark.parametrize(
    ("name", "model", "urls"),
    [
        ("student@http://127.0.0.1:8000", "student", ["http://127.0.0.1:8000/v1"]),
        ("student@http://127.0.0.1:8000/", "student", ["http://127.0.0.1:8000/v1"]),
        ("student@http://127.0.0.1:8000/v1", "student", ["http://127.0.0.1:8000/v1"]),
        ("student@http://127.0.0.1:8000/v1/", "student", ["http://127.0.0.1:8000/v1"]),
        ("student@http://h:1/v1/completions", "student", ["http://h:1/v1"]),
        ("student@http://h:1/v1/chat/completions", "student", ["http://h:1/v1"]),
        ("student@https://llm.example", "student", ["https://llm.example/v1"]),
        ("student@https://llm.example/a/b", "student", ["https://llm.example/a/b/v1"]),
        ("org/Model-8B@http://[::1]:80/v1", "org/Model-8B", ["http://[::1]:80/v1"]),
        ("org/model@main@http://h:1", "org/model@main", ["http://h:1/v1"]),
        ("m@http://a:1,https://b/v1,http://c", "m", ["http://a:1/v1", "https://b/v1", "http://c/v1"]),
        ("m@http://a:1, http://b:2/", "m", ["http://a:1/v1", "http://b:2/v1"]),
        ("m@http://a:1,http://a:1/v1,http://a:1/", "m", ["http://a:1/v1"]),
    ],
)
def test_addresses(name: str, model: str, urls: list[str]) -> None:
    assert parse_address(name) == Address(model, tuple(urls))


@given(
    st.from_regex(r"[\w./@-]{1,20}", fullmatch=True).filter(lambda model: not model.endswith("@")),
    st.lists(
        st.builds(
            "{}://{}{}{}".format,
            st.sampled_from(["http", "https"]),
            st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{1,5})?", fullmatch=True),
            st.integers(1, 65535).map(lambda port: f":{port}") | st.just(""),
            st.sampled_from(["", "/", "/v1", "/v1/", "/deep/er", "/deep/v1/"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_an_address_read_again_is_the_same(model: str, urls: list[str]) -> None:
    address = parse_address(f"{model}@{','.join(urls)}")
    assert address.model == model and len(set(address.urls)) == len(address.urls) <= len(urls)
    assert all(url.endswith("/v1") and not url.endswith("/v1/v1") for url in address.urls)
    assert parse_address(f"{model}@{','.join(address.urls)}") == address


def test_a_model_alone_takes_the_base_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        parse_address("student@")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://a.example/v1,http://b:8000")
    assert parse_address("student@").urls == ("https://a.example/v1", "http://b:8000/v1")
    assert parse_address("student@http://c:1").urls == ("http://c:1/v1",)
    with pytest.raises(UserError, match="no model"):
        parse_address("@")


@pytest.mark.parametrize("name", ["@http://127.0.0.1:8000", "@https://llm.example/v1"])
def test_an_address_has_a_model(name: str) -> None:
    with pytest.raises(UserError, match="no model") as refused:
        parse_address(name)
    assert refused.value.remedy


@pytest.mark.parametrize(
    "urls",
    [
        "http://user:hunter2@host:8000",
        "https://hunter2@host",
        "https://:hunter2@host/v1",
        "http://host/v1?key=hunter2",
        "https://host/#hunter2",
        "http://a:8000,https://user:hunter2@b",
        "ftp://user:hunter2@host,http://a",
        "http://a:8000,user:hunter2@b:8000",
    ],
)
@pytest.mark.parametrize("place", ["name", "environment"])
def test_an_address_with_a_secret_is_refused_and_not_shown(
    urls: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", urls)
    if place == "name" and not urls.startswith("http"):
        urls = f"http://a,{urls}"
    with pytest.raises(UserError) as refused:
        parse_address("student@" if place == "environment" else f"student@{urls}")
    chain = "".join(traceback.format_exception(refused.value, chain=True, limit=0))
    assert "hunter2" not in str(refused.value) + repr(refused.value) + chain
    assert refused.value.expected


@pytest.mark.parametrize(
    "urls",
    ["http://", "http://h:99999", "http://h:0", "http://h:x", "http://a,", "http://a,b:1", "http://[::1"],
)
def test_what_is_no_url_is_refused(urls: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_address(f"student@{urls}")
    assert "http://HOST" in refused.value.expected


# -- dialects --


def ask(sampling: Sampling = GREEDY, **changes: Any) -> Ask:
    return replace(Ask("student", [1, 2, 3], 7, sampling, 2**31 - 1, (5, 6)), **changes)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("prompt", [[1, 2], "so"])
def test_a_body_is_json_and_says_what_is_asked(dialect: OpenAI, prompt: Any) -> None:
    body = json.loads(to_json(dialect.body(ask(prompt=prompt))))
    assert (body["model"], body["prompt"], body["max_tokens"]) == ("student", prompt, 7)
    assert body["seed"] == 2**31 - 1
    assert not body.get("stream") and body.get("n", 1) == 1
    assert json.loads(to_json(dialect.forced(ask(), 9)))["logit_bias"] == {"9": 100}


@pytest.mark.parametrize("dialect", [VLLM(), SGLang()], ids=lambda dialect: dialect.name)
def test_vllm_and_sglang_take_all_of_sampling(dialect: OpenAI) -> None:
    body = dialect.body(ask(DRAWN))
    assert [body[name] for name in ("temperature", "top_p", "top_k", "min_p")] == [0.7, 0.8, 20, 0.05]
    off = dialect.body(ask(replace(DRAWN, top_k=0, min_p=0.0, top_p=1.0)))
    assert [off[name] for name in ("top_p", "top_k", "min_p")] == [1.0, -1, 0.0]
    assert dialect.body(ask())["temperature"] == 0.0
    for made in (body, off):
        assert (made["repetition_penalty"], made["presence_penalty"], made["frequency_penalty"]) == (1, 0, 0)
        assert made["skip_special_tokens"] is False and made["return_token_ids"] is True
        assert list(made["stop_token_ids"]) == [5, 6]  # type: ignore[call-overload]
    assert dialect.body(ask()).get("no_stop_trim", False) is (dialect.name == "sglang")


def test_llama_cpp_takes_all_of_sampling() -> None:
    body = LlamaCpp().body(ask(DRAWN))
    assert [body[name] for name in ("temperature", "top_p", "top_k", "min_p")] == [0.7, 0.8, 20, 0.05]
    off = LlamaCpp().body(ask())
    assert [off[name] for name in ("temperature", "top_p", "top_k", "min_p")] == [0.0, 1.0, 0, 0.0]
    assert (off["repeat_penalty"], off["presence_penalty"], off["frequency_penalty"]) == (1.0, 0.0, 0.0)
    assert off["return_tokens"] is off["verbose"] is True


@pytest.mark.parametrize(
    ("field", "off"),
    [
        ("typical_p", 1.0),
        ("dry_multiplier", 0.0),
        ("xtc_probability", 0.0),
        ("mirostat", 0),
        ("dynatemp_range", 0.0),
        ("top_n_sigma", -1.0),
    ],
)
def test_what_llama_cpp_was_started_with_is_overridden(field: str, off: float) -> None:
    assert LlamaCpp().body(ask(DRAWN))[field] == off


def generation(sampling: Sampling, models: GenerationConfig | None = None) -> GenerationConfig:
    """The config with which ``transformers serve`` generates: what is sent, then the model's own."""
    sent = json.loads(str(Transformers().body(ask(sampling))["generation_config"]))
    config = GenerationConfig(**sent)
    if models is not None:
        config.update(**models.to_dict(), defaults_only=True, allow_custom_entries=True)
    return config


def test_transformers_takes_all_of_sampling_in_one_string() -> None:
    drawn, greedy = generation(DRAWN), generation(GREEDY)
    assert (drawn.do_sample, greedy.do_sample) == (True, False)
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.7, 0.8, 20, 0.05)
    assert generation(replace(DRAWN, top_k=0)).top_k == 0
    assert drawn.eos_token_id == greedy.eos_token_id == [5, 6]
    assert Transformers().body(ask()).keys() <= {"model", "prompt", "max_tokens", "seed", "generation_config"}


@pytest.mark.parametrize(
    ("field", "own", "off"),
    [
        ("repetition_penalty", 1.3, 1.0),
        ("min_p", 0.3, 0.0),
        ("typical_p", 0.5, 1.0),
        ("no_repeat_ngram_size", 2, 0),
        ("num_beams", 2, 1),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_generation_config_of_the_served_model_is_overridden(
    field: str, own: float, off: float, temperature: float
) -> None:
    config = generation(Sampling(temperature, 1.0, 0, 0.0), GenerationConfig(do_sample=True, **{field: own}))
    if field in ("min_p", "typical_p") and not config.do_sample:
        return  # greedy takes the most likely token whatever is cut
    assert getattr(config, field) == off


def test_a_plain_server_is_sent_the_fields_of_the_standard_alone() -> None:
    assert OpenAI().body(ask(DRAWN)) == {
        "model": "student",
        "prompt": [1, 2, 3],
        "max_tokens": 7,
        "temperature": 0.7,
        "top_p": 0.8,
        "seed": 2**31 - 1,
    }
    assert OpenAI.refused == {"top_k": 0, "min_p": 0.0}


def test_what_a_given_text_is_scored_with() -> None:
    assert VLLM().score_body(ask())["prompt_logprobs"] == 0
    assert {**SGLang().score_body(ask()), "echo": True, "logprobs": 1} == SGLang().score_body(ask())
    choice = {"prompt_logprobs": [None, {"4": {"logprob": -0.5, "rank": 3}}, {"5": {"logprob": -2.0}}]}
    assert VLLM().scored(choice) == [(None, None), (-0.5, 3), (-2.0, None)]
    legacy = {"logprobs": {"token_logprobs": [None, -0.5, -2.0, 0.0]}}
    assert SGLang().scored(legacy) == [(None, None), (-0.5, None), (-2.0, None)]
    for dialect in (LlamaCpp(), Transformers(), OpenAI()):
        assert not dialect.scores
        with pytest.raises(NotImplementedError):
            dialect.score_body(ask())
        with pytest.raises(NotImplementedError):
            dialect.scored({})


# -- reading --


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": ["so"]},
        {"choices": [{}, {}]},
        {"error": {"message": "internal"}},
        {"object": "error", "message": "internal"},
    ],
)
def test_an_answer_without_one_choice_is_none(answer: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as broken:
        choice_of(answer, HERE)
    assert broken.value.trouble is Trouble.BROKEN and HERE in str(broken.value)


def test_the_choice_of_an_answer() -> None:
    assert choice_of({"choices": [{"text": ""}]}, HERE) == {"text": ""}


@pytest.mark.parametrize("ids", [None, "12", [1, "2"], [True], [-1], [1.0], [[1]], {"1": 2}, 5])
def test_ids_that_are_none(ids: object) -> None:
    with pytest.raises(RequestError) as broken:
        ids_of(ids, HERE)
    assert broken.value.trouble is Trouble.BROKEN


@given(st.lists(st.integers(0, 2**31)))
def test_ids_that_are_some(ids: list[int]) -> None:
    assert ids_of(ids, HERE) == ids


# -- text --

PIECES = st.sampled_from(
    [START, END, CLOSE, " so", "\n", "好的", "🙂", "👩‍🚀", "<|im", "_end|>", REPLACEMENT, "é"]
)


@given(st.lists(PIECES | st.text(max_size=6), max_size=8).map("".join))
def test_text_to_ids_and_back_is_the_same_text(text: str) -> None:
    vocabulary = micro_vocabulary()
    texts = Texts(vocabulary, "")
    ids = texts.ids(text)
    assert vocabulary.decode(ids) == texts.of(ids) == text
    names = [vocabulary.control(token) for token in ids if vocabulary.control(token) is not None]
    assert names.count(END) == text.count(END) and names.count(START) == text.count(START)


def test_control_tokens_are_known_by_their_names() -> None:
    for vocabulary in (micro_vocabulary(), ScriptedVocabulary()):
        texts = Texts(vocabulary, "")
        end = vocabulary.encode_template(END)
        assert len(end) == 1
        assert texts.ids(END) == end and texts.ids(f"so{END}{END}")[-2:] == end * 2
        assert texts.ids("") == []


def test_the_start_token_is_taken_off_once() -> None:
    vocabulary = micro_vocabulary()
    ids = vocabulary.encode_template(f"{START}{START}user")
    assert Texts(vocabulary, START).of(ids) == f"{START}user"
    assert Texts(vocabulary, END).of(ids) == Texts(vocabulary, "").of(ids) == f"{START}{START}user"


@given(st.text().filter(lambda text: not text.endswith(REPLACEMENT)), st.integers(0, 3))
def test_the_beginning_of_a_character_is_taken_off_the_end_alone(text: str, begun: int) -> None:
    assert whole(text + REPLACEMENT * begun) == text


# -- transport --


@pytest.fixture(scope="module")
def server() -> Iterator[Twisted]:
    with Twisted(mute) as serving:
        yield serving


async def exchange(url: str, *, key: str | None = KEY, timeout: float = 30.0, path: str = "/v1/x") -> Any:
    transport = Transport(key=key, timeout=timeout)
    try:
        return await transport.post(f"{url}{path}", {"prompt": [1]})
    finally:
        await transport.close()


def failure(server: Twisted, answer: web.Response, **changes: Any) -> RequestError:
    """What comes of an answer that is an error."""
    server.twist = lambda path, headers, body: answer
    with pytest.raises(RequestError) as failed:
        asyncio.run(exchange(server.url, **changes))
    assert server.url in failed.value.where
    return failed.value


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        *((status, Trouble.BUSY) for status in (408, 429, 503)),
        *((status, Trouble.BROKEN) for status in (500, 501, 505, 507)),
        *((status, Trouble.UNREACHABLE) for status in (502, 504, 520, 524)),
        *((status, Trouble.DENIED) for status in (401, 403, 404)),
        *((status, Trouble.REFUSED) for status in (400, 413, 422)),
    ],
)
@pytest.mark.parametrize(
    "body", [{"error": {"message": "so it is"}}, {"detail": "so it is"}, {"message": "so it is"}, "so it is"]
)
def test_what_a_status_means(status: int, trouble: Trouble, body: object, server: Twisted) -> None:
    failed = failure(server, said(body, status))
    assert failed.trouble is trouble and failed.status == status
    assert failed.what == f"HTTP {status}: so it is" and failed.retry_after is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "too long", "code": "context_length_exceeded"}},
        {"error": {"message": "exceeds", "type": "exceed_context_size_error", "code": 400}},
        {"error": {"message": "This model's maximum context length is 64 tokens. However, ..."}},
        {
            "object": "error",
            "message": "The input (70 tokens) is longer than the model's context length.",
        },
        {
            "object": "error",
            "message": "Requested token count exceeds the model's maximum context length",
        },
    ],
)
def test_a_text_longer_than_the_context_is_told_from_other_refusals(body: object, server: Twisted) -> None:
    assert failure(server, said(body, 400)).trouble is Trouble.TOO_LONG
    assert failure(server, said(body, 500)).trouble is Trouble.BROKEN
    assert failure(server, said(body, 429)).trouble is Trouble.BUSY


@pytest.mark.parametrize("body", ["", "<html>so</html>", "{", "[]", "5", "null", '"so"', '{"a": 1', "{} {}"])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_an_answer_is_an_object_or_an_error(body: str, kind: str, server: Twisted) -> None:
    failed = failure(server, said(body, kind=kind))
    assert failed.trouble is Trouble.BROKEN and kind in failed.what and body in failed.what


def test_an_object_is_an_answer_whatever_it_calls_itself(server: Twisted) -> None:
    server.twist = lambda path, headers, body: said('{"so": [1]}', kind="text/html")
    assert asyncio.run(exchange(server.url)) == {"so": [1]}


def test_a_redirection_is_not_followed_with_the_key(server: Twisted) -> None:
    with Twisted(mute) as other:
        elsewhere: list[str] = []
        other.twist = lambda path, headers, body: elsewhere.append(path) or said({})  # type: ignore[func-returns-value]
        failed = failure(server, said("", 307, {"Location": f"{other.url}/v1/x"}))
        assert failed.status == 307 and not elsewhere


def test_no_server_and_no_answer_in_time() -> None:
    with Twisted(mute) as gone:
        gone.stop()
        with pytest.raises(RequestError, match="cannot be reached") as failed:
            asyncio.run(exchange(gone.url))
        assert failed.value.trouble is Trouble.UNREACHABLE and not failed.value.timed_out
    with Twisted(mute, request_seconds=60.0) as slow:
        body = {"model": "student", "prompt": f"{START}assistant\n"}

        async def wait() -> None:
            transport = Transport(key=None, timeout=0.03)
            try:
                await transport.post(f"{slow.url}/v1/completions", body)
            finally:
                await transport.close()

        with pytest.raises(RequestError, match=r"no answer within 0\.03 s") as failed:
            asyncio.run(wait())
        assert failed.value.trouble is Trouble.UNREACHABLE and failed.value.timed_out


@pytest.mark.parametrize(
    ("given_", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("1.5", 1.5, 1.5),
        ("-5", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 10**9, 10**10),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        # Dates without a zone, as asctime() writes them, are to be accepted, says RFC 9110.
        ("Fri Jan  1 00:00:00 2100", 10**9, 10**10),
        ("Fri, 01 Jan 2100 00:00:00 -0000", 10**9, 10**10),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(given_: str, least: float, most: float, server: Twisted) -> None:
    failed = failure(server, said("", 429, {"Retry-After": given_}))
    assert failed.retry_after is not None and least <= failed.retry_after <= most


@pytest.mark.parametrize("given_", ["soon", "", "12 apples", "Wed, 99 Foo 2026 99:99:99 GMT"])
def test_retry_after_that_says_nothing(given_: str, server: Twisted) -> None:
    assert failure(server, said("", 503, {"Retry-After": given_})).retry_after is None


def test_the_key_is_a_header_and_nothing_else(server: Twisted) -> None:
    seen: list[str | None] = []
    server.twist = lambda path, headers, body: seen.append(headers.get("Authorization")) or said({})  # type: ignore[func-returns-value]
    asyncio.run(exchange(server.url))
    asyncio.run(exchange(server.url, key=None))
    assert seen == [f"Bearer {KEY}", None]


OBJECTS_WITH_THE_KEY: list[object] = [
    {"error": {"message": f"bad key {KEY}."}},
    {"error": {"code": KEY, "what": {KEY: [KEY]}}},
    {"detail": [{"input": KEY}]},
]
OTHERS_WITH_THE_KEY: list[object] = [[KEY], KEY, f"<html>Bearer {KEY}</html>", "x" * (SHOWN - 5) + KEY]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *product([302, 400, 401, 404, 429, 500], OBJECTS_WITH_THE_KEY + OTHERS_WITH_THE_KEY),
        # Of objects, those with an error alone are no answers.
        *product([200], OBJECTS_WITH_THE_KEY[:2] + OTHERS_WITH_THE_KEY),
    ],
)
def test_the_key_is_not_in_what_a_server_says(status: int, body: object, server: Twisted) -> None:
    failed = failure(server, said(body, status))
    chain = "".join(traceback.format_exception(failed, limit=0))
    assert KEY not in str(failed) + repr(failed) + failed.what + chain
    assert KEY[:12] not in str(failed)
    assert len(failed.what) < SHOWN + 100


@given(st.text(max_size=400))
def test_what_a_server_says_is_one_line(text: str) -> None:
    shown = Transport._shown(SimpleNamespace(_key=KEY), text)  # type: ignore[arg-type]
    assert len(shown) <= SHOWN + 1 and shown == " ".join(shown.split())


def test_connections_are_kept(server: Twisted) -> None:
    async def many() -> None:
        transport = Transport(key=None, timeout=30.0)
        for _ in range(20):
            await transport.post(f"{server.url}/v1/x", {})
        await transport.close()
        await transport.close()

    server.twist = lambda path, headers, body: said({})
    before = server.connections
    asyncio.run(many())
    assert server.connections == before + 1


def test_proxies_of_the_environment_hold(server: Twisted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.twist = lambda path, headers, body: said({"through": "the proxy"})
    with Twisted(mute) as gone:
        gone.stop()
        monkeypatch.setenv("HTTP_PROXY", server.url)
        for without in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(without, raising=False)
        assert asyncio.run(exchange(gone.url)) == {"through": "the proxy"}
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        with pytest.raises(RequestError, match="cannot be reached"):
            asyncio.run(exchange(gone.url))


# -- replicas --


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    passing = Clock()
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=passing))
    monkeypatch.setattr(asyncio, "sleep", passing.sleep)
    return passing


def replicas(clock: Clock, count: int = 1, *, patience: float = 300.0, **more: Any) -> Replicas:
    urls = [f"http://r{index}/v1" for index in range(count)]
    return Replicas(urls, patience=patience, clock=clock, **more)


def trouble(kind: Trouble, **said: Any) -> RequestError:
    return RequestError(kind, f"it is {kind.name}", where=HERE, **said)


class Servers:
    """What each server answers: itself, or the trouble that it is in."""

    def __init__(self, **troubles: Trouble | RequestError) -> None:
        self.troubles: dict[str, Trouble | RequestError] = dict(troubles)
        self.asked: list[str] = []

    async def __call__(self, url: str) -> str:
        name = url.removeprefix("http://").removesuffix("/v1")
        self.asked.append(name)
        error = self.troubles.get(name)
        if error is not None:
            raise error if isinstance(error, RequestError) else trouble(error)
        return name


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 4))
def test_a_text_stays_and_a_new_one_goes_where_the_fewest_are(
    steps: list[tuple[bool, int]], count: int
) -> None:
    async def play() -> None:
        servers, all_ = Servers(), replicas(Clock(), count)
        homes: dict[int, str] = {}
        for sends, session in steps:
            if not sends:
                all_.release(str(session))
                homes.pop(session, None)
                continue
            texts = {f"r{index}": list(homes.values()).count(f"r{index}") for index in range(count)}
            name, sent = await all_.send(str(session), servers)
            assert sent == 1
            if session in homes:
                assert name == homes[session]
            else:
                assert texts[name] == min(texts.values())
            homes[session] = name
        assert [replica.texts for replica in all_.all] == [
            list(homes.values()).count(f"r{index}") for index in range(count)
        ]

    run(play())


def test_a_text_whose_server_fails_moves_and_stays_there(clock: Clock) -> None:
    async def play() -> None:
        servers, all_ = Servers(), replicas(clock, 2)
        assert (await all_.send("a", servers))[0] == "r0"
        servers.troubles["r0"] = Trouble.UNREACHABLE
        assert await all_.send("a", servers) == ("r1", 2)
        del servers.troubles["r0"]
        clock.now += 100.0
        assert await all_.send("a", servers) == ("r1", 1)

    run(play())


def test_a_dead_server_is_left_alone_for_longer_each_time(clock: Clock) -> None:
    async def play() -> list[float]:
        servers, all_ = Servers(r0=Trouble.UNREACHABLE), replicas(clock, 2)
        tried: list[float] = []
        for n in range(2000):
            before, start = servers.asked.count("r0"), clock.now
            name, _ = await all_.send(f"text {n}", servers)
            assert name == "r1"
            all_.release(f"text {n}")
            if servers.asked.count("r0") > before:
                tried.append(start)
            clock.now += 0.1
        return tried

    tried = run(play())
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[:7] == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=1.0)


def test_a_server_that_failed_is_tried_by_one_request(clock: Clock) -> None:
    async def play() -> None:
        servers, all_ = Servers(r0=Trouble.UNREACHABLE), replicas(clock, 2)
        await all_.send("first", servers)
        clock.now += 10.0
        del servers.troubles["r0"]
        answered, asked = asyncio.Event(), list[str]()

        async def slowly(url: str) -> str:
            asked.append(url)
            if "r0" in url:
                await answered.wait()
            return url

        trial = asyncio.create_task(all_.send("trial", slowly))
        others = [asyncio.create_task(all_.send(f"text {n}", slowly)) for n in range(5)]
        assert {url for url, _ in await asyncio.gather(*others)} == {"http://r1/v1"}
        assert not trial.done() and asked.count("http://r0/v1") == 1
        answered.set()
        assert await trial == ("http://r0/v1", 1)
        assert (await all_.send("new", slowly))[0] == "http://r0/v1"

    run(play())


def test_requests_that_fail_together_are_one_failure(clock: Clock) -> None:
    async def play() -> None:
        servers, all_ = Servers(), replicas(clock, 2)
        for n in range(8):
            await all_.send(f"text {n}", servers)
        servers.troubles["r0"] = Trouble.UNREACHABLE
        await asyncio.gather(*(all_.send(f"text {n}", servers) for n in range(8)))
        clock.now = max(clock.now, 1000.0) + 1.0
        del servers.troubles["r0"]
        assert (await all_.send("new", servers))[0] == "r0"

    run(play())


def test_all_dead_servers_are_tried_on_until_one_answers(clock: Clock) -> None:
    async def play() -> None:
        servers = Servers(r0=Trouble.UNREACHABLE, r1=Trouble.UNREACHABLE)
        all_ = replicas(clock, 2, patience=300.0)

        async def comes_back(url: str) -> str:
            if clock.now > 1100.0:
                servers.troubles.pop("r1", None)
            return await servers(url)

        name, sent = await all_.send("text", comes_back)
        assert name == "r1" and sent == len(servers.asked) > 5 and "r0" in servers.asked[2:]

    run(play())


def test_waits_grow_and_are_drawn(clock: Clock) -> None:
    async def play() -> None:
        with pytest.raises(RequestError, match="BUSY"):
            await replicas(clock).send("text", Servers(r0=Trouble.BUSY))

    run(play())
    assert len(clock.naps) > 10
    for n, nap in enumerate(clock.naps):
        middle = min(LONGEST_WAIT, FIRST_WAIT * 2**n)
        assert 0.5 * middle <= nap <= 1.5 * middle
    assert len({round(nap, 6) for nap in clock.naps}) == len(clock.naps)


@pytest.mark.parametrize("asked", [0.0, 3.0, 60.0, 10_000.0])
def test_retry_after_is_obeyed_two_minutes_at_most(asked: float, clock: Clock) -> None:
    async def play() -> None:
        servers = Servers(r0=trouble(Trouble.BUSY, retry_after=asked))

        async def once_busy(url: str) -> str:
            try:
                return await servers(url)
            finally:
                servers.troubles.clear()

        assert await replicas(clock).send("text", once_busy) == ("r0", 2)

    run(play())
    assert min(asked, LONGEST_ASKED) <= clock.naps[0] <= min(asked, LONGEST_ASKED) + 1.5 * FIRST_WAIT
    assert LONGEST_ASKED == 120.0


@pytest.mark.parametrize("count", [1, 2])
def test_broken_answers_in_a_row_end_a_request(count: int, clock: Clock) -> None:
    async def play() -> int:
        servers = Servers(**{f"r{index}": Trouble.BROKEN for index in range(count)})
        with pytest.raises(EngineError, match="BROKEN") as failed:
            await replicas(clock, count).send("text", servers)
        assert isinstance(failed.value, RequestError)
        return len(servers.asked)

    assert run(play()) == BROKEN_ANSWERS == 10


def test_busy_answers_are_not_counted_among_the_broken(clock: Clock) -> None:
    kinds = [Trouble.BROKEN, Trouble.BUSY, Trouble.UNREACHABLE, Trouble.BUSY] * 4

    async def play() -> None:
        asked = iter(kinds)

        async def changing(url: str) -> str:
            kind = next(asked, None)
            if kind is not None:
                raise trouble(kind)
            return url

        assert (await replicas(clock).send("text", changing))[1] == len(kinds) + 1

    run(play())


@pytest.mark.parametrize("broken", ["r0", "r1"])
@pytest.mark.parametrize("others", [0, 1, 5])
def test_a_broken_answer_is_asked_for_from_another_server(broken: str, others: int, clock: Clock) -> None:
    async def play() -> None:
        servers, all_ = Servers(), replicas(clock, 2)
        homes = [(await all_.send(f"other {n}", servers))[0] for n in range(2 * others + 1)]
        session = f"other {homes.index(broken)}" if broken in homes else "new"
        servers.troubles[broken] = Trouble.BROKEN
        name, sent = await all_.send(session, servers)
        assert name != broken and sent == 2

    run(play())


@pytest.mark.parametrize("kind", [Trouble.REFUSED, Trouble.TOO_LONG])
@pytest.mark.parametrize("before", [[], [Trouble.BUSY, Trouble.BROKEN, Trouble.UNREACHABLE]])
def test_what_is_refused_is_not_sent_again(kind: Trouble, before: list[Trouble], clock: Clock) -> None:
    async def play() -> None:
        asked = iter([*before, kind])

        async def changing(url: str) -> str:
            raise trouble(next(asked))

        with pytest.raises(RequestError) as failed:
            await replicas(clock, 2).send("text", changing)
        assert failed.value.trouble is kind
        assert next(asked, None) is None

    run(play())


@pytest.mark.parametrize("before", [[], [Trouble.BUSY, Trouble.BROKEN, Trouble.UNREACHABLE]])
def test_what_no_request_would_mend_stops_the_run(before: list[Trouble], clock: Clock) -> None:
    async def play() -> None:
        asked = iter([*before, Trouble.DENIED])

        async def changing(url: str) -> str:
            raise trouble(next(asked))

        with pytest.raises(RunError) as stopped:
            await replicas(clock, 2).send("text", changing)
        assert not isinstance(stopped.value, EngineError)
        assert "DENIED" in str(stopped.value) and "weft doctor" in stopped.value.remedy

    run(play())


@pytest.mark.parametrize("kind", [Trouble.BUSY, Trouble.UNREACHABLE])
@pytest.mark.parametrize("patience", [0.0, 10.0, 300.0])
@pytest.mark.parametrize("count", [1, 3])
def test_patience_ends(kind: Trouble, patience: float, count: int, clock: Clock) -> None:
    async def play() -> int:
        servers = Servers(**{f"r{index}": kind for index in range(count)})
        with pytest.raises(RequestError) as failed:
            await replicas(clock, count, patience=patience).send("text", servers)
        assert failed.value.trouble is kind
        return len(servers.asked)

    asked = run(play())
    passed = clock.now - 1000.0
    assert patience - 1.5 * LONGEST_WAIT <= passed <= patience + 1.5 * LONGEST_WAIT
    assert asked > 3 or not patience
    assert asked == len(clock.naps) + 1 and (asked == 1) == (patience == 0)


def test_patience_counts_from_the_first_failure(clock: Clock) -> None:
    async def play() -> None:
        async def late(url: str) -> str:
            clock.now += 1.0 if clock.naps else 1000.0
            raise trouble(Trouble.UNREACHABLE)

        with pytest.raises(RequestError):
            await replicas(clock, patience=20.0).send("text", late)

    run(play())
    assert len(clock.naps) > 2


def test_what_is_no_trouble_of_a_request_passes(clock: Clock) -> None:
    async def play() -> None:
        async def defect(url: str) -> str:
            raise LookupError(url)

        async def later(url: str) -> str:
            if clock.naps:
                raise LookupError(url)
            raise trouble(Trouble.BUSY)

        for request in (defect, later):
            with pytest.raises(LookupError):
                await replicas(clock).send("text", request)

    run(play())
    assert len(clock.naps) == 1


def test_a_server_that_was_silent_at_the_start_is_looked_at_before_it_gets_a_text(clock: Clock) -> None:
    async def play() -> None:
        servers, told, looked = Servers(r1=Trouble.UNREACHABLE), list[str](), list[str]()
        all_ = replicas(clock, 3, tell=told.append)

        async def admit(url: str) -> None:
            looked.append(url)
            if "r2" in url:
                raise UserError("it serves another model", where=url)
            await servers(url)

        all_.await_silent(["http://r1/v1", "http://r2/v1"], admit)
        for n in range(40):
            clock.now += 1.0
            assert (await all_.send(f"text {n}", servers))[0] == "r0"
        assert looked.count("http://r2/v1") == 1 and looked.count("http://r1/v1") > 2
        assert sum("r2" in line and "another model" in line for line in told) == 1, told
        assert servers.asked.count("r1") == looked.count("http://r1/v1") and "r2" not in servers.asked
        del servers.troubles["r1"]
        clock.now += 60.0
        assert (await all_.send("new", servers))[0] == "r1"
        seen = len(looked)
        for n in range(5):
            await all_.send(f"further {n}", servers)
        assert len(looked) == seen and any("r1" in line and "again" in line for line in told)

    run(play())


def test_people_are_told_of_a_server_that_fails_on(clock: Clock) -> None:
    async def play() -> None:
        told: list[str] = []
        servers, all_ = Servers(), replicas(clock, tell=told.append)

        async def recovers(url: str) -> str:
            if len(servers.asked) > 8:
                servers.troubles.clear()
            return await servers(url)

        servers.troubles["r0"] = Trouble.BUSY
        await all_.send("text", recovers)
        assert ["it is BUSY" in line for line in told] == [True, False] and "again" in told[-1]
        told.clear()

        async def once(url: str) -> str:
            try:
                return await servers(url)
            finally:
                servers.troubles.clear()

        servers.troubles["r0"] = Trouble.UNREACHABLE
        assert (await all_.send("text", once))[1] == 2 and not told

    run(play())


def test_unknown_sessions_are_ignored(clock: Clock) -> None:
    all_ = replicas(clock, 2)
    all_.release("nothing")
    assert [replica.texts for replica in all_.all] == [0, 0]
