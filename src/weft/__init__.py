"""Weft: LLM post-training that stays on the model's own path."""

__version__ = "0.1.0"

__all__ = ["__version__"]
