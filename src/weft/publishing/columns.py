"""What the columns of Weft's rows hold, in a few words each, for cards.

A column that is not here is one that somebody else's data brought; nothing is said of it.
"""

from __future__ import annotations

_COLUMNS = {
    "schema": "version of the row's form",
    "id": "of the row",
    "prompt": "chat messages before the response",
    "completion": "the assistant's message, thinking in the form that the student's training template keeps",
    "answer": "the right answer; empty where none was given",
    "has_answer": "whether an answer was given",
    "status": "how it ended",
    "reason": "why it is not complete; empty where it is",
    "spans": "who wrote what, in order: author and text; joined they are thinking and response",
    "thinking_spans": "how many of the first spans are thinking",
    "training_template": "the chat template to train with; empty: the student's own",
    "usage": "tokens by author, requests, turns, seconds",
    "strategy": "how the models worked together",
    "engines": "the models as they were named",
    "sampling": "how tokens were drawn, by author, as JSON",
    "seed": "of all draws",
    "weft": "version",
    "prompt_id": "of the prompt; its samples have it in common",
    "sample": "number of this response to its prompt",
    "extra": "all other columns of the prompt's row, as JSON",
    "proposals": "what hand-overs threw away: place, author, text",
    "chat_template_kwargs": "arguments of the student's chat template",
    "mark": "kept, or why not",
    "verdict": "right or wrong, by the verifier",
    "verdict_reason": "why it could not be verified, or why it is wrong",
    "verdict_said": "what was compared, or what failed",
    "verifier": "which gave the verdict",
    "duplicate_of": "the row that this one nearly repeats; empty if none",
    "contaminated_by": "the benchmark's row whose words it holds; empty if none",
    "chosen": "the better response",
    "rejected": "the worse response",
    "chosen_id": "the trace that the better response is of",
    "rejected_id": "the trace that the worse response is of",
    "by": "what says which is better",
    "made_from": "a digest of what decides the pair",
    "chosen_quality": "of the better response",
    "rejected_quality": "of the worse response",
    "chosen_length": "of the better response, the student's",
    "rejected_length": "of the worse response, the student's",
    "margin": "by how much the better one is better",
    "trace": "the trace that both continuations are of",
    "at": "characters of the trace before both",
    "student_text": "the student's continuation, which the hand-over threw away",
    "teacher_text": "the teacher's continuation, which stands in the trace",
    "vocabulary": "fingerprint of the vocabulary that the ids are of",
    "chosen_by": "who wrote the better continuation",
    "student_success": "share of texts that came out right, continued from the student's",
    "teacher_success": "share of texts that came out right, continued from the teacher's",
    "student_texts": "texts behind that share",
    "teacher_texts": "texts behind that share",
    "prompt_ids": "token ids before both continuations",
    "chosen_ids": "token ids of the better continuation, without an end",
    "rejected_ids": "token ids of the worse continuation, without an end",
}


def described(column: str) -> str:
    """What a column holds; ``""`` for one that is not Weft's."""
    return _COLUMNS.get(column, "")
