"""The axis that makes the very same run again, and axes that ask for fewer seeds than the study has."""

from __future__ import annotations

import pytest

from ablate.design.axis_files import axis_from
from ablate.errors import AxisError

REPEAT = {"name": "again", "question": "?", "kind": "rerun", "keys": ["rerun"], "values": [{"rerun": 1}]}


def test_an_axis_takes_the_first_seeds_only_as_it_asks():
    axis = axis_from({**REPEAT, "seeds": 2}, file="axis/again.yaml")
    assert axis.runs_with((0, 1, 2, 3)) == (0, 1)
    assert axis.runs_with((0,)) == (0,)
    assert axis_from(REPEAT, file="axis/again.yaml").runs_with((0, 1, 2)) == (0, 1, 2)


@pytest.mark.parametrize("seeds", [0, -1, 1.5, "two", True])
def test_a_number_of_seeds_that_is_none_is_refused(seeds):
    with pytest.raises(AxisError) as caught:
        axis_from({**REPEAT, "seeds": seeds}, file="axis/again.yaml")
    assert f"axis/again.yaml: seeds is {seeds!r}, expected a whole number of at least 1" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": ["optim.lr"], "values": [1e-3]},  # equal weights would count as the proof of a change
        {"kind": "training"},  # and other weights as that of a repeat
    ],
)
def test_only_the_key_that_changes_nothing_is_a_repeat(changes):
    with pytest.raises(AxisError, match="only `repeat` makes the very same run again"):
        axis_from({**REPEAT, **changes}, file="axis/again.yaml")
