"""W&B beside a run: whether it can be on, and the start of the process that follows the run's record.

The run itself never imports wandb, never waits for it and never sees its errors: `ablate.study.follow` is a process
of its own that reads what the run leaves on disk.
"""

from __future__ import annotations

import configparser
import netrc
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ablate.config import Config, TrackerConfig
from ablate.record.rundir import RunDir

LOG = "tracker.log"
"""In the run folder: what the follower and wandb said, failures included."""

_HOW = "`wandb login` or WANDB_API_KEY=... turns it on; tracker.mode=offline keeps a run to upload later"
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


@dataclass(frozen=True, slots=True)
class Follower:
    """The process that sends one run to W&B. It ends by itself, after the run."""

    process: subprocess.Popen[bytes]

    def wait(self, seconds: float = 30.0) -> bool:
        """Whether it has ended within this time; it goes on by itself if it has not."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def start(run: RunDir, config: Config) -> Follower | None:
    """Follow a run that is about to begin; its config.yaml and manifest.json are written.

    None when the tracker is off: then one line on standard output says so and how to turn it on, unless it was turned
    off on purpose.
    """
    mode = wandb_mode(config.tracker)
    if mode is None:
        if line := notice(config.tracker):
            print(line, flush=True)
        return None
    command = [sys.executable, "-m", "ablate.study.follow", str(run.path.resolve()), mode, str(os.getpid())]
    try:
        with (run.path / LOG).open("ab") as log:
            # A session of its own: Ctrl-C stops the run, and the follower then sends the rows up to that point.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as error:
        print(f"W&B is off for this run: its process could not be started ({error})", flush=True)
        return None
    return Follower(process)


def notice(tracker: TrackerConfig) -> str | None:
    """The one line for a tracker that was asked for and is off; None when it is on or was turned off on purpose."""
    if tracker.name == "none" or tracker.mode == "off" or wandb_mode(tracker) is not None:
        return None
    if os.environ.get("WANDB_MODE") == "disabled":
        return "W&B is off: WANDB_MODE=disabled; tracker.mode=online or tracker.mode=offline overrules it"
    return f"W&B is off: not logged in; {_HOW}"


def wandb_mode(tracker: TrackerConfig) -> Literal["online", "offline"] | None:
    """What wandb is to be started with; None is off."""
    if tracker.name == "none" or tracker.mode == "off":
        return None
    if tracker.mode == "online":
        return "online"
    asked = os.environ.get("WANDB_MODE", "online")
    if tracker.mode == "offline" or asked in ("offline", "dryrun"):
        return "offline"
    return "online" if asked != "disabled" and logged_in() else None


def logged_in() -> bool:
    """Whether wandb would find credentials, looked up where it looks, without the seconds that importing it takes."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings()
    if settings.get("api_key") or settings.get("identity_token_file"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or settings.get("base_url")
    hosts = (urlsplit(url).netloc,) if url else _HOSTS
    return any(_netrc_knows(host) for host in hosts)


def _settings() -> dict[str, str]:
    """wandb's own settings file for this user; empty where there is none."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder) / "settings")
    except configparser.Error:
        return {}
    return dict(parser["default"]) if parser.has_section("default") else {}


def _netrc_knows(host: str) -> bool:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
