"""The level `each` of an axis file: one for every layer of the model, for every column or feature of the texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from ablate.config.flatten import leaf
from ablate.config.schema import FEATURES, Config, make_config
from ablate.design.axis import Axis
from ablate.errors import AxisError

EACH = "each"
_LOOKED_AT = 100
"""Texts that have a feature, to see whether the tokenizer sees it."""


def expanded(axis: Axis, base: Mapping[str, Any]) -> tuple[Axis, list[str]]:
    """Return the axis with `each` replaced by the levels that it means at this baseline, and notes on what was left out.

    What the baseline leaves out already stays left out: the level adds one to it.
    Raises AxisError for an axis of which nobody knows what each is, and where there would be nothing left.
    """
    if EACH not in axis.values:
        return axis, []
    key = axis.keys[0]
    if len(axis.keys) != 1 or key not in _EACH:
        raise AxisError(
            f"axis/{axis.name}.yaml: the level 'each' of {', '.join(axis.keys)} stands for nothing known",
            f"write the levels out; 'each' is for {', '.join(_EACH)}",
        )
    gone = list(leaf(base, key))
    items, notes = _EACH[key](make_config(base), gone)
    found = [[*gone, item] for item in items]
    levels = [new for level in axis.values for new in (found if level == EACH else [level])]
    return replace(axis, values=tuple(levels)), notes


def _layers(config: Config, gone: list[int]) -> tuple[list[int], list[str]]:
    from ablate.models.hub import num_layers

    count = num_layers(config.model)
    if count is None:
        raise AxisError(
            f"axis=drop_layer: the config of {config.model.name} does not say how many layers it has",
            "model.drop_layers=[0],[1] names them",
        )
    left = [number for number in range(count) if number not in gone]
    if len(left) < 2:
        raise AxisError(
            f"axis=drop_layer: {config.model.name} has one layer, and it cannot do without", "model=minilm has 6"
        )
    return left, []


def _columns(config: Config, gone: list[str]) -> tuple[list[str], list[str]]:
    left = [column for column in (config.data.text_column, *config.data.extra_text_columns) if column not in gone]
    if len(left) < 2:
        raise AxisError(
            f"axis=column: the text comes from one column, {left[0]!r}, and there is none to leave out",
            "data.extra_text_columns=[...] names further text columns of the data",
        )
    return left, []


def _features(config: Config, gone: list[str]) -> tuple[list[str], list[str]]:
    """Those that the texts have and the tokenizer sees: an uncased one lowers every text by itself."""
    from ablate.data.datasets import load_examples
    from ablate.data.text_features import changed
    from ablate.data.tokenization import encode_whole, load_tokenizer

    texts = load_examples(config.data, labelled=config.task.name != "causal_lm").text
    tokenizer = load_tokenizer(config.model)
    left, notes = [], []
    for feature in FEATURES:
        if feature in gone:
            continue
        some = list(islice(changed(texts, feature), _LOOKED_AT))
        if any(one != other for one, other in (encode_whole(tokenizer, pair) for pair in some)):
            left.append(feature)
        elif some:
            notes.append(f"{feature} is not left out: the tokenizer of {config.model.name} does not see it")
        else:
            notes.append(f"{feature} is not left out: none of the {len(texts)} texts has it")
    if not left:
        raise AxisError(f"axis=text_feature: there is nothing to leave out. {'; '.join(notes)}", "another data set")
    return left, notes


_EACH: dict[str, Callable[[Config, Any], tuple[list[Any], list[str]]]] = {
    "model.drop_layers": _layers,
    "data.drop_columns": _columns,
    "data.remove_text_features": _features,
}
"""Keys that hold a list of what is left out -> what is there to be left out at a config."""
