"""``weft micro``: prompts of the embedded micro world, and what its models score."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from weft.errors import UserError
from weft.micro.world import prompt_lines
from weft.store.files import replace_file, writing

app = App(name="micro", help="The embedded micro world: prompts for it, and what its models score.")

Splits = Literal["finetune", "harder", "retention"]


@app.command
def prompts(
    *,
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 100,
    seed: Annotated[int, Parameter(name=["--seed", "-s"])] = 0,
    split: Splits | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write prompts with checkable answers, as JSON lines.

    Each has id, prompt, answer, task, difficulty and split. A seed fixes them all; more prompts of one seed
    begin with the same ones.

    Parameters
    ----------
    n
        How many.
    seed
        Other seeds, other prompts.
    split
        finetune: the student's weak skill; harder: the same, longer; retention: what it can do and must keep.
        Left out: all three in turn.
    output
        A new file; left out, or -: standard output.
    overwrite
        Replace the file if it exists.
    """
    if n < 1:
        raise UserError(f"{n} prompts", where="-n", expected="1 or more")
    lines = prompt_lines(n, seed, split)
    if output is None or str(output) == "-":
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    if output.exists() and not overwrite:
        raise UserError("the file exists", where=str(output), remedy="choose another name, or --overwrite")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, (line.encode() for line in lines))
    sys.stderr.write(f"{n:,} prompts in {output}\n")


@app.command
def card() -> None:
    """Print the models' card: how they were made, and what they score."""
    page = files("weft.micro") / "models" / "README.md"
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError("there is no card", where=str(page), remedy="install Weft again") from error
    sys.stdout.write(text)
    sys.stdout.flush()
