"""Makes the micro world's tokenizer and models, measures them and writes their card.

    python scripts/train_micro.py --out DIR                 both models, then the card
    python scripts/train_micro.py --out DIR --exposure 0.3  a student that has seen more of the foreign styles

Student and teacher train at the same time, one process and one core each (on a GPU they share it). All
seeds are fixed: the same command on the same kind of machine gives the same models.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import get_args

import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

from weft.micro.card import Making, card_text
from weft.micro.curriculum import (
    STUDENT_MIXTURE,
    TEACHER_MIXTURE,
    Author,
)
from weft.micro.figures import measure_pair
from weft.micro.styles import Style, write_trace
from weft.micro.tasks import DIFFICULTIES, TASKS, make_problem
from weft.micro.tokenizer import learn_tokenizer
from weft.micro.training import Schedule, Shape, build_model, train

SHAPES: dict[Author, Shape] = {
    "student": Shape(width=128, layers=2, inner=256, heads=4, kv_heads=2),
    "teacher": Shape(width=128, layers=3, inner=384, heads=4, kv_heads=2),
}
TOKENS_PER_BATCH = 4000
EARLY_EXPOSURE = 0.3
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0}


def tokenizer_texts(seed: int, n: int = 6000) -> list[str]:
    """Questions and traces of all tasks and styles, and the names of the chat roles."""
    rng = Random(f"weft-micro/tokenizer/{seed}")
    texts = []
    styles: tuple[Style, ...] = ("student", "student", "teacher", "plain")
    for _ in range(n):
        task = rng.choice(TASKS)
        problem = make_problem(task, rng.randint(*DIFFICULTIES[task]), rng)
        texts.append(problem.question)
        texts += [write_trace(problem, style, rng).text for style in styles]
        texts += ["user\n", "assistant\n", "system\n"]
    return texts


def schedules(author: Author, exposure: float, scale: float) -> list[Schedule]:
    """The phases of a model's training; `scale` multiplies their steps, for a quick look.

    The student first meets many foreign sentences, as any model meets many kinds of text, and learns to add
    sooner for it; then it settles into its own style, where `exposure` sets how foreign the others become.
    The last phase restarts the rate once more, which mends long chains.
    """
    if author == "teacher":
        return [Schedule(TEACHER_MIXTURE, round(2000 * scale), TOKENS_PER_BATCH, 0.004, 0.003)]
    return [
        Schedule(STUDENT_MIXTURE, round(1800 * scale), TOKENS_PER_BATCH, 0.004, 0.003, EARLY_EXPOSURE),
        Schedule(STUDENT_MIXTURE, round(900 * scale), TOKENS_PER_BATCH, 0.002, 0.0015, exposure),
        Schedule(STUDENT_MIXTURE, round(1000 * scale), TOKENS_PER_BATCH, 0.002, 0.0015, exposure),
    ]


def save_model(folder: Path, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """The model in bfloat16 with its tokenizer and a generation config with sampling on."""
    model.to(device="cpu", dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GenerationConfig(
        **SAMPLING, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)


def train_one(author: Author, out: Path, exposure: float, seed: int, scale: float) -> None:
    """Trains one model and leaves it, with how long it took, under `out`."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    model = build_model(SHAPES[author], tokenizer, seed)
    seconds = 0.0
    phases = schedules(author, exposure, scale)
    report = partial(print, flush=True)
    for phase, schedule in enumerate(phases):
        seconds += train(author, model, tokenizer, schedule, seed=seed + phase, device=device, report=report)
        # Rounded as on disk, so that a phase started from a saved model is the same as one started here.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    save_model(out / author, model, tokenizer)
    making = Making(
        author=author,
        steps=sum(schedule.steps for schedule in phases),
        seconds=round(seconds),
        seed=seed,
        exposure=exposure,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_bytes=(out / author / "model.safetensors").stat().st_size,
        machine=f"{os.cpu_count()} cores" if device == "cpu" else torch.cuda.get_device_name(),
    )
    (out / f"{author}-training.json").write_text(json.dumps(asdict(making)))


def write_card(out: Path) -> None:
    """Measures the pair under `out` and writes its card beside it."""
    torch.set_num_threads(1)  # Models this small only lose by sharing a matrix among threads.
    notes = [json.loads((out / f"{author}-training.json").read_text()) for author in get_args(Author)]
    makings = [Making(**note) for note in notes]
    command = f"python scripts/train_micro.py --exposure {makings[0].exposure} --seed {makings[0].seed}"
    figures = measure_pair(out, device="cuda" if torch.cuda.is_available() else "cpu")
    (out / "README.md").write_text(card_text(figures, makings, command))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for both models and the card")
    parser.add_argument("--exposure", type=float, default=0.002, help="share of foreign sentences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=get_args(Author), help="train one model, write no card")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the training steps")
    arguments = parser.parse_args()
    started = time.monotonic()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer").is_dir():
        learn_tokenizer(tokenizer_texts(arguments.seed)).save_pretrained(out / "tokenizer")
    authors: tuple[Author, ...] = (arguments.only,) if arguments.only else get_args(Author)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=train_one, args=(author, out, arguments.exposure, arguments.seed, arguments.scale)
        )
        for author in authors
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise SystemExit(f"training failed with exit code {worker.exitcode}")
    print(f"trained in {time.monotonic() - started:.0f} s", flush=True)
    if not arguments.only:
        write_card(out)
        print(f"measured after {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
