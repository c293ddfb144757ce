"""The wheel holds what a checkout has, and runs from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this checkout with what is installed: no network."""
    repo, out = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(repo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("torch_ablate-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def test_every_config_file_is_in_it(repo: Path, unpacked: Path) -> None:
    here = {path.relative_to(repo / "conf") for path in (repo / "conf").rglob("*.yaml")}
    there = {path.relative_to(unpacked / "ablate" / "conf") for path in (unpacked / "ablate" / "conf").rglob("*.yaml")}
    assert Path("axis/batch_size.yaml") in here
    assert there == here


def test_every_file_of_the_package_is_in_it(repo: Path, unpacked: Path) -> None:
    """Report templates, scripts and plugins too, and nothing of the tests."""
    for part in ("ablate", "hydra_plugins"):
        here = {
            path.relative_to(repo)
            for path in (repo / part).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert [str(path) for path in here if not (unpacked / path).is_file()] == []
    assert not (unpacked / "tests").exists()
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))


@pytest.mark.slow
def test_it_lists_the_axes_from_another_folder(repo: Path, unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ablate.cli", "axes"]
    # Only the unpacked wheel and the installed dependencies: the current folder holds neither the package nor conf/.
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    for axis in (repo / "conf" / "axis").glob("*.yaml"):
        assert axis.stem in done.stdout
    assert list(tmp_path.iterdir()) == []
