"""``weft demo``: the whole job on the embedded micro world, with a processor alone and without network.

Prompts, all eight strategies, a table that compares them, three traces to read. A demonstration of what the
commands do: the micro models are made for it, and the numbers say nothing about other models.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weft.cli.show import print_trace
from weft.errors import UserError

if TYPE_CHECKING:
    from weft.engines.base import Engine
    from weft.records import Trace
    from weft.synthesis.settings import SynthesisSettings

STUDENT, TEACHER = "micro:student", "micro:teacher"
SHOWN = 3
"""Traces that are printed at the end."""
TABLE_WIDTH = 80
"""Columns of the terminal that the whole table takes."""

STORY = {
    "student-only": "the student alone",
    "teacher-only": "the teacher alone",
    "teacher-think": "the teacher thinks, the student answers",
    "teacher-answer": "the student thinks, the teacher answers",
    "teacher-mix": "half of the traces by each",
    "teacher-score": "best of 5 by student, teacher's choice",
    "teacher-reference": "the student, teacher's response in view",
    "tessy": "in turn: teacher computes, student tells",
}
"""All strategies, in the order in which they run, and what each is."""

LEGEND = """\
right    complete traces whose response states the answer, with a 95% interval
teacher  the teacher's share of the tokens
NLL      the student's own negative log-likelihood of the complete traces, in
         nats per token, over so many tokens. The student's own path has that of
         student-only; a terse text can lie below it.
s        seconds, opening the models included
A demonstration on two models made for it, not a result.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What one strategy's traces are like. ``None``: not measured."""

    strategy: str
    complete: int
    asked: int
    right: int
    """Complete traces whose response states the answer."""
    student_tokens: int
    teacher_tokens: int
    nats: float | None
    """The student's mean negative log-likelihood per token of the complete traces."""
    scored_tokens: int
    seconds: float | None


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("weft-demo"),
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 32,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run the whole job on the embedded micro world: prompts, all eight strategies, a table, three traces.

    Needs no network and no GPU, and less than two minutes. Stopped, the same command goes on.

    Parameters
    ----------
    output
        A folder for prompts and traces.
    n
        How many prompts.
    seed
        Other seeds, other prompts and other draws.
    overwrite
        Start again where the folder holds traces already.
    """
    if n < 1:
        raise UserError(f"{n} prompts", where="-n", expected="1 or more")
    _run(output, n, seed, overwrite=overwrite)
    return 0


def _run(output: Path, n: int, seed: int, *, overwrite: bool) -> None:
    started = time.monotonic()
    prompts = output / "prompts.jsonl"
    _say(f"Student {STUDENT}, teacher {TEACHER}: two small models that come with Weft.\n")
    _say(f"1. {n} prompts whose answers can be checked → {prompts}")
    _write_prompts(prompts, n, seed, overwrite=overwrite)
    _say("\n2. One trace per prompt by each strategy (complete/asked, seconds):")
    seconds = {strategy: _synthesize(strategy, prompts, output, seed, overwrite) for strategy in STORY}
    _say("\n3. How likely the student finds each strategy's traces …")
    rows = _compare(prompts, output, seconds)
    console = Console(highlight=False, markup=False)
    console.print(_table(rows, console.width))
    _say(LEGEND)
    _say("4. The first complete traces of tessy (‹S› student, ‹T› teacher):\n")
    _show_first(prompts, output / "tessy.jsonl")
    _say(_ending(output, prompts, seed, time.monotonic() - started))


def _write_prompts(path: Path, n: int, seed: int, *, overwrite: bool) -> None:
    """Write the prompts, unless others are there. More or fewer of the same seed are no others."""
    from weft.micro.world import prompt_lines
    from weft.store.files import replace_file, writing

    text = "".join(prompt_lines(n, seed, "finetune")).encode()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b""
        if not (overwrite or text.startswith(old) or old.startswith(text)):
            raise UserError(
                "holds other prompts",
                where=str(path),
                remedy="choose another folder by --output, the old --seed, or --overwrite to start again",
            )
        replace_file(path, [text])


def _settings(strategy: str, seed: int) -> SynthesisSettings:
    from weft.synthesis.settings import SynthesisSettings

    return SynthesisSettings.model_validate(
        {"student": STUDENT, "teacher": TEACHER, "strategy": strategy, "seed": seed}
    )


def _synthesize(strategy: str, prompts: Path, output: Path, seed: int, overwrite: bool) -> float | None:
    """Run one strategy; the seconds it took, or ``None`` if an earlier run had made traces of it."""
    from weft.cli.progress import Tally, watched
    from weft.prompts import open_prompts
    from weft.synthesis import synthesize

    source = open_prompts(str(prompts))
    tally = Tally(source.count)
    with watched(tally):
        synthesize(
            _settings(strategy, seed),
            source,
            output / f"{strategy}.jsonl",
            overwrite=overwrite,
            observer=tally,
        )
    seconds = time.monotonic() - tally.opened
    if tally.skips == tally.total:
        end = "done before"
    else:
        new = " new" if tally.skips else ""
        end = f"{tally.complete}/{tally.total - tally.skips}{new}, {seconds:.1f} s"
    _say(f"   {strategy:18} {STORY[strategy]:41}{end}")
    return None if tally.skips else seconds


def _compare(prompts: Path, output: Path, seconds: dict[str, float | None]) -> list[Row]:
    """Read every strategy's traces and have the student score them."""
    from weft.prompts import open_prompts

    ids = {prompt.id for prompt in open_prompts(str(prompts))}
    traces = {strategy: _traces(output / f"{strategy}.jsonl", ids) for strategy in STORY}
    logps = asyncio.run(_scores(traces))
    return [
        _row(strategy, traces[strategy], len(ids), logps[strategy], seconds[strategy]) for strategy in STORY
    ]


def _traces(path: Path, ids: set[str]) -> list[Trace]:
    """The complete traces of these prompts; the file may hold more, from a run over more of them."""
    from weft.store import read_traces

    return [trace for trace in read_traces(path) if trace.prompt.id in ids]


async def _scores(traces: Mapping[str, Sequence[Trace]]) -> dict[str, list[float]]:
    """What the student finds each strategy's traces, token by token, in nats."""
    from weft.engines.opening import open_engine
    from weft.engines.settings import EngineSettings

    today = datetime.datetime.now(datetime.UTC).date()
    student = await open_engine(EngineSettings(name=STUDENT), date=today)
    try:
        return {strategy: await _score(student, some) for strategy, some in traces.items()}
    finally:
        await student.close()


def _row(
    strategy: str, traces: Sequence[Trace], asked: int, logps: Sequence[float], seconds: float | None
) -> Row:
    from weft.micro import is_correct

    return Row(
        strategy,
        complete=len(traces),
        asked=asked,
        right=sum(is_correct(trace.response, trace.prompt.answer or "") for trace in traces),
        student_tokens=sum(trace.usage.tokens.student for trace in traces),
        teacher_tokens=sum(trace.usage.tokens.teacher for trace in traces),
        nats=-sum(logps) / len(logps) if logps else None,
        scored_tokens=len(logps),
        seconds=seconds,
    )


async def _score(student: Engine, traces: Sequence[Trace]) -> list[float]:
    """Log-probabilities in nats of all tokens of all traces, as the student is trained to write them."""
    from weft.engines.base import Scorer
    from weft.records import Author
    from weft.synthesis.cooperate import Cooperation, Limits

    assert isinstance(student, Scorer)
    alone = Cooperation(
        {Author.STUDENT: student}, boundaries={}, sampling={}, limits=Limits(0, 0, 0), step=None, seed=0
    )
    jobs = []
    for trace in traces:
        prompt = alone.prompt(Author.STUDENT, trace.prompt.messages)
        jobs.append(student.score(prompt, alone.spell(Author.STUDENT, trace.thinking, trace.response)))
    return [logp for scored in await asyncio.gather(*jobs) for logp in scored.logps]


def _table(rows: Sequence[Row], width: int) -> Table:
    """All figures; without interval and seconds where the terminal is narrow."""
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    columns = ("complete", "right", "95%", "teacher", "NLL", "tokens", "s")
    kept = [name for name in columns if width >= TABLE_WIDTH or name not in ("95%", "s")]
    for name in kept:
        table.add_column(name, justify="right")
    for row in rows:
        tokens = row.student_tokens + row.teacher_tokens
        cells = {
            "complete": f"{row.complete}/{row.asked}",
            "right": f"{row.right}/{row.complete}",
            "95%": _interval(row.right, row.complete),
            "teacher": f"{row.teacher_tokens / tokens:.0%}" if tokens else "–",
            "NLL": f"{row.nats:.3f}" if row.nats is not None else "–",
            "tokens": f"{row.scored_tokens:,}",
            "s": f"{row.seconds:.1f}" if row.seconds is not None else "–",
        }
        strategy = Text(row.strategy, style="bold" if row.strategy == "tessy" else "")
        table.add_row(strategy, *(cells[name] for name in kept))
    return table


def _interval(right: int, n: int) -> str:
    """The 95% Wilson interval of a share."""
    if not n:
        return "–"
    z = 1.96
    middle = (right + z * z / 2) / (n + z * z)
    half = z * math.sqrt(right * (n - right) / n + z * z / 4) / (n + z * z)
    return f"{100 * (middle - half):.0f}–{100 * (middle + half):.0f}%"


def _show_first(prompts: Path, traces: Path) -> None:
    """Print the complete traces of the first prompts."""
    from weft.prompts import open_prompts
    from weft.store import rejected_path

    order = {prompt.id: place for place, prompt in enumerate(open_prompts(str(prompts)))}
    complete = sorted(_traces(traces, set(order)), key=lambda trace: order[trace.prompt.id])
    for trace in complete[:SHOWN]:
        print_trace(trace)
    if not complete:
        _say(f"none; weft show {shlex.quote(str(rejected_path(traces)))} says why\n")


def _ending(output: Path, prompts: Path, seed: int, seconds: float) -> str:
    asked, more = shlex.quote(str(prompts)), shlex.quote(str(output / "more.jsonl"))
    tessy, teacher = (shlex.quote(str(output / f"{name}.jsonl")) for name in ("tessy", "teacher-only"))
    return f"""\
All of it is in {output}/ ({seconds:.0f} s):
  prompts.jsonl               the prompts
  STRATEGY.jsonl              complete traces, rows for TRL's SFTTrainer
  STRATEGY.rejected.jsonl     all others, each with its reason
  STRATEGY.manifest.json      settings and versions that made them

What to try next:
  weft show {tessy} --limit 10
  weft show {teacher} finetune-{seed}-000000
  weft synth {asked} --student {STUDENT} --teacher {TEACHER} --samples 4 -o {more}
  weft synth YOUR.jsonl --student Qwen/Qwen3-0.6B --teacher Qwen/Qwen3-8B -o traces.jsonl
"""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
