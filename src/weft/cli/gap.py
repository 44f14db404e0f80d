"""``weft gap``: the two gaps, measured before anything is trained."""

from __future__ import annotations

from cyclopts import App

app = App(
    name="gap",
    help="How far data are from a student, and whether ranking well means generating well.",
)
app.command("weft.cli.gap_style:style", name="style")
app.command("weft.cli.gap_reward:reward", name="reward")
