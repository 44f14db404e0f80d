"""What the tests of the report report on: traces, readings and results, built from their types."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weft.gap.distance.readings import READINGS, Reading, ReadingStatus, Run, Writer
from weft.gap.distance.result import (
    Advice,
    Comparison,
    Likelihood,
    Marker,
    Outlier,
    Similarity,
    SourceGap,
    Stretch,
    StyleGap,
    Texture,
    Verdict,
)
from weft.gap.made import Made
from weft.gap.ranking.result import (
    AtPrefix,
    DeltaQ,
    Drawn,
    GapCorrelation,
    ImplicitReward,
    LabelConsistency,
    PolicyGap,
    Position,
    RewardGap,
)
from weft.intervals import NOT_MEASURED, Figure
from weft.records import Author, Message, PerAuthor, Prompt, Provenance, Sampling, Span, Status, Trace, Usage
from weft.report.packing import unpacked

S, T = Author.STUDENT, Author.TEACHER
HOSTILE = (
    "<script>document.title = 'hacked'</script></script><img src=x onerror=\"document.title='hacked'\">"
    "<!-- <script> ]]> \x1b[31mred\x1b[0m \x00null \u202edrow\u202c \u2066iso\u2069 \ud800 \u2028line "
    "\ufeff &amp; {{ 7 * 7 }} {% raw %} javascript:alert(1)"
)
MADE = Made(
    "0.1.0", "2026-01-02T03:04:05+00:00", ("gap", "style"), {"student": {"name": "s"}}, {"t.jsonl": "ab12"}
)


def trace_of(
    prompt: str,
    sample: int = 0,
    *,
    strategy: str = "tessy",
    spans: Sequence[Span] | None = None,
    thinking: int = 3,
    status: Status = Status.COMPLETE,
    reason: str | None = None,
    question: str | None = None,
    extra: str = "{}",
) -> Trace:
    """A trace; without spans one of four, three of them thinking."""
    made = (
        tuple(spans)
        if spans is not None
        else (Span(S, "Okay, "), Span(T, "2 + 2 = 4"), Span(S, ".\nSo"), Span(S, "It is 4."))
    )
    return Trace(
        id=f"{prompt}#{sample}",
        prompt=Prompt(prompt, (Message("user", question or f"{prompt}: 2 + 2?"),), answer="4", extra=extra),
        sample=sample,
        status=status,
        reason=reason,
        spans=made,
        thinking_spans=min(thinking, len(made)),
        completion=Message("assistant", "It is 4."),
        training_template=None,
        usage=Usage(tokens=PerAuthor(6, 4), turns=3),
        provenance=Provenance(strategy, "s", "t", Sampling(), Sampling(), 0, "0"),
    )


def reading_of(trace: Trace, source: str, *, scale: float = 1.0, seed: int = 0, size: int = 4) -> Reading:
    """A reading of a trace in tokens of a few characters, with made-up numbers that a seed decides."""
    draw = random.Random(f"{seed} {trace.id} {source}")
    chars: list[int] = []
    runs: list[Run] = []
    thinking = 0
    for at, span in enumerate(trace.spans):
        whole, rest = divmod(len(span.text), size)
        tokens = [size] * whole + ([rest] if rest else [])
        chars += tokens
        if tokens:
            runs.append(Run(Writer(span.author.value), len(tokens)))
        thinking += len(tokens) * (at < trace.thinking_spans)
    n = len(chars)
    return Reading(
        id=f"{source}/{trace.id}",
        source=source,
        sample=trace.id,
        prompt=trace.prompt.id,
        digest="d",
        text=trace.text,
        thinking=thinking,
        chars=tuple(chars),
        nats=tuple(round(scale * draw.expovariate(1.0), 5) for _ in range(n)),
        ranks=tuple(draw.choice((*(1,) * 12, 2, 2, 7, 30, 130)) for _ in range(n)),
        entropies=tuple(round(draw.expovariate(1.5), 5) for _ in range(n)),
        style=tuple(round(draw.random(), 3) if at < thinking else None for at in range(n)),
        authors=tuple(runs),
    )


def unread(trace: Trace, source: str) -> Reading:
    """A reading that came to nothing."""
    return Reading(
        f"{source}/{trace.id}",
        source,
        trace.id,
        trace.prompt.id,
        "d",
        ReadingStatus.TOO_LONG,
        "prompt and text take 9,000 tokens",
    )


def opened(text: Mapping[str, Any]) -> dict[str, Any]:
    """A text of the page with its pieces and numbers as lists."""
    place, pieces, units = 0, [], text["t"].encode("utf-16-le")
    for length in unpacked(text["c"]):
        pieces.append(units[2 * place : 2 * (place + (length or 0))].decode("utf-16-le"))
        place += length or 0
    assert 2 * place == len(units)
    who = [[writer, count] for writer, count in zip(text["who"], unpacked(text["w"]), strict=True)]
    return {
        **text,
        "t": pieces,
        "who": who,
        **{name: unpacked(text[name]) for name in "nery" if name in text},
    }


def write_traces(path: Path, traces: Iterator[Trace] | Sequence[Trace]) -> Path:
    path.write_text("".join(f"{json.dumps(trace.to_row())}\n" for trace in traces))
    return path


def write_readings(path: Path, readings: Sequence[Reading]) -> Path:
    path.write_text("".join(f"{json.dumps(READINGS.to_row(reading))}\n" for reading in readings))
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def fig(value: float | None, wide: float = 0.05, n: int = 100) -> Figure:
    return NOT_MEASURED if value is None else Figure(value, value - wide, value + wide, n)


def likelihood(nats: float, *, entropies: bool = True) -> Likelihood:
    entropy = nats * 0.8 if entropies else None
    return Likelihood(
        tokens=1234,
        nll_per_token=fig(nats),
        bits_per_byte=fig(nats / 2),
        entropy_per_token=fig(entropy),
        excess_nll_per_token=fig(None if entropy is None else nats - entropy),
        outside_top_1=fig(min(0.9, nats / 2)),
        outside_top_10=fig(min(0.5, nats / 5)),
        outside_top_100=fig(min(0.2, nats / 20)),
        rank_surprisal_ratio=fig(3.0 + nats),
    )


def source_gap(label: str, nats: float, advice: Advice, outliers: Sequence[str] = ()) -> SourceGap:
    return SourceGap(
        label=label,
        file=f"{label}.jsonl",
        strategy=label,
        texts=40,
        prompts=20,
        left_out={"too_long": 2},
        all=likelihood(nats),
        by_author={"student": likelihood(nats / 2), "teacher": likelihood(nats * 2)},
        by_kind={"style": likelihood(nats / 3), "capability": likelihood(nats * 1.5)},
        by_part={"thinking": likelihood(nats), "response": likelihood(nats * 0.6)},
        profile=tuple(
            Stretch(at / 10, (at + 1) / 10, fig(nats * (1.5 - at / 12)), fig(nats * (1.2 - at / 12)))
            for at in range(10)
        ),
        similarity=Similarity(
            "student-only", 20, fig(1 - nats / 8), fig(min(0.99, 0.5 + nats / 4)), own_cosine=fig(0.97, 0.01)
        ),
        markers=tuple(
            Marker(f"{word} {label}", sign * (9.0 - at), sign * 2.0, 30 + at, 5)
            for sign in (1, -1)
            for at, word in enumerate(("therefore", "step <b>", "okay so", "hmm", "let me see", "wait"))
        ),
        texture=Texture(
            fig(120.0, 8.0),
            118.0,
            160.0,
            fig(0.05),
            fig(0.1),
            fig(0.3),
            fig(0.5),
            fig(0.4),
            distinct_draw=900,
        ),
        verdict=Verdict(
            advice,
            f"What to do with {label}, in a sentence.",
            "excess_nll_per_token",
            {"train": 0.1, "mix": 0.2},
            True,
            tuple(Outlier(id, nats * 3, 6.5) for id in outliers),
            decided=fig(nats / 5),
        ),
    )


def style_gap(*, outliers: Sequence[str] = (), readings: str | None = None) -> StyleGap:
    """Of three sources, the last one the reference."""
    reference = source_gap("student-only", 0.3, Advice.UNKNOWN)
    return StyleGap(
        student="micro:student",
        boundary="oracle",
        reference="student-only.jsonl",
        sources=(
            source_gap("tessy", 0.35, Advice.TRAIN),
            source_gap("teacher-only", 1.2, Advice.SYNTHESISE, outliers),
            replace(
                reference,
                similarity=None,
                markers=(),
                verdict=replace(reference.verdict, thresholds={}, said="It is the reference."),
            ),
        ),
        comparisons=(Comparison("tessy", "teacher-only", fig(-0.85), fig(0.2)),),
        made=MADE,
        readings=readings,
    )


def policy_gap(name: str, strength: float) -> PolicyGap:
    starts = (0, 1, 2, 4, 8, 16, 32, 64)
    ends = (1, 2, 4, 8, 16, 32, 64, 128)
    prefixes = (1, 2, 4, 8, 16, 32, None)

    def reward(kind: str) -> ImplicitReward:
        return ImplicitReward(
            kind,
            0.1 if kind == "dpo" else 2.0,
            tuple(
                AtPrefix(tokens, fig(0.5 + strength * (at + 1) / 16, 0.04), fig(strength * (at + 1) / 4, 0.1))
                for at, tokens in enumerate(prefixes)
            ),
            {"0.1": fig(0.2), "0.25": fig(0.45), "0.5": fig(0.7)}
            if strength > 0.3
            else {"0.1": NOT_MEASURED},
            {
                "none": fig(0.5 + strength / 3),
                "equal-length": fig(0.5 + strength / 2.5),
                "decay:0.99": fig(0.6),
            },
        )

    return PolicyGap(
        name=name,
        pairs=100,
        prompts=60,
        left_out={"identical": 3},
        positions=tuple(
            Position(a, b, fig(-2 / (1 + at)), fig(-2.4 / (1 + at)), fig(1.5 / (1 + at)), fig(1.6 / (1 + at)))
            for at, (a, b) in enumerate(zip(starts, ends, strict=True))
        ),
        rewards=(reward("dpo"), reward("simpo")),
        delta_q=tuple(
            DeltaQ(k, fig(0.5 + 0.02 * at), fig(0.5), fig(0.02 * at * strength, 0.01))
            for at, k in enumerate((2, 8, 32, 128))
        ),
        consistency=(
            LabelConsistency("equal-length", "continued", fig(0.95), fig(0.02), fig(0.7)),
            LabelConsistency("first:32", "continued", fig(0.8), fig(0.1), fig(0.3)),
            LabelConsistency("first:32", "as it is", fig(0.55), fig(0.3), fig(0.3)),
            LabelConsistency("decay:0.99", "continued", NOT_MEASURED, NOT_MEASURED, fig(1.0)),
        ),
        drawn=tuple(
            Drawn(
                temperature,
                top_p,
                fig(0.5 + strength / 4 - temperature / 5),
                fig(90.0, 4.0),
                fig(0.01, 0.005),
            )
            for temperature in (0.7, 0.0, 1.0)
            for top_p in (1.0, 0.9)
        ),
    )


def reward_gap() -> RewardGap:
    policies = (policy_gap("step-100", 0.2), policy_gap("step-200", 0.5), policy_gap("step-300", 0.8))
    return RewardGap(
        pairs="pairs.jsonl",
        reference="base",
        quality="answer",
        policies=policies,
        correlations=(
            GapCorrelation(
                "dpo",
                3,
                Figure(1.0, 0.5, 1.0, 60),
                Figure(1.0, 0.33, 1.0, 60),
                {one.name: fig(0.5 + at / 10) for at, one in enumerate(policies)},
                {one.name: fig(0.55 + at / 12) for at, one in enumerate(policies)},
            ),
        ),
        said=("The first quarter of the tokens holds 0.450 (0.400–0.500) of the DPO margin of step-200.",),
        made=MADE,
    )


def world(folder: Path, prompts: int = 12, *, words: int = 30) -> Path:
    """A folder as runs leave it: two strategies on the same prompts, rejected traces, readings, results."""
    folder.mkdir(parents=True, exist_ok=True)
    told = ("okay so ", "3 * 4 is 12 . ", "hmm next , ", "12 - 5 is 7 . ", "alright , ", "so we get 7 . ")
    readings: list[Reading] = []
    for strategy, scale in (("tessy", 0.35), ("teacher-only", 1.4)):
        made = []
        for at in range(prompts):
            draw = random.Random(f"{strategy} {at}")
            count = max(2, math.ceil(words / 5))
            authors = [S, T] if strategy == "tessy" else [T, T]
            spans = [Span(authors[i % 2], draw.choice(told)) for i in range(count)] + [
                Span(authors[0], "It is 7.")
            ]
            made.append(
                trace_of(
                    f"q{at}", strategy=strategy, spans=spans, thinking=count, extra='{"verdict": "right"}'
                )
            )
        write_traces(folder / f"{strategy}.jsonl", made)
        readings += [reading_of(one, strategy, scale=scale) for one in made]
    rejected = trace_of("q0", 1, status=Status.LENGTH, reason="thinking met the limit of 40 tokens")
    write_traces(folder / "tessy.rejected.jsonl", [rejected])
    write_readings(folder / "gap.readings.jsonl", readings)
    write_json(folder / "gap.json", style_gap(outliers=("q3#0",), readings="gap.readings.jsonl").to_json())
    write_json(folder / "reward.json", reward_gap().to_json())
    return folder
