"""What holds for every test: no network, and nothing of the person who runs them."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from ablate.training import cpu_instructions

# The same examples every time: a test that fails on one day in a hundred teaches nobody anything.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

# Before any test module imports them: the Hugging Face libraries read these once.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HYDRA_FULL_ERROR": "0"}

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


@pytest.fixture(autouse=True)
def _fp32_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision=auto` is fp32 in this process whatever the CPU has: a test compares the same digits on every machine."""
    monkeypatch.setattr(cpu_instructions, "CPUINFO", Path(os.devnull))


@pytest.fixture
def repo() -> Path:
    """Top of the checkout."""
    return Path(__file__).resolve().parents[1]
