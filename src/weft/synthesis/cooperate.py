"""One prompt, one response: thinking by one model or by both in turn, then the final response.

Algorithm 1 of TESSY (arXiv 2604.14164) and, with one writer for each passage, its baselines. Each model sees
the prompt in its own template, thinking on, then the shared text; tags belong to no span, each prefix gets
its own form of them.

It does not know strategies (a :class:`Plan` says who writes what), files or how many traces run beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

from weft.boundary.base import Boundary
from weft.engines.base import Engine
from weft.errors import EngineError, TextError, UserError
from weft.records import Author, Message, PerAuthor, Proposal, Sampling, Span, Status, Usage
from weft.synthesis.companion import asked_session
from weft.synthesis.ledger import Ledger, Watch
from weft.synthesis.pace import Pace
from weft.synthesis.passage import Passage
from weft.synthesis.pen import Pen
from weft.synthesis.rules import Closers, Ending, Event, Rules
from weft.synthesis.tags import TagFinder
from weft.vocabulary import spell


@dataclass(frozen=True, slots=True)
class Plan:
    """Who writes what."""

    thinking: Author | None
    """``None``: both in turn, the student first."""
    response: Author

    @property
    def authors(self) -> tuple[Author, ...]:
        """Whose engines are needed."""
        if self.thinking is None:
            return (Author.STUDENT, Author.TEACHER)
        return tuple(dict.fromkeys((self.thinking, self.response)))


@dataclass(frozen=True, slots=True)
class Limits:
    """Most tokens, in the student's tokens, and the shortest loop."""

    thinking: int
    response: int
    loop_tokens: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What came of one plan for one prompt."""

    ending: Ending
    spans: tuple[Span, ...]
    thinking_spans: int
    usage: Usage
    student_ids: tuple[int, ...]
    """Prompt and text in the student's tokens, tags included."""
    student_prompt: int
    """How many of ``student_ids`` are the prompt."""
    proposals: tuple[Proposal, ...] | None = None
    """What hand-overs threw away; ``None``: it was not kept."""

    @property
    def thinking(self) -> str:
        return "".join(span.text for span in self.spans[: self.thinking_spans])

    @property
    def response(self) -> str:
        return "".join(span.text for span in self.spans[self.thinking_spans :])


class Cooperation:
    """A student and a teacher, ready to write; from one trace to the next it keeps their pace alone."""

    def __init__(
        self,
        engines: Mapping[Author, Engine],
        *,
        boundaries: Mapping[Author, Boundary],
        sampling: Mapping[Author, Sampling],
        limits: Limits,
        step: int | None,
        seed: int,
        watch: Watch | None = None,
        keep_proposals: bool = False,
    ) -> None:
        """Bring the models together.

        Args:
            engines: the student's always, the teacher's if any plan needs it.
            boundaries: for each author, if any plan lets both write.
            sampling: for each engine, all fields set.
            step: tokens per request while both write; ``None`` adapts.
            watch: told of all tokens as they are generated.
            keep_proposals: keep what hand-overs throw away; how far it goes depends on ``step``.
        """
        self.keeps_proposals = keep_proposals
        self.engines, self._boundaries, self._sampling = engines, boundaries, sampling
        self._limits, self._step, self._seed, self.watch = limits, step, seed, watch
        self._paces = {author: Pace(partial(_request_tokens, engine)) for author, engine in engines.items()}
        self._thinks = engines[Author.STUDENT].template.thinking is not None
        tags: set[str] = set()
        for engine in engines.values():
            tags |= engine.template.tag_strings() | engine.vocabulary.controls
        self._tags = TagFinder(tags)

    async def write(
        self, trace: str, plan: Plan, messages: Sequence[Message], *, where: str = "", salt: str = ""
    ) -> Draft:
        """Write one response. Failures of engines and texts are the draft's ending, never an exception.

        Args:
            trace: the trace's id; with the run's seed, ``salt`` and positions it decides every draw.
            where: the prompt's place in its file, for the reason of a prompt that is too long.
        """
        writing = _Writing(self, trace + salt, plan, messages, where)
        try:
            await writing.run()
        except EngineError as error:
            writing.ending = Ending(Status.ENGINE_ERROR, str(error))
        except TextError as error:
            writing.ending = Ending(Status.INVALID_TEXT, str(error))
        finally:
            self._release(trace + salt)
        return writing.draft()

    def _release(self, trace: str) -> None:
        for author, engine in self.engines.items():
            engine.release(f"{trace}|{author}")
            engine.release(asked_session(trace, author))
        for boundary in self._boundaries.values():
            boundary.release(trace)

    # -- what a passage needs to know --------------------------------------------------------------

    def prompt(self, author: Author, messages: Sequence[Message]) -> list[int]:
        """The prompt in one model's template and tokens, up to where the shared text starts."""
        engine = self.engines[author]
        render = engine.template.prompt if self._thinks else engine.template.unthinking_prompt
        return engine.vocabulary.encode_template(render(messages))

    def closed(self, author: Author, last: str) -> list[int]:
        """The end of thinking in one model's form and tokens, together with the last of its text.

        ``last`` and the closing tag are spelled as one, as the training row is: many vocabularies have a
        token for a full stop and the line feed after it.
        """
        engine = self.engines[author]
        thinking = engine.template.thinking
        closing = "\n\n" if thinking is None else thinking.closing
        vocabulary = engine.vocabulary
        ids = vocabulary.encode_template(last + closing)
        if vocabulary.decode(ids) == last + closing:
            return ids
        # A tokenizer that puts something of its own before a text.
        tag = closing.lstrip()
        space = closing[: len(closing) - len(tag)]
        return [*vocabulary.encode(last + space), *(vocabulary.encode_template(tag) if tag else ())]

    def closers(self, author: Author, *, in_thinking: bool) -> Closers:
        """How one author closes a passage. A model without thinking closes it by ending its response."""
        engine = self.engines[author]
        thinking = engine.template.thinking
        if not in_thinking or thinking is None:
            return Closers(dict.fromkeys(engine.end_ids, Event.CLOSE))
        events = dict.fromkeys(engine.end_ids, Event.EOS)
        marker = engine.vocabulary.encode_template(thinking.marker)
        if len(marker) == 1:
            return Closers({**events, marker[0]: Event.CLOSE})
        return Closers(events, thinking.marker)

    def passage(
        self,
        trace: str,
        pens: Mapping[Author, Pen],
        first: Author,
        student: Pen,
        ledger: Ledger,
        *,
        thinking: bool,
    ) -> Passage:
        together = len(pens) > 1
        return Passage(
            trace,
            pens,
            first,
            closers={author: self.closers(author, in_thinking=thinking and self._thinks) for author in pens},
            boundaries=self._boundaries if together else None,
            paces=self._paces,
            sampling=self._sampling,
            seeds={author: _seed(self._seed, trace, author) for author in pens},
            student=student,
            rules=Rules(
                step=self._step,
                limit=self._limits.thinking if thinking and self._thinks else self._limits.response,
                loop_tokens=self._limits.loop_tokens,
                tags=self._tags,
            ),
            ledger=ledger,
        )

    def spell(self, author: Author, thinking: str, response: str) -> list[int]:
        """A finished text in one model's tokens, with its own form of the closing tag."""
        vocabulary = self.engines[author].vocabulary
        if not self._thinks:
            return vocabulary.encode(response)
        units = spell(vocabulary.encode(thinking), vocabulary).units
        last = units.pop().text if units else ""
        ids = [token for unit in units for token in unit.ids]
        return [*ids, *self.closed(author, last), *vocabulary.encode(response)]

    @property
    def has_thinking(self) -> bool:
        """Whether the student's template knows thinking; without it there is one passage only."""
        return self._thinks


class _Writing:
    """One response while it is written."""

    def __init__(
        self, models: Cooperation, trace: str, plan: Plan, messages: Sequence[Message], where: str
    ) -> None:
        self._models, self._trace, self._plan, self._where = models, trace, plan, where
        self._messages = messages
        self._ledger = Ledger(models.watch)
        self._pens: dict[Author, Pen] = {}
        self._student_prompt = 0
        self._thinking: Passage | None = None
        self._response: Passage | None = None
        self.ending = Ending(Status.ENGINE_ERROR, "not written")

    async def run(self) -> None:
        """Write thinking, then the response; :attr:`ending` says what came of it.

        Raises:
            EngineError, TextError: what was written until then is kept.
        """
        if self._refused():
            return
        first = self._plan.thinking or Author.STUDENT
        writers = (first,) if self._plan.thinking else self._plan.authors
        self._thinking = await self._write(
            {author: self._pens[author] for author in writers}, first, thinking=True
        )
        if self.ending.status is Status.COMPLETE and self._models.has_thinking:
            self._close_thinking(self._thinking)
            author = self._plan.response
            self._response = await self._write({author: self._pens[author]}, author, thinking=False)
        last = self._response or self._thinking
        last.level()
        if self.ending.status is Status.COMPLETE and not last.text.strip():
            self.ending = Ending(Status.EMPTY, "the final response holds no text")

    async def _write(self, pens: Mapping[Author, Pen], first: Author, *, thinking: bool) -> Passage:
        student = self._pens[Author.STUDENT]
        passage = self._models.passage(self._trace, pens, first, student, self._ledger, thinking=thinking)
        if thinking:
            self._thinking = passage
        else:
            self._response = passage
        self.ending = await passage.write()
        return passage

    def _close_thinking(self, passage: Passage) -> None:
        """Append the end of thinking to the pens that go on, in each model's own form."""
        passage.level(self._pens[self._plan.response])
        end = len(passage.text.rstrip())
        for author in dict.fromkeys((Author.STUDENT, self._plan.response)):
            pen = self._pens[author]
            pen.cut(end)
            pen.read(passage.text[:end])
            ids, last = pen.without_last_unit()
            self._pens[author] = Pen(author, pen.engine, [*ids, *self._models.closed(author, last)])

    def _refused(self) -> bool:
        """Put the prompt before the models; whether one of them cannot take it."""
        at = f"{self._where}: " if self._where else ""
        for author in dict.fromkeys((Author.STUDENT, *self._plan.authors)):
            engine = self._models.engines[author]
            try:
                self._pens[author] = pen = Pen(author, engine, self._models.prompt(author, self._messages))
            except UserError as error:
                self.ending = Ending(Status.BAD_PROMPT, f"{at}{error}")
                return True
            if author not in self._plan.authors:
                continue
            self._ledger.prompted(author, pen.prompt_tokens)
            if engine.context is not None and pen.prompt_tokens >= engine.context:
                self.ending = Ending(
                    Status.PROMPT_TOO_LONG,
                    f"{at}the prompt has {pen.prompt_tokens} tokens in the {author}'s template and the "
                    f"context holds {engine.context}; shorten it, or choose a model with a longer context",
                )
                return True
        self._student_prompt = self._pens[Author.STUDENT].prompt_tokens
        return False

    def draft(self) -> Draft:
        """What there is now, finished or not."""
        tokens = PerAuthor()
        for passage in (self._thinking, self._response):
            if passage is not None:
                with contextlib.suppress(TextError):  # then the ending says so, and the count stops before it
                    passage.level()
                counted = passage.tokens()
                tokens = PerAuthor(tokens.student + counted.student, tokens.teacher + counted.teacher)
        thinking, response = _spans(self._thinking), _spans(self._response)
        proposals = _proposals(self._thinking) if self._models.keeps_proposals else None
        return Draft(
            ending=self.ending,
            spans=(*thinking, *response),
            thinking_spans=len(thinking) if self._models.has_thinking else 0,
            usage=self._ledger.usage(tokens),
            student_ids=tuple(self._pens[Author.STUDENT].ids) if Author.STUDENT in self._pens else (),
            student_prompt=self._student_prompt,
            proposals=proposals,
        )


def _spans(passage: Passage | None) -> tuple[Span, ...]:
    """The passage's text by author, without white space at either end; empty turns leave no span."""
    if passage is None:
        return ()
    text, turns = passage.text, passage.turns
    first, last = _bounds(text)
    spans: list[Span] = []
    for index, (start, author) in enumerate(turns):
        end = turns[index + 1][0] if index + 1 < len(turns) else len(text)
        piece = text[max(start, first) : min(end, last)]
        if piece and spans and spans[-1].author is author:
            spans[-1] = Span(author, spans[-1].text + piece)
        elif piece:
            spans.append(Span(author, piece))
    return tuple(spans)


def _proposals(passage: Passage | None) -> tuple[Proposal, ...]:
    """What hand-overs of the passage threw away, by their places in its text without white space at either
    end; those at a place that is no more in the text are left out."""
    if passage is None:
        return ()
    first, last = _bounds(passage.text)
    return tuple(
        replace(each, at=max(0, each.at - first)) for each in passage.proposals if each.at < max(last, first)
    )


def _bounds(text: str) -> tuple[int, int]:
    """Where a text without white space at either end starts and ends."""
    return len(text) - len(text.lstrip()), len(text.rstrip())


def _request_tokens(engine: Engine) -> float:
    return engine.request_tokens


def _seed(seed: int, trace: str, author: Author) -> int:
    """The seed of one author's draws in one trace."""
    digest = blake2b(f"{seed}|{trace}|{author}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
