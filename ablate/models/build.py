"""Building a transformers model so that every weight that comes from no file is drawn from the `init` stream."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from ablate.config.schema import ModelConfig
from ablate.models.components import operate
from ablate.models.hf_config import from_hub, revision
from ablate.models.hub import locate_model
from ablate.training.random_streams import Streams


def build(kind: Any, settings: Any, config: ModelConfig, streams: Streams) -> nn.Module:
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
