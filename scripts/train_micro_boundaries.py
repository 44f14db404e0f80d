"""Makes the micro world's boundary predictors, by the same training that users have.

    python scripts/train_micro_boundaries.py --out DIR

For each author: texts of the world's generator with the oracle's labels, a span file, and
`weft.boundary.training.train` on it, from the micro student as the base. The predictors are left under DIR as
`student-boundary` and `teacher-boundary`. All seeds are fixed: the same command on the same kind of machine
gives the same weights. They are measured on traces of other prompts, by
`weft boundary eval FOLDER TRACES --labels oracle`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import get_args

from weft.boundary.training.settings import TrainingSettings
from weft.boundary.training.train import train
from weft.micro.boundaries import annotated_texts
from weft.micro.curriculum import Author


def train_one(author: Author, out: Path, texts: int, epochs: float, seed: int) -> None:
    """Draws the texts and leaves the author's predictor under ``out``."""
    settings = TrainingSettings(
        model="micro:student",
        device="cpu",
        learning_rate=1e-3,
        num_train_epochs=epochs,
        lr_scheduler_type="cosine",
        warmup_ratio=0.05,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        spans = Path(folder) / f"{author}.jsonl"
        with spans.open("w", encoding="utf-8") as file:
            for annotation in annotated_texts(author, texts, seed):
                file.write(json.dumps(annotation.to_row(), ensure_ascii=False) + "\n")
        result = train(
            settings,
            [spans],
            out / f"{author}-boundary",
            overwrite=True,
            tell=lambda line: print(f"{author}: {line}", flush=True),
        )
    figures = ", ".join(f"{f1:.4f} within {t}" for t, f1 in result.scores.boundary_f1.items())
    print(f"{author}: boundary F1 {figures} tokens; {result.seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for both predictors")
    parser.add_argument("--only", choices=get_args(Author), help="train one predictor")
    parser.add_argument("--texts", type=int, default=12_000, help="texts to learn from, for each author")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    authors: tuple[Author, ...] = (arguments.only,) if arguments.only else get_args(Author)
    for author in authors:
        train_one(author, arguments.out, arguments.texts, arguments.epochs, arguments.seed)


if __name__ == "__main__":
    main()
