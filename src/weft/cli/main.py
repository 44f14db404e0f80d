"""The command ``weft``: it finds the subcommand, runs it, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 a failure, 2 a mistake of the user's, 130 interrupted.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from weft import __version__

COMMANDS = {
    "synth": ("weft.cli.synth:synth", "Write student-consistent traces for prompts."),
    "verify": ("weft.cli.verify:verify", "Say which traces are right, and keep those."),
    "doctor": ("weft.cli.doctor:doctor", "Ask engines what they can do, before you rely on them."),
    "eval": ("weft.cli.eval:evaluate", "Say how good a model is: accuracy, pass@k, how it compares."),
    "boundary": (
        "weft.cli.boundary:app",
        "Where the pen changes hands: annotate, train and measure predictors.",
    ),
    "gap": (
        "weft.cli.gap:app",
        "How far data are from a student, and whether ranking well means generating well.",
    ),
    "sft": ("weft.cli.sft:sft", "Fine-tune a model on traces, or on one author's tokens of them."),
    "pairs": ("weft.cli.pairs:app", "Make preference pairs: from samples, data, or what was thrown away."),
    "align": ("weft.cli.align:align", "Train on preference pairs, cut to what decides them."),
    "show": ("weft.cli.show:show", "Print traces, each author in its own colour."),
    "report": ("weft.cli.report:report", "Make one HTML file of traces and figures, to read and to show."),
    "card": ("weft.cli.card:card", "Print the card of data or of a model, or publish them with it."),
    "run": ("weft.cli.run:run", "Run a recipe: from prompts to a measured, better model."),
    "init": ("weft.cli.init:init", "Write a recipe to start from."),
    "demo": ("weft.cli.demo:demo", "Run the whole job on the embedded micro world."),
    "micro": ("weft.cli.micro:app", "The embedded micro world: prompts for it, and what its models score."),
}
"""Subcommands: where each is implemented, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in ([], ["--help"], ["-h"], ["help"]):
        # The list of commands alone needs none of the libraries that parse and run them.
        sys.stdout.write(_overview())
        return 0
    if given in (["--version"], ["-V"]):
        sys.stdout.write(f"weft {__version__}\n")
        return 0
    from weft.errors import WeftError

    try:
        return _run(given)
    except WeftError as error:
        from weft.cli.show import visible

        sys.stderr.write(f"weft: {visible(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(
            "weft: interrupted; what was finished is kept, the same command (without --overwrite) goes on\n"
        )
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough (`weft show … | head`).
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        sys.stderr.write(f"weft: the output cannot be written: {error.strerror}\n")
        return 1


def run() -> None:
    """Entry point of the installed command. What the output's encoding lacks is written by code.

    A cluster's SIGTERM ends a run as Ctrl-C does: files are closed and the summary is printed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    from weft.cli.interrupts import heeded

    with heeded():
        code = main()
    raise SystemExit(code)


def _run(given: Sequence[str]) -> int:
    from cyclopts import App, CycloptsError
    from rich.console import Console

    app = App(
        name="weft",
        help="LLM post-training that stays on the model's own path.",
        version=f"weft {__version__}",
        suppress_keyboard_interrupt=False,
        help_format="plaintext",
    )
    for name, (where, _) in COMMANDS.items():
        app.command(where, name=name)
    try:
        code = app(
            given,
            exit_on_error=False,
            print_error=True,
            error_console=Console(stderr=True),
            result_action="return_value",
        )
    except CycloptsError:
        return 2
    return code if isinstance(code, int) else 0


def _overview() -> str:
    lines = ["Usage: weft COMMAND [OPTIONS]", "", "LLM post-training that stays on the model's own path.", ""]
    lines += [f"  {name:10}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "`weft COMMAND --help` explains a command, `weft --version` says the version.", ""]
    )
