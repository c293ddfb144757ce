"""Leave padding out of a transformers encoder: its layers see one row of real tokens instead of [batch, length].

    reason = unpad(model)   # None: done. Otherwise the sentence says why not, and the model is as it was

The model's code is not touched. Four things happen in a forward call, by hooks, and from its arguments alone:

    base model    makes a `Layout` of the attention mask and hands it down as the keyword `unpadded`
    each layer    tensors with one entry per position get one per token: hidden states, rotary tables, position ids
    attention     each sequence attends within itself
    last layer    tokens return to their positions, [batch, length, hidden], zeros at the padding

No state outlives the call, so that models, threads, recomputation and copies cannot disturb each other.
A call that cannot do without padding (a cache, a mask with holes, recorded hidden states) runs padded.
docs/explain/unpadding.md says what works, what falls back, and what it saves.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ablate.data.batching import Spans, with_spans
from ablate.errors import ModelError
from ablate.models.components import StandIn
from ablate.models.module_paths import evaluating, first_line, layers_of
from ablate.models.packed_attention import NAME, Layout, row_spans

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def unpad(model: nn.Module) -> str | None:
    """Make `model` leave padding out of its layers. None when it does now; otherwise why it cannot, and it is as it was.

    Compares the outputs of both ways on a made-up batch of a few tokens: an architecture that does something unexpected is
    found there, not in a training run. Draws no random number; adds no parameter, buffer or module.
    """
    found: list[Any] = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if not found:
        return f"{type(model).__name__} holds no transformers model."
    base = found[0].base_model
    inside = set(base.modules())
    if any(module not in inside and base not in set(module.modules()) for module in found):
        return f"{type(model).__name__} holds more than one transformers model."
    if hasattr(base, "_unpadding"):
        return None
    with evaluating(base):
        return _obstacle(base) or _switch(base)


def pad_again(model: nn.Module) -> None:
    """Undo `unpad`. Does nothing to a model that it was not done to."""
    for module in model.modules():
        if hasattr(module, "_unpadding"):
            _undo(module)


def prepare_masks(model: nn.Module) -> bool:
    """Hand a model that stays padded its masks in a form whose values transformers does not read: on a GPU that waits.

    A batch that is padded on the right gets the mask of four dimensions that transformers would make of it, a full one none. It
    is tried on made-up tokens, with and without causal order. Returns whether the model takes them; otherwise it is as it was.
    """
    found: list[Any] = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if not found or "attention_mask" not in _parameters(found[0].base_model):
        return False
    base = found[0].base_model
    with evaluating(base):
        try:
            batches = [{key: value[rows] for key, value in _probe(base).items()} for rows in ([0, 1, 2, 4], [0, 0])]
            expected = [_run(base, batch) for batch in batches]
            for batch in batches:
                with_spans(batch["attention_mask"], row_spans(batch["attention_mask"]))
        except Exception:  # whatever somebody else's model raises: its masks stay as they are
            return False
        for causal in (False, True):
            handle = base.register_forward_pre_hook(partial(_prepare_mask, causal), with_kwargs=True)
            with suppress(Exception):  # such a model wants two dimensions
                if all(_worst(_run(base, batch), right) <= 1.0 for batch, right in zip(batches, expected, strict=True)):
                    return True
            handle.remove()
    return False


def _prepare_mask(causal: bool, base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """On a padded base model, before it."""
    given = dict(zip(_parameters(base), args, strict=False)) | kwargs
    mask = given.get("attention_mask")
    spans: Spans | None = getattr(mask, "_spans", None)
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or not spans or any(first for first, _ in spans):
        return None
    columns = mask.shape[1]
    if not causal and all(length == columns for _, length in spans):
        return (), given | {"attention_mask": None}  # without one, causal models look for packed sequences
    seen = (mask != 0)[:, None, None, :]
    if causal:
        seen = seen & torch.ones(columns, columns, dtype=torch.bool, device=mask.device).tril()
    return (), given | {"attention_mask": seen}


# ---- hooks: functions of their arguments ------------------------------------------------------------------------------


def _enter(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """On the base model: make the layout and hand it down. Without one the call runs padded, as it was made."""
    names = _parameters(base)
    given = dict(zip(names, args, strict=False)) | kwargs
    first_only = given.pop("first_only", False)  # said by `leave_unread`
    if given.get("output_attentions") or getattr(base.config, "output_attentions", False):
        raise ModelError(
            f"output_attentions=True: {type(base).__name__} runs without padding, and so makes no attention weights",
            "call pad_again(model) and model.set_attn_implementation('eager') first",
        )
    layout = None if _must_pad(base, given) else _layout(given)
    if layout is None:
        return (), given
    layout.first_only = first_only
    # transformers hands a mask of four dimensions on as it is: no [length, length] mask is built, and no value looked at.
    given["attention_mask"] = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=layout.device)
    given["unpadded"] = layout
    if "use_cache" in names:
        given["use_cache"] = False
    return (), given


def _must_pad(base: Any, given: dict[str, Any]) -> bool:
    """Whether the call uses or makes what has the shape of the padded batch in every layer."""
    shaped = ("past_key_values", "encoder_hidden_states", "use_cache", "output_hidden_states")
    asked = any(given.get(name) is not None and given[name] is not False for name in shaped)
    return asked or bool(getattr(base.config, "output_hidden_states", False))


def _layout(given: dict[str, Any]) -> Layout | None:
    tokens = given.get("inputs_embeds") if given.get("input_ids") is None else given["input_ids"]
    if not isinstance(tokens, torch.Tensor) or tokens.dim() < 2 or tokens.numel() == 0:
        return None
    rows, columns = tokens.shape[:2]
    mask = given.get("attention_mask")
    if mask is None:
        return Layout([(0, columns)] * rows, (rows, columns), tokens.device)
    if not isinstance(mask, torch.Tensor) or mask.shape != (rows, columns):
        return None
    told: Spans | None = None if mask.device.type == "cpu" else getattr(mask, "_spans", None)
    spans = told or row_spans(mask)
    return None if spans is None else Layout(spans, (rows, columns), tokens.device)


def _drop(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """On each layer, before it."""
    layout: Layout | None = kwargs.get("unpadded")
    if layout is None or layout.full:
        return None
    hidden = args[0] if args else kwargs["hidden_states"]
    if hidden.shape[:2] == layout.shape:  # the first layer's; a packed one has another shape, whatever its size
        hidden = layout.drop(hidden)
    rest = {name: layout.drop_all(value) for name, value in kwargs.items() if name != "hidden_states"}
    return ((hidden, *layout.drop_all(args[1:])), rest) if args else ((), rest | {"hidden_states": hidden})


def _put_back(_layer: Any, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """On the last layer, after it."""
    layout: Layout | None = kwargs.get("unpadded")
    if layout is None or (layout.full and not layout.first_only):
        return None
    return (layout.put_back(output[0]), *output[1:]) if isinstance(output, tuple) else layout.put_back(output)


def _parameters(base: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(base.forward).parameters)


# ---- on, off, and the check -------------------------------------------------------------------------------------------


def _obstacle(base: Any) -> str | None:
    """What can be seen before trying."""
    name, config = type(base).__name__, base.config
    if not base._can_set_attn_implementation():
        return f"{name} computes attention in code of its own, not through transformers' AttentionInterface."
    if getattr(config, "is_encoder_decoder", False):
        return f"{name} has an encoder and a decoder; only one stack of layers can leave padding out."
    if layers_of(base) is None:
        return f"{name} has no list of config.num_hidden_layers={getattr(config, 'num_hidden_layers', None)} layers."
    if not {"attention_mask", "kwargs"} <= set(_parameters(base)):
        return f"{name}.forward takes no attention_mask, or no further keywords."
    for setting in ("layerdrop", "chunk_size_feed_forward"):
        if getattr(config, setting, 0):
            return f"config.{setting}={getattr(config, setting)} needs the padded batch in every layer; 0 does not."
    if (getattr(config, "sliding_window", None) or 0) > 1024:
        return f"config.sliding_window={config.sliding_window} is more than the 1024 tokens that are tried beforehand."
    return None


def _switch(base: Any) -> str | None:
    """Put the hooks on, compare, and take them off again if the outputs differ."""
    name, layers = type(base).__name__, layers_of(base)
    try:
        batch = _probe(base)
        expected = _run(base, batch)
    except Exception as error:  # whatever somebody else's model raises: it stays padded
        return f"{name} cannot be tried on made-up tokens: {first_line(error)}"
    original = base.config._attn_implementation
    handles = [base.register_forward_pre_hook(_enter, with_kwargs=True)]
    handles += [layer.register_forward_pre_hook(_drop, with_kwargs=True) for layer in layers]
    handles += [layers[-1].register_forward_hook(_put_back, with_kwargs=True)]
    base._unpadding = ("sdpa" if original == NAME else original, handles)  # NAME: another model shares the config
    try:
        base.set_attn_implementation(NAME)
        worst = _worst(_run(base, batch), expected)
        problem = None if worst <= 1.0 else f"outputs without it differ by {worst:.0f} times what rounding explains."
        if not any(bool(b.any()) for b, _ in expected):  # a zeroed layer at the top
            problem = "its outputs are all zero, so that nothing can be compared."
    except Exception as error:
        problem = first_line(error)
    if problem is None:
        return None
    _undo(base)
    return f"{name} needs its padding: {problem}"


def _undo(base: Any) -> None:
    original, handles = base._unpadding
    for handle in handles:
        handle.remove()
    del base._unpadding
    base.set_attn_implementation(original)


def _probe(base: Any) -> dict[str, torch.Tensor]:
    """Rows that are full, padded on the right (two of one length), on the left, and one token; longer than a window."""
    embeddings = base.get_input_embeddings()
    columns = max(9, (getattr(base.config, "sliding_window", None) or 0) + 3)
    mask = torch.zeros(5, columns, dtype=torch.int64)
    for row, places in enumerate((slice(None), slice(columns - 2), slice(columns - 2), slice(3, None), slice(1))):
        mask[row, places] = 1
    pad = getattr(base.config, "pad_token_id", None) or 0
    ids = (torch.arange(mask.numel()).view_as(mask) * 7 + 3) % embeddings.num_embeddings
    ids[ids == pad] = (pad + 1) % embeddings.num_embeddings
    ids[mask == 0] = pad
    return {"input_ids": ids.to(embeddings.weight.device), "attention_mask": mask.to(embeddings.weight.device)}


def _run(base: Any, batch: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, float]]:
    """(hidden states of the tokens, largest relative difference allowed); on a GPU also in half precision, for its kernel."""
    mask = batch["attention_mask"] != 0
    made = []
    for half in (False, True) if mask.is_cuda else (False,):
        with torch.autocast(mask.device.type, dtype=torch.bfloat16, enabled=half):
            hidden = base(**batch)[0]
        exact = hidden.dtype in (torch.float32, torch.float64) and not half
        made.append((hidden[mask].float(), 5e-2 if not exact else 5e-3 if mask.is_cuda else 1e-4))  # TF32 on a GPU
    return made


def _worst(made: list[tuple[torch.Tensor, float]], expected: list[tuple[torch.Tensor, float]]) -> float:
    """Return the largest difference between two results of `_run`, in units of what rounding explains."""
    pairs = zip(made, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) / allowed for (a, _), (b, allowed) in pairs)


# Leave out of the last layer what the head never reads: a classifier looks at each text's first token alone.
# Every token is a key and a value for that one, so all layers but the last need all of them. In the last one,
# attention needs one query for each text, and all that follows needs one row. The result is the same: nothing
# else was ever looked at. It goes on top of `unpad`, by the same means: hooks, and keywords that travel with
# the call.


def leave_unread(model: nn.Module) -> str | None:
    """Compute the last layer for first tokens only. None when it is so now; otherwise why not, and the model is as it was.

    model: a classifier that `unpad` has been done to. Its logits are compared on made-up texts: a head that reads other tokens
    as well (a mean, a maximum) is found there. Draws no random number.
    """
    top: Any = model
    base = getattr(top, "base_model", None)
    name = type(model).__name__
    if base is None or base is top or not hasattr(base, "_unpadding"):
        return f"{name} is not an unpadded classifier."
    # The last one that computes: what stands in for a layer that was taken out passes first tokens on as they are.
    last_layer: Any = next((layer for layer in reversed(layers_of(base)) if not isinstance(layer, StandIn)), None)
    attention = getattr(last_layer, "attention", None)
    if not isinstance(attention, nn.Module):
        return f"the last layer of {name} has no module called attention."
    with evaluating(model):
        expected = _logits(top)
        handles = [
            top.register_forward_pre_hook(_say, with_kwargs=True),
            last_layer.register_forward_pre_hook(_tell, with_kwargs=True),
            attention.register_forward_hook(_keep_first, with_kwargs=True),
        ]
        try:
            found = _logits(top)
            worst = float((found - expected).abs().max() / expected.abs().max())  # nan where all are 0: nothing is seen
            problem = (
                None if worst < 1e-4 else f"its logits differ by {worst:.1g}: its head reads more than first tokens."
            )
        except Exception as error:  # a layer of another build: it stays whole
            problem = first_line(error)
    if problem is None:
        base._unpadding[1].extend(handles)  # `pad_again` takes them off as well
        return None
    for handle in handles:
        handle.remove()
    return f"{name} needs its last layer whole: {problem}"


def _say(_model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """On the classifier, before it: nobody else will see the hidden states of this call."""
    return args, kwargs | {"first_only": True}


def _tell(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """On the last layer, before it: its attention is to know."""
    return args, kwargs | {"last_layer": True} if kwargs.get("unpadded") is not None else kwargs


def _keep_first(_attention: Any, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """On the last layer's attention, after it and its residual."""
    layout: Layout | None = kwargs.get("unpadded")
    if layout is None or not layout.first_only:
        return None
    return (layout.keep_first(output[0]), *output[1:]) if isinstance(output, tuple) else layout.keep_first(output)


def _logits(model: Any) -> torch.Tensor:
    """Of made-up texts of 9, 5 and 1 tokens, [texts, classes]."""
    embeddings = model.get_input_embeddings()
    ids = (torch.arange(27).view(3, 9) * 7 + 3) % embeddings.num_embeddings
    mask = (torch.arange(9) < torch.tensor([[9], [5], [1]])).long()
    ids[mask == 0] = getattr(model.config, "pad_token_id", None) or 0
    device = embeddings.weight.device
    logits: torch.Tensor = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return logits.float()
