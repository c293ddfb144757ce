"""Leave out of the last layer what the head never reads: a classifier looks at each text's first token alone.

Every token is a key and a value for that one, so all layers but the last need all of them. In the last one, attention needs
one query for each text, and all that follows needs one row. The result is the same: nothing else was ever looked at.
It goes on top of `unpad`, by the same means: hooks, and keywords that travel with the call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ablate.tasks.packed_attention import Layout
from ablate.tasks.stand_ins import StandIn
from ablate.tasks.unpad import evaluating, first_line, layers_of


def leave_unread(model: nn.Module) -> str | None:
    """Compute the last layer for first tokens only. None when it is so now; otherwise why not, and the model is as it was.

    model: a classifier that `unpad` has been done to. Its logits are compared on made-up texts: a head that reads other tokens
    as well (a mean, a maximum) is found there. Draws no random number.
    """
    top: Any = model
    base = getattr(top, "base_model", None)
    name = type(model).__name__
    if base is None or base is top or not hasattr(base, "_unpadding"):
        return f"{name} is no classifier whose padding is left out."
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
