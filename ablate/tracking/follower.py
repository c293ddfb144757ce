"""The process that follows one run, or tells of one study, for one tracker:

`python -m ablate.tracking.follower run|resumed|study <folder> <tracker> <online|offline> <pid of who started it> <settings>`.

It reads what the run has written, every two seconds, and sends it as a batch; it ends when the run has an outcome or is
gone. Whatever goes wrong here is written to `tracker.log` and concerns nobody else.
"""

from __future__ import annotations

import configparser
import json
import netrc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

from ablate.config.schema import Config, TrackerConfig
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Outcome, read_outcome
from ablate.records.reader import Tail
from ablate.records.returned_values import read_returned
from ablate.runner.log_capture import captured
from ablate.serialization import read_json
from ablate.tracking.backends import KINDS, Tracker
from ablate.tracking.describe import End, Mode, Told, tell_run, tell_study
from ablate.tracking.rows import Ordered, Row, Windows, eval_rows
from ablate.tracking.sent_marks import mark_run, mark_study

# Whether a tracker can be on, and the start of the processes that follow a run's record for it. The run itself
# never imports a tracker, never waits for it and never sees its errors: `ablate.tracking.follower` is a
# process of its own that reads what the run leaves on disk.

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
            sys.executable, "-m", "ablate.tracking.follower", what, str(folder.resolve()), name, mode, str(os.getpid()),
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


_POLL_SECONDS = 2.0
_LOOK_SECONDS = 0.1  # for the end, which costs no more than asking for a file
_GRACE_SECONDS = 3.0  # for the outcome of a run whose process was killed, which its study writes
_FINISH_SECONDS = 600  # then a server that cannot be reached is given up; `ablate sync` sends the rest
_ROWS_AT_ONCE = 1000


def follow(run: RunDir, name: str, mode: Mode, parent: int, *, resumed: bool = False) -> None:
    """Send the run's rows until it ends. resumed: there was a trace when it began. Raises what the tracker's library raises."""
    _wait_for(run, parent, resumed)
    if not run.config.exists():
        print("the run ended before it had a config: nothing to send")
        return
    send(name, tell_run(run, mode, pid=parent), parent)


def send(name: str, told: Told, parent: int = 0) -> int:
    """Begin, send every row, end, and mark the run as sent. parent: of a run that is going on. Returns the number of rows."""
    tracker = KINDS[name].load().begin(told)
    source = _Source(told)
    sent = 0
    try:
        while True:
            # Asked before reading: what the run wrote before its outcome is then surely read in this round.
            over = parent == 0 or _is_over(told.run, parent)
            for rows in source.rows(over=over):
                tracker.send(rows)
                sent += len(rows)
            if over:
                break
            _until_more(told.run, parent)
    except BaseException:
        _give_back(tracker)
        raise
    outcome = _last_outcome(told.run, wait=parent != 0)
    with _in_time():
        tracker.end(_end(told, outcome))
    if outcome is not None:
        mark_run(name, told)
    print(f"{name}: sent {sent} rows; outcome: {outcome.status if outcome else 'none, the run was killed'}")
    return sent


class _Source:
    """A run's tables as rows, from where it was read last."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._trace, self._evals, self._ordered = Tail(told.run.trace), Tail(told.run.evals), Ordered()
        self._windows: Windows | None = None
        self._newest = 0

    def rows(self, *, over: bool) -> Iterator[list[Row]]:
        """In pieces of a bounded size, however long the trace is. over: nothing comes after what is there now."""
        # The looks first: a look that is read is then one whose steps can be read as well.
        looked = eval_rows(self._evals.new_rows())
        more = True
        while more:
            steps = self._trace.new_rows(_ROWS_AT_ONCE)
            more = len(steps) >= _ROWS_AT_ONCE
            if steps:
                self._newest = steps[-1]["step"]
                self._windows = self._windows or self._make(steps[0])
            last = over and not more
            trained = list(self._windows.rows(steps, last=last)) if self._windows else []
            yield self._ordered.rows(trained, looked, self._newest, over=last)
            looked = []

    def _make(self, first: Row) -> Windows:
        """A run that another loop recorded may have no such settings: then every step is a row."""
        config = self._told.config
        log_every = _setting(config, "tracker", "log_every", "1 steps")
        batch = _setting(config, "data", "batch_size", None)
        samples = (
            batch * _setting(config, "train", "grad_accum_steps", 1)
            if isinstance(batch, int)
            else first["samples"] or 1
        )
        return Windows(log_every, max(int(samples), 1), self._trace.groups)


def _setting(config: dict[str, Any], group: str, key: str, otherwise: Any) -> Any:
    part = config.get(group)
    return part.get(key, otherwise) if isinstance(part, dict) else otherwise


def _end(told: Told, outcome: Outcome | None) -> End:
    numbers = dict(outcome.throughput) if outcome else {}
    numbers |= {f"returned/{key}": value for key, value in (read_returned(told.run) or {}).items()}
    files = tuple(path for path in (told.run.trace, told.run.evals) if path.is_file() and outcome is not None)
    sentence = outcome.message if outcome else "the run was killed"
    return End(status=outcome.status if outcome else "killed", message=sentence, numbers=numbers, files=files)


def _give_back(tracker: Tracker) -> None:
    """End what was begun, so that it is not shown as running for ever; the first error is the one to be read."""
    try:
        with _in_time():
            tracker.end(End(status="failed", message="the tracker failed; `ablate sync` sends the run"))
    except Exception:
        traceback.print_exc()


def _wait_for(run: RunDir, parent: int, resumed: bool) -> None:
    """Until the run writes its trace. One that goes on first cuts off what came after its checkpoint: not before that."""
    while not _is_over(run, parent):
        if run.trace.exists() and (not resumed or _writes(run, parent)):
            return
        time.sleep(_LOOK_SECONDS)


def _writes(run: RunDir, parent: int) -> bool:
    """Whether its own process has said how far it is."""
    try:
        return bool(read_json(run.progress)["pid"] == parent)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _until_more(run: RunDir, parent: int) -> None:
    deadline = time.monotonic() + _POLL_SECONDS
    while time.monotonic() < deadline and not _is_over(run, parent):
        time.sleep(_LOOK_SECONDS)


def _is_over(run: RunDir, parent: int) -> bool:
    # The system hands an orphan to another process: the run is then gone, however it went.
    return run.status.exists() or os.getppid() != parent


def _last_outcome(run: RunDir, *, wait: bool) -> Outcome | None:
    deadline = time.monotonic() + (_GRACE_SECONDS if wait else 0)
    while not run.status.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return read_outcome(run)


@contextmanager
def _in_time() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_FINISH_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError(f"the tracker took more than {_FINISH_SECONDS} s; `ablate sync` sends the rest")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when everything was sent."""
    what, folder, name, mode, parent, settings = arguments
    # Behind the run itself, which may need every core.
    os.nice(10)
    with captured(Path(folder) / LOG):
        try:
            print(f"{name}: follows", flush=True)
            at: Mode = "offline" if mode == "offline" else "online"
            if what == "study":
                told = tell_study(Path(folder), TrackerConfig(**json.loads(settings)), at)
                KINDS[name].load().send_study(told)
                mark_study(name, told)
                print(f"{name}: sent {len(told.rows)} contrasts and {len(told.files)} files")
            else:
                follow(RunDir(Path(folder)), name, at, int(parent), resumed=what == "resumed")
        except Exception:
            # The boundary of this process: nobody waits for it, so its log is where a failure can be read.
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
