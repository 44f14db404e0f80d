"""The package as a whole: what importing it costs, what it exports, and that its recipes are valid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import weft
import weft.chat
import weft.prompts
import weft.store
import weft.synthesis
from weft.cli.settings import read_settings
from weft.errors import EngineError, RunError, TextError, UserError, WeftError

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize(
    "code",
    [
        "import weft",
        "import weft.synthesis, weft.prompts, weft.store, weft.chat, weft.micro, weft.engines.scripted",
        "from weft.cli.main import main; assert main(['--help']) == 0",
        "from weft.cli.main import main; assert main(['synth', '--help']) == 0",
        "from weft.cli.main import main; assert main(['align', '--help']) == 0",
        "import weft.preference",
    ],
)
def test_neither_torch_nor_transformers_is_loaded_before_a_model_is(code: str) -> None:
    heavy = "import sys; assert not {'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}\n{heavy}"], check=True, capture_output=True)


def test_records_import_nothing_of_ours() -> None:
    code = "import sys, weft.records; print(sorted(m for m in sys.modules if m.startswith('weft')))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['weft', 'weft.records']"


def test_what_is_exported() -> None:
    assert weft.__all__ == ["__version__"]
    assert weft.synthesis.__all__ == ["SynthesisSettings", "synthesize"]
    assert weft.prompts.__all__ == ["PromptSource", "open_prompts", "sample_id"]
    for module in (weft.synthesis, weft.prompts, weft.store, weft.chat):
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(recipe: Path) -> None:
    assert read_settings(recipe, {}).student.name


def test_the_papers_recipe_has_the_papers_values() -> None:
    settings = read_settings(ROOT / "recipes" / "tessy-paper.yaml", {})
    sampling = settings.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.8, 20)
    assert (settings.step, settings.limits.thinking) == (20, 38_000)


def test_the_exception_tree() -> None:
    assert issubclass(EngineError, RunError)
    assert issubclass(TextError, RunError)
    assert issubclass(RunError, WeftError)
    assert issubclass(UserError, WeftError)
    assert (UserError.exit_code, RunError.exit_code) == (2, 1)
    error = UserError("a thing is wrong", where="file:3", expected="another thing", remedy="change it")
    assert str(error).splitlines() == [
        "file:3: a thing is wrong",
        "  expected: another thing",
        "  remedy:   change it",
    ]
