"""The models' card: what made the pair and what it scores, on one page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.micro.curriculum import Author
from weft.micro.figures import TEMPERATURE, Figures
from weft.micro.tasks import TASKS
from weft.micro.world import SPLITS


@dataclass(frozen=True, slots=True)
class Making:
    """How a model was made: what `scripts/train_micro.py` notes beside it."""

    author: Author
    steps: int
    seconds: int
    seed: int
    exposure: float
    parameters: int
    file_bytes: int
    machine: str


def card_text(figures: Figures, makings: Sequence[Making], command: str) -> str:
    """The card in Markdown."""
    return "\n\n".join(
        [_head(makings, command), _skills(figures), _together(figures), _style(figures), CARD_LIMITS]
    )


CARD_LIMITS = """## Limits

Made for tests and experiments on two cores. The models know the five tasks in the wording of `tasks.py` and
nothing else. The student's guesses at products are random by construction, not a natural weakness. Measured
with the plain simulation in `measuring.py`, in float32 after the round trip through bfloat16; other engines
and other numbers of threads differ in the last digits and so in single samples.
"""


def _head(makings: Sequence[Making], command: str) -> str:
    rows = [
        f"| {one.author} | {one.parameters:,} | {one.file_bytes / 1e6:.2f} MB | {one.steps:,} "
        f"| {one.seconds / 60:.0f} min | {one.seed} |"
        for one in makings
    ]
    exposure = next(one.exposure for one in makings if one.author == "student")
    return "\n".join(
        [
            "# The micro world's models",
            "",
            "A teacher that is right and writes tersely, a student that is chatty and cannot multiply beyond",
            "doubling. Qwen3 architecture, head dimension 32, tied embeddings, one byte-level BPE tokenizer",
            "for both, trained from nothing on texts that `weft.micro.curriculum` draws without end, by",
            "",
            f"    {command}",
            "",
            f"on {makings[0].machine}; in float32, saved in bfloat16. Muon for the",
            "layers' matrices, AdamW for the rest, batches of about 4,000 tokens, loss on completions only.",
            "The student meets many foreign sentences first; in the second half of its training",
            f"their share is {exposure:g}, which sets the distance below: more exposure, less distance.",
            "",
            "| model | parameters | weights | steps | time | seed |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _skills(figures: Figures) -> str:
    lines = [
        "## Skills",
        "",
        "Right answers, greedy. The rows count steps or numbers, the difficulty; "
        f"n = {next(iter(figures.grid.values())).n} per cell.",
        "",
        "| difficulty | " + " | ".join(f"{task}: student · teacher" for task in TASKS) + " |",
        "|---" * (len(TASKS) + 1) + "|",
    ]
    for difficulty in sorted({difficulty for _, difficulty, _ in figures.grid}):
        cells = [
            f"{figures.grid[task, difficulty, 'student']} · {figures.grid[task, difficulty, 'teacher']}"
            if (task, difficulty, "student") in figures.grid
            else ""
            for task in TASKS
        ]
        lines.append(f"| {difficulty} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "By split (95% intervals):",
        "",
        f"| split | student, greedy | student, temperature {TEMPERATURE} | teacher, greedy "
        f"| teacher, temperature {TEMPERATURE} |",
        "|---|---|---|---|---|",
    ]
    for split in SPLITS:
        cells = [
            rates[split, author].with_interval()
            for author in ("student", "teacher")
            for rates in (figures.greedy, figures.sampled)
        ]
        lines.append(f"| {split} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Student with a right solution by the teacher in view (finetune, temperature {TEMPERATURE}): "
        f"{figures.with_reference.with_interval()}.",
    ]
    return "\n".join(lines)


def _together(figures: Figures) -> str:
    lines = [
        "## Cooperation",
        "",
        "*Joint*: student and teacher take turns under the oracle boundary, both at temperature "
        f"{TEMPERATURE}, top_p 1; the student writes the answer. *Goes on*: the teacher completes the second",
        "half of right traces in the student's style, sampling alike.",
        "",
        "| split | joint, right | teacher's share of tokens | goes on, right | goes on in that style |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {split} | {figures.joint[split].with_interval()} | {100 * figures.teacher_share[split]:.0f}% "
        f"| {figures.goes_on[split, 'right'].with_interval()} "
        f"| {figures.goes_on[split, 'in style'].with_interval()} |"
        for split in SPLITS
    ]
    return "\n".join(lines)


def _style(figures: Figures) -> str:
    lines = [
        "## Distance between the styles",
        "",
        "The student's mean negative log-likelihood per token (thinking, answer and end of turn), in nats,",
        f"of sampled traces; n = {figures.sampled['finetune', 'student'].n} per cell. Mean length of",
        f"thinking on `finetune`: student {figures.tokens['student']:.0f} tokens, "
        f"teacher {figures.tokens['teacher']:.0f}.",
        "",
        "| split | own | joint | teacher-only | teacher-only above own |",
        "|---|---|---|---|---|",
    ]
    for split, one in figures.distances.items():
        cells = [f"{nats:.2f}" for nats in (one.own, one.joint, one.teacher, one.teacher - one.own)]
        lines.append(f"| {split} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
