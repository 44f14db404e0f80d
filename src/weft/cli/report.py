"""``weft report``: one HTML file from everything that Weft wrote.

The page is made by :mod:`weft.report`; here it is only asked for, and what it holds is said.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from weft.errors import UserError

if TYPE_CHECKING:
    from weft.report.writing import Written

MOST = 1000
"""Megabytes; no browser opens more."""


def report(
    *paths: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("report.html"),
    title: str | None = None,
    max_mb: float = 5.0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make one self-contained HTML file: a reader of traces, and the figures.

    It opens from disk and makes no request. Traces are coloured by author; with
    readings of `weft gap style`, by the student's surprise, too. Results of
    `weft gap style`, `weft gap reward` and `weft boundary eval --json` become
    plots and tables. Rejected traces, manifests and readings that lie beside a
    file come along.

    Parameters
    ----------
    paths
        Files that Weft wrote, or folders whose files are taken.
    output
        The HTML file; an earlier report is replaced.
    title
        Of the page; left out: from the files' names.
    max_mb
        Megabytes that the page takes at most; traces beyond that are drawn, and the page says so.
    overwrite
        Replace the output even if it is no report of Weft's.
    """
    if not 0 < max_mb <= MOST:
        raise UserError(f"{max_mb:g} megabytes", expected=f"more than 0, at most {MOST:,}", where="--max-mb")
    from weft.report.writing import write_report

    written = write_report(paths, output, title=title, max_megabytes=max_mb, overwrite=overwrite)
    _say(written)
    return 0


def _say(written: Written) -> None:
    """What is in the page, what is not, and where it is."""
    from weft.cli.show import visible
    from weft.report.files import FileKind

    rows: list[tuple[str, str]] = []
    for kind in FileKind:
        found = [file.path.name for file in written.files.of(kind)]
        if found and kind is not FileKind.EMPTY:
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            rows.append((kind.value, ", ".join(found[:4]) + more))
    if skipped := [Path(name).name for name in written.files.skipped]:
        more = f" and {len(skipped) - 4} more" if len(skipped) > 4 else ""
        rows.append(("left out", ", ".join(skipped[:4]) + more))
    if written.of:
        rows.append(("texts", f"{written.texts:,} of {written.of:,} in the page"))
    rows += [("note", note) for note in written.notes]
    rows.append(("report", f"{written.path} ({written.size / 1e6:.2f} MB)"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        sys.stdout.write(f"{name:{width}}  {visible(value)}\n")
