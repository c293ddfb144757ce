"""The statistics against R, scipy and statsmodels: values and scripts in reference/, with versions and date."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.stats.contrasts import decide, holm, judge
from ablate.stats.crossed import crossed
from ablate.stats.dunnett import complete, critical_value, simultaneous_p
from ablate.stats.effect_size import hedges_g, hedges_g_paired
from ablate.stats.equivalence import tost_p
from ablate.stats.factorial import Factorial, factorial
from ablate.stats.linear_model import blocked, variance_ratios
from ablate.stats.paired import own_pairs
from ablate.stats.rates import divergence, mcnemar_p, rate_interval
from ablate.stats.sequential import look_levels
from ablate.stats.sign_flip import signflip_p
from ablate.stats.variance_components import decompose

HERE = Path(__file__).parent / "reference"
EXACT = {"rel": 1e-6, "abs": 1e-9}
DRAWN = {"abs": 3e-4}
"""R's multcomp draws its multivariate t at random; its own error estimate is 1e-5 to 1e-4."""


def rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def blocks(layout: str) -> np.ndarray:
    values = np.full((4, 6), np.nan)
    for row in rows("blocks.csv"):
        if row["layout"] == layout:
            values[int(row["arm"]), int(row["seed"])] = float(row["value"])
    return values


def table(source: str, quantity: str) -> list[tuple[str, str, float]]:
    return [
        (row["case"], row["item"], float(row["value"]))
        for row in rows(f"reference_{source}.csv")
        if row["quantity"] == quantity
    ]


def check(source: str, quantity: str, ours: Callable[[str, str], float], tolerance: dict[str, float]) -> None:
    found = table(source, quantity)
    assert found, f"no {quantity} in the table of {source}"
    for case, item, value in found:
        assert ours(case, item) == pytest.approx(value, **tolerance), f"{quantity}, {case}, {item}"


@pytest.mark.parametrize("quantity", ["effect", "error"])
def test_the_blocked_model_is_that_of_lm(quantity: str) -> None:
    check("R", quantity, lambda case, item: float(getattr(blocked(blocks(case)), f"{quantity}s")[int(item) - 1]), EXACT)


def test_residual_and_correlations_are_those_of_lm() -> None:
    check("R", "df", lambda case, _: float(blocked(blocks(case)).df), EXACT)
    check("R", "sd", lambda case, _: float(blocked(blocks(case)).sd), EXACT)
    check(
        "R",
        "correlation",
        lambda case, item: float(blocked(blocks(case)).correlation[int(item[0]) - 1, int(item[1]) - 1]),
        EXACT,
    )


def test_the_variance_ratio_is_that_of_two_nested_models() -> None:
    check("R", "variance_ratio", lambda case, item: float(variance_ratios(blocks(case))[0][int(item)]), EXACT)


def test_dunnett_critical_values_are_those_of_a_double_integral() -> None:
    def ours(case: str, _: str) -> float:
        variants, df = case.split("_")
        return critical_value(0.95, float(df), complete(int(variants)))

    check("R", "dunnett_value", ours, EXACT)


def test_dunnett_tails_are_those_of_a_double_integral() -> None:
    def ours(case: str, _: str) -> float:
        variants, df, rho = case.split("_")
        k = int(variants)
        return simultaneous_p(3.0, float(df), float(rho) * np.ones((k, k)) + (1 - float(rho)) * np.eye(k))

    check("R", "dunnett_tail", ours, EXACT)


def test_adjusted_p_and_intervals_are_those_of_multcomp() -> None:
    """The incomplete layout's correlation is no product: both sides approximate it."""
    check("R", "dunnett_p", lambda case, item: judge(blocks(case)).variants[int(item) - 1].p_value or -1.0, DRAWN)
    check("R", "dunnett_low", lambda case, item: float(decide(blocks(case)).low[int(item) - 1]), DRAWN)
    check("R", "dunnett_high", lambda case, item: float(decide(blocks(case)).high[int(item) - 1]), DRAWN)


def test_a_one_way_layout_gives_scipys_dunnett() -> None:
    p_values = {item: value for _, item, value in table("python", "one_way_p")}
    for _, item, statistic in table("python", "one_way_statistic"):
        assert simultaneous_p(statistic, 16, complete(3)) == pytest.approx(p_values[item], **DRAWN)


@pytest.mark.parametrize("source", ["R", "python"])
def test_holm_keeps_the_order_given(source: str) -> None:
    ours = holm(np.asarray([0.04, 0.001, 0.02, 0.3, 0.011]))
    check(source, "holm", lambda _, item: float(ours[int(item) - 1]), EXACT)


def differences(item: str) -> np.ndarray:
    values = blocks("complete")
    return values[int(item)] - values[0]


@pytest.mark.parametrize("source", ["R", "python"])
def test_signs_equivalence_and_pairs(source: str) -> None:
    def equivalent(_: str, item: str) -> float:
        d = differences(item)
        return tost_p(float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d))), len(d) - 1, 0.12)

    check(source, "signflip", lambda _, item: signflip_p(differences(item)), EXACT)
    check(source, "tost", equivalent, EXACT)
    check(source, "paired_p", lambda _, item: float(own_pairs(blocks("complete")).p_values[int(item) - 1]), EXACT)


def test_hedges_g() -> None:
    def ours(case: str, item: str) -> float:
        values = blocks("complete")
        return hedges_g(values[0], values[int(item)]) if case == "pooled" else hedges_g_paired(differences(item))

    check("R", "hedges_g", ours, EXACT)


@pytest.mark.parametrize("source", ["R", "python"])
def test_counts(source: str) -> None:
    def fisher(case: str, _: str) -> float:
        left, right, runs = (int(part) for part in case.split("_"))
        diverged = np.asarray([[seed < left for seed in range(runs)], [seed < right for seed in range(runs)]])
        return divergence(diverged)[0].p_value

    def mcnemar(case: str, _: str) -> float:
        b, c = (int(part) for part in case.split("_"))
        return mcnemar_p(b, c)

    def rate(case: str, item: str) -> float:
        count, runs = (int(part) for part in case.split("_"))
        return rate_interval(count, runs)[int(item) - 1]

    check(source, "mcnemar", mcnemar, EXACT)
    check(source, "fisher", fisher, EXACT)
    check(source, "rate", rate, EXACT)


def design(name: str) -> Factorial:
    names = ["a", "b", "c"] if name == "two" else ["a", "b"]
    runs = [row for row in rows("factorial.csv") if row["design"] == name]
    cells = sorted({tuple(int(row[factor]) for factor in names) for row in runs})
    values = np.full((len(cells), 1 + max(int(row["seed"]) for row in runs)), np.nan)
    for row in runs:
        values[cells.index(tuple(int(row[factor]) for factor in names)), int(row["seed"])] = float(row["value"])
    found = factorial(values, np.asarray(cells), names)
    assert found is not None
    return found


def test_factorial_effects_are_those_of_lm() -> None:
    check("R", "factorial_effect", lambda case, item: design(case).effects[int(item) - 1].effect, EXACT)
    check("R", "factorial_error", lambda case, item: design(case).effects[int(item) - 1].error, EXACT)
    check("R", "factorial_df", lambda case, _: float(design(case).df), EXACT)
    check("R", "factorial_f", lambda case, item: design(case).terms[int(item) - 1].f, EXACT)


def test_two_crossed_sources_are_those_of_lme4() -> None:
    values = np.empty((5, 8))
    for row in rows("crossed.csv"):
        values[int(row["row"]), int(row["column"])] = float(row["value"])
    split, mean = decompose(values), crossed(values)
    assert split is not None
    assert mean is not None
    ours = {"row": split.init.estimate, "column": split.order.estimate, "rest": split.rest.estimate}
    iterated = {"rel": 2e-4}  # lme4 stops its search there; the mean squares are exact
    check("R", "component", lambda case, _: ours[case], iterated)
    check("R", "crossed_mean", lambda *_: mean.effect, EXACT)
    check("R", "crossed_error", lambda *_: mean.error, iterated)


def test_boundaries_are_those_of_the_multivariate_normal() -> None:
    def ours(case: str, item: str) -> float:
        levels = look_levels([2, 4, 6, 8, 10], "pocock" if case == "pocock" else "obrien_fleming", alpha=0.05)
        return float(stats.norm.isf((1 - levels[int(item) - 1]) / 2))

    check("R", "boundary", ours, {"abs": 1e-4})


def test_every_table_says_where_it_comes_from() -> None:
    for source in ("R", "python"):
        head = [line for line in (HERE / f"reference_{source}.csv").read_text().splitlines() if line.startswith("#")]
        assert len(head) >= 4
        assert any(line[2:6].isdigit() for line in head), "a date"
