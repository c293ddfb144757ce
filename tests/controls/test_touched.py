"""An axis that accepts `components` may move the weights of those alone."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.controls.fingerprint_match import match
from ablate.design.axis import Axis
from ablate.records.metadata import Fingerprint

INIT = {"layer.0.dense": "a", "layer.1.dense": "b", "layer.10.dense": "c", "head": "d"}
AXIS = Axis(
    name="drop_layer", question="?", kind="model", keys=("model.drop_layers",), values=([1],),
    may_change=("components", "init", "dropout", "parameters"),
)  # fmt: skip


def verdict(components: dict[str, str], init: dict[str, str], dropout: dict[str, float]) -> Any:
    left = Fingerprint(items={"components": {}, "init": INIT, "dropout": {"layer.1.drop": 0.1, "config.drop": 0.1}})
    right = Fingerprint(items={"components": components, "init": init, "dropout": dropout})
    return match("arm", AXIS, baseline={0: left}, fingerprints={0: right})


def less(*names: str, **moved: str) -> dict[str, str]:
    return {name: moved.get(name.replace(".", "_"), value) for name, value in INIT.items() if name not in names}


def test_what_lies_in_a_removed_layer_may_be_gone() -> None:
    found = verdict({"layer.1": "removed"}, less("layer.1.dense"), {"config.drop": 0.1})
    assert found.status == "checked", found.sentence


@pytest.mark.parametrize(
    ("components", "init", "dropout", "named"),
    [
        ({"layer.1": "removed"}, less("layer.1.dense", head="z"), {"config.drop": 0.1}, "init.head (d -> z)"),
        # Layer 10 is not inside layer 1.
        ({"layer.1": "removed"}, less("layer.1.dense", layer_10_dense="z"), {"config.drop": 0.1}, "init.layer.10.dense"),
        ({"layer.1": "removed"}, less("layer.1.dense"), {"config.drop": 0.3}, "dropout.config.drop"),
        # Freezing moves no weight.
        ({"layer.1": "frozen"}, less(layer_1_dense="z"), {"layer.1.drop": 0.1, "config.drop": 0.1}, "init.layer.1.dense"),
        ({}, less(head="z"), {"layer.1.drop": 0.1, "config.drop": 0.1}, "init.head"),
    ],
)  # fmt: skip
def test_what_lies_elsewhere_may_not_differ(
    components: dict[str, str], init: dict[str, str], dropout: dict[str, float], named: str
) -> None:
    found = verdict(components, init, dropout)
    assert found.status == "failed"
    assert named in found.sentence
    assert "it belongs to no module that was removed or drawn again" in found.sentence
