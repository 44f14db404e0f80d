"""A boundary without a model: phrases that people and models think aloud with are style, all else capability.

It is a baseline, and what there is before a boundary has been learned. A phrase counts wherever it stands as
whole words, with the punctuation that follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import regex

from weft.boundary.base import Proposal, Verdict
from weft.records import Author

ENGLISH = """
okay | ok | alright | all right | right | well | hmm | hm | ah | oh | huh | uh | um | yeah | yes | no wait
so | now | then | first | firstly | first of all | second | secondly | third | next | finally | lastly
wait | wait a moment | wait a minute | hold on | hang on | actually | oops | sorry | but wait | no , that
let me see | let me think | let me check | let me try | let me verify | let me double check
let me double-check | let me re-check | let me recheck | let me start | let me consider | let me recall
let me recap | let me go back | let me just | let me re-read | let me write | let me work through
let's see | let's think | let's check | let's try | let's verify | let's start | let's consider | let's go
let's recap | let's break this down | let's break it down | let's work through | let us see | let us consider
i think | i guess | i believe | i suppose | i mean | i see | i wonder | i need to | i should | i recall
i remember | i'll start | i'm going to | i'm not sure | if i recall correctly | if i remember correctly
maybe | perhaps | probably | hopefully | interesting | interestingly | good | great | nice | perfect | cool
that makes sense | makes sense | that seems right | that looks right | sounds good | that's right | got it
the user wants | the user asks | we need to | we have to | we should | we want to | we can see
so basically | basically | essentially | in other words | that is to say | to be sure | just to be sure
just to be safe | to double-check | to summarize | to recap | in summary | in short | in conclusion | overall
therefore | thus | hence | however | but | also | moreover | furthermore | additionally | on the other hand
alternatively | instead | anyway | in any case | of course | clearly | obviously | note that | notice that
remember that | keep in mind that | it is worth noting that | as mentioned | as i said | going back to
putting it all together | putting this together | step by step | to begin with | starting with | moving on
""".replace("\n", "|").split("|")

CHINESE = """
好的 | 好吧 | 好 ， | 嗯 | 哦 | 啊 | 等等 | 等一下 | 等一等 | 不对 | 让我想想 | 让我看看 | 让我们看看 | 让我检查一下
让我再检查一下 | 我们来看 | 我来看看 | 我想 | 我觉得 | 我认为 | 首先 | 其次 | 然后 | 接下来 | 接着 | 最后 | 再来
所以 | 因此 | 于是 | 那么 | 不过 | 但是 | 可是 | 然而 | 另外 | 此外 | 而且 | 其实 | 实际上 | 也许 | 可能 | 大概 | 应该是
总之 | 综上所述 | 总结一下 | 换句话说 | 也就是说 | 换个角度 | 仔细想想 | 需要注意的是 | 值得注意的是 | 显然 | 当然
""".replace("\n", "|").split("|")

_LONGEST = 64
"""Characters: longer than any phrase with its punctuation, so that no answer depends on what lies before."""
_UNFINISHED = regex.compile(r"[\p{L}\p{N}]+\Z")
_SPACE = r"\s{1,2}"
_AFTER = r"\s{0,2}[,.;:!?…，。；：！？、—-]{0,8}"


class Lexicon:
    """Style is what the phrases cover."""

    reach = 3
    """The word that is cut off, and as a rule one or two more by which it is known to begin no phrase."""

    def __init__(self, name: str = "lexicon", phrases: Iterable[str] = (*ENGLISH, *CHINESE)) -> None:
        """Compile the phrases, of at most 40 characters; a space in them stands for one or two of any kind."""
        self.name = name
        words = {" ".join(phrase.split()) for phrase in phrases if phrase.strip()}
        ordered = sorted(words, key=lambda phrase: (-len(phrase), phrase))
        spelled = "|".join(_SPACE.join(map(regex.escape, phrase.split())) for phrase in ordered)
        self._phrase = regex.compile(rf"(?<![\p{{L}}\p{{N}}])(?:{spelled}){_AFTER}", regex.IGNORECASE)
        cjk = "|".join(regex.escape("".join(p.split())) for p in ordered if not p.isascii())
        self._cjk = regex.compile(rf"(?:{cjk}){_AFTER}") if cjk else None

    def decide(self, proposals: Sequence[Proposal]) -> list[list[Verdict]]:
        """One verdict for each unit of each proposal and one for the unit that would follow it."""
        return [self._decide(proposal) for proposal in proposals]

    def _decide(self, proposal: Proposal) -> list[Verdict]:
        before = proposal.before[-_LONGEST:]
        text = before + "".join(proposal.units)
        style, open_from = self._style(text, proposal.ended)
        verdicts = []
        start = len(before)
        for unit in [*proposal.units, ""]:
            ink = start + len(text[start:]) - len(text[start:].lstrip())
            if ink >= len(text) or ink >= open_from:
                verdicts.append(Verdict.KEEP if proposal.ended else Verdict.UNDECIDED)
            else:
                mine = style[ink] == (proposal.author is Author.STUDENT)
                verdicts.append(Verdict.KEEP if mine else Verdict.CUT)
            start += len(unit)
        return verdicts

    def _style(self, text: str, ended: bool) -> tuple[list[bool], int]:
        """For each character whether it is style, and from where on that is not yet known."""
        style = [False] * len(text)
        open_from = len(text)
        for pattern in (self._phrase, self._cjk):
            for match in pattern.finditer(text, overlapped=True) if pattern else ():
                following = text[match.end() : match.end() + 1]
                inside = pattern is self._phrase and match.group()[-1].isalnum() and following.isalnum()
                if inside:
                    continue
                if match.end() == len(text) and not ended:
                    open_from = min(open_from, match.start())
                style[match.start() : match.end()] = [True] * len(match.group())
        if not ended:
            for start in range(max(0, len(text) - _LONGEST), len(text)):
                if self._may_begin(text, start):
                    open_from = min(open_from, start)
                    break
        return style, open_from

    def _may_begin(self, text: str, start: int) -> bool:
        """Whether the text from ``start`` on is the beginning of a phrase that is not complete yet."""
        if any(p and p.fullmatch(text, start, partial=True) for p in (self._phrase, self._cjk)):
            return True
        word = _UNFINISHED.match(text, start)
        return word is not None and (start == 0 or not text[start - 1].isalnum())

    def describe(self) -> Mapping[str, object]:
        return {"boundary": self.name}

    def release(self, trace: str) -> None:
        """Nothing is kept."""
