"""A classifier's last layer for first tokens only: the same logits and gradients, and no work for what the head never reads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from ablate.models.module_paths import layers_of
from ablate.models.unpadding import leave_unread, pad_again, unpad
from tests.models.test_unpad import LENGTHS, batch_of, build, close, compare, pad_of

READS_FIRST = ["Bert", "Roberta", "Electra", "LayoutLM"]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pair(name: str) -> tuple[Any, Any]:
    """(padded, with the last layer for first tokens only), same weights, training."""
    whole = build(name, "SequenceClassification").train()
    first = copy.deepcopy(whole)
    assert unpad(first) is None
    assert leave_unread(first) is None
    return whole, first


def texts(model: Any, lengths: list[int], side: str = "right") -> dict[str, torch.Tensor]:
    return batch_of(lengths, side=side, pad=pad_of(model), per_token=False)


@pytest.mark.parametrize("name", READS_FIRST)
@pytest.mark.parametrize("lengths", [LENGTHS, [7, 7, 7], [1, 1], [5]])
def test_logits_and_every_gradient_are_those_of_the_whole_layer(name: str, lengths: list[int]) -> None:
    whole, first = pair(name)
    compare(whole, first, texts(whole, lengths))


@pytest.mark.parametrize("lengths", [LENGTHS, [7, 7, 7]])
def test_after_attention_the_last_layer_has_a_row_for_each_text(lengths: list[int]) -> None:
    _, first = pair("Bert")
    rows: list[int] = []
    for layer in layers_of(first.base_model):
        layer.intermediate.register_forward_pre_hook(lambda _, args: rows.append(args[0].flatten(0, 1).shape[0]))
    first(**texts(first, lengths))
    assert rows == [sum(lengths), len(lengths)]


def test_evaluation_and_training_alternate() -> None:
    whole, first = pair("Bert")
    batch = texts(whole, LENGTHS)
    for mode in (False, True, False):
        close(first.train(mode)(**batch).logits, whole.train(mode)(**batch).logits)


def test_who_asks_for_hidden_states_gets_all_of_them() -> None:
    whole, first = pair("Bert")
    batch = texts(whole, LENGTHS)
    expected, found = (model(**batch, output_hidden_states=True).hidden_states for model in (whole, first))
    for left, right in zip(expected, found, strict=True):
        close(right, left)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    real = batch["attention_mask"] == 1
    base = first.base_model(**inputs).last_hidden_state  # nobody said that only first tokens will be read
    close(base[real], whole.base_model(**inputs).last_hidden_state[real])


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("DistilBert", "SequenceClassification", "needs its last layer whole"),
        ("ModernBert", "SequenceClassification", "no module called attention"),
        ("Bert", "TokenClassification", "its head reads more than first tokens"),
        ("GPT2", "SequenceClassification", "no module called attention"),
    ],
)
def test_who_reads_more_or_is_built_otherwise_keeps_the_layer_whole(name: str, head: str, words: str) -> None:
    model = build(name, head).eval()
    assert unpad(model) is None
    batch = {key: value for key, value in texts(model, LENGTHS).items() if key != "labels"}
    before = model(**batch).logits
    reason = leave_unread(model)
    assert reason is not None
    assert words in reason
    assert torch.equal(model(**batch).logits, before)


def test_only_on_top_of_unpad() -> None:
    model = build("Bert", "SequenceClassification")
    reason = leave_unread(model)
    assert reason == "BertForSequenceClassification is not an unpadded classifier."
    assert leave_unread(nn.Linear(2, 2)) == "Linear is not an unpadded classifier."


def test_a_head_that_takes_the_mean_is_found_out() -> None:
    class Mean(hf.BertForSequenceClassification):
        def forward(self, input_ids: Any, attention_mask: Any, **named: Any) -> Any:
            hidden = self.bert(input_ids, attention_mask=attention_mask, **named).last_hidden_state
            return hf.modeling_outputs.SequenceClassifierOutput(logits=self.classifier(hidden.mean(dim=1)))

    model = Mean(build("Bert", "SequenceClassification").config)
    assert unpad(model) is None
    reason = leave_unread(model)
    assert reason is not None
    assert "its head reads more than first tokens" in reason


def test_it_is_undone_with_unpad_and_draws_nothing() -> None:
    whole, first = pair("Bert")
    before = torch.get_rng_state()
    other = copy.deepcopy(whole)
    unpad(other)
    leave_unread(other)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(first.state_dict()) == list(whole.state_dict())
    pad_again(first)
    assert not first._forward_pre_hooks
    batch = texts(whole, LENGTHS)
    assert torch.equal(first(**batch).logits, whole(**batch).logits)
