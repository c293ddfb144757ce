"""Counting the samples of whatever a loader gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ablate.errors import LoopError
from ablate.integrations._common import count_samples

THREE = torch.zeros(3, 2)


@pytest.mark.parametrize("batch", [THREE, (THREE, 1), [torch.tensor(1.0), THREE], {"name": "a", "deep": {"x": THREE}}])
def test_the_first_tensor_is_counted(batch: Any) -> None:
    assert count_samples(batch) == 3


@pytest.mark.parametrize("batch", [{}, "text", [torch.tensor(1.0)], None])
def test_a_batch_without_a_tensor_says_what_to_do(batch: Any) -> None:
    with pytest.raises(LoopError, match="holds no tensor to count its samples by") as caught:
        count_samples(batch)
    assert "num_samples=lambda batch" in (caught.value.fix or "")
