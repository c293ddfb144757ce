"""What must hold of any judgement, whatever the values: laws of the whole judging, from values to verdicts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.analysis.contrasts import judge_together
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import decide, holm
from ablate.stats.dunnett import complete, critical_value, simultaneous_p
from ablate.stats.paired import beats
from ablate.stats.shapley import contributions
from ablate.stats.verdicts import Judgement, Table, judge

LOSS = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)
TURNED = {"helps": "hurts", "hurts": "helps", "raises": "lowers", "lowers": "raises"}
FIGURES = ("effect", "error", "low", "high", "inner_low", "inner_high", "p_value", "step_p", "own_p_value", "hedges_g")
IN_UNIT = ("effect", "error", "low", "high", "inner_low", "inner_high")

whole = st.integers(-400, 400).map(lambda k: k / 64)
tables = st.tuples(st.integers(2, 5), st.integers(2, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=whole)
)
"""[arms, seeds], the baseline first."""

seeded = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed))


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A table with spread and, of some variants, an effect of up to 4 sd, so that all verdicts occur."""
    arms, seeds = int(rng.integers(2, 7)), int(rng.integers(3, 9))
    values = rng.normal(size=(arms, seeds)) + rng.normal(size=seeds)
    values[1:] += (rng.choice([0.0, 1.5, -2.5, 4.0], size=arms - 1))[:, None]
    return np.asarray(values)


def figures(one: Judgement, names: tuple[str, ...] = FIGURES) -> list[float]:
    return [np.nan if getattr(one, name) is None else float(getattr(one, name)) for name in names]


def same(left: Table, right: Table) -> bool:
    return all(
        a.verdict == b.verdict
        and a.labels == b.labels
        and figures(a) == pytest.approx(figures(b), rel=1e-6, abs=1e-9, nan_ok=True)
        for a, b in zip(left.variants, right.variants, strict=True)
    )


@settings(max_examples=15)
@given(seeded)
def test_the_order_of_arms_and_seeds_changes_nothing(rng: np.random.Generator) -> None:
    values = drawn(rng)
    plain = judge(values, 0.5, True)
    arms, seeds = rng.permutation(len(values) - 1), rng.permutation(values.shape[1])
    again = judge(np.concatenate([values[:1], values[1:][arms]])[:, seeds], 0.5, True)
    back = Table(
        rho=again.rho,
        sd=again.sd,
        df=again.df,
        variants=tuple(again.variants[int(np.argwhere(arms == i)[0, 0])] for i in range(len(arms))),
    )
    assert same(plain, back)


@settings(max_examples=20)
@given(seeded)
def test_what_arms_and_seeds_are_called_changes_nothing(rng: np.random.Generator) -> None:
    values = drawn(rng)

    def told(names: list[str], seeds: list[int]) -> list[str]:
        rows = [dict(zip(seeds, row.tolist(), strict=True)) for row in values]
        found = judge_together(LOSS, rows[0], dict(zip(names, rows[1:], strict=True)), 0.5)
        return [found[name].judgement.verdict for name in names]

    count, runs = len(values) - 1, values.shape[1]
    plain = told([f"arm {k}" for k in range(count)], list(range(runs)))
    assert plain == told([f"{9 - k}" for k in range(count)], (1000 - np.arange(runs)).tolist())


@settings(max_examples=15)
@given(seeded)
def test_a_turned_sign_mirrors_effects_and_verdicts(rng: np.random.Generator) -> None:
    values = drawn(rng)
    for better in (True, None):
        plain, turned = judge(values, 0.5, better), judge(-values, 0.5, better)
        for a, b in zip(plain.variants, turned.variants, strict=True):
            assert b.verdict == TURNED.get(a.verdict, a.verdict)
            assert figures(b, ("effect", "low", "high")) == pytest.approx(
                [-x for x in figures(a, ("effect", "high", "low"))]
            )
            assert figures(b, ("p_value", "step_p")) == pytest.approx(figures(a, ("p_value", "step_p")))


@settings(max_examples=15)
@given(seeded, st.sampled_from([1e-6, 0.25, 3.0, 1e5]), st.sampled_from([-7.0, 0.0, 1000.0]))
def test_another_unit_scales_the_effects_and_leaves_the_verdicts(
    rng: np.random.Generator, factor: float, shift: float
) -> None:
    values = drawn(rng)
    plain, other = judge(values, 0.5, True), judge(factor * (values + shift), 0.5 * factor, True)
    for a, b in zip(plain.variants, other.variants, strict=True):
        assert (b.verdict, b.labels, b.seeds_needed) == (a.verdict, a.labels, a.seeds_needed)
        assert figures(b, IN_UNIT) == pytest.approx([factor * x for x in figures(a, IN_UNIT)], rel=1e-6)


@settings(max_examples=15)
@given(seeded)
def test_what_a_whole_seed_has_in_common_changes_nothing(rng: np.random.Generator) -> None:
    values = drawn(rng)
    both = values + 5 * rng.normal(size=values.shape[1])
    for a, b in zip(judge(values, 0.5, True).variants, judge(both, 0.5, True).variants, strict=True):
        assert (b.verdict, b.labels) == (a.verdict, a.labels)
        assert figures(b, IN_UNIT) == pytest.approx(figures(a, IN_UNIT), rel=1e-6, abs=1e-9)


@given(st.floats(0.1, 8), st.integers(2, 60), st.integers(1, 9))
def test_more_comparisons_never_make_a_claim_easier(statistic: float, df: int, variants: int) -> None:
    """At an equal residual: the intervals widen, and no p falls, with Dunnett as with Holm."""
    fewer, more = complete(variants), complete(variants + 1)
    assert simultaneous_p(statistic, df, more) >= simultaneous_p(statistic, df, fewer) - 1e-9
    assert critical_value(0.95, df, more) >= critical_value(0.95, df, fewer)
    p_values = np.linspace(0.001, 0.2, variants)
    assert np.all(holm(np.append(p_values, 0.5))[:variants] >= holm(p_values))


@settings(max_examples=12)
@given(seeded)
def test_by_steps_is_the_closed_test_of_all_families(rng: np.random.Generator) -> None:
    """A variant is decided by steps only if it is in every family of variants that it is a member of: so no false claim is
    made more often than with one step, and a variant that joins the table can only add families."""
    values = drawn(rng)
    found = decide(values)
    t, count = np.abs(found.effects) / found.errors, len(found.effects)
    for number, one in enumerate(judge(values).variants):
        families = [f for size in range(1, count + 1) for f in combinations(range(count), size) if number in f]
        closed = max(
            simultaneous_p(float(max(t[list(f)])), float(found.df[number]), complete(len(f))) for f in families
        )
        if found.differs[number]:
            assert closed < 0.05
        assert one.step_p == pytest.approx(closed, abs=1e-6)


@settings(max_examples=15)
@given(seeded, st.floats(0.01, 3), st.floats(1, 3))
def test_a_wider_margin_never_makes_no_effect_harder(rng: np.random.Generator, margin: float, factor: float) -> None:
    values = drawn(rng)
    narrow, wide = judge(values, margin, True), judge(values, margin * factor, True)
    for a, b in zip(narrow.variants, wide.variants, strict=True):
        assert a.verdict != "equivalent" or b.verdict == "equivalent"
        assert figures(a) == figures(b), "a margin decides; it measures nothing"


@settings(max_examples=20)
@given(seeded, st.integers(1, 4))
def test_shares_add_up_whatever_is_told(rng: np.random.Generator, keys: int) -> None:
    corners = rng.normal(size=(2**keys, int(rng.integers(2, 7)))) + 3 * rng.normal(size=(2**keys, 1))
    found = contributions([f"key {k}" for k in range(keys)], corners)
    assert found.interaction is not None
    assert sum(part.effect for part in (*found.alone, found.interaction)) == pytest.approx(found.total.effect)
    assert sum(part.effect for part in found.shapley) == pytest.approx(found.total.effect)
    assert sum(part.share or 0.0 for part in found.shapley) == pytest.approx(1.0)
    level = contributions([f"key {k}" for k in range(keys)], corners + 9 * rng.normal(size=corners.shape[1]))
    assert (level.significant, level.shapley_significant) == (found.significant, found.shapley_significant), (
        "a seed's own level is no part"
    )
    scaled = contributions([f"key {k}" for k in range(keys)], -4 * corners)
    assert (scaled.significant, scaled.shapley_significant) == (found.significant, found.shapley_significant)


@settings(max_examples=15)
@given(seeded)
def test_a_monotone_scale_keeps_what_is_read_from_ranks(rng: np.random.Generator) -> None:
    values = drawn(rng)
    plain = judge(values, None, True)
    for scale in (np.exp, lambda x: x**3, np.arctan):
        for row in values[1:]:
            assert beats(scale(values[0]), scale(row), True) == beats(values[0], row, True)
    for one, row in zip(plain.variants, values[1:], strict=True):
        assert one.signflip_p is not None
        if np.all(row > values[0]) or np.all(row < values[0]):
            assert one.signflip_p == pytest.approx(one.smallest_p), "all on one side is as far as it goes, on any scale"
        stretched = judge(np.stack([values[0], values[0] + 7 * (row - values[0])])).variants[0]
        assert stretched.signflip_p == pytest.approx(one.signflip_p)


@settings(max_examples=15)
@given(tables)
def test_a_verdict_is_never_at_odds_with_its_figures(values: np.ndarray) -> None:
    """Ties, equal arms and values without spread included."""
    for one in judge(values, 1.0, True).variants:
        if one.verdict in ("helps", "hurts"):
            assert one.effect is not None
            assert one.effect > 0 if one.verdict == "hurts" else one.effect < 0
            assert one.step_p is not None
            assert one.step_p < 0.05
            assert "STEP-DOWN" in one.labels or (one.low or 0.0) > 0 or (one.high or 0.0) < 0
        if one.verdict == "equivalent":
            assert one.inner_low is not None
            assert one.inner_high is not None
            assert -1 < one.inner_low < one.inner_high < 1
