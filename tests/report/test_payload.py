"""What the page holds: every step of every run in few characters, fewer rows of very long runs, and no spike lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ablate.analysis.analyse import analyse
from ablate.analysis.resample import train_loss_decrease
from ablate.analysis.results import RunReading
from ablate.records.layout import StudyDir
from ablate.records.reader import read_trace
from ablate.records.schema import TRACE
from ablate.records.writer import TableWriter
from ablate.report.chart_data import RELATIVE_ERROR, packed, run_data
from ablate.report.html import MAX_LINES, SCRIPTS, page, static
from ablate.report.sections.records import differing
from ablate.report.view_model import make_view
from tests.report.packed import unpacked
from tests.synthetic import write_study


@given(arrays(np.float32, st.integers(0, 200), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)))
def test_a_packed_number_comes_back_to_four_digits_and_what_is_none_as_none(values: NDArray[np.float32]) -> None:
    back = unpacked(packed(values.astype(np.float64)))
    assert len(packed(values)) == 4 * len(values)
    finite = np.isfinite(values)
    normal = finite & (np.abs(values) > 1e-30) & (np.abs(values) < 1e38)
    np.testing.assert_allclose(back[normal], values[normal], rtol=RELATIVE_ERROR)
    assert np.isnan(back[~finite]).all()
    assert (back[values == 0] == 0).all()


def test_the_limit_is_the_norm_that_clipped_steps_were_clipped_to(tmp_path: Path) -> None:
    norms = np.array([0.5, 4.0, 2.0, 0.25])
    write_trace(tmp_path / "run", norms, np.ones(4), clip=np.minimum(1.0, 0.8 / norms))
    write_trace(tmp_path / "free", norms, np.ones(4))
    made, free = (run_data(reading(tmp_path / name), tmp_path, 100) for name in ("run", "free"))
    assert made is not None
    assert free is not None
    assert made["limit"] == pytest.approx(0.8)
    assert free["limit"] is None


def reading(folder: Path) -> RunReading:
    return RunReading(
        arm="baseline",
        seed=0,
        folder=folder.name,
        status="finished",
        sentence="",
        weights_sha256=None,
        values={},
        throughput={},
    )


def write_trace(
    run: Path, norms: NDArray[np.float64], losses: NDArray[np.float64], clip: NDArray[np.float64] | None = None
) -> None:
    steps = len(norms)
    run.mkdir(parents=True)
    columns: dict[str, Any] = {
        "step": range(1, steps + 1),
        "epoch": np.arange(1, steps + 1) / steps,
        "samples": np.arange(1, steps + 1) * 8,
        "tokens": np.arange(1, steps + 1) * 100,
        "loss": losses,
        "grad_norm": norms,
        "clip_coefficient": np.ones(steps) if clip is None else clip,
        "applied": [True] * steps,
        "learning_rate": np.ones(steps),
        "loss_scale": np.ones(steps),
        "step_seconds": np.ones(steps),
        "group_norms": [[]] * steps,
        "update_ratios": [[]] * steps,
        "micro_samples": [0] * steps,
        "micro_grad_norm": [None] * steps,
    }
    with TableWriter(run / "trace.arrow", TRACE, metadata={"groups": ""}) as table:
        table.write({name: list(values) for name, values in columns.items()})


def test_of_a_run_that_is_too_long_the_start_is_whole_and_every_spike_is_kept(tmp_path: Path) -> None:
    norms = np.ones(20_003)
    spiked = np.arange(137, 20_000, 391)
    norms[spiked] = 50.0 + np.arange(len(spiked))
    losses = np.linspace(2.0, 1.0, len(norms))
    write_trace(tmp_path / "run", norms, losses)
    made = run_data(reading(tmp_path / "run"), tmp_path, 3000)
    assert made is not None
    rows = made["rows"]
    assert rows["single"] >= 400
    assert rows["single"] % rows["every"] == 0  # so that rows end at multiples of `every`
    last, highest, mean = (unpacked(made["grad_norm"][how]) for how in ("last", "max", "mean"))
    ends = [
        *range(1, rows["single"] + 1),
        *range(rows["single"] + rows["every"], rows["last"], rows["every"]),
        rows["last"],
    ]
    assert len(highest) == len(ends) <= 1000
    assert rows["last"] == len(norms)
    assert set(norms[spiked]) <= set(np.round(highest).tolist())
    np.testing.assert_allclose(last, norms[np.asarray(ends) - 1], rtol=RELATIVE_ERROR)
    np.testing.assert_allclose(np.sum(mean * np.diff([0, *ends])), norms.sum(), rtol=1e-4)


def test_a_short_run_is_held_step_by_step_with_its_fall_and_its_looks(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, seeds=1)
    run = StudyDir(folder).run("baseline", 0)
    trace = read_trace(run.trace)
    analysis = analyse(folder)
    made = run_data(next(one for one in analysis.runs if one.arm == "baseline"), folder, 10_000)
    assert made is not None
    assert made["rows"] == {"single": 128}
    np.testing.assert_allclose(unpacked(made["loss"]["each"]), trace["loss"], rtol=RELATIVE_ERROR)
    fallen = train_loss_decrease(trace)
    assert fallen is not None
    for step in (1, 8, 9, 77, 128):
        assert next(share for end, share in made["fallen"] if end >= step) == fallen[step - 1]
    assert made["x"]["samples"] == 8.0
    assert made["eval"]["samples"][:3] == [0, 64, 128]


def test_a_table_that_is_torn_at_its_head_costs_the_page_one_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_trace(run, np.ones(20), np.ones(20))
    (run / "trace.arrow").write_bytes(b"torn")
    assert run_data(reading(run), tmp_path, 100) is None


def test_settings_are_compared_by_type_and_value() -> None:
    found = differing([{"a": 1, "b": 2, "c": None}, {"a": 1.0, "b": 2, "d": "x"}])
    assert [key for key, _ in found] == ["a", "c", "d"]
    assert found[1][1] == ["null", "absent"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "reference"
    write_study(folder, failed=[("placebo", 1)])
    return page(make_view(analyse(folder)), folder)


def section(text: str, name: str) -> str:
    start = text.index(f'id="{name}"')
    return text[start : text.index("</section>", start)]


def test_settings_that_differ_stand_side_by_side_and_the_others_do_not(text: str) -> None:
    found = section(text, "configs")
    assert "data.batch_size" in found
    assert "random_streams.order" in found
    assert "optim.lr" not in found
    row = found[found.index("data.batch_size") :]
    assert row[: row.index("</tr>")].count("<td") == 4


def test_throughput_is_told_by_device_and_arm(text: str) -> None:
    found = section(text, "throughput")
    assert found.count("cpu, 1 thread") == 4
    assert "training samples/s" in found
    assert "15.4" in found  # 8 samples in 0.04 + 0.06 * 8 seconds


def test_hashes_of_what_was_held_say_where_arms_differ(text: str) -> None:
    found = section(text, "fingerprints")
    rows = {row[: row.index(" ")]: row for row in found.split('<th scope="row">')[1:]}
    assert "<b>" not in rows["init"]
    assert rows["splits"].count("<b>") == 1
    assert "noise floor" in section(text, "metrics")


def test_a_run_that_failed_is_told_with_its_sentence(text: str) -> None:
    assert "placebo, seed 1: ValueError at step 64: made up to fail" in section(text, "runs")


def test_every_script_is_in_the_page_once_and_agrees_with_python(text: str) -> None:
    for name in SCRIPTS:
        assert text.count(static(f"{name}.js")) == 1
    assert f"const mostLines = {MAX_LINES};" in static("curves.js")
