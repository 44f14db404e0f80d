"""How like the student's own traces a source is: the style gap's section on similarity.

A cosine says something beside another one only: two texts that the student itself wrote for one prompt are
not equal either, so their cosine, where it was measured, is the line to read the others against.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.gap.distance.result import Similarity, StyleGap
from weft.report.blocks import Note, Part, Plot, Table, Value, listed
from weft.report.charts import Row, dots

TITLE = "Similarity to the student's own traces"
Measured = Sequence[tuple[str, Similarity]]
"""Sources by name."""


def similarity(gap: StyleGap, names: Sequence[str]) -> Part:
    """TF-IDF cosine and the two-sample test, or why there are none.

    Args:
        names: of the sources, as the page calls them.
    """
    measured = [
        (name, source.similarity)
        for name, source in zip(names, gap.sources, strict=True)
        if source.similarity is not None
    ]
    if not measured:
        why = (
            "the student's own traces were not given (--reference)"
            if gap.reference is None
            else "no source shares prompts with the student's own traces"
        )
        return Part(TITLE, (Note(f"Not measured: {why}."),))
    table = _table(measured)
    svgs = {"TF-IDF cosine": _cosines(measured), "Two-sample accuracy": _accuracies(measured)}
    return Part(TITLE, tuple(Plot(title, svg, table) for title, svg in svgs.items() if svg) or (table,))


def _own_known(measured: Measured) -> bool:
    return any(found.own_cosine.value is not None for _, found in measured)


def _table(measured: Measured) -> Table:
    beside = (
        "Read it beside that of two of the student's own texts of one prompt, not against 1: a source that "
        "is the student's own comes to that. "
        if _own_known(measured)
        else "Read it against other sources, not against 1: two texts of the student's own differ, too (by "
        "how much was not measured: it takes two of its texts for a prompt). "
    )
    return Table(
        "Similarity to the student's own traces of the same prompts",
        ("source", "prompts", "TF-IDF cosine", "of two own texts", "two-sample accuracy"),
        tuple(
            (
                name,
                f"{found.prompts:,}",
                Value(found.tfidf_cosine),
                Value(found.own_cosine),
                Value(found.two_sample_accuracy),
            )
            for name, found in measured
        ),
        note=f"The cosine is between bags of tokens. {beside}The accuracy is that of a linear model that "
        "tells the two apart on held-out prompts: 0.5 is indistinguishable, 1 is told apart always.",
    )


def _cosines(measured: Measured) -> str:
    about = "TF-IDF cosine with 95% intervals: " + listed(
        [(name, one.tfidf_cosine) for name, one in measured]
    )
    axis = "TF-IDF cosine"
    if _own_known(measured):
        about += " Of two own texts: " + listed([(name, one.own_cosine) for name, one in measured])
        axis += " (dashed: two of the student's own texts of one prompt)"
    return dots(
        "TF-IDF cosine",
        about,
        [("TF-IDF cosine", 0)],
        [Row(name, ((0, one.tfidf_cosine),), level=one.own_cosine.value) for name, one in measured],
        x=axis,
    )


def _accuracies(measured: Measured) -> str:
    figures = [(name, one.two_sample_accuracy) for name, one in measured]
    return dots(
        "Two-sample accuracy",
        f"Two-sample accuracy with 95% intervals: {listed(figures)}",
        [("two-sample accuracy", 0)],
        [Row(name, ((0, figure),)) for name, figure in figures],
        x="two-sample accuracy (dashed: cannot be told apart)",
        level=0.5,
    )
