"""One definition of a metric's better side: the loop's and the Recorder's `best` agree with the analysis for every word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablate import Evaluation, Recorder
from ablate.metric_direction import HIGHER, LOWER, lower_is_better
from ablate.metrics.registry import get_metric
from ablate.records.layout import RunDir
from ablate.records.metadata import read_status
from tests.training.toy import network, points, run

CURVE = (2.0, 1.0, 3.0, 2.5)
"""Value of every metric at four evaluations; the lowest is the second, the highest the third."""
METRICS = (*LOWER, *HIGHER, "token_error", "top5-accuracy", "word wer")
EXPECTED = {name: {"value": 1.0 if lower_is_better(name) else 3.0, "step": 8 if lower_is_better(name) else 16}
            for name in METRICS}  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "side"),
    [("loss", True), ("token_error", True), ("top5-accuracy", False), ("loss_score", None), ("x", None)],
)
def test_the_better_side_is_told_by_the_words_of_a_name_that_do_not_contradict(metric: str, side: bool | None) -> None:
    assert lower_is_better(metric) is side


def test_the_expected_values_cover_both_sides() -> None:
    assert len(LOWER) == len(HIGHER) == 12
    assert {best["step"] for best in EXPECTED.values()} == {8, 16}


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_registry_has_the_same_better_side(metric: str) -> None:
    name = f"best_eval_{metric}".replace(" ", "_")
    assert get_metric(name).info.lower_is_better is lower_is_better(metric)


def test_best_of_the_loop_is_the_better_value_of_every_metric(tmp_path: Path) -> None:
    evaluations = iter(CURVE)

    def measure(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        value = next(evaluations)
        return {name: torch.full((len(batch[0]),), value) for name in (*METRICS, "distance")}

    evaluation = Evaluation(points(8), measure, every="64 samples", batch_size=8)
    _, result = run(evaluation=evaluation, budget="192 samples", run_dir=tmp_path / "run")
    assert result.status.best == EXPECTED
    written = read_status(RunDir(tmp_path / "run"))
    assert written is not None
    assert written.best == EXPECTED


def test_best_of_the_recorder_is_the_better_value_of_every_metric(tmp_path: Path) -> None:
    model, folder = network(), tmp_path / "study" / "baseline" / "seed=0"
    with Recorder(folder, model) as recorder:
        for number, value in enumerate(CURVE):
            recorder.log_eval({name: torch.full((4,), value) for name in (*METRICS, "distance")})
            for _ in range(8 if number < len(CURVE) - 1 else 0):
                loss = model(torch.ones(2, 10)).square().mean()
                loss.backward()
                recorder.log_step(loss, samples=2, learning_rate=0.1)
                model.zero_grad()
    written = read_status(RunDir(folder))
    assert written is not None
    assert written.best == EXPECTED
