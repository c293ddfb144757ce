"""`ablate plan` and `ablate axes` on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from ablate.report import print_axes, print_plan
from ablate.report.listing import Forecast
from tests.report.conftest import Study


def plan_text(study: Study, forecast: Forecast) -> str:
    file = io.StringIO()
    print_plan(study.plan, forecast, Console(file=file, width=80))
    assert max(len(line.rstrip()) for line in file.getvalue().splitlines()) <= 80
    return " ".join(file.getvalue().split())


def test_a_plan_lists_changes_what_comes_with_them_and_the_time(study: Study) -> None:
    done = frozenset({("baseline", 0), ("baseline", 1), ("baseline", 2)})
    seconds = {arm.name: 80.0 for arm in study.plan.arms}
    text = plan_text(study, Forecast(done=done, seconds=seconds, slots=2, basis="finished runs of this study"))
    assert "data.batch_size 8 → 64" in text
    assert "total_steps 128 → 16" in text
    assert "free: replayed" in text
    assert "9 to do, 3 done, 9 free" in text
    assert "about 6 min, 2 runs at a time, from finished runs of this study" in text


def test_without_an_estimate_it_says_where_one_will_come_from(study: Study) -> None:
    assert "no estimate yet" in plan_text(study, Forecast())


def test_a_finished_plan_has_nothing_to_run(study: Study) -> None:
    done = frozenset((run.arm, run.seed) for run in study.plan.runs)
    text = plan_text(study, Forecast(done=done))
    assert "0 to do, 12 done" in text
    assert "nothing to run" in text


def test_one_long_run_bounds_the_time_from_below(study: Study) -> None:
    seconds = {arm.name: 1.0 for arm in study.plan.arms} | {"placebo": 6000.0}
    done = frozenset((run.arm, run.seed) for run in study.plan.runs if (run.arm, run.seed) != ("placebo", 0))
    assert "about 1 h 40 min, 1 run at a time" in plan_text(study, Forecast(done=done, seconds=seconds, slots=8))


def test_axes_are_listed_with_levels_and_question(study: Study) -> None:
    file = io.StringIO()
    print_axes(study.plan.axes, Console(file=file, width=80))
    text = " ".join(file.getvalue().split())
    assert "batch_size 64 Does a larger batch calm the gradient" in text
