"""From paths to the page: reads, draws a sample where it must, and writes one file.

Invariants
    - The same files give the same bytes: no time of now, no order of a set.
    - An output that is there and is no report is not touched unless asked; no input is ever replaced.

It does not know what the page looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import UserError
from weft.evaluation.result import Evaluation
from weft.gap.distance.result import StyleGap
from weft.gap.ranking.result import RewardGap
from weft.recipes.table import Table
from weft.report.assembly import GENERATOR, Page, Results
from weft.report.catalogue import catalogue
from weft.report.files import MANIFEST, FileKind, Files, find_files, read_object
from weft.report.loading import NOTHING, load
from weft.report.sampling import choose
from weft.store import read_manifest
from weft.store.files import replace_file, writing

MEGABYTE = 1_000_000
MARGIN = 20_000
"""Bytes kept free of texts: links to them, and counts, are in the page as well."""
_KNOWN_WITHIN = 2_000


@dataclass(frozen=True, slots=True)
class Written:
    """What a report holds."""

    path: Path
    size: int
    """Bytes."""
    texts: int
    """In the page."""
    of: int
    """In the files."""
    files: Files
    results: tuple[str, ...]
    """Titles of the sections with results."""
    notes: tuple[str, ...]


def write_report(
    paths: Sequence[Path],
    output: Path,
    *,
    title: str | None = None,
    max_megabytes: float = 5.0,
    overwrite: bool = False,
) -> Written:
    """Make one self-contained HTML file from anything that Weft wrote.

    Args:
        paths: files, or folders whose files are taken.
        output: the file; an earlier report is replaced.
        title: of the page; left out: from the files' names.
        max_megabytes: the page is no larger; what does not fit is sampled.
        overwrite: replace the output even if it is no report.

    Raises:
        UserError: a file is missing, unknown or broken, the output may not be replaced, or the results alone
            are larger than the page may be.
        RunError: the disk is full or fails.
    """
    files = find_files(paths, output)
    check_output(output, files, overwrite=overwrite)
    results = _read(files)
    outliers = {
        (source.label, one.id): one.z
        for gap in results.styles.values()
        for source in gap.sources
        for one in source.verdict.outliers
    }
    found = catalogue(files, outliers, results.measured())
    named = title or _title(files, results)
    page = Page(named, files, found, results)
    limit = int(max_megabytes * MEGABYTE)
    budget = limit - len(page.html(NOTHING)) - MARGIN
    if budget < 0:
        raise UserError(
            "the results alone are larger than the page may be",
            where="--max-mb",
            expected=f"{max_megabytes - budget / MEGABYTE:.1f} or more",
        )
    choice = choose(found.entries, budget)
    loaded = load(choice, budget)
    html = page.html(loaded)
    if len(html) > limit:
        loaded = load(choice, budget - (len(html) - limit))
        html = page.html(loaded)
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, [html])
    sections = [*results.outcomes(), *results.sections(lambda source, id: None)]
    shown = tuple(section.title for section in sections)
    return Written(output, len(html), len(loaded.texts), len(found.entries), files, shown, page.notes(loaded))


def check_output(output: Path, files: Files, *, overwrite: bool) -> None:
    """Whether the output may be written.

    Raises:
        UserError: it may not.
    """
    if not output.exists():
        return
    if any(file.path.exists() and output.samefile(file.path) for file in files.found):
        raise UserError("the output is one of the inputs", where=str(output), remedy="choose another output")
    if output.is_dir():
        raise UserError("it is a folder", where=str(output), remedy="name a file: -o report.html")
    if overwrite:
        return
    with writing(output), output.open("rb") as file:
        start = file.read(_KNOWN_WITHIN)
    if start and GENERATOR.encode() not in start:
        raise UserError(
            "the file exists and is no report of Weft's",
            where=str(output),
            remedy="choose another output, or --overwrite",
        )


def _read(files: Files) -> Results:
    """All results, typed."""

    def results_of(kind: FileKind, read: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for file in files.of(kind):
            try:
                found[str(file.path)] = read(read_object(file.path))
            except ValueError as error:
                raise UserError(
                    f"not a whole {kind.value}: {error}",
                    where=str(file.path),
                    remedy="measure it again with this Weft",
                ) from error
        return found

    manifests = {}
    for file in files.of(FileKind.MANIFEST):
        rows = file.path.with_name(file.path.name.removesuffix(MANIFEST) + ".jsonl")
        manifest = read_manifest(rows)
        if manifest is not None:
            manifests[file.path.name] = manifest
    return Results(
        results_of(FileKind.STYLE_GAP, StyleGap.from_json),
        results_of(FileKind.REWARD_GAP, RewardGap.from_json),
        results_of(FileKind.BOUNDARY, dict),
        manifests,
        results_of(FileKind.EVALUATION, Evaluation.from_json),
        results_of(FileKind.TABLE, Table.from_json),
    )


def _title(files: Files, found: Results) -> str:
    """The tables' own titles, or from the names of what was named."""
    if found.tables:
        return _some([table.title for table in found.tables.values()])
    results = (
        FileKind.EVALUATION,
        FileKind.STYLE_GAP,
        FileKind.REWARD_GAP,
        FileKind.BOUNDARY,
    )
    said = files.of(FileKind.TRACES) or files.of(*results) or files.found
    return _some([file.label or file.path.stem for file in said])


def _some(names: Sequence[str]) -> str:
    kept = list(dict.fromkeys(names))
    return ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
