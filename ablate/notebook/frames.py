"""Records and analysis of a study as tidy data frames: one row is one run, step, evaluation, contrast or difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ablate.analysis.load import of_plan, planned_runs
from ablate.analysis.results import Analysis, RunReading
from ablate.design.plan import Plan
from ablate.errors import ConfigError, RecordError, nearest
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import RunDir
from ablate.records.metadata import read_manifest, read_status
from ablate.records.reader import read_evals, read_trace

if TYPE_CHECKING:
    import pandas as pd


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
    Column("value", "object", "", "the axis's value in this arm, as its config has it; None for the baseline"),
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
    Column("standard_error", "float64", "the metric's", "of `value` over examples; nan for fewer than 2"),
)

CONTRASTS = (
    _ARM,
    Column("axis", "str", "", "the axis"),
    Column("metric", "str", "", "the metric"),
    Column("unit", "str", "", "of the metric, and of effect, low, high and the means"),
    Column("primary", "bool", "", "whether it is the primary metric"),
    Column("verdict", "category", "", "helps, hurts, raises, lowers, equivalent, inconclusive; none if it is withheld"),
    Column("labels", "str", "", "`LOW POWER` and such, with commas"),
    Column("baseline_mean", "float64", "the metric's", "over the seeds that both arms have"),
    Column("arm_mean", "float64", "the metric's", "over the same seeds"),
    Column("effect", "float64", "the metric's", "variant minus baseline"),
    Column("low", "float64", "the metric's", "lower end of its interval, simultaneous over the family"),
    Column("high", "float64", "the metric's", "upper end"),
    Column("confidence", "float64", "", "confidence of the interval: 0.95, or that of an interim analysis"),
    Column("p_value", "float64", "", "adjusted for the family, as the interval is"),
    Column("hedges_g", "float64", "sd of runs", "the effect over the sd of single runs, corrected for their number"),
    Column(
        "beats",
        "float64",
        "",
        "share of seeds in which the arm is better, a diverged run being the worst; or higher without a better side",
    ),
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


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run on disk. Arms with equal digests share a run directory."""

    arm: str
    seed: int
    run_dir: RunDir


def recorded_runs(folder: Path, plan: Plan) -> Iterator[RecordedRun]:
    """Yield every run of the plan that has started, arm by arm; runs of another plan in the same directory are skipped."""
    for arm, run, run_dir in planned_runs(folder, plan):
        if run_dir.manifest.exists() and not run_dir.leads_out():
            try:
                started = of_plan(plan, run, read_manifest(run_dir))
            except RecordError:
                continue
            if started:
                yield RecordedRun(arm, run.seed, run_dir)


def steps_frame(runs: Sequence[RecordedRun], arms: Sequence[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every step of these runs. columns: to read in addition to arm, seed and step; None reads all of them.

    Raises ConfigError for an unknown column.
    """
    known = [column.name for column in STEPS[2:]]
    wanted = known if columns is None else ["step", *(name for name in columns if name not in ("arm", "seed", "step"))]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown column {name!r} of the steps", nearest(name, known))
    selected = [column for column in STEPS if column.name in ("arm", "seed", *wanted)]
    return _records(runs, lambda run_dir: read_trace(run_dir.trace, wanted).table, selected, arms)


def evals_frame(runs: Sequence[RecordedRun], arms: Sequence[str]) -> pd.DataFrame:
    """Return every evaluation of these runs."""
    return _records(runs, lambda run_dir: _with_values(read_evals(run_dir.evals).table), EVALS, arms)


def _records(
    runs: Sequence[RecordedRun], read: Callable[[RunDir], pa.Table], columns: Sequence[Column], arms: Sequence[str]
) -> pd.DataFrame:
    """Concatenate a table of every run, with arm and seed; runs without a readable one are left out (see `runs`)."""
    import pandas as pd

    tables = []
    for run in runs:
        try:
            table = read(run.run_dir)
        except RecordError:
            continue
        index = pa.array([list(arms).index(run.arm)] * len(table), pa.int32())
        arm = pa.DictionaryArray.from_arrays(index, pa.array(list(arms)))
        seed = pa.array([run.seed] * len(table), pa.int64())
        recorded = table.select([column.name for column in columns[2:]]).replace_schema_metadata()
        tables.append(recorded.add_column(0, "seed", seed).add_column(0, "arm", arm))
    if not tables:
        return framed([], columns, arms)
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper=nullable.get)
    return _typed(frame, columns, arms)


def _with_values(table: pa.Table) -> pa.Table:
    """Add value = sum / count, and its standard error sqrt(s^2 / n) with s^2 = (sum of squares - n value^2) / (n - 1)."""
    total, squares, count = (table[name].to_numpy().astype(float) for name in ("sum", "sum_squares", "count"))
    value = total / count
    spread = np.maximum(squares - count * value**2, 0.0)
    error = np.sqrt(spread / (count * (count - 1)), out=np.full(len(count), np.nan), where=count > 1)
    return table.append_column("value", [value]).append_column("standard_error", [error])


def runs_frame(
    readings: Sequence[RunReading],
    runs: Sequence[RecordedRun],
    arms: Sequence[Mapping[str, Any]],
    metrics: Sequence[MetricInfo],
) -> pd.DataFrame:
    """readings: one per row. arms: [{name, axis, value}], in plan order. metrics: each a column."""
    by_name = {arm["name"]: arm for arm in arms}
    by_run = {(run.arm, run.seed): run.run_dir for run in runs}
    rows = [_run(one, by_name[one.arm], by_run.get((one.arm, one.seed)), metrics) for one in readings]
    columns = [*RUNS, *(Column(info.name, "float64", info.unit, info.definition) for info in metrics)]
    frame = framed(rows, columns, list(by_name))
    frame.attrs["units"] = {info.name: info.unit for info in metrics}
    return frame


def _run(
    reading: RunReading, arm: Mapping[str, Any], run_dir: RunDir | None, metrics: Iterable[MetricInfo]
) -> dict[str, Any]:
    manifest = outcome = None
    if run_dir is not None:
        try:
            manifest, outcome = read_manifest(run_dir), read_status(run_dir)
        except RecordError:
            manifest = outcome = None
    names = ("arm", "seed", "status", "sentence", "folder", "weights_sha256")
    measured = [column.name for column in RUNS if column.name.startswith(("train_", "eval_", "peak_"))]
    return {
        **{name: getattr(reading, name) for name in names},
        **{name: reading.throughput.get(name) for name in measured},
        **{info.name: reading.values.get(info.name) for info in metrics},
        "axis": arm.get("axis"),
        "value": arm.get("value"),
        "steps": outcome.step if outcome else None,
        "device": manifest.device if manifest else "",
        "digest": manifest.digest if manifest else "",
        "started": (manifest.started or None) if manifest else None,
        "ended": manifest.ended if manifest else None,
    }


def contrasts_frame(analysis: Analysis) -> pd.DataFrame:
    """Return every contrast of the analysis."""
    rows = []
    for one in analysis.contrasts:
        plain = {column.name: getattr(one, column.name, None) for column in CONTRASTS}
        rows.append(plain | {"labels": ", ".join(one.labels), "num_seeds": len(one.seeds)})
    return framed(rows, CONTRASTS, [str(arm["name"]) for arm in analysis.arms])


def differences_frame(analysis: Analysis) -> pd.DataFrame:
    """Return every pair behind the contrasts."""
    rows = [
        {"arm": one.arm, "metric": one.metric, "seed": seed, "difference": difference}
        for one in analysis.contrasts
        for seed, difference in zip(one.seeds, one.differences, strict=True)
    ]
    return framed(rows, DIFFERENCES, [str(arm["name"]) for arm in analysis.arms])


def framed(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], arms: Sequence[str]) -> pd.DataFrame:
    """Return rows as a frame, also without any row."""
    import pandas as pd

    frame = pd.DataFrame({column.name: [row[column.name] for row in rows] for column in columns}, dtype=object)
    return _typed(frame, columns, arms)


def _typed(frame: pd.DataFrame, columns: Sequence[Column], arms: Sequence[str]) -> pd.DataFrame:
    """Cast every column to its documented dtype."""
    import pandas as pd

    for column in columns:
        given = frame[column.name]
        if column.name == "arm":
            frame["arm"] = pd.Categorical(given, categories=list(arms))
        elif column.dtype.startswith("datetime"):
            frame[column.name] = pd.to_datetime(given, utc=True, format="ISO8601").astype(column.dtype)
        elif column.dtype != "object" and str(given.dtype) != column.dtype:
            frame[column.name] = given.astype(column.dtype)
    return frame


def frames_page() -> str:
    """Return the text of docs/reference/frames.md."""
    parts = [_PAGE_HEAD]
    for name, (what, columns) in FRAMES.items():
        rows = [f"| `{column.name}` | {column.dtype} | {column.unit} | {column.meaning} |" for column in columns]
        head = ["| column | dtype | unit | meaning |", "| --- | --- | --- | --- |"]
        metrics = ["", _METRIC_COLUMNS] if name == "runs" else []
        parts.append("\n".join([f"## {name}", "", what, "", *head, *rows, *metrics, ""]))
    return "\n".join(parts)


_METRIC_COLUMNS = (
    "One column per metric follows, under its name (`eval_loss`, `grad_norm_p95_p5`, ...): a\n"
    'float64, missing where the run has no value. `runs.attrs["units"]` has the unit of each, and [metrics](metrics.md) the\n'
    "definitions."
)

_PAGE_HEAD = """\
# The frames of a study

`ablate.load("runs/imdb")` gives a `Study`; each frame is made when it is first used ([how](../how-to/notebook.md)).
Arms are categories in plan order, so that groups and legends come in that order; a missing number is nan, or `<NA>` in a column
of whole numbers. This page is made from `ablate/notebook/frames.py` by `docs/make_reference.py`.
"""
