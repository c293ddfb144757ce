"""`optim.*`: the optimizer and its learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.config.fields import check_fields, choice, number
from ablate.errors import ConfigError

OPTIMIZERS = ("adamw", "sgd", "rmsprop", "adagrad", "muon")
SCHEDULES = ("linear", "cosine", "constant", "wsd", "multistep")


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    name: str = choice("adamw", *OPTIMIZERS)
    """`adamw`; `sgd` with momentum `beta1`; `rmsprop`; `adagrad`; or `muon` for the matrices of the layers, with AdamW at the
    same rate for the rest. Each optimizer needs its own rate: change it together with `lr`."""
    lr: float = number(5e-5, above=0)
    """Peak learning rate."""
    weight_decay: float = number(0.01, at_least=0)
    """Biases and normalisation weights are exempt. Decoupled under `adamw` and `muon`; `sgd`, `rmsprop` and `adagrad` add it to
    the gradient instead."""
    beta1: float = number(0.9, at_least=0, below=1)
    """Decay of the running mean of the gradient in AdamW, and the momentum of `sgd`; `muon` uses 0.95 for the matrices."""
    beta2: float = number(0.999, at_least=0, below=1)
    """Decay of the running mean of the squared gradient, in AdamW and `rmsprop`."""
    eps: float = number(1e-8, above=0)
    """Added to the denominator of the update of AdamW, `rmsprop` and `adagrad`."""
    lr_schedule: str = choice("linear", *SCHEDULES)
    """`linear` or `cosine` (both to `min_lr_ratio` of the peak at the end of the budget), `constant`, `wsd` (constant, and
    linear to 0 over the last fifth) or `multistep` (a tenth from half of the budget on, a hundredth from three quarters on)."""
    warmup_ratio: float = number(0.0, at_least=0, at_most=1)
    """Fraction of the budget over which the rate rises linearly from 0."""
    min_lr_ratio: float = number(0.0, at_least=0, at_most=1)
    """Final learning rate of `linear` and `cosine`, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check_fields(self, "optim")
        if self.min_lr_ratio and self.lr_schedule not in ("linear", "cosine"):
            raise ConfigError(
                f"expected optim.min_lr_ratio=0 with optim.lr_schedule={self.lr_schedule}, got {self.min_lr_ratio:g}: only "
                "linear and cosine decay to it",
                "optim.min_lr_ratio=0, or optim.lr_schedule=cosine",
            )
