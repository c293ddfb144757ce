"""`eval.*` and `record.*`: what is measured during a run."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.config.fields import check_fields, choice, number
from ablate.units import parse_interval


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    every: str = "64 samples"
    """Interval between evaluations when they are spaced evenly."""
    spacing: str = choice("even", "even", "log")
    """`even`, or `log`: dense early, sparse later, `num_evaluations` of them."""
    num_evaluations: int = number(20, at_least=1)
    """Number of evaluations when they are log-spaced, including the final one, excluding the one before training."""
    max_examples: int | None = number(None, at_least=1)
    """Evaluate on this many of the held-out examples (a fixed, nested subset; under `causal_lm` at most this many pieces); None
    uses all. The standard error of each evaluation follows from `sum_squares` in evals.arrow."""
    batch_size: int = number(64, at_least=1)
    """Samples per forward pass of an evaluation; the result does not depend on it."""
    save_predictions: bool = True
    """Save the per-example results of the final evaluation in predictions.arrow, 40 bytes each. Without them a verdict is about
    this evaluation set alone, and they cannot be added later."""

    def __post_init__(self) -> None:
        parse_interval(self.every, key="eval.every")
        check_fields(self, "eval")


@dataclass(kw_only=True, slots=True)
class RecordConfig:
    grad_norm_groups: str = choice("layer", "layer", "param_type", "none")
    """Gradient norms per group: `layer` (embeddings, each layer, head), `param_type` (weights, biases, norms) or `none`."""
    flush_every: int = number(64, at_least=1)
    """Steps that are kept on the device before they are copied and written."""
    update_ratio: bool = False
    """Record how far each step moves the weights of each group, relative to their size: a copy of the weights, three passes."""
    grad_noise_scale: bool = False
    """Record the norm of the first forward pass's gradient as well, from which the gradient noise scale is estimated; needs
    `train.grad_accum_steps` of 2 or more."""
    device_peak_flops: float | None = number(None, above=0)
    """Peak of the device in FLOP/s, for the model FLOPs utilisation; None takes the data sheet's where it is known."""

    def __post_init__(self) -> None:
        check_fields(self, "record")
