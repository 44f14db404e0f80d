"""The scripted engine: it answers like a greedy model, in chunks of any size."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.engines.base import Completion, CompletionRequest, Engine, Finish, Scored, Scorer
from weft.engines.scripted import END, ScriptedEngine, ScriptedVocabulary, View, recite
from weft.errors import EngineError, UserError
from weft.records import Message, Sampling
from worlds import hostile, parrot

KINDS = ("words", "characters", "bytes")
GREEDY = Sampling(0.0, 1.0, 0, 0.0)
QUESTION = [Message("user", "two plus two?")]


def engine(kind: str, script: object = None, **options: object) -> ScriptedEngine:
    vocabulary = ScriptedVocabulary(kind)  # type: ignore[arg-type]
    return ScriptedEngine(script or parrot("Okay."), vocabulary=vocabulary, **options)  # type: ignore[arg-type]


def ask(model: ScriptedEngine, prefix: list[int], most: int) -> Completion:
    request = CompletionRequest("s", prefix, most, GREEDY, 0, model.end_ids)
    return asyncio.run(model.complete(request))


def prompt(model: ScriptedEngine) -> list[int]:
    return model.vocabulary.encode_template(model.template.prompt(QUESTION))


@given(hostile(), st.sampled_from(KINDS), st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_chunks_of_any_size_give_the_same_text(text: str, kind: str, sizes: list[int]) -> None:
    model = engine(kind, parrot(text, text, thinks=False), thinks=False)
    start = prompt(model)
    whole = ask(model, start, 10_000)
    assert whole.finish is Finish.STOP
    assert model.vocabulary.decode(whole.ids) == text + END
    prefix = list(start)
    for turn in range(10_000):
        answer = ask(model, prefix, sizes[turn % len(sizes)])
        prefix += answer.ids
        if answer.finish is Finish.STOP:
            break
        assert len(answer.ids) == sizes[turn % len(sizes)] and answer.finish is Finish.LENGTH
    assert tuple(prefix[len(start) :]) == whole.ids


@given(hostile(tags=True), st.sampled_from(KINDS))
@settings(max_examples=80, deadline=None)
def test_vocabularies_give_text_back(text: str, kind: str) -> None:
    vocabulary = ScriptedVocabulary(kind)  # type: ignore[arg-type]
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.decode(vocabulary.encode_template(text)) == text
    assert all(vocabulary.control(token) is None for token in vocabulary.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_know_the_own_text(kind: str) -> None:
    model = engine(kind, parrot("é🙂 42", thinks=False), thinks=False)
    own = model.vocabulary.encode("é🙂 42")
    assert asyncio.run(model.score(prompt(model), own)) == Scored((0.0,) * len(own), (1,) * len(own))
    other = asyncio.run(model.score(prompt(model), model.vocabulary.encode("à🙂 42")))
    assert (other.logps.count(-5.0), other.ranks and other.ranks.count(2)) == (1, 1)
    assert isinstance(model, Engine) and isinstance(model, Scorer)


def test_the_context_ends_a_completion() -> None:
    model = engine("characters", parrot("abcdef"))
    size = len(prompt(model))
    model = engine("characters", parrot("abcdef"), context=size + 3)
    assert ask(model, prompt(model), 3) == Completion(tuple(map(ord, "abc")), Finish.LENGTH)
    assert ask(model, prompt(model), 4) == Completion(tuple(map(ord, "abc")), Finish.CONTEXT)
    assert ask(model, [*prompt(model), 1, 2, 3], 4) == Completion((), Finish.CONTEXT)


def test_recite_goes_on_whoever_wrote_before() -> None:
    script = recite("Okay, 2 + 2 is 4.", "It is 4.")
    assert script(View("", "Well, 2 +", None)) == " 2 is 4.\n</think>\n\nIt is 4.<|im_end|>"
    assert script(View("", "Ok", None)).startswith("ay, 2 + 2")
    assert script(View("", "one two three four five six seven", None)).startswith("\n</think>")
    assert script(View("", "Okay.", "It is")) == " 4.<|im_end|>"
    assert recite("abcdef", "x", by="characters")(View("", "xyz", None)).startswith("def")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    data = {
        "vocabulary": "characters",
        "scripts": [{"match": "two plus", "thinking": "2 + 2", "response": "4"}],
        "faults": [{"match": "two", "after": 2, "error": "HTTP 500", "times": 1}],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    model = ScriptedEngine.from_file(path)
    assert model.name == f"scripted:{path}"
    first = ask(model, prompt(model), 3)
    assert model.vocabulary.decode(first.ids) == "2 +"
    with pytest.raises(EngineError, match="HTTP 500"):
        ask(model, [*prompt(model), *first.ids], 3)
    assert model.vocabulary.decode(ask(model, [*prompt(model), *first.ids], 3).ids) == " 2\n"
    other = model.vocabulary.encode_template(model.template.prompt([Message("user", "three?")]))
    with pytest.raises(EngineError, match="no script matches"):
        ask(model, other, 3)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"scripts": 1}', '{"scripts": [], "more": 1}', '{"vocabulary": "x"}']
)
def test_a_bad_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"script\.json"):
        ScriptedEngine.from_file(path)
    with pytest.raises(UserError, match="cannot be read"):
        ScriptedEngine.from_file(tmp_path / "none.json")
