"""What training commands share: settings, the folder, lines, rows on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from datasets import Features, Value
from datasets.exceptions import DatasetGenerationError
from trl import DPOConfig, SFTConfig

from weft.errors import UserError
from weft.finetuning.settings import SftSettings
from weft.preference.recipe import AlignSettings
from weft.training.arguments import made
from weft.training.cached import cached
from weft.training.folder import asked_more, begin, check_folder, check_inputs, compare, finish, held
from weft.training.settings import TrainingSettings, deciding
from weft.training.voice import Voice

FEATURES = Features({"text": Value("string")})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(count: int, stamp: int = 0) -> Iterator[dict[str, Any]]:
    yield from ({"text": f"{number}"} for number in range(count))


def mistaken(stamp: int) -> Iterator[dict[str, Any]]:
    yield {"text": "a"}
    raise UserError("a mistake", where="f:2", remedy="mend it")


def broken(stamp: int) -> Iterator[dict[str, Any]]:
    yield {"text": "a"}
    raise KeyError("defect")


def test_rows_are_made_once() -> None:
    first = cached(rows, {"count": 3}, FEATURES)
    assert list(first["text"]) == ["0", "1", "2"]
    assert cached(rows, {"count": 3}, FEATURES).cache_files == first.cache_files
    assert cached(rows, {"count": 3, "stamp": 1}, FEATURES).cache_files != first.cache_files


def test_a_users_mistake_comes_through_and_a_defect_stays_one() -> None:
    with pytest.raises(UserError, match="a mistake") as error:
        cached(mistaken, {"stamp": 0}, FEATURES)
    assert (error.value.where, error.value.remedy) == ("f:2", "mend it")
    with pytest.raises(DatasetGenerationError):
        cached(broken, {"stamp": 0}, FEATURES)


def test_each_of_several_inputs_is_looked_at(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    inside, outside = output / "a.jsonl", tmp_path / "b.jsonl"
    for path in (inside, outside):
        path.touch()
    check_inputs(output, {"data": [str(outside)], "held-out data": None, "model": "owner/name"})
    for given in (str(inside), [str(outside), str(inside)]):
        with pytest.raises(UserError, match=r"the data .*a\.jsonl lies in the output"):
            check_inputs(output, {"data": given})


def test_one_run_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with held(output):
        with pytest.raises(UserError, match="another weft run"), held(output):
            pass
        assert check_folder(output, "sft", overwrite=False) is None, "the lock is nobody's file"
        begin(output, "sft", None, {"seed": 0}, {})
        with pytest.raises(UserError, match="another weft run"), held(output):
            pass
    assert [path.name for path in output.iterdir()] == ["sft.manifest.json"]
    with pytest.raises(RuntimeError), held(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists(), "what fails before it begins leaves nothing"


def test_one_commands_folder_is_none_of_anothers(tmp_path: Path) -> None:
    output = tmp_path / "out"
    begin(output, "sft", None, {"seed": 0}, {})
    assert check_folder(output, "sft", overwrite=False) is not None
    assert check_folder(output, "sft", overwrite=True) is None
    with pytest.raises(UserError, match="something else") as error:
        check_folder(output, "align", overwrite=True)
    assert "weft align" in str(error.value.expected)


def test_a_run_is_finished_when_all_is_written(tmp_path: Path) -> None:
    output, decides = tmp_path / "out", {"seed": 0, "names": ("a",)}
    manifest = begin(output, "sft", None, decides, {})
    read = check_folder(output, "sft", overwrite=False)
    assert read is not None and not compare(output, read, decides).finished
    finish(output, "sft", manifest, {"step": 4.0, "loss": float("nan")}, None)
    read = check_folder(output, "sft", overwrite=False)
    assert read is not None
    earlier = compare(output, read, decides)
    assert earlier.finished and earlier.figures == {"step": 4.0}
    assert asked_more(output, earlier, merge=False, held_out=None) == []
    with pytest.raises(UserError, match="its last checkpoint is gone"):
        asked_more(output, earlier, merge=False, held_out={"texts": 1})
    with pytest.raises(UserError, match="seed: 0 before, 1 now"):
        compare(output, read, {**decides, "seed": 1})


def test_both_commands_share_every_setting_of_a_run() -> None:
    shared = set(TrainingSettings.model_fields)
    assert shared < set(SftSettings.model_fields) and shared < set(AlignSettings.model_fields)
    for kind in (SftSettings, AlignSettings):
        free = set(kind.model_fields) - set(deciding(kind(model="m", data="d")))
        assert free == set(TrainingSettings.free)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize(("kind", "settings"), [(SFTConfig, SftSettings), (DPOConfig, AlignSettings)])
def test_settings_reach_trl(kind: Any, settings: Any, tmp_path: Path) -> None:
    given = settings(model="m", data="d", seed=7, report_to="none", trl={"use_cpu": True, "adam_beta2": 0.9})
    args = made(kind, given, tmp_path, {"max_length": 5})
    assert (args.seed, args.max_length, args.adam_beta2, args.report_to) == (7, 5, 0.9, [])
    assert args.learning_rate == given.learning_rate
    assert args.output_dir == str(tmp_path / "checkpoints")


def test_lines_name_what_they_are_asked_to() -> None:
    said: list[str] = []
    steps: list[tuple[int, int]] = []
    voice = Voice(said.append, lambda *at: steps.append(at), {"a": "accuracy"}, {"eval_a": "held accuracy"})
    state, control = SimpleNamespace(global_step=9, max_steps=10), SimpleNamespace(should_log=False)
    voice.on_step_end(None, state, control)
    assert steps == [(9, 10)] and not control.should_log
    voice.on_log(None, state, control, {"loss": 0.5, "a": 0.25, "b": 1})
    voice.on_log(None, state, control, {"loss": 0.5, "a": float("nan")})
    voice.on_log(None, state, control, {"eval_loss": 0.75, "eval_a": 1})
    voice.on_log(None, state, control, {"train_runtime": 3})
    assert said == [
        "step 9 of 10: loss 0.5000, accuracy 0.250",
        "step 9 of 10: loss 0.5000",
        "step 9 of 10: held out 0.7500, held accuracy 1.000",
    ]
    state.global_step = 10
    voice.on_step_end(None, state, control)
    assert control.should_log
