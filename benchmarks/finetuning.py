"""`weft sft` against TRL's `SFTTrainer`: what the models can do afterwards, and the time.

    python benchmarks/finetuning.py [-n 400] [--seeds 3] [--epochs 9] [--json FILE]

Traces of the micro world are written by cooperation and verified once for each seed. Both trainers get the
same ones, in the same order, with the same settings, seed by seed in turn: `weft sft` from the file, TRL by
its columns ``prompt`` and ``completion``, as its documentation says. One thing differs by design: templates
write a line feed behind the end of the turn, which TRL learns and Weft does not. Each model answers new
questions greedily: of the skill that the traces teach, harder ones, and skills that they never show.

Accuracies are printed for each seed with their 95% intervals over prompts, and as means over seeds. Time is
that of training, model and rows loaded, as the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars, load_dataset
from machine import report
from transformers import AutoTokenizer
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from weft.evaluation.evaluate import evaluate
from weft.evaluation.result import Evaluation
from weft.evaluation.settings import EvalSettings
from weft.finetuning.settings import SftSettings
from weft.finetuning.sft import sft
from weft.micro import model_path
from weft.micro.world import SPLITS, prompt_lines
from weft.prompts import open_prompts
from weft.synthesis import SynthesisSettings, synthesize
from weft.verify.marking import verify
from weft.verify.settings import VerifySettings

TRAINING = {
    "num_train_epochs": 9,
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_steps": 10_000,
}
"""As in recipes/micro.yaml."""
LIMITS = {"thinking": 256, "response": 64}


def write(path: Path, n: int, split: Any, seed: int) -> Path:
    """Questions of the micro world."""
    path.write_text("".join(prompt_lines(n, seed, split)), encoding="utf-8")
    return path


def traces(folder: Path, prompts: Path, seed: int) -> Path:
    """Right traces of both models together, by their ids."""
    settings = SynthesisSettings.model_validate(
        {
            "student": "micro:student",
            "teacher": "micro:teacher",
            "sampling": {"temperature": 0.7},
            "limits": LIMITS,
            "seed": seed,
        }
    )
    synthesize(settings, open_prompts(str(prompts)), folder / f"traces-{seed}.jsonl")
    verify(VerifySettings(verifier="math"), [folder / f"traces-{seed}.jsonl"], folder / f"right-{seed}.jsonl")
    rows = sorted(map(json.loads, (folder / f"right-{seed}.jsonl").open(encoding="utf-8")), key=_id)
    found = folder / f"rows-{seed}.jsonl"
    found.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return found


def _id(row: Mapping[str, Any]) -> str:
    return str(row["id"])


def by_weft(rows: Path, output: Path, seed: int, epochs: int) -> float:
    """Seconds of training."""
    settings = SftSettings.model_validate(
        {
            **TRAINING,
            "model": "micro:student",
            "data": str(rows),
            "max_length": 512,
            "seed": seed,
            "num_train_epochs": epochs,
        }
    )
    return float(sft(settings, output, tell=lambda _: None).figures["train_runtime"])


def by_trl(rows: Path, output: Path, seed: int, epochs: int) -> float:
    """Seconds of training."""
    data = load_dataset("json", data_files=str(rows), split="train", cache_dir=str(output / "cache"))
    args = SFTConfig(
        **{
            **TRAINING,
            "output_dir": str(output / "checkpoints"),
            "seed": seed,
            "num_train_epochs": epochs,
            "warmup_steps": 0.1,
            "max_length": None,
            "use_cpu": True,
            "bf16": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "logging_steps": 10,
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
    trainer = SFTTrainer(
        str(model_path("student")),
        args=args,
        train_dataset=data.select_columns(["prompt", "completion"]),
        processing_class=tokenizer,
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    trainer.model.config.use_cache = True
    trainer.save_model(str(output))
    return seconds


def measured(model: Path, folder: Path, tests: Mapping[str, Path]) -> Evaluation:
    """What a model can do."""
    settings = EvalSettings.model_validate(
        {
            "model": str(model),
            "tasks": [f"{name}={path}" for name, path in tests.items()],
            "verifier": r"regex:\d+(?: \d+)*",
            "sampling": {"temperature": 0},
            "limits": LIMITS,
        }
    )
    return evaluate(settings, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("-n", type=int, default=400, help="questions to train on")
    parser.add_argument("--tests", type=int, default=250, help="questions of each kind to be asked")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.disable_progress_bar()
    disable_progress_bars()
    ways = {"weft": by_weft, "trl": by_trl}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    accuracy: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prompts = write(folder / "prompts.jsonl", given.n, "finetune", 1000)
        tests = {str(split): write(folder / f"{split}.jsonl", given.tests, split, 2000) for split in SPLITS}
        for seed in range(given.seeds):
            rows = traces(folder, prompts, seed)
            order = list(ways) if seed % 2 == 0 else list(reversed(ways))
            for name in order:
                seconds[name].append(ways[name](rows, folder / f"{name}-{seed}", seed, given.epochs))
                found = measured(folder / f"{name}-{seed}", folder / f"eval-{name}-{seed}", tests)
                for task in found.tasks:
                    assert task.accuracy.value is not None
                    accuracy.setdefault((name, task.name), []).append(task.accuracy.value)
                said = "  ".join(f"{task.name} {task.accuracy.shown()}" for task in found.tasks)
                print(f"seed {seed}  {name:5} {seconds[name][-1]:6.1f} s  {said}", flush=True)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    result = {
        "accuracy": {f"{name} {task}": values for (name, task), values in accuracy.items()},
        "seconds": seconds,
        "time_ratio": medians["weft"] / medians["trl"],
    }
    for test in tests:
        means = {name: statistics.mean(accuracy[name, test]) for name in ways}
        print(f"{test:10} weft {means['weft']:.3f}  trl {means['trl']:.3f}")
    print(f"time over TRL's: {result['time_ratio']:.2f}")
    report(result, given.json)


if __name__ == "__main__":
    main()
