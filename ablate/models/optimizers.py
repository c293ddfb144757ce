"""The optimizer that a config asks for, with biases and normalisation weights exempt from decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ablate.config.schema import OptimConfig
from ablate.errors import ConfigError
from ablate.training.grad_norms import by_depth

Groups = list[dict[str, Any]]


def make_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Of the parameters that are trained; fused where there is such a kernel."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if config.name == "muon":
        return _muon(config, trainable)
    return _MAKERS[config.name](_decayed_and_not(list(trainable.values()), config), config)


def _decayed_and_not(parameters: list[nn.Parameter], config: OptimConfig) -> Groups:
    decayed = [p for p in parameters if p.dim() > 1]
    plain = [p for p in parameters if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _adamw(groups: Groups, config: OptimConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


_MAKERS: dict[str, Callable[[Groups, OptimConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": lambda groups, config: torch.optim.SGD(groups, lr=config.lr, momentum=config.beta1, fused=True),
    "rmsprop": lambda groups, config: torch.optim.RMSprop(groups, lr=config.lr, alpha=config.beta2, eps=config.eps),
    "adagrad": lambda groups, config: torch.optim.Adagrad(groups, lr=config.lr, eps=config.eps),
}


def _muon(config: OptimConfig, trainable: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Return Muon for the matrices of the layers, with AdamW for embeddings, head and vectors."""
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"optim.name=muon needs torch 2.9 or later, and this is {torch.__version__}", "optim.name=adamw"
        )
    hidden = [p for name, p in trainable.items() if p.dim() == 2 and by_depth(name).rpartition(".")[2].isdigit()]
    if not hidden:
        raise ConfigError(
            "optim.name=muon is for the matrices of a model's layers, and this model trains none", "optim.name=adamw"
        )
    rest = _decayed_and_not([p for p in trainable.values() if all(p is not one for one in hidden)], config)
    return MuonAndAdamW(hidden, rest, config)


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers with one list of groups and one state, so that schedule and checkpoint see a single one.

    Muon's steps are scaled to the size of AdamW's, which is what lets both have the same rate and the same decay.
    """

    def __init__(self, hidden: list[nn.Parameter], rest: Groups, config: OptimConfig) -> None:
        muon = torch.optim.Muon(hidden, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, _adamw(rest, config))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._join()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Both."""
        assert closure is None
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of a checkpoint; torch makes new groups and a new state of it."""
        super().load_state_dict(state_dict)
        self._join()

    def _join(self) -> None:
        first, second = self._parts
        count = len(first.param_groups)
        first.param_groups, second.param_groups = self.param_groups[:count], self.param_groups[count:]
        first.state = second.state = self.state
