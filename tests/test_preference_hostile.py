"""What broke preferences once: each was a defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import concatenate_datasets
from trl import DPOConfig

from preference_world import quiet, raw_data, raw_rows, save_tiny, settings, tokenizer
from weft.errors import UserError
from weft.preference.pairs import normalised, open_pairs
from weft.preference.rows import cut
from weft.preference.trainer import PrefixDPOTrainer
from weft.training.folder import begin, check_inputs, model_facts

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # TRL sets what transformers has renamed.
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def conversation(**more: Any) -> dict[str, Any]:
    return {"prompt": [user("q")], "chosen": [said("1")], "rejected": [said("2")], **more}


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_tools_of_later_rows_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    rows = open_pairs(written(tmp_path / "p.jsonl", conversation(), conversation(tools=tools))).rows
    assert rows[0]["tools"] == "null" and '"add"' in rows[1]["tools"]
    bare = open_pairs(written(tmp_path / "q.jsonl", conversation(), conversation()))
    assert bare.sha256 != open_pairs(str(tmp_path / "p.jsonl")).sha256


def test_template_arguments_of_some_rows_are_refused(tmp_path: Path) -> None:
    name = written(
        tmp_path / "p.jsonl", conversation(), conversation(chat_template_kwargs={"enable_thinking": False})
    )
    with pytest.raises(UserError, match=r"p\.jsonl:2"):
        open_pairs(name)


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": "Hi",
            "chosen": [said("a"), user("b"), said("1")],
            "rejected": [said("a"), user("b"), said("2")],
        },
        {
            "prompt": [{"role": "system", "content": "s"}, user("q")],
            "chosen": [user("q"), said("1")],
            "rejected": [user("q"), said("2")],
        },
        {"prompt": "other", "chosen": [user("q"), said("1")], "rejected": [user("q"), said("2")]},
    ],
)
def test_a_prompt_is_never_rewritten(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not the prompt"):
        normalised(row, "here")


def test_no_prompt_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="no prompt"):
        normalised({"chosen": [said("1")], "rejected": [said("2")]}, "here")


def test_a_run_never_replaces_what_it_reads(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "p.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="lies in the output"):
        check_inputs(output, {"model": "owner/name", "data": str(output / "p.jsonl")})
    with pytest.raises(UserError, match="lies in the output"):
        check_inputs(output, {"model": str(output)})
    check_inputs(output, {"model": "owner/name", "data": str(tmp_path / "p.jsonl"), "held-out data": None})


def test_the_output_may_be_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "old").mkdir(parents=True)
    link.symlink_to(folder)
    begin(link, "align", None, {}, {})
    assert link.is_symlink() and [path.name for path in folder.iterdir()] == ["align.manifest.json"]


def test_a_local_model_is_known_by_what_it_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_tiny(one, seed=0)
    save_tiny(other, seed=1)
    assert model_facts(str(one)) != model_facts(str(other)) and model_facts("owner/name") == {}


def test_rows_of_two_policies_are_refused(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    both = [
        cut(raw_data(4, seed), tokenizer(), policy, tell=quiet)
        for seed, policy in enumerate(("equal-length", "first:2"))
    ]
    with pytest.raises(UserError, match="equal-length and first:2"):
        PrefixDPOTrainer(
            base,
            args=DPOConfig(**settings(tmp_path / "out")),
            train_dataset=concatenate_datasets(both),
            processing_class=tokenizer(),
            tell=quiet,
        )


def test_a_smaller_last_batch_weighs_less(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    found = []
    for size in (1, 4):
        trainer = PrefixDPOTrainer(
            base,
            args=DPOConfig(**settings(tmp_path / f"out{size}", per_device_eval_batch_size=size)),
            train_dataset=raw_data(4),
            eval_dataset=raw_data(5, seed=9),
            processing_class=tokenizer(),
            prefix="equal-length",
            tell=quiet,
        )
        trainer.train()
        found.append(trainer.evaluate())
    for name in ("eval_rewards/accuracies", "eval_rewards/margins", "eval_uncut/rewards/margins"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-5), name


def test_pairs_are_what_the_rows_say() -> None:
    assert normalised(raw_rows(1)[0], "here").keys() == {"prompt", "chosen", "rejected"}
