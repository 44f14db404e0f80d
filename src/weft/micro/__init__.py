"""The micro world: two small real models, their tokenizer and tasks with checkable answers.

Weft's default models, its test bed and its laboratory. A teacher that is right and terse, a student that is
chatty and cannot multiply. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from weft.micro.world import MicroPrompt, is_correct, make_prompts

__all__ = ["MicroPrompt", "boundary_path", "is_correct", "make_prompts", "model_path"]


def model_path(name: Literal["student", "teacher"]) -> Path:
    """The folder of a shipped model, ready for `AutoModelForCausalLM.from_pretrained`."""
    folder = Path(__file__).parent / "models" / name
    if not folder.is_dir():
        raise ValueError(f"no model is called {name!r}; there are 'student' and 'teacher'")
    return folder


def boundary_path(name: Literal["student", "teacher"]) -> Path:
    """The folder of a shipped boundary predictor, ready for `AutoModelForTokenClassification`."""
    return model_path(name).with_name(f"{name}-boundary")
