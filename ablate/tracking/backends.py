"""Supported trackers, their interface, and whether each is on. A new tracker is a module and an entry in `BACKENDS`."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

from ablate.config.schema import TrackerConfig
from ablate.tracking.describe import Mode, RunEnd, RunInfo, StudyInfo
from ablate.tracking.rows import Row

_WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


class TrackedRun(Protocol):
    """One run at a tracker. Exceptions of the tracker's library pass through."""

    def send(self, rows: Sequence[Row]) -> None:
        """Send rows in the order of their steps. After a resume, rows may be sent again and must not appear twice."""
        ...

    def end(self, end: RunEnd) -> None:
        """End the run and wait until everything is sent."""
        ...


class BackendModule(Protocol):
    """Interface of a tracker's module."""

    def Run(self, info: RunInfo) -> TrackedRun:  # noqa: N802
        """Create the run at the tracker, or resume it if the tracker has it."""
        ...

    def send_study(self, info: StudyInfo) -> None:
        """Send the conclusions of a study."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Tracker that can be chosen by name."""

    title: str
    module: str
    package: str
    """Package that must be installed."""
    extra: str
    """Extra of ours that installs it; '' if it is always installed."""

    @property
    def install_command(self) -> str:
        """Command that installs the package; '' if it is installed."""
        if find_spec(self.package) is not None:
            return ""
        return f"pip install 'torch-ablate[{self.extra}]'" if self.extra else f"pip install {self.package}"

    def load(self) -> BackendModule:
        return cast(BackendModule, import_module(self.module))


BACKENDS = {
    "wandb": Backend("W&B", "ablate.tracking.wandb", "wandb", ""),
    "tensorboard": Backend("TensorBoard", "ablate.tracking.tensorboard", "tensorboard", "tensorboard"),
    "mlflow": Backend("MLflow", "ablate.tracking.mlflow", "mlflow", "mlflow"),
}


def mode_of(name: str, tracker: TrackerConfig) -> Mode | None:
    """Return the mode of a tracker; None if it is off. Only W&B needs a login."""
    if tracker.mode == "off" or BACKENDS[name].install_command:
        return None
    if name != "wandb" or tracker.mode != "auto":
        return "offline" if tracker.mode == "offline" else "online"
    environment = os.environ.get("WANDB_MODE", "online")
    if environment in ("offline", "dryrun"):
        return "offline"
    return "online" if environment != "disabled" and logged_in() else None


def notice(tracker: TrackerConfig) -> str | None:
    """Return a line for each requested tracker that is off; None if all are on, or were turned off by `tracker.mode=off`."""
    if tracker.mode == "off":
        return None
    lines = [_why_off(name) for name in tracker.names if mode_of(name, tracker) is None]
    return "\n".join(lines) or None


def _why_off(name: str) -> str:
    backend = BACKENDS[name]
    if command := backend.install_command:
        return f"{backend.title} is off: the package {backend.package} is not installed; {command} turns it on"
    if os.environ.get("WANDB_MODE") == "disabled":
        return "W&B is off: WANDB_MODE=disabled; tracker.mode=online or tracker.mode=offline overrides it"
    return (
        "W&B is off: not logged in; `wandb login` or WANDB_API_KEY=... turns it on; tracker.mode=offline stores the run for a "
        "later upload"
    )


def logged_in() -> bool:
    """Return whether W&B has credentials. Reads the files that W&B reads, without the seconds that its import takes."""
    settings = _wandb_settings()
    in_environment = os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE")
    if in_environment or settings.get("api_key") or settings.get("identity_token_file"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or settings.get("base_url")
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    try:
        credentials = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(
        credentials.authenticators(host) is not None for host in ((urlsplit(url).netloc,) if url else _WANDB_HOSTS)
    )


def _wandb_settings() -> dict[str, str]:
    """Return W&B's settings of this user; empty if there are none."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder) / "settings")
    except configparser.Error:
        return {}
    return dict(parser["default"]) if parser.has_section("default") else {}
