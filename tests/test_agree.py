"""Agree: hand-overs where two models part and where they meet again, whatever the chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.boundary.agree import PIECES, Agree, open_agree
from weft.boundary.base import Proposal, Verdict
from weft.errors import EngineError, UserError
from weft.records import Author, Status
from worlds import Kind, World, chance, hostile
from worlds import parrot as writer

KEEP, CUT, UNDECIDED = Verdict.KEEP, Verdict.CUT, Verdict.UNDECIDED
STUDENT, TEACHER = Author.STUDENT, Author.TEACHER


@dataclass(slots=True)
class Other:
    """A model whose tokens are characters: the next one is a function of the text; none closes."""

    following: Callable[[str], str]
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def continuation(self, text: str, tokens: int) -> str:
        self.asked.append((text, tokens))
        piece = ""
        while len(piece) < tokens and (character := self.following(text + piece)):
            piece += character
        return piece


def parrot(script: str, *, from_place: Mapping[int, str] | None = None) -> Other:
    """Goes on at the character of ``script`` that has as many before it; from some places on it says
    something else."""

    def following(text: str) -> str:
        place, said = max(
            ((p, s) for p, s in (from_place or {}).items() if p <= len(text)), default=(0, script)
        )
        return said[len(text) - place :][:1]

    return Other(following)


@dataclass(slots=True)
class Failing:
    async def continuation(self, text: str, tokens: int) -> str:
        raise EngineError("failed", where="engine x")


def judge(
    boundary: Agree,
    author: Author,
    other: Other | Failing,
    units: Sequence[str],
    *,
    before: str = "",
    turn: int = 0,
    ended: bool = False,
    trace: str = "p#0",
) -> list[Verdict]:
    proposal = Proposal(trace, author, before, list(units), ended, turn=turn, other=other)
    return list(asyncio.run(boundary.judge(proposal)))


def words(text: str) -> list[str]:
    """Tokens as models have them: a word takes the space before it along."""
    parts = text.split(" ")
    return [parts[0], *(f" {part}" for part in parts[1:])]


# -- the student's turn --


@pytest.mark.parametrize(
    ("own", "teachers", "expected"),
    [
        ("so it is 42 now", "so it is 43 now", [KEEP, KEEP, KEEP, CUT, UNDECIDED, UNDECIDED]),
        ("so it is 42 ", "so it is 42 now", [KEEP, KEEP, KEEP, KEEP, KEEP, UNDECIDED]),
        ("so it is 42", "so it is 42 now", [KEEP, KEEP, KEEP, UNDECIDED, UNDECIDED]),
        ("so it is 4", "so it is 42 now", [KEEP, KEEP, KEEP, UNDECIDED, UNDECIDED]),
        ("so it is 4 now", "so it is 42 now", [KEEP, KEEP, KEEP, CUT, UNDECIDED, UNDECIDED]),
        ("so it is 421", "so it is 42 now", [KEEP, KEEP, KEEP, CUT, UNDECIDED]),
        ("so it is 42 now", "so it is 42", [KEEP, KEEP, KEEP, KEEP, CUT, UNDECIDED]),
        ("so it is", "", [CUT, CUT, UNDECIDED, UNDECIDED]),
        ("so it\nis on", "so it is on", [KEEP, CUT, UNDECIDED, UNDECIDED]),
    ],
)  # fmt: skip
def test_the_student_writes_up_to_the_first_word_that_differs(
    own: str, teachers: str, expected: list[Verdict]
) -> None:
    assert judge(Agree(), STUDENT, parrot(teachers), words(own)) == expected


def test_where_a_differing_word_is_kept_the_comparison_starts_anew_at_its_end() -> None:
    teacher = parrot("it is 42 now", from_place={2: " was 42 now", 6: " 43 or so"})
    # The first word of a turn differs and is kept unasked; then the teacher follows the student's lead.
    assert judge(Agree(), STUDENT, teacher, ["Oh", " was", " 42", " now"]) == [
        CUT,
        KEEP,
        CUT,
        UNDECIDED,
        UNDECIDED,
    ]
    assert [text for text, _ in teacher.asked] == ["", "Oh"]
    boundary, teacher = Agree(), parrot("it is", from_place={2: " is 1", 5: " 2 3", 7: " 3 4"})
    assert judge(boundary, STUDENT, teacher, ["it", " so", " 2", " 3"]) == [KEEP, CUT] + [UNDECIDED] * 3
    # That hand-over is taken back.
    resumed = judge(boundary, STUDENT, teacher, [" so", " 2", " 3", " "], before="it")
    assert resumed == [CUT, KEEP, KEEP, KEEP, UNDECIDED]
    assert [text for text, _ in teacher.asked] == ["", "it so"]


def test_a_student_that_would_close_where_the_teacher_goes_on_hands_over() -> None:
    units = ["so", " it"]
    assert judge(Agree(), STUDENT, parrot("so it is"), units, ended=True) == [KEEP, KEEP, CUT]
    assert judge(Agree(), STUDENT, parrot("so it"), units, ended=True) == [KEEP, KEEP, KEEP]
    assert judge(Agree(), STUDENT, parrot("so it \n "), units, ended=True) == [KEEP, KEEP, KEEP]
    assert judge(Agree(), STUDENT, parrot("so it" + "\n" * 9999), units, ended=True) == [KEEP, KEEP, KEEP]
    assert judge(Agree(), STUDENT, parrot("so item"), units, ended=True) == [KEEP, CUT, UNDECIDED]


def test_pieces_of_the_teachers_text_are_asked_for_from_the_end_of_the_one_before() -> None:
    own = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"
    teacher, boundary = parrot(own), Agree()
    before, units = "", words(own)
    for unit in units:
        judge(boundary, STUDENT, teacher, [unit], before=before)
        before += unit
    ends = [sum(PIECES[:count]) for count in range(len(PIECES) + 1)]
    assert [(len(text), tokens) for text, tokens in teacher.asked[:3]] == list(
        zip(ends, PIECES, strict=False)
    )
    assert teacher.asked[3:] == [(own, PIECES[-1])], "there it says that it would write no more"


# -- the teacher's turn --


def test_the_teacher_writes_until_the_student_agrees_for_so_many_tokens() -> None:
    teachers = ["6", " *", " 7", " =", " 42", " now"]
    student = parrot("", from_place={1: " + 7", 3: " 8 * 9", 5: " = 42 so", 7: " 42 so"})
    assert judge(Agree(tokens=5), TEACHER, student, teachers) == [
        KEEP,
        KEEP,
        KEEP,
        CUT,
        UNDECIDED,
        UNDECIDED,
        UNDECIDED,
    ]
    assert student.asked == [("6", 5), ("6 *", 5), ("6 * 7", 5)]
    assert judge(Agree(tokens=7), TEACHER, student, teachers)[:4] == [KEEP] * 4


def test_words_before_a_difference_are_not_asked_about() -> None:
    student = parrot("a b c d e f")
    assert judge(Agree(tokens=8), TEACHER, student, ["a", " b", " c", " D", " e", " f", " g", " h"])
    # From "a" on they agree up to " D"; the next word that begins after it is " e".
    assert [text for text, _ in student.asked] == ["a", "a b c D"]


def test_an_agreement_that_is_not_complete_waits_and_ends_with_the_turn() -> None:
    student, boundary = parrot("a b c d e f"), Agree(tokens=6)
    assert judge(boundary, TEACHER, student, ["a", " b", " c"]) == [KEEP, UNDECIDED, UNDECIDED, UNDECIDED]
    assert judge(boundary, TEACHER, student, ["a", " b", " c"], ended=True) == [KEEP] * 4
    assert judge(boundary, TEACHER, student, ["a", " b", " c", " d"])[1] is CUT
    assert len(student.asked) == 1


def test_all_that_a_student_has_left_to_say_is_enough() -> None:
    assert judge(Agree(tokens=9), TEACHER, parrot("a b"), ["a", " b", " c"]) == [
        KEEP,
        CUT,
        UNDECIDED,
        UNDECIDED,
    ]
    assert judge(Agree(tokens=9), TEACHER, parrot(""), ["a", " b", " c"]) == [KEEP, KEEP, KEEP, UNDECIDED]


def test_scripts_without_spaces_are_compared_character_by_character() -> None:
    own = ["你好", "，", "世", "界"]
    assert judge(Agree(), STUDENT, parrot("你好，世人"), own) == [
        KEEP, KEEP, KEEP, CUT, UNDECIDED
    ]  # fmt: skip
    assert judge(Agree(tokens=2), TEACHER, parrot("我们，世界"), own) == [
        KEEP,
        CUT,
        UNDECIDED,
        UNDECIDED,
        UNDECIDED,
    ]


# -- whatever the chunks --


def table(seed: int, letters: str) -> Callable[[str], str]:
    """The likeliest next character, from the last two."""
    return lambda text: letters[int(chance(seed, text[-2:]) * len(letters))]


def written(seed: int, letters: str, noise: float, length: int) -> str:
    """Text that mostly follows the table."""
    following, text = table(seed, letters), ""
    while len(text) < length:
        other = chance("noise", seed, len(text)) < noise
        text += letters[int(chance("letter", seed, len(text)) * len(letters))] if other else following(text)
    return text


def expected_cuts(
    text: str, turn: int, author: Author, following: Callable[[str], str], tokens: int
) -> list[int]:
    """The definition, with all of the text in sight: the first ink where the pen should pass."""
    cuts, mark = [], turn
    spans, place = [], turn
    while text[place:].strip():
        ink = end = place + len(text[place:]) - len(text[place:].lstrip())
        while (
            end < len(text)
            and not text[end].isspace()
            and (end == ink or max(text[end - 1 : end + 1]) < "一")
        ):
            end += 1
        spans.append((place, ink, end))
        place = end
    for start, ink, end in spans:
        if author is STUDENT:
            theirs = text[:mark]
            while len(theirs) <= end:
                theirs += following(theirs)
            longer = not theirs[end].isspace() and max(theirs[end - 1 : end + 1]) < "一"
            if theirs[start:end] != text[start:end] or longer:
                cuts.append(ink)
                mark = end
        elif start > mark:
            theirs = text[:start]
            for _ in range(tokens):
                theirs += following(theirs)
            if text.startswith(theirs):
                cuts.append(ink)
            elif theirs.startswith(text):
                break
            else:
                mark = next(i for i in range(start, len(text)) if theirs[i] != text[i])
    if author is STUDENT:
        theirs = text[:mark]
        while len(theirs) < len(text) + 40:  # longer than any run of white space that the table has
            theirs += following(theirs)
        if theirs[place:].strip():
            cuts.append(len(text))
    return cuts


def hand_overs(
    boundary: Agree, author: Author, other: Other, units: Sequence[str], sizes: Sequence[int], before: str
) -> list[int]:
    """Where the pen would be handed over, each hand-over being taken back; as a passage asks."""
    turn, taken, unasked, sizes = len(before), 0, True, list(sizes)
    places: list[int] = []
    pending: list[str] = []
    while True:
        ended = taken == len(units)
        verdicts = judge(boundary, author, other, pending, before=before, turn=turn, ended=ended)
        assert len(verdicts) == len(pending) + 1
        keep, cut = len(pending), False
        for index, verdict in enumerate(verdicts):
            if verdict is UNDECIDED and not ended:
                keep = index
                break
            if verdict is CUT and (index or not unasked):
                keep, cut = index, True
                break
        before += "".join(pending[:keep])
        unasked = unasked and not keep
        pending = pending[keep:]
        if cut:
            places.append(len(before))
            unasked = True
            if not pending and ended:
                return places
            continue
        if ended:
            return places
        size = sizes.pop() if sizes else 3
        pending = [*pending, *units[taken : taken + size]]
        taken = min(len(units), taken + size)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["ab ", "ab  \n", "abcd ", "a b你好", "x "]),
    st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    st.integers(0, 120),
    st.sampled_from(list(Author)),
    st.integers(1, 6),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_hand_overs_are_those_of_the_definition_whatever_the_chunks(
    seed: int, letters: str, noise: float, length: int, author: Author, tokens: int, data: st.DataObject
) -> None:
    text = written(seed, letters, noise, length)
    turn = data.draw(st.integers(0, len(text)))
    units, place = [], turn
    while place < len(text):
        size = data.draw(st.integers(1, 5))
        units.append(text[place : place + size])
        place += size
    following = table(seed, letters)
    cuts = expected_cuts(text, turn, author, following, tokens)
    starts = [turn + len("".join(units[:index])) for index in range(len(units) + 1)]
    bounds = zip(starts, [*starts[1:], len(text) + 1], strict=True)
    expected = [start for start, end in bounds if any(start <= cut < end for cut in cuts)]
    # Nothing is handed over before the first token; an empty turn cannot be.
    expected = [start for start in expected if start > turn]
    for _ in range(2):
        sizes = data.draw(st.lists(st.integers(1, 9), max_size=40))
        found = hand_overs(Agree(tokens=tokens), author, Other(following), units, sizes, text[:turn])
        assert found == expected, (text, units)


@given(st.integers(0, 10_000), st.sampled_from(["ab ", "abcd "]), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_kept_of_a_trace_changes_no_answer(seed: int, letters: str, data: st.DataObject) -> None:
    one, text = Agree(tokens=2), ""
    for step in range(data.draw(st.integers(1, 8))):
        author = data.draw(st.sampled_from(list(Author)))
        # Some of what was seen goes, another text comes.
        text = text[: data.draw(st.integers(0, len(text)))]
        text += written(seed + step, letters, 0.1, data.draw(st.integers(0, 25)))
        turn = min(data.draw(st.sampled_from([0, 0, 0, 7])), len(text))
        start = data.draw(st.sampled_from([turn, turn, len(text)]))
        other, ended = Other(table(seed + (author is STUDENT), letters)), data.draw(st.booleans())
        kept, fresh = (
            judge(boundary, author, other, [*text[start:]], before=text[:start], turn=turn, ended=ended)
            for boundary in (one, Agree(tokens=2))
        )
        assert kept == fresh


def test_answers_that_were_given_to_another_text_are_forgotten() -> None:
    boundary = Agree()
    teacher = Other(lambda text: {"x": " y |", "z": " w |"}.get(text[:1], "?")[len(text) - 1 :][:1])
    assert judge(boundary, STUDENT, teacher, ["x", " y", " "]) == [CUT, KEEP, KEEP, UNDECIDED]
    assert judge(boundary, STUDENT, teacher, ["z", " y", " "]) == [CUT, CUT, UNDECIDED, UNDECIDED]
    student = Other(lambda text: {"x": " b", "z": " c"}[text[:1]][len(text) - 3 :][:1])
    assert judge(boundary, TEACHER, student, ["x a", " b", " "]) == [KEEP, CUT, UNDECIDED, UNDECIDED]
    assert judge(boundary, TEACHER, student, ["z a", " b", " "]) == [KEEP, KEEP, KEEP, UNDECIDED]


@given(hostile(), hostile(), st.sampled_from(list(Author)), st.integers(1, 9), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_text_gets_an_answer_for_each_token(
    own: str, others: str, author: Author, size: int, ended: bool
) -> None:
    units = [own[start : start + size] for start in range(0, len(own), size)]
    verdicts = judge(Agree(), author, parrot(others), units, ended=ended)
    assert len(verdicts) == len(units) + 1
    if ended and CUT not in verdicts[1:]:
        assert UNDECIDED not in verdicts
    if own == others and author is STUDENT:
        assert CUT not in verdicts


SHARED = "so we take 6 and 7 and that makes 42 , wait , 你好，世界 it is 42 now . done"
LEANING = {
    "one number differs": SHARED.replace("makes 42", "makes 43"),
    "a tail of its own": SHARED[:30] + " something else that is as long as it has to be , and then some more",
    "nothing in common": "x" + SHARED,
    "all in common": SHARED,
    "shorter": SHARED[:40],
}

EXPECTED = {
    "one number differs": [STUDENT, TEACHER, STUDENT],
    "all in common": [STUDENT],
    "shorter": [STUDENT, TEACHER],
}
"""Whose spans make up the teacher's text, where that is what comes of it."""


@pytest.mark.parametrize("student", LEANING)
@pytest.mark.parametrize(
    "kinds", [("words", "words"), ("words", "characters"), ("bytes", "glued"), ("tagless", "words")]
)
def test_a_passage_is_the_same_whatever_the_steps(student: str, kinds: tuple[Kind, Kind]) -> None:
    scripts = writer(LEANING[student], spells=kinds[0] == "tagless"), writer(SHARED)
    world = World(*scripts, kinds=kinds, boundary=Agree(tokens=3))
    written = [world.write(step) for step in (1, 3, 20, None)]
    assert len({str(one.outcome) for one in written}) == 1
    assert written[0].status is Status.COMPLETE
    draft = written[0].draft
    authors = [span.author for span in draft.spans[: draft.thinking_spans]]
    if student in EXPECTED:
        assert (draft.thinking, authors) == (SHARED, EXPECTED[student])
    assert authors[0] is STUDENT


# -- requests, errors, names --


def test_answers_are_kept_until_the_trace_is_released() -> None:
    boundary, teacher = Agree(), parrot("so it is 42")
    for _ in range(3):
        judge(boundary, STUDENT, teacher, ["so", " it"])
    assert len(teacher.asked) == 1
    judge(boundary, STUDENT, teacher, ["so", " it"], trace="p#1")
    assert len(teacher.asked) == 2
    boundary.release("p#0")
    boundary.release("unknown")
    judge(boundary, STUDENT, teacher, ["so", " it"])
    judge(boundary, STUDENT, teacher, ["so", " it"], trace="p#1")
    assert len(teacher.asked) == 3


def test_nothing_is_asked_beyond_the_hand_over() -> None:
    student = Other(lambda text: " " if text[-1:] != " " else "a")
    assert judge(Agree(tokens=2), TEACHER, student, ["a"] + [" a"] * 50)[:3] == [KEEP, CUT, UNDECIDED]
    assert len(student.asked) == 1


def test_an_engines_error_passes_through_and_a_missing_model_is_a_defect() -> None:
    for author, units in ((STUDENT, ["a"]), (TEACHER, ["a", " b"])):
        with pytest.raises(EngineError, match="failed"):
            judge(Agree(), author, Failing(), units)
    with pytest.raises(AssertionError, match="agree compares two models"):
        asyncio.run(Agree().judge(Proposal("p#0", STUDENT, "", ["a"], False)))


def test_names() -> None:
    assert (open_agree("agree").tokens, open_agree("agree:7").tokens) == (4, 7)
    assert (open_agree("agree:7").name, open_agree("agree:7").reach) == ("agree:7", 7)
    assert open_agree("agree:7").describe() == {"boundary": "agree", "tokens": 7}
    for name in ("agree:", "agree:0", "agree:65", "agree:-1", "agree:x", "agree:1.5"):
        with pytest.raises(UserError, match="no boundary"):
            open_agree(name)
