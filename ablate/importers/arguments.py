"""Arguments of `ablate import`: `ARM=SOURCE,SOURCE`, where names and paths may contain `=` and commas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from glob import glob
from pathlib import Path

from ablate.config.schema import BASELINE
from ablate.errors import ConfigError, nearest

_EXAMPLE = "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --output runs/mine"


def parse_arms(arguments: Sequence[str], runs: Collection[str] = ()) -> dict[str, list[str]]:
    """Return {arm: sources in order}, the baseline first. runs: names of runs in tables, which are sources too.

    Raises ConfigError for an unknown or repeated source, and if there is no baseline.
    """
    arms: dict[str, list[str]] = {}
    for text in arguments:
        arm, sources = _parse_arm(text, runs)
        arms.setdefault(arm, []).extend(sources)
    every = [source for sources in arms.values() for source in sources]
    duplicate = next((source for source in every if every.count(source) > 1), None)
    if duplicate is not None:
        raise ConfigError(
            f"{duplicate!r} is named twice: a run belongs to one arm and one seed", "name each source once"
        )
    if BASELINE not in arms:
        raise ConfigError(f"expected an arm {BASELINE!r} to compare with, got {', '.join(arms) or 'no arms'}", _EXAMPLE)
    return {BASELINE: arms[BASELINE], **arms}


def parse_by_arm(arguments: Sequence[str], arms: Collection[str], option: str) -> dict[str, str]:
    """Parse `--option ARM=VALUE`, or one VALUE for all arms. Raises ConfigError for an unknown arm."""
    values: dict[str, str] = {}
    for text in arguments:
        named = [arm for arm in arms if text.startswith(f"{arm}=")]
        if named:
            arm = max(named, key=len)
            values[arm] = text[len(arm) + 1 :]
        elif "=" in text and not Path(text).exists():
            unknown = text.rpartition("=")[0]
            problem = f"{option} {text!r}: expected an arm, got {unknown!r}; {nearest(unknown, arms)}"
            raise ConfigError(problem, f"{option} {BASELINE}=...")
        else:
            values |= dict.fromkeys(arms, text)
    return values


def _parse_arm(text: str, runs: Collection[str]) -> tuple[str, list[str]]:
    """Split at the `=` after which every source exists."""
    if "=" not in text:
        raise ConfigError(f"expected ARM=SOURCE,SOURCE, got {text!r}", _EXAMPLE)
    splits = [(text[:at], text[at + 1 :]) for at, mark in enumerate(text) if mark == "=" and at]
    readings = [(arm, sources) for arm, rest in splits for sources in _splits(rest.split(","), runs)]
    if len(readings) > 1:
        shown = " or ".join(f"arm {arm!r} from {' and '.join(sources)}" for arm, sources in readings[:3])
        raise ConfigError(f"{text!r} is ambiguous: {shown}", "name the sources one by one: ARM=SOURCE ARM=SOURCE")
    if readings:
        arm, sources = readings[0]
        return arm, [expanded for source in sources for expanded in _expand(source, runs)]
    # Nothing exists: report the shortest part that is missing, after the longest name of an arm.
    arm, _, rest = text.rpartition("=")
    missing = next((part for part in rest.split(",") if not _exists(part, runs)), rest)
    known = f"; runs in the tables: {', '.join(list(runs)[:8])}" if runs else ""
    raise ConfigError(f"{text!r}: {missing!r} does not exist{known}", f"{arm}=DIRECTORY with the run's log")


def _splits(parts: Sequence[str], runs: Collection[str]) -> list[list[str]]:
    """Return the ways to join neighbouring parts to sources; the search stops after two."""
    if not parts:
        return [[]]
    ways: list[list[str]] = []
    for end in range(1, len(parts) + 1):
        source = ",".join(parts[:end])
        if _exists(source, runs):
            ways += [[source, *rest] for rest in _splits(parts[end:], runs)]
        if len(ways) > 1:
            break
    return ways


def _exists(source: str, runs: Collection[str]) -> bool:
    return bool(source) and bool(_expand(source, runs))


def _expand(source: str, runs: Collection[str]) -> list[str]:
    """Return the source itself, or the files and directories that match it as a pattern."""
    try:
        if source in runs or Path(source).exists():
            return [source]
        return sorted(glob(source)) if any(mark in source for mark in "*?[") else []  # noqa: PTH207, keeps the path as typed
    except (OSError, ValueError):  # a name that is too long, or contains a null byte
        return []


def assign_seeds(seeds: Mapping[str, Sequence[int | None]], *, renumber: bool) -> dict[str, tuple[list[int], bool]]:
    """Return {arm: (seeds, whether they are recorded ones)}. Unknown seeds are numbered from 0 in order.

    Raises ConfigError if an arm has a seed twice, or if the arms' recorded seeds have none in common.
    """
    assigned: dict[str, tuple[list[int], bool]] = {}
    for arm, logged in seeds.items():
        recorded = [seed for seed in logged if seed is not None]
        if renumber or len(recorded) < len(logged):
            assigned[arm] = (list(range(len(logged))), False)
            continue
        duplicate = next((seed for seed in recorded if recorded.count(seed) > 1), None)
        if duplicate is not None:
            raise ConfigError(
                f"expected different seeds, got two runs of {arm} with seed {duplicate}: confidence intervals need independent "
                "runs",
                "import one of them, or --renumber-seeds if the recorded seeds are wrong",
            )
        assigned[arm] = (recorded, True)
    if len(assigned) > 1 and not set.intersection(*(set(numbers) for numbers, _ in assigned.values())):
        shown = "; ".join(f"{arm} {', '.join(map(str, sorted(numbers)))}" for arm, (numbers, _) in assigned.items())
        raise ConfigError(
            f"expected a common seed of all arms, got {shown}", "--renumber-seeds pairs them in the order named"
        )
    return assigned
