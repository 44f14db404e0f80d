"""One call for the whole job: traces in, pairs of better and worse responses out.

::

    NAME.jsonl              the pairs                             (weft.pairing.pairs)
    NAME.qualities.jsonl    what was said of each response        (weft.pairing.rating; not by verdict)

Pairs are made when all responses are judged, from what is on disk: a run that was killed and goes on gives
the same pairs as one that was not. While an engine's error leaves a response unjudged, no pair is written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import weft
from weft.errors import UserError
from weft.gap.ranking.measure import Observer, Silence
from weft.gap.ranking.reading import digest_of
from weft.pairing.choosing import Rated, choose
from weft.pairing.outcome import Paired, check_pairs
from weft.pairing.pairs import PAIRS, Pair, Side
from weft.pairing.rating import RATINGS, RatingStatus, rate
from weft.pairing.sampled import Sampled, Samples, digests, files_of, read_samples
from weft.pairing.settings import VERDICT, SamplesSettings
from weft.quality.base import Quality
from weft.quality.opening import open_quality
from weft.store import Manifest, RowStore, first_day, read_rows
from weft.verify.base import Verdict

WORTH: Mapping[str, float] = {Verdict.CORRECT.value: 1.0, Verdict.WRONG.value: 0.0}
UNTOLD = "of unknown quality"
ALONE = "prompts with fewer than two responses to compare"
FLAT = "prompts without contrast"


def qualities_path(output: Path) -> Path:
    """Where the qualities of the responses are."""
    return output.with_suffix(".qualities.jsonl")


def from_samples(
    settings: SamplesSettings,
    inputs: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    command: Sequence[str] = (),
) -> Paired:
    """Make pairs of a better and a worse response to one prompt.

    Args:
        inputs: files of `weft synth` or `weft verify`; what was rejected beside them is read, too.
        command: the command line's arguments, for the manifest.

    Raises:
        UserError: settings, traces or models do not fit, or ``output`` was made with others.
        RunError: the disk or a judge fails for good; what was finished is on disk.
    """
    run = _Run(settings, tuple(inputs), output, overwrite, observer or Silence(), tuple(command))
    return asyncio.run(run.run())


@dataclass(slots=True)
class _Run:
    settings: SamplesSettings
    inputs: tuple[Path, ...]
    output: Path
    overwrite: bool
    observer: Observer
    command: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    async def run(self) -> Paired:
        settings = self.settings
        by_quality = settings.by != VERDICT
        beside = [qualities_path(self.output)] if by_quality else []
        check_pairs(self.output, list(self.inputs), *beside)
        files = files_of(self.inputs)
        samples = read_samples(self.inputs)
        self.left_out.update(samples.left_out)
        deciding: dict[str, Any] = {
            "pairs": "samples",
            **settings.deciding(),
            "traces": digests(file for _, file in files),
        }
        if not by_quality:
            known, again = self._verdicts(samples), 0
        else:
            known, again, said = await self._qualities(samples, deciding)
            deciding["quality"] = said
        if again:
            self.observer.noted(
                f"{again:,} responses failed by engine errors, so no pair is written yet; the same command "
                "tries them again"
            )
            return Paired(self.output, 0, dict(self.left_out), {}, again)
        return self._pairs(samples, known, deciding)

    def _verdicts(self, samples: Samples) -> dict[str, float]:
        unverified = next((one for one in samples.found if one.verdict is None), None)
        if unverified is not None:
            raise UserError(
                "the trace has no verdict",
                where=unverified.where,
                expected="traces that `weft verify` wrote",
                remedy="weft verify TRACES --verifier NAME -o VERIFIED; or judge them here: --by NAME",
            )
        known = {one.key: WORTH[one.verdict] for one in samples.found if one.verdict and one.verdict in WORTH}
        self.left_out[UNTOLD] += len(samples.found) - len(known)
        return known

    async def _qualities(
        self, samples: Samples, deciding: Mapping[str, Any]
    ) -> tuple[dict[str, float], int, Mapping[str, object]]:
        """Qualities by key, how many failed, and what decides them."""
        settings, path = self.settings, qualities_path(self.output)
        date = first_day(path, overwrite=self.overwrite)
        quality = await open_quality(
            settings.by,
            date=date,
            servers=settings.servers,
            concurrency=settings.concurrency,
            workers=settings.workers,
            seconds=settings.seconds,
            memory_bytes=settings.memory_bytes,
            unsandboxed=settings.unsandboxed,
            tell=self.observer.noted,
        )
        try:
            return await self._rated(samples, quality, path, date.isoformat(), deciding["traces"])
        finally:
            await quality.close()

    async def _rated(
        self, samples: Samples, quality: Quality, path: Path, date: str, traces: Sequence[str]
    ) -> tuple[dict[str, float], int, Mapping[str, object]]:
        settings = self.settings
        if settings.by == "answer" and all(one.trace.prompt.answer is None for one in samples.found):
            raise UserError(
                "no prompt has an answer to compare with",
                where=samples.found[0].where,
                expected="traces of prompts with a column `answer`",
                remedy="judge by a model: --by reward:MODEL or judge:ENGINE",
            )
        said = dict(quality.describe())
        info = {"command": list(self.command), "traces": [str(path) for path in self.inputs]}
        manifest = Manifest.create(weft.__version__, {"quality": said, "traces": traces}, info, date=date)
        with RowStore(RATINGS, path, manifest, overwrite=self.overwrite) as store:
            for note in store.repaired:
                self.observer.noted(note)
            await rate(
                quality,
                samples.found,
                store,
                concurrency=settings.concurrency,
                error_rate=settings.error_rate,
                observer=self.observer,
            )
            again = store.counts[RatingStatus.ENGINE_ERROR]
            self.left_out[UNTOLD] += store.counts[RatingStatus.UNTOLD]
        known = {one.id: one.quality for one in read_rows(RATINGS, path) if one.quality is not None}
        return known, again, said

    def _pairs(self, samples: Samples, known: Mapping[str, float], deciding: Mapping[str, Any]) -> Paired:
        info = {"command": list(self.command), "traces": [str(path) for path in self.inputs]}
        manifest = Manifest.create(weft.__version__, deciding, info)
        made = list(self._chosen(samples, known))
        self.observer.began("pairs", len(made))
        with RowStore(PAIRS, self.output, manifest, overwrite=self.overwrite) as store:
            for note in store.repaired:
                self.observer.noted(note)
            for pair in made:
                if not store.is_finished(pair.id, pair.made_from):
                    store.append(pair)
                self.observer.advanced()
            counts = {name: count for name, count in self.left_out.items() if count}
            return Paired(self.output, store.complete, counts, figures_of(made))

    def _chosen(self, samples: Samples, known: Mapping[str, float]) -> Iterator[Pair]:
        """The pairs of all prompts, in the order in which prompts come first."""
        by_prompt: defaultdict[str, list[Sampled]] = defaultdict(list)
        for sample in samples.found:
            by_prompt[sample.prompt].append(sample)
        settings = self.settings
        for group in by_prompt.values():
            by_key = {one.key: one for one in group if one.key in known}
            rated = [Rated(key, one.trace.text, one.tokens, known[key]) for key, one in by_key.items()]
            found = choose(
                rated,
                most=settings.per_prompt,
                min_margin=settings.min_margin,
                match_length=settings.match_length,
                seed=settings.seed,
            )
            if not found:
                self.left_out[ALONE if len(rated) < 2 else FLAT] += 1
            for better, worse in found:
                yield _pair(by_key[better.key], by_key[worse.key], better, worse, settings.by)


def _pair(chosen: Sampled, rejected: Sampled, better: Rated, worse: Rated, by: str) -> Pair:
    sides = [
        Side([one.trace.completion.to_dict()], one.key, rated.quality, one.tokens)
        for one, rated in ((chosen, better), (rejected, worse))
    ]
    row, prompt = chosen.trace.to_row(), chosen.trace.prompt
    return Pair(
        id=f"{chosen.key}>{rejected.key}",
        prompt=row["prompt"],
        chosen=sides[0],
        rejected=sides[1],
        by=by,
        prompt_id=prompt.id,
        made_from=digest_of(row["prompt"], [side.said for side in sides]),
        answer=prompt.answer,
        template_arguments=chosen.trace.template_arguments,
        training_template=chosen.trace.training_template,
    )


def figures_of(pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean lengths and mean margin over the pairs, where they are known; and how often the chosen response
    is the longer one, ties by half."""
    figures: dict[str, float] = {}
    lengths = [
        (pair.chosen.tokens, pair.rejected.tokens)
        for pair in pairs
        if pair.chosen.tokens is not None and pair.rejected.tokens is not None
    ]
    if lengths:
        figures["chosen_tokens"] = fmean(chosen for chosen, _ in lengths)
        figures["rejected_tokens"] = fmean(rejected for _, rejected in lengths)
        figures["chosen_longer"] = fmean(((c > r) + (c >= r)) / 2 for c, r in lengths)
    margins = [
        pair.chosen.quality - pair.rejected.quality
        for pair in pairs
        if pair.chosen.quality is not None and pair.rejected.quality is not None
    ]
    if margins:
        figures["margin"] = fmean(margins)
    return figures
