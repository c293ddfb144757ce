"""Ray's own cluster of two nodes: the same bits as here, from another working folder than the nodes', and a lost worker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.equal import STUDY, ablate, differences, kill_owner, started

ray = pytest.importorskip("ray", reason="pip install 'torch-ablate[ray]'")
pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="pip install 'torch-ablate[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("ray")]

_CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
cluster.add_node(**small)
cluster.wait_for_nodes()
print("address", cluster.address, len(cluster.list_all_nodes()), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address and environment. Nothing is sent anywhere, and nothing is written to the user's home."""
    import sys

    here = tmp_path_factory.mktemp("ray")
    env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "HOME": str(here)}
    nodes = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER], cwd=here, env={**os.environ, **env}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert nodes.stdout is not None
        said = next((line.split() for line in nodes.stdout if line.startswith("address")), None)
        assert said is not None
        assert said[2] == "2"
        yield said[1], env
    finally:
        nodes.communicate(timeout=60)


def test_a_study_through_two_nodes_equals_the_local_one_bit_for_bit(
    tmp_path: Path, cluster: tuple[str, dict[str, str]]
) -> None:
    address, env = cluster
    assert ablate(*STUDY, cwd=tmp_path / "here")[0] == 0
    through = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}"]
    code, printed = ablate(*STUDY, *through, cwd=tmp_path / "there", env=env)

    assert code == 0, printed
    assert differences(tmp_path / "here/runs/batch_size", tmp_path / "there/runs/batch_size") == []
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["runs"]
    assert "padding" in (tmp_path / "there/runs/batch_size/baseline/seed=0/log.txt").read_text()


def test_a_lost_worker_ends_neither_the_study_nor_the_other_runs(
    tmp_path: Path, cluster: tuple[str, dict[str, str]]
) -> None:
    address, env = cluster
    through = [
        "hydra/launcher=ray",
        f"hydra.launcher.ray.init.address={address}",
        "+hydra.launcher.ray.remote.max_retries=0",
    ]
    command = ["-m", "axis=batch_size", "debug=quick", "study.seeds=1", "train.budget=5000 samples", *through]
    study = started(*command, cwd=tmp_path, env=env)
    run = tmp_path / "runs/batch_size/baseline/seed=0"
    until = time.monotonic() + 120
    while not (run / "progress.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    kill_owner(run)
    printed, _ = study.communicate(timeout=240)

    assert study.returncode == 1
    assert "lost  baseline/seed=0" in printed
    assert (
        json.loads((tmp_path / "runs/batch_size/batch_size=64/seed=0/status.json").read_text())["status"] == "finished"
    )

    assert ablate(*command, cwd=tmp_path, env=env)[0] == 0
