"""``weft run``: a recipe, from prompts to a measured, better model.

What a stage shows while it runs is what its own command shows (:mod:`weft.cli.run_screen`). The graph is
:mod:`weft.recipes`'.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from weft.recipes.costs import Costs
    from weft.recipes.kinds.base import Estimate
    from weft.recipes.plan import Plan
    from weft.recipes.running import Outcome
    from weft.recipes.state import Finding

INTERRUPTED = 130


def run(
    recipe: Path,
    /,
    *,
    output_dir: Annotated[Path | None, Parameter(name=["--output-dir", "-o"])] = None,
    only: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Run a recipe: stages from prompts to a measured model, each only where something changed.

    Stopped or killed, the same command goes on where it was. A stage that fails is
    recorded, what does not need it runs all the same, and the next run tries it again.
    Outputs of other settings are kept, in DIR/replaced.

    Parameters
    ----------
    recipe
        A YAML file; `weft init` writes one to start from.
    output_dir
        Where everything goes, a folder for each stage [runs/NAME, by the recipe's name].
    only
        Only these stages, and what they need: a stage, one of its instances, or a pattern.
    dry_run
        Say what would run, why, and what it costs at most; nothing is run or fetched.
    as_json
        One JSON object on standard output: what would run, or what became of each stage.
    quiet
        No progress of the stages: only their names, and what each comes to.
    """
    from weft.recipes.plan import read_plan

    plan = read_plan(recipe, output_dir)
    if only:
        plan = plan.only(only)
    return _look(plan, as_json=as_json) if dry_run else _run(plan, as_json=as_json, quiet=quiet)


def _run(plan: Plan, *, as_json: bool, quiet: bool) -> int:
    from weft.cli.run_screen import Terminal
    from weft.recipes.running import Became, run

    screen = Terminal(quiet=quiet)
    try:
        outcomes = run(plan, screen)
    except KeyboardInterrupt:
        screen.say("weft: interrupted; the same command goes on in the stage that it was in")
        return INTERRUPTED
    if as_json:
        found = {one.stage: {**asdict(one), "output": str(one.output)} for one in outcomes}
        _write({"recipe": plan.recipe.name, "folder": str(plan.folder), "stages": found})
    else:
        _show_tables(outcomes)
    _summary(outcomes, plan)
    return 1 if any(one.became in (Became.FAILED, Became.NOT_RUN) for one in outcomes) else 0


def _show_tables(outcomes: Sequence[Outcome]) -> None:
    """The tables that the recipe ends with."""
    from weft.recipes.running import Became

    for one in outcomes:
        if one.kind == "table" and one.became in (Became.DONE, Became.UP_TO_DATE):
            sys.stdout.write(one.output.with_suffix(".md").read_text(encoding="utf-8"))
    sys.stdout.flush()


def _summary(outcomes: Sequence[Outcome], plan: Plan) -> None:
    from weft.cli.progress import print_rows
    from weft.recipes.running import Became

    rows: list[tuple[str, str]] = []
    for became in Became:
        found = [one for one in outcomes if one.became is became]
        if found:
            names = ", ".join(one.stage for one in found[:6]) + (", ..." if len(found) > 6 else "")
            rows.append((became.value, f"{len(found):,} of {len(outcomes):,}: {names}"))
    rows += [(f"  {one.stage}", one.message) for one in outcomes if one.became is Became.FAILED]
    slow = sorted((one for one in outcomes if one.seconds >= 1), key=lambda one: -one.seconds)[:6]
    total = sum(one.seconds for one in outcomes)
    rows.append(("seconds", f"{total:,.1f}" + (": " if slow else "") + ", ".join(_took(one) for one in slow)))
    rows += [("report", str(one.output)) for one in outcomes if one.kind == "report" and one.output.exists()]
    rows.append(("all of it in", str(plan.folder)))
    print_rows(rows)


def _took(one: Outcome) -> str:
    return f"{one.stage} {one.seconds:,.1f}"


def _look(plan: Plan, *, as_json: bool) -> int:
    """What would run, and what it costs."""
    from weft.recipes.costs import costs
    from weft.recipes.running import check_folder
    from weft.recipes.state import survey

    check_folder(plan)
    findings = survey(plan)
    found = costs(plan, findings)
    if as_json:
        _write(_as_json(plan, findings, found))
        return 0
    _show(plan, findings, found)
    return 0


def _show(plan: Plan, findings: Mapping[str, Finding], found: Costs) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.HORIZONTALS, title=f"{plan.recipe.name}, in {plan.folder}")
    for name in ("stage", "kind", "state", "costs at most", "figured from"):
        table.add_column(name, overflow="fold")
    for stage in plan.stages:
        finding, estimate = findings[stage.name], found.stages[stage.name]
        state = ": ".join([finding.state.value, "; ".join(finding.because)]).removesuffix(": ")
        costs = _costs(estimate)
        table.add_row(*map(Text, (stage.name, stage.kind.name, state, costs, estimate.how)))
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty():
        console.width = 160
    console.print(table)
    left = [name for name, finding in findings.items() if finding.state.value != "done"]
    lines = [f"{len(left):,} of {len(findings):,} stages would run"]
    lines.append(
        f"{'about' if found.measured else 'at most'} {found.requests:,} requests, {found.tokens:,} tokens "
        f"generated, {found.steps:,} training steps, as far as known"
    )
    if found.unknown:
        lines.append(f"not wholly known: {', '.join(found.unknown)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _costs(one: Estimate) -> str:
    """In words; what costs nothing is left out."""
    parts = [
        _part(one.requests, one.expected_requests, "requests"),
        _part(one.tokens, one.expected_tokens, "tokens"),
        _part(one.steps, None, "steps"),
        "" if not one.training_tokens else _part(one.training_tokens, None, "tokens trained on"),
    ]
    return ", ".join(part for part in parts if part) or "–"


def _part(most: int | None, expected: int | None, what: str) -> str:
    if most == 0 and not expected:
        return ""
    about = "" if expected is None else f"about {expected:,} "
    if most is None:
        return f"{about}{what}" if about else f"{what} unknown"
    return f"{about}(at most {most:,}) {what}" if about else f"{most:,} {what}"


def _as_json(plan: Plan, findings: Mapping[str, Finding], found: Costs) -> dict[str, Any]:
    stages = {
        stage.name: {
            "kind": stage.kind.name,
            "state": findings[stage.name].state.name.lower(),
            "because": list(findings[stage.name].because),
            "needs": list(stage.needs),
            "output": str(stage.output),
            "costs": asdict(found.stages[stage.name]),
        }
        for stage in plan.stages
    }
    totals = {"requests": found.requests, "tokens": found.tokens, "steps": found.steps}
    return {
        "recipe": plan.recipe.name,
        "folder": str(plan.folder),
        "stages": stages,
        "totals": {**totals, "unknown": list(found.unknown)},
    }


def _write(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()
