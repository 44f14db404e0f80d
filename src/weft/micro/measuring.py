"""What the micro models score, measured while they are made: right answers, likelihoods, cooperation.

The cooperation here is a plain simulation for the card, word by word under the oracle; Weft's own loop
(`weft.synthesis`) is the real thing. Shapes: B sequences of a batch, T positions, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3ForCausalLM

from weft.micro.curriculum import Author
from weft.micro.oracle import is_style
from weft.micro.tokenizer import END

MAX_NEW_TOKENS = 320
BATCH = 64
TAG = "</think>"


@dataclass(frozen=True, slots=True)
class Writer:
    """A trained model with its tokenizer."""

    model: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerBase


def load_writer(folder: Path, device: str = "cpu") -> Writer:
    """A saved model in float32, so after the round trip through bfloat16."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    model.eval()
    return Writer(model, AutoTokenizer.from_pretrained(folder))


def chat_prompt(writer: Writer, question: str) -> str:
    """The question in the chat template, up to the opened thinking tag."""
    text: str = writer.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return text


def complete(writer: Writer, contexts: Sequence[str], temperature: float = 0.0) -> list[str]:
    """Each context's continuation up to the end of the turn; greedy at temperature 0.

    Sampling uses torch's global generator: seed it for a repeatable result.
    """
    device = writer.model.device
    order = sorted(range(len(contexts)), key=lambda index: len(contexts[index]))
    texts = [""] * len(contexts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        inputs = writer.tokenizer(
            [contexts[row] for row in rows], return_tensors="pt", padding=True, padding_side="left"
        ).to(device)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        ids_BT = writer.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=MAX_NEW_TOKENS,
            **(sampling if temperature > 0 else greedy),
        )
        for row, ids_T in zip(rows, ids_BT[:, inputs["input_ids"].shape[1] :], strict=True):
            texts[row] = writer.tokenizer.decode(ids_T).partition(END)[0]
    return texts


def final_answer(completion: str) -> str:
    """What stands after the thinking; empty if the thinking never ended."""
    return completion.rpartition(TAG)[2] if TAG in completion else ""


@torch.no_grad()
def mean_nll(writer: Writer, contexts: Sequence[str], completions: Sequence[str]) -> float:
    """Nats per token of the completions, all their tokens weighing the same."""
    total, count = 0.0, 0
    for context, completion in zip(contexts, completions, strict=True):
        head = writer.tokenizer(context)["input_ids"]
        tail = writer.tokenizer(completion)["input_ids"]
        ids_BT = torch.tensor([head + tail], device=writer.model.device)
        logits_TV = writer.model(ids_BT).logits[0, len(head) - 1 : -1]
        total += float(cross_entropy(logits_TV, ids_BT[0, len(head) :], reduction="sum"))
        count += len(tail)
    return total / count


@dataclass(slots=True)
class _Draft:
    """One trace while two models write it: what is kept, and the word that is not yet judged."""

    kept: list[int]
    pen: Author = "student"
    word: list[int] = field(default_factory=list)
    unasked: bool = False
    state: Literal["thinking", "answering", "done"] = "thinking"
    written: dict[Author, int] = field(default_factory=lambda: {"student": 0, "teacher": 0})
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class JointTrace:
    """A finished cooperation: the text after the opened tag, and the thinking's tokens by author."""

    text: str
    student_tokens: int
    teacher_tokens: int
    ended: bool


@torch.no_grad()
def cooperate(
    student: Writer, teacher: Writer, questions: Sequence[str], *, temperature: float, seed: int
) -> list[JointTrace]:
    """One joint trace per question: the student's style words, the teacher's capability words.

    The writer proposes a word; once the next word begins, the oracle judges it. A word that belongs to the
    other is dropped and the pen changes hands; the first word after a hand-over is kept unasked. The student
    writes the answer.
    """
    generator = torch.Generator().manual_seed(seed)
    traces: list[JointTrace] = []
    for start in range(0, len(questions), BATCH):
        chunk = questions[start : start + BATCH]
        drafts = []
        for question in chunk:
            ids = student.tokenizer(chat_prompt(student, question))["input_ids"]
            drafts.append(_Draft(list(ids), prompt_tokens=len(ids)))
        for _ in range(2 * MAX_NEW_TOKENS):
            open_drafts = [draft for draft in drafts if draft.state != "done"]
            if not open_drafts:
                break
            for author, writer in (("student", student), ("teacher", teacher)):
                turn = [one for one in open_drafts if one.pen == author and one.state != "done"]
                if turn:
                    for draft, token in zip(
                        turn, _next_tokens(writer, turn, temperature, generator), strict=True
                    ):
                        _take(draft, token, student.tokenizer)
        traces += [_finished(draft, student.tokenizer) for draft in drafts]
    return traces


def _next_tokens(
    writer: Writer, drafts: list[_Draft], temperature: float, generator: torch.Generator
) -> list[int]:
    rows = [draft.kept + draft.word for draft in drafts]
    longest = max(map(len, rows))
    ids_BT = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = torch.tensor(row)
    hidden_BTD = writer.model.model(
        input_ids=ids_BT.to(writer.model.device), use_cache=False
    ).last_hidden_state
    last_B = torch.tensor([len(row) - 1 for row in rows], device=hidden_BTD.device)
    logits_BV = writer.model.lm_head(
        hidden_BTD[torch.arange(len(rows), device=hidden_BTD.device), last_B]
    ).cpu()
    if temperature == 0:
        return [int(token) for token in logits_BV.argmax(-1)]
    weights_BV: Tensor = torch.softmax(logits_BV / temperature, -1)
    return [int(token) for token in torch.multinomial(weights_BV, 1, generator=generator)[:, 0]]


def _take(draft: _Draft, token: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Adds the token to the draft, judging the word before it if the token begins another."""
    ends_turn = token == tokenizer.eos_token_id
    if len(draft.kept) + len(draft.word) - draft.prompt_tokens >= MAX_NEW_TOKENS:
        draft.state = "done"
        return
    if draft.state == "answering":
        draft.kept.append(token)
        if ends_turn:
            draft.state = "done"
        return
    piece: str = tokenizer.decode([token])
    closes = piece == TAG
    if draft.word and (piece[:1].isspace() or closes or ends_turn):
        word: str = tokenizer.decode(draft.word)
        owner: Author = "student" if is_style(word) else "teacher"
        if owner != draft.pen and not draft.unasked:
            draft.word, draft.unasked = [], True
            draft.pen = owner
            return
        draft.kept += draft.word
        draft.written[draft.pen] += len(draft.word)
        draft.word, draft.unasked = [], False
    draft.word.append(token)
    if closes or ends_turn:
        draft.kept += draft.word
        draft.word, draft.pen = [], "student"
        draft.state = "answering" if closes else "done"


def _finished(draft: _Draft, tokenizer: PreTrainedTokenizerBase) -> JointTrace:
    text: str = tokenizer.decode(draft.kept[draft.prompt_tokens :])
    return JointTrace(
        text.partition(END)[0],
        draft.written["student"],
        draft.written["teacher"],
        END in text and TAG in text,
    )
