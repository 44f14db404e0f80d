"""The page: template, style sheet and script as one file.

Invariants
    - Its policy forbids every request; its one script and its one style sheet are known by digest.
    - Text from outside is escaped by the template, hostile characters by their code; the texts of the reader
      are JSON in a script element that is no program, and are shown as text only.

It does not know files, nor how a section is made.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files as resources
from typing import Any

import jinja2
from markupsafe import Markup

from weft import __version__
from weft.evaluation.result import Evaluation
from weft.gap.distance.result import Advice, StyleGap, Verdict
from weft.gap.made import Made
from weft.gap.ranking.result import RewardGap
from weft.recipes.table import Table as RecipeTable
from weft.report.blocks import DASH, Section, Table
from weft.report.boundaries import boundary_section
from weft.report.catalogue import Catalogue, Entry, Measured
from weft.report.distance import OWN, WORDS, Keys, distance_section, is_own
from weft.report.evaluating import evaluation_section
from weft.report.files import FileKind, Files
from weft.report.loading import Loaded, in_script
from weft.report.made import made_section
from weft.report.outside import shown
from weft.report.ranking import ranking_section
from weft.report.sampling import LONG, SHORT
from weft.report.tabled import table_section
from weft.report.texts import short
from weft.store import Manifest

GENERATOR = '<meta name="generator" content="Weft report'
"""By which a report is known; it stands within the first bytes of the file."""

SCRIPTS = ("packing.js", "theme.js", "report.js")
"""Parts of the page's one script."""
LISTED = 100
"""Files that were left out which are named."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured, by the name of its file."""

    styles: Mapping[str, StyleGap]
    rewards: Mapping[str, RewardGap]
    boundaries: Mapping[str, Mapping[str, Any]]
    manifests: Mapping[str, Manifest]
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    tables: Mapping[str, RecipeTable] = field(default_factory=dict)

    def verdicts(self) -> list[tuple[str, str, Verdict]]:
        """For the top of the page: section, source, and its verdict, where there is one."""
        return [
            (_id("style-gap", at), source.label, source.verdict)
            for at, gap in enumerate(self.styles.values())
            for source in gap.sources
            if source.verdict.advice is not Advice.UNKNOWN
        ]

    def measured(self) -> dict[str, Measured]:
        """Sources, by label."""
        return {
            source.label: Measured(source.file, source.strategy, is_own(style, source))
            for style in reversed(list(self.styles.values()))
            for source in style.sources
        }

    def outcomes(self) -> list[Section]:
        """What readers come for: how good the models are. They stand before the texts."""
        found = [table_section(table, _id("table", at)) for at, table in enumerate(self.tables.values())]
        if len(found) > 1:
            found = [replace(section, short=section.title) for section in found]
        if self.evaluations:
            found.append(evaluation_section(self.evaluations, "evaluation"))
        return found

    def sections(self, keys: Keys) -> list[Section]:
        """All others; they stand behind the texts."""
        found: list[Section] = []
        for at, style in enumerate(self.styles.values()):
            found.append(distance_section(style, keys, _id("style-gap", at)))
        for at, reward in enumerate(self.rewards.values()):
            found.append(ranking_section(reward, _id("reward-gap", at)))
        for at, (name, boundary) in enumerate(self.boundaries.items()):
            found.append(boundary_section(boundary, name, _id("boundary", at)))
        made: dict[str, Made] = {name: gap.made for name, gap in self.styles.items()}
        made |= {name: gap.made for name, gap in self.rewards.items()}
        made |= {name: evaluation.made for name, evaluation in self.evaluations.items()}
        made |= {name: table.made for name, table in self.tables.items()}
        last = made_section(made, self.manifests, "made")
        return [*found, last] if last is not None else found


@dataclass(frozen=True, slots=True)
class Page:
    """A report but for its texts."""

    title: str
    files: Files
    found: Catalogue
    results: Results

    def html(self, loaded: Loaded) -> bytes:
        """The file's bytes, with these texts."""
        style, script = _part("report.css"), "".join(map(_part, SCRIPTS))
        policy = (
            f"default-src 'none'; style-src 'sha256-{_digest(style)}'; "
            f"script-src 'sha256-{_digest(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
        )
        own = in_script([short(source) for source in sorted(self.found.own)])
        prompts = ",".join(f"{in_script(key)}:{prompt}" for key, prompt in loaded.prompts)
        html = (
            _environment()
            .get_template("report.html")
            .render(
                title=self.title,
                generator=Markup(GENERATOR),
                version=__version__,
                policy=Markup(policy),
                style=Markup(style),
                script=Markup(script),
                data=Markup(f'{{"texts":[{",".join(loaded.texts)}],"prompts":{{{prompts}}},"own":{own}}}'),
                any_texts=bool(self.found.entries),
                verdicts=self.results.verdicts(),
                words=WORDS,
                summary=self._summary(loaded),
                files=self._files(),
                notes=self.notes(loaded),
                outcomes=self.results.outcomes(),
                sections=self.results.sections(lambda source, id: loaded.keys.get((source, id))),
            )
        )
        return html.encode("utf-8", "backslashreplace")

    def notes(self, loaded: Loaded) -> tuple[str, ...]:
        """What a reader of the page has to know of it, in sentences."""
        notes = list(self.found.notes)
        here, total = len(loaded.texts), len(self.found.entries)
        if here < total:
            notes.append(
                f"{here:,} of {total:,} texts are in this page; all would not fit. Outliers come first, "
                "then some of every source, strategy and status, then prompts drawn by a digest, with all "
                "their texts. Figures are over all texts that were measured."
            )
        if loaded.clipped:
            limit = LONG if here == total else SHORT
            texts = "One text is" if loaded.clipped == 1 else f"{loaded.clipped:,} texts are"
            notes.append(f"{texts} longer than {limit:,} characters and shown without the middle.")
        return tuple(notes)

    def _summary(self, loaded: Loaded) -> Table | None:
        """Texts by source and strategy."""
        if not self.found.entries:
            return None
        rows: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.found.entries:
            rows.setdefault((entry.source, entry.strategy), []).append(entry)
        carried = Counter((entry.source, entry.strategy) for entry in loaded.entries)
        return Table(
            "Texts by source",
            ("source", "strategy", "texts", "prompts", "complete", "others", "in this page"),
            tuple(
                (
                    short(f"{source}{OWN}" if source in self.found.own else source),
                    short(strategy) or DASH,
                    f"{len(entries):,}",
                    f"{len({entry.prompt for entry in entries}):,}",
                    f"{sum(entry.status == 'complete' for entry in entries):,}",
                    _others(entries),
                    f"{carried[source, strategy]:,}",
                )
                for (source, strategy), entries in rows.items()
            ),
            open=not (self.results.tables or self.results.evaluations),
        )

    def _files(self) -> Table:
        rows = [
            (str(file.path), file.kind.value) for file in self.files.found if file.kind is not FileKind.EMPTY
        ]
        rows += [(name, "nothing that a report shows") for name in self.files.skipped[:LISTED]]
        return Table("Files", ("file", "holds"), tuple(rows), open=False)


def _others(entries: Sequence[Entry]) -> str:
    """How those that are not complete ended."""
    counts = Counter(entry.status for entry in entries if entry.status != "complete")
    return (
        ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in sorted(counts.items()))
        or "none"
    )


def _id(name: str, at: int) -> str:
    return name if not at else f"{name}-{at + 1}"


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    return resources("weft.report").joinpath("page", name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _part(f"{name}.jinja")),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment
