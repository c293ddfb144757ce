"""Columns of the frames: name, dtype, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame. dtype: as pandas names it. unit: '' without one."""

    name: str
    dtype: str
    unit: str
    meaning: str


_ARM = Column("arm", "category", "", "in plan order, the baseline first")


_SEED = Column("seed", "int64", "", "the run's seed")


RUNS = (
    _ARM,
    _SEED,
    Column("axis", "object", "", "the axis; None for the baseline"),
    Column("level", "object", "", "the axis's value in this arm, as its config has it; None for the baseline"),
    Column("status", "category", "", "finished, diverged, failed, interrupted, running, missing or unreadable"),
    Column("sentence", "str", "", "status in words"),
    Column("steps", "Int64", "optimizer steps", "taken; missing before the run has ended"),
    Column("train_seconds", "float64", "s", "of training alone, evaluation excluded"),
    Column("eval_seconds", "float64", "s", "of evaluation"),
    Column("train_samples_per_second", "float64", "samples/s", "while training"),
    Column("train_tokens_per_second", "float64", "tokens/s", "while training, padding excluded"),
    Column("peak_memory_bytes", "float64", "bytes", "at most in use"),
    Column("device", "str", "", "device; '' if not recorded"),
    Column("started", "datetime64[us, UTC]", "", "when its first process began"),
    Column("ended", "datetime64[us, UTC]", "", "when its last process ended"),
    Column("weights_sha256", "object", "", "hash of the final weights: equal hashes are one trajectory, bit for bit"),
    Column("digest", "str", "", "hash of config, data, code and seed"),
    Column("folder", "str", "", "run directory, relative to the study"),
)
"""And one column per metric, under its name: a float64 in the unit that `frame.attrs["units"]` has for it."""


STEPS = (
    _ARM,
    _SEED,
    Column("step", "int64", "optimizer steps", "including this one"),
    Column("epoch", "float64", "epochs", "passes over the training set, this step included"),
    Column("samples", "Int64", "samples", "processed, including this step; missing if an import has none"),
    Column("tokens", "Int64", "tokens", "seen, padding excluded"),
    Column("loss", "float32", "nats", "mean over this step's batch, before the update"),
    Column("grad_norm", "float32", "L2 norm", "of the whole gradient: fp32, unscaled, before clipping"),
    Column("clip_coefficient", "float32", "", "factor of gradient clipping; 1 without clipping"),
    Column("applied", "boolean", "", "False if the step was skipped for a non-finite gradient"),
    Column("learning_rate", "float64", "", "of this step, first parameter group"),
    Column("loss_scale", "float32", "", "gradient scaler's; 1 without one"),
    Column("step_seconds", "float64", "s", "since the end of the step before, evaluation excluded"),
    Column("micro_samples", "Int64", "samples", "of the first forward pass; 0 without `noise_scale`"),
    Column("micro_grad_norm", "float32", "L2 norm", "of the first forward pass alone"),
)
"""Of `trace.arrow`, less its two columns of lists."""


EVALS = (
    _ARM,
    _SEED,
    Column("split", "category", "", "of the examples: `held_out`"),
    Column("metric", "category", "", "`loss`, `accuracy`, or the name that an evaluation gave"),
    Column("step", "int64", "optimizer steps", "taken before this evaluation; 0 is before training"),
    Column("epoch", "float64", "epochs", "passes over the training set before it"),
    Column("samples", "Int64", "samples", "seen before it; missing if an import has none"),
    Column("tokens", "Int64", "tokens", "seen before it"),
    Column("train_seconds", "float64", "s", "of training before it"),
    Column("eval_seconds", "float64", "s", "of this evaluation"),
    Column("value", "float64", "the metric's", "sum over the examples by their number"),
    Column("count", "int64", "examples", "evaluated; 1 if only the mean is known"),
    Column(
        "standard_error",
        "float64",
        "the metric's",
        "of `value` over examples; nan for fewer than 2",
    ),
)


CONTRASTS = (
    _ARM,
    Column("axis", "str", "", "the axis"),
    Column("metric", "str", "", "the metric"),
    Column("unit", "str", "", "of the metric, and of effect, low, high and the means"),
    Column("primary", "bool", "", "whether it is the primary metric"),
    Column(
        "verdict", "category", "", "helps, hurts, raises, lowers, no effect, undecided, or none after a failed control"
    ),
    Column("labels", "str", "", "`LOW POWER` and such, with commas"),
    Column("baseline_mean", "float64", "the metric's", "over the seeds that both arms have"),
    Column("arm_mean", "float64", "the metric's", "over the same seeds"),
    Column("effect", "float64", "the metric's", "variant minus baseline"),
    Column("low", "float64", "the metric's", "lower end of its interval, simultaneous over the family"),
    Column("high", "float64", "the metric's", "upper end"),
    Column("interval_level", "float64", "", "confidence of the interval: 0.95, or that of an interim analysis"),
    Column("p_value", "float64", "", "adjusted for the family, as the interval is"),
    Column("hedges_g", "float64", "sd of runs", "the effect over the sd of single runs, corrected for their number"),
    Column("beats", "float64", "", "share of seeds in which the arm is better, or higher without a better side"),
    Column("residual_sd", "float64", "the metric's", "of a run after removing arm and seed"),
    Column("df", "float64", "", "of the error"),
    Column("num_seeds", "int64", "seeds", "in which both arms have a value"),
    Column("seeds_needed", "Int64", "seeds", "about how many would decide an inconclusive effect"),
    Column("floor", "float64", "the metric's", "the larger of the noise and the nondeterminism floor"),
    Column("method", "str", "", "`seed-blocked` or `own pairs`"),
    Column("family", "int64", "variants", "judged together"),
    Column("sentence", "str", "", "the finding in words"),
)


DIFFERENCES = (
    _ARM,
    _SEED,
    Column("metric", "str", "", "the metric"),
    Column("difference", "float64", "the metric's", "variant minus baseline in this seed: the dots of a forest plot"),
)


FRAMES = {
    "runs": ("One row per run of the plan, whatever its status.", RUNS),
    "steps": ("One row per optimizer step of every run that has started, in order.", STEPS),
    "evals": ("One row per evaluation, split and metric.", EVALS),
    "contrasts": ("One row per variant and metric, the primary metric first. Empty for a single run.", CONTRASTS),
    "differences": ("One row per variant, metric and seed.", DIFFERENCES),
}


def frames_page() -> str:
    """The text of docs/reference/frames.md."""
    parts = [_HEAD]
    for name, (says, columns) in FRAMES.items():
        rows = [f"| `{one.name}` | {one.dtype} | {one.unit} | {one.meaning} |" for one in columns]
        more = ["", _OUTCOMES] if name == "runs" else []
        head = ["| column | dtype | unit | meaning |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {name}", "", says, "", *head, *rows, *more, ""]))
    return "\n".join(parts)


_OUTCOMES = (
    "One column per metric follows, under its name (`eval_loss`, `grad_norm_p95_p5`, ...): a\n"
    'float64, missing where the run has no value. `runs.attrs["units"]` has the unit of each, and [metrics](metrics.md) the\n'
    "definitions."
)


_HEAD = """\
# The frames of a study

`ablate.load("runs/imdb")` gives a `Study`; each frame is made when it is first used ([how](../how-to/notebook.md)).
Arms are categories in plan order, so that groups and legends come in that order; a missing number is nan, or `<NA>` in a column
of whole numbers. This page is made from `ablate/notebook/frames.py` by `docs/make_reference.py`.
"""
