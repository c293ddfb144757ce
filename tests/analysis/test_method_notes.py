"""What a report says of its own method, also where there is next to nothing to judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablate.analysis.summary import method, method_notes
from tests.report.made_up import contrast

ONE, TWO = contrast("batch_size=64"), contrast("train_test_ratio=4")


def test_a_table_of_variants_is_simultaneous_and_seed_blocked() -> None:
    assert method([ONE, TWO]) == "95% simultaneous intervals over 2 variants (Dunnett), seed-blocked"
    assert next(method_notes([ONE, TWO])) == (
        "95% simultaneous intervals over 2 variants (Dunnett), seed-blocked; residual sd 0.0075 nats with 4 degrees of "
        "freedom; the squared error of an effect is 70% pooled, the rest the arm's own; rho between arms over seeds 0.62"
    )


def test_one_variant_and_a_placebo_are_paired_t_tests() -> None:
    alone = [replace(one, method="own pairs", family=1) for one in (ONE, contrast("placebo"))]
    assert method(alone) == "95% t intervals, paired by seed"
    assert not any("no variants" in note for note in method_notes(alone))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"residual_df": 0, "residual_sd": None}, "; none yet, because no seed is left to estimate the residual"),
        ({"residual_df": 1, "rho": None}, "with 1 degree of freedom; the squared error"),
        ({"rho": None}, "; rho between arms over seeds not measured"),
        ({"residual_sd": None}, "; a residual without spread with 4 degrees of freedom"),
    ],
)
def test_what_could_not_be_measured_is_said(changes: dict[str, object], said: str) -> None:
    assert said in next(method_notes([replace(one, **changes) for one in (ONE, TWO)]))


@pytest.mark.parametrize(("seeds", "least"), [(1, "1.0"), (3, "0.25"), (5, "0.062")])
def test_below_six_seeds_the_exact_test_cannot_reach_five_percent(seeds: int, least: str) -> None:
    found = list(method_notes([replace(ONE, seeds=tuple(range(seeds)))]))[-1]
    assert f"cannot reach 0.05 with {seeds} seed" in found
    assert f"its smallest p is {least};" in found


def test_from_six_seeds_on_it_is_reported() -> None:
    found = list(method_notes([replace(ONE, seeds=tuple(range(6)), signflip_p=0.03125)]))
    assert found[-1] == "exact sign-flip p, one contrast at a time: batch_size=64 0.031"


def test_nothing_to_judge_says_nothing() -> None:
    assert list(method_notes([])) == []
