"""`ARM=SOURCE,SOURCE`: which sources are the runs of which arm. Names and paths may themselves hold `=` and commas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from glob import glob
from pathlib import Path

from ablate.errors import ConfigError, nearest

BASELINE = "baseline"
_EXAMPLE = "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --output runs/mine"


def read_arms(typed: Sequence[str], runs: Collection[str] = ()) -> dict[str, list[str]]:
    """{arm: its sources, in order}, the baseline first. runs: names of runs in tables, which a source may be.

    Raises ConfigError for what names no source, for a source named twice and where there is no baseline.
    """
    found: dict[str, list[str]] = {}
    for text in typed:
        arm, sources = _arm(text, runs)
        found.setdefault(arm, []).extend(sources)
    every = [source for sources in found.values() for source in sources]
    twice = next((source for source in every if every.count(source) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice!r} is named twice: one run is one arm at one seed", "name each source once")
    if BASELINE not in found:
        named = f"arms named: {', '.join(found)}" if found else "none was named"
        raise ConfigError(f"no arm is called {BASELINE!r}, with which the others are compared; {named}", _EXAMPLE)
    return {BASELINE: found[BASELINE], **found}


def read_by_arm(typed: Sequence[str], arms: Collection[str], option: str) -> dict[str, str]:
    """`--option ARM=VALUE`, or one VALUE for all arms. Raises ConfigError for an arm that is not there."""
    found: dict[str, str] = {}
    for text in typed:
        mine = [arm for arm in arms if text.startswith(f"{arm}=")]
        if mine:
            arm = max(mine, key=len)
            found[arm] = text[len(arm) + 1 :]
        elif "=" in text and not Path(text).exists():
            head = text.rpartition("=")[0]
            raise ConfigError(
                f"{option} {text!r}: {head!r} is no arm; {nearest(head, arms)}", f"{option} {BASELINE}=..."
            )
        else:
            found |= dict.fromkeys(arms, text)
    return found


def _arm(text: str, runs: Collection[str]) -> tuple[str, list[str]]:
    """Split where every source to the right of a `=` is there."""
    places = [place for place, mark in enumerate(text) if mark == "="]
    if not places:
        raise ConfigError(f"{text!r} names no arm: expected ARM=SOURCE,SOURCE", _EXAMPLE)
    fits = {text[:place]: ways for place in places if place and (ways := _ways(text[place + 1 :].split(","), runs))}
    readings = [(arm, way) for arm, ways in fits.items() for way in ways]
    if len(readings) > 1:
        shown = " or ".join(f"arm {arm!r} from {' and '.join(way)}" for arm, way in readings[:3])
        raise ConfigError(f"{text!r} can be read as {shown}", "name the sources one by one: ARM=SOURCE ARM=SOURCE")
    if readings:
        arm, way = readings[0]
        return arm, [source for one in way for source in _expanded(one, runs)]
    # The name of an arm is as long as can be: what is missing is the last part.
    arm, _, rest = text.rpartition("=")
    missing = next((part for part in rest.split(",") if not _exists(part, runs)), rest)
    known = f"; runs in the tables: {', '.join(list(runs)[:8])}" if runs else ""
    raise ConfigError(f"{text!r}: there is no {missing!r}{known}", f"{arm}=FOLDER, where the run's log lies")


def _ways(parts: Sequence[str], runs: Collection[str]) -> list[list[str]]:
    """The ways in which neighbouring parts, joined by commas again, are sources; more than two are not looked for."""
    if not parts:
        return [[]]
    found: list[list[str]] = []
    for end in range(1, len(parts) + 1):
        source = ",".join(parts[:end])
        if _exists(source, runs):
            found += [[source, *rest] for rest in _ways(parts[end:], runs)]
        if len(found) > 1:
            break
    return found


def _exists(source: str, runs: Collection[str]) -> bool:
    return bool(source) and (source in runs or bool(_expanded(source, runs)))


def _expanded(source: str, runs: Collection[str]) -> list[str]:
    """The source itself, or the files and folders that a pattern stands for."""
    if source in runs:
        return [source]
    try:
        if Path(source).exists():
            return [source]
        return sorted(glob(source)) if any(mark in source for mark in "*?[") else []  # noqa: PTH207, a path as it was typed
    except (OSError, ValueError):  # a name too long, or with a zero in it
        return []


def numbered(seeds: Mapping[str, Sequence[int | None]], *, in_order: bool) -> dict[str, tuple[list[int], bool]]:
    """{arm: (its seeds, whether they are the source's own)}. Those that are not known are numbered from 0 in order.

    Raises ConfigError where one arm has a seed twice, and where the arms' own seeds have none in common.
    """
    found: dict[str, tuple[list[int], bool]] = {}
    for arm, mine in seeds.items():
        own = [seed for seed in mine if seed is not None]
        if in_order or len(own) < len(mine):
            found[arm] = (list(range(len(mine))), False)
            continue
        twice = next((seed for seed in own if own.count(seed) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"two runs of {arm} say that their seed is {twice}: the same seed twice is no repetition, and an "
                "interval rests on repetitions",
                "one of them, or --renumber-seeds where they had other seeds than they say",
            )
        found[arm] = (own, True)
    if len(found) > 1 and not set.intersection(*(set(mine) for mine, _ in found.values())):
        have = "; ".join(f"{arm} {', '.join(map(str, sorted(mine)))}" for arm, (mine, _) in found.items())
        raise ConfigError(
            f"the arms have no seed in common: {have}",
            "--renumber-seeds pairs them in the order in which they are named",
        )
    return found
