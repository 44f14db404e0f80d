r"""``math``: what is one answer, what is not, and texts that computer algebra does not survive.

Readings are tested in this process, where that is safe; verdicts on hostile texts through the workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import UserError
from weft.quality.base import Answered
from weft.records import Message
from weft.verify.base import SAID, Judgement, Reason, Verdict
from weft.verify.math import MathVerifier, compared

pytest.importorskip("math_verify", reason="pip install 'weft[verify]'")

QUESTION = (Message("user", "How many?"),)


def judged(pairs: Sequence[tuple[str, str | None]], *, seconds: float = 60.0) -> list[Judgement]:
    """Verdicts on responses with their right answers."""

    async def all_of_them() -> list[Judgement]:
        verifier = MathVerifier(workers=2, seconds=seconds)
        try:
            return await asyncio.gather(
                *(verifier.verify(Answered(QUESTION, response, answer)) for response, answer in pairs)
            )
        finally:
            await verifier.close()

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("42", "42"),
        ("42", "42.0"),
        ("1200", "1,200"),
        ("\\frac{1}{2}", "0.5"),
        ("0.5", "2/4"),
        ("1/2", "The result is 1/2."),
        ("1 1/2", "1.5"),
        ("1½", "3/2"),
        ("1.5e3", "1500"),
        ("1e-5", "0.00001"),
        ("50\\%", "0.5"),
        ("50%", "50"),
        ("-5", "−5"),
        ("５", "5"),
        ("$18", "18"),
        ("\\$18", "it costs $18.00"),
        ("42 apples", "42"),
        ("5\\,\\text{cm}", "5"),
        ("2x+3", "3+2x"),
        ("x^2+2x+1", "(x+1)^2"),
        ("x**2", "x²"),
        ("x=5", "5"),
        ("5", "$x = 5$"),
        ("\\sqrt{2}/2", "\\frac{1}{\\sqrt 2}"),
        ("sqrt(2)", "√2"),
        ("sin(x)", "\\sin x"),
        ("\\{1,2,3\\}", "3,2,1"),
        ("(1,2)", "(1, 2)"),
        ("x \\ge 3", "x≥3"),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"),
        ("\\infty", "\\infty"),
        ("1/3", "0.333333"),
        ("B", "(B)"),
        ("\\text{Evelyn}", "Evelyn."),
        ("no solution", "**No solution**"),
        ("42", "**42.**"),
        ("10^{10}", "10000000000"),
        ("6 * 7", "6 * 7 = 42"),
        ("42", "it is 42"),
        ("42", "so we get 42, of 50: 42"),
        ("2it", "2ti"),
        ("1 234 567", "1234567"),
        ("$3, 2$", "2, 3"),
    ],
)
def test_one_answer(right: str, said: str) -> None:
    assert compared(right, said) == (Verdict.CORRECT, None)


@pytest.mark.parametrize(
    ("right", "said", "reason"),
    [
        ("42", "41", Reason.DIFFERENT),
        ("42", "-42", Reason.DIFFERENT),
        ("1/3", "0.33", Reason.DIFFERENT),
        ("2x+3", "2", Reason.DIFFERENT),
        ("2x+3", "2y+3", Reason.DIFFERENT),
        ("1 1/2", "1", Reason.DIFFERENT),
        ("1 1/2", "1/2", Reason.DIFFERENT),
        ("[1,2)", "(1,2]", Reason.DIFFERENT),
        ("42", "41, 42", Reason.DIFFERENT),
        ("Paris", "London", Reason.DIFFERENT),
        ("A", "B", Reason.DIFFERENT),
        ("10", "5 5", Reason.UNPARSABLE),
        ("13", "$12 1$", Reason.UNPARSABLE),
        ("42", "?!", Reason.UNPARSABLE),
        ("42", "{{{", Reason.UNPARSABLE),
        ("42", "it is hard to tell " * 10, Reason.UNPARSABLE),
    ],
)
def test_another_answer(right: str, said: str, reason: Reason) -> None:
    assert compared(right, said) == (Verdict.WRONG, reason)


@pytest.mark.parametrize("right", ["1/0", "\\frac{1}{0}", "16 5 11", "...", "{", "\\", "$$", "\\boxed{"])
def test_a_right_answer_that_cannot_be_used(right: str) -> None:
    assert compared(right, "1") == (Verdict.UNVERIFIABLE, Reason.BAD_ANSWER)
    assert compared(right, right) == (Verdict.UNVERIFIABLE, Reason.BAD_ANSWER)


integers = st.integers(-(10**12), 10**12)
fractions = st.fractions(max_denominator=1000).filter(lambda value: abs(value) < 10**9)
spelled = st.one_of(
    integers.map(str),
    integers.map("{:,}".format),
    st.decimals(-(10**6), 10**6, places=3, allow_nan=False, allow_infinity=False).map(str),
    fractions.map(str),
    fractions.map(lambda value: f"\\frac{{{value.numerator}}}{{{value.denominator}}}"),
    st.lists(integers, min_size=2, max_size=4, unique=True).map(lambda some: "; ".join(map(str, some))),
    st.lists(integers, min_size=2, max_size=4, unique=True).map(
        lambda some: f"\\{{{', '.join(map(str, some))}\\}}"
    ),
    st.tuples(st.sampled_from(["(", "["]), integers, integers, st.sampled_from([")", "]"])).map(
        lambda parts: f"{parts[0]}{parts[1]}, {parts[2]}{parts[3]}"
    ),
    st.tuples(integers, integers).map(lambda two: f"{two[0]}x + {two[1]}".replace("+ -", "- ")),
    integers.map(lambda value: f"{value}\\sqrt{{{abs(value) % 97 + 2}}}"),
    st.sampled_from("ABCDE").map("({})".format),
    st.sampled_from(["\\text{Evelyn}", "Tuesday", "\\text{Yes}", "no solution"]),
)
ways = st.sampled_from(["{}", "${}$", "\\boxed{{{}}}", "So we have it.\nAnswer: ${}$.", "Hence.\n#### {}"])


@settings(max_examples=150)
@given(spelled)
def test_it_accepts_the_right_answer(answer: str) -> None:
    assert compared(answer, answer) == (Verdict.CORRECT, None)


@settings(max_examples=100)
@given(integers, fractions)
def test_numbers_are_compared_as_numbers(one: int, other: Fraction) -> None:
    same = Fraction(one) == other
    said = f"\\frac{{{other.numerator}}}{{{other.denominator}}}"
    assert compared(str(one), str(one)) == (Verdict.CORRECT, None)
    assert compared(said, f"{other.numerator}/{other.denominator}") == (Verdict.CORRECT, None)
    assert (compared(str(one), said)[0] is Verdict.CORRECT) == same


@settings(max_examples=3)
@given(st.lists(st.tuples(spelled, ways), min_size=20, max_size=40))
def test_it_accepts_the_right_answer_however_it_is_given(answers: list[tuple[str, str]]) -> None:
    pairs = [(way.format(answer), answer) for answer, way in answers]
    for pair, judgement in zip(pairs, judged(pairs), strict=True):
        assert judgement.verdict is Verdict.CORRECT, pair


@settings(max_examples=3)
@given(
    st.lists(
        st.one_of(st.text(max_size=60), st.text("\\{}$()[]^_&=<>,.0129xysinfrac \n", max_size=60)),
        min_size=20,
        max_size=40,
    )
)
def test_no_right_answer_is_called_wrong(answers: list[str]) -> None:
    for answer, judgement in zip(answers, judged([(one, one) for one in answers], seconds=5.0), strict=True):
        assert judgement.verdict is not Verdict.WRONG, answer
        assert len(judgement.said) <= SAID and judgement.said.isprintable()


def test_empty_texts_and_long_ones() -> None:
    pairs: list[tuple[str, str | None]] = [
        ("42", None),
        ("42", " \n"),
        ("42", "<think>42</think>"),
        ("", "42"),
        ("<think>42</think>", "42"),
        ("42", "\\boxed{" + "1" * 20_000 + "}"),
        ("\\boxed{" + "1" * 20_000 + "}", "42"),
        ("so " * 400_000 + "42", "42"),
        ("42" + " so" * 400_000, "42"),
    ]
    found = [(judgement.verdict, judgement.reason) for judgement in judged(pairs)]
    assert found == [
        (Verdict.UNVERIFIABLE, Reason.NO_ANSWER),
        (Verdict.UNVERIFIABLE, Reason.NO_ANSWER),
        (Verdict.UNVERIFIABLE, Reason.NO_ANSWER),
        (Verdict.WRONG, Reason.NO_RESPONSE),
        (Verdict.WRONG, Reason.NO_RESPONSE),
        (Verdict.UNVERIFIABLE, Reason.BAD_ANSWER),
        (Verdict.WRONG, Reason.TOO_LARGE),
        (Verdict.CORRECT, None),
        (Verdict.WRONG, Reason.UNPARSABLE),
    ]


def test_texts_that_hang_have_a_verdict_and_the_rest_goes_on() -> None:
    hostile = [
        "9^{9^{9^{9}}}",
        "9^9^9^9",
        "100000000000!",
        "10^{100000000}",
        "(" * 2500,
        "\\frac{" * 1000,
        "\\sqrt{" * 100 + "2" + "}" * 100,
        "$" * 5000,
        "__import__('os').system('false')",
        "exit()",
        "\x00\x1b[2J",
        "\ud800",
    ]
    pairs: list[tuple[str, str | None]] = []
    for text in hostile:
        pairs += [(f"\\boxed{{{text}}}", "42"), ("The answer is 42.", "42")]
    judgements = judged(pairs, seconds=4.0)
    assert [one.verdict for one in judgements[1::2]] == [Verdict.CORRECT] * len(hostile)
    assert Verdict.CORRECT not in {one.verdict for one in judgements[::2]}
    assert judgements[0].reason is Reason.TIMEOUT


def test_a_right_answer_that_hangs_is_unverifiable() -> None:
    (judgement,) = judged([("42", "9^{9^{9^{9}}}")], seconds=2.0)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNVERIFIABLE, Reason.TIMEOUT)


def test_what_made_the_verdicts_is_told() -> None:
    told = MathVerifier(seconds=3.0).describe()
    assert told["verifier"] == "math" and told["seconds"] == 3.0
    assert {"math-verify", "sympy"} <= set(told)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        MathVerifier()
    assert refused.value.remedy == "pip install 'weft[verify]'"
