"""From sources to a folder of runs: whole or not at all, and never over another import."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from ablate.errors import ConfigError, RecordError, StudyError
from ablate.imports import trainer_state
from ablate.imports.arms import numbered, read_arms, read_by_arm
from ablate.imports.find import read_source
from ablate.imports.names import mapping, read_renames
from ablate.imports.settings import read_settings, settings_of
from ablate.imports.values import Source
from ablate.imports.wandb_table import read_run, runs_in
from ablate.imports.write import write_run
from ablate.record.origin import Origin
from ablate.record.rundir import StudyDir


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
        raise StudyError(f"{into} is there, and is no folder", f"--into {into}-2")
    if into.exists() and any(into.iterdir()):
        other = next(_differences(part, into), None)
        if other is None:
            return False
        raise StudyError(
            f"{into} holds something else than this import: {other}",
            f"--into {into}-2, or remove {into} if it is not needed",
        )
    try:
        part.rename(into)
    except OSError:
        if into.exists() and any(into.iterdir()):  # another import was quicker
            raise RecordError(f"{into} was filled while this import was made", f"--into {into}-2") from None
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
