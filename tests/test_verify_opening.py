"""From names to verifiers, and a verifier where a quality is asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping

import pytest

from weft.errors import UserError
from weft.quality.base import Answered
from weft.records import Message
from weft.verify.as_quality import as_quality
from weft.verify.base import Judgement, Reason, correct, unverifiable, wrong
from weft.verify.opening import KINDS, may_be_verifier, open_verifier

QUESTION = (Message("user", "6 * 7?"),)


class Scripted:
    """A verifier that reads its verdicts off the responses."""

    name = "scripted"
    closed = 0

    async def verify(self, answered: Answered) -> Judgement:
        verdicts = {
            "right": correct(),
            "wrong": wrong(Reason.DIFFERENT),
            "unclear": unverifiable(Reason.TIMEOUT),
        }
        return verdicts[answered.response]

    def describe(self) -> Mapping[str, object]:
        return {"verifier": "scripted"}

    async def close(self) -> None:
        self.closed += 1


def test_a_verifier_as_a_quality() -> None:
    verifier = Scripted()

    async def use() -> object:
        quality = as_quality(verifier)
        texts = [Answered(QUESTION, text) for text in ("right", "unclear", "wrong", "right")]
        worth = list(await quality.judge(texts))
        await quality.close()
        return quality.name, quality.binary, worth, quality.describe()

    told = {"quality": "scripted", "verifier": {"verifier": "scripted"}}
    assert asyncio.run(use()) == ("scripted", True, [1.0, None, 0.0, 1.0], told)
    assert verifier.closed == 1


@pytest.mark.parametrize(
    ("name", "response"),
    [
        ("exact", "Answer: ADA"),
        ("exact:nocase", "Answer: Ada"),
        ("regex:[A-Z]+$", "so it is ADA"),
        ("regex:a:([A-Z]+)", "a:ADA"),
    ],
)
def test_each_opens_by_its_name_and_judges(name: str, response: str) -> None:
    async def use() -> object:
        verifier = await open_verifier(name, seconds=30.0)
        judgements = [
            await verifier.verify(Answered(QUESTION, text, "ADA")) for text in (response, "Answer: Eve a:EVE")
        ]
        await verifier.close()
        await verifier.close()
        return verifier.name, [judgement.verdict.value for judgement in judgements]

    assert asyncio.run(use()) == (name, ["correct", "wrong"])


def test_math_opens_without_loading_computer_algebra() -> None:
    pytest.importorskip("math_verify", reason="pip install 'weft[verify]'")
    code = (
        "import asyncio, sys\n"
        "from weft.verify.opening import open_verifier\n"
        "asyncio.run(asyncio.run(open_verifier('math')).close())\n"
        "assert not {'sympy', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "exac",
        "Exact",
        "exact:",
        "exact:case",
        "regex",
        "regex:",
        "regex: ",
        "math:",
        "code:",
        "code: ",
        ":x",
    ],
)
def test_other_names_are_refused_with_what_there_is(name: str) -> None:
    assert not may_be_verifier(name)
    with pytest.raises(UserError) as refused:
        asyncio.run(open_verifier(name))
    assert refused.value.expected == KINDS


@pytest.mark.parametrize("limit", ["workers", "seconds", "memory_bytes"])
def test_limits_are_above_zero(limit: str) -> None:
    with pytest.raises(UserError, match=f"{limit} is 0"):
        asyncio.run(open_verifier("regex:x", **{limit: 0}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["exact", "exact:nocase", "regex:(", "math", "code", "code:node {file}"])
def test_names_that_may_be(name: str) -> None:
    assert may_be_verifier(name)


@pytest.mark.parametrize(
    "name", ["task", "task:0.5", "task:1", "judge:micro:teacher", "judge:a/b@http://c/v1"]
)
def test_tasks_and_judges_have_names(name: str) -> None:
    assert may_be_verifier(name)


@pytest.mark.parametrize(
    "name", ["task:", "task:0", "task:2", "task:x", "judge", "judge:", "judge: ", "tasks"]
)
def test_what_is_no_name_of_theirs(name: str) -> None:
    assert not may_be_verifier(name)
