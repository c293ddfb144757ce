"""From sources to a folder of runs: whole or not at all, and never over another import."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import yaml

from ablate.errors import ConfigError, RecordError, StudyError
from ablate.importers import transformers as trainer_state
from ablate.importers.arguments import numbered, read_arms, read_by_arm
from ablate.importers.detect import read_source
from ablate.importers.hyperparameters import read_settings, settings_of
from ablate.importers.metric_names import TRACE as TRACE_NAMES
from ablate.importers.metric_names import is_silent, mapping, read_renames
from ablate.importers.source import LARGEST, Source
from ablate.importers.wandb_table import read_run, runs_in
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, Origin, Outcome, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import write_text

# A source as a run folder: ordinary tables and small files, in which what the source did not say is null or
# absent.

Row = dict[str, Any]


def write_run(run: RunDir, source: Source, names: Mapping[str, str], *, arm: str, seed: int, seed_said: str) -> Origin:
    """Write one run. names: {name in the log: ours}. seed_said: where the seed is from.

    Raises RecordError for a log without any number that has a place in a record.
    """
    shift = _train_shift(source, names)
    trace = [row for step, values in source.rows.items() if (row := _trace_row(step + shift, values, names, source))]
    evals = [
        row for step, values in source.rows.items() for row in _eval_rows(step + source.shift, values, names, source)
    ]
    if not trace and not evals:
        raise RecordError(
            f"{source.path} logs nothing that is known here: {', '.join(source.names()) or 'no number at all'}",
            "--rename my_loss=loss --rename my_val_loss=eval_loss",
        )
    if shift != source.shift:
        source.notes.append(
            "training steps are counted from 0, so one was added to them; whether a look at step 0 was before the first update "
            "is not on record"
        )
    origin = _origin(source, names, seed_said)
    run.path.mkdir(parents=True)
    _table(run.trace, TRACE, trace)
    _table(run.evals, EVALS, evals)
    write_text(run.config, yaml.safe_dump(source.config, sort_keys=False, allow_unicode=True), hide=True)
    write_value(run, Manifest(arm=arm, seed=seed, origin=asdict(origin)))
    last = max([row["step"] for row in (*trace, *evals)])
    write_value(run, _outcome(source, last))
    return origin


def _train_shift(source: Source, names: Mapping[str, str]) -> int:
    """A training row at step 0 says that the loop counts its updates from 0."""
    ours = [name for name, own in names.items() if own in ("loss", "grad_norm")]
    from_0 = any(name in source.rows.get(0, {}) for name in ours)
    return max(source.shift, int(from_0))


def _origin(source: Source, names: Mapping[str, str], seed_said: str) -> Origin:
    left = [name for name in source.names() if name not in names and not is_silent(name)]
    return Origin(
        format=source.format, files=source.digests(), names=dict(names), left_out=tuple(left), step=source.step, seed=seed_said,
        samples=source.samples_from, samples_per_step=source.samples_per_step or 0, total_steps=source.total_steps,
        loss=source.loss, averaged=source.averaged, looking=source.looking, settings=source.settings, notes=tuple(source.notes),
    )  # fmt: skip


def _trace_row(step: int, values: Mapping[str, float], names: Mapping[str, str], source: Source) -> Row | None:
    """None where the step logged nothing of training. Whether an update was applied is told by its norm, as in `Recorder`."""
    found = _ours(values, names)
    if not any(name in found for name in TRACE_NAMES):
        return None
    norm = found.get("grad_norm")
    return _position(step, found, source) | {
        "loss": found.get("loss"), "grad_norm": norm, "learning_rate": found.get("learning_rate"),
        "applied": None if norm is None else math.isfinite(norm), "group_norms": [], "update_ratios": [],
    }  # fmt: skip


def _eval_rows(step: int, values: Mapping[str, float], names: Mapping[str, str], source: Source) -> Iterable[Row]:
    """A mean alone is known: it is the sum of one, and has no standard error."""
    found = _ours(values, names)
    for name, value in found.items():
        head, _, split = name.partition("::")
        if head.startswith("eval_") and head != "eval_seconds":
            seconds = found.get(f"eval_seconds::{split}" if split else "eval_seconds")
            yield _position(step, found, source) | {
                "eval_seconds": seconds, "split": split or "held_out", "metric": head.removeprefix("eval_"), "sum": value,
                "count": 1, "sum_squares": math.nan,
            }  # fmt: skip


def _ours(values: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    return {names[name]: value for name, value in values.items() if name in names}


def _position(step: int, found: Mapping[str, float], source: Source) -> Row:
    size, tokens = source.samples_per_step, found.get("tokens")
    samples = step * size if size else None
    if max(step, samples or 0) > LARGEST:
        raise RecordError(
            f"{source.path}: step {step} at {size} samples each is beyond any table", "--samples-per-step 8"
        )
    whole = tokens is not None and math.isfinite(tokens) and 0 <= tokens <= LARGEST // 2
    return {
        "step": step,
        "epoch": found.get("epoch"),
        "samples": samples,
        "tokens": int(tokens or 0) if whole else None,
    }


def _table(path: Any, schema: Any, rows: list[Row]) -> None:
    with TableWriter(path, schema) as table:
        if rows:
            table.write({name: [row.get(name) for row in rows] for name in schema.names})


def _outcome(source: Source, last: int) -> Outcome:
    if source.ended is False:
        return Outcome(status="interrupted", step=last, reason="source", message=source.sentence)
    unsaid = f"the log ends at step {last}, and does not say whether the run did"
    return Outcome(status="finished", step=last, reason="source", message=source.sentence or unsaid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """What was typed. arms: `ARM=SOURCE,SOURCE`. kind: of the log, where it must be said. The rest: as the options."""

    arms: Sequence[str]
    into: Path
    kind: str | None = None
    step_column: str | None = None
    tables: Sequence[Path] = ()
    renames: Sequence[str] = ()
    config_files: Sequence[str] = ()
    samples_per_step: Sequence[str] = ()
    number_seeds: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """lines: a sentence for each run, and for what was left out. fresh: False where the same import was there already."""

    lines: tuple[str, ...]
    fresh: bool


def bring(asked: Import, check: Callable[[Path], object] | None = None) -> Brought:
    """Read every source, then write all runs at once. The same sources give the same bytes.

    check: is given the finished folder before it is put in its place; what it raises leaves nothing behind.
    Raises ConfigError, RecordError or StudyError before anything is written where something typed does not hold.
    """
    named = runs_in(_tables(asked.tables))
    arms = read_arms(asked.arms, named)
    renames = read_renames(asked.renames)
    read = {arm: [_read(source, named, asked) for source in sources] for arm, sources in arms.items()}
    _settle(read, asked)
    _check_twice(read)
    seeds = numbered({arm: [one.seed for one in mine] for arm, mine in read.items()}, in_order=asked.number_seeds)
    part = asked.into.parent / f".{asked.into.name}.{token_hex(4)}.part"
    try:
        lines = list(_write(StudyDir(part), read, seeds, renames))
        if check is not None:
            check(part)
        fresh = _put(part, asked.into)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Brought(tuple(lines), fresh)


def _tables(paths: Sequence[Path]) -> Sequence[Path]:
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"--table {path}: there is no such file", "--table export.csv, as W&B exports a chart")
    return paths


def _read(typed: str, named: dict[str, list[Path]], asked: Import) -> Source:
    if typed in named:
        return read_run(typed, named[typed], asked.step_column)
    return read_source(Path(typed), kind=asked.kind, step_column=asked.step_column)


def _settle(read: dict[str, list[Source]], asked: Import) -> None:
    """What the user says of an arm stands above what its sources say."""
    trainer_state.settle([source for mine in read.values() for source in mine])
    files = read_by_arm(asked.config_files, read, "--config-file")
    sizes = read_by_arm(asked.samples_per_step, read, "--samples-per-step")
    for arm, mine in read.items():
        if arm in files:
            settings = settings_of(read_settings(Path(files[arm])))
            for source in mine:
                source.config, source.looking, source.settings = (
                    settings.config,
                    settings.looking,
                    f"--config-file {files[arm]}",
                )
                if len(mine) == 1 and settings.seed is not None:  # of several runs it can be the seed of one only
                    source.seed, source.seed_from = settings.seed, settings.seed_from
                if settings.batch is not None:
                    source.samples_per_step = settings.batch
                    source.samples_from = f"{settings.batch_from}; that there was one process is not on record"
        if arm in sizes:
            size = int(sizes[arm]) if sizes[arm].isdecimal() and len(sizes[arm]) < 10 else 0
            if size < 1:
                raise ConfigError(
                    f"--samples-per-step {sizes[arm]!r} is not a whole number of at least 1",
                    f"--samples-per-step {arm}=8",
                )
            for source in mine:
                source.samples_per_step, source.samples_from = size, f"--samples-per-step {size}"
    every = [source for mine in read.values() for source in mine]
    if any(source.samples_per_step for source in every) and not all(source.samples_per_step for source in every):
        for source in every:  # positions of one study have one unit
            source.samples_per_step, source.samples_from = None, ""


def _check_twice(read: dict[str, list[Source]]) -> None:
    """The very same numbers are one run, under whatever names it lies."""
    seen: dict[str, tuple[str, Source]] = {}
    for arm, mine in read.items():
        for source in mine:
            key = str([*source.digests().values(), source.path if source.format == "wandb_table" else ""])
            if key in seen:
                other, first = seen[key]
                raise ConfigError(
                    f"{source.path} ({arm}) and {first.path} ({other}) hold the very same bytes: one run, counted twice",
                    "name each run once",
                )
            seen[key] = (arm, source)


def _write(
    study: StudyDir, read: dict[str, list[Source]], seeds: dict[str, tuple[list[int], bool]], renames: dict[str, str]
) -> Iterator[str]:
    unused = set(renames)
    for arm, mine in read.items():
        own = seeds[arm][1]
        for source, seed in zip(mine, seeds[arm][0], strict=True):
            names = mapping(source.names(), renames, source.path)
            unused -= set(source.names())
            wrong = next((source.rows.doubled[name] for name in names if name in source.rows.doubled), None)
            if wrong is not None:
                raise RecordError(wrong, source.rows.fix)
            said = (
                source.seed_from
                if own
                else "numbered in order" + ("; its own is not on record" if source.seed is None else "")
            )
            origin = write_run(study.run(arm, seed), source, names, arm=arm, seed=seed, seed_said=said)
            yield _line(arm, seed, source, origin)
    if unused:
        logged = dict.fromkeys(name for mine in read.values() for source in mine for name in source.names())
        raise ConfigError(
            f"--rename {min(unused)}=...: no source logs that; logged: {', '.join(logged)}", "a name that is logged"
        )


def _line(arm: str, seed: int, source: Source, origin: Origin) -> str:
    """`baseline/seed=42  <- out/a (trainer_state): loss -> loss, eval_loss -> eval_loss; seed from trainer.seed`."""
    taken = ", ".join(f"{name} -> {ours}" if name != ours else name for name, ours in origin.names.items())
    left = f"; left out: {', '.join(origin.left_out)}" if origin.left_out else ""
    notes = "".join(f"; {note}" for note in origin.notes)
    head = f"{arm}/seed={seed} <- {source.path} ({origin.format}, steps by {origin.step})"
    line = f"{head}: {taken}{left}; seed: {origin.seed}{notes}"
    return "".join(mark if mark.isprintable() else "?" for mark in line)  # a log may name its columns as it likes


def _put(part: Path, into: Path) -> bool:
    """Move the finished folder to its place. False where the same import lies there already; what was made of it stays."""
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise StudyError(f"{into} is there, and is no folder", f"--output {into}-2")
    if into.exists() and any(into.iterdir()):
        other = next(_differences(part, into), None)
        if other is None:
            return False
        raise StudyError(
            f"{into} holds something else than this import: {other}",
            f"--output {into}-2, or remove {into} if it is not needed",
        )
    try:
        part.rename(into)
    except OSError:
        if into.exists() and any(into.iterdir()):  # another import was quicker
            raise RecordError(f"{into} was filled while this import was made", f"--output {into}-2") from None
        raise
    return True


def _differences(part: Path, into: Path) -> Iterator[str]:
    made, there = ({path.relative_to(top).as_posix() for path in top.glob("*/seed=*/*")} for top in (part, into))
    for name in sorted(made | there):
        if name not in made:
            yield f"{name} is no part of it"
        elif name not in there:
            yield f"{name} is missing"
        elif (part / name).read_bytes() != (into / name).read_bytes():
            yield f"{name} holds other bytes"
    if not made & there:
        yield "it holds no run of it"
