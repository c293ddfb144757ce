"""Which rows a tracker is sent, in which order, and under which names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ablate.records.layout import RunDir
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.tracking import rows as tracker_rows
from ablate.tracking.describe import describe_run
from ablate.tracking.rows import AXES, LogWindows, MergeBySteps, RecordRows, eval_rows
from tests.tracking.made_up import begin, columns, config, look, step

STEPS = [step(number) for number in range(1, 7)]


def test_every_step_is_a_row_with_every_x_axis() -> None:
    rows = list(LogWindows("1 steps", 64).rows(STEPS))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["seconds"] for row in rows] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert all(set(AXES) <= set(row) for row in rows)
    assert rows[2]["train/grad_norm"] == 50


@pytest.mark.parametrize("log_every", ["2 steps", "128 samples", "0.5 epochs"])
def test_a_window_is_the_same_in_every_unit(log_every: str) -> None:
    rows = list(LogWindows(log_every, 64).rows(STEPS))
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[1]["train/loss"] == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_a_spike_inside_a_window_is_not_lost() -> None:
    rows = list(LogWindows("2 steps", 64).rows(STEPS))
    assert rows[1]["train/grad_norm"] == 4
    assert rows[1]["train/grad_norm_max"] == 50


def test_windows_do_not_depend_on_how_the_steps_arrive() -> None:
    whole, pieces = LogWindows("4 steps", 64), LogWindows("4 steps", 64)
    at_once = list(whole.rows(STEPS, last=True))
    one_by_one = [row for one in STEPS for row in pieces.rows([one])] + list(pieces.rows([], last=True))
    assert at_once == one_by_one
    assert [row["step"] for row in at_once] == [4, 6]


def test_a_skipped_step_is_counted_and_its_norm_kept_as_it_is() -> None:
    (row,) = LogWindows("1 steps", 64).rows([step(1, applied=False, grad_norm=math.inf)])
    assert row["train/skipped_steps"] == 1
    assert row["train/grad_norm"] == math.inf


def test_what_an_import_could_not_tell_is_left_out() -> None:
    nothing = dict.fromkeys(
        ("samples", "epoch", "grad_norm", "clip_coefficient", "applied", "step_seconds", "group_norms")
    )
    (row,) = LogWindows("1 steps", 1).rows([step(3, **nothing)])
    assert row["step"] == 3
    assert row["train/loss"] == 1 / 3
    assert row["train/skipped_steps"] == 0
    assert not {"samples", "epoch", "train/grad_norm", "train/step_seconds"} & set(row)
    assert None not in row.values()


def test_group_norms_have_the_names_of_their_groups() -> None:
    named = step(1, group_norms=[1.0, 2.0], update_ratios=[0.1, 0.2])
    (row,) = LogWindows("1 steps", 64, groups=["head", "layer.0"]).rows([named])
    assert (row["train/group_norm/head"], row["train/group_norm/layer.0"]) == (1.0, 2.0)
    assert row["train/update_ratio/layer.0"] == 0.2
    (row,) = LogWindows("1 steps", 64).rows([named])
    assert row["train/group_norm/1"] == 2.0


def test_metrics_of_one_look_share_a_row() -> None:
    rows = eval_rows([look(0, "loss", 70.0), look(0, "accuracy", 50.0), look(4, "loss", 20.0, split="train")])
    assert [row["step"] for row in rows] == [0, 4]
    assert (rows[0]["eval/loss"], rows[0]["eval/accuracy"]) == (0.7, 0.5)
    assert rows[1]["eval/train/loss"] == 0.2
    assert rows[1]["seconds"] == 2.0


def test_a_step_and_its_look_are_one_row_however_they_arrive() -> None:
    """The look at step 4 comes after step 4 is on disk, and before step 5: the row waits for it."""
    trained = list(LogWindows("1 steps", 64).rows(STEPS))
    looked = eval_rows([look(0, "loss", 70.0), look(4, "loss", 20.0)])
    ordered = MergeBySteps()
    first = ordered.rows(trained[:4], looked[:1], 4)
    assert [row["step"] for row in first] == [0, 1, 2, 3]
    second = ordered.rows(trained[4:], looked[1:], 6)
    assert [row["step"] for row in second] == [4, 5]
    assert second[0]["eval/loss"] == 0.2
    assert second[0]["train/loss"] == 0.25
    assert [row["step"] for row in ordered.rows([], [], 6, ended=True)] == [6]


def test_a_look_inside_a_window_comes_before_the_windows_end() -> None:
    windows, ordered = LogWindows("4 steps", 64), MergeBySteps()
    first = ordered.rows(list(windows.rows(STEPS[:3])), eval_rows([look(2, "loss", 1.0)]), 3)
    rest = ordered.rows(list(windows.rows(STEPS[3:], last=True)), [], 6, ended=True)
    assert [row["step"] for row in [*first, *rest]] == [2, 4, 6]


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_rows_do_not_depend_on_the_size_of_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(tracker_rows, "_MAX_ROWS", at_once)
    run = begin(tmp_path, config(log_every="4 steps"))
    with TableWriter(run.trace, TRACE) as trace, TableWriter(run.evals, EVALS) as evals:
        for row in STEPS:
            trace.write(columns([row]))
        evals.write(columns([look(0, "loss", 1.0), look(5, "loss", 1.0), look(6, "loss", 1.0)]))
    source = RecordRows(describe_run(run, "offline"))
    assert [row["step"] for piece in source.rows(ended=True) for row in piece] == [0, 4, 5, 6]


def test_a_variant_is_grouped_by_study_and_tagged_with_axis_and_level(tmp_path: Path) -> None:
    told = describe_run(begin(tmp_path, config()), "offline")
    assert (told.study, told.arm, told.name) == ("reference", "batch_size=64", "batch_size=64/seed=2")
    assert told.tags == ("batch_size", "batch_size=64")
    assert (told.axis, told.level, told.seed) == ("batch_size", "64", 2)


@pytest.mark.parametrize("arm", ["baseline", "placebo"])
def test_an_arm_without_a_level_has_one_tag(tmp_path: Path, arm: str) -> None:
    run = begin(tmp_path, config())
    run.config.write_text(run.config.read_text().replace("arm: batch_size=64", f"arm: {arm}"))
    assert describe_run(run, "offline").tags == (arm,)


def test_a_long_level_does_not_exceed_the_length_that_wandb_takes(tmp_path: Path) -> None:
    run = begin(tmp_path, config())
    run.config.write_text(run.config.read_text().replace("arm: batch_size=64", f"arm: name={'x' * 300}"))
    assert max(map(len, describe_run(run, "offline").tags)) == 64


def test_a_run_of_another_loop_is_told_by_where_it_lies(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "mine" / "lr=1" / "seed=3")
    run.path.mkdir(parents=True)
    run.config.write_text("lr: 1.0\n")
    run.manifest.write_text('{"arm": "lr=1", "seed": 3, "started": "2026-01-01T00:00:00+00:00"}')
    told = describe_run(run, "offline")
    assert (told.study, told.arm, told.seed, told.tracker.name) == ("mine", "lr=1", 3, "none")
    assert told.config == {"lr": 1.0}
