"""What main may return, and what it may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ablate.errors import StudyError
from ablate.records.returned_values import numbers_of


@pytest.mark.parametrize(
    ("returned", "numbers"),
    [
        (0.5, {"returned": 0.5}),
        (3, {"returned": 3.0}),
        (np.float32(0.5), {"returned": 0.5}),
        (torch.tensor(0.5), {"returned": 0.5}),
        ({"loss": 0.5, "model": "net", "done": True}, {"loss": 0.5}),
    ],
)
def test_numbers_of_any_make_are_taken(returned: Any, numbers: dict[str, float]) -> None:
    assert numbers_of(returned) == numbers


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "main returned None"),
        ("done", "main returned str 'done'"),
        (True, "main returned bool True"),
        ([0.5], r"main returned list \[0.5\]"),
        ({}, "main returned an empty dict"),
        ({"model": "net"}, r"main returned a dict without a number \(model\)"),
        (np.zeros(2), "main returned ndarray"),
    ],
)
def test_anything_else_is_refused_with_what_it_was(returned: Any, said: str) -> None:
    with pytest.raises(StudyError, match=said) as raised:
        numbers_of(returned)
    assert raised.value.fix == "return a number, or a dict of numbers, from the function under @hydra.main"
