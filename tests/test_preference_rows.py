"""Rows on their way to a loss: what is cut, what stays, what goes, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOTrainer

from preference_world import config, quiet, raw_data, raw_rows, tiny_model, tokenizer
from weft.errors import UserError
from weft.preference import PrefixDPOTrainer, cut
from weft.preference.applying import Apply, Truncate
from weft.preference.policies import EqualLength, Sample, Tail, parse_policy
from weft.preference.rows import Plan, prepare

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
]

END: int = tokenizer().eos_token_id
tokens = st.lists(st.integers(0, 9), min_size=1, max_size=30)


def row(prompt: list[int], chosen: list[int], rejected: list[int], **other: Any) -> dict[str, Any]:
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, **other}


def cut_rows(rows: list[dict[str, Any]], policy: str = "equal-length", **other: Any) -> list[dict[str, Any]]:
    return list(cut(Dataset.from_list(rows), tokenizer(), policy, **{"tell": quiet, **other}))


# --- one row ----------------------------------------------------------------------------------------------


def test_the_shorter_response_keeps_its_end_and_the_other_has_none() -> None:
    found = Apply(EqualLength())(row([1], [5, 6, 7, END], [8, END]))
    assert found["chosen_ids"] == [5, 6] and found["rejected_ids"] == [8, END]
    assert (found["chosen_tokens"], found["chosen_kept"]) == (4, 2)
    assert found["prefix_policy"] == "equal-length"


def test_truncation_comes_after_the_cut() -> None:
    # The longer response alone passes max_length: the cut pair fits, so nothing else is lost.
    found = Apply(EqualLength(), max_length=4)(row([1, 2], list(range(20)), [8, END]))
    assert found["chosen_ids"] == [0, 1] and found["rejected_ids"] == [8, END]
    found = Apply(EqualLength(), max_length=3)(row([1, 2], list(range(20)), [8, 9, END]))
    assert found["chosen_ids"] == [0] and found["rejected_ids"] == [8]
    assert found["weft_same"] is False


def test_weights_are_of_what_is_seen() -> None:
    found = Apply(Sample(), max_length=6)(row([1, 2], list(range(20)), [8, 9, END]))
    assert len(found["chosen_ids"]) == 4 and sum(found["chosen_weights"]) == 3
    found = Apply(Tail(0.5), max_length=6)(row([1, 2], list(range(20)), [8, 9, END]))
    assert found["chosen_weights"] == [1, 1, 1, 0.5] and found["rejected_weights"] == [1, 1, 1]
    assert found["chosen_kept"] == 4


def test_masks_leave_the_row_whole() -> None:
    found = Apply(EqualLength(), masks=True)(row([1], [5, 6, 7, END], [8, END]))
    assert found["chosen_ids"] == [5, 6, 7, END]
    assert found["chosen_weights"] == [1, 1, 0, 0] and found["rejected_weights"] == [1, 1]
    assert found["chosen_kept"] == 2


def test_pairs_that_do_not_differ_any_more() -> None:
    def same(policy: str, chosen: list[int], rejected: list[int], max_length: int | None = None) -> bool:
        answer: bool = Apply(parse_policy(policy), max_length)(row([1], chosen, rejected))["weft_same"]
        return answer

    assert same("equal-length", [5, 6, 7], [5, 6])
    assert not same("equal-length", [5, 6, 7], [5, 7])
    assert not same("ratio:1", [5, 6, 7], [5, 6])
    assert same("first:2", [5, 6, 7], [5, 6, 8])
    assert same("tail:0", [5, 6, 7], [5, 6]) and not same("tail:0.1", [5, 6, 7], [5, 6])
    assert same("equal-length", [5, 6, 7], [5, 6, 8], max_length=3)
    assert same("equal-length", [5], [6], max_length=1)
    assert same("equal-length", [], [6]) and same("random", [5], [])
    assert same("decay:0.5", [5, 6], [5, 6])


@given(
    tokens,
    tokens,
    tokens,
    st.integers(1, 60),
    st.sampled_from(["equal-length", "ratio:0.5", "random", "sample"]),
)
def test_a_row_fits_and_only_loses_its_end(
    prompt: list[int], chosen: list[int], rejected: list[int], limit: int, spec: str
) -> None:
    found = Apply(parse_policy(spec), limit)(row(prompt, chosen, rejected))
    for whole, side in ((chosen, "chosen"), (rejected, "rejected")):
        ids = found[f"{side}_ids"]
        assert ids == whole[: len(ids)]
        assert not ids or len(prompt) + len(ids) <= limit
        assert found[f"{side}_tokens"] == len(whole) and found[f"{side}_kept"] <= len(ids)
    if spec == "equal-length":
        assert len(found["chosen_ids"]) == len(found["rejected_ids"])
    assert (
        Truncate(limit)({**row(prompt, chosen, rejected), **found}).items()
        >= {name: found[name] for name in ("chosen_ids", "rejected_ids", "chosen_kept", "weft_same")}.items()
    )


# --- a data set -------------------------------------------------------------------------------------------


def test_cut_gives_ids_and_the_policy() -> None:
    data = cut(raw_data(5), tokenizer(), "equal-length", tell=quiet)
    assert set(data.column_names) >= {"prompt_ids", "chosen_ids", "rejected_ids", "prefix_policy"}
    assert not {"prompt", "chosen", "rejected", "weft_same"} & set(data.column_names)
    for found, raw in zip(data, raw_rows(5), strict=True):
        assert found["prefix_policy"] == "equal-length"
        assert len(found["chosen_ids"]) == len(found["rejected_ids"])
        encoded = [*tokenizer()(raw["prompt"] + raw["chosen"]).input_ids, END]
        seen = found["prompt_ids"] + found["chosen_ids"]
        assert seen == encoded[: len(seen)]
    ends = [(found["chosen_ids"][-1] == END, found["rejected_ids"][-1] == END) for found in data]
    assert all(any(pair) for pair in ends) and not all(all(pair) for pair in ends)


def test_cut_reads_ids_as_well() -> None:
    raw = cut(raw_data(5), tokenizer(), "none", tell=quiet)
    ids = raw.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    assert [one["prefix_policy"] for one in raw] == ["none"] * 5
    again = cut(ids, tokenizer(), "first:2", tell=quiet)
    straight = cut(raw_data(5), tokenizer(), "first:2", tell=quiet)
    assert [one["chosen_ids"] for one in again] == [one["chosen_ids"] for one in straight]


def test_conversations_are_cut_after_the_template() -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": "two plus two"}],
            "chosen": [{"role": "assistant", "content": "four"}],
            "rejected": [{"role": "assistant", "content": "one and then three more"}],
        }
    ]
    lines: list[str] = []
    (found,) = cut_rows(rows, tell=lines.append)
    # This template closes the thinking of an answer that has none, so it begins within the prompt.
    assert "other tokens alone than before an answer (1 of 1 looked at)" in lines[0]
    prompt, chosen, rejected = (
        tokenizer().decode(found[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")
    )
    assert "two plus two" in prompt and "assistant" in prompt
    assert "four<|im_end|>" in chosen and "<|im_end|>" not in rejected
    assert len(found["chosen_ids"]) == len(found["rejected_ids"])


def test_a_template_that_renders_prompts_alike_is_not_spoken_of() -> None:
    alike = deepcopy(tokenizer())
    alike.chat_template = (
        "{% for m in messages %}[{{ m.role }}] \n{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] \n{% endif %}"
    )
    turns = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    texts = {"prompt": "two", "chosen": "one two", "rejected": "no"}
    row = {name: [{"role": turns[name], "content": texts[name]}] for name in turns}
    lines: list[str] = []
    cut(Dataset.from_list([row]), alike, "equal-length", tell=lines.append)
    assert len(lines) == 1 and "prefix equal-length" in lines[0]


def test_what_goes_is_dropped_and_counted() -> None:
    rows = raw_rows(6)
    rows[1]["rejected"] = rows[1]["chosen"]
    rows[2]["chosen"] = "  "
    rows[4]["prompt"] = "one " * 40
    lines: list[str] = []
    data = cut(Dataset.from_list(rows), tokenizer(), "equal-length", max_length=30, tell=lines.append)
    assert list(data["weft_row"]) == [0, 3, 5]
    (line,) = lines
    assert "3 pairs" in line and "fills max_length 1" in line
    assert "empty response 1" in line and "without a differing token 1" in line


def test_nothing_is_dropped_from_evaluation(tmp_path: Path) -> None:
    rows = raw_rows(3)
    rows[1]["rejected"] = rows[1]["chosen"]
    trainer = PrefixDPOTrainer(
        tiny_model(),
        tiny_model(),
        config(tmp_path),
        train_dataset=raw_data(4),
        eval_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
        tell=quiet,
    )
    assert len(trainer.eval_dataset) == 3


def test_judged_cuts_reach_the_rows() -> None:
    class Late:
        """Prefers the response in which a four stands."""

        def score(self, prompt: str, prefix: str) -> float:
            return float("four" in prefix)

    rows = [
        {"prompt": "add", "chosen": " one two three four", "rejected": " one"},
        {"prompt": "add", "chosen": " four", "rejected": " one two three"},
    ]
    lines: list[str] = []
    grown, equal = cut_rows(rows, "consistent:2,3", judge=Late(), tell=lines.append)
    assert tokenizer().decode(grown["chosen_ids"]) == " one two three four<|im_end|>"
    assert len(equal["chosen_ids"]) == len(equal["rejected_ids"])
    assert "agrees with 50.0%" in lines[0]
    assert "weft_kept" not in grown


def test_another_judgement_is_another_data_set() -> None:
    class Fixed:
        def __init__(self, likes: str) -> None:
            self.likes = likes

        def score(self, prompt: str, prefix: str) -> float:
            return float(self.likes in prefix)

    prints = {
        cut(raw_data(), tokenizer(), "consistent", judge=Fixed(word), tell=quiet)._fingerprint
        for word in ("one", "four", "plus")
    }
    assert len(prints) == 3


def test_each_policy_gives_a_fingerprint_of_its_own() -> None:
    specs = [
        "equal-length",
        "first:3",
        "first:4",
        "decay:0.9",
        "decay:0.91",
        "sample",
        "sample:1",
        "random:1",
    ]
    data = raw_data()
    prints = [cut(data, tokenizer(), spec, tell=quiet)._fingerprint for spec in specs]
    assert len(set(prints)) == len(specs)
    assert prints == [cut(data, tokenizer(), spec, tell=quiet)._fingerprint for spec in specs]


def test_the_rows_of_trl_are_what_is_cut(tmp_path: Path) -> None:
    theirs: Any = DPOTrainer(
        tiny_model(),
        tiny_model(),
        config(tmp_path),
        train_dataset=raw_data(),
        processing_class=tokenizer(),
    ).train_dataset
    ours = cut(raw_data(), tokenizer(), "none", tell=quiet)
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert list(ours[name]) == list(theirs[name])


# --- what is refused --------------------------------------------------------------------------------------


def refused(rows: list[dict[str, Any]], words: str, policy: str = "equal-length", **other: Any) -> UserError:
    with pytest.raises(UserError, match=words) as said:
        cut_rows(rows, policy, **other)
    return said.value


def test_a_second_cut_is_refused() -> None:
    once = cut(raw_data(), tokenizer(), "first:9", tell=quiet)
    for policy in ("first:3", "first:9"):
        with pytest.raises(UserError, match="already cut, by first:9"):
            cut(once, tokenizer(), policy, tell=quiet)


def test_draws_of_each_epoch_cannot_be_written_down() -> None:
    assert "trainer" in refused(raw_rows(2), "draws anew", "random@epoch").remedy


def test_missing_columns() -> None:
    error = refused([{"prompt": "a", "chosen": "b", "worse": "c"}], "no column is called `rejected`")
    assert "worse" in error.remedy


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"chosen": None}, "row 2: `chosen` is missing"),
        ({"prompt": None}, "row 2: `prompt` is missing"),
    ],
)
def test_a_bad_row_is_named(bad: dict[str, Any], words: str) -> None:
    rows = raw_rows(4)
    refused([*rows[:2], {**rows[2], **bad}, rows[3]], words)


def test_columns_of_different_kinds() -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}]
    refused(rows, "row 0: its columns are of different kinds")


def test_swapped_columns_of_a_conversation() -> None:
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    rows = [{"prompt": [assistant], "chosen": [user], "rejected": [assistant]}]
    assert "swapped" in refused(rows, "`chosen` does not end with the assistant's message").remedy


def test_images() -> None:
    refused([{**raw_rows(1)[0], "images": ["a.png"]}], "images")


def test_nothing_left() -> None:
    refused([{"prompt": "a", "chosen": "b", "rejected": "b"}], "no pair is left")
    refused([{"prompt": "a", "chosen": " ", "rejected": "b"}], "without text")
    refused(raw_rows(2), "every prompt fills max_length", max_length=1)
    with pytest.raises(UserError, match="no rows"):
        cut(Dataset.from_list([]), tokenizer(), "first:1", tell=quiet)


def test_ids_that_are_none() -> None:
    refused([{"prompt_ids": ["a"], "chosen_ids": ["b"], "rejected_ids": ["c"]}], "no list of token ids")


def test_what_is_no_data_set() -> None:
    rows: Any = raw_rows(2)
    with pytest.raises(UserError, match="no data set: list"):
        cut(rows, tokenizer(), "first:1", tell=quiet)


def test_a_stream_is_checked_while_it_streams_and_cannot_be_judged() -> None:
    rows = raw_rows(3)
    rows[2]["chosen"] = ""
    stream = Dataset.from_list(rows).to_iterable_dataset()
    assert [one["weft_row"] for one in cut(stream, tokenizer(), "equal-length", tell=quiet)] == [0, 1]
    plan = Plan(parse_policy("consistent"))
    ids = Dataset.from_list([row([1], [2], [3])]).to_iterable_dataset()
    with pytest.raises(UserError, match="cannot judge a stream"):
        prepare(ids, plan, lambda rows: rows, tokenizer(), tell=quiet)
