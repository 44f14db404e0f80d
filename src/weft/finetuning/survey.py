"""What the rows of a run hold, said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Survey:
    """What the rows hold. All lengths in tokens."""

    texts: int
    """That are trained on."""
    tokens: int
    """Prompts and completions."""
    learned: int
    """Those that the loss is of."""
    completion: Mapping[str, int]
    """Tokens of the completions by author: student, teacher, unknown."""
    longest: int
    median: float
    limit: int
    """A longer text is left out: ``max_length``, or what the model can hold if that is less."""
    left: Mapping[str, int]
    """Rows that are left out, by reason."""
    packed: bool
    why: str
    """Why texts are packed, or why they are not."""

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return asdict(self)


def shown(survey: Survey) -> list[tuple[str, str]]:
    """Names and values, for a table."""
    written = sum(survey.completion.values())
    by_author = ", ".join(
        f"{count:,} by {'nobody known' if name == 'unknown' else f'the {name}'}"
        for name, count in survey.completion.items()
        if count
    )
    rows = [
        ("texts", f"{survey.texts:,}"),
        ("tokens", f"{survey.tokens:,}, {survey.tokens - written:,} of them prompts"),
        ("of completions", by_author),
        ("learned", f"{survey.learned:,} ({survey.learned / survey.tokens:.0%} of all)"),
        ("length", f"median {survey.median:,.0f}, longest {survey.longest:,}"),
        ("packed", f"{'yes' if survey.packed else 'no'}: {survey.why}"),
    ]
    rows += [("left out", one) for one in left_out(survey)]
    return [(name, value) for name, value in rows if value]


def left_out(survey: Survey) -> list[str]:
    """How many rows are left out, and why."""
    over = {"too long": f", over {survey.limit:,} tokens"}
    return [f"{count:,} {reason}{over.get(reason, '')}" for reason, count in survey.left.items()]
