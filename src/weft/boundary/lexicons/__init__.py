"""The lexicons that ship with Weft, and the reading of users' own.

::

    english.yaml, chinese.yaml    phrases and patterns with weights
    entries.py                    such a file  ->  Entries, or a message that helps
"""

from weft.boundary.lexicons.entries import LONGEST, Entries, read_entries, shipped

__all__ = ["LONGEST", "Entries", "read_entries", "shipped"]
