"""Build a transformers model, weights that come from no file drawn from the `init` stream; or its outline without memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ablate.config.schema import Config, ModelConfig
from ablate.data.tokenization import load_tokenizer
from ablate.models.components import operate, planned
from ablate.models.hub import ARCHITECTURE, from_hub, load_settings, locate_model, revision
from ablate.training.random_streams import RandomStreams


def build(kind: Any, settings: Any, config: ModelConfig, streams: RandomStreams) -> nn.Module:
    """kind: one of transformers' AutoModelFor... classes. settings: of `load_settings`. Weights are fp32, on the CPU.

    Edits are applied to the complete model, so that all other weights are unchanged.
    """
    with streams.scope("init"):
        if config.init == "random":
            model, new = kind.from_config(settings, dtype=torch.float32), None
        else:
            place = locate_model(config)
            model, report = from_hub(
                config.name,
                lambda: kind.from_pretrained(
                    place,
                    config=settings,
                    revision=revision(config),
                    output_loading_info=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                ),
            )
            new = {name.rpartition(".")[0] for name in report["missing_keys"]}
    assert isinstance(model, nn.Module)
    draw = partial(streams.initialise, model, reset=lambda module: _fill(model, module))
    draw(new)
    operate(model, config, draw)
    return model


def _fill(model: Any, module: nn.Module) -> None:
    """Draw one module's own weights as its architecture prescribes."""
    for parameter in module.parameters(recurse=False):
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
    with torch.no_grad():
        model._init_weights(module)


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
    with RandomStreams().scope("init"), torch.device("meta"):
        model = kind.from_config(settings, dtype=torch.float32)
    assert isinstance(model, nn.Module)
    operate(model, config.model)
    return model


def parameter_counts(config: Config, *, num_classes: int) -> dict[str, int] | None:
    """`count` and `trainable` as `model.*` leaves them; None for a task of one's own, whose model only the run knows.

    Raises ModelError for a model that cannot be had, and for a component that it does not have.
    """
    if config.task.name == "custom":
        return None
    model = outline(config, num_classes=num_classes)
    weights = list(model.parameters())
    return {
        "count": sum(weight.numel() for weight in weights),
        "trainable": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def modules_changed(config: Config, *, num_classes: int) -> frozenset[tuple[str, str]] | None:
    """Return (action, path) of every module that `model.*` edits; None for a custom task.

    Raises ModelError for a module that the model does not have.
    """
    if config.task.name == "custom":
        return None
    whole = replace(config.model, module_edits=[], drop_layers=[], freeze=[], reinit_top_layers=0)
    model = outline(replace(config, model=whole), num_classes=num_classes)
    return frozenset((change.action, path) for change in planned(model, config.model) for path in change.paths)
