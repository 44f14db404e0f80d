"""The oracle boundary: which words of the micro world are style and which are capability.

A *word* is a maximal run of text without white space, together with the white space before it. Each word
is one or the other by itself, without a look at its neighbours, so the oracle can judge a word the moment it
is complete. Both styles of the world are written so that no word is half of each: punctuation, operators
and numbers stand apart.

Capability is what can be right or wrong: numbers, operators, and the words that state a result. All else is
style, and so is any word the world does not know, unless it holds a digit or an operator.
"""

from __future__ import annotations

OPERATORS = frozenset("+-*/%=<>^×÷−")
RESULT_WORDS = frozenset({"is", "are", "equals", "gives", "makes", "vs", "modulo", "mod"})

_TAGS = ("<think>", "</think>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")


def is_style(word: str) -> bool:
    """Whether the word is style; white space around it does not matter, and white space alone is style.

    A hyphen *inside* a word is spelling, not subtraction: "self-evident" is style, "-" and "4-" are not.
    """
    core = word.strip()
    for tag in _TAGS:
        core = core.replace(tag, "")
    if any(character.isdigit() for character in core):
        return False
    letters = core.strip(".,;:!?()[]{}\"'*_`")
    if letters.lower() in RESULT_WORDS:
        return False
    if letters.replace("-", "").isalpha():
        return True
    return not any(character in OPERATORS for character in core)


def split_words(text: str) -> list[str]:
    """The words of a text, each with its leading white space; joined they equal the text.

    White space at the end of the text belongs to no word yet and comes as a last item of its own.
    """
    words: list[str] = []
    start = 0
    for position in range(1, len(text)):
        if text[position].isspace() and not text[position - 1].isspace():
            words.append(text[start:position])
            start = position
    if text:
        words.append(text[start:])
    return words
