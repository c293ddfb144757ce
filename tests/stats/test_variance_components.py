"""Which stream makes the noise."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.variance_components import decompose


def draw(rng: np.random.Generator, shape: tuple[int, int], init: float, order: float, rest: float = 1.0) -> np.ndarray:
    values = init * rng.normal(size=(shape[0], 1)) + order * rng.normal(size=(1, shape[1]))
    return np.asarray(values + rest * rng.normal(size=shape))


@pytest.mark.parametrize(("shape", "init", "order"), [
    ((5, 5), 1.0, 0.5),
    pytest.param((3, 8), 1.0, 1.0, marks=pytest.mark.slow),
    pytest.param((6, 4), 0.0, 2.0, marks=pytest.mark.slow),
])  # fmt: skip
def test_estimates_are_right_on_average_and_intervals_cover(shape: tuple[int, int], init: float, order: float) -> None:
    rng = np.random.default_rng(sum(shape))
    found = [decompose(draw(rng, shape, init, order)) for _ in range(1200)]
    kept = [one for one in found if one is not None]
    assert np.mean([one.init.estimate for one in kept]) == pytest.approx(init**2, abs=0.15)
    assert np.mean([one.order.estimate for one in kept]) == pytest.approx(order**2, rel=0.15)
    for name, truth in (("init", init), ("order", order), ("rest", 1.0)):
        parts = [getattr(one, name) for one in kept]
        assert 0.93 <= np.mean([part.low <= truth**2 <= part.high for part in parts]) <= 0.985, name


def test_the_noisiest_stream_is_named_only_when_it_is_shown() -> None:
    rng = np.random.default_rng(1)
    quiet = [decompose(draw(rng, (6, 6), 0.0, 0.0)) for _ in range(400)]
    assert np.mean([one is not None and one.noisiest is not None for one in quiet]) < 0.14
    loud = [decompose(draw(rng, (6, 6), 0.2, 3.0)) for _ in range(200)]
    assert np.mean([one is not None and one.noisiest == "order" for one in loud]) > 0.97


def test_a_stream_is_above_zero_exactly_when_its_f_test_says_so() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(200):
        found = decompose(draw(rng, (4, 5), 1.0, 0.0))
        assert found is not None
        for stream in (found.init, found.order):
            assert stream.p_value is not None
            if abs(stream.p_value - 0.025) > 1e-6:
                assert (stream.low > 0) == (stream.p_value < 0.025)
                seen.add(stream.low > 0)
    assert seen == {True, False}


def test_shares_add_up_and_exchanging_the_streams_exchanges_them() -> None:
    values = draw(np.random.default_rng(2), (4, 5), 1.0, 2.0)
    there, back = decompose(values), decompose(values.T)
    assert there is not None
    assert back is not None
    assert there.init.share + there.order.share + there.rest.share == pytest.approx(1.0)
    assert there.init.estimate == pytest.approx(back.order.estimate)


@pytest.mark.parametrize(
    "values", [np.zeros((1, 5)), np.zeros((3, 3)), np.full((3, 3), np.nan), np.arange(9.0).reshape(3, 3)]
)
def test_too_few_runs_and_no_rest_have_no_decomposition(values: np.ndarray) -> None:
    assert decompose(values) is None
