"""``weft gap reward``: whether ranking well means generating well.

:func:`reward` is long because it is a list of flags, as :func:`weft.cli.synth.synth` is. Figures are of
:mod:`weft.gap.ranking`; how they are shown is :mod:`weft.gap.ranking.shown`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from weft.cli.synth import DType

if TYPE_CHECKING:
    from weft.gap.ranking.measure import Observer
    from weft.gap.ranking.settings import RewardGapSettings

MODELS = Group("Models", sort_key=1)
PAIRS = Group("Pairs", sort_key=2)
TEXTS = Group("Texts that are written and judged (with --quality)", sort_key=3)
RUN = Group("Run", sort_key=4)

FLAGS = {
    "policies": "--policy",
    "prefixes": "--prefix",
    "sampling.temperature": "--temperature",
    "sampling.top_p": "--top-p",
    "servers.timeout": "--timeout",
    "servers.patience": "--patience",
}
"""Flags whose names do not follow from their settings'."""


def reward(
    pairs: str,
    /,
    *,
    policy: Annotated[list[str], Parameter(group=MODELS, negative="")],
    reference: Annotated[str | None, Parameter(group=MODELS)] = None,
    quality: Annotated[str | None, Parameter(group=TEXTS)] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], group=RUN)] = None,
    split: Annotated[str | None, Parameter(group=PAIRS)] = None,
    limit: Annotated[int | None, Parameter(group=PAIRS)] = None,
    seed: Annotated[int | None, Parameter(group=PAIRS)] = None,
    beta: Annotated[float | None, Parameter(group=PAIRS)] = None,
    simpo_beta: Annotated[float | None, Parameter(group=PAIRS)] = None,
    prefix: Annotated[list[str] | None, Parameter(group=PAIRS, negative="")] = None,
    prefixes_at: Annotated[str | None, Parameter(group=TEXTS)] = None,
    continuations: Annotated[int | None, Parameter(group=TEXTS)] = None,
    continue_pairs: Annotated[int | None, Parameter(group=TEXTS)] = None,
    draws: Annotated[int | None, Parameter(group=TEXTS)] = None,
    temperatures: Annotated[str | None, Parameter(group=TEXTS)] = None,
    top_ps: Annotated[str | None, Parameter(group=TEXTS)] = None,
    temperature: Annotated[float | None, Parameter(group=TEXTS)] = None,
    top_p: Annotated[float | None, Parameter(group=TEXTS)] = None,
    max_tokens: Annotated[int | None, Parameter(group=TEXTS)] = None,
    policy_tokenizer: Annotated[str | None, Parameter(group=MODELS)] = None,
    policy_api_key_env: Annotated[str | None, Parameter(group=MODELS)] = None,
    policy_revision: Annotated[str | None, Parameter(group=MODELS)] = None,
    policy_template_args: Annotated[str | None, Parameter(group=MODELS)] = None,
    policy_chat_template: Annotated[str | None, Parameter(group=MODELS)] = None,
    policy_thinking_tags: Annotated[tuple[str, str] | None, Parameter(group=MODELS, negative="")] = None,
    policy_dtype: Annotated[DType | None, Parameter(group=MODELS)] = None,
    policy_device: Annotated[str | None, Parameter(group=MODELS)] = None,
    concurrency: Annotated[int | None, Parameter(group=RUN)] = None,
    timeout: Annotated[float | None, Parameter(group=RUN)] = None,
    patience: Annotated[float | None, Parameter(group=RUN)] = None,
    error_rate: Annotated[float | None, Parameter(group=RUN)] = None,
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", group=RUN, negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=RUN, negative="")] = False,
) -> int:
    """Say whether ranking pairs well means generating well.

    How often a policy's implicit reward prefers the chosen response, and from which
    of its tokens on; where log-probability and entropy lie. With --quality the
    policy also writes: what follows the first tokens of either response, whether
    the label outlives the cuts of `weft align --prefix`, how good the policy's own
    texts are, and over three or more policies whether the two go together. Figures
    come with 95% intervals, by resampling prompts.

    With -o NAME.json the result is kept, and its rows in NAME.pairs.jsonl and
    NAME.texts.jsonl: stopped or killed, the same command goes on where it was.
    Without it all are gone afterwards.

    Parameters
    ----------
    pairs
        A file (JSONL, JSON, CSV, Parquet), a data set's folder or hub id with prompt, chosen and
        rejected, as for `weft align`; pairs that were not trained on. A column answer is read.
    policy
        A model in process, or on vLLM or SGLang; again for each checkpoint. What the flags below
        say of a policy holds for all of them, and for the reference.
    reference
        The model that DPO's reward is relative to; left out: SimPO's reward alone.
    quality
        answer (the final answer against the pair's), a verifier (math, exact, code, ...),
        reward:MODEL (a reward model), or judge:ENGINE (any engine gives grades); left out:
        nothing is written.
    output
        Where the result goes: a .json file.
    split
        Of data sets [train].
    limit
        Pairs that are read, drawn by the seed; 0: all [1000].
    seed
        Decides which pairs are drawn, all texts, and the intervals [0].
    beta
        Of DPO's reward [0.1].
    simpo_beta
        Of SimPO's reward [2].
    prefix
        A prefix policy of `weft align` that is looked at; again for each [none, equal-length,
        ratio:0.5, first:32, random, decay:0.99, tail:0.5, sample].
    prefixes_at
        Tokens after which responses are continued [2,8,32,128].
    continuations
        Texts for each beginning; 0: cut responses are judged as they stand [4].
    continue_pairs
        Pairs that are continued, and whose prompts are answered [100].
    draws
        Texts of the policy's own for each prompt and way of drawing [1].
    temperatures
        Decode robustness: temperatures besides the policy's own, such as 0,0.7,1,1.3.
    top_ps
        The same for top-p; all of both are combined.
    temperature
        Of continuations; left out: the policy's own, or 1 where that is greedy.
    top_p
        Of continuations; left out: the policy's own.
    max_tokens
        Of one text, thinking included, its beginning not [1024].
    policy_tokenizer
        Of a server's model: hub id or folder; left out: the model's name.
    policy_api_key_env
        Environment variable with the server's key [OPENAI_API_KEY].
    policy_revision
        Branch, tag or commit of hub models.
    policy_template_args
        Arguments of the chat templates, as JSON: '{"enable_thinking": false}'.
    policy_chat_template
        A .jinja file, or the name of one of the tokenizer's templates.
    policy_thinking_tags
        Opening and closing tag, where the template does not show them.
    policy_dtype
        Of the weights; auto is float32 on a processor, the checkpoint's on a GPU.
    policy_device
        Such as cpu or cuda:1; left out: a GPU where there is one.
    concurrency
        Pairs or texts under way at a time [32].
    timeout
        Seconds until a request to a server is given up and sent again [600].
    patience
        Seconds for which a failed request is sent again; then its pair or text fails [300].
    error_rate
        Share of engine errors among the last ones that ends the run [0.5].
    overwrite
        Remove what the output held before.
    as_json
        One JSON object in place of the tables.
    quiet
        No progress; only the summary.
    """
    from weft.cli.settings import json_object, numbers

    engine = {
        "tokenizer": policy_tokenizer,
        "api_key_env": policy_api_key_env,
        "revision": policy_revision,
        "template_arguments": json_object(policy_template_args, "--policy-template-args"),
        "chat_template": policy_chat_template,
        "thinking_tags": policy_thinking_tags,
        "dtype": policy_dtype,
        "device": policy_device,
    }
    given = {
        "policies": [_engine(name, engine, policy) for name in policy],
        "reference": None if reference is None else _engine(reference, engine, policy),
        "quality": quality,
        "split": split,
        "limit": limit,
        "seed": seed,
        "beta": beta,
        "simpo_beta": simpo_beta,
        "prefixes": prefix,
        "prefixes_at": numbers(prefixes_at, "--prefixes-at", int),
        "continuations": continuations,
        "continue_pairs": continue_pairs,
        "draws": draws,
        "temperatures": numbers(temperatures, "--temperatures", float),
        "top_ps": numbers(top_ps, "--top-ps", float),
        "sampling": {"temperature": temperature, "top_p": top_p},
        "max_tokens": max_tokens,
        "concurrency": concurrency,
        "error_rate": error_rate,
        "servers": {"timeout": timeout, "patience": patience},
    }
    return _run(pairs, _settings(given), output, overwrite=overwrite, as_json=as_json, quiet=quiet)


def _run(
    pairs: str,
    settings: RewardGapSettings,
    output: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    from rich.console import Console

    from weft.gap.ranking.measure import measure
    from weft.gap.ranking.shown import show

    with _display(output, quiet=quiet or as_json) as observer:
        found = measure(settings, pairs, output, overwrite=overwrite, observer=observer, command=sys.argv[1:])
    if as_json:
        text = json.dumps(found.gap.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        show(found.gap, Console(highlight=False, markup=False, emoji=False))
    sys.stdout.flush()
    return 1 if found.to_try_again else 0


@contextmanager
def _display(output: Path | None, *, quiet: bool) -> Iterator[Observer]:
    """Show a run while it goes on; where its files are when it has ended."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    from weft.cli.gap_reward_progress import display

    silent = not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        with display(output, quiet=quiet) as observer:
            yield observer
    finally:
        if silent:
            enable_progress_bars()


def _engine(name: str, given: Mapping[str, Any], policies: Sequence[str]) -> dict[str, Any]:
    """One engine's settings. Where some are servers, what only servers take goes to them alone."""
    mixed = any(map(_is_server, policies)) and not _is_server(name)
    left_out = ("tokenizer", "api_key_env") if mixed else ()
    return {"name": name} | {
        key: value for key, value in given.items() if value is not None and key not in left_out
    }


def _is_server(name: str) -> bool:
    from weft.engines.settings import EngineSettings

    return EngineSettings(name=name).is_server


def _settings(given: Mapping[str, Any]) -> RewardGapSettings:
    from weft.cli.settings import read_as
    from weft.gap.ranking.settings import RewardGapSettings

    return read_as(RewardGapSettings, None, given, flags=FLAGS, wanted={}, example="")
