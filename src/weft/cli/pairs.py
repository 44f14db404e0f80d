"""``weft pairs``: preference pairs from samples, from a data set, and from what a cooperation threw away.

Functions and file are long because they are lists of flags, as :func:`weft.cli.synth.synth` is; they decide
nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from weft.cli.synth import DType

if TYPE_CHECKING:
    from weft.cli.pairs_progress import PairTally
    from weft.pairing.outcome import Paired

PAIRS = Group("Pairs", sort_key=1)
STUDENT = Group("The student", sort_key=2)
TEXTS = Group("Texts that are written and judged", sort_key=3)
RUN = Group("Run", sort_key=4)

FLAGS = {
    "student.name": "--student",
    "sampling.temperature": "--temperature",
    "sampling.top_p": "--top-p",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
}
"""Flags whose names do not follow from their settings'."""

app = App(
    name="pairs",
    help="Make preference pairs: from samples, from a data set, from what a cooperation threw away.",
)


def samples(
    *traces: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    by: Annotated[str | None, Parameter(group=PAIRS)] = None,
    per_prompt: Annotated[int | None, Parameter(group=PAIRS)] = None,
    min_margin: Annotated[float | None, Parameter(group=PAIRS)] = None,
    match_length: Annotated[bool, Parameter(group=PAIRS, negative="")] = False,
    seed: Annotated[int | None, Parameter(group=PAIRS)] = None,
    workers: Annotated[int | None, Parameter(group=TEXTS)] = None,
    seconds: Annotated[float | None, Parameter(group=TEXTS)] = None,
    memory_bytes: Annotated[int | None, Parameter(group=TEXTS)] = None,
    unsandboxed: Annotated[bool, Parameter(group=TEXTS, negative="")] = False,
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
    """Make pairs of the best and the worst of several responses to one prompt.

    From files of `weft verify` by their verdicts, a right response against a wrong
    one; or from any traces by a quality. What was rejected beside a file is read,
    too: wrong responses stand there. Rows are TRL's prompt, chosen and rejected as
    messages, for `weft align --data` and TRL's DPOTrainer. Prompts whose responses
    do not differ in quality give no pair; they are counted, and so are the lengths
    of both sides, since the longer response is often the better one.

    Parameters
    ----------
    traces
        Files that `weft verify` or `weft synth` wrote, with several samples of each prompt.
    output
        Where pairs go: a .jsonl file.
    config
        YAML file with any of these settings; flags override it.
    by
        verdict, or a quality: a verifier (math, exact, code, ...), answer, reward:MODEL,
        judge:ENGINE [verdict].
    per_prompt
        Most pairs of one prompt; no response is in two [1].
    min_margin
        Qualities must lie further apart than this [0].
    match_length
        Take the pairs of the most similar lengths, not those of the largest margin.
    seed
        Decides among equals [0].
    workers
        Processes of a verifier [its own number].
    seconds
        Of a verifier, for one response [its own].
    memory_bytes
        Of address space for one process of a verifier.
    unsandboxed
        Run programs although this machine cannot keep them from files and network.
    concurrency
        Responses under way at a time [32].
    timeout
        Seconds until a request to a judge's server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again [300].
    error_rate
        Share of engine errors among the last responses that ends the run [0.5].
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
    from weft.pairing.settings import SamplesSettings

    given = {
        "by": by,
        "per_prompt": per_prompt,
        "min_margin": min_margin,
        "match_length": match_length or None,
        "seed": seed,
        "workers": workers,
        "seconds": seconds,
        "memory_bytes": memory_bytes,
        "unsandboxed": unsandboxed or None,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
    }
    settings = _settings(SamplesSettings, config, given, example="by: math")

    def make(tally: PairTally) -> Paired:
        from weft.pairing import from_samples

        return from_samples(
            settings, _some(traces), output, overwrite=overwrite, observer=tally, command=sys.argv[1:]
        )

    return _run(make, output, (push_to_hub, license, public), as_json=as_json, quiet=quiet)


def data(
    data: str,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    split: Annotated[str | None, Parameter(group=PAIRS)] = None,
    limit: Annotated[int | None, Parameter(group=PAIRS)] = None,
    scores: Annotated[tuple[str, str] | None, Parameter(group=PAIRS, negative="")] = None,
    min_margin: Annotated[float | None, Parameter(group=PAIRS)] = None,
    contradicted: Annotated[Literal["drop", "keep", "swap"] | None, Parameter(group=PAIRS)] = None,
    push_to_hub: Annotated[str | None, Parameter(group=RUN)] = None,
    license: Annotated[str | None, Parameter(group=RUN)] = None,
    public: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Check a preference data set, and write its pairs in one form.

    Texts or messages, with a prompt or with one that both responses begin with;
    out come prompt, chosen and rejected. Equal responses, empty ones, and pairs
    whose scores contradict the label go to OUTPUT's .rejected.jsonl, and are
    counted.

    Parameters
    ----------
    data
        JSONL, JSON, CSV or Parquet file, a data set's folder or hub id.
    output
        Where pairs go: a .jsonl file.
    config
        YAML file with any of these settings; flags override it.
    split
        Of a data set [train].
    limit
        Take only the first pairs.
    scores
        Columns of the chosen and the rejected response's scores [score_chosen score_rejected].
    min_margin
        Scores must lie at least so far apart [0].
    contradicted
        What becomes of a pair whose rejected response has the higher score: drop, keep or swap [drop].
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
    from weft.pairing.settings import DataSettings

    given = {
        "split": split,
        "limit": limit,
        "scores": scores,
        "min_margin": min_margin,
        "contradicted": contradicted,
    }
    settings = _settings(DataSettings, config, given, example="contradicted: swap")

    def make(tally: PairTally) -> Paired:
        from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        from weft.pairing import from_data

        silent = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            return from_data(
                settings, data, output, overwrite=overwrite, observer=tally, command=sys.argv[1:]
            )
        finally:
            if silent:
                enable_progress_bars()

    return _run(make, output, (push_to_hub, license, public), as_json=as_json, quiet=quiet)


def weave(
    *traces: Path,
    student: Annotated[str | None, Parameter(group=STUDENT)] = None,
    verifier: Annotated[str | None, Parameter(group=PAIRS)] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=RUN)],
    config: Annotated[Path | None, Parameter(group=RUN)] = None,
    samples: Annotated[int | None, Parameter(group=PAIRS)] = None,
    per_trace: Annotated[int | None, Parameter(group=PAIRS)] = None,
    limit: Annotated[int | None, Parameter(group=PAIRS)] = None,
    min_margin: Annotated[float | None, Parameter(group=PAIRS)] = None,
    seed: Annotated[int | None, Parameter(group=PAIRS)] = None,
    temperature: Annotated[float | None, Parameter(group=TEXTS)] = None,
    top_p: Annotated[float | None, Parameter(group=TEXTS)] = None,
    max_tokens: Annotated[int | None, Parameter(group=TEXTS)] = None,
    workers: Annotated[int | None, Parameter(group=TEXTS)] = None,
    seconds: Annotated[float | None, Parameter(group=TEXTS)] = None,
    memory_bytes: Annotated[int | None, Parameter(group=TEXTS)] = None,
    unsandboxed: Annotated[bool, Parameter(group=TEXTS, negative="")] = False,
    student_tokenizer: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_api_key_env: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_revision: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_template_args: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_chat_template: Annotated[str | None, Parameter(group=STUDENT)] = None,
    student_thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=STUDENT, negative="")] = None,
    student_dtype: Annotated[DType | None, Parameter(group=STUDENT)] = None,
    student_device: Annotated[str | None, Parameter(group=STUDENT)] = None,
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
    """Make pairs of what the student proposed and what the teacher wrote in its place.

    Wherever the cooperation handed the pen to the teacher, the student's discarded
    text and the teacher's span continue one beginning. The student goes on from
    both, several times; the continuation after which more of its texts are right
    is chosen. What both begin with moves into the prompt. Rows are token ids of the
    student without an end, for `weft align --data`: a fragment must not teach the
    model to stop.

    Each hand-over costs twice --samples texts. They are kept in OUTPUT's
    .texts.jsonl: stopped or killed, the same command goes on where it was.

    Parameters
    ----------
    traces
        Files of `weft synth --keep-proposals`, verified or not.
    student
        The model that wrote the traces' style, and that will be trained.
    verifier
        What says whether a text is right: exact, regex:PATTERN, math, code, ...
    output
        Where pairs go: a .jsonl file.
    config
        YAML file with any of these settings; flags override it.
    samples
        Texts after each continuation [4].
    per_trace
        Most hand-overs of one trace that are looked at, drawn by the seed [2].
    limit
        Take only the first traces.
    min_margin
        Shares of right texts must lie further apart than this [0].
    seed
        Decides which hand-overs are drawn, and all texts [0].
    temperature
        Of texts; left out: the student's own, or 1 where that is greedy.
    top_p
        Of texts; left out: the student's own.
    max_tokens
        Of one text, thinking included, its beginning not [8192].
    workers
        Processes of the verifier [its own number].
    seconds
        Of the verifier, for one response [its own].
    memory_bytes
        Of address space for one process of the verifier.
    unsandboxed
        Run programs although this machine cannot keep them from files and network.
    student_tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    student_api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    student_revision
        Branch, tag or commit of a hub model.
    student_template_args
        Arguments of the chat template, as JSON; left out: those of the traces.
    student_chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    student_thinking_tags
        Opening and closing tag, where the template does not show them.
    student_dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    student_device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    concurrency
        Texts under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its text fails [300].
    error_rate
        Share of engine errors among the last texts that ends the run [0.5].
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
    from weft.cli.settings import json_object
    from weft.pairing.settings import WeaveSettings

    given = {
        "verifier": verifier,
        "samples": samples,
        "per_trace": per_trace,
        "limit": limit,
        "min_margin": min_margin,
        "seed": seed,
        "sampling": {"temperature": temperature, "top_p": top_p},
        "max_tokens": max_tokens,
        "workers": workers,
        "seconds": seconds,
        "memory_bytes": memory_bytes,
        "unsandboxed": unsandboxed or None,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
        "student": {
            "name": student,
            "tokenizer": student_tokenizer,
            "api_key_env": student_api_key_env,
            "revision": student_revision,
            "template_arguments": json_object(student_template_args, "--student-template-args"),
            "chat_template": student_chat_template,
            "thinking_tags": student_thinking_tags,
            "dtype": student_dtype,
            "device": student_device,
        },
    }
    wanted = {
        "student": "--student MODEL, the student of the traces",
        "verifier": "--verifier NAME, such as math",
    }
    settings = _settings(WeaveSettings, config, given, wanted=wanted, example="verifier: math")

    def make(tally: PairTally) -> Paired:
        from weft.pairing import weave as woven

        return woven(
            settings, _some(traces), output, overwrite=overwrite, observer=tally, command=sys.argv[1:]
        )

    return _run(make, output, (push_to_hub, license, public), as_json=as_json, quiet=quiet)


def _settings(model: Any, config: Path | None, given: dict[str, Any], **how: Any) -> Any:
    from weft.cli.settings import read_as

    return read_as(model, config, given, flags=FLAGS, wanted=how.get("wanted", {}), example=how["example"])


def _some(traces: tuple[Path, ...]) -> tuple[Path, ...]:
    from weft.errors import UserError

    if not traces:
        raise UserError("no traces", where="the command line", remedy="name the files of traces")
    return traces


def _run(
    make: Callable[[PairTally], Paired],
    output: Path,
    published: tuple[str | None, str | None, bool],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make the pairs, show what came of it, and publish them if that is asked for.

    Returns:
        1 if there is no pair, or something is left to be tried again.
    """
    from weft.cli.pairs_progress import display
    from weft.publishing import destination

    goal = destination(*published)
    with display(output, quiet=quiet) as tally:
        tally.paired = paired = make(tally)
    if as_json:
        sys.stdout.write(json.dumps(paired.to_json(), indent=2, allow_nan=False) + "\n")
        sys.stdout.flush()
    code = 1 if paired.to_try_again or not paired.pairs else 0
    if goal is not None:
        goal.skipped() if code else goal.publish_data(output)
    return code


# By themselves, not by name: a command that is not loaded yet is listed without what it does.
app.command(samples, name="samples")
app.command(data, name="data")
app.command(weave, name="weave")
