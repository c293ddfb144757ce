"""`eval.*`, `record.*` and `tracker.*`: what is measured during a run, and where its curves are sent."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.config.fields import check_choice, check_fields, choice, number
from ablate.errors import ConfigError
from ablate.units import parse_interval

TRACKERS = ("wandb", "tensorboard", "mlflow")


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


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    name: str = "none"
    """`none`, `wandb`, `tensorboard` or `mlflow`; several as `wandb+tensorboard`."""
    mode: str = choice("auto", "auto", "online", "offline", "off")
    """`auto` (W&B online when logged in, otherwise off with a notice), `online`, `offline` (nothing leaves the machine) or
    `off`."""
    project: str = "ablate"
    """W&B project, MLflow experiment."""
    entity: str | None = None
    """W&B user or team; None takes the one that is logged in."""
    uri: str | None = None
    """MLflow server; None takes MLFLOW_TRACKING_URI, and without that files in `mlruns` under `study.output_dir`."""
    log_every: str = "1 steps"
    """Interval between the rows that a tracker is sent; the local trace keeps every step regardless."""
    x_axis: str = choice("samples", "samples", "step", "tokens", "epoch", "seconds")
    """Default x-axis of charts: `samples`, `step`, `tokens`, at W&B also `epoch` or `seconds` of training."""

    def __post_init__(self) -> None:
        for name in self.name.split("+"):
            check_choice("tracker.name", name, ("none", *TRACKERS))
        if "+" in self.name and ("none" in self.names or len(set(self.names)) < len(self.names)):
            several = "+".join(dict.fromkeys(name for name in self.names if name != "none")) or "none"
            raise ConfigError(
                f"tracker.name={self.name!r}: each tracker once, and none by itself", f"tracker.name={several}"
            )
        parse_interval(self.log_every, key="tracker.log_every")
        check_fields(self, "tracker")
        if self.x_axis in ("epoch", "seconds") and (whole := [n for n in self.names if n in ("tensorboard", "mlflow")]):
            raise ConfigError(
                f"tracker.x_axis={self.x_axis} with tracker.name={self.name}: {whole[0]} has whole numbers there; "
                "its relative time is the seconds of training",
                "tracker.x_axis=samples",
            )
        if self.uri and "@" in self.uri.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "tracker.uri holds a user and a password, and a config is written down and sent",
                "tracker.uri=https://HOST with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Trackers that are used; empty for none."""
        return () if self.name == "none" else tuple(self.name.split("+"))
