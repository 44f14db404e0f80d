"""Continuing prefixes: each text is written once, judged as a user reads it, and the same on every run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weft.engines.base import Completion, CompletionRequest, Engine, Finish, uniform
from weft.engines.scripted import CLOSE, END, Fault, Script, ScriptedEngine, View
from weft.errors import EngineError, RunError, UserError
from weft.gap.ranking.continuing import judge_texts, response_of
from weft.gap.ranking.judged import JUDGED, Job, Judged, TextStatus, by_id, mean_quality, side_jobs
from weft.gap.ranking.pairs import SpelledPair
from weft.quality.answer import AnswerQuality
from weft.quality.base import Answered, Quality
from weft.records import Message, Sampling
from weft.store import Manifest, RowStore, read_rows, rejected_path

WARM = Sampling(1.0, 1.0, 0, 0.0)


def pair_of(
    engine: Engine,
    chosen: str,
    rejected: str,
    *,
    row: int = 0,
    prompt: str = "6 * 7?",
    answer: str | None = "42",
    thinks: bool = False,
) -> SpelledPair:
    """A pair in the engine's tokens; thinking responses hold their closing tag."""
    messages = (Message("user", prompt),)
    render = engine.template.prompt if thinks else engine.template.unthinking_prompt
    read = engine.vocabulary.encode_template
    return SpelledPair(
        row=row,
        id=str(row),
        prompt_id=f"of {prompt}",
        messages=messages,
        answer=answer,
        prompt_ids=tuple(read(render(messages))),
        chosen_ids=tuple(read(chosen + END)),
        rejected_ids=tuple(read(rejected + END)),
        thinks=thinks,
    )


def by_beginning(endings: dict[str, str]) -> Script:
    """A policy that ends its text by how it begins; the first match counts."""

    def script(view: View) -> str:
        begun, ending = next((b, e) for b, e in endings.items() if view.text.startswith(b))
        # Asked in the middle of its own ending it goes on there.
        for at in range(len(ending), 0, -1):
            if view.text.endswith(ending[:at]) and len(view.text) >= len(begun) + at:
                return ending[at:] + END
        return ending + END

    return script


class Dice(ScriptedEngine):
    """Ends every text by `` 42`` or `` 41``, by the draw for the token after the prefix."""

    def __init__(self, chances: dict[str, float], most: int = 10_000) -> None:
        """``most`` requests are answered, then the engine is dead."""
        super().__init__(by_beginning({"": " 42"}), thinks=False)
        self.sampling = WARM
        self.chances, self.most = chances, most

    async def complete(self, request: CompletionRequest) -> Completion:
        if len(self.requests) == self.most:
            raise RunError("the engine is dead")
        self.requests.append(request)
        text = self.vocabulary.decode(request.prefix).rpartition("assistant\n")[2]
        chance = next(value for begun, value in self.chances.items() if text.startswith(begun))
        right = uniform(request.seed, len(request.prefix)) < chance
        return Completion(
            tuple(self.vocabulary.encode_template((" 42" if right else " 41") + END)), Finish.STOP
        )


class Lengths:
    """A quality: the characters of a response; ``None`` for texts that hold a question mark."""

    name = "lengths"
    binary = False

    def __init__(self) -> None:
        self.seen: list[Answered] = []

    async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
        self.seen += answered
        return [None if "?" in one.response else float(len(one.response)) for one in answered]

    def describe(self) -> dict[str, object]:
        return {"quality": self.name}

    async def close(self) -> None: ...


def run(
    engine: Engine, jobs: Iterable[Job], output: Path, quality: Quality | None = None, **given: Any
) -> dict[str, Judged]:
    """One run; what is on disk afterwards."""
    manifest = Manifest.create("0", {"test": True}, {}, date="2026-01-01")
    settings = {"max_tokens": 20, "sampling": WARM, **given}
    with RowStore(JUDGED, output, manifest) as store:
        asyncio.run(judge_texts(engine, quality or AnswerQuality(), jobs, store, **settings))
    return by_id(read_rows(JUDGED, output))


def test_what_a_policy_goes_on_to_write_is_judged(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"Well": " it is 42", "Hm": " it is 41"}), thinks=False)
    pair = pair_of(engine, "Well, 42 then", "Hm, 41 then")
    jobs = [*side_jobs(pair, "chosen", 1, 1), *side_jobs(pair, "rejected", 1, 1)]
    found = run(engine, jobs, tmp_path / "t.jsonl")
    good, bad = (found[job.id("scripted")] for job in jobs)
    assert (good.text, good.response, good.quality) == (" it is 42", "Well it is 42", 1.0)
    assert (bad.text, bad.response, bad.quality) == (" it is 41", "Hm it is 41", 0.0)
    assert good.finished
    assert good.tokens == 3
    assert (good.side, good.prefix, good.sample, good.row) == ("chosen", 1, 0, 0)
    assert (good.temperature, good.top_p) == (1.0, 1.0)


def test_a_whole_response_is_judged_as_it_stands(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " never"}), thinks=False)
    pair = pair_of(engine, "It is 42", "It is 41 or 43, I think")
    jobs = side_jobs(pair, "chosen", 4, 3)
    assert jobs == side_jobs(pair, "chosen", 99, 7) == side_jobs(pair, "chosen", 99, 0)
    (judged,) = run(engine, jobs, tmp_path / "t.jsonl").values()
    assert not engine.requests
    assert (judged.response, judged.text, judged.quality) == ("It is 42", "", 1.0)
    assert judged.finished
    assert judged.temperature is None


def test_a_cut_text_as_it_is_did_not_finish(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " never"}), thinks=False)
    pair = pair_of(engine, "It is 42, yes", "No")
    (job,) = side_jobs(pair, "chosen", 3, 0)
    (judged,) = run(engine, [job], tmp_path / "t.jsonl").values()
    assert not engine.requests
    assert (judged.response, judged.finished, judged.quality) == ("It is 42", False, 1.0)


def test_equal_prefixes_are_written_once_for_both_sides(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    pair = pair_of(engine, "Well now 42", "Well now 41")
    jobs = [job for side in ("chosen", "rejected") for job in side_jobs(pair, side, 2, 3)]
    found = run(engine, [*jobs, *jobs], tmp_path / "t.jsonl")
    assert len(engine.requests) == len(found) == 3
    assert {judged.side for judged in found.values()} == {"both"}
    later = [job for side in ("chosen", "rejected") for job in side_jobs(pair, side, 3, 3)]
    assert {job.side for job in later} == {"chosen", "rejected"}


def test_both_sides_meet_the_same_luck(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    pair = pair_of(engine, "Well 42", "Hm 41")
    jobs = [job for side in ("chosen", "rejected") for job in side_jobs(pair, side, 1, 40)]
    found = run(engine, jobs, tmp_path / "t.jsonl")
    chosen, rejected = ([found[job.id("scripted")].quality for job in jobs[at : at + 40]] for at in (0, 40))
    assert chosen == rejected
    assert 0 < sum(quality or 0 for quality in chosen) < 40
    seeds = {request.seed for request in engine.requests}
    assert len(seeds) == 40


def test_policies_and_ways_of_drawing_meet_the_same_luck_pairs_and_samples_do_not(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    one = pair_of(engine, "Well 42", "Hm 41")
    two = replace(one, row=1, prompt_id="another")
    jobs = [Job(pair, "", 0, sample, replace(WARM, temperature=t)) for pair in (one, two)
            for t in (0.5, 1.0) for sample in (0, 1)]  # fmt: skip
    run(engine, jobs, tmp_path / "t.jsonl")
    seeds = [request.seed for request in engine.requests]
    assert len(set(seeds)) == 4
    assert seeds[:2] == seeds[2:4]
    other = Dice({"": 0.5})
    other.name = "other"
    run(other, jobs, tmp_path / "o.jsonl")
    assert [request.seed for request in other.requests] == seeds
    run(reseeded := Dice({"": 0.5}), jobs, tmp_path / "s.jsonl", seed=1)
    assert not set(seeds) & {request.seed for request in reseeded.requests}


def test_greedy_texts_are_written_once(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42"}), thinks=False)
    pair = pair_of(engine, "Well 42", "Hm 41")
    totals: list[int] = []
    jobs = side_jobs(pair, "chosen", 1, 5)
    found = run(engine, jobs, tmp_path / "t.jsonl", sampling=None, began=totals.append)
    assert len(engine.requests) == len(found) == 1
    assert totals == [1]
    assert mean_quality("scripted", jobs, found) == 1.0


def test_a_text_that_meets_the_limit_is_judged_as_it_stands(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42 and so on and on and on"}), thinks=False)
    (job,) = side_jobs(pair_of(engine, "Well 42", "Hm 41"), "chosen", 1, 1)
    (judged,) = run(engine, [job], tmp_path / "t.jsonl", max_tokens=3).values()
    assert (judged.text, judged.tokens, judged.finished, judged.quality) == (" 42 and so", 3, False, 1.0)


@pytest.mark.parametrize(
    ("written", "response", "thinking", "quality"),
    [
        (f" 41 no 42\n{CLOSE}\n\nIt is 42.{END}", "It is 42.", "Well 41 no 42", 1.0),
        (f" 42\n{CLOSE}\n\nIt is 41.{END}", "It is 41.", "Well 42", 0.0),
        (f" 42{END}", "", "Well 42", 0.0),
        (f" 42\n{CLOSE}{END}", "", "Well 42", 0.0),
    ],
)
def test_thinking_is_not_judged(
    tmp_path: Path, written: str, response: str, thinking: str, quality: float
) -> None:
    def script(view: View) -> str:
        return written

    engine = ScriptedEngine(script)
    pair = pair_of(engine, f"Well 42\n{CLOSE}\n\n42", f"Hm\n{CLOSE}\n\n41", thinks=True)
    (job,) = side_jobs(pair, "chosen", 1, 1)
    seen = Lengths()
    (judged,) = run(engine, [job], tmp_path / "t.jsonl").values()
    run(engine, [job], tmp_path / "u.jsonl", seen)
    assert (judged.response, judged.quality) == (response, quality)
    assert [(one.response, one.thinking, one.answer) for one in seen.seen] == [(response, thinking, "42")]


def test_thinking_that_meets_the_limit_has_no_response(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42 and on and on"}))
    pair = pair_of(engine, f"Well 42\n{CLOSE}\n\n42", f"Hm\n{CLOSE}\n\n41", thinks=True)
    (job,) = side_jobs(pair, "chosen", 1, 1)
    (judged,) = run(engine, [job], tmp_path / "t.jsonl", max_tokens=3).values()
    assert (judged.response, judged.finished, judged.quality) == ("", False, 0.0)


def test_a_prefix_cut_after_thinking_goes_on_with_the_response(tmp_path: Path) -> None:
    def script(view: View) -> str:
        return " 42" + END if view.response is not None else "never"

    engine = ScriptedEngine(script)
    pair = pair_of(engine, f"Well\n{CLOSE}\n\nIt is 42", f"Hm\n{CLOSE}\n\n41", thinks=True)
    (job,) = side_jobs(pair, "chosen", 7, 1)  # Well, line feed, tag, two line feeds, It, is
    (judged,) = run(engine, [job], tmp_path / "t.jsonl").values()
    assert judged.response == "It is 42"


def test_own_texts_begin_with_the_prompt(tmp_path: Path) -> None:
    engine = Dice({"": 1.0})
    pair = pair_of(engine, "Well 42", "Hm 41")
    job = Job(pair, "", 0, 0, WARM)
    (judged,) = run(engine, [job], tmp_path / "t.jsonl").values()
    assert list(engine.requests[0].prefix) == list(pair.prompt_ids)
    assert (judged.side, judged.prefix, judged.row, judged.response) == ("", None, None, "42")
    assert judged.tokens == 1


def test_a_quality_that_cannot_be_told_is_none_and_the_text_complete(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " really?"}), thinks=False)
    jobs = side_jobs(pair_of(engine, "Well 42", "Hm 41"), "chosen", 1, 1)
    found = run(engine, jobs, tmp_path / "t.jsonl", Lengths())
    assert [judged.quality for judged in found.values()] == [None]
    assert mean_quality("scripted", jobs, found) is None


def test_no_room_in_the_context_is_said(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42"}), thinks=False)
    pair = pair_of(engine, "Well well well 42", "Hm 41")
    engine.context = len(pair.prompt_ids) + 3
    jobs = [*side_jobs(pair, "chosen", 3, 1), *side_jobs(pair, "chosen", 2, 1)]
    found = run(engine, jobs, tmp_path / "t.jsonl")
    assert [judged.prefix for judged in found.values()] == [2]
    (refused,) = read_rows(JUDGED, rejected_path(tmp_path / "t.jsonl"))
    assert (refused.status, refused.prefix) == (TextStatus.NO_ROOM, 3)
    assert refused.reason


def failing_once(times: int = 1) -> Fault:
    left = times

    def fault(request: CompletionRequest, view: View) -> Exception | None:
        nonlocal left
        left -= 1
        return EngineError("HTTP 500") if left >= 0 else None

    return fault


def texts_of(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: str(row["id"]))


def many(engine: Engine) -> list[Job]:
    pairs = [
        pair_of(engine, f"Well {row} is 42", f"Hm {row} is 41", row=row, prompt=f"{row}?") for row in range(6)
    ]
    return [
        job
        for pair in pairs
        for side in ("chosen", "rejected")
        for job in (*side_jobs(pair, side, 2, 3), Job(pair, "", 0, 0, WARM))
    ]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_rows_do_not_depend_on_concurrency_or_interruptions(tmp_path: Path, concurrency: int) -> None:
    whole = Dice({"": 0.5})
    run(whole, many(whole), tmp_path / "whole.jsonl")
    engine = Dice({"": 0.5}, most=9)
    jobs = many(engine)
    with pytest.raises(RunError, match="is dead"):
        run(engine, jobs, tmp_path / "t.jsonl", concurrency=concurrency)
    kept = len(texts_of(tmp_path / "t.jsonl"))
    assert 0 < kept < len(texts_of(tmp_path / "whole.jsonl"))
    rest, counted = Dice({"": 0.5}), []
    run(rest, jobs, tmp_path / "t.jsonl", concurrency=concurrency, done=lambda: counted.append(1))
    assert texts_of(tmp_path / "t.jsonl") == texts_of(tmp_path / "whole.jsonl")
    assert len(rest.requests) == len(whole.requests) - kept
    assert len(counted) == len(whole.requests)


def test_a_policy_that_fails_is_tried_again_on_the_next_run(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42"}), thinks=False, faults=[failing_once()])
    pair = pair_of(engine, "Well 42", "Hm 41")
    jobs = [*side_jobs(pair, "chosen", 1, 1), *side_jobs(pair, "rejected", 1, 1)]
    told: list[str] = []
    found = run(engine, jobs, tmp_path / "t.jsonl", concurrency=1, tell=told.append)
    assert [judged.side for judged in found.values()] == ["rejected"]
    (failed,) = read_rows(JUDGED, rejected_path(tmp_path / "t.jsonl"))
    assert failed.status is TextStatus.ENGINE_ERROR
    assert "HTTP 500" in (failed.reason or "")
    assert any("HTTP 500" in text for text in told)
    assert len(run(engine, jobs, tmp_path / "t.jsonl")) == 2
    assert not rejected_path(tmp_path / "t.jsonl").read_text(encoding="utf-8")


def test_a_judge_that_fails_is_tried_again_too(tmp_path: Path) -> None:
    class Failing(Lengths):
        async def judge(self, answered: Sequence[Answered]) -> Sequence[float | None]:
            if "bad" in answered[0].response and not self.seen:
                raise EngineError("the judge is down")
            return await super().judge(answered)

    engine = ScriptedEngine(by_beginning({"": " bad"}), thinks=False)
    jobs = side_jobs(pair_of(engine, "Well 42", "Hm 41"), "chosen", 1, 1)
    quality = Failing()
    assert not run(engine, jobs, tmp_path / "t.jsonl", quality)
    quality.seen.append(Answered((), ""))
    assert [judged.quality for judged in run(engine, jobs, tmp_path / "t.jsonl", quality).values()] == [8.0]


def test_an_engine_that_always_fails_ends_the_run(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42"}), thinks=False, faults=[failing_once(10_000)])
    pairs = [pair_of(engine, f"Well {row} 42", f"Hm {row} 41", row=row) for row in range(40)]
    jobs = [job for pair in pairs for job in side_jobs(pair, "chosen", 1, 1)]
    with pytest.raises(RunError, match="HTTP 500"):
        run(engine, jobs, tmp_path / "t.jsonl", concurrency=2)
    assert len(engine.requests) < 40


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"max_tokens": 21},
        {"sampling": Sampling(0.5, 1.0, 0, 0.0)},
        {"quality": Lengths()},
    ],
)
def test_finished_texts_of_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    engine = Dice({"": 0.5})
    jobs = side_jobs(pair_of(engine, "Well 42", "Hm 41"), "chosen", 1, 1)
    run(engine, jobs, tmp_path / "t.jsonl")
    with pytest.raises(UserError, match="another pair or setting"):
        run(engine, jobs, tmp_path / "t.jsonl", **changed)
    other = [replace(job, pair=replace(job.pair, answer="41")) for job in jobs]
    with pytest.raises(UserError, match="another pair or setting"):
        run(engine, other, tmp_path / "t.jsonl")


def test_a_way_that_the_policy_cannot_draw_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Picky(ScriptedEngine):
        def check(self, sampling: Sampling) -> None:
            if sampling.temperature == 0.5:
                raise UserError("it cannot draw so")

    engine = Picky(by_beginning({"": " 42"}), thinks=False)
    pair = pair_of(engine, "Well 42", "Hm 41")
    jobs = [Job(pair, "", 0, 0, WARM), Job(pair, "", 0, 0, replace(WARM, temperature=0.5))]
    with pytest.raises(UserError, match="cannot draw"):
        run(engine, jobs, tmp_path / "t.jsonl")
    assert not engine.requests
    assert len(run(engine, jobs[:1], tmp_path / "t.jsonl")) == 1


def test_sessions_are_given_back(tmp_path: Path) -> None:
    engine = ScriptedEngine(by_beginning({"": " 42"}), thinks=False, faults=[failing_once()])
    jobs = side_jobs(pair_of(engine, "Well 42", "Hm 41"), "chosen", 1, 4)
    run(engine, jobs, tmp_path / "t.jsonl")
    assert sorted(engine.released) == sorted(request.session for request in engine.requests)
    assert len(set(engine.released)) == 4


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    engine = Dice({"": 0.5})
    found = run(engine, many(engine), tmp_path / "t.jsonl")
    for judged in found.values():
        assert Judged.from_row(json.loads(json.dumps(judged.to_row()))) == judged


@pytest.mark.parametrize(
    "broken",
    [
        {"schema": 99},
        {"side": "left"},
        {"side": None},
        {"status": "fine"},
        {"tokens": None},
        {"row": "x"},
        {"quality": "good"},
        {"id": ...},
    ],
)
def test_rows_of_something_else_are_refused(broken: dict[str, Any]) -> None:
    judged = Judged("p#1", "p", 0, "q", "d", "chosen", 1, 0, 1.0, 1.0, quality=1.0)
    row = {**judged.to_row(), **broken}
    row = {name: value for name, value in row.items() if value is not ...}
    with pytest.raises(ValueError, match=r".+"):
        Judged.from_row(row)


def test_control_tokens_and_halves_of_characters_in_a_text() -> None:
    engine = ScriptedEngine(by_beginning({"": ""}), thinks=True)
    read = engine.vocabulary.encode_template
    said = response_of(engine, read(f"a {CLOSE} b {CLOSE} c{END}"), thinks=True)
    assert (said.thinking, said.response) == ("a", f"b {CLOSE} c")
    assert response_of(engine, read(f"a {CLOSE} b{END}"), thinks=False).response == "b"
    assert response_of(engine, read(f"a b{END}"), thinks=False).response == "a b"
    assert response_of(engine, [], thinks=True).response == ""
