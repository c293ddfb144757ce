"""What holds for every test: no network, and nothing of the person who runs them."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from ablate.training import hardware

# The same examples every time: a test that fails on one day in a hundred teaches nobody anything.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

# Before any test module imports them: the Hugging Face libraries read these once.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HYDRA_FULL_ERROR": "0"}

SLOW_FIRST = (
    "training",
    "controls",
    "runner",
    "archive",
    "calibration",
    "safety",
    "cli",
    "integrations",
    "importers",
    "tracking",
)
"""Directories of slow tests in their order: what a wrong number or a lost run would cost most comes first, the rest last."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests last and into the order of `SLOW_FIRST`; all others stay where they are."""
    top = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is None:
            return -1
        directory = item.path.relative_to(top).parts[0]
        return SLOW_FIRST.index(directory) if directory in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Leave what was imported out of every garbage collection: there are millions of objects, and none of them goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


_connect = socket.socket.connect


def _connect_here_only(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
        raise AssertionError(f"a test tried to reach {address[0]}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_here_only)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / "no-wandb-settings"))


@pytest.fixture(autouse=True, scope="session")
def _axis_files_are_read_once() -> Iterator[None]:
    """Share the axes of conf/ among all commands of a process: to compose their files takes as long as the rest of planning."""
    from hydra.core.global_hydra import GlobalHydra

    from ablate.planning import compose

    read, shared = compose.Composer.axes, dict[str, Any]()

    def axes(self: compose.Composer, names: Sequence[str] | None = None) -> list[Any]:
        search_path = [str(one.path) for one in GlobalHydra.instance().config_loader().get_search_path().get_path()]
        directories = [path.removeprefix("file://") for path in search_path if "://" not in path or "file://" in path]
        if directories == [str(compose.conf_dir())] and not self.always:
            self._axes = shared
            if not shared:
                read(self)
        return read(self, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose.Composer, "axes", axes)
        yield


@pytest.fixture(autouse=True)
def _fp32_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision=auto` is fp32 in this process whatever the CPU has: a test compares the same digits on every machine."""
    monkeypatch.setattr(hardware, "CPUINFO", Path(os.devnull))


@pytest.fixture
def repo() -> Path:
    """Top of the checkout."""
    return Path(__file__).resolve().parents[1]
