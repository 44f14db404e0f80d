"""The cooperative loop in process against plain ``model.generate``, on the same models and as many tokens.

    python benchmarks/local.py [--quick] [--json FILE]

Both micro models write traces of a fixed length in turn, by the oracle boundary; their end tokens are masked,
so that every trace has that length. The peer is transformers' ``generate``: each model writes, in one batch
of as many prompts, as many tokens as it wrote in the cooperation, the student first, then the teacher. Both
sides compute with one processor thread, which is best for models of this size.
``tokens_over_generate`` is the ratio of kept tokens per second; ``growth`` is the loop's tokens per second at
the longest traces over that at the shortest.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from machine import arguments, report

from weft.boundary.opening import open_boundary
from weft.engines.local import LocalEngine
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings
from weft.micro import make_prompts
from weft.records import Author, Message, Sampling, Usage
from weft.synthesis.cooperate import Cooperation, Limits, Plan
from weft.vocabulary import TokenizerVocabulary

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER
SAMPLING = Sampling(temperature=0.7, top_p=1.0, top_k=0, min_p=0.0)


class Endless:
    """A vocabulary whose control tokens and closing tag are never drawn."""

    def __init__(self, vocabulary: TokenizerVocabulary) -> None:
        self._own = vocabulary
        self.size = min(vocabulary.encode_template("<think></think><|im_start|><|im_end|><|endoftext|>"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def engines() -> dict[Author, LocalEngine]:
    opened = {}
    for author in Author:
        engine = asyncio.run(open_engine(EngineSettings(name=f"micro:{author}"), date=datetime.date.today()))
        assert isinstance(engine, LocalEngine)
        engine.vocabulary = Endless(engine.vocabulary)  # type: ignore[arg-type]
        engine.context = None
        opened[author] = engine
    return opened


def cooperate(
    models: dict[Author, LocalEngine], prompts: list[str], tokens: int
) -> tuple[float, list[Usage]]:
    """Seconds and usages of one batch of traces of ``tokens`` tokens each."""
    boundary = open_boundary("oracle")
    cooperation = Cooperation(
        models,
        boundaries=dict.fromkeys(Author, boundary),
        sampling=dict.fromkeys(Author, SAMPLING),
        limits=Limits(thinking=tokens, response=1, loop_tokens=0),
        step=None,
        seed=0,
    )

    async def write() -> list[Usage]:
        plan = Plan(None, STUDENT)
        drafts = [cooperation.write(str(i), plan, [Message("user", p)]) for i, p in enumerate(prompts)]
        return [draft.usage for draft in await asyncio.gather(*drafts)]

    start = time.perf_counter()
    usages = asyncio.run(write())
    return time.perf_counter() - start, usages


def generate(model: LocalEngine, prompts: list[str], tokens: int) -> float:
    """Seconds that transformers needs to write ``tokens`` tokens for each prompt, in one batch."""
    vocabulary = model.vocabulary
    ids = [vocabulary.encode_template(model.template.prompt([Message("user", p)])) for p in prompts]
    longest = max(map(len, ids))
    input_ids = torch.tensor([[0] * (longest - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    start = time.perf_counter()
    with torch.inference_mode():
        model._model.generate(
            input_ids,
            attention_mask=mask,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=True,
            temperature=0.7,
            top_k=0,
            top_p=1.0,
        )
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__ or "")
    lengths = (100, 200) if options.quick else (200, 400, 800, 1600)
    prompts = [prompt.prompt for prompt in make_prompts(8 if options.quick else 32, seed=0)]
    torch.set_num_threads(1)
    models = engines()
    cooperate(models, prompts, 50)  # warm-up
    rows = []
    print("tokens a trace   cooperative tok/s   generate tok/s   ratio   discarded/kept   requests/turn")
    for length in lengths:
        seconds, usages = cooperate(models, prompts, length)
        by = {author: sum(usage.tokens.of(author) for usage in usages) for author in Author}
        peer = sum(generate(models[a], prompts, max(1, round(by[a] / len(prompts)))) for a in Author)
        kept = sum(by.values())
        row = {
            "length": length,
            "tokens_per_second": kept / seconds,
            "generate_tokens_per_second": kept / peer,
            "tokens_over_generate": peer / seconds,
            "discarded_over_kept": sum(usage.discarded.total for usage in usages) / kept,
            "requests_per_turn": sum(u.requests.total for u in usages) / sum(u.turns for u in usages),
            "teacher_share": by[TEACHER] / kept,
        }
        rows.append(row)
        print(
            f"{length:14}{row['tokens_per_second']:20.0f}{row['generate_tokens_per_second']:17.0f}"
            f"{row['tokens_over_generate']:8.2f}{row['discarded_over_kept']:17.2f}{row['requests_per_turn']:16.2f}"
        )
    growth = rows[-1]["tokens_per_second"] / rows[0]["tokens_per_second"]
    print(f"\n{len(prompts)} traces at a time; speed at {lengths[-1]} tokens over {lengths[0]}: {growth:.2f}")
    largest = profile(models, prompts, lengths[0])
    report({"rows": rows, "traces": len(prompts), "growth": growth, "profile": largest}, options.json)
    for model in models.values():
        asyncio.run(model.close())


def profile(models: dict[Author, LocalEngine], prompts: list[str], tokens: int) -> list[dict[str, Any]]:
    """The three functions of Weft's, over all threads, in which (or below which) most samples were taken."""
    counts: Counter[str] = Counter()
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.002):
            for thread, frame in sys._current_frames().items():
                if thread != threading.get_ident() and (where := _busy(frame)):
                    counts[where] += 1

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    cooperate(models, prompts, tokens)
    stop.set()
    sampler.join()
    total = counts.total()
    largest = [{"function": where, "share": count / total} for where, count in counts.most_common(3)]
    print(f"\nlargest items of the profile ({total} samples of busy threads):")
    for item in largest:
        print(f"  {item['share']:6.1%}  {item['function']}")
    return largest


def _busy(frame: FrameType | None) -> str | None:
    """The innermost function of Weft's on a thread's stack; ``None`` for a thread that waits."""
    if frame is None or frame.f_code.co_name in ("select", "wait", "_take"):
        return None
    while frame is not None and f"{os.sep}weft{os.sep}" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None or frame.f_code.co_name == "_take":
        return None
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_qualname}:{frame.f_lineno}"


if __name__ == "__main__":
    main()
