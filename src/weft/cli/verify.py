"""``weft verify``: traces in, those that may be trained on out, with what was found of each.

:func:`verify` is long because it is a list of flags, as :func:`weft.cli.synth.synth` is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from weft.errors import UserError

if TYPE_CHECKING:
    from weft.verify.self_check import SelfCheck
    from weft.verify.settings import VerifySettings

VERDICTS = Group("Verdicts", sort_key=1)
CURATION = Group("Curation", sort_key=2)
CHECK = Group("Checking the verifier (--self-check)", sort_key=3)
RUN = Group("Run", sort_key=4)

FLAGS = {"servers.timeout": "--timeout", "servers.patience": "--patience"}
"""Flags whose names do not follow from their settings'."""
MOST_LISTED = 50
"""Right answers that were not accepted, in the listing; --json has all."""

# Names repeated from `Verdict`, whose module would make `--help` slower; a test compares them.
Verdicts = Literal["correct", "wrong", "unverifiable"]


def verify(
    *traces: str,
    verifier: Annotated[str | None, Parameter(group=VERDICTS)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=RUN)] = None,
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    keep: Annotated[list[Verdicts] | None, Parameter(group=VERDICTS, negative="")] = None,
    workers: Annotated[int | None, Parameter(group=VERDICTS)] = None,
    seconds: Annotated[float | None, Parameter(group=VERDICTS)] = None,
    memory_bytes: Annotated[int | None, Parameter(group=VERDICTS)] = None,
    unsandboxed: Annotated[bool, Parameter(group=VERDICTS, negative="")] = False,
    deduplicate: Annotated[float | None, Parameter(group=CURATION)] = None,
    decontaminate: Annotated[list[str] | None, Parameter(group=CURATION, negative="")] = None,
    decontaminate_split: Annotated[str | None, Parameter(group=CURATION)] = None,
    ngram: Annotated[int | None, Parameter(group=CURATION)] = None,
    self_check: Annotated[bool, Parameter(group=CHECK, negative="")] = False,
    split: Annotated[str, Parameter(group=CHECK)] = "train",
    limit: Annotated[int | None, Parameter(group=CHECK)] = None,
    prompt_column: Annotated[str, Parameter(group=CHECK)] = "prompt",
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    push_to_hub: Annotated[str | None, Parameter(group=RUN)] = None,
    license: Annotated[str | None, Parameter(group=RUN)] = None,
    public: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Say which traces are right, and keep those.

    Traces that are kept go to OUTPUT, all others to its .rejected.jsonl with what
    was found: a wrong answer and why, no verdict and why, a near-duplicate, a
    benchmark's words. Nothing is dropped. Rows are those of the traces, with
    columns behind them, so whatever reads traces reads OUTPUT. Stopped or killed,
    the same command goes on where it was.

    With --self-check the verifier is given the right answers themselves, and those
    that it does not accept are listed (exit code 1); nothing is written.

    Verifiers: exact, exact:nocase, regex:PATTERN, math, code, code:COMMAND, task,
    task:SCORE (reasoning-gym), judge:ENGINE.

    Parameters
    ----------
    traces
        Files that `weft synth` wrote; with --self-check prompts or data sets, too.
    verifier
        What says whether a response is right; left out: no verdicts.
    output
        Where traces that are kept go: a .jsonl file.
    config
        YAML file with any of these settings; flags override it.
    keep
        Verdict whose traces are kept; again for each [correct].
    workers
        Processes of the verifier [its own number].
    seconds
        For one response; for code, of processor time for one test [10].
    memory_bytes
        Of address space for one process.
    unsandboxed
        Run programs although this machine cannot keep them from files and network.
    deduplicate
        Similarity from which a trace is a near-duplicate of an earlier one, such as 0.8.
    decontaminate
        Benchmark (file or data set) whose questions may not be in the traces; again for each.
    decontaminate_split
        Of benchmarks that are data sets [test].
    ngram
        Words in a row that a trace may not share with a benchmark [13].
    self_check
        Does the verifier accept the right answers themselves?
    split
        Of data sets of prompts.
    limit
        Look only at the first rows.
    prompt_column
        Column that holds the prompt.
    concurrency
        Responses under way at a time [32].
    timeout
        Seconds until a request to a judge's server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then the trace has no verdict yet [300].
    error_rate
        Share of verifier errors among the last traces that ends the run [0.5].
    push_to_hub
        Repository of the hub, OWNER/NAME, to which the output goes when it is done; private.
    license
        Of what is published, for its card: apache-2.0, cc-by-4.0, ...
    public
        Everybody may see the repository.
    overwrite
        Remove what the output held before.
    as_json
        One JSON object with all counts on stdout.
    quiet
        No progress; only the summary.
    """
    from weft.cli.settings import read_as
    from weft.verify.settings import VerifySettings

    if not traces:
        raise UserError(
            "no traces", where="the command line", remedy="name files: weft verify traces.jsonl …"
        )
    given = {
        "verifier": verifier,
        "keep": keep,
        "workers": workers,
        "seconds": seconds,
        "memory_bytes": memory_bytes,
        "unsandboxed": unsandboxed or None,
        "deduplicate": deduplicate,
        "decontaminate": decontaminate,
        "decontaminate_split": decontaminate_split,
        "ngram": ngram,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
    }
    settings = read_as(VerifySettings, config, given, flags=FLAGS, wanted={}, example="verifier: math")
    if self_check:
        return _self_check(settings, traces, split, limit, prompt_column, as_json=as_json, quiet=quiet)
    if output is None:
        raise UserError("no output", where="weft verify", remedy="name one: -o verified.jsonl")
    from weft.publishing import destination

    goal = destination(push_to_hub, license, public)
    code = _run(settings, traces, output, overwrite=overwrite, as_json=as_json, quiet=quiet)
    if goal is not None:
        goal.skipped() if code else goal.publish_data(output)
    return code


def _run(
    settings: VerifySettings,
    traces: Sequence[str],
    output: Path,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    from weft.cli.verify_progress import display
    from weft.verify.marking import verify as mark

    with display(output, quiet=quiet) as progress:
        counts = progress.counts = mark(
            settings,
            [Path(name) for name in traces],
            output,
            overwrite=overwrite,
            observer=progress,
            command=sys.argv[1:],
        )
    if as_json:
        sys.stdout.write(json.dumps(counts.to_json(), indent=2) + "\n")
        sys.stdout.flush()
    return 1 if counts.to_try_again else 0


def _self_check(
    settings: VerifySettings,
    sources: Sequence[str],
    split: str,
    limit: int | None,
    prompt_column: str,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    from weft.cli.progress import watched
    from weft.cli.verify_progress import VerifyTally
    from weft.verify.self_check import self_check

    tally = VerifyTally()
    with watched(tally, quiet=quiet or as_json):
        found = self_check(
            settings, sources, split=split, limit=limit, prompt_column=prompt_column, observer=tally
        )
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        _list(found)
    sys.stdout.flush()
    return 0 if found.passed else 1


def _list(found: SelfCheck) -> None:
    from weft.cli.show import visible

    for refused in found.refused[:MOST_LISTED]:
        judgement = refused.judgement
        name = f" ({refused.prompt})" if refused.prompt else ""
        said = f": {judgement.said}" if judgement.said else ""
        line = f"{refused.where}{name}  {judgement.verdict}, {judgement.reason}{said}"
        sys.stdout.write(visible(line) + "\n")
    if len(found.refused) > MOST_LISTED:
        sys.stdout.write(f"… and {len(found.refused) - MOST_LISTED:,} more\n")
    accepted = found.checked - len(found.refused)
    line = f"{found.verifier} accepts {accepted:,} of {found.checked:,} right answers"
    if found.unanswered:
        line += f"; {found.unanswered:,} rows bring none that it could be given"
    if not found.checked:
        line += ": nothing was checked"
    sys.stdout.write(visible(line) + "\n")
