"""The program in a response: its last block of code between fences."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

PYTHON_NAMES = frozenset({"python", "py", "python3"})
_FENCE = re.compile(r"([ \t]*(?:>[ \t]*)?)(`{3,}|~{3,})[ \t]*([^`\r\n]*)")


def last_program(response: str, languages: Collection[str] = ()) -> str | None:
    """The last block in one of the languages; else the last that names none; else the last; else ``None``.

    A block that is never closed runs to the end of the response. A fence may be indented, as in a list; as
    much indentation is taken from each line of its block.

    Args:
        languages: lower-case names after the opening fence; empty: the last block whatever it names.
    """
    blocks = list(_blocks(response))
    asked = [text for name, text in blocks if not languages or name in languages]
    unnamed = [text for name, text in blocks if not name]
    return next((texts[-1] for texts in (asked, unnamed, [text for _, text in blocks]) if texts), None)


def _blocks(response: str) -> Iterator[tuple[str, str]]:
    """Every block's language (empty if it names none) and text."""
    fence = indent = name = ""
    block: list[str] = []
    for line in response.split("\n"):
        found = _FENCE.fullmatch(line.rstrip())
        if not fence:
            if found:
                indent, fence, info = found.groups()
                name = info.split()[0].lower().strip("{}.") if info.split() else ""
                block = []
        elif found and found[2].startswith(fence) and not found[3]:
            yield name, "\n".join(block) + "\n"
            fence = ""
        else:
            block.append(line.removesuffix("\r").removeprefix(indent) if indent else line.removesuffix("\r"))
    if fence:
        yield name, "\n".join(block) + "\n"
