"""Tiny token classifiers in folders, as `weft boundary train` and the authors publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from weft.boundary.classifier.facts import Facts
from weft.engines.language import no_bars_of_weights
from weft.micro import model_path


def save_classifier(
    folder: Path,
    *,
    window: int | None = None,
    labels: dict[int, str] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A classifier of random weights with the micro world's tokenizer.

    Args:
        window: written to its facts; left out: there are none, as in folders of others.
        labels: names of its labels; left out: transformers' own, ``LABEL_0`` and ``LABEL_1``.
        config: over the micro student's.
    """
    torch.manual_seed(seed)
    said = AutoConfig.from_pretrained(model_path("student"), **config)
    if labels is not None:
        said.id2label, said.label2id = labels, {name: number for number, name in labels.items()}
    model = AutoModelForTokenClassification.from_config(said, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # so that labels depend on what stands far before
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    with no_bars_of_weights():
        model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path("student")).save_pretrained(folder)
    if window is not None:
        Facts(window=window).write(folder)
    return folder
