"""`ablate stop`: a file in the study's folder, which whoever runs the study looks for, on every machine."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from ablate.errors import StudyError
from ablate.records.layout import StudyDir
from ablate.records.provenance import now
from ablate.serialization import read_json, write_json

_FILE = ".stop"


class StudyStopped(KeyboardInterrupt):
    """The study was asked to stop, and has; to whoever waits for it that is an interrupt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """after_current: let the running runs finish, and start no more."""

    after_current: bool = False
    asked: str = ""
    host: str = ""


def ask_to_stop(folder: Path, *, after_current: bool) -> None:
    """Leave the request in the study's folder."""
    request = StopRequest(after_current=after_current, asked=now(), host=socket.gethostname())
    write_json(folder / _FILE, asdict(request))


def stop(folder: Path, *, after_current: bool) -> str:
    """Ask, and say what that will do. Raises StudyError for a folder that holds no runs."""
    from ablate.runner.status import holders

    study = StudyDir(folder)
    if not study.plan.exists() and next(study.runs(), None) is None:
        raise StudyError(f"{folder} holds no study: there is no {study.plan.name} in it", "ablate stop runs/<study>")
    ask_to_stop(folder, after_current=after_current)
    going = Counter((owner.host, owner.pid) for owner in holders(folder))
    if not going:
        return "nothing runs it at the moment; what an engine still has in its queue will not start"
    where = ", ".join(f"{count} by process {pid} on {host}" for (host, pid), count in sorted(going.items()))
    what = "end before the study stops" if after_current else "save and end at their next step"
    return f"asked; its running runs ({where}) {what}, and the same command goes on later"


def stop_request(folder: Path) -> StopRequest | None:
    """The request that lies there."""
    try:
        return StopRequest(**read_json(folder / _FILE))
    except (OSError, ValueError, TypeError):
        return None


def forget_stop(folder: Path) -> None:
    """A study that is started again is not stopped."""
    (folder / _FILE).unlink(missing_ok=True)
