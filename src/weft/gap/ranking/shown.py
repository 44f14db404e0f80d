"""What `weft gap reward` found, for a person in a terminal of 80 columns or more.

One part for each policy, then all of them together, then what the figures say in words. Names are shown by
:func:`weft.cli.show.visible`, so that they cannot act on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from weft.cli.show import visible
from weft.cli.tables import Cell, print_table
from weft.gap.ranking.result import PolicyGap, RewardGap
from weft.gap.ranking.words import NAMES


def show(gap: RewardGap, console: Console) -> None:
    """Print all of it."""
    beside = [f"reference {gap.reference}"] if gap.reference else []
    beside += [f"judged by {gap.quality}"] if gap.quality else []
    console.print(
        Text(visible(gap.pairs), style="bold").append(f"  {visible(', '.join(beside))}", style="dim")
    )
    for policy in gap.policies:
        _policy(policy, console)
    _together(gap, console)
    console.print()
    console.print(Text("What the figures say", style="bold"))
    for sentence in gap.said:
        console.print(Padding(Text(f"- {visible(sentence)}"), (0, 0, 0, 2), expand=False))
    console.print()
    note = "In brackets: 95% intervals, by resampling prompts. A dash: not measured."
    console.print(Text(note, style="dim"))


def _policy(policy: PolicyGap, console: Console) -> None:
    console.print()
    console.rule(Text(f" {visible(policy.name)} ", style="bold"), characters="─", align="left")
    left = ", ".join(f"{reason} ({count:,})" for reason, count in policy.left_out.items() if count)
    counts = f"{_number(policy.pairs, 'pair')} of {_number(policy.prompts, 'prompt')}"
    console.print(Text(counts + (f"; left out: {left}" if left else ""), style="dim"))
    _prefixes(policy, console)
    _shares(policy, console)
    _positions(policy, console)
    _continued(policy, console)
    _cuts(policy, console)
    _drawn(policy, console)


def _prefixes(policy: PolicyGap, console: Console) -> None:
    for reward in policy.rewards:
        name = NAMES.get(reward.kind, reward.kind)
        rows = [
            ("all" if at.tokens is None else f"{at.tokens:,}", at.accuracy, at.margin)
            for at in reward.by_prefix
        ]
        title = f"{name}'s reward of the first tokens (beta {reward.beta:g})"
        print_table(console, title, ("tokens", "accuracy", "margin"), rows)


def _shares(policy: PolicyGap, console: Console) -> None:
    rows: list[Sequence[Cell]] = [
        (NAMES.get(reward.kind, reward.kind), *reward.margin_share.values())
        for reward in policy.rewards
        if any(figure.value is not None for figure in reward.margin_share.values())
    ]
    if rows:
        parts = [f"first {float(part):.0%}" for part in policy.rewards[0].margin_share]
        print_table(console, "Share of the margin", ("", *parts), rows)


def _positions(policy: PolicyGap, console: Console) -> None:
    rows = [
        (
            f"{at.start:,}" if at.end - at.start == 1 else f"{at.start:,}-{at.end - 1:,}",
            at.chosen_logp.value,
            at.rejected_logp.value,
            at.chosen_entropy.value,
            at.rejected_entropy.value,
            f"{at.chosen_logp.n + at.rejected_logp.n:,}",
        )
        for at in policy.positions
    ]
    columns = ("place", "log-prob, chosen", "rejected", "entropy, chosen", "rejected", "tokens")
    print_table(console, "By position, nats per token (intervals: --json)", columns, rows)


def _continued(policy: PolicyGap, console: Console) -> None:
    rows = [(f"{at.tokens:,}", at.chosen, at.rejected, at.delta) for at in policy.delta_q]
    columns = ("tokens", "after chosen", "after rejected", "difference")
    print_table(console, "Expected quality of what follows a prefix", columns, rows)


def _cuts(policy: PolicyGap, console: Console) -> None:
    """What each prefix policy does to ranking and to labels."""
    kinds = [reward for reward in policy.rewards if reward.by_policy]
    labels = {one.policy: one for one in policy.consistency}
    specs = list(dict.fromkeys([*(spec for reward in kinds for spec in reward.by_policy), *labels]))
    rows: list[Sequence[Cell]] = []
    for spec in specs:
        label = labels.get(spec)
        row: list[Cell] = [spec, *(reward.by_policy.get(spec) for reward in kinds)]
        if labels:
            row += [label.holds, label.kept.value] if label else [None, None]
        rows.append(row)
    names = [f"{NAMES.get(reward.kind, reward.kind)} accuracy" for reward in kinds]
    print_table(console, "Prefix policies", ("", *names, *(("label holds", "kept") if labels else ())), rows)


def _drawn(policy: PolicyGap, console: Console) -> None:
    rows = [
        (
            f"{at.temperature:g}" + (" (its own)" if number == 0 else ""),
            f"{at.top_p:g}",
            at.quality,
            at.tokens.value,
            at.unfinished.value,
        )
        for number, at in enumerate(policy.drawn)
    ]
    columns = ("temperature", "top-p", "quality", "tokens", "unfinished")
    print_table(console, "What it writes by itself", columns, rows)


def _together(gap: RewardGap, console: Console) -> None:
    for found in gap.correlations:
        name = NAMES.get(found.reward, found.reward)
        rows: list[Sequence[Cell]] = [
            (visible(policy), accuracy, found.quality.get(policy))
            for policy, accuracy in found.accuracy.items()
        ]
        print_table(console, f"Ranking by {name}'s reward, and generating", ("", "accuracy", "quality"), rows)
        figures = f"Spearman {found.spearman.shown(2)}, Kendall {found.kendall.shown(2)}"
        console.print(Text(f"rank correlation over {found.policies} policies: {figures}", style="dim"))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
