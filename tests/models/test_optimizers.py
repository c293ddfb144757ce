"""Each optimizer is torch's, and the one that is two goes on from a checkpoint as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablate import Checkpoints, RandomStreams, train
from ablate.config.schema import OPTIMIZERS, OptimConfig
from ablate.errors import ConfigError
from ablate.models.optimizers import make_optimizer
from ablate.training.fingerprint import weights_hash
from tests.training.test_resume import after

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
EXAMPLES = [(row, int(row.sum() > 0)) for row in X]


def net(seed: int = 0) -> nn.Module:
    with RandomStreams(seed=seed).scope("init"):
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))


def loss_fn(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


def run(name: str, folder: Path | None = None, stop: Any = lambda: None) -> str:
    model = net()
    optimizer = make_optimizer(OptimConfig(name=name, lr=0.01, weight_decay=0.1), model)
    checkpoints = None if folder is None else Checkpoints()
    train(model, EXAMPLES, loss_fn, optimizer=optimizer, budget=20, lr_schedule="linear", run_dir=folder,
          should_stop=stop, checkpoint=checkpoints)  # fmt: skip
    return weights_hash(model.named_parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    whole = run(name)
    run(name, tmp_path, after(7))
    assert run(name, tmp_path) == whole


def stepped(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 3) -> None:
    drawn = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=drawn)
        optimizer.step()


PLAIN = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, eps=1e-6, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, eps=1e-6, weight_decay=0.1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_matrix_is_stepped_as_torchs_own_steps_it_and_a_vector_is_not_decayed(name: str) -> None:
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optim = OptimConfig(name=name, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1)
    stepped(make_optimizer(optim, ours), [ours.weight, ours.bias])
    other = PLAIN[name]([{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}])
    stepped(other, [theirs.weight, theirs.bias])
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_muon_takes_the_matrices_of_layers_and_adamw_all_else() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.Embedding(9, 8)
            self.layer = nn.ModuleList([nn.Linear(8, 8), nn.LayerNorm(8)])
            self.classifier = nn.Linear(8, 2)

    model = Model()
    optimizer = make_optimizer(OptimConfig(name="muon", lr=0.01, weight_decay=0.1), model)
    muon, decayed, plain = optimizer.param_groups
    assert [id(p) for p in muon["params"]] == [id(model.layer[0].weight)]
    assert {id(p) for p in decayed["params"]} == {id(model.embeddings.weight), id(model.classifier.weight)}
    assert (decayed["weight_decay"], plain["weight_decay"], muon["momentum"]) == (0.1, 0.0, 0.95)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # as a schedule sets it: both must see it
    before = weights_hash(model.named_parameters())
    stepped(optimizer, list(model.parameters()))
    assert weights_hash(model.named_parameters()) == before


def test_muon_without_a_matrix_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="this model trains none"):
        make_optimizer(OptimConfig(name="muon"), nn.Linear(2, 2))


def test_an_optimizer_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.name='lion' is not one of adamw, sgd, rmsprop, adagrad, muon"):
        OptimConfig(name="lion")
