"""What was declared was done: clipping and learning rate, step by step, as the trace has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.controls.control import Control

COLUMNS = ("step", "grad_norm", "clip_coefficient", "applied", "learning_rate")
Columns = Mapping[str, NDArray[np.float64]]
"""Those of `COLUMNS`, each [steps]."""

_CLIP, _ADDED = 1e-5, 1e-6
"""Relative tolerance of a coefficient, of which a trace holds 7 digits; and what torch adds to the norm before it divides, so
that any coefficient between with and without it is right."""

_RATE = 1e-5
"""Relative. A device may hold the rate in fp32."""


@dataclass(frozen=True, slots=True)
class Made:
    """A finished run: the items of its fingerprint, and columns of its trace."""

    items: Mapping[str, Any]
    trace: Columns


def applied(arm: str, runs: Mapping[int, Made]) -> Control | None:
    """Whether each run of an arm clipped as its limit says, and stepped at the rates of its schedule; None where no run tells.

    runs: by seed. Steps that were skipped, because their gradient was not finite, have neither.
    """
    conclude = partial(Control, arm=arm, name="settings_applied")
    held = tuple(name for name in _CHECKS if any(name in made.items for made in runs.values()))
    for seed, made in sorted(runs.items()):
        for name in held:
            problem = next(_CHECKS[name](made), None) if name in made.items else None
            if problem is not None:
                return conclude(status="failed", sentence=f"not as declared: {arm}, seed {seed}: {problem}")
    words = {"max_grad_norm": "every step clipped as declared", "rates": "every rate as scheduled"}
    return conclude(status="checked", sentence=", ".join(words[name] for name in held), held=held) if held else None


def _clipping(made: Made) -> Iterator[str]:
    """The coefficient is min(1, limit / norm) in every step, and 1 without a limit."""
    limit = made.items["max_grad_norm"].get("max")
    norm, found = made.trace["grad_norm"], made.trace["clip_coefficient"]
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.ones_like(norm) if limit is None else np.minimum(1.0, limit / norm)
        least = wanted if limit is None else np.minimum(1.0, limit / (norm + _ADDED))
    right = (least * (1 - _CLIP) <= found) & (found <= wanted * (1 + _CLIP))
    off = np.flatnonzero((made.trace["applied"] == 1) & ~right)
    for k in off[:1]:
        declared = "no clipping is declared" if limit is None else f"max_grad_norm.max is {limit:g}"
        yield (
            f"{declared}, but at step {made.trace['step'][k]:.0f} a gradient of norm {norm[k]:.4g} was multiplied by "
            f"{found[k]:.4g} and not by {wanted[k]:.4g}{_more(off)}"
        )


def _rates(made: Made) -> Iterator[str]:
    """The rate that the optimizer had is the recorded one, and the recorded ones are the schedule times the peak."""
    recorded = dict(zip(made.trace["step"].astype(int).tolist(), made.trace["learning_rate"].tolist(), strict=True))
    for step, rate in made.items["rates"].items():
        expected = recorded.get(int(step))
        if expected is not None and not np.isclose(float(rate), expected, rtol=_RATE, atol=0.0):
            yield f"the schedule's rate at step {step} is {expected:.6g}, but the optimizer had {float(rate):.6g}"
    yield from _schedule(made)


def _schedule(made: Made) -> Iterator[str]:
    """Compute the schedule again from the fingerprint: at the middle of each step, counted by those that were applied."""
    said, peak = made.items.get("schedule", {}), made.items.get("optimizer", {}).get("group 0", {}).get("lr")
    shape = _SHAPES.get(said.get("shape", ""))
    if shape is None or peak is None:
        return
    warmup, least, trace = said["warmup"], said.get("min_lr_ratio", 0.0), made.trace
    done = (np.cumsum(trace["applied"]) - trace["applied"] + 0.5) / len(trace["step"])
    decay = shape((done - warmup) / (1 - warmup)) if warmup < 1 else np.ones_like(done)
    later = least + (1 - least) * decay
    wanted = peak * np.where(done < warmup, done / max(warmup, 1e-12), later)
    off = np.flatnonzero(~np.isclose(trace["learning_rate"], wanted, rtol=_RATE, atol=peak * 1e-9))
    for k in off[:1]:
        yield (
            f"a {said['shape']} schedule with warm-up {warmup:g} has the rate {wanted[k]:.6g} at step "
            f"{trace['step'][k]:.0f}, but {trace['learning_rate'][k]:.6g} was recorded{_more(off)}"
        )


_SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "constant": np.ones_like,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + np.cos(np.pi * done)),
    "wsd": lambda done: np.minimum(1.0, 5 * (1 - done)),
    "multistep": lambda done: np.where(done < 0.5, 1.0, np.where(done < 0.75, 0.1, 0.01)),
}
_CHECKS = {"max_grad_norm": _clipping, "rates": _rates}


def _more(places: NDArray[np.int64]) -> str:
    return f" ({len(places)} such steps)" if len(places) > 1 else ""
