"""A config's model as names and shapes alone: what can be said of it before it is loaded, without any memory for weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ablate.config import Config
from ablate.loop.streams import Streams
from ablate.tasks.components import operate
from ablate.tasks.facts import ARCHITECTURE
from ablate.tasks.settings import load_settings
from ablate.tasks.tokenizer import load_tokenizer

_made: dict[str, nn.Module] = {}
"""A plan asks for every arm's, and more than once."""


def outline(config: Config, *, num_classes: int) -> nn.Module:
    """The model that a run builds, its components changed.

    Raises ModelError for a model that cannot be had, for a component that it does not have, and for one that cannot be changed
    so; the last only where the model's code runs on shapes alone, otherwise the run finds it.
    """
    key = repr((config.task, config.model, num_classes))
    if key not in _made:
        _made[key] = _make(config, num_classes)
    return _made[key]


def _make(config: Config, num_classes: int) -> nn.Module:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    classifies = config.task.name == "text_classification"
    tokenizer = load_tokenizer(config.model) if config.model.name.startswith(ARCHITECTURE) else None
    settings = load_settings(config.model, tokenizer, **({"num_labels": num_classes} if classifies else {}))
    kind: Any = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    with Streams().scope("init"), torch.device("meta"):
        model = kind.from_config(settings, dtype=torch.float32)
    assert isinstance(model, nn.Module)
    operate(model, config.model)
    return model
