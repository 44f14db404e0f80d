"""`weft align`: flags, files, what is printed, and how mistakes are said."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import datasets
import pytest
from rich.console import Console
from trl import DPOConfig

from preference_world import raw_rows, save_tiny
from weft.cli.align import FLAGS, align
from weft.cli.main import main
from weft.cli.settings import read_as
from weft.preference.applying import Apply
from weft.preference.policies import NAMES, parse_policy
from weft.preference.preview import measured, preview, table
from weft.preference.recipe import AlignSettings, Loss

pytestmark = pytest.mark.usefixtures("one_thread")

NOT_SETTINGS = {"output", "config", "preview", "as_json", "overwrite", "quiet", "push_to_hub", "public"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture
def command(base: str, tmp_path: Path) -> list[str]:
    """Model and data."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in raw_rows(12)))
    return ["align", "--model", base, "--data", str(pairs)]


def run_options(tmp_path: Path) -> list[str]:
    options = {
        "-o": str(tmp_path / "out"),
        "--max-steps": "2",
        "--per-device-train-batch-size": "2",
        "--gradient-accumulation-steps": "1",
        "--max-length": "64",
        "--report-to": "none",
        "--trl": '{"use_cpu": true}',
    }
    return [part for option in options.items() for part in option]


def test_help_loads_neither_torch_nor_trl() -> None:
    code = (
        "import sys\n"
        "from weft.cli.main import main\n"
        "assert main(['align', '--help']) == 0\n"
        "assert not {'torch', 'transformers', 'trl', 'datasets', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("--loss", "--prefix", "equal-length", "--lora-r", "--report-to", "--preview"):
        assert words in done.stdout


def test_every_setting_has_a_flag() -> None:
    parameters = set(inspect.signature(align).parameters) - NOT_SETTINGS
    assert {FLAGS_TO_FIELDS.get(name, name) for name in parameters} == set(AlignSettings.model_fields)


FLAGS_TO_FIELDS = {"loss": "loss_type"}


def test_losses_are_those_of_trl_and_simpo() -> None:
    help_text = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert set(re.findall(r"`'(\w+)'`", help_text)) | {"simpo"} == set(get_args(Loss))


def test_help_names_every_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "--help"]) == 0
    out = capsys.readouterr().out
    for name in NAMES.split(", "):
        bare = name.partition(":")[0]
        assert bare == "consistent" or bare in out


def test_a_run_by_flags(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, *run_options(tmp_path), "--loss", "sigmoid", "--loss", "sft"]) == 0
    err = capsys.readouterr().err
    assert "What equal-length does to pairs.jsonl" in err
    assert "step 2 of 2: loss" in err
    assert "model in" in err
    assert "Traceback" not in err
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert "DPO (arXiv 2305.18290) and the likelihood" in (tmp_path / "out" / "README.md").read_text()
    assert main([*command, *run_options(tmp_path), "--loss", "sigmoid", "--loss", "sft"]) == 0
    assert "is finished; there is nothing to do" in capsys.readouterr().err
    assert main([*command, *run_options(tmp_path)]) == 2
    assert 'settings.loss_type: ["sigmoid", "sft"] before' in capsys.readouterr().err
    assert main([*command, *run_options(tmp_path), "--overwrite", "-q", "--lora-r", "2"]) == 0
    err = capsys.readouterr().err
    assert "adapter in" in err
    assert "step" not in err.partition("steps")[0]
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_file_and_flags_that_override_it(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(
        "loss_type: simpo\nprefix: first:3\nbeta: 10\ntrl: {use_cpu: true, discopop_tau: 0.2}\n"
    )
    assert main([*command, "--config", str(config), "--prefix", "ratio:0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "ratio:0.5"
    found = read_as(
        AlignSettings,
        config,
        {"model": "m", "data": "d", "prefix": None, "trl": {"discopop_tau": 0.3}},
        flags=FLAGS,
        wanted={},
        example="",
    )
    assert (found.loss_type, found.beta, found.prefix) == (("simpo",), 10, "first:3")
    assert found.trl == {"use_cpu": True, "discopop_tau": 0.3}


def test_the_preview_alone_trains_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--preview", "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "12 of 12" in out
    assert "labels that hold" in out
    assert "not known" in out
    assert not (tmp_path / "out").exists()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kept"] == 12
    assert found["label_consistency"] is None
    assert found["positions"]["packed"] < found["positions"]["cut"] < found["positions"]["whole"]


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt_ids": [9] * 400, "chosen_ids": [1] * 900 + [2], "rejected_ids": [1] * 4000}
    policy = parse_policy("equal-length")
    pairs = [measured(row, Apply(policy)(row))] * 60
    found = preview(pairs, policy, batch=4, empty=12_345, too_long=1_234)
    assert found.warnings
    Console(width=80).print(table(found, "What equal-length does to HuggingFaceH4/ultrafeedback_binarized"))
    shown = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in shown) <= 80
    assert any("rules of thumb" in line for line in shown)
    assert any("the preference sits late" in line for line in shown)


def test_an_interrupted_run_says_how_to_go_on(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import weft.training.job as module

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", interrupt)
    assert main([*command, *run_options(tmp_path), "-q"]) == 130
    assert "the same command (without --overwrite) goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--loss", "dpo"], "--loss"),
        (["--loss", "simpo", "--loss", "ipo"], "simpo has no reference"),
        (["--prefix", "poet"], "the command line: --prefix: no prefix policy is called 'poet'"),
        (["--prefix", "consistent"], "--prefix: consistent needs a judge"),
        (["--beta", "-1"], "--beta: "),
        (["--learning-rate", "nan"], "--learning-rate: "),
        (["--lora-target-modules", "q_proj"], "without lora_r"),
        (["--trl", "[1]"], "--trl: not a JSON object"),
        (["--trl", '{"discopop_taw": 1}'], "did you mean discopop_tau?"),
        (["--max-length", "1"], "--max-length: "),
        (["--limit", "0"], "--limit: "),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--eval-data", "missing.jsonl"], "missing.jsonl: no such file"),
    ],
)
def test_mistakes_exit_with_2_and_say_where(
    options: list[str], said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "-o", str(tmp_path / "out"), *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("betta: 1", "unknown setting betta; did you mean beta?"),
        ("loss_type: dpo", "recipe.yaml: loss_type"),
        ("trl: 5", "recipe.yaml: trl: expected settings by name, not 5"),
        ("- beta", "not a mapping of settings"),
        ("beta: [", "recipe.yaml:1"),
    ],
)
def test_mistakes_in_a_file(
    text: str, said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(text)
    assert main([*command, "--preview", "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("left_out", "said"),
    [("--model", "no model"), ("--data", "no data"), ("-o", "no output")],
)
def test_what_must_be_given(
    left_out: str, said: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [*command, "-o", str(tmp_path / "out")]
    at = whole.index(left_out)
    assert main([*whole[:at], *whole[at + 2 :]]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--model", "./nope", "no such folder"), ("--data", "nope.jsonl", "nope.jsonl: no such file")],
)
def test_no_such_model_or_data(
    option: str, value: str, said: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command[command.index(option) + 1] = value
    assert main([*command, "--preview"]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_package_says_how_to_install_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import weft.cli.training as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "trl" else object())
    assert main([*command, "--preview"]) == 2
    assert "pip install 'weft[train]'" in capsys.readouterr().err
