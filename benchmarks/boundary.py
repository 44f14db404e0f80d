"""What a decision of a learned boundary costs: contexts that are kept, against reading again each time.

    python benchmarks/boundary.py [--quick] [--profile] [--threads N] [--device cuda] [--json FILE]

A text grows by proposals of 1 or 10 tokens, each of which is a decision: which of its tokens are style. In
one run, on the same weights, with equally many threads, round by round in turn:

window     the authors' way (METHODS, part A): the window, which is the last 200 tokens of text and proposal,
           is read without a cache for each decision
whole      the whole text is read without a cache for each decision
weft       :meth:`weft.boundary.classifier.judge.Classifier.decide`
tasks      the same behind :class:`weft.boundary.batched.Batched`, asked by one task of an event loop for
           each text: ``weft``, the making of proposals and the hand-over between threads

``window`` and ``whole`` get their best: token ids (the authors' code tokenises each text again), no padding
or next to none, causal attention without a mask, and of some batch sizes the fastest, found by trial. As
their decisions are independent, a round of theirs may end before all texts had their turn.

Contexts of 200 and of 4,000 tokens are the least at the start: texts that decide together are spread evenly
over one window more, as texts of a pool are, and so are the decisions of a single text. So ``weft`` begins a
new block, and reads the one before it again, as often as it does in long use: 2 tokens read for each new one
are what it is meant to take. Labels of what stands before the blocks at hand are filled in unread: nothing
depends on them. ``weft`` and ``tasks`` let the texts grow from round to round; the others read them as they
were at the start.

Every proposal is kept, whatever the verdict. Sizes decide costs and weights do not, so random weights serve
where there are no others. ``window`` and ``weft`` do not compute the same labels: a window that slides holds
200 tokens, a context at fixed places one window to two. Therefore verdicts of ``weft`` and ``tasks`` are
compared with labels from one plain pass over the same bounded context; one that differs although its
probability is not within rounding of the threshold ends the benchmark.

Times are medians of up to three rounds; slow ways have fewer, and the JSON says how many. "Tokens read for a
new" counts what passes through the model for each new token, padding included. ``--device cuda`` takes a
classifier of Qwen3-0.6B's shape in bfloat16 instead of the one of 20M parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import os
import pstats
import statistics
import tempfile
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, product
from pathlib import Path
from typing import Any

import torch
from machine import report
from transformers import AutoModelForTokenClassification, AutoTokenizer, Qwen3Config
from transformers.utils import logging

from weft.boundary.base import Proposal, Tokens, Verdict
from weft.boundary.batched import Batched
from weft.boundary.classifier.contexts import _Context
from weft.boundary.classifier.judge import Classifier
from weft.boundary.classifier.loading import load_classifier
from weft.errors import TextError
from weft.micro import boundary_path, make_prompts, model_path
from weft.records import Author

BATCHES = (1, 4, 16, 64)
"""Texts of one pass that are tried for the ways without a cache."""
PASS_TOKENS = {"cpu": 4096, "cuda": 262_144}
"""Most tokens of such a pass, if it is of more than one text."""
NEW = (1, 10)
"""Tokens of a proposal; the last is what the authors' teacher takes for a step."""
CHECKED = 4
"""Texts whose verdicts are compared, of those that decide together."""
NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Probabilities so near to the threshold may fall on either side."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    rounds: int
    seconds: float
    """After so many a way without a cache ends its round, and every way its rounds."""


class Text:
    """One growing text: tokens that were written beforehand, and how many of them stand."""

    def __init__(self, name: str, ids: list[int], pieces: list[str], length: int) -> None:
        self.name, self.ids, self.start, self.length = name, ids, length, length
        self._pieces, self._text = pieces, "".join(pieces)
        self._ends = [0, *accumulate(map(len, pieces))]
        self.verdicts: list[tuple[int, Verdict]] = []
        """Where the label stands that decided, and what was decided."""

    def proposal(self, new: int, vocabulary: str) -> Proposal:
        begin, end = self.length, self.length + new
        return Proposal(
            self.name,
            Author.STUDENT,
            self._text[: self._ends[begin]],
            self._pieces[begin:end],
            ended=False,
            tokens=Tokens(vocabulary, self.ids[:begin], [(token,) for token in self.ids[begin:end]]),
        )

    def keep(self, new: int, verdicts: Sequence[Verdict] | TextError) -> None:
        """Append the proposal."""
        if isinstance(verdicts, TextError):
            raise verdicts
        self.verdicts += enumerate(verdicts, self.length - 1)
        self.length += new


# -- the ways --


class Bench:
    """One classifier and texts that decide together. Each way returns decisions and the seconds they took."""

    new = 1
    """Tokens of a proposal."""

    def __init__(
        self, classifier: Classifier, ids: list[int], *, context: int, texts: int, extent: Extent
    ) -> None:
        """Place ``texts`` texts of some more than ``context`` tokens, taken from ``ids``."""
        self.classifier, self.context = classifier, context
        self.model = classifier._contexts._model
        self.window = classifier.facts.window
        self.vocabulary = classifier.vocabulary.fingerprint
        self._share = self.window if texts == 1 else self.window // 8
        self._seconds = extent.seconds
        self.batches: dict[str, int] = {}
        """Texts of one pass, for the ways without a cache."""
        most = context + self.window + len(NEW) * 2 * extent.rounds * (self._share + max(NEW)) + 1
        pieces = [(classifier.vocabulary.piece(token) or b"").decode() for token in ids]
        repeats = -(-(most + 37 * texts) // len(ids))
        ids, pieces = ids * repeats, pieces * repeats
        self.texts = []
        for n in range(texts):
            part = slice(37 * n, 37 * n + most)
            length = context + (2 * n + 1) * self.window // (2 * texts)
            self.texts.append(Text(f"{context} {texts} {n}", ids[part], pieces[part], length))
        self._place()

    @property
    def steps(self) -> int:
        """Decisions of one text in one round."""
        return -(-self._share // self.new)

    def _place(self) -> None:
        """Make the classifier hold all texts as if they had been written with it."""
        contexts = self.classifier._contexts
        for text in self.texts:
            known = (text.length - 1) // self.window * self.window
            contexts._texts[text.name] = _Context(text.ids[:known], array("f", [0.5]) * known)
        self.classifier.decide([text.proposal(0, self.vocabulary) for text in self.texts])

    def release(self) -> None:
        for text in self.texts:
            self.classifier.release(text.name)

    def weft(self) -> tuple[int, float]:
        seconds = 0.0
        for _ in range(self.steps):
            proposals = [text.proposal(self.new, self.vocabulary) for text in self.texts]
            start = time.perf_counter()
            decided = self.classifier.decide(proposals)
            seconds += time.perf_counter() - start
            for text, verdicts in zip(self.texts, decided, strict=True):
                text.keep(self.new, verdicts)
        return self.steps * len(self.texts), seconds

    def tasks(self) -> tuple[int, float]:
        boundary = Batched(self.classifier)

        async def grow(text: Text) -> None:
            for _ in range(self.steps):
                text.keep(self.new, await boundary.judge(text.proposal(self.new, self.vocabulary)))

        async def grow_all() -> float:
            start = time.perf_counter()
            await asyncio.gather(*map(grow, self.texts))
            return time.perf_counter() - start

        return self.steps * len(self.texts), asyncio.run(grow_all())

    def again(self, way: str, most: int, *, seconds: float | None = None) -> tuple[int, float]:
        """Read the texts, or their last window, for each decision; ``most`` texts in one pass."""
        start, decisions = time.perf_counter(), 0
        for ends in self._passes(most):
            firsts = [end - self.window if way == "window" else 0 for _, end in ends]
            self._read_again(
                [text.ids[max(0, first) : end] for first, (text, end) in zip(firsts, ends, strict=True)]
            )
            decisions += len(ends)
            if time.perf_counter() - start > (self._seconds if seconds is None else seconds):
                break
        return decisions, time.perf_counter() - start

    def _passes(self, most: int) -> list[list[tuple[Text, int]]]:
        """Texts of similar length and where their proposals end, those of middling length first."""
        ends = [(text, text.start + self.new) for text in self.texts]
        if len(ends) == 1:
            places = range(self.context, self.context + self.window, -(-self.window // 8))
            ends = [(self.texts[0], place + self.new) for place in places]
        parts = [ends[at : at + most] for at in range(0, len(ends), most)]
        order = sorted(range(len(parts)), key=lambda number: abs(2 * number + 1 - len(parts)))
        return [parts[number] for number in order]

    def _read_again(self, rows: list[list[int]]) -> list[list[bool]]:
        """For each row whether the tokens of its proposal, and the one after them, are style."""
        longest = max(map(len, rows))
        padded = [row + [0] * (longest - len(row)) for row in rows]
        with torch.inference_mode():
            input_ids = torch.tensor(padded, device=self.model.device)
            logits_BT2 = self.model(input_ids=input_ids, use_cache=False).logits
            last_BN = torch.tensor([[len(row) - 1] for row in rows]) + torch.arange(-self.new, 1)
            rows_B1 = torch.arange(len(rows))[:, None]
            style_BN = torch.softmax(logits_BT2[rows_B1, last_BN].float(), -1)[..., 1]
            decided: list[list[bool]] = (style_BN >= self.classifier.threshold).tolist()
        return decided

    def try_batches(self, way: str) -> None:
        """Choose the fastest number of texts in one pass, which is 1 for a single text."""
        length = self.window if way == "window" else self.context + self.window
        most = min(len(self.texts), PASS_TOKENS[self.model.device.type] // length)
        found = {}
        for size in (size for size in BATCHES if size == 1 or size <= most):
            decisions, seconds = self.again(way, size, seconds=0.0)
            found[size] = seconds / decisions
        self.batches[way] = min(found, key=found.__getitem__)

    def agreement(self) -> Counter[str]:
        """Compare verdicts with those of plain passes over the same bounded contexts.

        Raises:
            SystemExit: one is another, and not for rounding.
        """
        near, threshold = NEAR[self.model.dtype], self.classifier.threshold
        counts = Counter(compared=0, differ_by_rounding=0, cuts=0)
        for text in self.texts[:: -(-len(self.texts) // CHECKED)]:
            style = self._labels(text)
            for place, verdict in text.verdicts:
                expected = Verdict.KEEP if style[place] >= threshold else Verdict.CUT
                if verdict is not expected and abs(style[place] - threshold) > near:
                    raise SystemExit(
                        f"after token {place} of text {text.name}: {verdict}, but a plain pass over "
                        f"the same context says {style[place]:.5f}, threshold {threshold:g}"
                    )
                counts["differ_by_rounding"] += verdict is not expected
                counts["cuts"] += verdict is Verdict.CUT
            counts["compared"] += len(text.verdicts)
        return counts

    @torch.inference_mode()
    def _labels(self, text: Text) -> dict[int, float]:
        """The probability of style by places, each block in one pass with the block before it."""
        style: dict[int, float] = {}
        for new in range((text.start - 1) // self.window * self.window, text.length, self.window):
            first = max(0, new - self.window)
            ids = torch.tensor([text.ids[first : min(new + self.window, text.length)]])
            logits_T2 = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits[0]
            style.update(enumerate(torch.softmax(logits_T2[new - first :].float(), -1)[:, 1].tolist(), new))
        return style


# -- measuring --


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Adds the tokens of each pass of ``model``, padding included."""
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield sizes
    finally:
        hook.remove()


def measure(bench: Bench, extent: Extent) -> dict[str, Any]:
    """One row: for each way milliseconds a decision, and tokens read for each new one."""
    ways: dict[str, Callable[[], tuple[int, float]]] = {"weft": bench.weft, "tasks": bench.tasks}
    for way in ("window", "whole"):
        if way not in bench.batches:
            bench.try_batches(way)
        ways[way] = partial(bench.again, way, bench.batches[way])
    times: dict[str, list[float]] = defaultdict(list)
    read: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    names = list(ways)
    for index in range(extent.rounds):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            if spent[name] > extent.seconds:
                continue
            with counted(bench.model) as sizes:
                decisions, seconds = ways[name]()
            spent[name] += seconds
            times[name].append(1000 * seconds / decisions)
            read[name].append(sum(sizes) / decisions / bench.new)
    ms = {name: statistics.median(values) for name, values in times.items()}
    return {
        "context": bench.context,
        "texts": len(bench.texts),
        "new": bench.new,
        "ms_per_decision": ms,
        "decisions_per_second": {name: 1000 / value for name, value in ms.items()},
        "read_per_new_token": {name: statistics.mean(values) for name, values in read.items()},
        "weft_over_window": ms["window"] / ms["weft"],
        "weft_over_whole": ms["whole"] / ms["weft"],
        "tasks_over_weft": ms["tasks"] / ms["weft"],
        "rounds": {name: len(values) for name, values in times.items()},
        "texts_in_a_pass": dict(bench.batches),
    }


def show(row: dict[str, Any]) -> None:
    ms, read = row["ms_per_decision"], row["read_per_new_token"]
    print(
        f"{row['context']:7,}{row['texts']:6}{row['new']:5}{row['decisions_per_second']['weft']:12,.0f}"
        f"{ms['weft']:7.2f}{ms['tasks']:7.2f}{ms['window']:8.2f}{ms['whole']:9.2f}"
        f"{row['weft_over_window']:10.2f}{row['weft_over_whole']:9.2f}"
        f"{read['weft']:8.2f}{read['window']:9.1f}{read['whole']:8.1f}",
        flush=True,
    )


HEAD = """\
                   decisions/s   ms a decision (its share)       weft is faster     tokens read for a new
context texts  new        weft   weft  tasks  window    whole    window    whole    weft   window   whole"""


def profile(bench: Bench) -> str:
    """The functions in which one round of ``weft`` spends most time."""
    profiler = cProfile.Profile()
    profiler.enable()
    bench.weft()
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(20)
    return text.getvalue()


# -- classifiers --


SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
)
SHAPES = {
    "cpu": ("20M", (384, 1152, 8, 6, 3, 64, 16_000)),
    "cuda": ("0.6B", (1024, 3072, 28, 16, 8, 128, 151_936)),
}
"""Of the classifier that is measured beside the embedded one, by device; "0.6B" is Qwen3-0.6B's."""


def built(folder: Path, sizes: Sequence[int] | None, device: str) -> Path:
    """A classifier of random weights with the micro world's tokenizer, by default of its student's sizes.

    Weights are larger than at the start of training, so that labels depend on the whole context.
    """
    torch.manual_seed(0)
    if sizes is None:
        config = Qwen3Config.from_pretrained(model_path("student"))
    else:
        config = Qwen3Config(**dict(zip(SIZES, sizes, strict=True)), tie_word_embeddings=True)
    config.initializer_range = 0.06
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    AutoModelForTokenClassification.from_config(config, dtype=dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path("student")).save_pretrained(folder)
    return folder


def classifiers(device: str, room: Path) -> Iterator[tuple[str, Classifier]]:
    """Each classifier by its name, loaded as for synthesis; random weights are written to ``room``."""
    micro = boundary_path("student")
    if micro.is_dir():
        yield "micro:student", load_classifier("micro:student", str(micro), device=device)
    else:
        folder = built(room / "micro", None, device)
        yield "micro, random weights", load_classifier("micro", str(folder), device=device)
    name, sizes = SHAPES[device]
    yield (
        f"{name}, random weights",
        load_classifier(name, str(built(room / name, sizes, device)), device=device),
    )


def written(classifier: Classifier) -> list[int]:
    """Some thousand tokens of text, each a unit of its own."""
    text = " ".join(prompt.prompt for prompt in make_prompts(100, seed=0) if prompt.prompt.isascii())
    return list(islice(classifier.vocabulary.encode(text), 8000))


def describe(name: str, classifier: Classifier) -> dict[str, Any]:
    """Print what is measured; as figures."""
    parameters = sum(parameter.numel() for parameter in classifier._contexts._model.parameters())
    window, size = classifier.facts.window, classifier.text_bytes
    print(f"\n{name}: {parameters / 1e6:.1f}M parameters, window {window}, {size / 1e6:.2f} MB for each text")
    print(HEAD)
    return {"parameters": parameters, "window": window, "text_bytes": size, "threshold": classifier.threshold}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: a trial, no figures to quote")
    parser.add_argument("--profile", action="store_true", help="show where decide's time goes")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of every way (1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # Weft then leaves the number alone
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    extent = Extent(1, 0.3) if options.quick else Extent(3, 1.5)
    contexts, texts = ((1000,), (1, 8)) if options.quick else ((200, 4000), (1, 64))
    models: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as room:
        for name, classifier in classifiers(options.device, Path(room)):
            ids = written(classifier)
            models[name] = describe(name, classifier)
            rows, compared = list[dict[str, Any]](), Counter[str]()
            for context, number in product(contexts, texts):
                bench = Bench(classifier, ids, context=context, texts=number, extent=extent)
                for bench.new in NEW:
                    rows.append(measure(bench, extent))
                    show(rows[-1])
                compared.update(bench.agreement())
                if options.profile:
                    print(profile(bench))
                bench.release()
            models[name] |= {"rows": rows, "verdicts": dict(compared)}
            print(
                f"{compared['compared']:,} verdicts compared with plain passes over the same contexts: "
                f"{compared['differ_by_rounding']} differ, by rounding; {compared['cuts']:,} are cuts"
            )
    load = os.getloadavg()
    print(f"\nthreads {options.threads}, load of the machine {load[0]:.1f} ({load[1]:.1f} over 5 minutes)")
    figures = {"models": models, "threads": options.threads, "device": options.device, "load": load}
    report(figures, options.json)


if __name__ == "__main__":
    main()
