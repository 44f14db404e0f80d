"""What every benchmark says of itself: machine, versions, commit, command; and where its figures go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

import weft


def arguments(about: str) -> argparse.Namespace:
    """``--quick`` for a run of seconds, ``--json FILE`` for the figures."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """Facts without which a figure means little."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip() or None,
        "weft": weft.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def report(figures: dict[str, Any], path: Path | None) -> None:
    """Print the machine, and write all figures to ``path`` if one is given."""
    facts = machine()
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None))
    if path is not None:
        path.write_text(json.dumps({**figures, "machine": facts}, indent=2) + "\n", encoding="utf-8")
        print(f"figures in {path}")
