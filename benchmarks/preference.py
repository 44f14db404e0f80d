"""What a step of preference training costs: TRL as it is, TRL with a mask, and Weft's cut, shared and packed.

    python benchmarks/preference.py [--quick] [--rounds 3] [--gpu] [--json FILE]

The ways:

uncut          TRL's `DPOTrainer`
ld_alpha       the same with ``ld_alpha=0``: tokens behind the shorter response are masked, as POET masks them
compact        the same, its head made to leave out tokens without a label, as TRL's does on a GPU only
by_length      ``ld_alpha`` on batches of rows of like length: what grouping alone saves
cut            Weft's `PrefixDPOTrainer` with ``prefix="equal-length"`` and ``share_prompt=False``
packed         the same with ``share_prompt=True``: each prompt once, pairs packed

Two distributions of lengths, log-normal with sigma 0.7: prompts of 180, chosen responses of 330 and
rejected ones of 260 tokens on average (as in UltraFeedback), and these responses behind prompts of 1,500.

A step is the policy's forward, the reference's, the loss with TRL's metrics, and the backward. Weights stay
as they are: the mean loss must be the same for all ways that mask or cut, which is asserted within 1e-4. The
model has 19M parameters in float32, 5M of them in a head of 16,000 tokens, and one thread; with ``--gpu``
500M in bfloat16. Every way is a process of its own, with its own peak of resident memory; they take turns,
batch by batch.

Figures: positions (tokens that the policy's backbone sees in a step, padding included); seconds for a step
(of the processor, so that others on the machine weigh less; on a GPU of the clock; the mean over the batches,
of each the median over the rounds); peak memory in MB. ``speedup_over_ld_alpha`` and
``positions_over_ld_alpha`` are those of ``packed`` on the first distribution. The whole takes an hour;
``--quick`` has sequences of a quarter of the length, of which less is attention and more of the memory is the
program itself.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

PAIRS = 4
"""In a batch."""
SIGMA = 0.7
CHOSEN, REJECTED = 330, 260
"""Tokens, on average."""
SAME = 1e-4
"""By how much the loss of a batch may differ between ways; in bfloat16 ``SAME_ON_GPU``."""
SAME_ON_GPU = 2e-2
WAYS: dict[str, dict[str, Any]] = {
    "uncut": {},
    "ld_alpha": {"ld_alpha": 0.0},
    "compact": {"ld_alpha": 0.0},
    "by_length": {"ld_alpha": 0.0},
    "cut": {"share_prompt": False},
    "packed": {"share_prompt": True},
}
ALIKE = ("ld_alpha", "compact", "by_length", "cut", "packed")
"""Ways that have one and the same loss."""


@dataclass(frozen=True)
class Work:
    """One distribution of lengths."""

    name: str
    prompt: int
    """Tokens, on average; as they are where ``fixed``."""
    fixed: bool
    batches: int
    rounds: int
    shrunk: int = 1
    """By what all lengths are divided."""


@dataclass(frozen=True)
class Figures:
    """Of one way at one distribution, for a step."""

    positions: float
    seconds: float
    peak_mb: float
    loss: float


# -- data and model --


def rows(work: Work, words: list[str]) -> list[dict[str, str]]:
    """Raw preference rows, in which each word is one token."""
    rng = Random(0)

    def text(mean: float, *, fixed: bool = False) -> str:
        drawn = mean if fixed else rng.lognormvariate(math.log(mean) - SIGMA**2 / 2, SIGMA)
        return "".join(rng.choices(words, k=max(2, round(drawn / work.shrunk))))

    return [
        {"prompt": text(work.prompt, fixed=work.fixed), "chosen": text(CHOSEN), "rejected": text(REJECTED)}
        for _ in range(work.batches * PAIRS)
    ]


def save_models(folder: Path, *, gpu: bool) -> None:
    """A random policy and a reference that differs from it a little, with the micro student's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from weft.micro import model_path

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    width, layers, inner = (1024, 28, 4096) if gpu else (320, 10, 1024)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=16_000,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            head_dim=64,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name in ("reference", "policy"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * weight.std().nan_to_num(), alpha=0.1)


def single_words(folder: Path) -> list[str]:
    """Words that the tokenizer spells in one token each, whatever follows."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    words = [
        text
        for token in range(len(tokenizer))
        if (text := tokenizer.decode([token])).startswith(" ") and text[1:].isalpha() and text.isascii()
    ]
    together = tokenizer("".join(words), add_special_tokens=False)["input_ids"]
    if len(together) != len(words):
        raise SystemExit(f"{len(words)} words make {len(together)} tokens")
    return words


# -- a way --


def serve(pipe: Connection, way: str, folder: Path, work: Work, gpu: bool) -> None:
    """A process for one way: for each number of a batch it does a step, and tells what that took."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(1)
    if way == "compact":
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda device: True
    trainer = trainer_of(way, folder, rows(work, single_words(folder)), gpu=gpu)
    batches = [
        [trainer.train_dataset[number] for number in numbers] for numbers in batched(trainer, way, work)
    ]
    seen: list[int] = []
    trainer.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0].numel())
    )
    clock = time.perf_counter if gpu else time.process_time

    def step(batch: list[dict[str, Any]]) -> tuple[float, int, float]:
        seen.clear()
        start = clock()
        inputs = trainer._prepare_inputs(trainer.data_collator(batch))
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        found = float(loss.detach())
        if gpu:
            torch.cuda.synchronize()
        took = clock() - start
        del inputs, loss
        trainer.model.zero_grad()
        _give_back()
        return took, sum(seen), found

    short = [{name: ids[:16] for name, ids in row.items() if name.endswith("_ids")} for row in batches[0]]
    step([{**row, **one} for row, one in zip(batches[0], short, strict=True)])
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        pipe.send(step(batches[number]))
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    pipe.send(peak)


def trainer_of(way: str, folder: Path, data: list[dict[str, str]], *, gpu: bool) -> Any:
    """TRL's trainer or Weft's, on these rows."""
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from weft.preference import PrefixDPOTrainer

    disable_progress_bars()
    options = dict(WAYS[way])
    shared: dict[str, Any] = {}
    if "share_prompt" in options:
        shared = {"prefix": "equal-length", "share_prompt": options.pop("share_prompt"), "tell": _quiet}
    dtype = "bfloat16" if gpu else "float32"
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=dtype, attn_implementation="sdpa")
        for name in ("policy", "reference")
    )
    settings = DPOConfig(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=PAIRS,
        max_length=8192,
        gradient_checkpointing=False,
        use_cpu=not gpu,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    trainer = (PrefixDPOTrainer if shared else DPOTrainer)(
        policy,
        reference,
        args=settings,
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(folder / "policy"),
        **shared,
    )
    trainer.model.train()
    return trainer


def _give_back() -> None:
    """Frees what a step has left with the allocator: the processes of all ways share the memory."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _quiet(line: str) -> None: ...


def batched(trainer: Any, way: str, work: Work) -> list[list[int]]:
    """The numbers of the rows of each batch."""
    numbers = list(range(work.batches * PAIRS))
    if way == "by_length":

        def longest(number: int) -> int:
            row = trainer.train_dataset[number]
            return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))

        numbers.sort(key=longest)
    return [numbers[start : start + PAIRS] for start in range(0, len(numbers), PAIRS)]


@contextmanager
def running(way: str, folder: Path, work: Work, *, gpu: bool) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, way, folder, work, gpu), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(timeout=60)


# -- all of them --


def measure(work: Work, folder: Path, *, gpu: bool) -> dict[str, Figures]:
    """Every way does every batch in every round, in turn."""
    took: dict[str, list[tuple[float, int, float]]] = {way: [] for way in WAYS}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        pipes = {way: stack.enter_context(running(way, folder, work, gpu=gpu)) for way in WAYS}
        for pipe in pipes.values():
            if pipe.recv() != "ready":
                raise SystemExit("a process did not start")
        for _ in range(work.rounds):
            for number in range(work.batches):
                for way, pipe in pipes.items():
                    pipe.send(number)
                    took[way].append(pipe.recv())
        for way, pipe in pipes.items():
            pipe.send(None)
            peaks[way] = pipe.recv()
    return {way: summary(took[way], work, peaks[way]) for way in WAYS}


def summary(steps: list[tuple[float, int, float]], work: Work, peak: float) -> Figures:
    """Steps in the order in which they were done, batch by batch in every round."""
    of_batch = [steps[number :: work.batches] for number in range(work.batches)]
    return Figures(
        positions=statistics.mean(group[0][1] for group in of_batch),
        seconds=statistics.mean(statistics.median(step[0] for step in group) for group in of_batch),
        peak_mb=peak,
        loss=statistics.mean(group[0][2] for group in of_batch),
    )


def show(work: Work, found: dict[str, Figures]) -> None:
    base = found["ld_alpha"]
    size = f", lengths divided by {work.shrunk}" if work.shrunk > 1 else ""
    print(f"\n{work.name}{size}: {work.batches} batches of {PAIRS} pairs, {work.rounds} rounds")
    print(
        f"{'':12}{'positions':>11}{'of ld_alpha':>13}{'seconds':>10}{'faster':>9}{'peak MB':>10}{'loss':>10}"
    )
    for way, one in found.items():
        print(
            f"{way:12}{one.positions:11,.0f}{one.positions / base.positions:13.2f}{one.seconds:10.2f}"
            f"{base.seconds / one.seconds:8.1f}x{one.peak_mb:10,.0f}{one.loss:10.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short sequences: a trial, nothing to quote")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds over all batches, of which the median counts"
    )
    parser.add_argument("--gpu", action="store_true", help="500M parameters in bfloat16 on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from machine import report

    rounds, shrunk = (1, 4) if options.quick else (options.rounds, 1)
    works = [
        Work("as in UltraFeedback", 180, False, 2 if options.quick else 5, rounds, shrunk),
        Work("prompts of 1,500 tokens", 1500, True, 1 if options.quick else 2, rounds, shrunk),
    ]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        save_models(Path(place), gpu=options.gpu)
        for work in works:
            found = measure(work, Path(place), gpu=options.gpu)
            show(work, found)
            losses = [found[way].loss for way in ALIKE]
            if max(losses) - min(losses) > (SAME_ON_GPU if options.gpu else SAME):
                raise SystemExit(f"the losses differ: {losses}")
            base, packed = found["ld_alpha"], found["packed"]
            figures[work.name] = {way: asdict(one) for way, one in found.items()} | {
                "speedup_over_ld_alpha": base.seconds / packed.seconds,
                "speedup_over_compact": found["compact"].seconds / packed.seconds,
                "positions_over_ld_alpha": packed.positions / base.positions,
                "peak_over_ld_alpha": packed.peak_mb / base.peak_mb,
            }
    first = figures[works[0].name]
    for name in ("speedup_over_ld_alpha", "positions_over_ld_alpha"):
        figures[name] = first[name]
    report(figures, options.json)


if __name__ == "__main__":
    main()
