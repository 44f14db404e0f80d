"""Draw a trace as the README's picture: what `weft show` prints, as an SVG that needs no network.

python scripts/draw_trace.py traces.jsonl TRACE_ID docs/trace.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from weft.cli.show import render_trace
from weft.store import read_traces

# Readable on light and on dark pages alike: the picture brings its own background.
THEME = TerminalTheme((255, 255, 255), (40, 40, 40), [(0, 0, 0)] * 8, [(0, 0, 0)] * 8)


def draw(source: Path, wanted: str, target: Path) -> None:
    trace = next(trace for trace in read_traces(source) if trace.id == wanted)
    console = Console(
        record=True,
        width=92,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    render_trace(trace, console, wrap=True)
    svg = console.export_svg(title=f"weft show {source.name}", theme=THEME)
    # Rich's template links fonts from the network; a local monospace face does.
    svg = re.sub(r"<!--.*?-->|@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    svg = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
    target.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
