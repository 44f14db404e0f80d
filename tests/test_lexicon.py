"""The lexicon: which entry decides, what its files may hold, and that no answer ever changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.boundary import lexicon
from weft.boundary.base import Proposal, Verdict
from weft.boundary.lexicon import Lexicon, open_lexicon
from weft.boundary.lexicons import Entries, read_entries, shipped
from weft.boundary.lexicons.entries import LONGEST, LONGEST_PHRASE, SHIPPED
from weft.errors import UserError
from weft.records import Author
from worlds import hostile

KEEP, CUT, UNDECIDED = Verdict.KEEP, Verdict.CUT, Verdict.UNDECIDED
STANDARD = Lexicon()
TANGLED = Lexicon(
    entries=Entries(
        {
            "a": 0.9,
            "a b": 0.1,
            "a b c": 0.8,
            "b": 0.6,
            "c, d": 0.7,
            "你": 0.9,
            "你好": 0.2,
            "好 a": 0.9,
            "-": 0.9,
        },
        {
            r"a+b*": 0.7,
            r"b(?: c)+": 0.1,
            r"\w+ \w+ d": 0.3,
            r"d.{1,99}d": 0.8,
            r"(?:a|ab)c": 0.9,
            r"x.*?y": 0.9,
        },
    )
)
"""Entries that begin in one another, and patterns that would like to see more than they may."""


def judge(
    judge: Lexicon,
    before: str,
    units: Sequence[str],
    *,
    author: Author = Author.STUDENT,
    ended: bool = False,
) -> list[Verdict]:
    return judge.decide([Proposal("p#0", author, before, units, ended)])[0]


def style(text: str, of: Lexicon = STANDARD) -> str:
    """The text's style, all other characters but white space shown as ``-``."""
    verdicts = judge(of, "", list(text), ended=True)[:-1]
    return "".join(
        character if verdict is KEEP or character.isspace() else "-"
        for character, verdict in zip(text, verdicts, strict=True)
    )


# -- which entry decides --


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Okay, let me think. 6 * 7", "Okay, let me think. - - -"),
        ("so solve: so", "so ------ so"),
        ("whatsoever sok", "---------- ---"),
        ("LET ME\nSEE ,x", "LET ME\nSEE ,-"),
        ("so 3, so that x is 3", "so -- -- ---- - -- -"),
        ("First, the first term", "First, --- ----- ----"),
        ("second derivative. Second, y", "------ ----------- Second, -"),
        ("right, a right angle", "right, - ----- -----"),
        ("Well, it is well-defined", "Well, -- -- ------------"),
        ("next element: next(it)", "---- -------- --------"),
        ("Maybe it may be clearly defined", "Maybe -- --- -- ------- -------"),
        ("Then the then branch. Then", "Then --- ---- ------- Then"),
        ("Wait, no: Step 12. hmmm", "Wait, no: Step 12. hmmm"),
        ("let me re-check; let’s see", "let me re-check; let’s see"),
        ('print "yes", yes', "----- ------ yes"),
        ("好的，让我们再检查一下：6乘7", "好的，让我们再检查一下：---"),
        ("可能性不大，可能不对，不对称", "------可能不对，---"),
        ("其实部为零。其实", "------其实"),
    ],
)
def test_what_the_shipped_entries_call_style(text: str, expected: str) -> None:
    assert style(text) == expected


def lexicon_of(phrases: dict[str, float], patterns: dict[str, float], threshold: float = 0.5) -> Lexicon:
    return Lexicon(entries=Entries(phrases, patterns), threshold=threshold)


@pytest.mark.parametrize(
    ("phrases", "patterns", "expected"),
    [
        ({"a": 0.9, "a b": 0.1, "b": 0.9}, {}, "- - -"),
        ({"a": 0.1, "a b": 0.9}, {}, "a b -"),
        ({"a b": 0.1, "b c": 0.9}, {}, "- b c"),
        ({"a b": 0.9, "b c": 0.1}, {}, "a b -"),
        ({"a b": 0.2}, {"a .": 0.9}, "- - -"),
        ({}, {"a .": 0.2, "a b": 0.9}, "a b -"),
        ({"a": 0.5}, {}, "a - -"),
        ({"a": 0.49}, {}, "- - -"),
    ],
    ids=["longer", "longer style", "tie", "tie, other way", "phrase", "heavier", "threshold", "below"],
)
def test_the_longest_decides_then_a_phrase_then_the_heavier(
    phrases: dict[str, float], patterns: dict[str, float], expected: str
) -> None:
    assert style("a b c", lexicon_of(phrases, patterns)) == expected


def test_the_threshold_parts_style_from_capability() -> None:
    phrases = {"okay": 0.9, "so": 0.6}
    assert [style("okay so x", lexicon_of(phrases, {}, t)) for t in (0.5, 0.7, 1.0)] == [
        "okay so -",
        "okay -- -",
        "---- -- -",
    ]
    for wrong in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(UserError, match="threshold"):
            Lexicon(threshold=wrong)


def test_an_entry_sees_64_characters_and_no_more() -> None:
    greedy = lexicon_of({}, {"a.*z": 0.9})
    assert style("a" + " b" * 31 + "z", greedy) == "a" + " b" * 31 + "z"
    assert style("a" + " b" * 32 + "z", greedy) == "-" + " -" * 32 + "-"
    assert judge(greedy, "", ["a", " b" * 31]) == [UNDECIDED] * 3
    assert judge(greedy, "", ["a", " b" * 32, "b"])[:2] == [CUT, CUT]


# -- no answer changes --

PHRASES = [*shipped(*SHIPPED).phrases]
MATCHING = [
    "let me re-check",
    "step 12",
    "wait, no",
    "让我们再看看",
    "第一步",
    "a b c",
    "aab",
    "b c c d",
    "d - d",
    "x y",
]


@st.composite
def proposals(draw: st.DrawFn) -> list[str]:
    """Text from parts of phrases, cut into tokens anywhere."""
    phrase = st.sampled_from([*PHRASES, *MATCHING])
    part = phrase.flatmap(lambda text: st.integers(1, len(text)).map(lambda end: text[:end]))
    words = st.sampled_from(
        ["42", "so", "solve", "İ", "ß", "ΑΣ", "_", "a", "b", "c", "d", "x", "你", "好", "--", "é", "e\u0301"]
    )
    spaces = st.sampled_from([" ", "", "\n", ", ", ". ", "   \n\t  ", "-" * 40, " " * 70, "\x1c"])
    parts = draw(st.lists(st.one_of(phrase, part, words, spaces, hostile(most=3)), max_size=24))
    text, units = "".join(parts), []
    while text:
        size = draw(st.integers(1, 9))
        units.append(text[:size])
        text = text[size:]
    return units


@given(proposals(), st.sampled_from([STANDARD, TANGLED]), st.sampled_from(list(Author)), st.data())
@settings(max_examples=400, deadline=None)
def test_an_answer_never_changes_when_more_is_known(
    units: list[str], of: Lexicon, author: Author, data: st.DataObject
) -> None:
    whole = judge(of, "", units, author=author, ended=True)
    assert UNDECIDED not in whole, "nothing more will come"
    start = data.draw(st.integers(0, len(units)))
    end = data.draw(st.integers(start, len(units)))
    part = judge(of, "".join(units[:start]), units[start:end], author=author)
    assert len(part) == end - start + 1
    for verdict, final in zip(part, whole[start:], strict=False):
        assert verdict in (UNDECIDED, final), (units[:start], units[start:end])
    assert judge(of, "".join(units[:start]), units[start:], author=author, ended=True) == whole[start:]


@given(proposals(), st.sampled_from([STANDARD, TANGLED]))
@settings(max_examples=100, deadline=None)
def test_what_is_64_characters_back_is_decided(units: list[str], of: Lexicon) -> None:
    verdicts = judge(of, "", units)
    text = "".join(units)
    start = 0
    for unit, verdict in zip(units, verdicts, strict=False):
        ink = len(text) - len(text[start:].lstrip())
        assert verdict is not UNDECIDED or ink > len(text) - LONGEST
        start += len(unit)


def test_what_begins_no_entry_is_decided_at_once() -> None:
    assert judge(STANDARD, "", ["Okay", ", ", "4"]) == [KEEP, KEEP, CUT, UNDECIDED]
    assert judge(STANDARD, "", ["4", "2", " so"]) == [CUT, CUT, UNDECIDED, UNDECIDED]
    assert judge(STANDARD, "", ["so", " th"]) == [UNDECIDED] * 3
    assert judge(STANDARD, "", ["so", " tx"]) == [KEEP, CUT, UNDECIDED]
    assert judge(STANDARD, "", ["嗯"]) == [UNDECIDED] * 2, "more of it may come"
    assert judge(STANDARD, "", ["嗯", "，"]) == [KEEP, KEEP, UNDECIDED]
    assert judge(STANDARD, "", ["换句话说"]) == [KEEP, UNDECIDED]


def test_lower_case_hangs_on_no_neighbour() -> None:
    greek = lexicon_of({"ασα": 0.9}, {})
    assert judge(greek, "", ["ΑΣ"]) == [UNDECIDED] * 2
    assert judge(greek, "", ["ΑΣ", "Α", " "]) == [KEEP, KEEP, UNDECIDED, UNDECIDED]


# -- files --


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_adds_to_the_shipped_entries_and_overrides_them(tmp_path: Path) -> None:
    path = written(
        tmp_path, "phrases:\n  By the  WAY: 0.9\n  okay: 0.1\n  no: 1\npatterns:\n  'case \\d+': 0.8\n"
    )
    mine = open_lexicon(f"lexicon:{path}")
    assert style("Okay, by the way, case 3: hmm, no", mine) == "----- by the way, case 3: hmm, no"
    assert mine.name == f"lexicon:{path}"
    assert style("Okay, by the way") == "Okay, -- --- ---"


@pytest.mark.parametrize(
    ("extends", "expected"),
    [("none", "---- --"), ("english", "okay --"), ("chinese", "---- 好的"), ("both", "okay 好的")],
)
def test_a_file_says_what_it_extends(tmp_path: Path, extends: str, expected: str) -> None:
    path = written(tmp_path, f"extends: {extends}\n")
    assert style("okay 好的", Lexicon.from_file(path)) == expected


def test_a_file_of_comments_changes_nothing(tmp_path: Path) -> None:
    assert read_entries(written(tmp_path, "# nothing yet\nphrases:\n")) == shipped(*SHIPPED)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("phrases: [", ":1", "not valid YAML"),
        ("phrases:\n  so: 0.5\n bad", ":3", "not valid YAML"),
        ("- so", ":1", "not lines of the form"),
        ("phrases:\n- so", ":2", "not lines of the form"),
        ("frases:\n  so: 1", ":1", "unknown key 'frases'"),
        ("extends: german", ":1", "extends: 'german'"),
        ("extends: [english]", ":1", "extends: ''"),
        ("phrases:\n  so: 0.5\n  by far: 1.5", ":3", "the weight of 'by far' is '1.5'"),
        ("phrases:\n  so: -0.1", ":2", "the weight of 'so' is '-0.1'"),
        ("phrases:\n  so: .nan", ":2", "the weight of 'so' is '.nan'"),
        ("phrases:\n  so: nan", ":2", "the weight of 'so' is 'nan'"),
        ("phrases:\n  so: high", ":2", "the weight of 'so' is 'high'"),
        ("phrases:\n  so: [1]", ":2", "the weight of 'so' is several values"),
        ("phrases:\n  so:", ":2", "the weight of 'so' is ''"),
        ("phrases:\n  So: 1\n  so: 1", ":3", "'so' stands here for the second time"),
        ("phrases:\n  ? [a]\n  : 1", ":2", "a key that is no text"),
        ("phrases:\n  '': 1", ":2", "a phrase of 0 characters"),
        (f"phrases:\n  {'a' * 41}: 1", ":2", "a phrase of 41 characters"),
        ("patterns:\n  'a(b': 1", ":2", "does not compile"),
        ("patterns:\n  'a{3,1}': 1", ":2", "does not compile"),
        ("patterns:\n  'a*': 1", ":2", "matches the empty text"),
        ("patterns:\n  'a|': 1", ":2", "matches the empty text"),
        *(
            (f"patterns:\n  '{pattern}': 1", ":2", "a pattern that is not allowed")
            for pattern in (
                "a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b", "^a", "a$", r"a\b", r"\Aa", r"a\Z", r"(a)\1",
                "(?i)a", "(?>a)", "a++", "a{e<=1}", "(?P<n>a)(?P=n)", "(?R)", "(*SKIP)a", r"\X",
                "", "a" * 401, "a{,3}b", "a{100}", "(?:(?:a{99}){2,99}){99,}",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_entries(path)
    assert caught.value.where == f"{path}{where}"
    assert what in caught.value.what
    assert caught.value.expected or caught.value.remedy or "YAML" in what


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        open_lexicon(f"lexicon:{tmp_path / 'none.yaml'}")
    with pytest.raises(UserError, match="no boundary"):
        open_lexicon("lexicon:")
    with pytest.raises(UserError, match="directory"):
        read_entries(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("phrases:\n  né: 1\n".encode("latin-1"))
    with pytest.raises(UserError, match="not valid YAML"):
        read_entries(path)


def test_a_pattern_that_takes_for_ever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon, "SLOW", 0.02)
    slow = lexicon_of({}, {"fine": 1, "(?:a|a.|.a|..)+[qr]": 1})
    with pytest.raises(UserError) as caught:
        judge(slow, "", ["a" * 80], ended=True)
    assert "(?:a|a.|.a|..)+[qr]" in caught.value.what


# -- what ships, and what the manifest says --


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_lists_hold_style_and_what_only_begins_like_it(name: str) -> None:
    entries = shipped(name)
    for weights in (entries.phrases, entries.patterns):
        assert any(weight >= 0.5 for weight in weights.values())
        assert any(weight < 0.5 for weight in weights.values())
    assert all(len(phrase) <= LONGEST_PHRASE for phrase in entries.phrases)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_shipped_phrase_by_itself_is_what_its_weight_says(phrase: str) -> None:
    expected = shipped(*SHIPPED).phrases[phrase] >= 0.5
    assert (judge(STANDARD, "", [phrase], ended=True)[0] is KEEP) == expected


def test_the_description_follows_all_that_decides(tmp_path: Path) -> None:
    path = written(tmp_path, "phrases:\n  so: 0.7\n")
    described = [
        STANDARD.describe(),
        Lexicon(threshold=0.6).describe(),
        lexicon_of({"so": 0.7}, {}).describe(),
        lexicon_of({"so": 0.8}, {}).describe(),
        lexicon_of({}, {"so": 0.7}).describe(),
    ]
    assert len({str(item) for item in described}) == len(described)
    # The same entries from elsewhere, in another order, are the same lexicon.
    assert Lexicon.from_file(path).describe() == STANDARD.describe()
    assert lexicon_of({"a": 1, "b": 1}, {}).describe() == lexicon_of({"b": 1, "a": 1}, {}).describe()


def test_opening_a_lexicon_loads_nothing_heavy() -> None:
    code = (
        "import sys; from weft.boundary.lexicon import open_lexicon; open_lexicon('lexicon'); "
        "assert not {'torch', 'transformers', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
