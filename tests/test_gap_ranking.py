"""The reward gap as a whole: real small models, scripted ones, restarts, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import weft.gap
from scripted_server import EXPECTED, ScriptedServer
from weft.engines.base import CompletionRequest
from weft.engines.scripted import ScriptedEngine, ScriptedVocabulary, View, recite
from weft.engines.settings import EngineSettings
from weft.errors import EngineError, RunError, UserError
from weft.gap.ranking import measure as measuring
from weft.gap.ranking.measure import measure, reward
from weft.gap.ranking.pairs import read_pairs, spell_pairs
from weft.gap.ranking.reading import (
    PAIR_READINGS,
    PairReading,
    PairStatus,
    SideReading,
    read_by,
)
from weft.gap.ranking.result import PolicyGap, RewardGap
from weft.gap.ranking.settings import RewardGapSettings
from weft.intervals import Figure
from weft.records import Sampling
from weft.store import Manifest, RowStore, read_rows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def chat(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = [chat(f"{n} + {n}?", f"It is {2 * n}", f"It is {2 * n + 1} or so", answer=2 * n) for n in range(1, 9)]


def sums(view: View) -> str:
    """A model that adds well, unless the text so far says something else."""
    number = re.search(r"(\d+) \+ (\d+)", view.prompt)
    assert number is not None
    return recite("", f"It is {int(number[1]) + int(number[2])}")(view)


def scripted(name: str = "adds", **more: Any) -> ScriptedEngine:
    return ScriptedEngine(sums, name=name, vocabulary=ScriptedVocabulary("words"), thinks=False, **more)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedEngine]:
    """Engines by name, in place of those that would be opened."""
    there: dict[str, ScriptedEngine] = {}

    async def opened(settings: EngineSettings, **_: Any) -> ScriptedEngine:
        return there[settings.name]

    monkeypatch.setattr(measuring, "open_engine", opened)
    monkeypatch.setattr("weft.engines.opening.open_engine", opened)
    return there


def bare(gap: RewardGap) -> dict[str, Any]:
    """All of a result but when it was made and from which files."""
    data = gap.to_json()
    del data["made"]
    return data


def by_tokens(policy: PolicyGap, kind: str) -> Mapping[int | None, float | None]:
    reward = next(one for one in policy.rewards if one.kind == kind)
    return {at.tokens: at.accuracy.value for at in reward.by_prefix}


def judge_of(known: int) -> ScriptedEngine:
    """A judge that grades the first few sums, and talks about the others."""

    def grade(view: View) -> str:
        number = re.search(r"(\d+) \+", view.prompt)
        assert number is not None
        said = "Grade: 7" if int(number[1]) <= known else "Who could say?"
        return recite("", said)(view)

    return ScriptedEngine(grade, name="judge", vocabulary=ScriptedVocabulary("words"), thinks=False)


# -- scripted: every figure is known ---------------------------------------------------------------------


def test_a_model_that_knows_the_chosen_responses(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    engines["adds"] = scripted()
    gap = reward(write(tmp_path / "pairs.jsonl", ROWS), policies="adds", quality="answer", prefixes_at=(2, 3))
    (policy,) = gap.policies
    assert (policy.name, policy.pairs, policy.prompts, policy.left_out) == ("adds", 8, 8, {})
    # Alike are "It is" alone; the third token decides.
    assert by_tokens(policy, "simpo") == {1: 0.5, 2: 0.5, 4: 1.0, None: 1.0}
    assert [reward.kind for reward in policy.rewards] == ["simpo"]
    at = {one.tokens: (one.chosen.value, one.rejected.value, one.delta.value) for one in policy.delta_q}
    assert at == {2: (1.0, 1.0, 0.0), 3: (1.0, 0.0, 1.0)}
    holds = {one.policy: one.holds.value for one in policy.consistency}
    assert holds["none"] == holds["equal-length"] == 1.0
    assert holds["tail:0.5"] is None
    assert [drawn.quality.value for drawn in policy.drawn] == [1.0]
    assert policy.positions[0].chosen_entropy.value is None
    assert gap.correlations == ()
    assert "Without a reference" in "\n".join(gap.said)


def test_whole_responses_alone_when_nothing_is_continued(
    tmp_path: Path, engines: dict[str, ScriptedEngine]
) -> None:
    engines["adds"] = scripted()
    path = write(tmp_path / "pairs.jsonl", ROWS)
    gap = reward(
        path, policies="adds", quality="answer", continuations=0, draws=0, prefixes=("none", "first:2")
    )
    (policy,) = gap.policies
    assert (policy.delta_q, policy.drawn) == ((), ())
    assert {one.policy: (one.how, one.holds.value) for one in policy.consistency} == {
        "none": ("as it is", 1.0),
        "first:2": ("as it is", 0.5),  # no number, on either side
    }
    assert engines["adds"].requests == []


def test_without_quality_nothing_is_written(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    engines["adds"] = scripted()
    gap = reward(write(tmp_path / "pairs.jsonl", ROWS), policies=["adds"], output=tmp_path / "gap.json")
    assert engines["adds"].requests == []
    assert (gap.policies[0].delta_q, gap.policies[0].consistency, gap.policies[0].drawn) == ((), (), ())
    assert not (tmp_path / "gap.texts.jsonl").exists()
    assert RewardGap.from_json(json.loads((tmp_path / "gap.json").read_text())) == gap


def test_dpo_against_a_reference(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    def says_odd(view: View) -> str:
        return recite("", "It is 1000 or so")(view)

    words = ScriptedVocabulary("words")
    engines["adds"] = scripted()
    engines["odd"] = ScriptedEngine(says_odd, name="odd", vocabulary=words, thinks=False)
    gap = reward(write(tmp_path / "pairs.jsonl", ROWS), policies=["adds", "odd"], reference="odd")
    adds, odd = gap.policies
    assert by_tokens(adds, "dpo")[None] == 1.0
    assert [reward.kind for reward in odd.rewards] == ["simpo"]
    assert "odd: no DPO reward; it is the reference, for which that is 0." in gap.said
    assert list(gap.made.settings["engines"]) == ["adds", "odd"]


def test_a_reference_with_another_vocabulary(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    engines["adds"] = scripted()
    engines["letters"] = ScriptedEngine(
        sums, name="letters", vocabulary=ScriptedVocabulary("characters"), thinks=False
    )
    gap = reward(write(tmp_path / "pairs.jsonl", ROWS), policies="adds", reference="letters")
    assert [reward.kind for reward in gap.policies[0].rewards] == ["simpo"]
    assert "adds: no DPO reward; the reference letters has another vocabulary." in gap.said


def test_what_keeps_policies_from_a_reference_is_said_once(
    tmp_path: Path, engines: dict[str, ScriptedEngine]
) -> None:
    for name in ("one", "two", "three"):
        engines[name] = scripted(name)
    engines["other"] = ScriptedEngine(
        sums, name="other", vocabulary=ScriptedVocabulary("characters"), thinks=False
    )
    path = write(tmp_path / "pairs.jsonl", ROWS)
    gap = reward(path, policies=["one", "two", "three", "other"], reference="other")
    assert [said for said in gap.said if "no DPO reward" in said] == [
        "one, two, three: no DPO reward; the reference other has another vocabulary.",
        "other: no DPO reward; it is the reference, for which that is 0.",
    ]


def test_several_policies_are_correlated(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    """Three that add up to some number, and say another one beyond it."""

    def adds_up_to(most: int) -> Any:
        def script(view: View) -> str:
            number = re.search(r"(\d+) \+", view.prompt)
            assert number is not None
            value = int(number[1])
            text = f"It is {2 * value}" if value <= most else f"It is {2 * value + 1} or so"
            return recite("", text)(view)

        return script

    for most in (1, 4, 8):
        name = f"up to {most}"
        engines[name] = ScriptedEngine(adds_up_to(most), name=name, thinks=False)
    gap = reward(write(tmp_path / "pairs.jsonl", ROWS), policies=list(engines), quality="answer")
    (found,) = gap.correlations
    assert (found.reward, found.policies) == ("simpo", 3)
    assert (found.spearman.value, found.kendall.value) == (1.0, 1.0)
    assert {name: figure.value for name, figure in found.accuracy.items()} == {
        "up to 1": 1 / 8,
        "up to 4": 4 / 8,
        "up to 8": 1.0,
    }
    assert [figure.value for figure in found.quality.values()] == [1 / 8, 4 / 8, 1.0]
    frame = gap.to_pandas()
    rows = frame[(frame["part"] == "correlation") & (frame["figure"] == "quality")]
    assert list(rows["policy"]) == ["up to 1", "up to 4", "up to 8"]
    assert not frame[frame["at"] == "accuracy by prefix policy"].empty


@pytest.mark.parametrize("known", [0, 3, 8])
def test_texts_without_a_quality_are_said(
    tmp_path: Path, engines: dict[str, ScriptedEngine], known: int
) -> None:
    engines["adds"], engines["judge"] = scripted(), judge_of(known)
    path, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "gap.json"
    gap = reward(
        path, policies="adds", quality="judge:judge", prefixes=("none",), prefixes_at=(), output=output
    )
    rows = [json.loads(line) for line in (tmp_path / "gap.texts.jsonl").read_text().splitlines()]
    missing = sum(row["quality"] is None for row in rows)
    found = [sentence for sentence in gap.said if "could not be told of" in sentence]
    if known == len(ROWS):
        assert (missing, found) == (0, [])
    elif known:
        share = f"{missing / len(rows):.1%}"
        assert found == [
            f"The quality could not be told of {missing} of {len(rows)} texts ({share}), "
            "which figures leave out."
        ]
    else:
        assert missing == len(rows)
        assert found[0].startswith(f"The quality could not be told of any of {missing} texts")
        assert gap.policies[0].drawn[0].quality.value is None


def test_engine_errors_are_counted_and_tried_again(
    tmp_path: Path, engines: dict[str, ScriptedEngine]
) -> None:
    class Failing(ScriptedEngine):
        fails = True

        async def score(self, prefix: Any, continuation: Any) -> Any:
            if self.fails and "3 + 3" in self.vocabulary.decode(list(prefix)):
                raise EngineError("HTTP 500")
            return await super().score(prefix, continuation)

    engines["adds"] = failing = Failing(sums, name="adds", thinks=False)
    path, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "gap.json"
    settings = RewardGapSettings(policies=(EngineSettings(name="adds"),))
    broken = measure(settings, path, output)
    assert broken.to_try_again == 1
    assert broken.gap.policies[0].left_out == {"engine error": 1}
    assert broken.gap.policies[0].pairs == 7
    failing.fails = False
    mended = measure(settings, path, output)
    assert (mended.to_try_again, mended.gap.policies[0].pairs) == (0, 8)
    engines["adds"] = scripted()
    assert bare(measure(settings, path).gap) == bare(mended.gap)


def test_too_many_engine_errors_end_the_run(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    class Dead(ScriptedEngine):
        async def score(self, prefix: Any, continuation: Any) -> Any:
            raise EngineError("HTTP 500")

    engines["adds"] = Dead(sums, name="adds", thinks=False)
    rows = [chat(f"{n} + {n}?", "2", "3") for n in range(30)]
    with pytest.raises(RunError, match="pairs failed by engine errors"):
        reward(write(tmp_path / "pairs.jsonl", rows), policies="adds", concurrency=2)


def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    path = write(tmp_path / "pairs.jsonl", ROWS)
    engines["adds"], engines["too"] = scripted(), scripted("too")
    whole = reward(path, policies=["adds", "too"], quality="answer", output=tmp_path / "whole.json")

    def killed(after: int) -> Any:
        left = [after]

        def fault(request: CompletionRequest, view: View) -> Exception | None:
            left[0] -= 1
            return KeyboardInterrupt() if left[0] < 0 else None  # type: ignore[return-value]

        return fault

    for after in (3, 20):
        output = tmp_path / f"killed-{after}.json"
        engines["adds"], engines["too"] = scripted(), scripted("too", faults=[killed(after)])
        with pytest.raises(KeyboardInterrupt):
            reward(path, policies=["adds", "too"], quality="answer", output=output, concurrency=1)
        assert not output.exists()
        engines["adds"], engines["too"] = scripted(), scripted("too")
        again = reward(path, policies=["adds", "too"], quality="answer", output=output, concurrency=7)
        assert bare(again) == bare(whole)
        assert engines["adds"].requests == []
        names = ("pairs", "texts")
        rows = [sorted((tmp_path / f"{output.stem}.{name}.jsonl").read_text().splitlines()) for name in names]
        assert rows == [sorted((tmp_path / f"whole.{name}.jsonl").read_text().splitlines()) for name in names]


def test_another_policy_joins_what_is_there(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    path, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "gap.json"
    engines["adds"], engines["too"] = scripted(), scripted("too")
    reward(path, policies="adds", quality="answer", output=output)
    before = len(engines["adds"].requests)
    gap = reward(path, policies=["adds", "too"], quality="answer", output=output)
    assert [policy.name for policy in gap.policies] == ["adds", "too"]
    assert len(engines["adds"].requests) == before


def test_a_server_ranks_and_writes(tmp_path: Path) -> None:
    """It says no entropies, and scores and writes as the same script does in process."""
    with ScriptedServer(recite("Add.", "It is 8")) as server:
        policy = EngineSettings(name=f"{server.model}@{server.url}/v1", tokenizer="micro:student")
        gap = reward(
            write(
                tmp_path / "pairs.jsonl",
                [chat(f"{n} + 3?", "It is 8", "It is 7", answer=8) for n in range(5)],
            ),
            policies=[policy],
            quality="answer",
            prefixes=("none", "first:2"),
            prefixes_at=(2,),
            servers={"timeout": 20, "patience": 0},
        )
    (found,) = gap.policies
    assert found.name == policy.name
    assert found.positions[0].chosen_entropy.value is None
    assert found.positions[0].chosen_logp.value == EXPECTED
    assert by_tokens(found, "simpo")[None] == 1.0
    assert found.drawn[0].quality.value == 1.0
    assert {one.policy: one.holds.value for one in found.consistency} == {"none": 1.0, "first:2": 0.5}


# -- what is refused -------------------------------------------------------------------------------------


def test_other_data_or_another_judge_under_one_name(
    tmp_path: Path, engines: dict[str, ScriptedEngine]
) -> None:
    engines["adds"] = scripted()
    path, output = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "gap.json"
    reward(path, policies="adds", quality="answer", output=output)
    with pytest.raises(UserError, match="max_tokens: 1024 before, 7 now"):
        reward(path, policies="adds", quality="answer", output=output, max_tokens=7)
    with pytest.raises(UserError, match="pairs: "):
        reward(write(tmp_path / "others.jsonl", ROWS[:3]), policies="adds", output=output)
    engines["adds"] = ScriptedEngine(sums, name="adds", vocabulary=ScriptedVocabulary("bytes"), thinks=False)
    with pytest.raises(UserError, match="made from another model or pair"):
        reward(path, policies="adds", output=output)
    overwritten = reward(path, policies="adds", output=output, overwrite=True)
    assert overwritten.policies[0].pairs == 8


def test_what_cannot_be_measured_at_all(tmp_path: Path, engines: dict[str, ScriptedEngine]) -> None:
    class Mute:
        """An engine that cannot say how likely a text is."""

        def __init__(self) -> None:
            other = scripted()
            self.name, self.vocabulary, self.template = other.name, other.vocabulary, other.template
            self.context, self.sampling, self.end_ids = other.context, other.sampling, other.end_ids
            self.describe, self.close = other.describe, other.close

    path = write(tmp_path / "pairs.jsonl", ROWS)
    engines["adds"] = Mute()  # type: ignore[assignment]
    with pytest.raises(UserError, match="cannot say how likely"):
        reward(path, policies="adds")
    unanswered = write(tmp_path / "unanswered.jsonl", [chat("2 + 2?", "4", "5")])
    with pytest.raises(UserError, match="no pair has an answer to compare with"):
        reward(unanswered, policies="adds", quality="answer")
    with pytest.raises(UserError, match="no quality is called"):
        reward(path, policies="adds", quality="beauty")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policies": []}, "policies: "),
        ({"policies": ["a", "a"]}, "named twice"),
        ({"prefixes": ["nonsense"]}, "no prefix policy is called 'nonsense'"),
        ({"prefixes": ["consistent"]}, "asks a judge"),
        ({"prefixes_at": [0]}, "at least one token"),
        ({"temperatures": [0.5]}, "needs a quality"),
        ({"quality": "answer", "temperatures": [-1]}, "temperatures from 0"),
        ({"quality": "answer", "top_ps": [0]}, "top-p above 0"),
        ({"quality": "answer", "temperatures": list(range(20)), "top_ps": [0.1, 0.2, 0.3, 0.4]}, "64 ways"),
        ({"sampling": {"temperature": 0}}, "greedy continuations"),
        ({"reference": {"name": "a", "dtype": "float16"}}, "with other settings"),
        ({"beta": 0}, "beta"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        reward(tmp_path / "pairs.jsonl", **{"policies": ["a"], **given})


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="--merge-adapter"):
        reward(write(tmp_path / "pairs.jsonl", ROWS), policies=str(adapter))


@pytest.mark.parametrize("name", ["./nowhere", "micro:nobody"])
def test_a_later_policy_that_is_not_there_is_found_before_the_first_is_opened(
    tmp_path: Path, engines: dict[str, ScriptedEngine], name: str
) -> None:
    engines["adds"] = scripted()
    with pytest.raises(UserError, match=r"no such folder|no engine micro:nobody"):
        reward(write(tmp_path / "pairs.jsonl", ROWS), policies=["adds", name], output=tmp_path / "gap.json")
    assert not (tmp_path / "gap.pairs.jsonl").exists()


@pytest.mark.parametrize("name", ["gap.txt", "other.json", "pairs.json"])
def test_an_output_that_is_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "other.json").write_text('{"kind": "something"}')
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(ROWS))
    before = path.read_text()
    with pytest.raises(UserError, match=r"not a \.json file|no result of such"):
        reward(str(path), policies="micro:student", output=tmp_path / name)
    assert path.read_text() == before
    clash = write(tmp_path / "gap.pairs.jsonl", ROWS)
    with pytest.raises(UserError, match="the output is the file of the pairs"):
        reward(clash, policies="micro:student", output=tmp_path / "gap.json")


# -- settings and rows -----------------------------------------------------------------------------------


def test_ways_of_drawing() -> None:
    own = Sampling(0.7, 0.9, 20, 0.0)
    settings = RewardGapSettings(
        policies=(EngineSettings(name="a"),),
        quality="answer",
        temperatures=(0.0, 0.7, 1.0),
        top_ps=(0.9, 1.0),
    )
    grid = [(way.temperature, way.top_p) for way in settings.grid(own)]
    assert grid == [(0.7, 0.9), (0.0, 0.9), (0.7, 1.0), (1.0, 0.9), (1.0, 1.0)]
    plain = RewardGapSettings(policies=(EngineSettings(name="a"),))
    assert plain.grid(own) == (own,)
    assert plain.continuing(own) == own
    assert plain.continuing(dataclasses.replace(own, temperature=0.0)).temperature == 1.0


def test_rows_come_back_as_they_were() -> None:
    sides = SideReading((-1.5, -0.25), (0.5, 0.125)), SideReading((-3.0,), None)
    one = PairReading("m/3", "m", 3, "p", "d", "t", chosen=sides[0], rejected=sides[1])
    assert PairReading.from_row(json.loads(json.dumps(one.to_row()))) == one
    for broken in ({"schema": 2}, {"chosen": None}, {"status": "so"}, {"row": "x"}):
        with pytest.raises(ValueError, match=r"."):
            PairReading.from_row({**one.to_row(), **broken})
    uneven = {**one.to_row(), "chosen": {"logps": [1.0], "entropies": []}}
    with pytest.raises(ValueError, match="not of one length"):
        PairReading.from_row(uneven)


def test_numbers_that_are_none_are_not_kept(tmp_path: Path) -> None:
    class Overflowing(ScriptedEngine):
        async def score(self, prefix: Any, continuation: Any) -> Any:
            found = await super().score(prefix, continuation)
            return dataclasses.replace(found, logps=(float("-inf"), *found.logps[1:]))

    model = Overflowing(sums, thinks=False)
    pairs = spell_pairs(model, read_pairs(write(tmp_path / "pairs.jsonl", ROWS[:1]))).pairs
    path = tmp_path / "gap.pairs.jsonl"
    with RowStore(PAIR_READINGS, path, Manifest.create("0", {})) as store:
        asyncio.run(read_by(model, pairs, store))
        assert store.counts == {PairStatus.NOT_FINITE: 1}
    assert list(read_rows(PAIR_READINGS, path)) == []


def test_figures_of_other_tokens_are_an_engine_error(tmp_path: Path) -> None:
    class Short(ScriptedEngine):
        async def score(self, prefix: Any, continuation: Any) -> Any:
            found = await super().score(prefix, continuation)
            return dataclasses.replace(found, logps=found.logps[1:])

    model = Short(sums, thinks=False)
    pairs = spell_pairs(model, read_pairs(write(tmp_path / "pairs.jsonl", ROWS[:1]))).pairs
    path = tmp_path / "gap.pairs.jsonl"
    with RowStore(PAIR_READINGS, path, Manifest.create("0", {})) as store:
        asyncio.run(read_by(model, pairs, store, error_rate=1))
        assert store.counts == {PairStatus.ENGINE_ERROR: 1}


# -- real models -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def micro_pairs() -> list[dict[str, Any]]:
    """What the micro student wrote to some prompts, right and wrong, thinking and all."""
    import tempfile

    from weft.micro import is_correct, make_prompts
    from weft.prompts import open_prompts
    from weft.store import read_traces
    from weft.synthesis import SynthesisSettings, synthesize

    with tempfile.TemporaryDirectory() as folder:
        prompts, traces = Path(folder) / "prompts.jsonl", Path(folder) / "traces.jsonl"
        rows = [dataclasses.asdict(one) for one in make_prompts(24, 3, "harder")]
        rows += [dataclasses.asdict(one) for one in make_prompts(16, 3, "retention")]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = {"student": "micro:student", "strategy": "student-only", "samples": 6}
        settings = SynthesisSettings.model_validate(given)
        synthesize(settings, open_prompts(str(prompts)), traces)
        by_prompt: dict[str, list[Any]] = {}
        for trace in read_traces(traces):
            by_prompt.setdefault(trace.prompt.id, []).append(trace)
    return list(_right_and_wrong(by_prompt, is_correct))


def _right_and_wrong(by_prompt: Mapping[str, list[Any]], is_correct: Any) -> Iterator[dict[str, Any]]:
    for traces in by_prompt.values():
        answer = traces[0].prompt.answer
        right = [trace for trace in traces if is_correct(trace.response, answer)]
        wrong = [trace for trace in traces if not is_correct(trace.response, answer)]
        if right and wrong:
            row = chat(
                traces[0].prompt.messages[0].content, right[0].response, wrong[0].response, answer=answer
            )
            row["chosen"][0]["reasoning_content"] = right[0].thinking
            row["rejected"][0]["reasoning_content"] = wrong[0].thinking
            yield row


def test_three_checkpoints_of_the_micro_world(tmp_path: Path, micro_pairs: list[dict[str, Any]]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from weft.micro import model_path

    student = str(model_path("student"))
    model = AutoModelForCausalLM.from_pretrained(student)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * 0.2)
    model.save_pretrained(tmp_path / "noised")
    AutoTokenizer.from_pretrained(student).save_pretrained(tmp_path / "noised")
    noised = str(tmp_path / "noised")

    assert len(micro_pairs) >= 5
    gap = weft.gap.reward(
        write(tmp_path / "pairs.jsonl", micro_pairs),
        policies=[noised, "micro:student", "micro:teacher"],
        reference="micro:student",
        quality="answer",
        output=tmp_path / "gap.json",
        max_tokens=200,
        continue_pairs=6,
        continuations=2,
        prefixes=("none", "equal-length", "first:8"),
        prefixes_at=(2, 400),
    )
    bad, own, teacher = gap.policies
    assert [reward.kind for reward in bad.rewards] == ["dpo", "simpo"]
    assert [reward.kind for reward in own.rewards] == ["simpo"]
    for policy in gap.policies:
        assert policy.pairs == len(micro_pairs)
        assert policy.delta_q[-1].delta.value == 1.0  # whole responses, one right and one wrong
        assert policy.consistency[0].holds.value == 1.0
        assert policy.positions[0].chosen_entropy.value is not None
        assert all(isinstance(drawn.quality, Figure) for drawn in policy.drawn)
    qualities = [policy.drawn[0].quality.value for policy in gap.policies]
    assert None not in qualities
    assert teacher.drawn[0].quality.value == max(value for value in qualities if value is not None)
    (simpo,) = gap.correlations  # DPO's reward is that of two policies only
    assert (simpo.reward, simpo.policies) == ("simpo", 3)
    assert RewardGap.from_json(gap.to_json()) == gap
    # The student's own words are likelier to the student than to the noised one.
    assert own.positions[0].chosen_logp.value is not None
    assert bad.positions[0].chosen_logp.value is not None
    assert own.positions[0].chosen_logp.value > bad.positions[0].chosen_logp.value


def test_log_probabilities_are_the_models_own(tmp_path: Path, micro_pairs: list[dict[str, Any]]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from weft.engines.opening import open_engine
    from weft.micro import model_path

    path = write(tmp_path / "pairs.jsonl", micro_pairs[:2])
    reward(path, policies="micro:student", output=tmp_path / "gap.json")
    model = AutoModelForCausalLM.from_pretrained(str(model_path("student")), dtype="float32").eval()

    async def spelled() -> Any:
        engine = await open_engine(EngineSettings(name="micro:student"), date=date(2026, 1, 1))
        try:
            return spell_pairs(engine, read_pairs(path)).pairs, engine.vocabulary.size
        finally:
            await engine.close()

    pairs, size = asyncio.run(spelled())
    readings = {one.row: one for one in read_rows(PAIR_READINGS, tmp_path / "gap.pairs.jsonl")}
    for pair in pairs:
        assert pair.thinks
        for name in ("chosen", "rejected"):
            ids = [*pair.prompt_ids, *pair.ids(name)]
            with torch.no_grad():
                logps = model(torch.tensor([ids])).logits[0, :-1, :size].log_softmax(-1)
            logps = logps[len(pair.prompt_ids) - 1 :]
            own = logps.gather(1, torch.tensor(pair.ids(name))[:, None])[:, 0]
            found: SideReading = getattr(readings[pair.row], name)
            assert found.logps == pytest.approx(own.tolist(), abs=1e-4)
            entropies = -(logps.exp() * logps).sum(-1)
            assert found.entropies == pytest.approx(entropies.tolist(), abs=1e-4)
