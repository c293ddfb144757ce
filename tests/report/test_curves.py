"""Curves: fewer points without losing a spike, means without inventing a jump."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ablate.report.curves import UNITS, Curve, RunCurves, band, read_curves, rounded, thin
from tests.report.conftest import Study

FLOATS = arrays(np.float64, st.integers(1, 3000), elements=st.floats(allow_nan=True, allow_infinity=True, width=32))


def curve(y: NDArray[np.float64], batch: int = 8) -> Curve:
    steps = np.arange(1, len(y) + 1, dtype=np.float64)
    x = dict.fromkeys(UNITS, steps) | {"samples": steps * batch}
    return Curve(x, y)


@settings(deadline=None)
@given(FLOATS, st.integers(6, 300))
def test_thinning_keeps_the_ends_the_extremes_and_any_gap(values: NDArray[np.float64], most: int) -> None:
    kept = thin(values, most)
    assert len(kept) <= max(most, 6)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    finite, shown = values[np.isfinite(values)], values[kept]
    if len(finite):
        assert shown[np.isfinite(shown)].max() == finite.max()
        assert shown[np.isfinite(shown)].min() == finite.min()
    assert (len(finite) < len(values)) == (not np.isfinite(shown).all())


def test_every_single_step_spike_of_a_long_trace_is_drawn() -> None:
    values = np.ones(100_000)
    spikes = np.arange(500, 100_000, 1000)
    values[spikes] = 50.0
    kept = thin(values, 1500)
    assert set(spikes) <= set(kept.tolist())
    every_nth = np.linspace(0, len(values) - 1, 1500).astype(int)
    assert not set(spikes) <= set(every_nth.tolist())


def test_a_value_that_is_not_finite_becomes_a_gap() -> None:
    assert rounded(np.asarray([1.2345678, np.nan, np.inf])) == [1.2346, None, None]


def test_the_mean_of_seeds_leaves_out_a_run_that_broke_off() -> None:
    whole = [RunCurves("a", seed, "finished", {"loss": curve(np.full(8, float(seed)))}) for seed in (0, 2)]
    broken = RunCurves("a", 3, "diverged", {"loss": curve(np.full(4, 100.0))})
    found = band([*whole, broken], "loss")
    assert found is not None
    assert (found.mean.tolist(), found.low.tolist(), found.high.tolist()) == ([1.0] * 8, [0.0] * 8, [2.0] * 8)
    assert band([broken], "loss") is None


def test_a_run_killed_before_its_first_byte_has_no_curve_and_a_foreign_one_is_not_drawn(
    study: Study, tmp_path: Path
) -> None:
    folder = tmp_path / "reference"
    shutil.copytree(study.folder, folder)
    first, second, *rest = study.analysis.runs
    (folder / first.folder / "trace.arrow").write_bytes(b"")
    (folder / rest[0].folder / "evals.arrow").unlink()
    runs = (replace(first, status="running"), replace(second, status="missing"), *rest)
    curves = read_curves(replace(study.analysis, runs=runs), folder)
    assert [(run.arm, run.seed) for run in curves] == [(run.arm, run.seed) for run in rest]
    assert len(curves[0].panels["eval_loss"]) == 0
    assert len(curves[1].panels["eval_loss"]) == 17
