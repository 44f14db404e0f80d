"""``weft boundary``: where the pen changes hands, from annotated text to measured classifiers."""

from __future__ import annotations

from cyclopts import App

app = App(
    name="boundary",
    help="Where the pen changes hands: annotate, train and measure boundary predictors.",
)
app.command("weft.cli.annotate:annotate", name="annotate")
app.command("weft.cli.annotate:compare", name="compare")
app.command("weft.cli.train_boundary:train", name="train")
app.command("weft.cli.eval_boundary:evaluate", name="eval")
