"""``weft boundary``: where the pen changes hands, from annotated text to measured classifiers."""

from __future__ import annotations

from cyclopts import App

from weft.cli.annotate import annotate, compare
from weft.cli.eval_boundary import evaluate
from weft.cli.train_boundary import train

app = App(
    name="boundary",
    help="Where the pen changes hands: annotate, train and measure boundary predictors.",
)
# By themselves, not by name: a command that is not loaded yet is listed without what it does.
app.command(annotate, name="annotate")
app.command(compare, name="compare")
app.command(train, name="train")
app.command(evaluate, name="eval")
