"""Which stream of chance makes runs differ: shares, how sure they are, controls, refusals, and what is advised."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from ablate.analysis.design_results import VarianceStudy
from ablate.analysis.results import RunReading
from ablate.analysis.variance_components import variance_study
from ablate.controls.control import Control
from ablate.controls.took_effect import streams_crossed
from ablate.design.designs import TwoStreams
from ablate.design.plan import Plan
from ablate.metrics.metric import MetricInfo
from ablate.records.metadata import Fingerprint
from ablate.serialization import built
from ablate.stats.variance_components import detectable_share, share_intervals
from tests.synthetic import make_plan

METRIC = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)
TABLE = TwoStreams(streams=(("init",), ("order", "dropout")), draws=6)


def drawn(rng: np.random.Generator, draws: int, init: float, order: float, rest: float) -> np.ndarray:
    values = init * rng.normal(size=(draws, 1)) + order * rng.normal(size=(1, draws))
    return np.asarray(values + rest * rng.normal(size=(draws, draws)))


@pytest.mark.parametrize(("init", "order"), [
    (1.0, 1.0), pytest.param(0.5, 2.0, marks=pytest.mark.slow), pytest.param(2.0, 0.0, marks=pytest.mark.slow),
])  # fmt: skip
def test_the_shares_intervals_hold_the_truth(init: float, order: float) -> None:
    rng, total = np.random.default_rng(17), init**2 + order**2 + 1
    found = [share_intervals(drawn(rng, 6, init, order, 1.0)) for _ in range(300)]
    for number, truth in enumerate((init**2 / total, order**2 / total, 1 / total)):
        covered = np.mean([one[number][0] <= truth <= one[number][1] for one in found])
        assert covered >= 0.92, (number, covered)
        assert np.mean([one[number][1] - one[number][0] for one in found]) < 0.9, "they say something"


def test_what_is_said_to_be_seen_is_seen() -> None:
    """With the share from which on a stream is shown in four of five studies, it is."""
    rng, share = np.random.default_rng(3), detectable_share(6)
    ratio = (share / (1 - share)) ** 0.5
    shown = [study(drawn(rng, 6, ratio, 0.0, 1.0)).of[0].shown for _ in range(150)]
    assert np.mean([one == "init" for one in shown]) == pytest.approx(0.8, abs=0.1)
    assert detectable_share(4) > detectable_share(6) > detectable_share(12)


def a_plan() -> Plan:
    plan = make_plan("x", arms=(), seeds=1, metric="eval_loss", smallest_effect=0.01)
    return replace(plan, design=TABLE)


def study(values: np.ndarray, checks: tuple[Control, ...] = ()) -> VarianceStudy:
    common: dict[str, Any] = {"sentence": "", "weights_sha256": None, "throughput": {}, "status": "finished", "seed": 0}
    readings = [
        RunReading(arm=arm, folder=arm, values={"eval_loss": float(values[cell])}, **common)
        for arm, cell in TABLE.cells().items()
        if np.isfinite(values[cell])
    ]
    found = variance_study(a_plan(), [METRIC], readings, checks)
    assert found is not None
    return found


def test_the_sentence_names_the_stream_that_makes_the_noise_and_what_was_held() -> None:
    found = study(0.01 * drawn(np.random.default_rng(2), 6, 0.1, 3.0, 1.0))
    assert found.of[0].shown == "order+dropout"
    assert found.sentence.startswith("Of the variance of eval_loss between runs (sd 0.0")
    first, second = (found.sentence.index(f"from {name}") for name in ("order+dropout", "init"))
    assert first < second, "the larger one first"
    assert found.sentence.endswith("augment, noise and labels were held fixed.")
    assert "Average over order+dropout" in found.advice
    assert "init does not add variance significantly" in found.advice
    assert sum(part.share for part in found.of[0].parts) == pytest.approx(1)


def test_where_nothing_is_shown_nothing_is_singled_out() -> None:
    found = study(drawn(np.random.default_rng(5), 6, 0.0, 0.0, 1.0))
    assert found.of[0].shown is None
    assert "No stream adds variance significantly" in found.advice
    assert "44% or more" in found.advice


def test_nothing_is_divided_where_a_run_is_missing_a_control_failed_or_a_stream_draws_nothing() -> None:
    values = drawn(np.random.default_rng(1), 6, 1.0, 1.0, 1.0)
    broken = Control(arm="init1_order-dropout0", name="matched", status="failed", sentence="order differs")
    assert "the control `matched` of init1_order-dropout0 failed" in study(values, (broken,)).refused
    still = np.repeat(values[:1], 6, axis=0)
    assert "init does not change eval_loss" in study(still).refused
    values[2, 3] = np.nan
    found = study(values)
    assert "35 of 36 runs have a value" in found.refused
    assert found.of == ()
    assert "its variance is not divided" in found.sentence


def test_arms_are_cells_and_each_moves_its_streams_alone() -> None:
    cells = TABLE.cells()
    assert len(cells) == 36
    assert cells["baseline"] == (0, 0)
    axes = {axis.name: axis for axis in TABLE.axes()}
    assert axes["init2_order-dropout0"].values[0] == {"random_streams.init": 2000}
    assert "order" in axes["init2_order-dropout0"].must_match
    assert axes["init0_order-dropout1"].values[0] == {"random_streams.order": 1000, "random_streams.dropout": 1000}
    assert "init" in axes["init0_order-dropout1"].must_match
    assert built(TwoStreams, json.loads(json.dumps(asdict(TABLE)))) == TABLE


def prints(cells: dict[str, tuple[int, ...]], **odd: dict[str, Any]) -> dict[str, Fingerprint]:
    return {
        arm: Fingerprint(items={"init": {"x": i}, "order": {"8": j}, "data": "d"} | odd.get(arm, {}))
        for arm, (i, j) in cells.items()
    }


def test_streams_are_as_they_were_drawn() -> None:
    cells = TABLE.cells()
    good = streams_crossed("baseline", TABLE.streams, cells, prints(cells))
    assert good is not None
    assert good.status == "checked"
    assert good.sentence.endswith("dropout leaves nothing that could be compared")
    assert streams_crossed("baseline", TABLE.streams, cells, {}) is None


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"order": {"8": 77}}, "order: init0_order-dropout2 and init4_order-dropout2 have one draw of it and differ"),
        ({"init": {"x": 3}}, "have two draws of it and are equal in it"),
    ],
)
def test_a_stream_that_was_drawn_otherwise_is_found(odd: dict[str, Any], says: str) -> None:
    """Against the baseline alone both would pass: they differ from it, as they may."""
    cells = TABLE.cells()
    found = streams_crossed("baseline", TABLE.streams, cells, prints(cells, **{"init4_order-dropout2": odd}))
    assert found is not None
    assert found.status == "failed"
    assert says in found.sentence


def test_a_stream_that_nobody_named_must_not_differ() -> None:
    only = TwoStreams(streams=(("order",), ("dropout",)), draws=2)
    cells = only.cells()
    ones = {arm: Fingerprint(items={"init": {"x": 0}, "order": {"8": i}}) for arm, (i, _) in cells.items()}
    ones["order1_dropout1"].items["init"] = {"x": 9}
    found = streams_crossed("baseline", only.streams, cells, ones)
    assert found is not None
    assert "nothing was to vary it" in found.sentence
