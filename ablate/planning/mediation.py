"""`ablate mediate`: does a treatment act through a mediator? The plan of a study that holds it while the treatment moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.config.flatten import leaf
from ablate.config.schema import BASELINE, Config, make_config
from ablate.design.axis import show
from ablate.design.designs import MEDIATORS, Held, Mediation, short_names
from ablate.errors import AblateError, ConfigError, nearest
from ablate.planning.compose import Composer, Request, override_text
from ablate.planning.planner import Facts, Prepared, check_noise_floor, plan_made_axes

_EXAMPLE = "ablate mediate data.batch_size=8,64 --through grad_noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class Through:
    """A mediator, and the level at which it is held; None is that of the arm that has less of it."""

    mediator: str
    level: float | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MediationRequest:
    """A request for a mediation. through: `grad_noise` or `max_grad_norm=1.0,0.5`. command: the command line."""

    through: tuple[str, ...]
    command: str = ""


def read_through(texts: Iterable[str]) -> tuple[Through, ...]:
    """Raises ConfigError for a mediator that there is none, and for a level that is none."""
    found = [one for option in texts for one in _levels(option)]
    if not found:
        raise ConfigError("ablate mediate needs a mediator: what the treatment may act through", _EXAMPLE)
    return tuple({(one.mediator, one.level): one for one in found}.values())


def prepare(
    composer: Composer, arguments: Sequence[str], options: MediationRequest, facts: Facts | None = None
) -> Prepared:
    """Plan the arms. arguments: as for a study, with one key that has two levels.

    Raises ConfigError or AxisError: for another number of keys or levels, and for a mediator that cannot be held.
    """
    through = read_through(options.through)
    request = composer.parse(arguments)
    key, levels = _treatment(request, through)
    fixed = (*request.fixed, override_text(key, levels[0]))
    configs = [make_config(composer.vary(fixed, {key: level})) for level in levels]
    mediation, notes = _mediation(key, levels, configs, through)
    axes = mediation.axes(sorted(composer.axes(), key=lambda axis: (len(axis.name), axis.name)))
    if axes[0].kind == "observation":
        raise ConfigError(
            f"{key} changes only how often the curve is evaluated, and never the training: there is no effect to divide",
            f"ablate resample <study> {key}=... shows what a cadence hides",
        )
    prepared = plan_made_axes(
        composer,
        Request(axes=request.axes or (), fixed=fixed, made=axes),
        title=f"mediate-{short_names([key])[key]}-{'+'.join(mediation.mediators)}",
        question=f"How much of what {key} {show(levels[0])} -> {show(levels[1])} does to {{metric}} goes through "
        f"{' and through '.join(mediation.mediators)}?",
        all_seeds="what goes through a mediator is known only when every arm has every seed",
        command=options.command,
        facts=facts,
    )
    return prepared.with_design(_as_composed(mediation, prepared), notes)


def _levels(option: str) -> Iterator[Through]:
    name, equals, rest = option.partition("=")
    name = next((short for short, key in MEDIATORS.items() if name.strip() in (short, key)), name.strip())
    if name not in MEDIATORS:
        raise ConfigError(
            f"--through {option}: {name!r} is not a mediator that can be held; expected one of {', '.join(MEDIATORS)}",
            nearest(name, MEDIATORS),
        )
    if not equals:
        if name == "max_grad_norm":
            raise ConfigError(
                f"--through {option}: a clip norm is held at a level, small enough to clip nearly every step of both arms",
                "--through max_grad_norm=0.5,0.25",
            )
        yield Through(mediator=name, level=None, text=option)
        return
    for text in rest.split(","):
        yield Through(mediator=name, level=_number(name, text.strip(), option), text=option)


def _number(name: str, text: str, option: str) -> float:
    whole = name == "grad_noise"
    try:
        value: float = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        what = "a whole number of samples, at least 1" if whole else "a norm above 0"
        raise ConfigError(
            f"--through {option}: {text!r} is not {what}", f"--through {name}={'8' if whole else '1.0,0.5'}"
        )
    return value


def _treatment(request: Request, through: Sequence[Through]) -> tuple[str, tuple[Any, Any]]:
    """The key that moves and its two levels."""
    check_noise_floor(
        request,
        "the treatment is a key with two levels, and the arms follow from it",
        "data.batch_size=8,64; of axes, axis=placebo or axis=rerun or none",
    )
    option = ", ".join(f"{key}={','.join(map(show, values))}" for key, values in request.swept.items())
    if not request.swept:
        one = next((text for text in request.fixed if not text.startswith(("study.", "tracker."))), "")
        key, _, value = one.partition("=")
        what = f"{one} has one level" if value else "no key has two levels"
        fix = f"{key}=<the other level>,{value}" if value else "data.batch_size=8,64"
        raise ConfigError(f"ablate mediate compares two levels of one key, and {what}", fix)
    if len(request.swept) > 1:
        raise ConfigError(
            f"{option}: {len(request.swept)} keys move, and what goes through a mediator could not be separated from what goes "
            "through the others",
            f"one of them: {_EXAMPLE}; `ablate attribute` divides a difference among keys",
        )
    key, values = next(iter(request.swept.items()))
    if len(values) != 2 or values[0] == values[1]:
        few = list(dict.fromkeys(values))
        what = f"{len(few)} level{'s' * (len(few) != 1)}"
        fix = f"{key}={show(few[0])},{show(few[-1])}" if len(few) > 1 else f"{key}=<another>,{show(few[0])}"
        raise ConfigError(f"{option}: {what}, and a total effect is the difference of two", fix)
    for asked in through:
        if MEDIATORS[asked.mediator] == key:
            raise ConfigError(
                f"--through {asked.text}: {key} is the treatment itself, and cannot be held while it moves",
                f"--through {next(name for name in MEDIATORS if name != asked.mediator)}..., or another treatment",
            )
    return key, (values[0], values[1])


def _mediation(
    key: str, levels: tuple[Any, Any], configs: Sequence[Config], through: Sequence[Through]
) -> tuple[Mediation, list[str]]:
    """The arms, each with the keys that it changes; notes on levels that hold nothing."""
    end = short_names([key])[key]
    treated = f"{end}={show(levels[1])}"
    arms: dict[str, dict[str, Any]] = {treated: {key: levels[1]}}
    held, notes = [], []
    for one in through:
        level = _lowest_noise(key, configs, one) if one.level is None else one.level
        setting = MEDIATORS[one.mediator]
        acts = [_acts(config, one, level) for config in configs]
        name = f"{setting.rpartition('.')[2]}={show(level)}"
        if not any(acts):
            notes.append(
                f"--through {one.mediator}={show(level)} is left out: it is what both levels have by themselves"
            )
            continue
        first, second = BASELINE, treated
        if acts[0]:
            first = name
            arms[first] = {setting: level}
        if acts[1]:
            second = f"{treated}+{name}"
            arms[second] = {key: levels[1], setting: level}
        held.append(Held(mediator=one.mediator, level=level, first=first, second=second))
    if not held:
        one = through[0]
        lower = (
            "grad_noise=4"
            if one.mediator == "grad_noise"
            else f"max_grad_norm={show((configs[0].train.max_grad_norm or 1) / 4)}"
        )
        raise ConfigError(
            f"--through {one.text}: that is what both levels of {key} have by themselves, so that nothing would be held",
            f"--through {lower}",
        )
    return Mediation(key=key, levels=levels, treated=treated, held=tuple(held), arms=arms), notes


def _noise_of(config: Config) -> int:
    """Samples whose gradient a step takes."""
    return config.train.noise_batch_size or config.samples_per_step


def _lowest_noise(key: str, configs: Sequence[Config], one: Through) -> float:
    """Noise can be added and not taken away: it is held at that of the smaller batch."""
    sizes = [_noise_of(config) for config in configs]
    if sizes[0] == sizes[1]:
        raise ConfigError(
            f"--through {one.text}: {key} does not change how many samples a step's gradient is the mean of ({sizes[0]}), so "
            "no level of the one is to be put into the other",
            f"--through grad_noise={max(1, sizes[0] // 2)} gives both levels of {key} the noise of so many samples",
        )
    return min(sizes)


def _acts(config: Config, one: Through, level: float) -> bool:
    """Whether the mediator has to be set to be at this level in this config."""
    if one.mediator == "max_grad_norm":
        return config.train.max_grad_norm != level
    size = _noise_of(config)
    if level > size:
        raise ConfigError(
            f"--through {one.text}: a gradient of {size} samples has more noise than one of {show(level)}, and noise can "
            "only be added",
            f"--through grad_noise={size}, or less",
        )
    return level < size


def _as_composed(mediation: Mediation, prepared: Prepared) -> Mediation:
    """Levels with the types that the config gives them."""
    arms = {arm.name: dict(arm.changes) for arm in prepared.plan.arms if arm.name in mediation.arms}
    missing = mediation.arms.keys() - arms.keys()
    if missing:
        raise AblateError(f"{', '.join(sorted(missing))} has the same config as another arm", "levels that differ")
    first = leaf(prepared.plan.baseline.config, mediation.key)
    return replace(mediation, arms=arms, levels=(first, arms[mediation.treated][mediation.key]))
