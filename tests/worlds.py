"""Scripted worlds for the tests of synthesis: hostile scripts, boundaries, and the method without chunks."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal

from hypothesis import strategies as st

from weft.boundary.base import Boundary, Proposal, Verdict
from weft.boundary.words import WordBoundary
from weft.engines.base import CompletionRequest, Engine
from weft.engines.opening import open_engine
from weft.engines.scripted import (
    CLOSE,
    END,
    OPEN,
    START,
    Fault,
    Script,
    ScriptedEngine,
    ScriptedVocabulary,
    View,
)
from weft.engines.settings import EngineSettings
from weft.records import Author, Message, Sampling, Span, Status
from weft.synthesis.cooperate import Cooperation, Draft, Limits, Plan
from weft.synthesis.seam import breaks

STUDENT, TEACHER = Author.STUDENT, Author.TEACHER
GREEDY = Sampling(0.0, 1.0, 0, 0.0)
TOGETHER = Plan(None, STUDENT)
QUESTION = (Message("user", "What is 6 * 7?"),)
ROOMY = Limits(thinking=100_000, response=100_000, loop_tokens=0)
STEPS = (1, 3, 20, None)
TAGS = (OPEN, CLOSE, START, END)


def started(settings: EngineSettings, *, date: datetime.date) -> Engine:
    """The engine, opened in an event loop of its own; for engines that are not bound to one."""
    return asyncio.run(open_engine(settings, date=date))


# -- vocabularies --


class Glued(ScriptedVocabulary):
    """Like a trained vocabulary: signs and the white space after them share a token (``.\\n``)."""

    _WORDS = re.compile(r" ?\w+| ?[^\w\s]+\s*|\s+")

    def __init__(self) -> None:
        super().__init__("words")
        self.fingerprint = "glued"


class Tagless(ScriptedVocabulary):
    """Words, but no ids for the tags of thinking: they are spelled."""

    def __init__(self, kind: Literal["words", "characters", "bytes"] = "words") -> None:
        super().__init__(kind)
        self.fingerprint = f"tagless {kind}"

    def encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in re.split(f"({re.escape(START)}|{re.escape(END)})", text):
            ids += super().encode_template(part) if part in (START, END) else self.encode(part)
        return ids


Kind = Literal["words", "characters", "bytes", "glued", "tagless"]
KINDS: tuple[Kind, ...] = ("words", "characters", "bytes", "glued", "tagless")


def vocabulary(kind: Kind) -> ScriptedVocabulary:
    if kind == "glued":
        return Glued()
    return Tagless() if kind == "tagless" else ScriptedVocabulary(kind)


# -- scripts --


def parrot(
    thinking: str, response: str = "42", *, close: str = CLOSE, thinks: bool = True, spells: bool = False
) -> Script:
    """Goes on at the character of its own text that has as many before it, whoever wrote them.

    It closes thinking when its own text is at an end; ``close=END`` never closes but ends the response.
    With ``spells`` the tag has no id of its own, so that a chunk may end inside it.
    """

    def script(view: View) -> str:
        if not thinks:
            # Without thinking the whole text is one; the template's blank line is as good as any text.
            return thinking[len(view.text) :] + END
        if view.response is None:
            begun = (n for n in range(1, len(close) + 1) if spells and view.thinking.endswith(close[:n]))
            held = max(begun, default=0)
            if held and len(view.thinking) - held >= len(thinking):
                return close[held:] + END
            return thinking[len(view.thinking) :] + close + END
        return response[len(view.response) :] + END

    return script


# -- boundaries --


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but ``parts``."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(frozen=True, slots=True)
class ByContext:
    """Decides from the text before a token, without seeing it: hand-over may be due after the last token."""

    seed: int
    share: float
    name: str = "by context"
    reach: int = 1

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        text, verdicts = proposal.before, []
        for unit in (*proposal.units, ""):
            cut = chance(self.seed, proposal.author.value, text.strip()) < self.share
            verdicts.append(Verdict.CUT if cut else Verdict.KEEP)
            text += unit
        return verdicts

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ByToken:
    """Decides from the token itself and so cannot know the next one."""

    seed: int
    share: float
    name: str = "by token"
    reach: int = 1

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        cuts = [chance(self.seed, proposal.author.value, unit) < self.share for unit in proposal.units]
        last = Verdict.KEEP if proposal.ended else Verdict.UNDECIDED
        return [*(Verdict.CUT if cut else Verdict.KEEP for cut in cuts), last]

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Always:
    """One answer to everything."""

    verdict: Verdict
    name: str = "always"
    reach: int = 1

    async def judge(self, proposal: Proposal) -> Sequence[Verdict]:
        return [self.verdict] * (len(proposal.units) + 1)

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None: ...


def by_word(seed: int, share: float) -> WordBoundary:
    return WordBoundary("by word", lambda word: chance(seed, word) < share)


# -- writing --


@dataclass(frozen=True, slots=True)
class World:
    """Two scripted models and what they are asked to do; a function of nothing else."""

    student: Script
    teacher: Script
    kinds: tuple[Kind, Kind] = ("words", "words")
    thinks: tuple[bool, bool] = (True, True)
    contexts: tuple[int | None, int | None] = (None, None)
    boundary: Boundary | None = None
    limits: Limits = ROOMY
    plan: Plan = TOGETHER
    faults: tuple[tuple[Fault, ...], tuple[Fault, ...]] = ((), ())

    def engines(self) -> dict[Author, ScriptedEngine]:
        scripts = (self.student, self.teacher)
        return {
            author: ScriptedEngine(
                scripts[i],
                name=author.value,
                vocabulary=vocabulary(self.kinds[i]),
                thinks=self.thinks[i],
                context=self.contexts[i],
                faults=self.faults[i],
            )
            for i, author in enumerate(Author)
        }

    def write(self, step: int | None = None, *, trace: str = "p#0", seed: int = 0) -> Written:
        engines = self.engines()
        models = cooperation(engines, self.boundary, limits=self.limits, step=step, seed=seed)
        draft = asyncio.run(models.write(trace, self.plan, QUESTION))
        return Written(draft, engines, models)

    def but(self, **changes: Any) -> World:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Written:
    draft: Draft
    engines: Mapping[Author, ScriptedEngine]
    models: Cooperation

    @property
    def status(self) -> Status:
        return self.draft.ending.status

    @property
    def outcome(self) -> tuple[object, ...]:
        """All of the draft that may not depend on how it was scheduled."""
        draft, usage = self.draft, self.draft.usage
        return (
            draft.ending,
            draft.spans,
            draft.thinking_spans,
            draft.student_ids,
            usage.tokens,
            usage.prompt_tokens,
            usage.turns,
            usage.forced,
            usage.refused,
        )


def cooperation(
    engines: Mapping[Author, ScriptedEngine],
    boundary: Boundary | None,
    *,
    limits: Limits = ROOMY,
    step: int | None = None,
    seed: int = 0,
) -> Cooperation:
    return Cooperation(
        engines,
        boundaries={} if boundary is None else dict.fromkeys(Author, boundary),
        sampling=dict.fromkeys(engines, GREEDY),
        limits=limits,
        step=step,
        seed=seed,
    )


# -- the method without chunks --


@dataclass(frozen=True, slots=True)
class Expected:
    """What thinking should come out as."""

    status: Status
    spans: tuple[Span, ...]
    turns: int
    forced: int
    refused: int

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


def method(world: World) -> Expected:
    """Algorithm 1, each writer's whole continuation in sight: no chunks, no caches, nothing to wait for."""
    return asyncio.run(_method(world))


async def _method(world: World) -> Expected:
    engines, boundary = world.engines(), world.boundary
    assert boundary is not None
    models = cooperation(engines, boundary)
    equal = engines[STUDENT].vocabulary.fingerprint == engines[TEACHER].vocabulary.fingerprint
    text, author, free, forced, refused = "", STUDENT, True, 0, 0
    turns = [(0, STUDENT)]
    units, status = await _whole(models, author, text)
    while True:
        verdicts = await boundary.judge(Proposal("p", author, text, units, True))
        at = next((i for i, v in enumerate(verdicts) if v is Verdict.CUT and not (free and i == 0)), None)
        if verdicts[0] is Verdict.CUT and free and units and turns[-1][0] == len(text):
            forced += 1
        seam = None
        if at is not None:
            for i in range(max(at, int(free)), len(units) + 1):
                left = text + "".join(units[:i])
                own = left[turns[-1][0] :]
                if (equal or own.strip()) and breaks(left, "".join(units[i:]), final=True):
                    seam = i
                    break
        if seam is None:
            text += "".join(units)
            return Expected(*_without_tags(text, status, turns, models), len(turns), forced, refused)
        left = text + "".join(units[:seam])
        passed = left if equal else left.rstrip()
        theirs, their_status = await _whole(models, author.other, passed)
        free = True
        if breaks(passed, "".join(theirs), final=True):
            turns.append((len(passed), author.other))
            text, author, units, status = passed, author.other, theirs, their_status
        else:
            refused += 1
            text, units = left, units[seam:]


async def _whole(models: Cooperation, author: Author, text: str) -> tuple[list[str], Status]:
    """All that a model would still think, in units, and how that would end."""
    engine = models.engines[author]
    assert isinstance(engine, ScriptedEngine)
    closers = models.closers(author, in_thinking=models.has_thinking)
    ids = (
        await engine.complete(
            CompletionRequest(
                "whole",
                [*models.prompt(author, QUESTION), *engine.vocabulary.encode(text)],
                10**6,
                GREEDY,
                0,
                frozenset(closers.events),
            )
        )
    ).ids
    names = [engine.vocabulary.control(token) for token in ids]
    end = next((i for i, name in enumerate(names) if name is not None), len(ids))
    event = closers.events.get(ids[end]) if end < len(ids) else None
    text = engine.vocabulary.decode(ids[:end])
    if closers.text is not None and closers.text in text:
        text = text[: text.index(closers.text)]
        return _units(engine, ids, text), Status.COMPLETE
    status = {"CLOSE": Status.COMPLETE, "EOS": Status.EOS_IN_THINKING}
    return _units(engine, ids, text), status[event.name] if event else Status.FOREIGN_TAG


def _units(engine: ScriptedEngine, ids: Sequence[int], text: str) -> list[str]:
    if engine.vocabulary.kind != "words":
        return list(text)
    units: list[str] = []
    for token in ids:
        room = len(text) - sum(map(len, units))
        if room <= 0:
            break
        units.append((engine.vocabulary.piece(token) or b"").decode()[:room])
    return units


def _without_tags(
    text: str, status: Status, turns: list[tuple[int, Author]], models: Cooperation
) -> tuple[Status, tuple[Span, ...]]:
    tags = frozenset[str]().union(
        *(engine.template.tag_strings() | engine.vocabulary.controls for engine in models.engines.values())
    )
    found = min(((text.index(tag) + len(tag), text.index(tag)) for tag in tags if tag in text), default=None)
    if found is not None:
        text, status = text[: found[1]], Status.FOREIGN_TAG
    spans: list[Span] = []
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    for (start, author), (end, _) in zip(turns, [*turns[1:], (len(text), STUDENT)], strict=True):
        piece = text[max(start, first) : min(end, last)]
        if piece and spans and spans[-1].author is author:
            spans[-1] = Span(author, spans[-1].text + piece)
        elif piece:
            spans.append(Span(author, piece))
    return status, tuple(spans)


# -- hypothesis --

PIECES = {
    "english": [
        "Okay, ",
        "let's ",
        "see. ",
        "don't ",
        "3.14 ",
        "can",
        "x_1",
        "re-check",
        "So",
        " 12,000",
        "'",
        "e.g.",
    ],
    "chinese": ["好的，", "让我们", "看看。", "等于", "四十二", "你好世界", "所以", "「答案」", "、"],
    "thai": ["สวัสดี", "ครับ", "ไม่", "ก็", "น้ำ", "เท่ากับ", "คือ"],
    "arabic": ["مَرْحَبًا ", "السلام ", "عليكم،", " الجواب", "٤٢", "لا إله"],
    "hindi": ["नमस्ते ", "क्षत्रिय", "डॉ.", "मोहन ", "हिन्दी", "क\u094d\u200dष", "१२"],
    "emoji": ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🇫", "🏳️‍🌈", "1️⃣", "☺️", "🙂", "\u200d", "🏽", "🇦🇧🇨"],
    "code": [
        "def f(x):\n",
        "    return x\n",
        "{'a': [1, 2]}",
        "\t",
        "}\n}\n",
        "--",
        "a.b",
        "```\n",
        " <= ",
        "\r\n",
    ],
    "marks": [
        "é",
        "e\u0301",
        "\u0301",
        "\u200c",
        "\u00ad",
        "\u200b",
        "a\u0308\u0323b",
        "한",
        "ᄒ",
        "ᅡ",
        "カナ",
        "א״ב",
    ],
    "space": [" ", "  ", "\n", "\n\n", "\r\n", "\u3000", "\u00a0", "\t "],
}
TAG_PIECES = ["<think>", "</think>", "</thi", "nk>", "<", "<|im_end|", ">", "<|im_start|>assistant\n"]


@st.composite
def hostile(draw: st.DrawFn, *, tags: bool = False, most: int = 14) -> str:
    """Text in several scripts, cut and joined in the worst places."""
    languages = draw(st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=3))
    pieces = [piece for language in languages for piece in PIECES[language]] + PIECES["space"][:2]
    if tags:
        pieces += TAG_PIECES
    return "".join(draw(st.lists(st.sampled_from(pieces), max_size=most)))


@st.composite
def boundaries(draw: st.DrawFn) -> Boundary:
    seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.1, 0.3, 0.6, 0.9]))
    kinds: list[Boundary] = [ByContext(seed, share), ByToken(seed, share), by_word(seed, share)]
    kinds += [Always(Verdict.CUT), Always(Verdict.KEEP)]
    return draw(st.sampled_from(kinds))


@st.composite
def worlds(draw: st.DrawFn, *, tags: bool = False, kinds: Sequence[Kind] = KINDS) -> World:
    """Two models that write in turn."""
    both = draw(st.sampled_from(list(kinds)))
    pair = draw(st.sampled_from([(both, both), (both, draw(st.sampled_from(list(kinds))))]))
    thinks = draw(st.sampled_from([(True, True)] * 4 + [(True, False), (False, True), (False, False)]))
    scripts = []
    for kind, own in zip(pair, (thinks[0], thinks[0] and thinks[1]), strict=True):
        close = draw(st.sampled_from([CLOSE] * 5 + [END])) if own else END
        spells = kind == "tagless" and close == CLOSE
        scripts.append(parrot(draw(hostile(tags=tags)), "So: 42.", close=close, thinks=own, spells=spells))
    return World(scripts[0], scripts[1], kinds=pair, thinks=thinks, boundary=draw(boundaries()))
