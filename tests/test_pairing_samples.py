"""Pairs of a better and a worse response: which are chosen, by verdicts and by qualities; their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import weft.pairing.samples as samples_module
from gap_world import question, trace_of, write_traces
from weft.errors import EngineError, RunError, UserError
from weft.pairing import from_samples
from weft.pairing.choosing import Rated, choose
from weft.pairing.pairs import PAIRS
from weft.pairing.samples import qualities_path
from weft.pairing.settings import SamplesSettings
from weft.quality.base import Answered
from weft.records import Author, PerAuthor, Span, Status, Trace, Usage
from weft.store import read_rows, rejected_path
from weft.verify.base import Judgement, Reason, Verdict
from weft.verify.marked import Mark, Marked

# -- choosing --


def rated(key: str, quality: float, tokens: int = 10, text: str | None = None) -> Rated:
    return Rated(key, key if text is None else text, tokens, quality)


def keys(pairs: Sequence[tuple[Rated, Rated]]) -> list[str]:
    return [f"{better.key}>{worse.key}" for better, worse in pairs]


def pick(rated: Sequence[Rated], **how: Any) -> list[str]:
    given: dict[str, Any] = {"most": 1, "min_margin": 0.0, "match_length": False, "seed": 0, **how}
    return keys(choose(rated, **given))


GRADED = [rated("a", 1.0), rated("b", 4.0), rated("c", 9.0), rated("d", 6.0)]


def test_the_first_pair_is_the_best_and_the_worst() -> None:
    assert pick(GRADED) == ["c>a"]
    assert pick(GRADED, most=2) == ["c>a", "d>b"]
    assert pick(GRADED, most=9) == ["c>a", "d>b"]


def test_margins_below_the_least_are_no_contrast() -> None:
    assert pick(GRADED, most=2, min_margin=2.0) == ["c>a"]
    assert pick(GRADED, most=2, min_margin=8.0) == []
    assert pick([rated("a", 1.0), rated("b", 1.0)]) == []


def test_similar_lengths_go_before_margins() -> None:
    some = [rated("long", 9.0, 100), rated("short", 1.0, 10), rated("middle", 5.0, 95)]
    assert pick(some) == ["long>short"]
    assert pick(some, match_length=True) == ["long>middle"]


def test_equal_texts_make_no_pair() -> None:
    assert pick([rated("a", 0.0, text="same"), rated("b", 1.0, text="same")]) == []


VERDICTS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 30)), max_size=9).map(
    lambda some: [rated(str(n), quality, tokens) for n, (quality, tokens) in enumerate(some)]
)


@given(VERDICTS, st.integers(1, 4), st.booleans(), st.integers(0, 3), st.randoms())
def test_order_decides_nothing_and_no_response_is_used_twice(
    some: list[Rated], most: int, match: bool, seed: int, random: Any
) -> None:
    pairs = choose(some, most=most, min_margin=0.0, match_length=match, seed=seed)
    shuffled = list(some)
    random.shuffle(shuffled)
    assert pairs == choose(shuffled, most=most, min_margin=0.0, match_length=match, seed=seed)
    used = [one.key for pair in pairs for one in pair]
    assert len(used) == len(set(used)) and len(pairs) <= most
    assert all(better.quality > worse.quality for better, worse in pairs)
    # Nothing more could be made of what is left.
    left = [one for one in some if one.key not in used]
    assert len(pairs) == most or not any(a.quality != b.quality for a, b in combinations(left, 2))


def test_the_seed_decides_among_equals() -> None:
    some = [rated(str(n), float(n % 2)) for n in range(8)]
    found = {tuple(pick(some, seed=seed)) for seed in range(20)}
    assert len(found) > 5


# -- from verified traces --


def response(
    number: int, sample: int, said: str, *, tokens: int = 10, answer: str | None = "42", **other: Any
) -> Trace:
    trace = trace_of(number, (Span(Author.STUDENT, f"hm {said}"),), said, sample=sample, **other)
    return replace(
        trace,
        prompt=replace(trace.prompt, answer=answer),
        usage=Usage(tokens=PerAuthor(tokens)),
        template_arguments='{"enable_thinking": true}',
    )


def marked(trace: Trace, verdict: Verdict, mark: Mark | None = None) -> Marked:
    reason = None if verdict is Verdict.CORRECT else Reason.DIFFERENT
    found = mark or (Mark.KEPT if verdict is Verdict.CORRECT else Mark.VERDICT)
    return Marked(trace, found, Judgement(verdict, reason), "math")


def write_marked(path: Path, some: Sequence[Marked]) -> Path:
    for file, kept in ((path, True), (rejected_path(path), False)):
        rows = (one.to_row() for one in some if (one.mark is Mark.KEPT) is kept)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


RIGHT, WRONG, UNKNOWN = Verdict.CORRECT, Verdict.WRONG, Verdict.UNVERIFIABLE


@pytest.fixture
def verified(tmp_path: Path) -> Path:
    """One prompt with contrast, one without, one with a single response, and responses that do not count."""
    some = [
        marked(response(1, 0, "42", tokens=12), RIGHT),
        marked(response(1, 1, "41", tokens=20), WRONG),
        marked(response(1, 2, "who knows"), UNKNOWN),
        marked(response(1, 3, "42 again"), RIGHT, Mark.DUPLICATE),
        marked(response(2, 0, "41"), WRONG),
        marked(response(2, 1, "40"), WRONG),
        marked(response(3, 0, "42"), RIGHT),
        marked(response(4, 0, "41"), WRONG, Mark.CONTAMINATED),
        Marked(replace(response(3, 1, "4"), status=Status.LENGTH, reason="no end"), Mark.UNFINISHED),
    ]
    return write_marked(tmp_path / "verified.jsonl", some)


def settings(**given: Any) -> SamplesSettings:
    return SamplesSettings.model_validate(given)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_right_response_against_a_wrong_one(verified: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    paired = from_samples(settings(), [verified], output)
    assert paired.pairs == 1
    assert paired.counts == {
        "of unknown quality": 1,
        "repeated": 1,
        "contaminated": 1,
        "not whole": 1,
        "prompts without contrast": 1,
        "prompts with fewer than two responses to compare": 1,
    }
    assert paired.figures == {"chosen_tokens": 12, "rejected_tokens": 20, "chosen_longer": 0.0, "margin": 1.0}
    (row,) = rows(output)
    assert row["prompt"] == [{"role": "user", "content": question(1)[0].content, "reasoning_content": ""}]
    assert row["chosen"] == [{"role": "assistant", "content": "42", "reasoning_content": "hm 42"}]
    assert row["rejected"] == [{"role": "assistant", "content": "41", "reasoning_content": "hm 41"}]
    assert row["chat_template_kwargs"] == {"enable_thinking": True}
    assert (row["chosen_id"], row["rejected_id"], row["by"]) == ("p1#0", "p1#1", "verdict")
    assert (row["chosen_quality"], row["rejected_quality"], row["answer"]) == (1.0, 0.0, "42")
    (pair,) = read_rows(PAIRS, output)
    assert pair.to_row() == row
    assert json.loads(json.dumps(paired.to_json()))["pairs"] == 1


def test_the_same_call_again_changes_nothing_and_other_settings_are_refused(
    verified: Path, tmp_path: Path
) -> None:
    output = tmp_path / "pairs.jsonl"
    first = from_samples(settings(), [verified], output)
    before = output.read_bytes()
    assert from_samples(settings(), [verified], output) == first
    assert output.read_bytes() == before
    with pytest.raises(UserError, match="per_prompt: 1 before, 2 now"):
        from_samples(settings(per_prompt=2), [verified], output)
    with verified.open("a") as file:
        file.write(json.dumps(marked(response(9, 0, "42"), RIGHT).to_row()) + "\n")
    with pytest.raises(UserError, match="traces"):
        from_samples(settings(), [verified], output)
    assert output.read_bytes() == before
    assert from_samples(settings(), [verified], output, overwrite=True).pairs == 1


def test_several_files_of_one_prompt_make_pairs_together(tmp_path: Path) -> None:
    right = write_marked(tmp_path / "a.jsonl", [marked(response(1, 0, "42"), RIGHT)])
    wrong = write_marked(tmp_path / "b.jsonl", [marked(response(1, 0, "41"), WRONG)])
    output = tmp_path / "pairs.jsonl"
    # Named twice, a file counts once; so does one whose rejected part is named, too.
    assert from_samples(settings(), [right, wrong, rejected_path(wrong)], output).pairs == 1
    (row,) = rows(output)
    assert (row["chosen_id"], row["rejected_id"]) == ("0/p1#0", "1/p1#0")


def test_prompts_of_one_name_are_not_one_prompt(tmp_path: Path) -> None:
    other = response(1, 1, "41", messages=question(5))
    path = write_marked(tmp_path / "v.jsonl", [marked(response(1, 0, "42"), RIGHT), marked(other, WRONG)])
    paired = from_samples(settings(), [path], tmp_path / "pairs.jsonl")
    assert paired.pairs == 0
    assert paired.counts == {"prompts with fewer than two responses to compare": 2}


def test_files_that_were_joined_are_refused(tmp_path: Path) -> None:
    """One response of two with one id would be taken for the other."""
    both = [marked(response(1, 0, "42"), RIGHT), marked(response(1, 0, "41"), WRONG)]
    path = write_marked(tmp_path / "v.jsonl", both)
    with pytest.raises(UserError, match="two traces are called p1#0") as error:
        from_samples(settings(), [path], tmp_path / "pairs.jsonl")
    assert error.value.where == f"{rejected_path(path)}:1" and error.value.expected.endswith(f"{path}:1")


def test_plain_traces_have_no_verdict(tmp_path: Path) -> None:
    path = Path(write_traces(tmp_path / "t.jsonl", [response(1, 0, "42")]))
    with pytest.raises(UserError, match="has no verdict") as error:
        from_samples(settings(), [path], tmp_path / "pairs.jsonl")
    assert error.value.where == f"{path}:1" and "weft verify" in error.value.remedy


def test_responses_of_two_forms_are_refused(tmp_path: Path) -> None:
    other = replace(response(1, 1, "41"), template_arguments="{}")
    path = write_marked(tmp_path / "v.jsonl", [marked(response(1, 0, "42"), RIGHT), marked(other, WRONG)])
    with pytest.raises(UserError, match="in another form"):
        from_samples(settings(), [path], tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "no column"),
        ("not JSON\n", "not valid JSON"),
        ('{"mark": 3}\n', "no text in a column"),
        ("", "no trace is whole"),
    ],
)
def test_other_files_are_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        from_samples(settings(), [path], tmp_path / "pairs.jsonl")


def test_outputs_are_no_inputs(verified: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the output is the file of the traces"):
        from_samples(settings(), [verified], verified)
    with pytest.raises(UserError, match="no such file"):
        from_samples(settings(), [tmp_path / "none.jsonl"], tmp_path / "pairs.jsonl")
    with pytest.raises(UserError, match=r"not a \.jsonl file"):
        from_samples(settings(), [verified], tmp_path / "pairs.json")


# -- by a quality --


class Lengthy:
    """Finds long responses good; fails where it is told to."""

    name, binary = "lengthy", False

    def __init__(self, fails: Mapping[str, Exception] | None = None) -> None:
        self.fails, self.asked = dict(fails or {}), 0

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        self.asked += len(answered)
        for one in answered:
            if one.response in self.fails:
                raise self.fails.pop(one.response)
        return [None if one.response == "who knows" else float(len(one.response)) for one in answered]

    def describe(self) -> Mapping[str, object]:
        return {"quality": self.name}

    async def close(self) -> None: ...


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Lengthy:
    quality = Lengthy()

    async def opened(name: str, **_: Any) -> Lengthy:
        return quality

    monkeypatch.setattr(samples_module, "open_quality", opened)
    return quality


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    some = [response(1, n, said) for n, said in enumerate(["a", "a longer one", "of some", "who knows"])]
    return Path(write_traces(tmp_path / "t.jsonl", some))


def test_by_a_quality(judged: Lengthy, plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    paired = from_samples(settings(by="reward:x"), [plain], output)
    assert (paired.pairs, paired.counts) == (1, {"of unknown quality": 1})
    (row,) = rows(output)
    assert (row["chosen_quality"], row["rejected_quality"]) == (12.0, 1.0)
    assert len(rows(qualities_path(output))) == 3
    assert from_samples(settings(by="reward:x"), [plain], output) == paired
    assert judged.asked == 4  # nothing was asked twice


def test_an_engine_that_fails_is_asked_again(judged: Lengthy, plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    judged.fails = {"of some": EngineError("HTTP 500")}
    paired = from_samples(settings(by="reward:x"), [plain], output)
    assert (paired.pairs, paired.to_try_again) == (0, 1)
    assert not output.exists()  # half of the responses would give other pairs
    again = from_samples(settings(by="reward:x"), [plain], output)
    assert (again.pairs, again.to_try_again, judged.asked) == (1, 0, 5)


def test_what_was_judged_before_a_fall_is_kept(judged: Lengthy, plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    judged.fails = {"of some": RunError("out of memory")}
    with pytest.raises(RunError, match="out of memory"):
        from_samples(settings(by="reward:x", concurrency=1), [plain], output)
    assert len(rows(qualities_path(output))) == 2
    assert from_samples(settings(by="reward:x", concurrency=1), [plain], output).pairs == 1
    assert judged.asked == 5


def test_verifiers_and_answers_are_qualities(tmp_path: Path) -> None:
    path = Path(write_traces(tmp_path / "t.jsonl", [response(1, 0, "42"), response(1, 1, "41")]))
    for by in ("exact", "answer"):
        output = tmp_path / f"{by}.jsonl"
        assert from_samples(settings(by=by), [path], output).pairs == 1
        (row,) = rows(output)
        assert (row["chosen_id"], row["by"]) == ("p1#0", by)


def test_answers_need_an_answer(tmp_path: Path) -> None:
    path = Path(write_traces(tmp_path / "t.jsonl", [response(1, 0, "42", answer=None)]))
    with pytest.raises(UserError, match="no prompt has an answer"):
        from_samples(settings(by="answer"), [path], tmp_path / "pairs.jsonl")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "beauty"}, "no quality 'beauty'"),
        ({"min_margin": 1.0}, "no pair is further apart"),
        ({"per_prompt": 0}, "greater than or equal to 1"),
        ({"shuffle": True}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SamplesSettings.model_validate(given)
