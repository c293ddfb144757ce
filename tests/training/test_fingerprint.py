"""What a fingerprint says is read from the live objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablate import Checkpoints
from ablate.training.fingerprint import VARIABLES, environment, foreign_hooks, init_hashes, model_items, setting_items
from ablate.training.lr_schedule import Schedule
from ablate.training.precision import Precision
from tests.training.test_resume import after
from tests.training.toy import evaluation, network, run

CPU = torch.device("cpu")


def items_of(model: nn.Module, optimizer: torch.optim.Optimizer, precision: str = "fp32") -> dict[str, Any]:
    return setting_items(
        optimizer, Precision(precision, CPU), schedule=Schedule("linear", 0.1, 10), max_grad_norm=None, model=model
    )


def test_every_parameter_is_named_with_its_shape() -> None:
    model = network()
    model[0].bias.requires_grad_(False)  # type: ignore[index,operator,union-attr]
    assert model_items(model)["parameters"] == {
        "count": 418,
        "trainable": 386,
        "shapes": {"0.weight": "32x10", "0.bias": "32", "3.weight": "2x32", "3.bias": "2"},
    }


def test_a_buffer_counts_as_an_initial_weight() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
    before = init_hashes(model)
    assert set(before) == {"0", "1"}
    model[1].running_mean += 1  # type: ignore[operator]
    after_ = init_hashes(model)
    assert (before["0"] == after_["0"], before["1"] == after_["1"]) == (True, False)


def test_dropout_is_found_in_modules_and_in_attributes() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Dropout(0.3)
            self.attention_dropout, self.dropout_prob, self.layerdrop, self.drop_path = 0.1, 0.2, 0.4, "none"
            self.dropout = True

    model = nn.Sequential(Attention(), nn.MultiheadAttention(4, 2, dropout=0.5))
    assert model_items(model)["dropout"] == {
        "0.attention_dropout": 0.1,
        "0.dropout_prob": 0.2,
        "0.layerdrop": 0.4,
        "0.inner": 0.3,
        "1.dropout": 0.5,
    }


def test_a_group_says_which_parameters_it_holds() -> None:
    model = network()
    weights = dict(model.named_parameters())
    groups = [{"params": [weights["0.weight"]]}, {"params": [weights["3.weight"]], "lr": 0.5}]
    swapped = [{"params": [weights["3.weight"]]}, {"params": [weights["0.weight"]], "lr": 0.5}]
    one, other = (items_of(model, torch.optim.SGD(held, lr=0.1))["optimizer"] for held in (groups, swapped))
    assert one["group 1"]["lr"] == other["group 1"]["lr"] == 0.5
    assert one["group 1"]["params"] == other["group 1"]["params"] == 1
    assert one["group 0"]["names"] == other["group 1"]["names"] != one["group 1"]["names"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_the_precision_is_that_of_a_product_and_of_the_weights(precision: str, dtype: str) -> None:
    model = network()
    found = items_of(model, torch.optim.SGD(model.parameters()), precision)["precision"]
    assert (found["matmul"], found["weights"]) == (dtype, "float32")
    model[0].double()  # type: ignore[index,operator]
    found = items_of(model, torch.optim.SGD(model.parameters()), precision)["precision"]
    assert found["weights"] == "float32, float64"


def _hook(*_: Any) -> None: ...


@pytest.mark.parametrize(
    ("hang", "expected"),
    [
        (lambda model, _: model[0].register_forward_hook(_hook), {"0": "after forward"}),
        (lambda model, _: model[0].register_forward_pre_hook(partial(_hook)), {"0": "before forward"}),
        (lambda model, _: model.register_full_backward_hook(_hook), {"model": "gradient"}),
        (lambda model, _: model[3].bias.register_hook(_hook), {"3.bias": "gradient"}),
        (
            lambda model, _: model[3].bias.register_post_accumulate_grad_hook(_hook),
            {"3.bias": "after accumulation"},
        ),
        (lambda _, optimizer: optimizer.register_step_pre_hook(_hook), {"optimizer": "before step"}),
        (lambda *_: nn.modules.module.register_module_forward_hook(_hook), {"every module": "after forward"}),
        (lambda *_: None, {}),
    ],
)
def test_a_hook_of_somebody_else_is_named(hang: Callable[..., Any], expected: dict[str, str]) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    handle = hang(model, optimizer)
    found = foreign_hooks(model, optimizer)
    if handle is not None:
        handle.remove()
    assert found == expected
    assert foreign_hooks(model, optimizer) == {}


def test_the_environment_names_versions_and_the_variables_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    plain = environment(CPU)
    assert {"torch", "numpy", "transformers", "tokenizers", "python", "device", "num_threads"} <= plain.keys()
    assert not set(VARIABLES) & plain.keys()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert environment(CPU) == plain | {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}


def test_what_was_spent_and_the_rates_that_were_set_survive_an_interruption(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "budget": "20 steps", "schedule": "linear", "warmup": 0.1, "precision": "fp32",
        "num_tokens": lambda batch: len(batch[0]), "evaluation": evaluation("80 samples"),
    }  # fmt: skip
    _, whole = run(**settings)
    for polls in (9, 10**6):
        _, cut = run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(polls), **settings)
    assert len(cut.outcome.sessions) == 2
    assert cut.fingerprint.items == whole.fingerprint.items
    items = whole.fingerprint.items
    assert items["tokens_seen"] == 160
    assert items["flops"] == 160 * 6 * 418
    assert items["first_step"] == {name: whole.trace[name][0] for name in ("loss", "grad_norm")}
    assert items["rates"] == {str(step): whole.trace["learning_rate"][step - 1] for step in (1, 5, 10, 15, 20)}
