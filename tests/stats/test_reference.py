"""The statistics against R, scipy and statsmodels: values and scripts in reference/, with versions and date."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.stats.contrasts import Decisions, decide, holm, variance_ratios
from ablate.stats.dunnett import complete, critical_value, simultaneous_p
from ablate.stats.example_variance import widened
from ablate.stats.factorial import Term, effect_weights, term_tests
from ablate.stats.linear_model import blocked
from ablate.stats.paired import hedges_g, paired_t, signflip_p
from ablate.stats.rates import divergence, rate_interval, sign_flips
from ablate.stats.sequential import interim_confidences
from ablate.stats.variance_components import decompose
from tests.stats.least_squares import Factorial, factorial

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
    complete_only = [one for one in table("R", "variance_ratio") if one[0] == "complete"]
    assert len(complete_only) == 4
    for case, item, value in complete_only:
        assert float(variance_ratios(blocks(case))[0][int(item)]) == pytest.approx(value, **EXACT)


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


def test_pooled_p_and_intervals_are_those_of_multcomp() -> None:
    """The incomplete layout's correlation is no product: both sides approximate it."""

    def limit(case: str, item: str, side: int) -> float:
        pool = blocked(blocks(case))
        half = critical_value(0.95, float(pool.df), pool.correlation) * pool.errors
        return float((pool.effects + side * half)[int(item) - 1])

    def p_value(case: str, item: str) -> float:
        pool = blocked(blocks(case))
        statistic = float((pool.effects / pool.errors)[int(item) - 1])
        return simultaneous_p(statistic, float(pool.df), pool.correlation)

    check("R", "dunnett_p", p_value, DRAWN)
    check("R", "dunnett_low", lambda case, item: limit(case, item, -1), DRAWN)
    check("R", "dunnett_high", lambda case, item: limit(case, item, 1), DRAWN)


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
    check(source, "signflip", lambda _, item: signflip_p(differences(item)), EXACT)
    check(source, "paired_p", lambda _, item: float(paired_t(differences(item)).p_values), EXACT)
    for _, item, p_value in table(source, "tost"):
        found = decide(blocks("complete")[[0, int(item)]], 0.12, confidence=1 - p_value)
        reach = max(-float(found.inner_low[0]), float(found.inner_high[0]))
        assert reach == pytest.approx(0.12, **EXACT), "the interval at this level just reaches the margin"


def test_hedges_g() -> None:
    def ours(_: str, item: str) -> float:
        values = blocks("complete")
        return hedges_g(values[0], values[int(item)])

    check("R", "hedges_g", ours, EXACT)


@pytest.mark.parametrize("source", ["R", "python"])
def test_counts(source: str) -> None:
    def fisher(case: str, _: str) -> float:
        left, right, runs = (int(part) for part in case.split("_"))
        diverged = np.asarray([[seed < left for seed in range(runs)], [seed < right for seed in range(runs)]])
        return divergence(diverged)[0].p_value

    def mcnemar(case: str, _: str) -> float:
        b, c = (int(part) for part in case.split("_"))
        return sign_flips(np.repeat([-1, 1], [b, c]))

    def rate(case: str, item: str) -> float:
        count, runs = (int(part) for part in case.split("_"))
        return rate_interval(count, runs)[int(item) - 1]

    check(source, "mcnemar", mcnemar, EXACT)
    check(source, "fisher", fisher, EXACT)
    check(source, "rate", rate, EXACT)


Design = tuple[np.ndarray, np.ndarray, list[str]]


def design(name: str) -> Design:
    """Values [cells, seeds], the cells' levels and the factors' names."""
    names = ["a", "b", "c"] if name == "two" else ["a", "b"]
    runs = [row for row in rows("factorial.csv") if row["design"] == name]
    cells = sorted({tuple(int(row[factor]) for factor in names) for row in runs})
    values = np.full((len(cells), 1 + max(int(row["seed"]) for row in runs)), np.nan)
    for row in runs:
        values[cells.index(tuple(int(row[factor]) for factor in names)), int(row["seed"])] = float(row["value"])
    return values, np.asarray(cells), names


def least_squares(name: str) -> Factorial:
    return factorial(*design(name))


def saturated(name: str) -> tuple[Decisions, tuple[Term, ...]]:
    """The contrast engine, with every interaction of the design."""
    values, grid, names = design(name)
    terms = [term for size in range(1, len(names) + 1) for term in combinations(names, size)]
    effects = effect_weights(grid, names, terms)
    found = decide(values, weights=effects.weights)
    return found, term_tests(found, effects, terms)


def test_factorial_effects_are_those_of_lm() -> None:
    """The model of R has interactions up to two factors: all of them in the design of two factors, which the engine fits."""
    check("R", "factorial_effect", lambda case, item: least_squares(case).effects[int(item) - 1].effect, EXACT)
    check("R", "factorial_error", lambda case, item: least_squares(case).effects[int(item) - 1].error, EXACT)
    check("R", "factorial_df", lambda case, _: float(least_squares(case).df), EXACT)
    check("R", "factorial_f", lambda case, item: least_squares(case).terms[int(item) - 1].f, EXACT)
    engine, tests = saturated("three")
    theirs = {
        name: [x for case, _, x in table("R", f"factorial_{name}") if case == "three"] for name in ("effect", "f")
    }
    assert engine.effects == pytest.approx(theirs["effect"], **EXACT)
    assert [term.f for term in tests] == pytest.approx(theirs["f"], **EXACT)


@pytest.mark.parametrize("name", ["two", "three"])
def test_the_engine_is_least_squares_with_every_interaction(name: str) -> None:
    expected, (found, tests) = factorial(*design(name), order=3), saturated(name)
    assert found.effects == pytest.approx([one.effect for one in expected.effects], **EXACT)
    assert found.pool.errors == pytest.approx([one.error for one in expected.effects], **EXACT)
    assert (int(found.pool.df), float(found.pool.sd)) == (expected.df, pytest.approx(expected.sd, **EXACT))
    assert [(term.factors, term.df) for term in tests] == [(term.factors, term.df) for term in expected.terms]
    assert [term.f for term in tests] == pytest.approx([term.f for term in expected.terms], **EXACT)
    assert [term.p_value for term in tests] == pytest.approx([term.p_value for term in expected.terms], **EXACT)


def test_two_crossed_sources_are_those_of_lme4() -> None:
    values = np.empty((5, 8))
    for row in rows("crossed.csv"):
        values[int(row["row"]), int(row["column"])] = float(row["value"])
    means = values.mean(axis=1)
    split, mean = decompose(values), widened(values, float(means.std(ddof=1) / len(means) ** 0.5), len(means) - 1)
    assert split is not None
    ours = {"row": split.init.estimate, "column": split.order.estimate, "rest": split.rest.estimate}
    iterated = {"rel": 2e-4}  # lme4 stops its search there; the mean squares are exact
    check("R", "component", lambda case, _: ours[case], iterated)
    check("R", "crossed_mean", lambda *_: float(values.mean()), EXACT)
    check("R", "crossed_error", lambda *_: mean.error, iterated)


def test_boundaries_are_those_of_the_multivariate_normal() -> None:
    def ours(case: str, item: str) -> float:
        levels = interim_confidences([2, 4, 6, 8, 10], "pocock" if case == "pocock" else "obrien_fleming", alpha=0.05)
        return float(stats.norm.isf((1 - levels[int(item) - 1]) / 2))

    check("R", "boundary", ours, {"abs": 1e-4})


def test_every_table_says_where_it_comes_from() -> None:
    for source in ("R", "python"):
        head = [line for line in (HERE / f"reference_{source}.csv").read_text().splitlines() if line.startswith("#")]
        assert len(head) >= 4
        assert any(line[2:6].isdigit() for line in head), "a date"
