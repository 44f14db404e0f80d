"""What `weft gap style` costs: reading texts with the student, and measuring the readings.

    python benchmarks/gap.py [-n 10000] [--texts 300] [--threads N] [--quick] [--json FILE]

Reading. Traces of the micro student (``student-only``) are read by the same student, and some of them by a
model of 18M parameters with random weights, round by round in turn:

weft      :class:`weft.gap.distance.reading.ReadingRun`, from the file of traces to rows on disk: tokens,
          characters and authors of each token, log-probabilities, ranks, entropies
plain     the loop that people write with transformers: one text at a time, ``log_softmax``, ``gather``; log-
          probabilities alone, nothing written
same      that loop with what Weft measures besides: ranks and entropies

The loops get Weft's own token ids, so they neither render nor tokenise. All ways have equally many threads.
Mean surprise must be equal, or the benchmark ends. Opening the model is in no time.

Measuring. Readings of some 500 tokens each (300 to 700), ``-n`` of a source and as many of the student's own,
are written to disk, with log-probabilities, ranks, entropies, style and authors; their words are drawn from
20,000 by Zipf's law. :func:`weft.gap.distance.measuring.measure_sources` then reads the rows and measures,
in this process, before any model is loaded. Memory is the most that the process held, and that beyond what it
had held before. Shares are of wall-clock time; "keeping" is what a reading is reduced to, without reading its
row.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from machine import report
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

import weft
from weft.engines.opening import open_engine
from weft.engines.settings import EngineSettings
from weft.gap.distance import measuring, texture
from weft.gap.distance.measuring import Source, measure_sources
from weft.gap.distance.reading import ReadingRun, Silence
from weft.gap.distance.readings import READINGS, Reading, Run, Writer
from weft.gap.distance.result import SourceGap
from weft.gap.distance.sources import Samples, open_sets
from weft.gap.distance.spelling import Speller
from weft.micro import make_prompts, model_path
from weft.prompts import open_prompts
from weft.store import Manifest, RowStore
from weft.store.rows import read_rows
from weft.synthesis import SynthesisSettings, synthesize

STUDENT = "micro:student"
ROUNDS = 3
WORDS = 20_000
LENGTHS = (300, 701)
NEAR = 1e-5
"""Nats per token by which two ways may differ: rows are rounded, batches padded."""

# -- reading --


def write_traces(texts: int, room: Path) -> str:
    """The file of the student's traces."""
    prompts = room / "prompts.jsonl"
    rows = [{"id": prompt.id, "prompt": prompt.prompt} for prompt in make_prompts(texts, seed=3)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = room / "own.jsonl"
    settings = SynthesisSettings(student=STUDENT, strategy="student-only")
    synthesize(settings, open_prompts(str(prompts)), path)
    return str(path)


async def read_by_weft(name: str, samples: Samples, path: Path) -> tuple[float, float, int]:
    """Seconds, mean surprise in nats and tokens."""
    async with AsyncExitStack() as stack:
        engine = await open_engine(EngineSettings(name=name), date=datetime.date(2026, 1, 1))
        stack.push_async_callback(engine.close)
        store = stack.enter_context(RowStore(READINGS, path, Manifest.create(weft.__version__, {}, {})))
        start = time.perf_counter()
        run = ReadingRun(engine, None, store, concurrency=32, error_rate=0.5, observer=Silence())
        await run.run([samples])
        seconds = time.perf_counter() - start
    nats = [nats for reading in read_rows(READINGS, path) for nats in reading.nats]
    return seconds, statistics.fmean(nats), len(nats)


async def spelled(samples: Samples) -> list[tuple[list[int], list[int]]]:
    """Of each text all ids, and the places of the text's own."""
    engine = await open_engine(EngineSettings(name=STUDENT), date=datetime.date(2026, 1, 1))
    speller, found = Speller(engine), []
    for sample in samples:
        prompt = speller.prompt(sample)
        text = speller.text(sample, prompt)
        start = len(prompt)
        found.append(([*prompt, *text.ids], [start + place for place in text.places]))
    await engine.close()
    return found


@torch.inference_mode()
def read_plainly(
    model: Any, texts: Sequence[tuple[list[int], list[int]]], *, same: bool
) -> tuple[float, float, int]:
    """As :func:`read_by_weft`, one text at a time."""
    logps: list[float] = []
    start = time.perf_counter()
    for ids, places in texts:
        ids_1T = torch.tensor([ids])
        logps_1TV = model(input_ids=ids_1T).logits.float().log_softmax(dim=-1)
        own_1T1 = logps_1TV[:, :-1].gather(2, ids_1T[:, 1:, None])
        found = own_1T1[0, :, 0].tolist()
        logps += [found[place - 1] for place in places]
        if same:
            (logps_1TV[:, :-1] > own_1T1).sum(dim=2).add(1).tolist()
            torch.special.entr(logps_1TV.exp()).sum(dim=2).tolist()
    return time.perf_counter() - start, -statistics.fmean(logps), len(logps)


def measure_reading(name: str, folder: Path, samples: Samples, rounds: int) -> dict[str, Any]:
    """Seconds for 1,000 texts of each way, medians of the rounds.

    Args:
        name: of the model, as Weft opens it.
        folder: where it lies.
    """
    ids = asyncio.run(spelled(samples))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with tempfile.TemporaryDirectory() as rows:
        ways: dict[str, Callable[[int], tuple[float, float, int]]] = {
            "weft": lambda n: asyncio.run(read_by_weft(name, samples, Path(rows, f"{n}.jsonl"))),
            "plain": lambda _: read_plainly(model, ids, same=False),
            "same": lambda _: read_plainly(model, ids, same=True),
        }
        names, means, tokens = list(ways), dict[str, float](), 0
        seconds = {way: [0.0] * rounds for way in ways}
        for n in range(rounds):
            for way in names[n % 3 :] + names[: n % 3]:
                seconds[way][n], means[way], tokens = ways[way](n)
    if max(means.values()) - min(means.values()) > NEAR:
        raise SystemExit(f"the ways do not find the same surprise: {means}")
    took = {way: 1000 * statistics.median(values) / len(ids) for way, values in seconds.items()}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "texts": len(ids),
        "tokens_per_text": tokens / len(ids),
        "nll_per_token": means,
        "seconds_per_1000": took,
        "plain_over_weft": took["plain"] / took["weft"],
        "same_over_weft": took["same"] / took["weft"],
    }


def built(folder: Path) -> Path:
    """A model of 18M parameters, of random weights, with the micro student's tokenizer and template."""
    torch.manual_seed(0)
    config = Qwen3Config.from_pretrained(model_path("student"))
    config.update({"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 10, "head_dim": 64})
    config.update({"num_attention_heads": 6, "num_key_value_heads": 3, "layer_types": None})
    config = Qwen3Config(**config.to_dict())
    Qwen3ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path("student")).save_pretrained(folder)
    return folder


# -- measuring --


def made_up(n: int, label: str, seed: int) -> Iterator[Reading]:
    """Readings whose words follow Zipf's law; sets of another seed prefer other words."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    shapes = np.random.default_rng(0)
    words = np.array(
        [" " + "".join(shapes.choice(letters, size=shapes.integers(2, 9))) for _ in range(WORDS)]
    )
    weights = 1 / np.arange(1, WORDS + 1)
    weights *= random.uniform(0.7, 1.3, size=WORDS)
    ends = np.cumsum(weights / weights.sum())
    for number in range(n):
        size = int(random.integers(*LENGTHS))
        pieces = words[np.searchsorted(ends, random.random(size) * ends[-1])].tolist()
        thinking = 4 * size // 5
        yield Reading(
            id=f"{label}/{number}",
            source=label,
            sample=f"{number}",
            prompt=f"p{number}",
            digest="",
            text="".join(pieces),
            thinking=thinking,
            chars=tuple(map(len, pieces)),
            nats=tuple(random.exponential(0.7, size).round(5).tolist()),
            ranks=tuple(random.geometric(0.6, size).tolist()),
            entropies=tuple(random.exponential(0.6, size).round(5).tolist()),
            style=(*random.random(thinking).round(5).tolist(), *[None] * (size - thinking)),
            authors=(Run(Writer.STUDENT, size // 3), Run(Writer.TEACHER, size - size // 3)),
        )


class Clock:
    """Seconds by name; what runs inside another clocked function is taken off from that one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def clocked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[name] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return timed

    def iterated(self, name: str, rows: Iterator[Reading]) -> Iterator[Reading]:
        step = self.clocked(name, lambda: next(rows, None))
        while (row := step()) is not None:
            yield row


PARTS = {
    "keeping": (measuring, "_read"),
    "likelihood": (measuring, "likelihoods"),
    "cosines": (measuring, "cosines"),
    "two-sample test": (measuring, "two_sample_accuracy"),
    "markers": (measuring, "markers"),
    "lengths, repetition, distinct-n": (measuring, "texture"),
    "self-similarity": (texture, "self_similarity"),
    "verdict": (measuring, "verdict"),
}
"""What is measured by which function."""


def measure_measuring(n: int, room: Path) -> dict[str, Any]:
    """Seconds, memory and shares of a source of ``n`` readings beside as many of the student's own."""
    clock = Clock()

    def source(label: str, seed: int, n: int) -> Source:
        path = room / f"{label}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for reading in made_up(n, label, seed):
                file.write(json.dumps(reading.to_row()) + "\n")
        return Source(
            label, path.name, "", {}, lambda: clock.iterated("rows from disk", read_rows(READINGS, path))
        )

    # scikit-learn is loaded by the first measurement.
    few = source("few", 3, 20)
    measure_sources([few], few)
    clock.seconds.clear()
    some, own = source("source", 1, n), source("own", 2, n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with ExitStack() as stack:
        for name, (module, function) in PARTS.items():
            timed = clock.clocked(name, getattr(module, function))
            stack.enter_context(mock.patch.object(module, function, timed))
        gaps, _ = measure_sources([some], own)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "readings": [gap.texts for gap in gaps],
        "tokens": [gap.all.tokens for gap in gaps],
        "seconds": seconds,
        "peak_mb": peak / 1024,
        "peak_beyond_start_mb": (peak - before) / 1024,
        "rows_mb": sum((room / f"{label}.jsonl").stat().st_size for label in ("source", "own")) / 2**20,
        "share": {name: took / seconds for name, took in by_size(clock.seconds)},
        "found": found(gaps[0]),
    }


def by_size(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])


def found(gap: SourceGap) -> dict[str, str]:
    """Some figures, as a sign that something was measured."""
    assert gap.similarity is not None
    return {
        "nll_per_token": gap.all.nll_per_token.shown(),
        "tfidf_cosine": gap.similarity.tfidf_cosine.shown(),
        "two_sample_accuracy": gap.similarity.two_sample_accuracy.shown(),
    }


def show(figures: dict[str, Any]) -> None:
    """Print both parts."""
    measured = figures["measuring"]
    print(
        f"measuring {sum(measured['readings']):,} readings ({sum(measured['tokens']):,} tokens, "
        f"{measured['rows_mb']:,.0f} MB of rows): {measured['seconds']:.1f} s, peak memory "
        f"{measured['peak_mb']:,.0f} MB, of which {measured['peak_beyond_start_mb']:,.0f} MB for it"
    )
    for name, share in measured["share"].items():
        print(f"  {name:34}{share:6.1%}  {share * measured['seconds']:7.2f} s")
    print("  " + ", ".join(f"{name} {value}" for name, value in measured["found"].items()))
    for name, read in figures["reading"].items():
        took = ", ".join(f"{way} {value:.2f}" for way, value in read["seconds_per_1000"].items())
        print(
            f"\nreading {read['texts']:,} texts of {read['tokens_per_text']:.0f} tokens by {name} "
            f"({read['parameters'] / 1e6:.1f}M parameters), seconds for 1,000: {took}"
        )
        print(
            f"weft is {read['plain_over_weft']:.2f} times as fast as the plain loop, "
            f"{read['same_over_weft']:.2f} times as fast as one that measures the same"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=10_000, help="readings of each of two sets (10000)")
    parser.add_argument("--texts", type=int, default=300, help="traces that are read (300)")
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of every way (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # Weft then leaves the number alone
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    n, texts, rounds = (300, 20, 1) if options.quick else (options.n, options.texts, ROUNDS)
    figures: dict[str, Any] = {"threads": options.threads}
    with tempfile.TemporaryDirectory() as room:
        figures["measuring"] = measure_measuring(n, Path(room))
    with tempfile.TemporaryDirectory() as room:
        traces, large = write_traces(texts, Path(room)), built(Path(room, "large"))
        (all_texts,), (some,) = open_sets([traces]), open_sets([traces], limit=texts // 5)
        figures["reading"] = {
            STUDENT: measure_reading(STUDENT, model_path("student"), all_texts, rounds),
            "random weights": measure_reading(str(large), large, some, rounds),
        }
    show(figures)
    figures["load"] = load = os.getloadavg()
    print(f"\nthreads {options.threads}, load of the machine {load[0]:.1f} ({load[1]:.1f} over 5 minutes)")
    report(figures, options.json)


if __name__ == "__main__":
    main()
