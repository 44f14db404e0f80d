"""Weft over two servers against a scheduler in lockstep, a bare replay of its own spans, and one-shot text.

    python benchmarks/synthesis.py [-n 200] [--concurrency 100] [--repeat 3] [--json FILE]
                                   [--servers MODEL@URL MODEL@URL] [--answers | --growth] [--quick]

Four ways over the same two vLLM servers and the same questions of the micro world, in one run:

lockstep   the cooperation as the authors' scheduler does it: ``benchmarks/lockstep.py``
weft       the cooperation by :func:`weft.synthesis.synthesize`, from its prompts to its rows on disk
replay     a bare client that knows beforehand what Weft's traces will be: one request for each span, for
           exactly as many tokens, the final response included; what a scheduler could reach at best
oneshot    as many tokens as each model wrote, for each trace in one request, both servers at the same time

``speedup_over_lockstep`` is the ratio of kept tokens per second; ``time_over_replay`` that of seconds. Kept
are the tokens of all traces' texts, in the student's tokens, of traces that were rejected, too. The pool of
the lockstep is as large as Weft's concurrency. The time that Weft takes to open its engines (tokenizers, the
probe of both servers) is reported apart: the other ways find all that done. Each round has questions of its
own and runs all four ways, in an order that changes from round to round; figures are medians of the rounds.
Nothing finds its own text in the servers' prefix caches: the bare ways send a ``cache_salt`` of their own,
Weft draws with a seed of its own, both taken from the clock.

``--answers`` runs the same four ways where answers are long, as those of real models are and those of the
micro world are not: two models with random weights, of which the teacher closes thinking after some hundred
tokens, and the student then writes an answer of 256 tokens, which only its length ends.

``--growth`` measures something else: Weft's tokens per second with traces of 8,000 tokens over that with
traces of 500, on two models with random weights and a long context. Their words are drawn so that the teacher
writes 70% of the tokens (the paper's share), in turns of some 16; thinking ends by its length. The lockstep
is measured with the short traces, too. One-shot text of the same lengths says how much of the difference is
the servers' own.

The servers are started here unless they are given; ``scripts/servers.py`` installs vLLM where it is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import torch
from lockstep import Lockstep, Server
from machine import report
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from weft.boundary.opening import open_boundary
from weft.chat import ChatTemplate
from weft.micro import make_prompts, model_path
from weft.prompts import open_prompts
from weft.records import Author, Message, Span, Trace
from weft.synthesis import SynthesisSettings, synthesize
from weft.synthesis.run import Silence
from weft.vocabulary import TokenizerVocabulary

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER
SAMPLING = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
"""The authors' settings."""
THINKING, RESPONSE = 1024, 256
"""Most tokens; few traces of the micro world come near them."""
RANDOM_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""Of the models of random weights: their biases are probabilities."""
POSITIONS = 16_384
"""Context of the models of random weights."""
ORDERS = (
    ("lockstep", "weft", "replay", "oneshot"),
    ("weft", "replay", "lockstep", "oneshot"),
    ("weft", "oneshot", "replay", "lockstep"),
)
"""Weft's traces are what is replayed."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model, where it is served, and how to speak to it."""

    engine: str
    """``MODEL@URL``."""
    folder: Path
    vocabulary: TokenizerVocabulary
    template: ChatTemplate

    @classmethod
    def at(cls, engine: str, folder: Path) -> Model:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(engine, folder, TokenizerVocabulary(tokenizer), ChatTemplate.from_tokenizer(tokenizer))

    def server(self, session: aiohttp.ClientSession) -> Server:
        name, _, url = self.engine.rpartition("@")
        return Server(session, name, url.rstrip("/").removesuffix("/v1") + "/v1/completions")


Models = Mapping[Author, Model]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of writing cost."""

    seconds: float
    client_seconds: float
    """Processor time of this process."""
    traces: int
    complete: int
    tokens: int
    """Kept, in the student's tokens."""
    spans: int
    """Final responses included."""
    requests: int
    discarded: int
    """Tokens."""
    opening_seconds: float = 0.0
    """Before the first tokens came: not part of ``seconds``, nor is its processor time of the client's."""

    def row(self) -> dict[str, float]:
        return {
            **asdict(self),
            "tokens_per_second": self.tokens / self.seconds,
            "requests_per_span": self.requests / self.spans,
            "discarded_over_kept": self.discarded / self.tokens,
            "client_seconds_per_1000_tokens": 1000 * self.client_seconds / self.tokens,
        }


class Clock:
    """Seconds of the wall and of this process's processor time since its making."""

    def __init__(self) -> None:
        self._start, self._busy = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._start,
            "client_seconds": time.process_time() - self._busy,
        }


class Opening(Silence):
    """Reads the clock when the first tokens come, and sets it back."""

    def __init__(self) -> None:
        self.clock, self.seconds = Clock(), 0.0

    def generated(self, author: Author, tokens: int) -> None:
        if not self.seconds:
            self.seconds = self.clock.read()["seconds"]
            self.clock = Clock()


# -- the four ways --


def lockstep(
    models: Models,
    questions: Sequence[str],
    pool: int,
    salt: str,
    *,
    sampling: Mapping[str, float] = SAMPLING,
    thinking: int = THINKING,
) -> Outcome:
    """The peer."""
    vocabulary = models[STUDENT].vocabulary

    async def run() -> Outcome:
        async with _session() as session:
            peer = Lockstep(
                {author: model.server(session) for author, model in models.items()},
                {author: model.template for author, model in models.items()},
                open_boundary("oracle"),
                sampling={**sampling, "cache_salt": salt},
                thinking=thinking,
                response=RESPONSE,
            )
            clock = Clock()
            samples = await peer.run([[Message("user", question)] for question in questions], pool)
            took = clock.read()
        texts = [text for sample in samples for text in (sample.thinking, sample.response)]
        return Outcome(
            **took,
            traces=len(samples),
            complete=sum(sample.complete for sample in samples),
            tokens=sum(len(vocabulary.encode(text)) for text in texts),
            spans=sum(len(sample.spans) + bool(sample.response) for sample in samples),
            requests=sum(sample.requests for sample in samples),
            discarded=sum(len(vocabulary.encode(text)) for s in samples for text in s.discarded),
        )

    return asyncio.run(run())


def weft(
    models: Models,
    questions: Sequence[str],
    concurrency: int,
    seed: int,
    *,
    sampling: Mapping[str, float] = SAMPLING,
    limits: Mapping[str, int] | None = None,
) -> tuple[Outcome, list[Trace]]:
    """The library, from prompts to rows."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, output = Path(folder) / "questions.jsonl", Path(folder) / "traces.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in questions))
        settings = SynthesisSettings.model_validate(
            {
                **{
                    author.value: {"name": model.engine, "tokenizer": str(model.folder)}
                    for author, model in models.items()
                },
                "boundary": {"student": "oracle", "teacher": "oracle"},
                "sampling": sampling,
                "limits": limits or {"thinking": THINKING, "response": RESPONSE},
                "seed": seed,
                "concurrency": concurrency,
                "servers": {"timeout": 120, "patience": 10},
            }
        )
        opening = Opening()
        synthesize(settings, open_prompts(str(prompts)), output, observer=opening)
        took = opening.clock.read()
        files = [output, output.with_suffix(".rejected.jsonl")]
        lines = [line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
    traces = [Trace.from_row(json.loads(line)) for line in lines]
    used = [trace.usage for trace in traces]
    return Outcome(
        **took,
        traces=len(traces),
        complete=sum(trace.reason is None for trace in traces),
        tokens=sum(usage.tokens.total for usage in used),
        spans=sum(len(trace.spans) for trace in traces),
        requests=sum(usage.requests.total for usage in used),
        discarded=sum(usage.discarded.total for usage in used),
        opening_seconds=opening.seconds,
    ), traces


Plan = Sequence[tuple[Author, list[int], int]]
"""Requests that follow one another: who is asked, the ids before, and how many more."""


def replay(
    models: Models,
    traces: Sequence[Trace],
    concurrency: int,
    salt: str,
    sampling: Mapping[str, float] = SAMPLING,
) -> Outcome:
    """Weft's spans, each as one request for exactly its tokens, after exactly its prefix."""
    plans = [list(_spans(models, trace)) for trace in traces]
    took, _ = _follow(models, [plans], concurrency, {**sampling, "cache_salt": salt})
    return _outcome(plans, took)


def oneshot(
    models: Models,
    traces: Sequence[Trace],
    concurrency: int,
    salt: str,
    sampling: Mapping[str, float] = SAMPLING,
) -> tuple[Outcome, dict[str, float]]:
    """As many tokens as each author wrote; and each server's tokens per second until it was done."""
    queues = [[plan for trace in traces if (plan := _alone(models, trace, author))] for author in Author]
    took, ends = _follow(models, queues, concurrency, {**sampling, "cache_salt": salt})
    rates = {
        author.value: sum(plan[0][2] for plan in queue) / end
        for author, queue, end in zip(Author, queues, ends, strict=True)
    }
    return _outcome([plan for queue in queues for plan in queue], took), rates


def _outcome(plans: Sequence[Plan], took: Mapping[str, float]) -> Outcome:
    requests = sum(map(len, plans))
    tokens = sum(tokens for plan in plans for _, _, tokens in plan)
    return Outcome(
        **took,
        traces=len(plans),
        complete=len(plans),
        tokens=tokens,
        spans=requests,
        requests=requests,
        discarded=0,
    )


def _spans(models: Models, trace: Trace) -> Iterator[tuple[Author, list[int], int]]:
    text = ""
    for index, span in enumerate(trace.spans):
        model = models[span.author]
        if index == trace.thinking_spans:
            thinking = model.template.thinking
            assert thinking is not None
            text += thinking.closing
        prefix = _prompt(model, trace) + model.vocabulary.encode_template(text)
        yield span.author, prefix, _tokens(models, span)
        text += span.text


def _alone(models: Models, trace: Trace, author: Author) -> Plan:
    tokens = sum(_tokens(models, span) for span in trace.spans if span.author is author)
    return [(author, _prompt(models[author], trace), tokens)] if tokens else []


def _prompt(model: Model, trace: Trace) -> list[int]:
    return model.vocabulary.encode_template(model.template.prompt(trace.prompt.messages))


def _tokens(models: Models, span: Span) -> int:
    return len(models[STUDENT].vocabulary.encode(span.text))


def _follow(
    models: Models, queues: Sequence[Sequence[Plan]], concurrency: int, fields: Mapping[str, Any]
) -> tuple[dict[str, float], list[float]]:
    """Carry out all queues at the same time, ``concurrency`` plans of each: what it took, when each ended."""

    async def run() -> tuple[dict[str, float], list[float]]:
        async with _session() as session:
            servers = {author: model.server(session) for author, model in models.items()}

            async def work(queue: Iterator[Plan]) -> None:
                for plan in queue:
                    for author, prefix, tokens in plan:
                        await _exactly(servers[author], prefix, tokens, fields)

            async def drain(queue: Sequence[Plan]) -> float:
                share = iter(queue)
                await asyncio.gather(*(work(share) for _ in range(concurrency)))
                return clock.read()["seconds"]

            clock = Clock()
            ends = await asyncio.gather(*(drain(queue) for queue in queues))
            return clock.read(), ends

    return asyncio.run(run())


async def _exactly(server: Server, prefix: Sequence[int], tokens: int, fields: Mapping[str, Any]) -> None:
    answer = await server.complete(
        prompt=prefix,
        max_tokens=tokens,
        ignore_eos=True,
        return_token_ids=True,
        **fields,
    )
    got = len(answer["choices"][0]["token_ids"])
    if got != tokens:
        raise RuntimeError(f"{server.url}: {got} tokens in place of {tokens}")


def _session() -> aiohttp.ClientSession:
    # vLLM closes idle connections after five seconds.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3))


# -- four ways in one run --


def compare(
    models: Models,
    *,
    traces: int,
    concurrency: int,
    rounds: int,
    sampling: Mapping[str, float] = SAMPLING,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """All four ways, ``rounds`` times."""
    base = int(time.time())
    lockstep(models, _questions(8, rounds), 8, f"{base}-warm", sampling=sampling)
    weft(models, _questions(8, rounds), 8, base - 1, sampling=sampling, limits=limits)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ORDERS[0]}
    ratios: dict[str, list[float]] = {
        "speedup_over_lockstep": [],
        "time_over_replay": [],
        "time_over_oneshot": [],
    }
    servers: list[dict[str, float]] = []
    load: list[float] = []
    for index in range(rounds):
        questions = _questions(traces, index)
        rows: dict[str, dict[str, float]] = {}
        written: list[Trace] = []
        for name in ORDERS[index % len(ORDERS)]:
            salt = f"{base}-{index}-{name}"
            if name == "lockstep":
                rows[name] = lockstep(models, questions, concurrency, salt, sampling=sampling).row()
            elif name == "weft":
                outcome, written = weft(
                    models, questions, concurrency, base + index, sampling=sampling, limits=limits
                )
                rows[name] = outcome.row()
            elif name == "replay":
                rows[name] = replay(models, written, concurrency, salt, sampling).row()
            else:
                outcome, rates = oneshot(models, written, concurrency, salt, sampling)
                rows[name] = outcome.row()
                servers.append(rates)
        for name, row in rows.items():
            found[name].append(row)
        ratios["speedup_over_lockstep"].append(
            rows["weft"]["tokens_per_second"] / rows["lockstep"]["tokens_per_second"]
        )
        ratios["time_over_replay"].append(rows["weft"]["seconds"] / rows["replay"]["seconds"])
        ratios["time_over_oneshot"].append(rows["weft"]["seconds"] / rows["oneshot"]["seconds"])
        load.append(os.getloadavg()[0])
        _show(f"round {index + 1}", rows)
        print(
            f"Weft opened its engines in {rows['weft']['opening_seconds']:.1f} s before; "
            f"load of the machine in the last minute: {load[-1]:.1f}"
        )
    medians = {name: _median(rows) for name, rows in found.items()}
    if rounds > 1:
        _show("medians", medians)
    return {
        **{name: statistics.median(values) for name, values in ratios.items()},
        "rounds": {**found, **ratios, "oneshot_tokens_per_second": servers},
        **medians,
        "oneshot_tokens_per_second": _median(servers),
        "traces": traces,
        "concurrency": concurrency,
        "load": load,
    }


def _questions(n: int, seed: int) -> list[str]:
    return [prompt.prompt for prompt in make_prompts(n, seed=seed)]


def _median(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _show(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    print(
        f"\n{title:12} kept tok/s   seconds   requests/span   discarded/kept   client s/1000 tok   complete"
    )
    for name, row in rows.items():
        print(
            f"{name:12}{row['tokens_per_second']:11.0f}{row['seconds']:10.1f}{row['requests_per_span']:16.2f}"
            f"{row['discarded_over_kept']:17.2f}{row['client_seconds_per_1000_tokens']:20.3f}"
            f"{row['complete']:6.0f}/{row['traces']:.0f}",
            flush=True,
        )


# -- growth --


def write_random_model(folder: Path, seed: int, own: float, closing: float = 0.0) -> None:
    """A model with random weights and a long context, whose words are of the micro world.

    It writes nothing but numbers and words of letters, in any order, and never ends. One coordinate of its
    hidden state is constant, and the rows of the head there act as a bias: on the kinds of words, and
    against all other tokens.

    Args:
        own: share of words of letters, which the oracle gives to the student.
        closing: probability of the tag that closes thinking, at every token.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    vocabulary = TokenizerVocabulary(tokenizer)
    texts = [(vocabulary.piece(token) or b"").decode(errors="replace") for token in range(len(tokenizer))]
    words = [token for token, text in enumerate(texts) if re.fullmatch(" [a-z]+", text)]
    numbers = [token for token, text in enumerate(texts) if re.fullmatch(" [0-9]+", text)]
    bias = torch.full((len(tokenizer),), -30.0)
    bias[words] = math.log(own / len(words))
    bias[numbers] = math.log((1 - own) / len(numbers))
    if closing:
        bias[tokenizer.convert_tokens_to_ids("</think>")] = math.log(closing)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        embedding = model.model.embed_tokens.weight
        embedding[:, 0] = embedding[:, 1:].norm(dim=1).mean()
        hidden = model.model(torch.tensor([words])).last_hidden_state[0]
        model.lm_head.weight[:, 0] = bias / hidden[:, 0].mean()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def growth(models: Models, *, lengths: Sequence[int], traces: int, rounds: int) -> dict[str, Any]:
    """Weft, and one-shot text for comparison, with traces of each length; the lockstep with short ones."""
    base = int(time.time())
    sampling = RANDOM_SAMPLING
    weft(models, _questions(traces, rounds), traces, base - 1, sampling=sampling, limits=_limits(100))
    found: dict[int, dict[str, list[dict[str, float]]]] = {length: {} for length in lengths}
    for index in range(rounds):
        for length in lengths if index % 2 else reversed(lengths):
            questions = _questions(traces, index)
            outcome, written = weft(
                models, questions, traces, base + index, sampling=sampling, limits=_limits(length)
            )
            alone, _ = oneshot(models, written, traces, f"{base}-{index}-{length}", sampling)
            rows = {"weft": outcome.row(), "oneshot": alone.row()}
            if length == lengths[0]:
                peer = lockstep(
                    models, questions, traces, f"{base}-{index}", sampling=sampling, thinking=length
                )
                rows["lockstep"] = peer.row()
            for name, row in rows.items():
                found[length].setdefault(name, []).append(row)
            _show(f"{length} tokens", rows)
    medians = {length: {name: _median(rows) for name, rows in ways.items()} for length, ways in found.items()}
    short, long = lengths
    ratios = {
        name: medians[long][name]["tokens_per_second"] / medians[short][name]["tokens_per_second"]
        for name in ("weft", "oneshot")
    }
    return {
        "growth": ratios["weft"],
        "oneshot_growth": ratios["oneshot"],
        "speedup_over_lockstep": medians[short]["weft"]["tokens_per_second"]
        / medians[short]["lockstep"]["tokens_per_second"],
        "rows": {str(length): ways for length, ways in medians.items()},
        "rounds": {str(length): ways for length, ways in found.items()},
        "traces": traces,
    }


def _limits(length: int) -> dict[str, int]:
    return {"thinking": length, "response": 1, "loop_tokens": 0}


# -- command line --


@contextmanager
def served(folders: Mapping[Author, Path], given: Sequence[str], *options: str) -> Iterator[Models]:
    """The models at their servers: at those that are given, else at two of their own."""
    with ExitStack() as stack:
        if given:
            engines = dict(zip(Author, given, strict=True))
        else:
            sys.path.append(str(Path(__file__).parents[1]))
            from scripts.servers import vllm

            cores = sorted(os.sched_getaffinity(0))
            engines = {}
            for index, (author, folder) in enumerate(folders.items()):
                server = vllm(folder, core=cores[index % len(cores)], options=["--enforce-eager", *options])
                engines[author] = stack.enter_context(server).engine
        yield {author: Model.at(engines[author], folder) for author, folder in folders.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--traces", type=int, default=200, help="traces for each way and round")
    parser.add_argument("--concurrency", type=int, default=100, help="traces under way; the lockstep's pool")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--servers", nargs=2, default=(), metavar="MODEL@URL", help="student's and teacher's")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--answers", action="store_true", help="long answers, by models of random weights")
    kinds.add_argument("--growth", action="store_true", help="long traces against short ones instead")
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    measure = _growth if options.growth else _answers if options.answers else _compare
    report(measure(options), options.json)


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    with served({STUDENT: model_path("student"), TEACHER: model_path("teacher")}, options.servers) as models:
        figures = compare(
            models,
            traces=24 if options.quick else options.traces,
            concurrency=12 if options.quick else options.concurrency,
            rounds=1 if options.quick else options.repeat,
        )
    return _told(figures)


def _told(figures: dict[str, Any]) -> dict[str, Any]:
    print(
        f"\nWeft writes {figures['speedup_over_lockstep']:.2f} times the tokens per second of the lockstep, "
        f"and takes {figures['time_over_replay']:.2f} times as long as the replay"
    )
    return figures


def _answers(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folders = {author: Path(temporary) / f"random-{author.value}" for author in Author}
        write_random_model(folders[STUDENT], seed=0, own=0.85)
        write_random_model(folders[TEACHER], seed=1, own=0.06, closing=0.01)
        with served(folders, options.servers, "--max-model-len", str(POSITIONS)) as models:
            figures = compare(
                models,
                traces=24 if options.quick else options.traces,
                concurrency=12 if options.quick else options.concurrency,
                rounds=1 if options.quick else options.repeat,
                sampling=RANDOM_SAMPLING,
                limits={"thinking": THINKING, "response": RESPONSE, "loop_tokens": 0},
            )
    return _told(figures)


def _growth(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folders = {author: Path(temporary) / f"random-{author.value}" for author in Author}
        write_random_model(folders[STUDENT], seed=0, own=0.85)
        write_random_model(folders[TEACHER], seed=1, own=0.06)
        with served(folders, options.servers, "--max-model-len", str(POSITIONS)) as models:
            figures = growth(
                models,
                lengths=(100, 1000) if options.quick else (500, 8000),
                traces=4 if options.quick else 8,
                rounds=1 if options.quick else options.repeat,
            )
    print(
        f"\ntokens per second of long traces over short ones: {figures['growth']:.2f}; "
        f"of one-shot text: {figures['oneshot_growth']:.2f}; "
        f"Weft over the lockstep with short ones: {figures['speedup_over_lockstep']:.2f}"
    )
    return figures


if __name__ == "__main__":
    main()
