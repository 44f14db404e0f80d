"""The package as a whole: what importing it costs, and what it exports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import weft
import weft.chat
import weft.prompts
import weft.store
import weft.synthesis
from weft.errors import EngineError, RunError, TextError, UserError, WeftError


@pytest.mark.parametrize(
    "code",
    [
        "import weft",
        "import weft.synthesis, weft.prompts, weft.store, weft.chat, weft.micro, weft.engines.scripted",
        "from weft.cli.main import main; assert main(['--help']) == 0",
        "from weft.cli.main import main; assert main(['synth', '--help']) == 0",
        "from weft.cli.main import main; assert main(['align', '--help']) == 0",
        "import weft.preference",
        "from weft.cli.main import main; assert main(['run', '--help']) == 0",
        "from weft.cli.main import main; assert main(['init']) == 0",
        "from weft.recipes.plan import read_plan; from weft.recipes.templates import template; "
        "read_plan(template('micro'))",
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
