"""Records and analysis of a study as tidy data frames: one row is one run, step, evaluation, contrast or difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ablate.analysis.results import Analysis, RunReading
from ablate.design.plan import Arm, Plan, Run, run_digest
from ablate.errors import ConfigError, RecordError, nearest
from ablate.metrics.metric import MetricInfo
from ablate.notebook.columns import CONTRASTS, DIFFERENCES, EVALS, RUNS, STEPS, Column
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, RunStatus, read_manifest, read_status
from ablate.records.reader import read_evals, read_trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run on disk. Arms with equal digests share a run directory."""

    arm: str
    seed: int
    run_dir: RunDir


def recorded_runs(folder: Path, plan: Plan) -> Iterator[RecordedRun]:
    """Yield every run of the plan that has started, arm by arm; runs of another plan in the same directory are skipped."""
    study = StudyDir(folder)
    planned = {(run.arm, run.seed): run for run in plan.runs}
    shared = {run.digest: run for run in reversed(plan.runs)}
    for arm in (arm for arm in plan.arms if not arm.replayed):
        for seed in plan.seeds_of(arm):
            run = planned.get((arm.name, seed)) or shared.get(_digest(plan, arm, seed))
            if run is not None and _is_of(plan, run, run_dir := study.run(run.arm, run.seed)):
                yield RecordedRun(arm.name, seed, run_dir)


def _digest(plan: Plan, arm: Arm, seed: int) -> str:
    """Digest that a shared run would have; empty for external apps."""
    if plan.app is not None or not plan.code_digest:
        return ""
    return run_digest(arm.config, seed=seed, code_digest=plan.code_digest, data=arm.data, model=arm.model)


def _is_of(plan: Plan, run: Run, run_dir: RunDir) -> bool:
    if not run_dir.manifest.exists() or run_dir.leads_out():
        return False
    try:
        manifest = read_manifest(run_dir)
    except RecordError:
        return False
    asked = {"digest": manifest.digest, "request": manifest.request, "code_digest": manifest.code_digest}
    return not manifest.digest or plan.keeps(run, **asked)


def steps_frame(runs: Sequence[RecordedRun], arms: Sequence[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every step of these runs. columns: to read in addition to arm, seed and step; None reads all of them.

    Raises ConfigError for an unknown column.
    """
    known = [column.name for column in STEPS[2:]]
    wanted = known if columns is None else ["step", *(name for name in columns if name not in ("arm", "seed", "step"))]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown column {name!r} of the steps", nearest(name, known))
    tables = []
    for recorded in runs:
        try:
            table = read_trace(recorded.run_dir.trace, wanted).table
        except RecordError:
            continue  # not started, or unreadable: see `runs`
        tables.append(_named(table, recorded, arms))
    selected = [column for column in STEPS if column.name in ("arm", "seed", *wanted)]
    return _together(tables, selected, arms)


def evals_frame(runs: Sequence[RecordedRun], arms: Sequence[str]) -> pd.DataFrame:
    """Return every evaluation of these runs."""
    tables = []
    for recorded in runs:
        try:
            table = read_evals(recorded.run_dir.evals).table
        except RecordError:
            continue
        tables.append(_named(_with_values(table), recorded, arms))
    return _together(tables, EVALS, arms)


def runs_frame(
    readings: Sequence[RunReading],
    runs: Sequence[RecordedRun],
    arms: Sequence[Mapping[str, Any]],
    metrics: Sequence[MetricInfo],
) -> pd.DataFrame:
    """readings: one per row. arms: [{name, axis, level}], in plan order. metrics: each a column."""
    by_name = {arm["name"]: arm for arm in arms}
    by_run = {(recorded.arm, recorded.seed): recorded for recorded in runs}
    rows = [_run(one, by_name[one.arm], by_run.get((one.arm, one.seed)), metrics) for one in readings]
    columns = [*RUNS, *(Column(info.name, "float64", info.unit, info.definition) for info in metrics)]
    frame = framed(rows, columns, list(by_name))
    frame.attrs["units"] = {info.name: info.unit for info in metrics}
    return frame


def contrasts_frame(analysis: Analysis) -> pd.DataFrame:
    """Every contrast of the analysis, as it has them."""
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


def _run(
    reading: RunReading, arm: Mapping[str, Any], recorded: RecordedRun | None, metrics: Iterable[MetricInfo]
) -> dict[str, Any]:
    manifest, outcome = _small_files(recorded)
    speed = reading.throughput
    return {
        **{name: getattr(reading, name) for name in ("arm", "seed", "status", "sentence", "folder", "weights_sha256")},
        "axis": arm.get("axis"),
        "level": arm.get("level"),
        "steps": outcome.step if outcome else None,
        **{
            name: speed.get(name)
            for name in (column.name for column in RUNS)
            if name.startswith(("train_", "eval_", "peak_"))
        },
        "device": manifest.device if manifest else "",
        "digest": manifest.digest if manifest else "",
        "started": (manifest.started or None) if manifest else None,
        "ended": manifest.ended if manifest else None,
        **{info.name: reading.values.get(info.name) for info in metrics},
    }


def _small_files(recorded: RecordedRun | None) -> tuple[Manifest | None, RunStatus | None]:
    if recorded is None:
        return None, None
    try:
        return read_manifest(recorded.run_dir), read_status(recorded.run_dir)
    except RecordError:
        return None, None


def _with_values(table: pa.Table) -> pa.Table:
    """value = sum / count, and its standard error: sqrt(s^2 / n) with s^2 = (sum of squares - n mean^2) / (n - 1)."""
    count = pc.cast(table["count"], pa.float64())
    value = pc.divide(table["sum"], count)
    spread = pc.subtract(table["sum_squares"], pc.multiply(count, pc.multiply(value, value)))
    spread = pc.max_element_wise(spread, pa.scalar(0.0), skip_nulls=False)
    error = pc.sqrt(pc.divide(spread, pc.multiply(count, pc.subtract(count, pa.scalar(1.0)))))
    error = pc.if_else(pc.greater(count, 1.0), error, pa.scalar(float("nan")))
    return table.append_column("value", value).append_column("standard_error", error)


def _named(table: pa.Table, recorded: RecordedRun, arms: Sequence[str]) -> pa.Table:
    """Add arm and seed as first columns, and drop columns of lists."""
    index = pa.array([list(arms).index(recorded.arm)] * len(table), pa.int32())
    plain = table.select([field.name for field in table.schema if not pa.types.is_list(field.type)])
    plain = plain.add_column(0, "seed", pa.array([recorded.seed] * len(table), pa.int64()))
    return plain.add_column(
        0, "arm", pa.DictionaryArray.from_arrays(index, pa.array(list(arms)))
    ).replace_schema_metadata()


def _together(tables: Sequence[pa.Table], columns: Sequence[Column], arms: Sequence[str]) -> pd.DataFrame:
    names = [column.name for column in columns]
    if not tables:
        return framed([], columns, arms)
    import pandas as pd

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    whole = pa.concat_tables([table.select(names) for table in tables])
    frame: pd.DataFrame = whole.to_pandas(types_mapper=nullable.get)
    return _typed(frame, columns, arms)


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
