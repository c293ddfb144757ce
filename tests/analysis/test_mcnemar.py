"""Two arms on the same examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablate.stats.rates import agreement, mcnemar_mid_p, mcnemar_p

counts = st.integers(0, 60)


def test_only_examples_on_which_the_arms_disagree_count() -> None:
    baseline = np.asarray([True] * 50 + [False] * 10 + [True] * 2 + [False] * 9)
    variant = np.asarray([True] * 50 + [False] * 10 + [False] * 2 + [True] * 9)
    found = agreement(baseline, variant)
    assert (found.both, found.only_baseline, found.only_variant, found.neither) == (50, 2, 9, 10)
    assert found.p_value == pytest.approx(float(stats.binomtest(2, 11).pvalue))
    assert found.mid_p < found.p_value


@given(counts, counts)
def test_exchanging_the_arms_changes_nothing(left: int, right: int) -> None:
    assert mcnemar_p(left, right) == mcnemar_p(right, left)
    assert mcnemar_mid_p(left, right) == mcnemar_mid_p(right, left)
    assert 0 <= mcnemar_mid_p(left, right) <= mcnemar_p(left, right) <= 1


def test_the_mid_p_is_nearer_its_level_than_the_exact_one() -> None:
    """How often each falls below .05 on examples that favour neither arm, over 10 to 60 of them."""
    exact, mid = [], []
    for disagree in range(10, 61):
        chances = stats.binom.pmf(np.arange(disagree + 1), disagree, 0.5)
        for kept, p in ((exact, mcnemar_p), (mid, mcnemar_mid_p)):
            kept.append(sum(chances[k] for k in range(disagree + 1) if p(k, disagree - k) <= 0.05))
    assert max(exact) <= 0.05
    assert np.mean(exact) < 0.035
    assert 0.035 < np.mean(mid) < 0.05
    assert max(mid) < 0.08, "given a number of disagreements; the exact one never passes .05"


def test_nothing_to_compare_is_no_evidence() -> None:
    assert mcnemar_p(0, 0) == mcnemar_mid_p(0, 0) == 1.0
    with pytest.raises(ValueError, match="the same examples"):
        agreement(np.ones(3, dtype=bool), np.ones(4, dtype=bool))
