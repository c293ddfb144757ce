"""Build a transformers model, weights that come from no file drawn from the `init` stream; or its outline without memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ablate.config.schema import Config, ModelConfig
from ablate.data.tokenization import load_tokenizer
from ablate.errors import ModelError
from ablate.models.components import operate, planned
from ablate.models.hub import ARCHITECTURE, from_hub, load_settings, locate_model, revision
from ablate.models.module_paths import evaluating, first_line
from ablate.training.random_streams import RandomStreams


def build(kind: Any, settings: Any, config: ModelConfig, streams: RandomStreams) -> nn.Module:
    """kind: one of transformers' AutoModelFor... classes. settings: of `load_settings`. Weights are fp32, on the CPU.

    Edits are applied to the complete model, so that all other weights are unchanged.
    """
    with streams.scope("init"):
        if config.init == "random":
            model, new, report = kind.from_config(settings, dtype=torch.float32), None, None
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
                    ignore_mismatched_sizes=True,  # refused below, with the names
                ),
            )
            _check_loaded(model, report, config)
            new = {name.rpartition(".")[0] for name in report["missing_keys"]}
    assert isinstance(model, nn.Module)
    model._weights_from = _weights_from(model, report, config)  # type: ignore[assignment]
    draw = partial(streams.initialise, model, reset=lambda module: _fill(model, module))
    draw(new)
    operate(model, config, draw)
    return model


def weights_from(model: nn.Module) -> str:
    """Return in words which weights of a model that `build` made came from files, and which were drawn; '' for any other."""
    return str(getattr(model, "_weights_from", ""))


def _weights_from(model: nn.Module, report: Mapping[str, Any] | None, config: ModelConfig) -> str:
    if report is None:
        return "all drawn"
    drawn, total = sorted(report["missing_keys"]), len(model.state_dict())
    names = ", ".join(drawn[:6]) + (f" and {len(drawn) - 6} others" if len(drawn) > 6 else "")
    return f"{total - len(drawn)} of {total} tensors from {config.name}" + (f"; drawn: {names}" if drawn else "")


def _check_loaded(model: Any, report: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise ModelError where a weight of the model below its head came from no file, a pooler apart, or has another shape."""
    if report["mismatched_keys"]:
        name, stored, expected = min(report["mismatched_keys"])
        raise ModelError(
            f"model.name={config.name}: the weight {name} has the shape {list(stored)} in the file, and the model needs "
            f"{list(expected)}",
            "weights of the same shape and number of classes",
        )
    below = f"{model.base_model_prefix}."
    names = [name for name in model.state_dict() if name.startswith(below) and ".pooler." not in name]
    missing = sorted(set(names) & set(report["missing_keys"]))
    if missing:
        others = sorted(report["unexpected_keys"])
        found = f"; the file has {len(others)} others, such as {others[0]}" if others else ""
        raise ModelError(
            f"model.name={config.name}: {len(missing)} of the {len(names)} tensors of {type(model).__name__} below its head "
            f"are not in the file, such as {missing[0]}{found}",
            "save the model with its own save_pretrained, without a wrapper; model.init=random trains from random weights",
        )


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


# What a classifier's head is given of each text: its first token, or the mean or the maximum over its tokens.
#
# The head reads the first position of the last layer's output, as in BERT, RoBERTa, DistilBERT or ELECTRA. The mean or the
# maximum replaces that position: the head and its weights are unchanged.


def pool_tokens(model: nn.Module, pooling: str) -> None:
    """Make the head of `model` read that. pooling: `cls`, `mean` or `max`.

    Raises ModelError where the head does not read the first token alone: then nobody can say what to put where.
    """
    top: Any = model
    base = getattr(top, "base_model", None)
    if base is None or base is top:
        raise _unknown(model, pooling, "it has no encoder of its own below a head")
    _check_reads_first(top, base, pooling)
    if pooling == "cls":
        return
    seen = _Seen()
    base.register_forward_pre_hook(seen.look, with_kwargs=True)
    place = _before_head(base, lambda hidden: _with_first(hidden, pooled(hidden, seen.mask, pooling)))
    place._pooling = pooling


def pooled(hidden: torch.Tensor, mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Pool over tokens: hidden [texts, positions, features], mask [texts, positions], 0 for padding -> [texts, features]."""
    if mask is None:
        return hidden.mean(dim=1) if pooling == "mean" else hidden.amax(dim=1)
    real = (mask != 0)[..., None]
    if pooling == "mean":
        return hidden.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return hidden.masked_fill(~real, torch.finfo(hidden.dtype).min).amax(dim=1)


class _Seen:
    """The mask of the call that is under way: the module before the head is not given it."""

    mask: torch.Tensor | None = None

    def look(self, _base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)


def _with_first(hidden: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    return torch.cat([first.to(hidden.dtype)[:, None], hidden[:, 1:]], dim=1)


def _before_head(base: Any, change: Any) -> Any:
    """Hang `change` between the last layer and what reads it. Returns the module that it hangs on.

    A pooler is part of the base model and reads inside of it; otherwise the head reads what the base model returns.
    """
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
        return pooler

    def returned(_base: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        output["last_hidden_state"] = change(output["last_hidden_state"])
        return output

    base.register_forward_hook(returned)
    return base


def _check_reads_first(top: Any, base: Any, pooling: str) -> None:
    """Seen in the model: with everything but first tokens blanked out before the head, its logits are the same."""
    before = {id(module): set(module._forward_hooks) | set(module._forward_pre_hooks) for module in base.modules()}
    try:
        with evaluating(top):
            ids = (torch.arange(12, device=top.device).view(2, 6) * 7 + 3) % base.get_input_embeddings().num_embeddings
            call = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            whole = top(**call).logits
            _before_head(base, lambda hidden: _with_first(torch.zeros_like(hidden), hidden[:, 0]))
            blanked = top(**call).logits
    except Exception as error:  # whatever somebody else's model raises
        raise _unknown(top, pooling, first_line(error)) from error
    finally:
        for module in base.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in set(hooks) - before[id(module)]:
                    del hooks[key]
    if not torch.allclose(whole, blanked, rtol=1e-4, atol=1e-6):
        raise _unknown(top, pooling, "its head reads more than the first token of a text, or another one")


def _unknown(model: nn.Module, pooling: str, why: str) -> ModelError:
    return ModelError(
        f"model.pooling={pooling}: what {type(model).__name__} reads of a text cannot be replaced: {why}",
        "model.pooling=null",
    )
