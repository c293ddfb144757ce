"""Two arms on the same examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablate.stats.rates import paired_examples

counts = st.integers(0, 60)


def mcnemar_p(only_baseline: int, only_variant: int) -> float:
    """The p of one pair of runs, of which each gets so many examples right that the other gets wrong."""
    baseline = np.repeat([1.0, 0.0, 1.0], [only_baseline, only_variant, 5])[None]
    variant = np.repeat([0.0, 1.0, 1.0], [only_baseline, only_variant, 5])[None]
    return paired_examples(baseline, variant, np.arange(baseline.shape[1])).p_value


def test_only_examples_on_which_the_arms_disagree_count() -> None:
    baseline = np.asarray([1.0] * 50 + [0.0] * 10 + [1.0] * 2 + [0.0] * 9)[None]
    variant = np.asarray([1.0] * 50 + [0.0] * 10 + [0.0] * 2 + [1.0] * 9)[None]
    found = paired_examples(baseline, variant, np.arange(71))
    assert (found.examples, found.only_baseline, found.only_arm) == (71, 2, 9)
    assert found.p_value == pytest.approx(float(stats.binomtest(2, 11).pvalue))


@given(counts, counts)
def test_exchanging_the_arms_changes_nothing(left: int, right: int) -> None:
    assert mcnemar_p(left, right) == pytest.approx(mcnemar_p(right, left), abs=1e-12)
    assert 0 <= mcnemar_p(left, right) <= 1


def test_the_exact_p_never_passes_its_level() -> None:
    """How often it falls below .05 on examples that favour neither arm, over 10 to 60 of them."""
    exact = []
    for disagree in range(10, 61):
        probabilities = stats.binom.pmf(np.arange(disagree + 1), disagree, 0.5)
        exact.append(sum(probabilities[k] for k in range(disagree + 1) if mcnemar_p(k, disagree - k) <= 0.05))
    assert max(exact) <= 0.05
    assert np.mean(exact) < 0.035


def test_nothing_to_compare_is_no_evidence() -> None:
    assert mcnemar_p(0, 0) == 1.0
