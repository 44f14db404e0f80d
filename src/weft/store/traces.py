"""Traces on disk: a store of rows, each made from one prompt; see :mod:`weft.store.rows`.

::

    traces.jsonl             complete traces
    traces.rejected.jsonl    all others, with the reason and what had been written
    traces.manifest.json     settings, versions, machine, runs

This module does not know engines or strategies, nor what the settings mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weft.records import Prompt, Status, Trace
from weft.store.manifest import Manifest
from weft.store.rows import Kind, RowStore, read_rows


def _content(prompt: Prompt) -> Any:
    """All of a prompt that its trace's row repeats, so that a resumed run writes equal rows."""
    return [[message.to_dict() for message in prompt.messages], prompt.answer, prompt.extra]


TRACES = Kind(
    name="trace",
    maker="weft synth",
    source="prompt",
    from_row=Trace.from_row,
    to_row=Trace.to_row,
    id=lambda trace: trace.id,
    made_from=lambda trace: _content(trace.prompt),
    status=lambda trace: trace.status,
    complete=Status.COMPLETE,
    again=Status.ENGINE_ERROR,
)


def read_traces(path: Path) -> Iterator[Trace]:
    """The traces of a file, streamed, in the order in which they were finished.

    Raises:
        UserError: there is no such file, or a line is no trace of this version, or the last line is torn.
    """
    return read_rows(TRACES, path)


class TraceStore(RowStore[Trace, Status]):
    """The traces of one output, open for one run. A context manager: leaving it ends the run."""

    def __init__(self, path: Path, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Open or create an output, repair it, and begin a run; see :class:`RowStore`."""
        super().__init__(TRACES, path, manifest, overwrite=overwrite)

    def is_done(self, trace_id: str, prompt: Prompt) -> bool:
        """Whether the trace is finished: complete, or rejected for another reason than an engine's failure.

        Raises:
            UserError: it was made from another prompt.
        """
        return self.is_finished(trace_id, _content(prompt), prompt.where)
