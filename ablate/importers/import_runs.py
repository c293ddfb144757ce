"""`ablate import`: turn logs into a study directory, completely or not at all, and never over another import."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import pyarrow as pa
import yaml

from ablate.errors import ConfigError, RecordError, StudyError, nearest
from ablate.importers import tables, tensorboard, transformers, wandb
from ablate.importers.arguments import assign_seeds, parse_arms, parse_by_arm
from ablate.importers.metric_names import TRACE as TRACE_NAMES
from ablate.importers.metric_names import is_ignored, map_columns, parse_renames
from ablate.importers.source import MAX_STEP, Source, has_file, log_files
from ablate.importers.tables import exported_runs, read_exported_run
from ablate.records.divergence import divergence
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, Origin, RunStatus, Status, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import write_text


@dataclass(frozen=True, slots=True)
class Format:
    """Format of a log."""

    description: str
    files: tuple[str, ...]
    """Patterns of a file's name."""
    patterns: tuple[str, ...]
    """Patterns of its path in a directory."""
    read: Callable[[Path, Sequence[Path], str | None], Source]
    """Reads (path on the command line, log files of that path, chosen column of steps)."""

    def matches(self, path: Path) -> bool:
        """Return whether a path is, or contains, such a log."""
        if path.is_dir():
            return has_file(path, self.patterns)
        return any(fnmatch(path.name.lower(), pattern) for pattern in self.files)


FORMATS = {
    "trainer_state": Format(
        "trainer_state.json of Hugging Face's Trainer, there or in checkpoint-*", (transformers.NAME,),
        (transformers.NAME, f"checkpoint-*/{transformers.NAME}"), transformers.read,
    ),
    "tensorboard": Format("TensorBoard's *tfevents* files", ("*tfevents*",), tensorboard.PATTERNS, tensorboard.read),
    "wandb": Format("run-*.wandb of W&B", ("*.wandb",), wandb.PATTERNS, wandb.read),
    "lightning": Format(
        "metrics.csv of Lightning's CSVLogger", ("metrics.csv",),
        ("metrics.csv", "version_*/metrics.csv", "lightning_logs/version_*/metrics.csv"), tables.read_lightning,
    ),
    "table": Format(
        f"table ({', '.join(tables.SUFFIXES)}), or W&B's export of a chart", tuple(f"*{end}" for end in tables.SUFFIXES),
        (), tables.read,
    ),
}  # fmt: skip
"""Known formats, most specific first."""

Row = dict[str, Any]
Sources = dict[str, list[Source]]
"""{arm: its runs}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRequest:
    """Arguments and options of `ablate import`."""

    arms: Sequence[str]
    """`ARM=SOURCE,SOURCE`"""
    output: Path
    """Study directory to write."""
    format: str | None = None
    """Format of the logs; detected by default."""
    step_column: str | None = None
    tables: Sequence[Path] = ()
    """Charts exported by W&B, whose runs are sources."""
    renames: Sequence[str] = ()
    config_files: Sequence[str] = ()
    samples_per_step: Sequence[str] = ()
    renumber_seeds: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of `import_runs`."""

    lines: tuple[str, ...]
    """A sentence for each run, with what was left out."""
    fresh: bool
    """False if the identical import already existed."""


def import_runs(request: ImportRequest, check: Callable[[Path], object] | None = None) -> ImportResult:
    """Read every source, then write all runs. The same sources give the same bytes.

    check: called with the finished directory before it gets its name; if it raises, nothing is left behind.
    Raises ConfigError, RecordError or StudyError before anything is written.
    """
    missing = next((path for path in request.tables if not path.is_file()), None)
    if missing is not None:
        raise ConfigError(f"--table {missing} does not exist", "--table export.csv, a chart exported by W&B")
    exported = exported_runs(request.tables)
    arms = parse_arms(request.arms, exported)
    renames = parse_renames(request.renames)
    sources = {arm: [_read(name, exported, request) for name in names] for arm, names in arms.items()}
    transformers.drop_redundant_epochs([source for runs in sources.values() for source in runs])
    _apply_options(sources, request)
    _check_distinct(sources)
    recorded = {arm: [source.seed for source in runs] for arm, runs in sources.items()}
    seeds = assign_seeds(recorded, renumber=request.renumber_seeds)
    part = request.output.parent / f".{request.output.name}.{token_hex(4)}.part"
    try:
        lines = list(_write(StudyDir(part), sources, seeds, renames))
        if check is not None:
            check(part)
        fresh = _move(part, request.output)
    except OSError as error:
        problem = f"{request.output} cannot be written: {error.strerror or error}"
        raise RecordError(problem, "--output DIRECTORY on a disk that can be written") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ImportResult(tuple(lines), fresh)


def _read(name: str, exported: dict[str, list[Path]], request: ImportRequest) -> Source:
    if name in exported:
        return read_exported_run(name, exported[name], request.step_column)
    path = Path(name)
    format = FORMATS[_format_of(path, request.format)]
    try:
        return format.read(path, log_files(path, format.patterns), request.step_column)
    except (OSError, RecursionError) as error:
        raise RecordError(f"cannot read {path}: {error}") from None


def _format_of(path: Path, chosen: str | None) -> str:
    """Return the format of a log. Raises ConfigError for an unknown choice, RecordError for no log or several."""
    if chosen is not None and chosen not in FORMATS:
        problem = f"--format: expected one of {', '.join(FORMATS)}, got {chosen!r}; {nearest(chosen, FORMATS)}"
        raise ConfigError(problem, f"--format {next(iter(FORMATS))}")
    matching = [name for name, format in FORMATS.items() if format.matches(path)]
    if chosen is not None:
        if chosen not in matching and path.is_dir():
            problem = f"{path}: expected {FORMATS[chosen].description}, got {_descriptions(matching) or 'no known log'}"
            raise RecordError(problem, "remove --format")
        return chosen
    if len(matching) > 1 and path.is_dir():
        problem = f"{path}: expected the log of one logger, got {len(matching)}: {_descriptions(matching)}"
        raise RecordError(problem, f"--format {matching[0]}, or --format {matching[1]}")
    if not matching:
        names = sorted(file.name for file in path.iterdir())[:8] if path.is_dir() else []
        content = f" with {', '.join(names)}" if names else ""
        problem = f"expected one of: {_descriptions(FORMATS)}; got {path}{content}"
        raise RecordError(problem, "name another directory, or the format: --format")
    return matching[0]


def _descriptions(names: Iterable[str]) -> str:
    return "; ".join(FORMATS[name].description for name in names)


def _apply_options(sources: Sources, request: ImportRequest) -> None:
    """Options of the user take precedence over the logs."""
    files = parse_by_arm(request.config_files, sources, "--config-file")
    sizes = parse_by_arm(request.samples_per_step, sources, "--samples-per-step")
    for arm, runs in sources.items():
        if arm in files:
            for source in runs:  # a seed in the file of several runs can be that of one only
                source.use_file(Path(files[arm]), f"--config-file {files[arm]}", use_seed=len(runs) == 1)
        if arm in sizes:
            size = int(sizes[arm]) if sizes[arm].isdecimal() and len(sizes[arm]) < 10 else 0
            if size < 1:
                problem = f"--samples-per-step: expected a whole number of at least 1, got {sizes[arm]!r}"
                raise ConfigError(problem, f"--samples-per-step {arm}=8")
            for source in runs:
                source.samples_per_step, source.samples_from = size, f"--samples-per-step {size}"
    every = [source for runs in sources.values() for source in runs]
    if not all(source.samples_per_step for source in every):
        for source in every:  # all runs of a study need one unit
            source.samples_per_step, source.samples_from = None, ""


def _check_distinct(sources: Sources) -> None:
    """Raise ConfigError for equal files: one run must not count as two."""
    known: dict[str, tuple[str, Source]] = {}
    for arm, runs in sources.items():
        for source in runs:
            key = str([*_hashes(source).values(), source.path if source.format == "wandb_table" else ""])
            if key in known:
                other, first = known[key]
                problem = f"{source.path} ({arm}) and {first.path} ({other}) are identical: one run, counted twice"
                raise ConfigError(problem, "name each run once")
            known[key] = (arm, source)


def _hashes(source: Source) -> dict[str, str]:
    return {file.as_posix(): sha256(file.read_bytes()).hexdigest() for file in source.files}


def _write(
    study: StudyDir, sources: Sources, seeds: dict[str, tuple[list[int], bool]], renames: dict[str, str]
) -> Iterator[str]:
    """Write every run, and yield a sentence for each."""
    unused = set(renames)
    for arm, runs in sources.items():
        numbers, recorded = seeds[arm]
        for source, seed in zip(runs, numbers, strict=True):
            columns = map_columns(source.names(), renames, source.path)
            unused -= set(source.names())
            _resolve_conflicts(source, columns)
            unknown = "; its own is not recorded" if source.seed is None else ""
            seed_from = source.seed_from if recorded else f"numbered in order{unknown}"
            origin = _write_run(study.run(arm, seed), source, columns, arm=arm, seed=seed, seed_from=seed_from)
            yield _line(arm, seed, source, origin)
    if unused:
        logged = dict.fromkeys(name for runs in sources.values() for source in runs for name in source.names())
        problem = f"--rename {min(unused)}=...: expected a logged name, one of {', '.join(logged)}"
        raise ConfigError(problem, f"--rename {next(iter(logged), 'NAME')}=...")


def _resolve_conflicts(source: Source, columns: Mapping[str, str]) -> None:
    """Let the evaluation during training count, not one after it. Raises RecordError for any other pair of values at a step."""
    conflicts = [name for name in columns if name in source.rows.conflicts]
    after = [name for name in conflicts if columns[name].startswith("eval_") and name in source.rows.repeated_at_end]
    for name in conflicts:
        if name not in after:
            raise RecordError(source.rows.conflicts[name], source.rows.fix)
    if after:
        source.notes.append(
            f"{', '.join(after)}: evaluated again at the last step, perhaps with the best weights; the first values count"
        )


def _line(arm: str, seed: int, source: Source, origin: Origin) -> str:
    """`baseline/seed=42 <- out/a (trainer_state, steps by step): loss, lr -> learning_rate; seed: trainer.seed`."""
    used = ", ".join(f"{name} -> {column}" if name != column else name for name, column in origin.names.items())
    left_out = f"; left out: {', '.join(origin.left_out)}" if origin.left_out else ""
    notes = "".join(f"; {note}" for note in origin.notes)
    head = f"{arm}/seed={seed} <- {source.path} ({origin.format}, steps by {origin.step})"
    line = f"{head}: {used}{left_out}; seed: {origin.seed}{notes}"
    return "".join(mark if mark.isprintable() else "?" for mark in line)  # a log may name its columns anything


def _write_run(
    run: RunDir, source: Source, columns: Mapping[str, str], *, arm: str, seed: int, seed_from: str
) -> Origin:
    """Write one run. columns: {logged name: column}. Raises RecordError for a log without any known number."""
    # A training row at step 0 says that the loop counts its updates from 0.
    from_0 = any(columns.get(name) in ("loss", "grad_norm") for name in source.rows.get(0, {}))
    shift = max(source.shift, int(from_0))
    logged = [
        (step, {columns[name]: value for name, value in values.items() if name in columns})
        for step, values in source.rows.items()
    ]
    trace = [_trace_row(step + shift, row, source) for step, row in logged if any(name in row for name in TRACE_NAMES)]
    evals = [row for step, values in logged for row in _eval_rows(step + source.shift, values, source)]
    if not trace and not evals:
        problem = f"{source.path}: expected a known metric, got {', '.join(source.names()) or 'no numbers'}"
        raise RecordError(problem, "--rename my_loss=loss --rename my_val_loss=eval_loss")
    if shift != source.shift:
        source.notes.append(
            "training steps are counted from 0, so one was added to them; whether an evaluation at step 0 was before the first "
            "update is not recorded"
        )
    left_out = tuple(name for name in source.names() if name not in columns and not is_ignored(name))
    origin = Origin(
        format=source.format, files=_hashes(source), names=dict(columns), left_out=left_out, step=source.step, seed=seed_from,
        samples=source.samples_from, samples_per_step=source.samples_per_step or 0, total_steps=source.total_steps,
        loss=source.loss, averaged=source.averaged, cadence=source.cadence, settings=source.settings, notes=tuple(source.notes),
    )  # fmt: skip
    run.path.mkdir(parents=True)
    _write_table(run.trace, TRACE, trace)
    _write_table(run.evals, EVALS, evals)
    write_text(run.config, yaml.safe_dump(source.config, sort_keys=False, allow_unicode=True), hide=True)
    write_value(run, Manifest(arm=arm, seed=seed, origin=asdict(origin)))
    last = max(row["step"] for row in (*trace, *evals))
    message = source.end_message or f"the log ends at step {last}, and does not say whether the run did"
    ended: Status = "interrupted" if source.ended is False else "finished"
    if diverged := divergence(run):
        ended, message = "diverged", f"{diverged}; {message}"
    write_value(run, RunStatus(status=ended, step=last, reason="source", message=message))
    return origin


def _trace_row(step: int, values: Mapping[str, float], source: Source) -> Row:
    """Return one row of the trace. As in `Recorder`, an update was applied if its gradient norm is finite."""
    norm = values.get("grad_norm")
    return _position(step, values, source) | {
        "loss": values.get("loss"), "grad_norm": norm, "learning_rate": values.get("learning_rate"),
        "applied": None if norm is None else math.isfinite(norm), "group_norms": [], "update_ratios": [],
    }  # fmt: skip


def _eval_rows(step: int, values: Mapping[str, float], source: Source) -> Iterator[Row]:
    """Yield one row per metric. Only the mean is known: it is the sum of one example, and has no standard error."""
    for name, value in values.items():
        metric, _, split = name.partition("::")
        if metric.startswith("eval_") and metric != "eval_seconds":
            yield _position(step, values, source) | {
                "eval_seconds": values.get(f"eval_seconds::{split}" if split else "eval_seconds"), "split": split or "held_out",
                "metric": metric.removeprefix("eval_"), "sum": value, "count": 1, "sum_squares": math.nan,
            }  # fmt: skip


def _position(step: int, values: Mapping[str, float], source: Source) -> Row:
    size, tokens = source.samples_per_step, values.get("tokens", math.nan)
    samples = step * size if size else None
    if max(step, samples or 0) > MAX_STEP:
        problem = f"{source.path}: expected at most {MAX_STEP} samples, got step {step} at {size} samples per step"
        raise RecordError(problem, "--samples-per-step 8")
    tokens_or_none = int(tokens) if 0 <= tokens <= MAX_STEP // 2 else None
    return {"step": step, "epoch": values.get("epoch"), "samples": samples, "tokens": tokens_or_none}


def _write_table(path: Path, schema: pa.Schema, rows: list[Row]) -> None:
    with TableWriter(path, schema) as table:
        if rows:
            table.write({name: [row.get(name) for row in rows] for name in schema.names})


def _move(part: Path, output: Path) -> bool:
    """Rename the finished directory. Return False if the identical import exists; its report stays."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise StudyError(f"expected a directory, got another file: {output}", f"--output {output}-2")
    if output.exists() and any(output.iterdir()):
        difference = next(_differences(part, output), None)
        if difference is None:
            return False
        problem = f"expected an empty directory or the same import, got {output}: {difference}"
        raise StudyError(problem, f"--output {output}-2, or remove {output} if it is not needed")
    try:
        part.rename(output)
    except OSError:
        if output.exists() and any(output.iterdir()):
            raise RecordError(f"another process wrote to {output} during the import", f"--output {output}-2") from None
        raise
    return True


def _differences(part: Path, output: Path) -> Iterator[str]:
    made, existing = ({path.relative_to(top).as_posix() for path in top.glob("*/seed=*/*")} for top in (part, output))
    if not made & existing:
        yield "it contains no run of this import"
    for name in sorted(made | existing):
        if name not in made:
            yield f"{name} is not part of this import"
        elif name not in existing:
            yield f"{name} is missing"
        elif (part / name).read_bytes() != (output / name).read_bytes():
            yield f"{name} has other contents"
