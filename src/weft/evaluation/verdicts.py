"""A task's responses with their verdicts, as `weft verify` keeps them.

It does not know figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weft.gap.ranking.measure import Observer
from weft.store import rejected_path
from weft.verify.base import Judgement, Verifier
from weft.verify.marked import read_marked
from weft.verify.marking import Silence, verify_with
from weft.verify.settings import VerifySettings


class _Told(Silence):
    """The verdicts' observer, in terms of an evaluation's; responses are counted when they are written."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def noted(self, text: str) -> None:
        self._observer.noted(text)


async def verdicts(
    verifier: Verifier,
    settings: VerifySettings,
    traces: Path,
    *,
    overwrite: bool = False,
    observer: Observer,
    command: Sequence[str] = (),
) -> dict[str, Judgement]:
    """Judge the complete traces of a file that have no verdict yet.

    Returns:
        All verdicts, by the trace's id.

    Raises:
        UserError: the verdicts there are of other traces, or by another verifier.
        RunError: the disk or the verifier fails for good; what was finished is on disk.
    """
    output = verified_path(traces)
    if traces.stat().st_size:
        await verify_with(
            verifier,
            settings,
            [traces],
            output,
            overwrite=overwrite,
            observer=_Told(observer),
            command=command,
        )
    return read_verdicts(output)


def verified_path(traces: Path) -> Path:
    """Where the verdicts on a file of traces are."""
    return traces.with_suffix(".verified.jsonl")


def read_verdicts(path: Path) -> dict[str, Judgement]:
    """The verdicts in a file and among its rejected ones, by the trace's id."""
    return {
        marked.trace.id: marked.judgement
        for file in (path, rejected_path(path))
        if file.exists()
        for marked in read_marked(file)
        if marked.judgement is not None
    }
