from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ablate.config.flatten import ABSENT, changed, covered, leaf, leaves

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
CONFIGS = st.recursive(
    PLAIN, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).map(lambda value: value if isinstance(value, dict) else {"a": value})


@given(CONFIGS)
def test_every_leaf_is_found_where_it_stands(config):
    assert all(leaf(config, key) == value for key, value in leaves(config).items())


@given(CONFIGS, CONFIGS)
def test_a_difference_has_two_sides(left, right):
    assert changed(left, right) == {key: (b, a) for key, (a, b) in changed(right, left).items()}
    assert not changed(left, left)


def test_type_and_value_both_count():
    values = [1, 1.0, True, "1", None]
    assert all(changed({"a": x}, {"a": y}) for x in values for y in values if x is not y)


def test_a_key_on_one_side_only_is_a_difference():
    assert changed({"a": {"b": 1}}, {"a": {}}) == {"a.b": (1, ABSENT)}


def test_a_declared_group_covers_its_leaves_and_no_namesake():
    assert covered("model.config_overrides.hidden_size", ["model.config_overrides"])
    assert not covered("model.shapes", ["model.config_overrides"])
