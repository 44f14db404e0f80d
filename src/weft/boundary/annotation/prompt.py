"""What the annotator is asked, in words of our own; users may bring theirs.

It does not know how answers are read (:mod:`weft.boundary.annotation.parsing` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weft.errors import UserError
from weft.records import Message

PLACE = "{text}"
"""Where a template takes the text."""

TEMPLATE = """\
You will read a short stretch of what a language model wrote while it was thinking about a problem. It may \
begin or end in the middle of a thought. Mark in it what is STYLE: the words that carry a manner of thinking \
aloud and no content of the problem.

STYLE is
- transitions and connectives that lead from one thought to the next: "So,", "Now,", "First,", "On the other \
hand,", "接下来，"
- fillers and interjections: "Okay,", "Hmm,", "Well,", "嗯，"
- hesitation, doubt and second thoughts: "Wait,", "Actually, no.", "I'm not sure about this.", "不对，"
- tone, comments and self-encouragement: "Great!", "That looks right.", "Interesting."
- the thinker's talk to itself about what to do: "let me think", "let me check that again", "我们来看一下"

NOT style is everything that could be right or wrong about the problem: deduction, calculation, formulas, \
facts, definitions, conditions, code, quotations of the problem, results. Where a sentence has both, copy \
out only the words of style.

Answer with a JSON list of strings and nothing else: no explanation, no code fence, no keys. Each string is \
one span of style
- copied character for character from the text, with its punctuation, never reworded, shortened or corrected;
- made of whole words;
- in the order in which the spans stand in the text; two equal spans are two strings; spans do not overlap.
If nothing in the text is style, answer [].

Example text:
Okay, so I need the area. The sides are 3 and 4, so it is 12. Hmm, wait, is it a triangle? Then it is 6.
Answer:
["Okay, so", "Hmm, wait,"]

Example text:
因为 x 是偶数，所以 x² 能被 4 整除。让我再检查一下，x = 6 时 36 / 4 = 9，没问题。
Answer:
["让我再检查一下，", "没问题。"]

Example text:
def area(a, b): return a * b
Answer:
[]

The text:
{text}
Answer:
"""

AGAIN = """\
That answer cannot be used: {reason}

Look at the text again and answer with the JSON list of strings alone. Every string must be copied character \
for character from the text, in the order of the text."""

LONGEST_ANSWER = 4_000
"""Characters of a refused answer that the annotator is shown again; a loop may be much longer."""


def read_template(file: Path) -> str:
    """A user's own prompt.

    Raises:
        UserError: it cannot be read, or does not say where the text goes.
    """
    try:
        template = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot be read: {said}", where=str(file), expected="a prompt in UTF-8") from error
    if template.count(PLACE) != 1:
        raise UserError(
            f"{PLACE} stands in it {template.count(PLACE)} times",
            where=str(file),
            expected=f"a prompt with {PLACE} in the one place where the text goes",
        )
    return template


def first_question(template: str, text: str) -> tuple[Message, ...]:
    """The messages that ask for the style of ``text``."""
    before, _, after = template.partition(PLACE)
    return (Message("user", before + text + after),)


def second_question(
    asked: Sequence[Message], answer: str, reason: str, *, again: str = AGAIN
) -> tuple[Message, ...]:
    """The messages that ask again, with the answer and what was wrong with it.

    A message without text, which some chat templates refuse, is never among them.

    Args:
        again: what is said to it, with ``{reason}`` where that goes.
    """
    remark = again.format(reason=reason)
    if not answer.strip():
        *before, last = asked
        return (*before, Message(last.role, f"{last.content}\n\n{remark}"))
    if len(answer) > LONGEST_ANSWER:
        answer = answer[:LONGEST_ANSWER] + " …"
    return (*asked, Message("assistant", answer), Message("user", remark))
