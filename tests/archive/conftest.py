"""A made-up study at its end, and its archive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ablate.archive.bundle import write_bundle
from ablate.records.layout import RunDir
from ablate.records.metadata import read_fingerprint, write_value
from ablate.records.reader import read_evals, read_trace
from ablate.serialization import write_json
from tests.archive.tampering import Files, files_of
from tests.synthetic import write_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, two seeds; what real runs take from their tables, these have taken as well."""
    folder = tmp_path_factory.mktemp("runs") / "study"
    plan = write_study(folder, arms=("batch_size=64",), seeds=2)
    axis = replace(plan.axes[0], may_change=(*plan.axes[0].may_change, "first_step", "tokens_seen"))
    plan = replace(plan, axes=(axis,))
    write_json(folder / "plan.json", {**plan.to_json(), "digest": plan.digest})
    for config in folder.glob("*/seed=*/config.yaml"):
        tell(RunDir(config.parent))
    return folder


def as_yaml(run: RunDir) -> None:
    """A made-up run's config is JSON, in which YAML reads 1e-08 as text."""
    run.config.write_text(yaml.safe_dump(json.loads(run.config.read_text())))


def tell(run: RunDir) -> None:
    """What a run of the real loop writes as well: a fingerprint that holds its own first step."""
    as_yaml(run)
    fingerprint, trace, curve = read_fingerprint(run), read_trace(run.trace), read_evals(run.evals).curve("loss")
    assert fingerprint is not None
    fingerprint.items["first_step"] = {name: float(trace[name][0]) for name in ("loss", "grad_norm")}
    fingerprint.items["tokens_seen"] = int(trace["tokens"][-1])
    fingerprint.items["loss_at_start"] = {"loss": float(curve.value[0])}
    write_value(run, fingerprint)


@pytest.fixture(scope="session")
def archive(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "study.tar"
    write_bundle(finished, path)
    return path


@pytest.fixture
def sent(archive: Path) -> Files:
    """The files of the archive, to be tampered with."""
    return files_of(archive)
