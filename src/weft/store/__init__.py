"""Traces on disk: finished ones are kept, whatever ends the run; the same command goes on.

::

    files.py       the system's errors in terms of what to do; replacing a file at once
    manifest.py    what made the traces, and what may not change between runs
    traces.py      the two append-only files: open, repair, append, read
"""

from weft.store.manifest import MANIFEST_VERSION, Manifest, Run, differences, manifest_path, read_manifest
from weft.store.traces import TraceStore, check_output, read_traces, rejected_path

__all__ = [
    "MANIFEST_VERSION",
    "Manifest",
    "Run",
    "TraceStore",
    "check_output",
    "differences",
    "manifest_path",
    "read_manifest",
    "read_traces",
    "rejected_path",
]
