"""An external app, installed as a package of its own, and started the way its user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

App = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app was installed to."""
    place = tmp_path_factory.mktemp("installed")
    app = Path(__file__).with_name("app")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "--target", str(place), str(app)], check=True
    )
    return place


@pytest.fixture
def app(installed: Path, tmp_path: Path) -> App:
    """app(*arguments, module=...) -> (exit code, what it printed); its seed key is given."""

    def run(*arguments: str, module: str = "toyapp", seed_key: str | None = "random.seed") -> tuple[int, str]:
        root = str(Path(__file__).resolve().parents[2])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), root]), "OMP_NUM_THREADS": "1"}
        typed = ["-m", "hydra/sweeper=ablation", *([f"hydra.sweeper.seed_key={seed_key}"] if seed_key else [])]
        done = subprocess.run(
            [sys.executable, "-m", module, *typed, *arguments], cwd=tmp_path, env=env, text=True, timeout=200, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    return run
