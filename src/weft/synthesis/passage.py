"""One passage: a stretch of shared text that one model writes alone, or two in turn, until it is closed.

The cooperation in one paragraph. The writer proposes a few tokens; its boundary judges them one by one. What
it may keep is appended. At the first token that belongs to the other model the pen is handed over, at the
next place where no word, character or grapheme is split; what follows there is discarded. The first token
after a hand-over is kept unasked, so every turn makes progress. Where the next writer would continue the last
word instead of beginning its own, the hand-over is taken back and the former writer goes on.

Invariants
    - The text is a function of prompts, models, boundaries and seeds. Where chunks end, what runs beside it
      and how requests are batched do not change it.
    - A closing tag or an end of response counts only where everything before it was kept.
    - With equal vocabularies token ids pass from model to model and nothing is tokenised twice.

It does not know chat templates (ids that close come from outside), strategies or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weft.boundary.base import Boundary, Proposal, Tokens, Verdict
from weft.engines.base import Completion, CompletionRequest, Finish
from weft.errors import EngineError
from weft.records import Author, PerAuthor, Sampling, Status
from weft.records import Proposal as Discarded
from weft.synthesis.companion import OtherModel, asked_session
from weft.synthesis.ledger import Ledger
from weft.synthesis.limit import Limit
from weft.synthesis.loops import LoopDetector
from weft.synthesis.pace import ALONE_TOKENS, MOST_TOKENS, Pace
from weft.synthesis.pen import Pen
from weft.synthesis.rules import STATUS, Closers, Ending, Event, Rules
from weft.synthesis.seam import breaks
from weft.synthesis.tags import without_begun
from weft.vocabulary import Unit, spell


@dataclass(frozen=True, slots=True)
class _Stop:
    """What ended a proposal."""

    event: Event
    detail: str
    tokens: int
    """Generated tokens that it consists of."""


@dataclass(slots=True)
class _HandOver:
    """A hand-over that the next writer has not yet confirmed by beginning a word of its own."""

    author: Author
    pending: list[int]
    stop: _Stop | None
    white_space: str
    """White space before the seam; it went to the next writer (unequal vocabularies only)."""
    other_end: int
    """Where the next writer's pen stood before it read the turn."""


class Passage:
    """The text while it is written; :meth:`write` drives it to its end."""

    def __init__(
        self,
        trace: str,
        pens: Mapping[Author, Pen],
        first: Author,
        *,
        closers: Mapping[Author, Closers],
        boundaries: Mapping[Author, Boundary] | None,
        paces: Mapping[Author, Pace],
        sampling: Mapping[Author, Sampling],
        seeds: Mapping[Author, int],
        student: Pen,
        rules: Rules,
        ledger: Ledger,
    ) -> None:
        """Prepare a passage at whose start all ``pens`` stand.

        Args:
            boundaries: for each writer; ``None`` where ``first`` writes alone.
            paces: for each writer, if several write.
            student: the student's pen, in whose tokens the text is counted; it may be none of ``pens``.
        """
        self.text = ""
        self.turns: list[tuple[int, Author]] = [(0, first)]
        """Where each turn starts in the text (characters), and whose it is."""
        self.proposals: list[Discarded] = []
        """What hand-overs threw away, at their places in the text. How far each goes depends on how much had
        been asked for; all else here does not."""
        self._trace, self._pens, self._writer = trace, pens, first
        self._closers, self._boundaries = closers, boundaries
        self._sampling, self._seeds, self._student = sampling, seeds, student
        self._rules, self._ledger = rules, ledger
        self._same_vocabulary = all(pen.speaks_as(pens[first]) for pen in pens.values())
        self._limit = Limit(rules.limit, student)
        self._loops = LoopDetector(rules.loop_tokens)
        self._paces = paces
        self._pending: list[int] = []
        self._stop: _Stop | None = None
        self._hand_over: _HandOver | None = None
        self._due = False
        self._unasked = True
        self._overflows = False
        self._unfinished = False
        self._turn_tokens = 0
        self._had = 0
        """Tokens of the turn before its last request."""

    async def write(self) -> Ending:
        """Write until the passage is closed or cannot go on.

        Raises:
            EngineError: from an engine; :attr:`text` and :attr:`turns` hold what was written.
        """
        try:
            while True:
                ending = await self._propose()
                while ending is None:
                    outcome = await self._settle()
                    if outcome is False:
                        break
                    ending = None if outcome is True else outcome
                if ending is not None:
                    return ending
        finally:
            self._ledger.discard(self._writer, _tokens_of(self._pending, self._stop))
            if self._hand_over is not None:
                self._discard_beyond(self._hand_over)

    def level(self, *others: Pen) -> None:
        """Bring all pens, the student's and ``others`` included, to the end of the text.

        Raises:
            TextError: a vocabulary cannot spell it.
        """
        writer = self._pens[self._writer]
        writer.read(self.text)
        for pen in (self._student, *self._pens.values(), *others):
            if pen is not writer:
                pen.cut(len(self.text))
                if pen.speaks_as(writer):
                    pen.follow(writer)
                else:
                    pen.read(self.text)

    def tokens(self) -> PerAuthor:
        """The student's tokens of the text, by who wrote them; call :meth:`level` before.

        White space at the very end belongs to the closing tag and is not counted.
        """
        counts = dict.fromkeys(Author, 0)
        turn, start, until, last = 0, 0, 0, len(self.text.rstrip())
        for end in self._student.ends:
            if end != until:  # tokens that share a character share its start, too
                start, until = until, end
            if start >= last:
                break
            while turn + 1 < len(self.turns) and self.turns[turn + 1][0] <= start:
                turn += 1
            counts[self.turns[turn][1]] += 1
        return PerAuthor(counts[Author.STUDENT], counts[Author.TEACHER])

    # -- proposing ---------------------------------------------------------------------------------

    async def _propose(self) -> Ending | None:
        """Ask the writer for more; an ending if the limit leaves no room for it."""
        pen = self._pens[self._writer]
        self._had = self._turn_tokens + len(self._pending)
        room = self._room()
        if room < 0:
            return self._commit(spell(self._pending, pen.engine.vocabulary).units) or self._too_long()
        size = self._size()
        completion = await pen.engine.complete(
            CompletionRequest(
                session=f"{self._trace}|{self._writer}",
                prefix=[*pen.ids, *self._pending],
                max_tokens=max(1, min(size, room + 1)),
                sampling=self._sampling[self._writer],
                seed=self._seeds[self._writer],
                stop=frozenset(self._closers[self._writer].events),
            )
        )
        self._ledger.requested(self._writer, len(completion.ids), completion.requests)
        self._take(completion)
        return None

    def _room(self) -> int:
        """How many more tokens the writer may propose; negative if the limit is passed."""
        pen, pending = self._pens[self._writer], len(self._pending)
        if self._due or self._hand_over is not None or self._unfinished:
            # Where the pen may pass, or which character or tag it is, may be seen from beyond the limit only.
            return self._rules.limit + MOST_TOKENS - pending
        return -1 if self._overflows else self._limit.room(pen, pending)

    def _size(self) -> int:
        if self._boundaries is None:
            return ALONE_TOKENS
        if self._rules.step is not None:
            return self._rules.step
        return self._paces[self._writer].size(self._turn_tokens + len(self._pending))

    def _take(self, completion: Completion) -> None:
        """Add a completion to what is pending, up to the first token that is not text."""
        closers = self._closers[self._writer]
        vocabulary = self._pens[self._writer].engine.vocabulary
        for index, token in enumerate(completion.ids):
            event = closers.events.get(token)
            if event is None and vocabulary.piece(token) is None:
                event = Event.CONTROL
            if event is not None:
                self._stop = _Stop(event, vocabulary.control(token) or f"token {token}", 1)
                self._ledger.discard(self._writer, len(completion.ids) - index - 1)
                break
            self._pending.append(token)
        else:
            if completion.finish is Finish.CONTEXT:
                context = self._pens[self._writer].engine.context
                self._stop = _Stop(Event.CONTEXT, f"{context} tokens" if context else "it says so", 0)
            elif not completion.ids:
                raise EngineError(
                    "returned no token and no reason", where=f"engine {self._pens[self._writer].engine.name}"
                )
        if closers.text is not None:
            self._take_closing_text(closers.text)

    def _take_closing_text(self, tag: str) -> None:
        """Where the pending text spells the closing tag, it ends there."""
        vocabulary = self._pens[self._writer].engine.vocabulary
        spelling = spell(self._pending, vocabulary)
        units, rest = spelling.units, spelling.rest
        position = "".join(unit.text for unit in units).find(tag)
        if position < 0:
            return
        ids: list[int] = []
        start = spelled = after = 0
        for unit in units:
            if start + len(unit.text) <= position:
                ids += unit.ids
            elif start < position + len(tag):
                ids += vocabulary.encode(unit.text[: max(0, position - start)])
                spelled += len(unit.ids)
            else:
                after += len(unit.ids)
            start += len(unit.text)
        after += len(rest) + (self._stop.tokens if self._stop else 0)
        self._ledger.discard(self._writer, after)
        self._pending, self._stop = ids, _Stop(Event.CLOSE, tag, spelled)

    # -- settling ----------------------------------------------------------------------------------

    async def _settle(self) -> Ending | bool:
        """Decide what can be decided of the pending tokens.

        Returns:
            How the passage ended; else whether to settle again (``True``) or to ask for more (``False``).
        """
        units, stop = self._units()
        ended = stop is not None
        if self._hand_over is not None:
            confirmed = breaks(self.text, "".join(unit.text for unit in units), final=ended)
            if confirmed is None:
                return False
            if not confirmed:
                self._take_back()
                return True
            self._confirm()
        if not self._due:
            # What lies beyond the limit may decide nothing: how much of it is known depends on the chunks.
            fitting = self._limit.fitting(self._pens[self._writer], self.text, units)
            self._overflows = fitting < len(units)
            keep, self._due = await self._judge(units[: fitting + 1], ended and not self._overflows)
            ending = self._commit(units[:keep])
            if ending is not None:
                return ending
            units = units[keep:]
        if self._due:
            seam = self._seam(units, ended)
            if seam is not None:
                ending = self._commit(units[:seam])
                if ending is None:
                    self._pass_pen()
                return ending or False
            if not ended:
                return False
            self._due = False
            ending = self._commit(units)
            if ending is not None:
                return ending
            units = []
        if units or stop is None:
            return False
        return self._end(stop)

    def _units(self) -> tuple[list[Unit], _Stop | None]:
        """The pending tokens that can be judged, and what ends them."""
        spelling = spell(self._pending, self._pens[self._writer].engine.vocabulary)
        stop, self._unfinished = self._stop, bool(spelling.rest)
        if spelling.invalid or (spelling.rest and stop is not None and stop.event is not Event.CONTEXT):
            return spelling.units, _Stop(Event.INVALID, str(list(spelling.rest)), 0)
        tag = self._closers[self._writer].text
        if tag is None or stop is not None:
            return spelling.units, stop
        # The end of the text may be the start of the closing tag: not to be judged yet.
        text = "".join(unit.text for unit in spelling.units)
        kept = len(without_begun(text, tag))
        self._unfinished |= kept < len(text)
        units = []
        for unit in spelling.units:
            kept -= len(unit.text)
            if kept < 0:
                break
            units.append(unit)
        return units, None

    async def _judge(self, units: Sequence[Unit], ended: bool) -> tuple[int, bool]:
        """How many of the units the writer keeps, and whether a hand-over is due after them."""
        if self._boundaries is None:
            return len(units), False
        if not units and self._unasked:
            return 0, False
        verdicts = await self._boundaries[self._writer].judge(self._proposal(units, ended))
        for index, verdict in enumerate(verdicts):
            if verdict is Verdict.UNDECIDED and not ended:
                return index, False
            if verdict is Verdict.CUT:
                if index or not self._unasked:
                    return index, True
                if self.turns[-1][0] == len(self.text):
                    self._ledger.forced += 1
        return len(units), False

    def _proposal(self, units: Sequence[Unit], ended: bool) -> Proposal:
        pen, other = self._pens[self._writer], self._writer.other
        return Proposal(
            self._trace,
            self._writer,
            self.text,
            [unit.text for unit in units],
            ended,
            turn=self.turns[-1][0],
            tokens=Tokens(
                pen.engine.vocabulary.fingerprint,
                pen.ids[pen.prompt_tokens :],
                [unit.ids for unit in units],
            ),
            other=OtherModel(
                asked_session(self._trace, other), self._pens[other], self._closers[other], self._ledger
            ),
        )

    def _commit(self, units: Sequence[Unit]) -> Ending | None:
        """Append units to the shared text; an ending where one of them may not stand."""
        pen = self._pens[self._writer]
        for unit in units:
            if not self._limit.fitting(pen, self.text, [unit]):
                return self._too_long()
            del self._pending[: len(unit.ids)]
            pen.write(unit)
            self.text += unit.text
            self._unasked = False
            self._turn_tokens += len(unit.ids)
            if found := self._rules.tags.find(self.text, len(unit.text)):
                self._cut_text(found[1])
                return Ending(Status.FOREIGN_TAG, f"{found[0]!r} appeared as text")
            period = self._loops.add(unit.text)
            if period is not None:
                return Ending(Status.REPETITION, f"a loop of {period} tokens")
        return None

    def _too_long(self) -> Ending:
        return Ending(Status.LENGTH, f"no end within {self._rules.limit} tokens")

    def _cut_text(self, end: int) -> None:
        self.text = self.text[:end]
        while len(self.turns) > 1 and self.turns[-1][0] >= end:
            self.turns.pop()
        for pen in self._pens.values():
            pen.cut(end)

    # -- handing over ------------------------------------------------------------------------------

    def _seam(self, units: Sequence[Unit], ended: bool) -> int | None:
        """The first place at or after which the pen may pass, in units; ``None`` where none is known yet."""
        left, right = self.text, "".join(unit.text for unit in units)
        for index in range(len(units) + 1):
            if index:
                left, right = left + units[index - 1].text, right[len(units[index - 1].text) :]
            if index == 0 and self._unasked:
                continue
            # With unequal vocabularies white space goes to the next writer; a turn of nothing else is none.
            if not self._same_vocabulary and not left[self.turns[-1][0] :].strip():
                continue
            answer = breaks(left, right, final=ended)
            if answer is None:
                return None
            if answer:
                return index
        return None

    def _pass_pen(self) -> None:
        """Hand over at the end of the text, until the next writer confirms it."""
        author, pen = self._writer, self._pens[self._writer]
        other = self._pens[author.other]
        self._learn_from_turn()
        seam = len(self.text) if self._same_vocabulary else len(self.text.rstrip())
        self._hand_over = _HandOver(author, self._pending, self._stop, self.text[seam:], other.end)
        self.text = self.text[:seam]
        if self._same_vocabulary:
            other.follow(pen)
        else:
            other.read(self.text)
        self.turns.append((seam, other.author))
        self._start_turn(other.author, [], None)

    def _learn_from_turn(self) -> None:
        """Tell the pace how many tokens the turn needed until its end could be seen.

        That many at least as had come before the last request, which did not show it, and one more; and
        all that came at most.
        """
        boundaries = self._boundaries
        assert boundaries is not None, "who writes alone hands over to nobody"
        came = self._turn_tokens + _tokens_of(self._pending, self._stop)
        needed = self._turn_tokens + boundaries[self._writer].reach
        self._paces[self._writer].turn(min(came, max(needed, self._had + 1)))

    def _start_turn(self, writer: Author, pending: list[int], stop: _Stop | None) -> None:
        self._writer, self._pending, self._stop = writer, pending, stop
        self._due, self._unasked, self._overflows, self._turn_tokens = False, True, False, 0
        self._unfinished = False

    def _confirm(self) -> None:
        """The next writer begins a word of its own: what the former had proposed beyond is discarded."""
        assert self._hand_over is not None
        self._remember(self._hand_over)
        self._discard_beyond(self._hand_over)
        self._ledger.hand_overs += 1
        self._hand_over = None

    def _remember(self, hand_over: _HandOver) -> None:
        """Keep what the former writer had proposed beyond the seam, up to a tag or the start of one."""
        vocabulary = self._pens[hand_over.author].engine.vocabulary
        units = spell(hand_over.pending, vocabulary).units
        text = hand_over.white_space + "".join(unit.text for unit in units)
        if found := self._rules.tags.find(text, len(text)):
            text = text[: found[1]]
        text = without_begun(text, self._closers[hand_over.author].text)
        if text.strip():
            self.proposals.append(Discarded(len(self.text), hand_over.author, text))

    def _discard_beyond(self, hand_over: _HandOver) -> None:
        """Cut the former writer's pen back to the seam."""
        former = self._pens[hand_over.author]
        before = former.tokens
        former.cut(len(self.text))
        lost = before - former.tokens + _tokens_of(hand_over.pending, hand_over.stop)
        self._ledger.discard(hand_over.author, lost)

    def _take_back(self) -> None:
        """The next writer would continue the former's last word: the former goes on instead."""
        assert self._hand_over is not None
        former = self._hand_over
        self._ledger.discard(self._writer, _tokens_of(self._pending, self._stop))
        self._ledger.refused += 1
        self._pens[self._writer].cut(former.other_end)
        self.turns.pop()
        self.text += former.white_space
        self._hand_over = None
        self._start_turn(former.author, former.pending, former.stop)

    def _end(self, stop: _Stop) -> Ending:
        if stop.event is not Event.INVALID:
            self._stop = None  # it stands at the end of the text: not discarded
        if stop.event is Event.CLOSE:
            return Ending(Status.COMPLETE)
        return Ending(STATUS[stop.event], f"{stop.event.value}: {stop.detail} by the {self._writer}")


def _tokens_of(pending: Sequence[int], stop: _Stop | None) -> int:
    """Generated tokens in a discarded proposal, those that ended it included."""
    return len(pending) + (stop.tokens if stop is not None else 0)
