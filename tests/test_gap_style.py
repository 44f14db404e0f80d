"""``weft.gap.style``: from files to figures, on scripted students and on the micro world."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import weft.gap
from gap_world import STUDENT, TEACHER, question, trace_of, write_rows, write_traces
from weft.engines.scripted import ScriptedEngine
from weft.engines.settings import EngineSettings
from weft.errors import EngineError, UserError
from weft.gap import style
from weft.gap.distance.reading import Silence
from weft.gap.distance.readings import READINGS, Reading
from weft.gap.distance.result import SourceGap, StyleGap
from weft.gap.distance.settings import StyleSettings
from weft.gap.ranking.settings import RewardGapSettings
from weft.micro import make_prompts
from weft.prompts import open_prompts
from weft.records import Span
from weft.store import read_rows, rejected_path
from weft.synthesis import SynthesisSettings, synthesize

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = 40


class Watched(Silence):
    def __init__(self) -> None:
        self.total, self.skips = 0, 0
        self.found: list[Reading] = []
        self.notes: list[str] = []

    def began(self, total: int) -> None:
        self.total = total

    def skipped(self) -> None:
        self.skips += 1

    def read(self, reading: Reading) -> None:
        self.found.append(reading)

    def noted(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the micro world by strategy; ``own`` is the student's, with draws of its own."""
    folder = tmp_path_factory.mktemp("world")
    rows = [{"id": one.id, "prompt": one.prompt} for one in make_prompts(PROMPTS, 0, "finetune")]
    prompts = open_prompts(write_rows(folder / "prompts.jsonl", rows))
    files: dict[str, str] = {}
    for name, strategy, seed in (
        ("own", "student-only", 0),
        ("student-only", "student-only", 1),
        ("tessy", "tessy", 1),
        ("teacher-only", "teacher-only", 1),
    ):
        settings = SynthesisSettings.model_validate(
            {"student": "micro:student", "teacher": "micro:teacher", "strategy": strategy, "seed": seed}
        )
        synthesize(settings, prompts, folder / f"{name}.jsonl")
        files[name] = str(folder / f"{name}.jsonl")
    return files


@pytest.fixture(scope="module")
def measured(world: dict[str, str]) -> StyleGap:
    traces = [world[name] for name in ("tessy", "student-only", "teacher-only")]
    return style(traces, student="micro:student", reference=world["own"], resamples=300)


def source(gap: StyleGap, label: str) -> SourceGap:
    return next(one for one in gap.sources if one.label == label)


def script(path: Path, **more: Any) -> str:
    data = {"scripts": [{"thinking": "okay , so it is 42 .", "response": "the answer is 42 ."}], **more}
    path.write_text(json.dumps(data))
    return f"scripted:{path}"


@pytest.fixture
def few(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A scripted student, its own traces and those of a teacher, twelve prompts each."""
    own = [trace_of(n, strategy="student-only", student="me") for n in range(12)]
    said = [[Span(TEACHER, f"hence {n} it follows")] for n in range(12)]
    other = [
        trace_of(n, span, "therefore 42", strategy="teacher-only", seed=1, by=TEACHER)
        for n, span in enumerate(said)
    ]
    yield (
        script(tmp_path / "script.json"),
        write_traces(tmp_path / "own.jsonl", own),
        write_traces(tmp_path / "other.jsonl", other),
    )


# -- the micro world --


def test_the_teachers_traces_are_far_and_cooperative_ones_near(measured: StyleGap) -> None:
    far, near, own = (source(measured, name) for name in ("teacher-only", "tessy", "own"))
    assert (far.all.nll_per_token.low or 0) > (near.all.nll_per_token.high or 9)
    assert near.all.nll_per_token.value == pytest.approx(own.all.nll_per_token.value, abs=0.05)
    assert far.similarity is not None
    assert near.similarity is not None
    assert (far.similarity.tfidf_cosine.high or 9) < (near.similarity.tfidf_cosine.low or 0)
    assert far.similarity.two_sample_accuracy.value == 1.0
    assert (near.similarity.two_sample_accuracy.low or 1) < 0.6
    assert (far.verdict.advice, near.verdict.advice) == ("synthesise", "train")
    assert "operation" in {marker.text for marker in far.markers if marker.z > 0}
    assert {one.first for one in measured.comparisons} == {"tessy", "student-only"}


def test_text_that_it_drew_itself_surprises_no_more_than_expected(measured: StyleGap) -> None:
    """Drawn with top-k or top-p by default, so somewhat less than at temperature 1."""
    for name in ("own", "student-only"):
        figure = source(measured, name).all.excess_nll_per_token
        assert figure.value is not None
        assert -0.06 < figure.value < 0.01


def test_what_was_measured_of_whom(measured: StyleGap, world: dict[str, str]) -> None:
    near, far, own = (source(measured, name) for name in ("tessy", "teacher-only", "own"))
    assert set(near.by_author) == {"student", "teacher"}
    assert set(far.by_author) == {"teacher"}
    assert set(near.by_kind) == {"style", "capability"}
    assert set(near.by_part) == {"thinking", "response"}
    assert near.strategy == "tessy"
    assert own.similarity is None
    assert measured.sources[-1] is own
    assert measured.boundary == "micro:student"
    assert measured.reference == world["own"]
    assert set(measured.made.files) == set(world.values())
    assert measured.made.settings["student"]["weights"]
    assert measured.made.settings["boundary"]["name"] == "micro:student"
    assert measured.made.command == ()
    assert measured.readings is None


def test_json_and_pandas(measured: StyleGap) -> None:
    data = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert StyleGap.from_json(data) == measured
    assert set(data["sources"][0]["all"]["nll_per_token"]) == {"value", "low", "high", "n"}
    frame = measured.to_pandas()
    row = frame[(frame.source == "tessy") & (frame.part == "all") & (frame.figure == "nll_per_token")]
    assert row.value.item() == source(measured, "tessy").all.nll_per_token.value


def test_plain_rows_are_measured_as_traces_are(world: dict[str, str], tmp_path: Path) -> None:
    """The same texts as SFT data of others: equal figures, but nobody knows who wrote what."""
    traces = [json.loads(line) for line in Path(world["tessy"]).read_text().splitlines()]
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in traces]
    tagged = [
        {
            "messages": [
                *({"role": one["role"], "content": one["content"]} for one in row["prompt"]),
                {
                    "role": "assistant",
                    "content": "<think>\n{reasoning_content}\n</think>\n\n{content}".format(
                        **row["completion"][0]
                    ),
                },
            ]
        }
        for row in reversed(traces)
    ]
    files = [write_rows(tmp_path / "plain.jsonl", rows), write_rows(tmp_path / "tagged.jsonl", tagged)]
    gap = style([world["tessy"], *files], student="micro:student", reference=world["own"], resamples=50)
    one, *others = gap.sources[:-1]
    for other in others:
        assert other.by_author == {}
        assert other.all.nll_per_token.value == pytest.approx(one.all.nll_per_token.value, abs=1e-4)
        assert other.similarity is not None
        assert one.similarity is not None
        assert other.similarity.tfidf_cosine.value == pytest.approx(one.similarity.tfidf_cosine.value)
        assert other.similarity.prompts == PROMPTS
    assert [pair.nll_per_token.value for pair in gap.comparisons] == pytest.approx([0] * 3, abs=1e-4)


def test_another_vocabulary_reads_the_same_texts(world: dict[str, str], tmp_path: Path) -> None:
    gap = style(
        world["tessy"], student=script(tmp_path / "s.json", vocabulary="bytes"), boundary="oracle", limit=3
    )
    [one] = gap.sources
    assert one.texts == 3
    assert one.left_out == {"not_drawn": PROMPTS - 3}
    assert one.all.entropy_per_token.value is None
    assert one.all.nll_per_token.value is not None
    assert one.all.bits_per_byte.value == pytest.approx(one.all.nll_per_token.value / math.log(2))
    assert one.verdict.advice == "unknown"


# -- files and settings --


def test_the_order_of_a_file_changes_nothing(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, own, other = few
    lines = Path(other).read_text().splitlines(keepends=True)
    turned = tmp_path / "turned" / "other.jsonl"
    turned.parent.mkdir()
    turned.write_text("".join(reversed(lines)))
    one, two = (style(file, student=student, reference=own, resamples=200) for file in (other, str(turned)))
    assert replace(one.sources[0], file="") == replace(two.sources[0], file="")


def test_a_kept_run_is_not_read_again_and_takes_more(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, own, other = few
    output = tmp_path / "out" / "gap.json"
    first = style(other, student=student, output=output, limit=5)
    assert first.readings == "gap.readings.jsonl"
    assert StyleGap.from_json(json.loads(output.read_text())) == first
    assert first.sources[0].texts == 5
    watched = Watched()
    again = style(other, student=student, output=output, limit=5, observer=watched)
    assert (watched.total, watched.skips, watched.found) == (5, 5, [])
    assert again.sources == first.sources
    watched = Watched()
    more = style([other, own], student=student, output=output, limit=8, observer=watched)
    assert (watched.total, watched.skips) == (16, 5)
    assert [one.texts for one in more.sources] == [8, 8]
    assert len(list(read_rows(READINGS, tmp_path / "out" / "gap.readings.jsonl"))) == 16
    whole = style([other, own], student=student, limit=8)
    assert whole.sources == more.sources


def test_other_settings_under_one_name_are_refused(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, _, other = few
    output = tmp_path / "gap.json"
    style(other, student=student, output=output)
    with pytest.raises(UserError, match=r"boundary.*: .* before"):
        style(other, student=student, boundary="none", output=output)
    gap = style(other, student=student, boundary="none", output=output, overwrite=True)
    assert gap.boundary is None
    assert gap.sources[0].by_kind == {}


def test_engine_errors_are_left_out_and_tried_again(few: tuple[str, str, str], tmp_path: Path) -> None:
    _, _, other = few
    output = tmp_path / "gap.json"

    faulty = script(tmp_path / "faulty.json")
    calls = [0]
    score = ScriptedEngine.score

    async def failing(self: ScriptedEngine, prefix: Any, continuation: Any) -> Any:
        calls[0] += 1
        if calls[0] in (3, 4):
            raise EngineError("HTTP 500")
        return await score(self, prefix, continuation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedEngine, "score", failing)
        gap = style(other, student=faulty, output=output)
    assert gap.sources[0].left_out == {"engine_error": 2}
    assert gap.sources[0].texts == 10
    assert style(other, student=faulty, output=output).sources[0].left_out == {}
    assert rejected_path(tmp_path / "gap.readings.jsonl").read_text() == ""


def test_nothing_that_could_be_read_is_no_crash(tmp_path: Path) -> None:
    file = write_traces(tmp_path / "t.jsonl", [trace_of(n) for n in range(3)])
    gap = style(file, student=script(tmp_path / "s.json", context=5))
    [one] = gap.sources
    assert (one.texts, one.left_out) == (0, {"too_long": 3})
    assert one.all.nll_per_token.value is None
    assert one.verdict.advice == "unknown"
    assert StyleGap.from_json(gap.to_json()) == gap
    rows = [{"prompt": f"What is {n} * 7?", "completion": "4"} for n in range(3)]
    short = write_rows(tmp_path / "short.jsonl", rows)
    gap = style(short, student=script(tmp_path / "s.json", context=30), reference=file)
    assert [(one.texts, dict(one.left_out)) for one in gap.sources] == [(3, {}), (0, {"too_long": 3})]
    similarity = gap.sources[0].similarity
    assert similarity is None or similarity.tfidf_cosine.value is None


def test_a_reference_of_other_prompts_has_nothing_in_common(
    few: tuple[str, str, str], tmp_path: Path
) -> None:
    student, _, other = few
    own = write_traces(tmp_path / "far.jsonl", [trace_of(n + 100) for n in range(12)])
    similarity = style(other, student=student, reference=own).sources[0].similarity
    assert similarity is None or similarity.tfidf_cosine.value is None


def test_one_text_alone(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, own, _ = few
    file = write_traces(tmp_path / "t.jsonl", [trace_of(1, [Span(TEACHER, "hence")], "42")])
    figure = style(file, student=student, reference=own).sources[0].all.nll_per_token
    assert figure.value is not None
    assert figure.low is None


def test_what_a_person_should_know_of_the_reference(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, _, other = few
    mine = write_traces(
        tmp_path / "mine.jsonl",
        [
            trace_of(n, [Span(STUDENT, "okay")], strategy="student-only", student=student, seed=1)
            for n in range(3)
        ],
    )
    shared = write_traces(tmp_path / "shared.jsonl", [trace_of(n, seed=1) for n in range(3)])
    watched = Watched()
    style(other, student=student, observer=watched)
    assert "weft synth PROMPTS" in watched.notes[-1]
    watched = Watched()
    style([other, mine], student=student, observer=watched)
    assert f"--reference {mine}" in watched.notes[-1]
    assert other in watched.notes[-1]
    watched = Watched()
    style(shared, student=student, reference=mine, observer=watched)
    assert "look more alike" in watched.notes[-1]
    watched = Watched()
    style(other, student=student, reference=mine, observer=watched)
    assert watched.notes == []
    watched = Watched()
    style(mine, student=student, reference=other, observer=watched)
    assert "names micro:teacher as its writer" in " ".join(watched.notes)
    watched = Watched()
    style(mine, student=student, reference=shared, observer=watched)
    assert any("was written by tessy, not student-only" in note for note in watched.notes)


def test_a_reference_that_thinks_beside_data_that_do_not(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, own, other = few
    rows = [{"prompt": question(n)[0].content, "completion": "so the answer is 4 ."} for n in range(12)]
    plain = write_rows(tmp_path / "plain.jsonl", rows)
    watched = Watched()
    style([plain, other], student=student, reference=own, observer=watched)
    said = [note for note in watched.notes if "two kinds of text" in note]
    assert len(said) == 1
    assert said[0].startswith("own thinks and plain does not")


def test_a_limit_of_0_is_none() -> None:
    assert StyleSettings(student="micro:student", limit=0).limit is None
    assert StyleSettings(student="micro:student").limit == 1000
    given = {"policies": [{"name": "micro:student"}], "limit": 0}
    assert RewardGapSettings.model_validate(given).limit is None


def test_a_file_that_is_also_the_reference_is_read_once(few: tuple[str, str, str]) -> None:
    student, own, other = few
    gap = style([own, other], student=student, reference=own)
    assert [one.label for one in gap.sources] == ["other", "own"]
    with pytest.raises(UserError, match="the reference itself"):
        style(own, student=student, reference=own)
    with pytest.raises(UserError, match="named twice"):
        style([other, other], student=student)
    with pytest.raises(UserError, match="nothing to measure"):
        style([], student=student)


def test_outputs_that_are_refused(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, _, other = few
    with pytest.raises(UserError, match=r"not a \.json file"):
        style(other, student=student, output=tmp_path / "gap.jsonl")
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"prompt": "What?", "completion": "That."}]))
    with pytest.raises(UserError, match="a file that is read"):
        style(str(data), student=student, output=data)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="no result of such a measurement"):
            style(other, student=student, output=data, overwrite=overwrite)
    assert json.loads(data.read_text()) == [{"prompt": "What?", "completion": "That."}]
    readings = write_traces(tmp_path / "x.readings.jsonl", [trace_of(1)])
    with pytest.raises(UserError, match="the file of the texts"):
        style(readings, student=student, output=tmp_path / "x.json")


def test_boundaries_by_default() -> None:
    def name(student: str, **more: Any) -> str | None:
        return StyleSettings(student=EngineSettings(name=student), **more).boundary_name

    assert name("micro:student") == "micro:student"
    assert name("micro:teacher") == "micro:teacher"
    assert name("Qwen/Qwen3-0.6B") == "lexicon"
    assert name("micro:student", boundary="none") is None
    assert name("x", boundary="oracle") == "oracle"
    with pytest.raises(ValueError, match="no boundary 'orcale'"):
        name("x", boundary="orcale")


def test_a_boundary_that_asks_two_models_is_refused(few: tuple[str, str, str]) -> None:
    with pytest.raises(UserError, match="asks two models"):
        style(few[2], student=few[0], boundary="agree")


def test_names_from_the_package_stay_functions_whatever_is_imported() -> None:
    code = (
        "import sys, weft.gap; assert not {'torch', 'transformers', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "import weft.gap.distance.result, weft.gap.ranking.result\n"
        "from weft.gap import style; assert callable(style) and callable(weft.gap.style)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert weft.gap.__all__ == ["reward", "style"]
    with pytest.raises(AttributeError):
        weft.gap.nothing  # noqa: B018


def test_prompts_are_matched_by_what_they_say(few: tuple[str, str, str], tmp_path: Path) -> None:
    student, own, _ = few
    rows = [
        {"id": f"mine-{n}", "messages": [question(n)[0].to_dict(), {"role": "assistant", "content": "42 ."}]}
        for n in range(12)
    ]
    gap = style(write_rows(tmp_path / "rows.jsonl", rows), student=student, reference=own)
    assert gap.sources[0].similarity is not None
    assert gap.sources[0].similarity.prompts == 12
