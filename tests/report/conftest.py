"""A made-up study folder on disk with an analysis made by hand, shared by the report's tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ablate.analysis.results import Analysis
from ablate.design.plan import Plan
from tests.report.made_up import analysis
from tests.synthetic import write_study


@dataclass(frozen=True)
class Study:
    folder: Path
    plan: Plan
    analysis: Analysis


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("runs") / "reference"
    plan = write_study(folder)
    return Study(folder, plan, analysis(plan))
