"""Two configs taken apart: which keys differ, and the plan of a study whose arms are the corners between them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config.flatten import ABSENT, changed, leaf_or_absent, leaves, same
from ablate.design.axis import show
from ablate.design.designs import MOST_KEYS, Corners, draw_paths, short_names
from ablate.design.plan import what_counts
from ablate.errors import AblateError, AxisError, ConfigError, nearest
from ablate.planning.compose import Composer, Request, override_text, with_open_key
from ablate.planning.planner import Facts, Prepared, check_noise_floor, plan_made_axes
from ablate.records.layout import RunDir, StudyDir
from ablate.serialization import read_yaml

FULL_FACTORIAL_UP_TO = 4
PERMUTATIONS = 3

_SETTINGS = ("seed", "arm", "study", "tracker")
_NAMES = ("arm", "study.name", "study.output_dir")
_CADENCE = ("eval.every", "eval.spacing", "eval.num_evaluations")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One of the two configs as overrides of the base config. settings: what it says of its study, which does not count."""

    text: str
    overrides: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributionRequest:
    """A comparison of two configs; the overrides of the first one are the arguments of the study."""

    second: tuple[str, ...]
    """Overrides of the second config, those that hold for both included."""
    names: tuple[str, ...] = ("", "")
    """What the two configs were called."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Keys that move as one."""
    full_factorial_up_to: int = FULL_FACTORIAL_UP_TO
    """Largest number of keys with every corner run."""
    permutations: int = PERMUTATIONS
    """Number of orders above that, each with its reverse."""
    notes: tuple[str, ...] = ()
    command: str = ""
    """Command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneKey:
    """Two configs that differ in one key: there is nothing to divide."""

    key: str
    first: Any
    second: Any
    command: str
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return (
            f"The two configs differ in one key, {self.key} ({show(self.first)} -> {show(self.second)}): whatever difference "
            f"there is, it makes all of it. How large that is, a study of this key says:\n  {self.command}"
            + "".join(f"\nnote: {note}" for note in self.notes)
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"sentence": self.sentence}, indent=2)


def ask(
    composer: Composer, first: str, second: str, common: Sequence[str], *, groups: Iterable[str] = (), **options: Any
) -> tuple[list[str], AttributionRequest]:
    """Return the arguments of the study's baseline, and the comparison.

    common: arguments that hold for both configs. groups: keys that move as one, separated by commas. options: further fields
    of the request; None takes the default.
    """
    ours = [with_open_key(text) for text in common if not text.startswith(("hydra.", "hydra/"))]
    held = _checked(composer.parse(ours)).fixed
    one, other = (_read_source(composer, source, held) for source in (first, second))
    request = AttributionRequest(
        second=(*other.overrides, *held),
        names=(one.text, other.text),
        groups=tuple(tuple(text.split(",")) for text in groups),
        notes=tuple(_settings_notes(one, other)),
        **{key: value for key, value in options.items() if value is not None},
    )
    return [*one.overrides, *common], request


def _read_source(composer: Composer, source: str, common: Sequence[str]) -> Source:
    """Read a .yaml file, a run directory, or a list of overrides. common: overrides that hold for both configs.

    Raises ConfigError for what is none of them, and for a file that cannot be read.
    """
    path = Path(source.strip() or "-")
    if path.is_dir():
        return _from_file(composer, source, _config_in(path), common)
    if path.suffix in (".yaml", ".yml") and "=" not in source:
        return _from_file(composer, source, path, common)
    try:
        words = shlex.split(source)
    except ValueError as error:
        raise ConfigError(f"{source!r}: {error}", "quotes come in pairs: 'data.batch_size=64 optim.lr=1e-4'") from None
    if any("=" not in word and not word.startswith("~") for word in words):
        raise ConfigError(
            f"{source!r} is not a file, a run directory or a list of overrides",
            "a.yaml, runs/<study>/<arm>/seed=0, or 'data.batch_size=64 optim.lr=1e-4'",
        )
    pairs = [word.partition("=") for word in words if _is_setting(word)]
    return Source(
        text=source.strip() or "the base config",
        overrides=tuple(with_open_key(word) for word in words if not _is_setting(word)),
        settings={key.lstrip("+~"): value for key, _, value in pairs},
    )


def _settings_notes(first: Source, second: Source) -> list[str]:
    """Say that seeds and the like differ, and do not count."""
    both = {key: (value, second.settings[key]) for key, value in first.settings.items() if key in second.settings}
    differ = {key: pair for key, pair in both.items() if str(pair[0]) != str(pair[1]) and key not in _NAMES}
    notes = []
    if (seeds := differ.pop("seed", None)) is not None:
        notes.append(
            f"seed is {show(seeds[0])} in the first config and {show(seeds[1])} in the second, which does not count: every "
            "corner runs with the study's seeds"
        )
    if differ:
        notes.append(f"{', '.join(differ)}: taken from the command line, not from the two configs")
    return notes


def prepare(
    composer: Composer, arguments: Sequence[str], options: AttributionRequest, facts: Facts | None = None
) -> Prepared | OneKey:
    """Plan the corners between two configs. arguments: overrides of the first one, then those that hold for both.

    Raises ConfigError or AxisError: for configs that are equal, for a corner that cannot be composed, and for what a study
    between two configs does not take.
    """
    request = _checked(composer.parse(arguments))
    first, second = composer.compose(request.fixed), composer.compose(options.second)
    evaluated, note = _one_evaluation_set(first, second)
    if evaluated:
        request = replace(request, fixed=(*request.fixed, *evaluated))
        first, second = composer.compose(request.fixed), composer.compose([*options.second, *evaluated])
    found, notes = _differences(first, second)
    every = (*options.notes, *notes, *note)
    factors = _factors(found, options.groups)
    if len(factors) == 1:
        return _one(factors[0], found, arguments, every)
    names = short_names(key for keys in factors for key in keys)
    corners = Corners(
        names=tuple("&".join(names[key] for key in keys) for keys in factors),
        moves=tuple({key: found[key][1] for key in keys} for keys in factors),
        paths=_paths(len(factors), options),
        first=options.names[0],
        second=options.names[1],
    )
    _check_corners(composer, request.fixed, corners)
    differ = ", ".join(f"{key} ({show(before)} -> {show(after)})" for key, (before, after) in found.items())
    prepared = plan_made_axes(
        composer,
        replace(request, made=corners.axes()),
        title=f"attribute-{'+'.join(corners.names)}",
        question=f"How much of the difference in {{metric}} does each of {differ} make?",
        all_seeds="shares add up only where every corner has every seed",
        command=options.command,
        facts=facts,
    )
    return prepared.with_design(corners, every)


def _from_file(composer: Composer, source: str, path: Path, common: Sequence[str]) -> Source:
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        names = [one.name for pattern in ("*.yaml", "*.yml") for one in path.parent.glob(pattern)]
        fix = nearest(path.name, names) if names else "the path of a .yaml file"
        raise ConfigError(f"{source}: there is no file {path}", fix) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, Mapping):
        what = "is empty" if values is None else f"holds {'a list' if isinstance(values, list) else repr(values)[:60]}"
        raise ConfigError(f"{path} {what}, expected keys of a config", "data: {batch_size: 64}")
    flat = leaves({str(key): value for key, value in values.items()})
    if "defaults" in flat:
        raise ConfigError(
            f"{path} has a defaults list, which only Hydra can follow",
            f"ablate --config-dir ... --cfg job > {path.stem}_composed.yaml writes it out; or a list of overrides",
        )
    base = composer.compose(common)
    return Source(
        text=source,
        overrides=tuple(
            override_text(key, value)
            for key, value in flat.items()
            if not _is_setting(key) and not same(leaf_or_absent(base, key), value)
        ),
        settings={key: value for key, value in flat.items() if _is_setting(key)},
    )


def _config_in(folder: Path) -> Path:
    config, study = RunDir(folder).config, StudyDir(folder)
    if config.exists():
        return config
    if study.plan.exists():
        run = next(study.runs(), None)
        raise ConfigError(
            f"{folder} is a study of many runs, expected one run", str(run.path if run else folder / "<arm>/seed=0")
        )
    raise ConfigError(f"{folder} is not a run directory: it has no {config.name}", "runs/<study>/<arm>/seed=0")


def _is_setting(text: str) -> bool:
    """Whether a key or an override is about the study and not about a run; the cadence of a record is about a run."""
    key = text.lstrip("+~").partition("=")[0]
    return key != "tracker.log_every" and key.partition(".")[0] in _SETTINGS


def _checked(request: Request) -> Request:
    if request.swept:
        key, values = next(iter(request.swept.items()))
        raise AxisError(
            f"{key}={','.join(map(show, values))}: what follows the two configs holds for both, so it takes one value",
            f"{key}={show(values[0])}, or one value in each of the two configs",
        )
    check_noise_floor(
        request, "the arms are the corners between the two configs", "axis=placebo or axis=rerun, or none"
    )
    return replace(request, axes=request.axes or ())


def _one_evaluation_set(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The override that makes both be evaluated on the same examples where they are not, and a note."""
    ratios = [one["data"]["eval_test_ratio"] for one in (first, second)]
    if ratios[0] == ratios[1]:
        return [], []  # of unequal train_test_ratio, the planner sees to it
    largest = max(one["data"]["eval_test_ratio"] or one["data"]["train_test_ratio"] for one in (first, second))
    note = (
        f"data.eval_test_ratio differs as well ({show(ratios[0])} and {show(ratios[1])}): every corner is evaluated on the "
        f"part that is held out at {largest:g}:1, which both hold out"
    )
    return [f"data.eval_test_ratio={largest}"], [note]


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[dict[str, tuple[Any, Any]], list[str]]:
    """{key: (first, second)} of the keys that can change a run's result; notes on the others that differ."""
    every = {key: pair for key, pair in changed(first, second).items() if not _is_setting(key)}
    counting = changed(what_counts(first), what_counts(second))
    found = {key: pair for key, pair in counting.items() if key not in _CADENCE and key != "rerun"}
    why = {
        True: "which changes how often the curve is evaluated and never the training",
        False: "which changes no result",
    }
    notes = [
        f"{key} differs as well ({show(one)} and {show(other)}), {why[key in _CADENCE]}: every corner has the first config's"
        for key, (one, other) in every.items()
        if key not in found
    ]
    if not found:
        also = f" They differ in {', '.join(every)}, which cannot change what a run computes." if every else ""
        fix = (
            "ablate resample <study> eval.every=... shows what a cadence hides" if set(every) & set(_CADENCE) else None
        )
        raise ConfigError(
            f"the two configs are equal in every key that counts: there is no difference to explain.{also}", fix
        )
    gone = [key for key, (_, after) in found.items() if after == ABSENT]
    if gone:
        raise ConfigError(
            f"{gone[0]} is set in the first config and absent from the second, and a corner cannot take it away",
            f"{gone[0]}=<a value> in both, or the two configs the other way round",
        )
    return found, notes


def _factors(found: Mapping[str, Any], groups: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the keys in order, those that move as one in one tuple."""
    named = [key for keys in groups for key in keys]
    for key in named:
        if key not in found:
            raise ConfigError(f"--group {key}: the two configs do not differ in {key!r}", nearest(key, found))
        if named.count(key) > 1:
            raise ConfigError(f"--group {key}: it is named twice", "each key once")
    return list(dict.fromkeys(next((keys for keys in groups if key in keys), (key,)) for key in found))


def _one(
    keys: tuple[str, ...], found: Mapping[str, tuple[Any, Any]], arguments: Sequence[str], notes: tuple[str, ...]
) -> OneKey:
    if len(keys) > 1:
        raise ConfigError(
            f"--group {','.join(keys)}: that is every key in which the two differ, so nothing is left to tell apart",
            f"leave out --group, or one of {', '.join(keys)}",
        )
    key, (before, after) = keys[0], found[keys[0]]
    baseline = [text for text in arguments if not text.startswith(f"{key}=")]
    command = shlex.join(["ablate", "-m", f"{key}={_level(before)},{_level(after)}", *baseline])
    return OneKey(key=key, first=before, second=after, command=command, notes=notes)


def _level(value: Any) -> str:
    """Without quotes where it needs none."""
    plain = show(value)
    return plain if re.fullmatch(r"[\w.:/+-]+", plain) else override_text("", value)[1:]


def _paths(keys: int, options: AttributionRequest) -> tuple[tuple[int, ...], ...]:
    """Return no path where all corners are run, or where the paths would go through as many."""
    if keys <= options.full_factorial_up_to:
        if keys > MOST_KEYS:
            source = f"--full-factorial-up-to {options.full_factorial_up_to}"
            raise ConfigError(
                f"{source}: {keys} keys have {2**keys:,} corners", f"--full-factorial-up-to {MOST_KEYS} at most"
            )
        return ()
    paths = draw_paths(keys, options.permutations, np.random.default_rng([keys, options.permutations]))
    some = Corners(names=("",) * keys, moves=({},) * keys, paths=paths)
    return paths if len(some.numbers) < 2**keys else ()


def _check_corners(composer: Composer, fixed: Sequence[str], corners: Corners) -> None:
    """Every corner is a config: keys that only go together are named, with the way out."""
    for corner in corners.numbers[1:]:
        try:
            composer.vary(fixed, corners.changes(corner))
        except AblateError as error:
            moved = corners.changes(corner)
            rest = [key for keys in corners.moves for key in keys if key not in moved]
            pair = f"{next(iter(moved))},{rest[0]}" if rest else ""
            raise ConfigError(
                f"the corner that has only {', '.join(moved)} of the second config cannot be: {error.problem}",
                f"--group {pair} moves those two as one, if they belong together" if pair else error.fix,
            ) from None
