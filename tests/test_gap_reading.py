"""Samples in the student's tokens, and what it thinks of them: scripted, on a server, and in process."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gap_world import STUDENT, TEACHER, question, read_back, sample_of, trace_of, write_rows, write_traces
from scripted_server import EXPECTED, UNEXPECTED, ScriptedServer
from templates import fast, sentencepiece
from weft.boundary.measuring.marked import Marked, in_words
from weft.engines.base import Engine, Scored
from weft.engines.opening import open_engine
from weft.engines.scripted import CONTROLS, ScriptedEngine, recite
from weft.engines.settings import EngineSettings, ServerSettings
from weft.errors import EngineError, RunError, TextError, UserError
from weft.gap.distance.reading import ReadingRun, Readings, Silence, scorer
from weft.gap.distance.readings import READINGS, Reading, ReadingStatus, Run, Writer
from weft.gap.distance.samples import Sample
from weft.gap.distance.sources import Samples, open_sets
from weft.gap.distance.spelling import Spelled, Speller
from weft.records import Span
from weft.store import Manifest, RowStore, rejected_path
from weft.synthesis.cooperate import Cooperation, Limits
from weft.vocabulary import TokenizerVocabulary
from worlds import KINDS, Kind, started, vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

TODAY = datetime.date(2026, 1, 1)
THINKING, RESPONSE = "okay , so it is 42 .", "the answer is 42 ."


@pytest.fixture(scope="module")
def micro() -> Iterator[Engine]:
    engine = started(EngineSettings(name="micro:student"), date=TODAY)
    yield engine
    asyncio.run(engine.close())


def scripted(**more: Any) -> ScriptedEngine:
    return ScriptedEngine(recite(THINKING, RESPONSE), **more)


def spelled(engine: Engine, sample: Sample) -> Spelled:
    speller = Speller(engine)
    return speller.text(sample, speller.prompt(sample))


def pieces(engine: Engine, found: Spelled) -> list[bytes]:
    return [engine.vocabulary.piece(found.ids[place]) or b"" for place in found.places]


# -- in tokens --

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any text by any two authors. Thinking has no white space at its ends, as everywhere."""
    thinking, response = draw(TEXT).strip(), draw(TEXT)
    cuts = sorted(draw(st.lists(st.integers(0, len(thinking)), max_size=4)))
    ends = [0, *cuts, len(thinking)]
    spans = [Span((STUDENT, TEACHER)[n % 2], thinking[a:b]) for n, (a, b) in enumerate(zip(ends, ends[1:]))]  # noqa: B905, RUF007
    return sample_of(thinking, response, spans=[*spans, Span(STUDENT, response)])


def check(engine: Engine, sample: Sample) -> None:
    """All invariants of :class:`Spelled`."""
    found = spelled(engine, sample)
    text = sample.thinking + sample.response
    assert sum(found.chars) == len(text)
    assert len(found.chars) == len(found.first) == len(found.places)
    assert sum(run.tokens for run in found.authors) == len(found.chars)
    held = b"".join(pieces(engine, found))
    whole = b"".join(engine.vocabulary.piece(token) or b"" for token in found.ids)
    thought = b"".join(pieces(engine, found)[: found.thinking])
    assert thought.startswith(sample.thinking.encode())
    assert held[len(thought) :] == sample.response.encode()
    assert whole.startswith(sample.thinking.encode())
    ends = list(accumulate(found.chars))
    assert all(0 <= first < len(text) or not text for first in found.first)
    assert all(first <= end for first, end in zip(found.first, ends, strict=True))
    # A token belongs to the writer of its first byte, one character at most before where it begins.
    writers = [span.author.value for span in sample.spans or () for _ in span.text]
    runs = [run.author.value for run in found.authors for _ in range(run.tokens)]
    assert runs == [writers[first] for first in found.first]


@given(samples())
def test_tokens_cover_any_text_of_any_authors(micro: Engine, sample: Sample) -> None:
    check(micro, sample)


@pytest.mark.parametrize("kind", KINDS)
@given(sample=samples())
@settings(max_examples=30)
def test_tokens_cover_it_in_every_vocabulary(kind: Kind, sample: Sample) -> None:
    for thinks in (True, False):
        check(scripted(vocabulary=vocabulary(kind), thinks=thinks), sample)


@pytest.mark.parametrize("prefix", ["none", "normalizer", "metaspace"])
@given(sample=samples())
@settings(max_examples=30)
def test_tokens_cover_it_in_vocabularies_like_llamas(prefix: str, sample: Sample) -> None:
    check(scripted(vocabulary=TokenizerVocabulary(fast(sentencepiece(CONTROLS, prefix)))), sample)


def test_the_ids_are_those_of_a_training_row(micro: Engine) -> None:
    alone = Cooperation(
        {STUDENT: micro}, boundaries={}, sampling={}, limits=Limits(0, 0, 0), step=None, seed=0
    )
    found = spelled(micro, sample_of(THINKING, RESPONSE))
    assert list(found.ids) == alone.spell(STUDENT, THINKING, RESPONSE)
    assert list(found.prompt) == alone.prompt(STUDENT, question(6))
    assert len(found.places) < len(found.ids)
    tag = [token for place, token in enumerate(found.ids) if place not in found.places]
    assert "</think>" in micro.vocabulary.decode(tag)
    assert "a" not in micro.vocabulary.decode(tag)


def test_a_token_that_holds_the_end_of_thinking_and_of_the_tag_is_the_texts() -> None:
    engine = scripted(vocabulary=vocabulary("glued"))
    found = spelled(engine, sample_of("Yes.", "No."))
    assert pieces(engine, found)[found.thinking - 1] == b".\n"
    assert found.chars == (3, 1, 2, 1)
    assert found.thinking == 2


def test_a_byte_of_a_character_is_of_its_writer() -> None:
    engine = scripted(vocabulary=vocabulary("bytes"))
    found = spelled(engine, sample_of("aé", "b", spans=[Span(STUDENT, "a"), Span(TEACHER, "éb")]))
    assert found.chars == (1, 0, 1, 1)
    assert found.first == (0, 1, 1, 2)
    assert found.authors == (Run(Writer.STUDENT, 1), Run(Writer.TEACHER, 3))


def test_without_thinking_the_prompt_opens_none() -> None:
    engine = scripted()
    closed, opened = (spelled(engine, sample_of(text, "No.")) for text in ("", "Yes."))
    assert engine.vocabulary.decode(opened.prompt).endswith("<think>\n")
    assert not engine.vocabulary.decode(closed.prompt).endswith("<think>\n")
    assert closed.thinking == 0
    assert closed.ids == tuple(engine.vocabulary.encode("No."))


def test_a_template_without_thinking_reads_it_before_the_response() -> None:
    engine = scripted(thinks=False)
    found = spelled(engine, sample_of("Yes.", "No."))
    assert engine.vocabulary.decode(found.ids) == "Yes.\n\nNo."
    assert sum(found.chars) == len("Yes.No.")
    assert (found.thinking, len(found.places)) == (2, 4)


# -- before an engine --


@dataclass
class Said:
    """A boundary that calls words style if they are among some; what it cannot read it refuses."""

    style: frozenset[str] = frozenset({"okay", ","})
    refuses: str = "\x00"
    asked: list[list[str]] = field(default_factory=list)

    def mark(self, texts: Sequence[str]) -> Iterator[Marked]:
        self.asked.append(list(texts))
        for text in texts:
            if self.refuses in text:
                raise TextError("it cannot be read")
            units = [unit.text for unit in in_words(text)]
            said = [None, *(unit.strip() in self.style for unit in units[1:])][: len(units)]
            odds = tuple(None if flag is None else 0.9 if flag else 0.25 for flag in said)
            yield Marked(tuple(units), tuple(said), odds)


class Watched(Silence):
    def __init__(self) -> None:
        self.skips = 0
        self.notes: list[str] = []

    def skipped(self) -> None:
        self.skips += 1

    def noted(self, text: str) -> None:
        self.notes.append(text)


async def read_async(
    engine: Engine,
    sets: Sequence[Samples],
    path: Path,
    *,
    boundary: Any = None,
    concurrency: int = 4,
    error_rate: float = 0.5,
    watched: Watched | None = None,
) -> None:
    with RowStore(READINGS, path, Manifest.create("0", {}, date="2026-01-01")) as store:
        run = ReadingRun(
            engine,
            boundary,
            store,
            concurrency=concurrency,
            error_rate=error_rate,
            observer=watched or Watched(),
        )
        await run.run(sets)


def read(engine: Engine, sets: Sequence[Samples], path: Path, **more: Any) -> list[Reading]:
    asyncio.run(read_async(engine, sets, path, **more))
    return read_back(path)


def rejected(path: Path) -> dict[str, tuple[ReadingStatus, str]]:
    return {one.sample: (one.status, one.reason or "") for one in read_back(rejected_path(path))}


def test_a_scripted_student(tmp_path: Path) -> None:
    """It knows its own text; of another it is surprised from the first other token on."""
    file = write_traces(tmp_path / "t.jsonl", [trace_of(6), trace_of(7, [Span(TEACHER, "no , 49")], "49")])
    own, other = read(scripted(), open_sets([file]), tmp_path / "r.jsonl")
    assert (own.id, own.source, own.sample) == ("t/p6#0", "t", "p6#0")
    assert own.text == THINKING + RESPONSE
    assert own.tokens == len(own.nats) == 12
    assert own.nats == (0.0,) * 12
    assert own.ranks == (1,) * 12
    assert own.entropies is own.style is None
    assert own.authors == (Run(Writer.STUDENT, 3), Run(Writer.TEACHER, 4), Run(Writer.STUDENT, 5))
    assert own.thinking == 7
    assert other.nats[0] == 5.0
    assert other.ranks is not None
    assert other.ranks[0] == 2


def test_data_of_other_models(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is 6 * 7?", "completion": f"<think>{THINKING}</think>{RESPONSE}"},
        {"prompt": "What is 6 * 7?", "completion": RESPONSE},
    ]
    one, two = read(scripted(), open_sets([write_rows(tmp_path / "d.jsonl", rows)]), tmp_path / "r.jsonl")
    assert one.nats == (0.0,) * one.tokens
    assert one.authors == (Run(Writer.UNKNOWN, one.tokens),)
    assert (two.thinking, two.text) == (0, RESPONSE)
    assert one.prompt == two.prompt


def test_style_is_that_of_the_piece_in_which_a_token_begins(tmp_path: Path) -> None:
    traces = [
        trace_of(6),
        trace_of(7, [Span(TEACHER, "so \x00 49")]),
        trace_of(8, []),
    ]
    file = write_traces(tmp_path / "t.jsonl", traces)
    boundary, watched = Said(), Watched()
    marked, unreadable, silent = read(
        scripted(vocabulary=vocabulary("characters")),
        open_sets([file]),
        tmp_path / "r.jsonl",
        boundary=boundary,
        watched=watched,
    )
    # "okay" is first: nothing is said of it. " ," is style, by its characters.
    assert marked.style is not None
    assert marked.style[:10] == (None,) * 4 + (0.9,) * 2 + (0.25,) * 4
    assert marked.style[marked.thinking :] == (None,) * len(RESPONSE)
    assert set(unreadable.style or ()) == set(silent.style or ()) == {None}
    assert all("" not in texts for texts in boundary.asked)
    assert watched.notes == ["nothing is known of the style of a text, at least: it cannot be read"]


@pytest.mark.parametrize("name", ["oracle", "lexicon", "micro:student"])
def test_the_boundaries_of_synthesis_mark(tmp_path: Path, name: str, micro: Engine) -> None:
    from weft.boundary.measuring.evaluate import open_subject

    file = write_traces(tmp_path / "t.jsonl", [trace_of(n) for n in range(5)])
    found = read(micro, open_sets([file]), tmp_path / "r.jsonl", boundary=open_subject(name))
    assert len(found) == 5
    for reading in found:
        assert reading.style is not None
        said = [one for one in reading.style if one is not None]
        assert said
        assert all(0 <= one <= 1 for one in said)
        assert len(said) <= reading.thinking


def test_what_cannot_be_read_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    traces = [
        trace_of(1),
        trace_of(2, [], ""),
        trace_of(3, [Span(TEACHER, "half \ud800")]),
        trace_of(4, [Span(TEACHER, "so " * 100)]),
        trace_of(5),
    ]
    bad = replace(trace_of(6), prompt=replace(trace_of(6).prompt, messages=()))
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(one.to_line().encode(errors="surrogatepass") for one in traces[:2]))
    with path.open("a") as file:
        file.writelines(json.dumps(one.to_row()) + "\n" for one in (*traces[2:], bad))
    found = read(scripted(context=60), open_sets([str(path)]), tmp_path / "r.jsonl")
    assert [one.sample for one in found] == ["p1#0", "p5#0"]
    said = rejected(tmp_path / "r.jsonl")
    assert {id: status.value for id, (status, _) in said.items()} == {
        "p2#0": "empty",
        "p3#0": "invalid_text",
        "p4#0": "too_long",
        "p6#0": "bad_prompt",
    }
    assert "the context holds 60" in said["p4#0"][1]
    assert "t.jsonl:6" in said["p6#0"][1]


def test_thinking_alone_is_read(tmp_path: Path) -> None:
    rows = [{"prompt": "What is 6 * 7?", "completion": f"<think>{THINKING}"}]
    [one] = read(scripted(), open_sets([write_rows(tmp_path / "d.jsonl", rows)]), tmp_path / "r.jsonl")
    assert one.text == THINKING
    assert one.thinking == one.tokens
    assert one.nats == (0.0,) * one.tokens


def test_an_engine_that_does_not_score_is_refused() -> None:
    class Mute:
        name = "mute"

    with pytest.raises(UserError, match="no log-probabilities") as caught:
        scorer(Mute())  # type: ignore[arg-type]
    assert "vLLM" in str(caught.value)
    assert scorer(engine := scripted()) is engine


class Failing(ScriptedEngine):
    """Fails some of its scores."""

    def __init__(self, fault: Callable[[int], Exception | None]) -> None:
        super().__init__(recite(THINKING, RESPONSE))
        self.fault, self.scored = fault, 0

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        self.scored += 1
        if (error := self.fault(self.scored)) is not None:
            raise error
        return await super().score(prefix, continuation)


def many(tmp_path: Path, count: int = 40) -> list[Samples]:
    traces = [trace_of(n, [Span(TEACHER, f"so {n} it is")], f"it is {n * 7}") for n in range(count)]
    return open_sets([write_traces(tmp_path / "t.jsonl", traces)])


@pytest.mark.parametrize("stop", [1, 7, 40])
def test_a_run_that_was_stopped_goes_on_to_the_same_readings(tmp_path: Path, stop: int) -> None:
    sets = many(tmp_path)
    whole = read(scripted(), sets, tmp_path / "whole.jsonl", concurrency=1)
    engine = Failing(lambda number: RunError("killed") if number == stop else None)
    path = tmp_path / "r.jsonl"
    with pytest.raises(RunError, match="killed"):
        read(engine, sets, path, concurrency=6)
    before = len(read_back(path))
    assert before < 40
    watched = Watched()
    assert read(scripted(), sets, path, concurrency=3, watched=watched) == whole
    assert watched.skips == before
    ordered = [list(Readings(one, sets, seed=5).of("t")) for one in (tmp_path / "whole.jsonl", path)]
    assert ordered[0] == ordered[1]
    assert sorted(ordered[0], key=lambda one: one.id) == whole


def test_engine_errors_are_tried_again(tmp_path: Path) -> None:
    sets, path = many(tmp_path, 10), tmp_path / "r.jsonl"
    engine = Failing(lambda number: EngineError("HTTP 500") if number % 3 == 0 else None)
    assert len(read(engine, sets, path, error_rate=1.0)) == 7
    assert {status for status, _ in rejected(path).values()} == {ReadingStatus.ENGINE_ERROR}
    readings = Readings(path, sets, seed=0)
    assert (readings.count("t"), readings.rejected("t")) == (7, {"engine_error": 3})
    assert len(read(scripted(), sets, path)) == 10
    assert rejected(path) == {}


def test_too_many_engine_errors_end_the_run(tmp_path: Path) -> None:
    engine = Failing(lambda number: EngineError("HTTP 500"))
    with pytest.raises(RunError, match=r"20 of the last 20 readings failed"):
        read(engine, many(tmp_path), tmp_path / "r.jsonl")
    assert engine.scored < 40


@pytest.mark.parametrize("wrong", [Scored((0.0,)), Scored((float("nan"),) * 11), Scored((0.0,) * 11, (1,))])
def test_figures_that_are_none_are_an_engines_error(tmp_path: Path, wrong: Scored) -> None:
    class Wrong(ScriptedEngine):
        async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
            logps = (wrong.logps * len(continuation))[: len(continuation)] if len(wrong.logps) > 1 else (0.0,)
            return replace(wrong, logps=logps)

    sets = open_sets([write_traces(tmp_path / "t.jsonl", [trace_of(1)])])
    assert read(Wrong(recite("", "")), sets, tmp_path / "r.jsonl") == []
    assert [status for status, _ in rejected(tmp_path / "r.jsonl").values()] == [ReadingStatus.ENGINE_ERROR]


class Certain(ScriptedEngine):
    """Never expects some of the tokens that it reads."""

    def __init__(self, never: Mapping[int, float]) -> None:
        super().__init__(recite(THINKING, RESPONSE))
        self.never = never

    async def score(self, prefix: Sequence[int], continuation: Sequence[int]) -> Scored:
        found = await super().score(prefix, continuation)
        logps = [self.never.get(at, logp) for at, logp in enumerate(found.logps)]
        return replace(found, logps=tuple(logps))


@pytest.mark.parametrize("nothing", [float("-inf"), -9999.0])
def test_a_text_that_the_student_would_never_write_is_left_out(tmp_path: Path, nothing: float) -> None:
    sets = open_sets([write_traces(tmp_path / "t.jsonl", [trace_of(1)])])
    path = tmp_path / "r.jsonl"
    assert read(Certain({2: nothing, 3: nothing}), sets, path) == []
    [(status, reason)] = rejected(path).values()
    assert status is ReadingStatus.IMPOSSIBLE
    assert "gives token 3 of" in reason
    assert "and 1 more" in reason
    watched = Watched()
    assert read(Certain({}), sets, path, watched=watched) == []
    assert watched.skips == 1, "the next run would find the same"


def test_a_closing_tag_that_the_student_would_never_write_is_the_templates(
    tmp_path: Path,
) -> None:
    sets = open_sets([write_traces(tmp_path / "t.jsonl", [trace_of(1)])])
    [whole] = read(scripted(), sets, tmp_path / "whole.jsonl")
    engine = Certain({whole.thinking: float("-inf")})
    assert read(engine, sets, tmp_path / "r.jsonl") == [whole]


@pytest.mark.parametrize("wrong", [0.5, float("inf"), float("nan")])
def test_log_probabilities_that_are_none_are_an_engines_error(tmp_path: Path, wrong: float) -> None:
    sets = open_sets([write_traces(tmp_path / "t.jsonl", [trace_of(1)])])
    assert read(Certain({2: wrong}), sets, tmp_path / "r.jsonl") == []
    assert [status for status, _ in rejected(tmp_path / "r.jsonl").values()] == [ReadingStatus.ENGINE_ERROR]


def test_another_text_of_a_read_id_is_refused(tmp_path: Path) -> None:
    read(scripted(), many(tmp_path, 3), tmp_path / "r.jsonl")
    other = open_sets([write_traces(tmp_path / "t.jsonl", [trace_of(1, response="another")])])
    with pytest.raises(UserError, match="made from another text") as caught:
        read(scripted(), other, tmp_path / "r.jsonl")
    assert "t.jsonl:1" in str(caught.value)


def test_readings_of_other_samples_are_left_where_they_are(tmp_path: Path) -> None:
    sets = many(tmp_path, 9)
    read(scripted(), sets, tmp_path / "r.jsonl")
    few = open_sets([sets[0].name], limit=4)
    readings = Readings(tmp_path / "r.jsonl", few, seed=0)
    assert readings.count("t") == 4
    assert {one.prompt for one in readings.of("t")} == {one.prompt for one in few[0]}
    assert [one.id for one in readings.of("t")] == [one.id for one in readings.of("t")]


# -- the micro student --


def test_nats_are_those_of_the_demo_but_for_the_tag(tmp_path: Path, micro: Engine) -> None:
    from weft.cli.demo import _score

    traces = [trace_of(6), trace_of(3, [Span(STUDENT, "okay , first we have 3 .")], "the answer is 3 .")]
    found = read(micro, open_sets([write_traces(tmp_path / "t.jsonl", traces)]), tmp_path / "r.jsonl")
    for trace, reading in zip(sorted(traces, key=lambda one: one.id), found, strict=True):
        theirs = asyncio.run(_score(micro, [trace]))
        sample = sample_of(trace.thinking, trace.response, messages=trace.prompt.messages)
        places = spelled(micro, sample).places
        assert list(reading.nats) == [round(-theirs[place], 5) + 0.0 for place in places]
        tags = len(theirs) - len(places)
        assert tags > 0
        assert sum(theirs) < -sum(reading.nats) + 1e-3  # the tag can only add surprise
        assert reading.entropies is not None
        assert reading.ranks is not None
        assert all(
            (rank == 1) >= (nats < 0.69) for rank, nats in zip(reading.ranks, reading.nats, strict=True)
        )


def test_readings_do_not_depend_on_what_is_read_beside_them(tmp_path: Path, micro: Engine) -> None:
    sets = many(tmp_path, 12)
    alone, together = (
        read(micro, sets, tmp_path / f"{n}.jsonl", concurrency=n, boundary=Said()) for n in (1, 12)
    )
    for one, other in zip(alone, together, strict=True):
        assert (one.style, one.chars, one.authors) == (other.style, other.chars, other.authors)
        assert one.nats == pytest.approx(other.nats, abs=2e-4)


def test_rows_are_what_they_were(tmp_path: Path, micro: Engine) -> None:
    for reading in read(micro, many(tmp_path, 3), tmp_path / "r.jsonl", boundary=Said()):
        assert Reading.from_row(reading.to_row()) == reading


# -- a server --


@asynccontextmanager
async def served(server: ScriptedServer) -> Any:
    name = f"{server.model}@{server.url}/v1"
    engine = await open_engine(
        EngineSettings(name=name, tokenizer="micro:student"),
        date=TODAY,
        servers=ServerSettings(timeout=20, patience=0),
    )
    try:
        yield engine
    finally:
        await engine.close()


def test_a_server_gives_ranks_and_no_entropies(tmp_path: Path) -> None:
    traces = [
        trace_of(6),
        trace_of(7, [Span(TEACHER, "no , it is 49")], "49"),
        trace_of(8, [Span(TEACHER, "so " * 500)]),
    ]
    sets = open_sets([write_traces(tmp_path / "t.jsonl", traces)])

    async def run() -> None:
        with ScriptedServer(recite(THINKING, RESPONSE), context=256) as server:
            async with served(server) as engine:
                await read_async(engine, sets, tmp_path / "r.jsonl")
                # Its own count may be another than the server's: then the server says that it is too long.
                engine.context = None
                await read_async(engine, sets, tmp_path / "other.jsonl")

    asyncio.run(run())
    for path in (tmp_path / "r.jsonl", tmp_path / "other.jsonl"):
        own, other = read_back(path)
        assert set(own.nats) == {round(-EXPECTED, 5)}
        assert set(own.ranks or ()) == {1}
        assert own.entropies is None
        assert round(-UNEXPECTED, 5) in other.nats
        assert {id: status for id, (status, _) in rejected(path).items()} == {"p8#0": ReadingStatus.TOO_LONG}


def test_words_of_another_vocabulary_are_spelled_in_the_students(tmp_path: Path, micro: Engine) -> None:
    rows = [{"prompt": "Сколько будет 6 × 7?", "completion": "<think>Хм… 6·7 = 42 🙂</think>42 — это ответ."}]
    [one] = read(micro, open_sets([write_rows(tmp_path / "d.jsonl", rows)]), tmp_path / "r.jsonl")
    assert one.text == "Хм… 6·7 = 42 🙂42 — это ответ."
    assert sum(one.chars) == len(one.text)
    assert 0 in one.chars
    assert one.tokens > len(one.text)
