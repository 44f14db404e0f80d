"""Records on disk: finished ones are kept, whatever ends the run; the same command goes on.

::

    files.py       the system's errors in terms of what to do; replacing a file at once
    lines.py       reading JSON lines, each with its place
    manifest.py    what made the records, and what may not change between runs
    output.py      an output before it is written: its names and its lock
    rows.py        the two append-only files: open, repair, append, read
    traces.py      the same for traces
"""

from weft.store.manifest import (
    MANIFEST_VERSION,
    Manifest,
    Run,
    differences,
    first_day,
    manifest_path,
    read_manifest,
)
from weft.store.output import check_output, check_source, rejected_path
from weft.store.rows import Kind, RowStore, read_rows
from weft.store.traces import TraceStore, read_traces

__all__ = [
    "MANIFEST_VERSION",
    "Kind",
    "Manifest",
    "RowStore",
    "Run",
    "TraceStore",
    "check_output",
    "check_source",
    "differences",
    "first_day",
    "manifest_path",
    "read_manifest",
    "read_rows",
    "read_traces",
    "rejected_path",
]
