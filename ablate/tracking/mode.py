"""Whether each tracker is on, and in which mode."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from ablate.config.schema import TrackerConfig
from ablate.tracking.backends import BACKENDS
from ablate.tracking.describe import Mode

_WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


def mode_of(name: str, tracker: TrackerConfig) -> Mode | None:
    """Return the mode of a tracker; None if it is off. Only W&B needs a login."""
    if tracker.mode == "off" or BACKENDS[name].install_command:
        return None
    if name == "wandb":
        return wandb_mode(tracker)
    return "offline" if tracker.mode == "offline" else "online"


def wandb_mode(tracker: TrackerConfig) -> Mode | None:
    """Return the mode of W&B; None if it is off."""
    if "wandb" not in tracker.names or tracker.mode == "off":
        return None
    if tracker.mode == "online":
        return "online"
    environment = os.environ.get("WANDB_MODE", "online")
    if tracker.mode == "offline" or environment in ("offline", "dryrun"):
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
