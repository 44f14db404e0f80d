"""Prompts: rows of a file or data set, checked, then streamed as :class:`~weft.records.Prompt` records.

::

    files.py    bytes of JSONL, JSON, CSV, Parquet or a data set  ->  rows, each with its place
    rows.py     one row                                           ->  one Prompt, or a message that helps
    source.py   all rows                                          ->  ids, duplicates, digest; the stream
"""

from weft.prompts.source import PromptSource, open_prompts, sample_id

__all__ = ["PromptSource", "open_prompts", "sample_id"]
