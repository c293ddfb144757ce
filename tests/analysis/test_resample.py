"""A coarser cadence is re-read exactly as a real run at that cadence logs it, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablate.analysis.resample import reduce_windows, resample, window_ends
from ablate.errors import ConfigError, IntervalError, StudyError
from ablate.metrics.curves import decrease_before, train_loss_decrease
from ablate.records.layout import StudyDir
from ablate.records.reader import EvalCurve, read_evals, read_table, read_trace
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from tests.metrics.test_metrics import trace
from tests.synthetic import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "replayed"
    write_study(folder, arms=["eval_every=128 samples"], seeds=2)
    return folder


def dense(study: Path, seed: int) -> EvalCurve:
    return read_evals(StudyDir(study).run("baseline", seed).evals).curve("loss")


@pytest.mark.parametrize(
    ("level", "samples"),
    [
        ("256 samples", [0, 256, 512, 768, 1024]),
        ("16 steps", [0, 128, 256, 384, 512, 640, 768, 896, 1024]),
        ("24", [0, 192, 384, 576, 768, 960, 1024]),
        ("640 samples", [0, 640, 1024]),
        ("5000 samples", [0, 1024]),
        ("0.256 epochs", [0, 256, 512, 768, 1024]),
    ],
)
def test_looks_are_the_multiples_of_the_interval_and_the_end(study: Path, level: str, samples: list[int]) -> None:
    (shown,) = resample(study, "eval.every", [level])
    assert [point[1] for point in shown.curve[0]] == samples
    for seed, points in zip(shown.seeds, shown.curve, strict=True):
        known = dict(zip(dense(study, seed).samples.tolist(), dense(study, seed).value.tolist(), strict=True))
        assert [point[2] for point in points] == [known[count] for count in samples]
    assert shown.evaluations == len(samples) - 1  # the look before training is not counted
    assert shown.first_eval_step == samples[1] // 8


def test_the_dense_cadence_replays_itself(study: Path) -> None:
    (shown,) = resample(study, "eval.every", ["64 samples"])
    assert [point[2] for point in shown.curve[0]] == dense(study, 0).value.tolist()


def test_the_share_is_of_the_fall_from_the_start_to_the_lowest_look(study: Path) -> None:
    (shown,) = resample(study, "eval.every", ["256 samples"])
    values = dense(study, 1).value
    by_hand = (values[0] - values[4]) / (values[0] - values.min())
    assert shown.shares[1] == pytest.approx(by_hand)
    assert shown.share_decrease_before_first_eval == pytest.approx(np.mean(shown.shares))


def test_a_coarser_cadence_misses_more(study: Path) -> None:
    levels = resample(study, "eval.every", ["64 samples", "128 samples", "256 samples", "512 samples"])
    shares = [level.share_decrease_before_first_eval or 0.0 for level in levels]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


@pytest.mark.parametrize("level", ["100 samples", "1 steps", "32 samples", "0.05 epochs"])
def test_a_level_that_the_record_does_not_hold_is_refused_with_levels_that_work(study: Path, level: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resample(study, "eval.every", [level])
    assert f"eval.every={level!r} needs an evaluation after" in caught.value.problem
    assert "64, 128, 192, ... 1024 samples" in caught.value.problem
    fix = caught.value.fix or ""
    works = [part.split("'")[1] for part in fix.split(" or ")]
    assert len(works) == 3
    assert len(resample(study, "eval.every", works)) == 3


def test_log_spaced_looks_are_not_in_an_evenly_spaced_record(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"eval.spacing='log' needs an evaluation after 8 samples"):
        resample(study, "eval.spacing", ["log"])


@pytest.mark.parametrize("spacing", ["logg", "EVEN"])
def test_a_spacing_that_does_not_exist_is_refused(study: Path, spacing: str) -> None:
    with pytest.raises(ConfigError, match=f"eval.spacing='{spacing}' is not one of even, log"):
        resample(study, "eval.spacing", [spacing])


def test_a_key_that_cannot_be_replayed_is_refused_by_name(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"observe.eval_evry='20' cannot be resampled; did you mean 'eval.every'"):
        resample(study, "observe.eval_evry", ["20"])


def test_a_level_that_is_no_interval_is_refused(study: Path) -> None:
    with pytest.raises(IntervalError, match="'20 stesp' is not an interval"):
        resample(study, "eval.every", ["20 stesp"])


def test_a_study_without_a_finished_baseline_has_nothing_to_replay(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=1, failed=[("baseline", 0)])
    with pytest.raises(StudyError, match="no run of the baseline"):
        resample(tmp_path / "s", "eval.every", ["128 samples"])


def test_seeds_whose_loss_never_fell_have_no_share_and_are_counted(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=2)
    path = StudyDir(tmp_path / "s").run("baseline", 1).evals
    rising = read_table(path).to_pylist()
    with TableWriter(path, EVALS) as table:
        columns = {name: [row[name] for row in rising] for name in EVALS.names}
        table.write(columns | {"sum": [256 * (0.6 + row["step"]) for row in rising]})
    (shown,) = resample(tmp_path / "s", "eval.every", ["128 samples"])
    assert np.isnan(shown.shares[1])
    assert shown.share_decrease_before_first_eval == shown.shares[0]
    assert "in 1 of 2 seeds; in the others it never decreased" in shown.sentence


def test_seeds_that_failed_are_left_out_of_the_replay(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=3, failed=[("baseline", 1)])
    (shown,) = resample(tmp_path / "s", "eval.every", ["128 samples"])
    assert shown.seeds == (0, 2)
    assert len(shown.curve) == len(shown.shares) == 2


def test_log_rows_are_window_means_and_the_last_window_may_be_short(study: Path) -> None:
    (shown,) = resample(study, "tracker.log_every", ["50 steps"])
    loss = read_trace(StudyDir(study).run("baseline", 0).trace)["loss"]
    assert [point[0] for point in shown.curve[0]] == [50, 100, 128]
    assert [point[2] for point in shown.curve[0]] == pytest.approx(
        [loss[:50].mean(), loss[50:100].mean(), loss[100:].mean()]
    )


def test_the_last_value_hides_the_spike_that_the_maximum_keeps() -> None:
    spiky = trace([1.0] * 7 + [50.0] + [1.0] * 12)
    norms, ends = spiky["grad_norm"], window_ends(spiky, np.asarray([80, 160]))
    assert reduce_windows(norms, ends, "last").tolist() == [1.0, 1.0]
    assert reduce_windows(norms, ends, "max").tolist() == [50.0, 1.0]
    assert reduce_windows(norms, ends, "mean").tolist() == pytest.approx([5.9, 1.0])


def test_the_train_loss_share_is_read_from_a_monotone_curve_of_64_sample_blocks() -> None:
    # Blocks of 8 steps at batch 8 with means 1.0, 0.4, 0.5, 0.2; the nearest falling curve is 1.0, 0.45, 0.45, 0.2.
    loss = [mean for mean in (1.0, 0.4, 0.5, 0.2) for _ in range(8)]
    made = trace([1.0] * 32, loss=loss)
    shares = train_loss_decrease(made)
    assert shares is not None
    assert shares[0] == pytest.approx(0.0)
    assert shares[15] == pytest.approx(0.55 / 0.8)
    assert shares[31] == pytest.approx(1.0)
    assert train_loss_decrease(trace([1.0] * 32)) is None


def test_a_curve_that_never_decreased_has_no_share() -> None:
    looks = np.asarray([0, 64, 128])

    def curve(values: list[float], first_step: int = 0) -> EvalCurve:
        value = np.asarray(values)
        return EvalCurve(looks // 8 + first_step, looks, looks / 1e3, looks / 1e2, value, looks, 0 * value)

    assert decrease_before(curve([0.5, 0.6, 0.7]), "loss", 64) is None
    assert decrease_before(curve([0.7, 0.6, 0.5], first_step=1), "loss", 64) is None
    assert decrease_before(curve([0.7, 0.8, 0.6]), "loss", 64) == pytest.approx(-1.0)
