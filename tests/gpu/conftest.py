"""The tests in this directory run on the GPU of the machine, or on a pretended one where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.gpu.pretend import Gpu, pretended


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    """A pretended GPU, whatever the machine has."""
    with pretended() as found:
        yield found


@pytest.fixture
def any_gpu(request: pytest.FixtureRequest) -> Any:
    """The real one, or a pretended one."""
    return None if torch.cuda.is_available() else request.getfixturevalue("gpu")
