"""Each variant by itself: the paired t of scipy, with runs missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablate.stats.paired import paired_t


def test_it_is_scipys_paired_t_over_the_seeds_that_both_arms_have() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    values[1, 2] = values[0, 5] = np.nan
    found = paired_t(values[1:] - values[0])
    for variant in (1, 2):
        both = np.isfinite(values[0]) & np.isfinite(values[variant])
        theirs = stats.ttest_rel(values[variant, both], values[0, both])
        interval = theirs.confidence_interval(0.9)
        assert found.pairs[variant - 1] == int(np.sum(both))
        assert found.p_values[variant - 1] == pytest.approx(float(theirs.pvalue))
        half = float(stats.t.isf(0.05, found.df[variant - 1]) * found.errors[variant - 1])
        assert found.effects[variant - 1] - half == pytest.approx(float(interval.low))


@pytest.mark.parametrize("pair", [[[1.0], [2.0]], [[1.0, 2.0], [2.0, 3.0]], [[np.nan, 1.0], [1.0, np.nan]]])
def test_one_pair_and_equal_differences_have_no_error(pair: list[list[float]]) -> None:
    found = paired_t(np.diff(np.asarray(pair), axis=0))
    assert np.isnan(found.errors[0])
    assert np.isnan(found.p_values[0])
