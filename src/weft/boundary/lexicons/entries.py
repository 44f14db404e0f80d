"""What a lexicon holds: phrases and patterns, each with a weight between 0 and 1, read from YAML.

::

    extends: both            # none, english, chinese or both: which of the shipped lists this one adds to
    phrases:
      by the way: 0.9        # surely style
      so that: 0.1           # surely not, although "so" alone is
    patterns:
      'step \\d+': 0.7

A weight says how surely the words are style. Those of the shipped lists are judgement; none is measured.

Invariant: a pattern sees nothing but the characters that it matches. There is no looking around, no anchor
and no reference back; so whether more text could still change a match can be told from the text so far.

It does not know where entries are looked for, or what becomes of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import regex
import yaml

from weft.errors import UserError

LONGEST = 64
"""Characters of the text that one phrase or pattern may see."""
LONGEST_PHRASE = 40
LONGEST_PATTERN = 400
MOST_COUNTED = 10_000
"""The product of all numbers in braces in a pattern: a repetition of repetitions takes that much memory."""
SHIPPED = ("english", "chinese")
EXTENDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "english": ("english",),
    "chinese": ("chinese",),
    "both": SHIPPED,
}
_SHAPE = "`extends`, `phrases` and `patterns`; the latter two with lines such as `so that: 0.1`"
# All that a pattern may consist of; whatever looks beyond its own characters is not in it.
_PATTERN = regex.compile(
    r"""(?: \(\?: | \((?![?*]) | [)|.]           # groups, alternatives, any character
      | \\[wWsSdD] | \\[pP]\{\^?[\w=]+\} | \\[^\w\s]  # kinds of characters, signs
      | \[\^?(?:\\.|[^\]\[\\])+\]                # sets
      | (?:[?*+]|\{\d\d?(?:,(?:\d\d?)?)?\})\??+(?![?*+{]) # repetitions, greedy or not, but not possessive
      | [^\\^$\[\](){}?*+|.]                     # the character itself
    )+""",
    regex.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Entries:
    """Phrases and patterns with their weights."""

    phrases: Mapping[str, float] = field(default_factory=dict)
    """In lower case, with single spaces."""
    patterns: Mapping[str, float] = field(default_factory=dict)
    """Regular expressions for text in lower case with single spaces."""

    def over(self, base: Entries) -> Entries:
        """These and those of ``base`` that they do not override."""
        return Entries({**base.phrases, **self.phrases}, {**base.patterns, **self.patterns})

    @property
    def digest(self) -> str:
        """Of all entries, whatever their order; 16 hexadecimal digits."""
        rows = [sorted(self.phrases.items()), sorted(self.patterns.items())]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def lower(text: str) -> str:
    """The text in lower case, each character by itself: no place moves, and nothing hangs on neighbours."""
    lowered = text.lower()
    if len(lowered) == len(text) and "Σ" not in text:  # its lower case is another at the end of a word
        return lowered
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


@cache
def shipped(*names: str) -> Entries:
    """The entries of the shipped lists ``names``: ``english``, ``chinese``."""
    entries = Entries()
    for name in names:
        resource = files("weft.boundary.lexicons") / f"{name}.yaml"
        entries = _parsed(resource.read_bytes(), f"{name}.yaml")[0].over(entries)
    return entries


def read_entries(path: Path) -> Entries:
    """The entries of a user's file, over those of the shipped lists that it extends (both, if it is silent).

    Raises:
        UserError: it cannot be read, is not of this shape, or an entry is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", where=str(path), expected="a lexicon: a YAML file"
        ) from error
    own, extends = _parsed(data, str(path))
    return own.over(shipped(*EXTENDS[extends]))


def _parsed(data: bytes, where: str) -> tuple[Entries, str]:
    """The entries of a file and what it extends."""
    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        said = getattr(error, "problem", None) or str(error)
        raise UserError(f"not valid YAML: {said}", where=place, expected=_SHAPE) from error
    extends = "both"
    phrases: dict[str, float] = {}
    patterns: dict[str, float] = {}
    for place, key, node in _items(root, where, _SHAPE):
        if key == "extends":
            extends = node.value if isinstance(node, yaml.ScalarNode) else ""
            if extends not in EXTENDS:
                raise UserError(f"extends: {extends!r}", where=place, expected=" or ".join(EXTENDS))
        elif key == "phrases":
            _add(phrases, node, where, _phrase)
        elif key == "patterns":
            _add(patterns, node, where, _pattern)
        else:
            raise UserError(f"unknown key {key!r}", where=place, expected=_SHAPE)
    return Entries(phrases, patterns), extends


def _items(node: yaml.Node | None, where: str, expected: str) -> Iterator[tuple[str, str, yaml.Node]]:
    """Place, key and value of each line. Keys are what is written, be it ``no``, ``yes`` or ``42``."""
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        return  # nothing but comments
    if not isinstance(node, yaml.MappingNode):
        place = f"{where}:{node.start_mark.line + 1}"
        raise UserError("not lines of the form `key: value`", where=place, expected=expected)
    for key, value in node.value:
        place = f"{where}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError("a key that is no text", where=place, expected=expected)
        yield place, key.value, value


def _add(entries: dict[str, float], node: yaml.Node, where: str, read: Callable[[str, str], str]) -> None:
    """Add the entries of one mapping; ``read`` turns a key into an entry or refuses it."""
    for place, key, value in _items(node, where, "lines such as `so that: 0.1`"):
        entry = read(key, place)
        if entry in entries:
            raise UserError(f"{entry!r} stands here for the second time", where=place, remedy="remove one")
        try:
            weight = float(value.value) if isinstance(value, yaml.ScalarNode) else math.nan
        except ValueError:
            weight = math.nan
        if not 0 <= weight <= 1:
            said = repr(value.value) if isinstance(value, yaml.ScalarNode) else "several values"
            raise UserError(
                f"the weight of {entry!r} is {said}",
                where=place,
                expected="a number from 0 (surely not style) to 1 (surely style)",
            )
        entries[entry] = weight


def _phrase(key: str, place: str) -> str:
    phrase = lower(" ".join(key.split()))
    if not 0 < len(phrase) <= LONGEST_PHRASE:
        raise UserError(
            f"a phrase of {len(phrase)} characters: {phrase!r}",
            where=place,
            expected=f"1 to {LONGEST_PHRASE} characters",
        )
    return phrase


def _pattern(key: str, place: str) -> str:
    expected = "groups, sets, \\w \\s \\d \\p{...} and repetitions; no looking around, anchors or references"
    braces = regex.findall(r"\{(\d+)(?:,(\d*))?\}", key)
    counts = math.prod(max(1, int(most or least)) for least, most in braces)
    sound = 0 < len(key) <= LONGEST_PATTERN and counts <= MOST_COUNTED
    if not sound or not _PATTERN.fullmatch(key, timeout=10):
        raise UserError(
            f"a pattern that is not allowed: {key[:LONGEST_PATTERN]!r}", where=place, expected=expected
        )
    try:
        compiled = regex.compile(key, regex.IGNORECASE)
        empty = compiled.fullmatch("") is not None
    except (regex.error, OverflowError) as error:
        raise UserError(
            f"the pattern {key!r} does not compile: {error}", where=place, expected=expected
        ) from error
    if empty:
        raise UserError(
            f"the pattern {key!r} matches the empty text",
            where=place,
            remedy="make one of its parts required",
        )
    return key
