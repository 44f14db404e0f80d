"""The fakes of servers and of what goes wrong with them: scripted_server and fault_proxy."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from fault_proxy import Fault, FaultProxy, always, every
from scripted_server import DIALECTS, Dialect, ScriptedServer, micro_vocabulary
from weft.engines.scripted import CLOSE, END, OPEN, START, View

PROMPT = f"{START}user\nWhat is 6 * 7?{END}\n{START}assistant\n{OPEN}\n"
THOUGHT, RESPONSE = "Okay , wonderful 好的 🙂 : 6 * 7 is 42 .", "the answer is 42 ."
WHOLE = f"{THOUGHT}\n{CLOSE}\n\n{RESPONSE}"
SHOWS_IDS: dict[Dialect, dict[str, Any]] = {
    "vllm": {"return_token_ids": True, "skip_special_tokens": False},
    "sglang": {"return_token_ids": True, "skip_special_tokens": False, "no_stop_trim": True},
    "llama.cpp": {"return_tokens": True, "verbose": True, "response_fields": ["tokens"]},
}
TEXT_ONLY: dict[Dialect, dict[str, Any]] = {
    "transformers": {"generation_config": json.dumps({"eos_token_id": [692], "do_sample": False})},
    "openai": {},
}


def script(view: View) -> str:
    """Goes on from any character of its text, also inside what closes thinking."""
    if view.response is None:
        return (WHOLE + END)[len(view.thinking) :]
    return (RESPONSE + END)[len(view.response) :]


class Client:
    """One connection, which is kept."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def post(self, **body: Any) -> tuple[int, Any]:
        status, data = self.raw("POST", "/v1/completions", json.dumps(body).encode())
        return status, json.loads(data)

    def get(self, path: str) -> Any:
        status, data = self.raw("GET", path)
        assert status == 200
        return json.loads(data)

    def complete(self, prompt: object, max_tokens: int = 100, **body: Any) -> Any:
        status, answer = self.post(model="student", prompt=prompt, max_tokens=max_tokens, **body)
        assert status == 200, answer
        assert answer["object"] == "text_completion"
        return answer

    def close(self) -> None:
        self._connection.close()


@contextmanager
def server(**settings: Any) -> Iterator[tuple[ScriptedServer, Client]]:
    with ScriptedServer(script, **settings) as serving:
        client = Client(serving.url, serving.api_key)
        yield serving, client
        client.close()


def prompt_ids() -> list[int]:
    return micro_vocabulary().encode_prompt(PROMPT)


def ids_of(answer: Any) -> list[int]:
    ids: list[int] = answer.get("__verbose", {}).get("tokens") or answer["choices"][0]["token_ids"]
    return ids


# -- what is written --


def test_texts_are_spelled_alike_from_every_token_on() -> None:
    vocabulary = micro_vocabulary()
    ids = vocabulary.encode_template(WHOLE + END)
    for at in range(len(ids)):
        rest = b"".join(vocabulary.piece(t) or (vocabulary.control(t) or "").encode() for t in ids[at:])
        try:
            assert vocabulary.encode_template(rest.decode()) == ids[at:]
        except UnicodeDecodeError:
            continue
    assert vocabulary.decode(ids) == WHOLE + END


@pytest.mark.parametrize("dialect", SHOWS_IDS)
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_ids_in_chunks_of_any_size_are_the_same(dialect: Dialect, step: int) -> None:
    with server(dialect=dialect) as (serving, client):
        prompt, ids = prompt_ids(), list[int]()
        while True:
            answer = client.complete(prompt + ids, step, **SHOWS_IDS[dialect])
            ids += ids_of(answer)
            if answer["choices"][0]["finish_reason"] == "stop":
                break
            assert len(ids_of(answer)) == step == answer["usage"]["completion_tokens"]
        assert ids == serving.vocabulary.encode_template(WHOLE + END)
        assert serving.connections == 1 and len(set(serving.peers)) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_texts_in_chunks_of_any_size_are_the_same(dialect: Dialect) -> None:
    fields = {**SHOWS_IDS, **TEXT_ONLY}[dialect]
    for step in (6, 100):
        with server(dialect=dialect) as (_, client):
            text = ""
            while True:
                choice = client.complete(PROMPT + text, step, **fields)["choices"][0]
                text += choice["text"].removesuffix(END)
                if choice["finish_reason"] == "stop":
                    break
            assert text == WHOLE


def test_a_prompt_without_a_turn_is_continued_with_anything() -> None:
    with server() as (serving, client):
        answer = client.complete([5], 3, **SHOWS_IDS["vllm"])
        assert len(ids_of(answer)) == 3 and answer["choices"][0]["finish_reason"] == "length"
        assert client.complete("hello")["choices"][0]["text"] == serving.vocabulary.decode(
            serving.vocabulary.encode(" so") * 100
        )


def test_a_model_that_is_not_stopped_goes_on() -> None:
    with server() as (serving, client):
        full = prompt_ids() + serving.vocabulary.encode_template(WHOLE)
        answer = client.complete(full, 3, ignore_eos=True, return_token_ids=True)
        assert ids_of(answer) == [serving.end] * 3
        assert answer["choices"][0]["text"] == "" and answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("dialect", SHOWS_IDS)
def test_a_token_can_be_forced(dialect: Dialect) -> None:
    with server(dialect=dialect) as (serving, client):
        for token in (5, serving.end):
            fields = {**SHOWS_IDS[dialect], "logit_bias": {str(token): 100}}
            assert ids_of(client.complete(PROMPT, 1, **fields)) == [token]


# -- how each kind of server tells it --


def test_vllm_hides_what_is_not_asked_for() -> None:
    with server() as (serving, client):
        choice = client.complete(PROMPT)["choices"][0]
        assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (WHOLE, "stop", None)
        assert choice["token_ids"] is choice["prompt_token_ids"] is None
        assert client.post(model="student", prompt=PROMPT)[1]["usage"]["completion_tokens"] == 16
        close = serving.vocabulary.encode_template(CLOSE)
        fields = {**SHOWS_IDS["vllm"], "stop_token_ids": close}
        choice = client.complete(PROMPT, **fields)["choices"][0]
        assert choice["stop_reason"] == close[0] == choice["token_ids"][-1]
        assert choice["prompt_token_ids"] == prompt_ids()
        assert choice["text"] == f"{THOUGHT}\n"
        kept = client.complete(PROMPT, **fields, include_stop_str_in_output=True)["choices"][0]
        assert kept["text"] == f"{THOUGHT}\n{CLOSE}"
        choice = client.complete(PROMPT, stop="wonder")["choices"][0]
        assert (choice["text"], choice["stop_reason"]) == ("Okay , ", "wonder")


def test_vllm_refuses_in_its_own_words() -> None:
    with server(context=64, api_key="secret") as (serving, client):
        status, said = client.post(model="other", prompt=PROMPT)
        assert (
            status == 404
            and said["error"]["type"] == "NotFoundError"
            and "`other`" in said["error"]["message"]
        )
        refusals: list[tuple[dict[str, Any], str]] = [
            ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
            ({"max_tokens": 65}, "max_tokens=65 cannot be greater than max_model_len=64"),
            ({"prompt": [5] * 65}, "maximum context length is 64 tokens"),
            ({"prompt": [5] * 64}, "max_tokens must be at least 1, got 0"),
            ({"prompt": [5, 10**6]}, "Token id 1000000 is out of vocabulary"),
            ({"prompt": []}, "at least one prompt"),
        ]
        for changes, words in refusals:
            status, said = client.post(**{"model": "student", "prompt": PROMPT, "max_tokens": 1, **changes})
            assert status == 400 and words in said["error"]["message"]
        assert client.complete([5] * 63, 9)["usage"]["completion_tokens"] == 1  # what there is room for
        assert client.raw("POST", "/v1/completions", b"{")[0] == 400
        assert client.raw("GET", "/v1/completions")[0] == 405
        assert client.raw("GET", "/v1/nothing")[0] == 404
        stranger = Client(serving.url, "other")
        assert stranger.post(model="student", prompt=PROMPT) == (401, {"error": "Unauthorized"})
        assert stranger.raw("GET", "/health") == (200, b"")
        stranger.close()
        assert client.get("/version") == {"version": "0.32.0"}


def test_sglang_trims_the_end_unless_asked_not_to() -> None:
    with server(dialect="sglang") as (serving, client):
        fields = SHOWS_IDS["sglang"]
        choice = client.complete(PROMPT, **fields)["choices"][0]
        assert choice["text"] == WHOLE + END
        assert choice["matched_stop"] == serving.end == choice["token_ids"][-1]
        trimmed = client.complete(PROMPT, **{**fields, "no_stop_trim": False})["choices"][0]
        assert trimmed["text"] == WHOLE and trimmed["token_ids"] == choice["token_ids"]
        assert "token_ids" not in client.complete(PROMPT)["choices"][0]
        status, said = client.post(model="student", prompt=PROMPT, max_tokens=0)
        assert status == 400 and "max_tokens must be positive" in said["message"]
        status, said = client.post(model="student", prompt=PROMPT, max_tokens=2048)
        assert status == 400 and "maximum context length of 2048 tokens" in said["message"]
        assert client.post(model="any", prompt=PROMPT)[1]["model"] == "any"


def test_llama_cpp_shows_ids_only_for_debugging() -> None:
    with server(dialect="llama.cpp", context=64) as (_, client):
        assert "__verbose" not in client.complete(PROMPT)
        answer = client.complete(PROMPT, verbose=True)
        assert answer["__verbose"]["tokens"] == [] and answer["__verbose"]["stop_type"] == "eos"
        assert client.complete(PROMPT, **SHOWS_IDS["llama.cpp"])["__verbose"].keys() == {"tokens"}
        assert client.complete(PROMPT)["choices"][0]["text"] == WHOLE
        unlimited = client.post(model="any", prompt=PROMPT, ignore_eos=True, verbose=True)[1]
        assert unlimited["usage"]["total_tokens"] == 64 and unlimited["__verbose"]["truncated"]
        status, said = client.post(model="any", prompt=[5] * 64)
        assert (status, said["error"]["type"]) == (400, "exceed_context_size_error")
        assert (said["error"]["n_prompt_tokens"], said["error"]["n_ctx"]) == (64, 64)
        assert client.get("/v1/models")["data"][0]["meta"]["n_ctx"] == 64


def test_transformers_takes_sampling_in_one_string() -> None:
    with server(dialect="transformers") as (serving, client):
        assert client.complete(PROMPT)["choices"][0]["text"] == WHOLE
        status, said = client.post(model="student", prompt=PROMPT, top_k=1)
        assert status == 422 and "top_k" in said["detail"]
        assert client.post(model="student", prompt=prompt_ids())[0] == 400
        assert client.post(model="other", prompt=PROMPT)[0] == 400
        endless = client.complete(PROMPT, 99, generation_config="{}")["choices"][0]
        assert endless == {"index": 0, "text": WHOLE, "finish_reason": "length"}
        assert client.post(model="student", prompt=PROMPT, generation_config="{}")[1]["usage"][
            "completion_tokens"
        ] == len(serving.vocabulary.encode_template(WHOLE)[:20])
        last = len(serving.vocabulary.encode_template(WHOLE + END))
        assert client.complete(PROMPT, last)["choices"][0]["finish_reason"] == "length"  # and yet it is ended
        assert client.raw("POST", "/v1/completions", b'{"generation_config": {}}')[0] == 500
        assert client.get("/v1/models")["data"] == []


def test_openai_may_refuse_what_it_does_not_know_and_shows_wrong_keys() -> None:
    with server(dialect="openai", refuses_unknown=True, api_key="right") as (serving, client):
        assert client.complete(PROMPT, stop=[CLOSE])["choices"][0]["text"] == f"{THOUGHT}\n"
        status, said = client.post(model="student", prompt=PROMPT, top_k=1)
        assert status == 400 and "top_k" in said["error"]["message"]
        assert client.post(model="other", prompt=PROMPT)[1]["error"]["code"] == "model_not_found"
        assert client.post(model="student", prompt=PROMPT, max_tokens=4096)[0] == 400
        stranger = Client(serving.url, "wrong")
        assert "wrong" in stranger.post(model="student", prompt=PROMPT)[1]["error"]["message"]
        stranger.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_beginning_of_text_is_added_to_texts_alone(dialect: Dialect) -> None:
    with server(dialect=dialect, adds_bos=True) as (_, client):
        assert client.complete(PROMPT, 1)["usage"]["prompt_tokens"] == len(prompt_ids()) + 1
        if dialect != "transformers":
            assert client.complete(prompt_ids(), 1)["usage"]["prompt_tokens"] == len(prompt_ids())


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "openai"])
def test_special_tokens_may_stay_hidden(dialect: Dialect) -> None:
    for hides in (False, True):
        with server(dialect=dialect, hides_specials=hides) as (_, client):
            fields = {**SHOWS_IDS.get(dialect, {}), "include_stop_str_in_output": True}
            text = client.complete(PROMPT, **fields)["choices"][0]["text"]
            assert text.endswith(END) == (not hides and dialect != "openai")


def test_given_texts_are_scored() -> None:
    vocabulary = micro_vocabulary()
    foreign = vocabulary.encode_template("wonder")
    text = vocabulary.encode_template(f"{THOUGHT}\n{CLOSE}\n\n")
    prompt = prompt_ids() + text + foreign + vocabulary.encode_template(f" answer is 42 .{END}")
    expected = [0.0] * len(text) + [-5.0] * len(foreign)
    start = len(prompt_ids())
    with server() as (_, client):
        given = client.complete(prompt, 1, prompt_logprobs=0)["choices"][0]["prompt_logprobs"]
        assert given[0] is None and [list(map(int, logp)) for logp in given[1:]] == [[t] for t in prompt[1:]]
        logps = [next(iter(logp.values()))["logprob"] for logp in given[1:]]
        assert logps[start - 1 :][: len(expected)] == expected
        echoed = client.complete(prompt, 1, echo=True, logprobs=0)["choices"][0]["logprobs"]["token_logprobs"]
        assert echoed[1:-1] == logps
    with server(dialect="sglang") as (_, client):
        echoed = client.complete(prompt, 1, echo=True, logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]
        assert echoed[1:-1] == logps
        assert len(client.complete(prompt, 1, logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]) == 1


# -- dying and coming back --


def test_a_killed_server_comes_back_on_its_port() -> None:
    with server() as (serving, client):
        whole = client.complete(PROMPT)["choices"]
        for _ in range(2):
            serving.stop()
            with pytest.raises((http.client.HTTPException, OSError)):
                client.complete(PROMPT)
            client.close()
            with pytest.raises(ConnectionRefusedError):
                client.complete(PROMPT)
            serving.start()
            client.close()
            assert client.complete(PROMPT)["choices"] == whole


def test_requests_under_way_are_lost_with_the_server() -> None:
    body = json.dumps({"model": "student", "prompt": PROMPT}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with ExitStack() as stack:
        serving = stack.enter_context(ScriptedServer(script, request_seconds=60.0))
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
        connection.sendall(head + body)
        while not serving.requests:
            pass
        serving.stop()
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""


# -- the proxy --


@contextmanager
def proxied(fault: Fault | None, **settings: Any) -> Iterator[tuple[FaultProxy, Client]]:
    """A proxy whose second completion meets the fault."""
    with ExitStack() as stack:
        serving = stack.enter_context(ScriptedServer(script, api_key="key"))
        proxy = stack.enter_context(FaultProxy(serving.url, **settings))
        if fault is not None:
            proxy.plan = every(2, fault, times=1)
        client = Client(proxy.url, "key", timeout=5.0)
        stack.callback(client.close)
        yield proxy, client


def test_without_a_fault_nothing_changes() -> None:
    with proxied(None) as (proxy, client):
        direct = Client(f"http://127.0.0.1:{proxy._target[1]}", "key")
        for path in ("/v1/models", "/health", "/version"):
            assert client.raw("GET", path) == direct.raw("GET", path)
        assert client.complete(PROMPT)["choices"] == direct.complete(PROMPT)["choices"]
        assert client.post(model="other", prompt=PROMPT) == direct.post(model="other", prompt=PROMPT)
        direct.close()
        assert proxy.connections == 1 and proxy.completions == 2 and not proxy.injected


STATUS = {
    Fault.BUSY: 429,
    Fault.BUSY_SECONDS: 429,
    Fault.BUSY_DATE: 429,
    Fault.ERROR: 500,
    Fault.UNAVAILABLE: 503,
    Fault.BAD_GATEWAY: 502,
    Fault.ECHO_500: 500,
    Fault.ECHO_400: 400,
    Fault.DENIED: 401,
}
BROKEN = {
    Fault.RESET,
    Fault.RESET_INSIDE,
    Fault.HALF_CLOSED,
    Fault.CLOSED_INSIDE,
    Fault.NO_HTTP,
    Fault.KILLED,
}
SILENT = {Fault.SILENCE, Fault.STALLED}
WRONG = {Fault.TRUNCATED, Fault.GARBAGE, Fault.HTML, Fault.EMPTY_BODY, Fault.WRONG_ENCODING}
CHANGED: dict[Fault, Callable[[Any], bool]] = {
    Fault.OTHER_JSON: lambda said: isinstance(said, list),
    Fault.EMPTY_OBJECT: lambda said: said == {},
    Fault.NO_CHOICES: lambda said: said["choices"] == [],
    Fault.NO_IDS: lambda said: "token_ids" not in said["choices"][0],
    Fault.FOREIGN_IDS: lambda said: -1 in said["choices"][0]["token_ids"],
    Fault.NO_TOKENS: lambda said: said["choices"][0]["token_ids"] == [] and not said["choices"][0]["text"],
    Fault.NO_TOKENS_AT_END: lambda said: said["choices"][0]["token_ids"] == [],
    Fault.NO_SCORES: lambda said: said["choices"][0]["prompt_logprobs"] is None,
    Fault.ABORTED: lambda said: said["choices"][0]["finish_reason"] == "abort",
    Fault.ERROR_IN_200: lambda said: "error" in said,
    Fault.CLOSED_AFTER: lambda said: said["choices"][0]["text"] == WHOLE,
}


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_is_what_it_says(fault: Fault) -> None:
    with proxied(fault, away_seconds=0.0) as (proxy, client):
        client.complete(PROMPT)
        if fault in SILENT:
            client.close()
            client._connection.timeout = 0.05
        body = json.dumps({"model": "student", "prompt": PROMPT, "max_tokens": 100}).encode()
        try:
            status, said = client.raw("POST", "/v1/completions", body)
        except TimeoutError:
            assert fault in SILENT
        except (http.client.HTTPException, OSError):
            assert fault in BROKEN
        else:
            assert status == STATUS.get(fault, 200)
            assert fault in WRONG or fault in CHANGED or fault in STATUS
            if fault in WRONG:
                with pytest.raises(ValueError):
                    json.loads(said)
            elif fault in CHANGED:
                assert CHANGED[fault](json.loads(said))
            assert (b"Bearer key" in said) == (fault in (Fault.ECHO_400, Fault.ECHO_500, Fault.DENIED))
        assert proxy.injected == {fault: 1}
        client.close()
        client._connection.timeout = 5.0
        while proxy._listener is None:
            pass
        assert client.complete(PROMPT)["choices"][0]["text"] == WHOLE
        client.close()


def test_retry_after_is_said_as_asked() -> None:
    for fault, seconds in ((Fault.BUSY, None), (Fault.BUSY_SECONDS, "7"), (Fault.BUSY_DATE, "GMT")):
        with proxied(None, retry_after=7) as (proxy, client):
            proxy.plan = always(fault)
            client._connection.request("POST", "/v1/completions", b"{}")
            response = client._connection.getresponse()
            response.read()
            said = response.headers["Retry-After"]
            assert said is None if seconds is None else said.endswith(seconds)


def test_plans_count_completions_alone() -> None:
    seventh = every(7, Fault.ERROR, after=3, times=2)
    assert [number for number in range(40) if seventh(number)] == [9, 16]
    with proxied(None) as (proxy, client):
        proxy.plan = always(Fault.ERROR, after=1)
        client.complete(PROMPT)
        assert client.post(model="student", prompt=PROMPT)[0] == 500
        assert client.raw("GET", "/health") == (200, b"")
        assert client.post(model="student", prompt=PROMPT)[0] == 500
        assert proxy.injected == {Fault.ERROR: 2}


def test_a_proxy_stays_away_and_comes_back() -> None:
    with proxied(Fault.KILLED, away_seconds=60.0) as (proxy, client):
        client.complete(PROMPT)
        with pytest.raises((http.client.HTTPException, OSError)):
            client.complete(PROMPT)
        client.close()
        with pytest.raises(ConnectionRefusedError):
            client.complete(PROMPT)
        client.close()
        proxy.start()
        client.complete(PROMPT)


def test_a_proxy_before_nothing_breaks_its_connections() -> None:
    with ScriptedServer(script) as serving, FaultProxy(serving.url) as proxy:
        client = Client(proxy.url)
        client.complete(PROMPT)
        serving.stop()
        with pytest.raises((http.client.HTTPException, OSError)):
            client.complete(PROMPT)
        serving.start()
        client.close()
        client.complete(PROMPT)
        client.close()
