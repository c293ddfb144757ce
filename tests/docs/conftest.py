"""The scripts of docs/, as modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def script() -> Iterator[Any]:
    """script("make_gallery") -> that module."""
    sys.path.insert(0, str(DOCS))
    yield import_module
    sys.path.remove(str(DOCS))
