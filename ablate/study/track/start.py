"""Whether a tracker can be on, and the start of the processes that follow a run's record for it.

The run itself never imports a tracker, never waits for it and never sees its errors: `ablate.study.track.follow` is a
process of its own that reads what the run leaves on disk.
"""

from __future__ import annotations

import configparser
import json
import netrc
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ablate.config import Config, TrackerConfig
from ablate.record.rundir import RunDir, StudyDir
from ablate.study.track.trackers import KINDS

LOG = "tracker.log"
"""In the folder of a run or a study: what the follower and the tracker's library said, failures included."""

_HOW = "`wandb login` or WANDB_API_KEY=... turns it on; tracker.mode=offline keeps a run to upload later"
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


@dataclass(frozen=True, slots=True)
class Follower:
    """The processes that send one run, one for each tracker. They end by themselves, after the run."""

    processes: tuple[subprocess.Popen[bytes], ...]

    def wait(self, seconds: float = 30.0) -> bool:
        """Whether they have ended within this time; they go on by themselves if they have not."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True


def start(run: RunDir, config: Config) -> Follower | None:
    """Follow a run that is about to begin; its config.yaml and manifest.json are written.

    None when no tracker is on: then a line for each on standard output says so and how to turn it on, unless it was turned
    off on purpose.
    """
    return _start("resumed" if run.trace.exists() else "run", run.path, config.tracker)


def start_study(folder: Path, tracker: TrackerConfig) -> Follower | None:
    """Tell of a study whose report is made. Says nothing where no tracker is on: its runs have said it."""
    if not StudyDir(folder).analysis.exists() or not any(mode_of(name, tracker) for name in tracker.names):
        return None
    return _start("study", folder, tracker)


def _start(what: str, folder: Path, tracker: TrackerConfig) -> Follower | None:
    if line := notice(tracker):
        print(line, flush=True)
    processes = []
    for name in tracker.names:
        mode = mode_of(name, tracker)
        if mode is None:
            continue
        command = [
            sys.executable, "-m", "ablate.study.track.follow", what, str(folder.resolve()), name, mode, str(os.getpid()),
            json.dumps(asdict(tracker)),
        ]  # fmt: skip
        try:
            with (folder / LOG).open("ab") as log:
                # A session of its own: Ctrl-C stops the run, and the follower then sends the rows up to that point.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            of = "study" if what == "study" else "run"
            print(f"{KINDS[name].title} is off for this {of}: its process could not be started ({error})", flush=True)
            continue
        processes.append(process)
    return Follower(tuple(processes)) if processes else None


def notice(tracker: TrackerConfig) -> str | None:
    """A line for each tracker that was asked for and is off; None when all are on or were turned off on purpose."""
    if tracker.mode == "off":
        return None
    lines = [_why_off(name) for name in tracker.names if mode_of(name, tracker) is None]
    return "\n".join(lines) or None


def _why_off(name: str) -> str:
    kind = KINDS[name]
    if kind.missing:
        return f"{kind.title} is off: the package {kind.package} is not installed; {kind.missing} turns it on"
    if os.environ.get("WANDB_MODE") == "disabled":
        return "W&B is off: WANDB_MODE=disabled; tracker.mode=online or tracker.mode=offline overrules it"
    return f"W&B is off: not logged in; {_HOW}"


def mode_of(name: str, tracker: TrackerConfig) -> Literal["online", "offline"] | None:
    """What a tracker is to be started with; None is off. Only W&B needs a login."""
    if tracker.mode == "off" or KINDS[name].missing:
        return None
    if name == "wandb":
        return wandb_mode(tracker)
    return "offline" if tracker.mode == "offline" else "online"


def wandb_mode(tracker: TrackerConfig) -> Literal["online", "offline"] | None:
    """What wandb is to be started with; None is off."""
    if "wandb" not in tracker.names or tracker.mode == "off":
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
