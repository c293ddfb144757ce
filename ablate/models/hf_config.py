"""Config of a transformers model: from a hub, a directory or an architecture, with overrides and dropout applied."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ablate.config.schema import Config, ModelConfig
from ablate.errors import DataError, ModelError
from ablate.models.hub import ARCHITECTURE, locate_model

if TYPE_CHECKING:
    from ablate.data.tokenization import Tokens


CAUSAL_FIX = "model=gpt2_tiny, or the name of a causal model: model.name=openai-community/gpt2"


def load_settings(config: ModelConfig, tokenizer: Any, **settings: Any) -> Any:
    """The transformers config object. settings: further attributes to set before shape and dropout.

    An architecture's default (`config:gpt2`) takes vocabulary and special tokens from the tokenizer.
    Raises ModelError for a model that cannot be loaded and for an unknown name in `model.config_overrides`.
    """
    from transformers import AutoConfig

    place = locate_model(config)
    if place.startswith(ARCHITECTURE):
        found = _of_architecture(place.removeprefix(ARCHITECTURE), config, tokenizer)
    else:
        found = from_hub(
            config.name, lambda: AutoConfig.from_pretrained(place, revision=revision(config), trust_remote_code=False)
        )
    for name, value in settings.items():
        setattr(found, name, value)
    _check_shape(found, config)
    for name, value in config.config_overrides.items():
        setattr(found, name, value)
    if config.dropout is not None:
        _set_dropout(found, config.dropout, config.name)
    return found


def check_fits(settings: Any, tokens: Tokens, config: Config) -> None:
    """Raise if the texts contain tokens, or may have positions, without an embedding in the model."""
    text = settings.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < config.data.max_length:
        raise DataError(
            f"data.max_length={config.data.max_length} is longer than the {positions} positions of {config.model.name}",
            f"data.max_length={positions}",
        )
    highest = int(tokens.values.max(initial=0))
    if highest >= getattr(text, "vocab_size", math.inf):
        raise ModelError(
            f"the tokenizer {config.model.tokenizer or config.model.name} gives token number {highest}, "
            f"and {config.model.name} embeds {text.vocab_size} of them",
            "leave model.config_overrides.vocab_size out"
            if "vocab_size" in config.model.config_overrides
            else "model.tokenizer=null takes the model's own",
        )


def check_causal(settings: Any, config: ModelConfig) -> None:
    """Raise ModelError for a model that, by its config, does not predict the next token from those before it."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = settings.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"model.name={config.name}: a {kind} model has no causal language modelling head, which task=causal_lm needs",
            CAUSAL_FIX,
        )
    decodes = getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False)
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decodes:
        raise not_causal(config.name, kind)


def not_causal(name: str, kind: str) -> ModelError:
    """kind: of the model, in words."""
    return ModelError(
        f"model.name={name} is an encoder ({kind}): each of its tokens sees those after it, and task=causal_lm is to "
        "predict them",
        CAUSAL_FIX,
    )


def from_hub(name: str, load: Callable[[], Any], *, key: str = "model.name") -> Any:
    """What `load` gives. Raises ModelError, with the first line of the reason, where the files cannot be had or read."""
    try:
        return load()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{key}={name} cannot be loaded: {str(error).strip().splitlines()[0]}",
            f"check the name and the network, or give a local directory: {key}=/path/to/model",
        ) from error


def revision(config: ModelConfig) -> str:
    """Of the hub model."""
    return config.revision or "main"


def _of_architecture(name: str, config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoConfig

    _check_shape(AutoConfig.for_model(name), config)
    # Given at once, because a config computes some of its values (a head's width) from others. The default's special
    # tokens are numbers of another vocabulary: all of them are replaced, those that the tokenizer lacks by None.
    end = _first(tokenizer.eos_token_id, tokenizer.sep_token_id)
    of_tokenizer = {
        "vocab_size": len(tokenizer),
        "bos_token_id": _first(tokenizer.bos_token_id, tokenizer.cls_token_id),
        "eos_token_id": end,
        "pad_token_id": _first(tokenizer.pad_token_id, end),
    }
    return AutoConfig.for_model(name, **(of_tokenizer | config.config_overrides))


def _first(*ids: int | None) -> int | None:
    return next((one for one in ids if one is not None), None)


def _check_shape(settings: Any, config: ModelConfig) -> None:
    for name in config.config_overrides:
        if not hasattr(settings, name):
            raise ModelError(
                f"model.config_overrides.{name}: the config of {config.name} has no {name!r}", "see its config.json"
            )


def _set_dropout(settings: Any, probability: float, model: str) -> None:
    """On every dropout that the config names. Raises ModelError where it names none."""
    names = [name for name in settings.to_dict() if re.search(r"drop(out)?(_p|_prob|_rate)?$", name)]
    if not names:
        raise ModelError(f"model.dropout={probability:g}: the config of {model} has no dropout", "model.dropout=null")
    for name in names:
        setattr(settings, name, probability)
