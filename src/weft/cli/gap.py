"""``weft gap``: the two gaps, measured before anything is trained."""

from __future__ import annotations

from cyclopts import App

from weft.cli.gap_reward import reward
from weft.cli.gap_style import style

app = App(
    name="gap",
    help="How far data are from a student, and whether ranking well means generating well.",
)
# By themselves, not by name: a command that is not loaded yet is listed without what it does.
app.command(style, name="style")
app.command(reward, name="reward")
