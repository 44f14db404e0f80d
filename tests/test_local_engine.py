"""The in-process engine on tiny real models: what batches, chunks and cut-backs must not change."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from weft.engines.base import Completion, CompletionRequest, Finish, uniform
from weft.engines.local import LocalEngine, _common
from weft.engines.opening import EngineSettings, open_engine
from weft.engines.sampler import draw
from weft.errors import UserError
from weft.micro import make_prompts, model_path
from weft.records import Message, Sampling

GREEDY = Sampling(0.0, 1.0, 0, 0.0)
WARM = Sampling(1.0, 0.9, 50, 0.0)
TODAY = datetime.date(2026, 1, 1)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    opened = open_engine(EngineSettings(name="micro:student"), date=TODAY)
    assert isinstance(opened, LocalEngine)
    yield opened
    opened.close()


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
    async def score(texts: list[tuple[list[int], list[int]]]) -> list[list[float]]:
        return list(await asyncio.gather(*(engine.score(prefix, text) for prefix, text in texts)))

    texts = [(start[:-9], start[-9:]) for start in prompts(engine, 5)] + [(prompts(engine, 1)[0], [])]
    expected = []
    for prefix, text in texts:
        with torch.inference_mode():
            logps = engine._model(torch.tensor([prefix + text])).logits[0].log_softmax(-1)
        expected.append([float(logps[len(prefix) - 1 + i, token]) for i, token in enumerate(text)])
    for limit in (2**27, 700 * 5 * 4):
        monkeypatch.setattr("weft.engines.local.SCORE_LOGITS", limit)
        for ours, theirs in zip(asyncio.run(score(texts)), expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_failing_pass_is_an_error_of_its_requests_only(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (start,) = prompts(engine, 1)
    right = asyncio.run(ask(engine, "before", start, 10)).ids

    def fail(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_forward", fail)
        with pytest.raises(Exception, match="lower --concurrency"):
            asyncio.run(ask(engine, "failing", start, 10))
    assert asyncio.run(ask(engine, "failing", start, 10)).ids == right


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
        opened = open_engine(EngineSettings(name=str(tmp_path)), date=TODAY)
        assert isinstance(opened, LocalEngine)
        opened._model.set_attn_implementation(implementation)
        opened._boolean_mask = implementation == "sdpa"
        for prefix in prompts(opened, 4):
            theirs = opened._model.generate(torch.tensor([prefix]), max_new_tokens=30, do_sample=False)
            ours = asyncio.run(in_chunks(opened, f"{implementation}{len(prefix)}", prefix, 30, 7))
            assert ours == tuple(theirs[0, len(prefix) :].tolist())
        opened.close()


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
        open_engine(EngineSettings(name=str(tmp_path)), date=TODAY)


def test_other_names_that_are_no_engine() -> None:
    for name, said in (
        ("./nowhere", "no such folder"),
        ("micro:nobody", "no engine"),
        ("model@http://127.0.0.1:1", "servers"),
        ("scripted:/nowhere.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            open_engine(EngineSettings(name=name), date=TODAY)


def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    for file in model_path("student").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="no chat template"):
        open_engine(EngineSettings(name=str(tmp_path)), date=TODAY)
    settings = EngineSettings(
        name=str(tmp_path), chat_template=str(model_path("student") / "chat_template.jinja")
    )
    open_engine(settings, date=TODAY).close()


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
        length = _common(old, new)
        assert old[:length] == new[:length]
        assert length == min(len(old), len(new)) or old[length] != new[length]
