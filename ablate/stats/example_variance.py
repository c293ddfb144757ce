"""An interval over seeds, widened by the variance over evaluation examples, so that it covers new seeds and new examples.

The interval over seeds is about one evaluation set. A difference changes from set to set by how much its examples differ in
it, over all seeds. That variance is estimated from the examples' mean square, minus its expectation by chance alone, and added
to the squared error. The noise of an example within one seed is in the error over seeds already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Widened:
    """error: of a mean difference over seeds and examples. df: of that error, Satterthwaite's. example_share: of its square,
    what the choice of examples adds."""

    error: float
    df: float
    example_share: float

    def half_width(self, over_seeds: float, error: float, df: float) -> float:
        """Return the half width of the interval whose counterpart over seeds alone has `over_seeds`, from `error` with `df`.

        It has the same tail probability of t at the new degrees of freedom, so that a simultaneous interval stays so. It is
        never narrower: a wider population cannot be known more precisely, though the new degrees of freedom may be more.
        """
        outside = float(stats.t.sf(over_seeds / error, df))
        return max(over_seeds, float(stats.t.isf(outside, self.df)) * self.error)


def widened(differences: Values, error: float, df: float) -> Widened:
    """Widen the error of the mean of `differences` [seeds, examples], variant minus baseline, paired in both.

    error, df: of the mean over seeds, from any model, such as one that pools arms. Raises ValueError below two seeds or
    two examples.
    """
    seeds, examples = differences.shape
    if seeds < 2 or examples < 2:
        raise ValueError(f"shape {differences.shape}: expected at least two seeds and two examples")
    by_seed = np.mean(differences, axis=1, keepdims=True)
    by_example = np.mean(differences, axis=0) - np.mean(differences)
    rest_df = (seeds - 1) * (examples - 1)
    rest_square = float(np.sum((differences - by_seed - by_example) ** 2)) / rest_df
    example_square = seeds * float(np.sum(by_example**2)) / (examples - 1)
    cells = seeds * examples
    added = max(example_square - rest_square, 0.0) / cells
    variance = error**2 + added
    spread = error**4 / df + (example_square / cells) ** 2 / (examples - 1) + (rest_square / cells) ** 2 / rest_df
    return Widened(variance**0.5, max(1.0, variance**2 / spread), added / variance)
