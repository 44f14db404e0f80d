"""The in-process engine on tiny real models: what batches, chunks and cut-backs must not change."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma3TextConfig,
    GenerationConfig,
    GPTNeoConfig,
    GptOssConfig,
    LlamaConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from weft.engines.base import Completion, CompletionRequest, Finish, Scored, uniform
from weft.engines.local import LocalEngine
from weft.engines.sampler import draw
from weft.engines.scoring import Score, pop_batch
from weft.engines.settings import EngineSettings
from weft.engines.slots import Layout, SlotCache, common_start
from weft.errors import EngineError, UserError
from weft.micro import make_prompts, model_path
from weft.records import Message, Sampling
from worlds import started

GREEDY = Sampling(0.0, 1.0, 0, 0.0)
WARM = Sampling(1.0, 0.9, 50, 0.0)
TODAY = datetime.date(2026, 1, 1)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    opened = started(EngineSettings(name="micro:student"), date=TODAY)
    assert isinstance(opened, LocalEngine)
    yield opened
    asyncio.run(opened.close())


def prompts(engine: LocalEngine, n: int) -> list[list[int]]:
    return [
        engine.vocabulary.encode_template(engine.template.prompt([Message("user", prompt.prompt)]))
        for prompt in make_prompts(n, seed=3)
    ]


async def ask(
    engine: LocalEngine,
    session: str,
    prefix: list[int],
    tokens: int,
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> Completion:
    return await engine.complete(CompletionRequest(session, prefix, tokens, sampling, seed, engine.end_ids))


async def in_chunks(
    engine: LocalEngine, session: str, prefix: list[int], tokens: int, chunk: int, sampling: Sampling = GREEDY
) -> tuple[int, ...]:
    ids: list[int] = []
    while len(ids) < tokens:
        completion = await ask(engine, session, [*prefix, *ids], min(chunk, tokens - len(ids)), sampling)
        ids += completion.ids
        if completion.finish is Finish.STOP:
            break
    return tuple(ids)


def test_greedy_text_is_that_of_generate(engine: LocalEngine) -> None:
    for prefix in prompts(engine, 8):
        ours = asyncio.run(ask(engine, "one", prefix, 60)).ids
        theirs = engine._model.generate(
            torch.tensor([prefix]), max_new_tokens=60, do_sample=False, eos_token_id=list(engine.end_ids)
        )
        assert ours == tuple(theirs[0, len(prefix) :].tolist())


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_neither_batches_nor_chunks_change_the_text(engine: LocalEngine, sampling: Sampling) -> None:
    async def all_ways() -> None:
        starts = prompts(engine, 12)
        alone = [(await ask(engine, f"a{i}", start, 50, sampling)).ids for i, start in enumerate(starts)]
        together = await asyncio.gather(
            *(ask(engine, f"b{i}", start, 50, sampling) for i, start in enumerate(starts))
        )
        assert [completion.ids for completion in together] == alone
        for chunk in (1, 3, 20):
            chunked = await asyncio.gather(
                *(in_chunks(engine, f"c{chunk}{i}", s, 50, chunk, sampling) for i, s in enumerate(starts))
            )
            assert list(chunked) == alone

    asyncio.run(all_ways())


def test_a_prefix_that_was_cut_back_is_continued_as_if_it_were_new(engine: LocalEngine) -> None:
    async def cut_back() -> None:
        (start,) = prompts(engine, 1)
        written = (await ask(engine, "kept", start, 30)).ids
        for keep in (29, 12, 5, 0):
            prefix = [*start, *written[:keep], *engine.vocabulary.encode(" hmm 7")]
            kept = (await ask(engine, "kept", prefix, 20)).ids
            assert kept == (await ask(engine, f"fresh{keep}", prefix, 20)).ids

    asyncio.run(cut_back())


def test_what_is_kept_is_not_computed_again(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = engine._forward

    def counting(batch: list[Any], most: int) -> torch.Tensor:
        read.append(sum(len(row.unread) for row in batch))
        return forward(batch, most)

    monkeypatch.setattr(engine, "_forward", counting)

    async def grow() -> None:
        (start,) = prompts(engine, 1)
        ids = list(start)
        for _ in range(5):
            ids += (await ask(engine, "growing", ids, 4)).ids
        assert sum(read) == len(start) + 20 - 1

    asyncio.run(grow())


def test_slots_are_given_back_and_used_again(engine: LocalEngine) -> None:
    async def many() -> None:
        (start,) = prompts(engine, 1)
        first = (await ask(engine, "s0", start, 10)).ids
        for i in range(40):
            engine.release(f"s{i}")
            assert (await ask(engine, f"s{i + 1}", start, 10)).ids == first
        assert len(engine._sessions) == sessions + 1

    before, sessions = engine._cache.slots + 1, len(engine._sessions)
    asyncio.run(many())
    assert engine._cache.slots <= 2 * before
    engine.release("s40")


def test_a_long_prompt_is_read_in_pieces(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (start,) = prompts(engine, 1)
    prefix = start + engine.vocabulary.encode(" and then" * 60)
    whole = asyncio.run(ask(engine, "whole", prefix, 10)).ids
    monkeypatch.setattr("weft.engines.local.READ_TOKENS", 16)
    assert asyncio.run(ask(engine, "pieces", prefix, 10)).ids == whole


def test_the_context_ends_a_completion(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    (start,) = prompts(engine, 1)
    monkeypatch.setattr(engine, "context", len(start) + 5)
    completion = asyncio.run(ask(engine, "full", start, 10))
    assert (len(completion.ids), completion.finish) == (5, Finish.CONTEXT)
    completion = asyncio.run(ask(engine, "full", [*start, *completion.ids], 10))
    assert (completion.ids, completion.finish) == ((), Finish.CONTEXT)


def test_scores_are_the_models_log_probabilities(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def score(texts: list[tuple[list[int], list[int]]]) -> list[Scored]:
        return list(await asyncio.gather(*(engine.score(prefix, text) for prefix, text in texts)))

    texts = [(start[:-9], start[-9:]) for start in prompts(engine, 5)] + [(prompts(engine, 1)[0], [])]
    expected = []
    for prefix, text in texts:
        with torch.inference_mode():
            logps_TV = engine._model(torch.tensor([prefix + text])).logits[0].log_softmax(-1)
        logps_TV = logps_TV[len(prefix) - 1 :][: len(text)]
        own = [float(logps_TV[at, token]) for at, token in enumerate(text)]
        orders_TV = logps_TV.argsort(dim=1, descending=True).tolist()
        ranks = [order.index(token) + 1 for order, token in zip(orders_TV, text, strict=False)]
        entropies = [-sum(math.exp(logp) * logp for logp in logps_V) for logps_V in logps_TV.tolist()]
        expected.append((own, ranks, entropies))
    for limit in (2**27, 700 * 5 * 4):
        monkeypatch.setattr("weft.engines.scoring.SCORE_LOGITS", limit)
        for ours, theirs in zip(asyncio.run(score(texts)), expected, strict=True):
            logps, ranks, entropies = theirs
            assert ours.logps == pytest.approx(logps, abs=1e-4)
            assert ours.ranks == tuple(ranks)
            assert ours.entropies == pytest.approx(entropies, abs=1e-4)


def test_a_large_batch_of_scores_holds_texts_of_like_length() -> None:
    waiting = [Score([1] * n, 1, Future()) for n in (90, 900, 100, 40, 850, 700, 300, 2000)]
    batches = []
    while waiting:
        batches.append([len(job.ids) for job in pop_batch(waiting, 4096)])
    assert batches == [[2000], [900, 850], [700], [300, 100], [90, 40]]


@pytest.fixture
def fresh() -> Iterator[LocalEngine]:
    """An engine of its own, for tests that break it."""
    opened = started(EngineSettings(name="micro:student"), date=TODAY)
    assert isinstance(opened, LocalEngine)
    yield opened
    asyncio.run(opened.close())


Forward = Callable[[list[Any], int], torch.Tensor]


def failing(monkeypatch: pytest.MonkeyPatch, engine: LocalEngine, fails: Callable[[list[Any]], None]) -> None:
    """Let passes over a batch raise what ``fails`` raises."""
    forward: Forward = engine._forward

    def forward_or_fail(batch: list[Any], most: int) -> torch.Tensor:
        fails(batch)
        return forward(batch, most)

    monkeypatch.setattr(engine, "_forward", forward_or_fail)


async def soon(waiting: Awaitable[Any]) -> Any:
    """What is awaited; a future that nobody resolves is an error, not a hang."""
    return await asyncio.wait_for(waiting, 60)


def test_what_does_not_fit_alone_fails_with_the_remedy(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (start,) = prompts(fresh, 1)
    right = asyncio.run(ask(fresh, "before", start, 10)).ids

    def fail(batch: list[Any]) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        failing(patch, fresh, fail)
        with pytest.raises(EngineError, match="lower --concurrency"):
            asyncio.run(soon(ask(fresh, "failing", start, 10)))
    assert asyncio.run(soon(ask(fresh, "failing", start, 10))).ids == right


def test_want_of_memory_lets_fewer_texts_go_on_at_a_time(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        starts = prompts(fresh, 12)
        alone = [(await ask(fresh, f"a{i}", start, 20, WARM)).ids for i, start in enumerate(starts)]
        for i in range(12):
            fresh.release(f"a{i}")
        batches: list[int] = []

        def full(batch: list[Any]) -> None:
            batches.append(len(batch))
            if fresh._slots > 4 or len(batch) > 3:
                raise RuntimeError("cannot allocate memory")

        failing(monkeypatch, fresh, full)
        together = await soon(
            asyncio.gather(*(in_chunks(fresh, f"b{i}", s, 20, 7, WARM) for i, s in enumerate(starts)))
        )
        assert list(together) == alone
        assert max(batches) > 3
        assert fresh._slots <= 4

    asyncio.run(run())


def test_only_the_text_that_does_not_fit_alone_fails(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(batch: list[Any]) -> None:
        if any(row.request.session == "big" for row in batch):
            raise torch.OutOfMemoryError("out of memory")

    async def run() -> None:
        starts = prompts(fresh, 6)
        alone = [(await ask(fresh, f"a{i}", start, 20, WARM)).ids for i, start in enumerate(starts)]
        failing(monkeypatch, fresh, full)
        others = [ask(fresh, f"b{i}", start, 20, WARM) for i, start in enumerate(starts)]
        big, *small = await soon(
            asyncio.gather(ask(fresh, "big", starts[0], 20), *others, return_exceptions=True)
        )
        assert isinstance(big, EngineError)
        assert [completion.ids for completion in small] == alone
        assert fresh._most_rows is None

    asyncio.run(run())


def test_other_errors_are_of_the_rows_of_their_pass(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(batch: list[Any]) -> None:
        if any(row.request.session == "bad" for row in batch):
            raise ValueError("defect")

    async def run() -> None:
        (start,) = prompts(fresh, 1)
        monkeypatch.setattr(
            fresh, "_most_padding", lambda length: -1
        )  # reading and writing do not share a pass
        right = (await ask(fresh, "right", start, 300)).ids
        failing(monkeypatch, fresh, fail)
        good = asyncio.ensure_future(ask(fresh, "good", start, 300))
        while not any(row.written for row in fresh._rows if row.request.session == "good"):
            await asyncio.sleep(0)
        with pytest.raises(EngineError, match="defect"):
            await soon(ask(fresh, "bad", start, 10))
        assert (await soon(good)).ids == right

    asyncio.run(run())


def test_an_error_amid_a_long_text_reaches_its_request(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.engines.local.READ_TOKENS", 16)

    def fail(batch: list[Any]) -> None:
        if batch[0].session.ids:
            raise ValueError("defect")

    failing(monkeypatch, fresh, fail)
    with pytest.raises(EngineError, match="defect"):
        asyncio.run(soon(ask(fresh, "long", [5] * 60, 10)))


def test_a_request_that_cannot_be_admitted_fails_alone(
    fresh: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (start,) = prompts(fresh, 1)
    with pytest.raises(EngineError, match="prefix is empty"):
        asyncio.run(soon(ask(fresh, "empty", [], 10)))
    with pytest.raises(ValueError, match="prefix is empty"):
        asyncio.run(soon(fresh.score([], [1, 2])))
    with monkeypatch.context() as patch:
        patch.setattr("weft.engines.local.common_start", lambda old, new: 1 // 0)
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            asyncio.run(soon(ask(fresh, "odd", start, 10)))
    assert asyncio.run(soon(ask(fresh, "odd", start, 10))).ids


def test_a_session_released_while_it_writes_disturbs_no_other(fresh: LocalEngine) -> None:
    async def run() -> None:
        starts = prompts(fresh, 6)
        alone = [(await ask(fresh, f"a{i}", start, 40, WARM)).ids for i, start in enumerate(starts)]
        for i in range(6):
            fresh.release(f"a{i}")
        for turn in range(4):
            stopped = [
                asyncio.ensure_future(ask(fresh, f"s{turn}{i}", start, 400, WARM, seed=9))
                for i, start in enumerate(starts)
            ]
            while not any(row.written for row in fresh._rows if row.request.seed == 9):
                await asyncio.sleep(0)
            for i, task in enumerate(stopped):
                task.cancel()
                fresh.release(f"s{turn}{i}")
            together = await soon(
                asyncio.gather(
                    *(ask(fresh, f"b{turn}{i}", start, 40, WARM) for i, start in enumerate(starts))
                )
            )
            assert [completion.ids for completion in together] == alone
            await asyncio.gather(*stopped, return_exceptions=True)
            for i in range(6):
                fresh.release(f"b{turn}{i}")

    asyncio.run(run())


def test_closing_ends_what_is_under_way_and_drops_the_model(fresh: LocalEngine) -> None:
    async def run() -> None:
        (start,) = prompts(fresh, 1)
        waiting = asyncio.ensure_future(ask(fresh, "long", start, 10**6))
        while not fresh._rows:
            await asyncio.sleep(0)
        await fresh.close()
        with pytest.raises(EngineError, match="closed"):
            await soon(waiting)
        with pytest.raises(EngineError, match="closed"):
            await soon(ask(fresh, "late", start, 10))

    fresh.context = None
    fresh.end_ids = frozenset()
    asyncio.run(run())
    assert fresh._model is None


def filled(slots: int, length: int) -> SlotCache:
    """A cache whose keys are all 1, of two layers."""
    cache = SlotCache()
    cache.reserve(slots, length)
    S, T = torch.arange(slots), torch.arange(length)
    cache.layout = Layout(S, S[:, None].expand(-1, length), T.expand(slots, -1), length)
    for layer in (0, 1):
        cache.update(torch.ones(slots, 1, length, 2), torch.ones(slots, 1, length, 2), layer)
    return cache


def test_the_cache_grows_by_shares_and_keeps_what_it_holds() -> None:
    cache = filled(3, 64)
    cache.reserve(33, 65)
    assert (cache.slots, cache.capacity) == (33, 128)
    keys_SHCD = cache._keys_SHCD[1]
    assert keys_SHCD.shape == (33, 1, 128, 2)
    assert bool((keys_SHCD[:3, :, :64] == 1).all())
    sizes, empty = set(), SlotCache()
    for length in range(64, 20_000):
        empty.reserve(1, length)
        assert empty.capacity <= max(128, length * 5 // 4 + 64)
        sizes.add(empty.capacity)
    assert len(sizes) < 30


def test_a_cache_that_could_not_grow_is_empty_and_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(2, 64)
    with monkeypatch.context() as patch:

        def fail(old: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("out of memory")

        patch.setattr(cache, "_grown", fail)
        with pytest.raises(torch.OutOfMemoryError):
            cache.reserve(2, 10_000)
    assert (cache.slots, cache.capacity, cache._keys_SHCD) == (0, 0, {})
    cache.reserve(2, 64)
    assert (cache.slots, cache.capacity) == (2, 64)


SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}


def saved(config: Any, folder: Path) -> str:
    """A random model of this configuration, with a tokenizer of the embedded models."""
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL, intermediate_size=64, pad_token_id=0),
        Gemma3TextConfig(**SMALL, head_dim=16, intermediate_size=64, sliding_window=12, pad_token_id=0),
        GptOssConfig(
            **SMALL,
            head_dim=16,
            intermediate_size=64,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=12,
            pad_token_id=0,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_run_exactly_are_opened(config: Any, dtype: Any, tmp_path: Path) -> None:
    opened = started(EngineSettings(name=saved(config, tmp_path), dtype=dtype, device="cpu"), date=TODAY)
    assert isinstance(opened, LocalEngine)
    if dtype == "float32":
        (prefix,) = prompts(opened, 1)
        theirs = opened._model.generate(torch.tensor([prefix]), max_new_tokens=30, do_sample=False)
        assert asyncio.run(in_chunks(opened, "one", prefix, 30, 7)) == tuple(
            theirs[0, len(prefix) :].tolist()
        )
    asyncio.run(opened.close())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "config",
    [
        GPTNeoConfig(
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=12,
        ),
        BloomConfig(hidden_size=64, n_layer=2, n_head=4),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_would_write_wrong_text_are_refused(config: Any, dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be run in this process exactly"):
        started(EngineSettings(name=saved(config, tmp_path), dtype=dtype, device="cpu"), date=TODAY)


def test_sliding_windows_and_grouped_heads(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        use_sliding_window=True,
        sliding_window=12,
        max_window_layers=1,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
    )
    model = Qwen3ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, do_sample=False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for implementation in ("sdpa", "eager"):
        opened = started(EngineSettings(name=str(tmp_path)), date=TODAY)
        assert isinstance(opened, LocalEngine)
        opened._model.set_attn_implementation(implementation)
        opened._masks.boolean = implementation == "sdpa"
        for prefix in prompts(opened, 4):
            theirs = opened._model.generate(torch.tensor([prefix]), max_new_tokens=30, do_sample=False)
            ours = asyncio.run(in_chunks(opened, f"{implementation}{len(prefix)}", prefix, 30, 7))
            assert ours == tuple(theirs[0, len(prefix) :].tolist())
        asyncio.run(opened.close())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("not json"), "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_model_is_said_to_be_none(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=said):
        started(EngineSettings(name=str(tmp_path)), date=TODAY)


def test_other_names_that_are_no_engine() -> None:
    for name, said in (
        ("./nowhere", "no such folder"),
        ("micro:nobody", "no engine"),
        ("micro:student@http://127.0.0.1:1", "cannot be reached"),
        ("scripted:/nowhere.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            started(EngineSettings(name=name), date=TODAY)


def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    for file in model_path("student").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="no chat template"):
        started(EngineSettings(name=str(tmp_path)), date=TODAY)
    settings = EngineSettings(
        name=str(tmp_path), chat_template=str(model_path("student") / "chat_template.jinja")
    )
    asyncio.run(started(settings, date=TODAY).close())


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    probabilities = logits.softmax(-1)[0].tolist()
    n = 4000
    drawn = draw(logits.expand(n, 4), [Sampling(1.0, 1.0, 0, 0.0)] * n, [uniform(7, i) for i in range(n)])
    for token, probability in enumerate(probabilities):
        # Five standard deviations of a binomial share.
        assert abs(drawn.count(token) / n - probability) < 5 * (probability * (1 - probability) / n) ** 0.5
    near = 1.0 - 2.0**-53
    for sampling, allowed in (
        (Sampling(0.0, 1.0, 0, 0.0), {2}),
        (Sampling(1.0, 1.0, 2, 0.0), {1, 2}),
        (Sampling(1.0, 0.5, 0, 0.0), {2}),
        (Sampling(1.0, 0.7, 0, 0.0), {1, 2}),
        (Sampling(1.0, 1.0, 0, 0.3), {1, 2}),
        (Sampling(1.0, 0.9, 3, 0.0), {1, 2}),
    ):
        uniforms = [0.0, 0.2, 0.4, 0.6, 0.8, near]
        assert set(draw(logits.expand(6, 4), [sampling] * 6, uniforms)) == allowed
    mixed = draw(logits.expand(2, 4), [Sampling(0.0, 1.0, 0, 0.0), Sampling(1.0, 1.0, 0, 0.0)], [0.0, 0.0])
    assert mixed == [2, 0]


def test_common_start() -> None:
    for old, new in (
        ([], [1]),
        ([1, 2, 3], [1, 2, 3, 4]),
        ([1, 2, 3], [1, 2]),
        ([1, 2, 9, 9], [1, 2, 3]),
        ([5], [6]),
    ):
        length = common_start(old, new)
        assert old[:length] == new[:length]
        assert length == min(len(old), len(new)) or old[length] != new[length]


def test_logits_that_are_no_numbers_fail_their_request_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = prompts(engine, 2)
    right = asyncio.run(ask(engine, "right before", starts[0], 5)).ids
    forward = engine._forward

    def overflowing(batch: list[Any], most: int) -> torch.Tensor:
        logits = forward(batch, most)
        for index, row in enumerate(batch):
            if row.request.session == "overflowing":
                logits[index] = float("nan")
        return logits

    monkeypatch.setattr(engine, "_forward", overflowing)

    async def both() -> list[Any]:
        asked = (ask(engine, "overflowing", starts[1], 5), ask(engine, "right", starts[0], 5))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    failed, whole = asyncio.run(both())
    assert isinstance(failed, EngineError)
    assert "not finite" in str(failed)
    assert whole.ids == right


def test_broken_folders_are_the_users_to_mend(tmp_path: Path) -> None:
    spoilers: list[tuple[str, Callable[[Path], object]]] = [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("model.safetensors", lambda path: path.rename(path.with_name("pytorch_model.bin"))),
        ("tokenizer.json", lambda path: path.write_text("{")),
    ]
    for name, spoil in spoilers:
        folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file in model_path("student").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        spoil(folder / name)
        with pytest.raises(UserError) as refusal:
            started(EngineSettings(name=str(folder)), date=TODAY)
        assert "folder is complete" in refusal.value.remedy
