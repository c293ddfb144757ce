"""Which rows W&B is sent, and under which names."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
from ablate.study.follow import AXES, Windows, describe, eval_rows

from ablate.record.rundir import RunDir
from tests.track.made_up import config, look, step

STEPS = [step(number) for number in range(1, 7)]


def test_every_step_is_a_row_with_every_x_axis() -> None:
    rows = list(Windows("1 steps", 64).rows(STEPS))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["seconds"] for row in rows] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert all(set(AXES) <= set(row) for row in rows)
    assert rows[2]["train/grad_norm"] == 50


@pytest.mark.parametrize("log_every", ["2 steps", "128 samples", "0.5 epochs"])
def test_a_window_is_the_same_in_every_unit(log_every: str) -> None:
    rows = list(Windows(log_every, 64).rows(STEPS))
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[1]["train/loss"] == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_a_spike_inside_a_window_is_not_lost() -> None:
    rows = list(Windows("2 steps", 64).rows(STEPS))
    assert rows[1]["train/grad_norm"] == 4
    assert rows[1]["train/grad_norm_max"] == 50


def test_windows_do_not_depend_on_how_the_steps_arrive() -> None:
    whole, pieces = Windows("4 steps", 64), Windows("4 steps", 64)
    at_once = list(whole.rows(STEPS, last=True))
    one_by_one = [row for one in STEPS for row in pieces.rows([one])] + list(pieces.rows([], last=True))
    assert at_once == one_by_one
    assert [row["step"] for row in at_once] == [4, 6]


def test_a_skipped_step_is_counted_and_its_norm_kept_as_it_is() -> None:
    (row,) = Windows("1 steps", 64).rows([step(1, applied=False, grad_norm=math.inf)])
    assert row["train/skipped_steps"] == 1
    assert row["train/grad_norm"] == math.inf


def test_metrics_of_one_look_share_a_row() -> None:
    rows = eval_rows([look(0, "loss", 70.0), look(0, "accuracy", 50.0), look(4, "loss", 20.0, split="train")])
    assert [row["step"] for row in rows] == [0, 4]
    assert (rows[0]["eval/loss"], rows[0]["eval/accuracy"]) == (0.7, 0.5)
    assert rows[1]["eval/train/loss"] == 0.2
    assert rows[1]["seconds"] == 2.0


def test_a_variant_is_grouped_by_study_and_tagged_with_axis_and_level() -> None:
    run = RunDir(Path("runs/reference/batch_size=64/seed=2"))
    described = describe(run, asdict(config()))
    assert described["group"] == "reference"
    assert described["job_type"] == "batch_size=64"
    assert described["name"] == "batch_size=64/seed=2"
    assert described["tags"] == ["batch_size", "batch_size=64"]


@pytest.mark.parametrize("arm", ["baseline", "placebo"])
def test_an_arm_without_a_level_has_one_tag(arm: str) -> None:
    described = describe(RunDir(Path(f"runs/reference/{arm}/seed=0")), asdict(config()) | {"arm": arm})
    assert described["tags"] == [arm]


def test_a_long_level_does_not_exceed_the_length_that_wandb_takes() -> None:
    described = describe(RunDir(Path("runs/a/b/seed=0")), asdict(config()) | {"arm": "name=" + "x" * 300})
    assert max(map(len, described["tags"])) == 64
    assert len(described["job_type"]) == 64
