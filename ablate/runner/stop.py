"""`ablate stop`: a file in the study directory, which every process that runs the study checks for."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from ablate.errors import StudyError
from ablate.records.layout import StudyDir
from ablate.records.metadata import now
from ablate.serialization import read_json, write_json

_FILE = ".stop"


class StudyStopped(KeyboardInterrupt):
    """Raised after a study was stopped by request; its caller treats it as an interrupt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """Content of the file."""

    after_current: bool = False
    """Let the running runs finish, and start no more."""
    requested: str = ""
    host: str = ""


def request_stop(folder: Path, *, after_current: bool) -> None:
    """Write the request into the study directory."""
    request = StopRequest(after_current=after_current, requested=now(), host=socket.gethostname())
    write_json(folder / _FILE, asdict(request))


def stop(folder: Path, *, after_current: bool) -> str:
    """Request the stop; return a sentence about what will happen. Raises StudyError for a directory without runs."""
    from ablate.runner.status import holders

    study = StudyDir(folder)
    if not study.plan.exists() and next(study.runs(), None) is None:
        raise StudyError(f"{folder} is not a study directory: it has no {study.plan.name}", "ablate stop runs/<study>")
    request_stop(folder, after_current=after_current)
    going = Counter((owner.host, owner.pid) for owner in holders(folder))
    if not going:
        return "no process runs it now; what is still in the queue of a cluster will not start"
    where = ", ".join(f"{count} by process {pid} on {host}" for (host, pid), count in sorted(going.items()))
    what = "end before the study stops" if after_current else "save and end at their next step"
    return f"stop requested; its running runs ({where}) {what}, and the same command goes on later"


def stop_request(folder: Path) -> StopRequest | None:
    """Return the stored request, or None."""
    try:
        return StopRequest(**read_json(folder / _FILE))
    except (OSError, ValueError, TypeError):
        return None


def forget_stop(folder: Path) -> None:
    """Remove the request: a study that is started again is not stopped."""
    (folder / _FILE).unlink(missing_ok=True)
