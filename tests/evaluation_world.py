"""Scripted models and prompts for tests of `weft eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weft.evaluation.evaluate import evaluate
from weft.evaluation.result import Evaluation
from weft.evaluation.settings import EvalSettings

PROMPTS = 8


def prompts(path: Path, count: int = PROMPTS, **changed: Any) -> Path:
    """Sums; the last but one has no answer, and the last an answer that `math` cannot read."""
    rows = [{"id": f"q{n}", "prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(count)]
    if count == PROMPTS:
        del rows[-2]["answer"]
        rows[-1]["answer"] = "@@"
    path.write_text("".join(json.dumps({**row, **changed}) + "\n" for row in rows))
    return path


def model(path: Path, right: Callable[[int], bool] = lambda n: n < 3, **more: Any) -> str:
    """A model that adds where ``right`` says so; at q4 it falls into a loop, as it does at q7."""
    scripts = [
        {
            "match": rf"is {n} \+",
            "thinking": "Let me see.",
            "response": f"It is \\boxed{{{2 * n + (not right(n))}}}",
        }
        if n not in (4, 7)
        else {"match": rf"is {n} \+", "thinking": "so " * 2000, "response": f"\\boxed{{{2 * n}}}"}
        for n in range(PROMPTS)
    ]
    path.write_text(json.dumps({"scripts": scripts, **more}))
    return f"scripted:{path}"


def run(output: Path, **given: Any) -> Evaluation:
    overwrite = given.pop("overwrite", False)
    observer = given.pop("observer", None)
    settings = EvalSettings.model_validate({"verifier": "exact", **given})
    return evaluate(settings, output, overwrite=overwrite, observer=observer)
