"""Who does which run: one file per run, owned by one process at a time, on this machine or on several that share a folder."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

BEAT_SECONDS = 10.0
STALE_SECONDS = 120.0
"""After so long without a touch, by the file server's clock, the owner on another machine counts as gone."""

_FOLDER = ".claims"
_TRIES = 20
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A process. pids: its pid namespace, because two containers of one machine count their processes each on their own."""

    host: str
    boot: str
    pids: str
    pid: int
    started: str
    """Clock ticks after boot at which the process began: a pid that was given to another process differs here."""
    token: str

    def is_near(self) -> bool:
        """Whether this process could see that one, were it alive."""
        return (self.host, self.boot, self.pids) == _machine()


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that was taken. It is passed on to the run's own process, which ends when it no longer holds."""

    path: Path
    token: str

    def is_lost(self) -> bool:
        """Whether somebody else has it. A file that is missing is not lost: its owner puts it back."""
        found = _read(self.path)
        return found is not None and found.token != self.token


class Claims:
    """The claims under a study root, by name: of a run its digest, so that studies of one root share them.

        with Claims(root) as claims:
            claim = claims.take(digest)     # None: a living process has it

    As a context it keeps its own claims fresh from a thread, and gives them back at the end. Whoever changes or removes the
    file of a claim has first to have the turn to do so, which is a claim of its own, named by the token that it ends, and
    then looks once more: two cannot both believe that they have taken over, and no claim of a living process is touched.
    """

    def __init__(self, root: Path, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS) -> None:
        self.folder = root / _FOLDER
        self.beat_seconds, self.stale_seconds = beat_seconds, stale_seconds
        self._mine: dict[str, Claim] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()  # between giving a claim back and keeping it fresh
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="claims", daemon=True)

    def take(self, name: str) -> Claim | None:
        """Claim a run; None where a living process has it. Raises OSError where nothing can be written."""
        claim = self._take(name)
        if claim is not None:
            self._mine[claim.token] = claim
        return claim

    def release(self, claim: Claim) -> None:
        """Give a claim back. Nothing happens to one that somebody else has by now."""
        with self._lock:
            self._mine.pop(claim.token, None)
        with self._turn(claim.path.name, claim.token) as mine:
            if mine:
                claim.path.unlink(missing_ok=True)

    def is_lost(self, claim: Claim) -> bool:
        """Whether another process has taken the claim over: its owner was silent for too long, and must end its run."""
        return claim.token in self._lost

    def holder(self, name: str) -> Owner | None:
        """The living process that has a run."""
        found = _read(self.folder / name)
        return found.owner if found is not None and self._is_alive(found) else None

    def forget_dead(self, pattern: str) -> None:
        """Remove claims by that pattern whose owners are gone: of names that nobody will ask for again."""
        for path in self.folder.glob(pattern):
            claim = self.take(path.name)
            if claim is not None:
                self.release(claim)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait for a claim and hold it: for what takes a moment and must not happen twice at once."""
        while (claim := self.take(name)) is None:
            time.sleep(0.05)
        try:
            yield
        finally:
            self.release(claim)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for claim in list(self._mine.values()):
            with suppress(OSError):
                self.release(claim)

    def _take(self, name: str) -> Claim | None:
        claim = Claim(self.folder / name, uuid4().hex)
        for _ in range(_TRIES):  # claims come and go while one looks
            if self._create(claim):
                return claim
            found = _read(claim.path)
            if found is None:
                continue
            if self._is_alive(found):
                return None
            with self._turn(name, found.token) as mine:
                if mine:
                    self._written(claim).replace(claim.path)
                    return claim
        return None

    @contextmanager
    def _turn(self, name: str, token: str) -> Iterator[bool]:
        """Whether the claim with this token is there and ours to end: nobody else replaces or removes its file meanwhile.

        A turn whose owner died in it is taken over like any other claim.
        """
        turn = self._take(f".{name}.{token or 'torn'}")
        try:
            found = _read(self.folder / name) if turn is not None else None
            yield found is not None and found.token == token
        finally:
            if turn is not None:
                turn.path.unlink(missing_ok=True)

    def _create(self, claim: Claim) -> bool:
        """Whole or not at all, and only where there is none: a hard link is atomic on network file systems too."""
        part = self._written(claim)
        try:
            return _link(part, claim.path)
        finally:
            part.unlink()

    def _written(self, claim: Claim) -> Path:
        """The claim in a file that has no name yet by which anybody would look for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{claim.token}"
        part.write_text(json.dumps(asdict(_me(claim.token))), encoding="utf-8")
        return part

    def _is_alive(self, found: _Found) -> bool:
        if found.owner is not None and found.owner.is_near():
            return _is_running(found.owner.pid, found.owner.started)
        return self._server_time() - found.touched < self.stale_seconds

    def _server_time(self) -> float:
        """What the file server's clock says: clocks of two machines need not agree."""
        probe = self.folder / f".{uuid4().hex}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()  # a folder that is only read
        finally:
            with suppress(OSError):
                probe.unlink()

    def _keep_beating(self) -> None:
        while not self._over.wait(self.beat_seconds):
            for claim in list(self._mine.values()):
                with suppress(OSError), self._lock:  # a file server that is away for a moment: the next beat tells
                    if claim.token in self._mine:
                        self._beat(claim)

    def _beat(self, claim: Claim) -> None:
        found = _read(claim.path)
        if (found is None and not self._create(claim)) or (found is not None and found.token != claim.token):
            self._lost.add(claim.token)
            self._mine.pop(claim.token, None)
        elif found is not None:
            os.utime(claim.path)


@dataclass(frozen=True, slots=True)
class _Found:
    """A claim's file. owner: None where it is torn, which only happens without hard links; its age then decides."""

    owner: Owner | None
    touched: float

    @property
    def token(self) -> str:
        return self.owner.token if self.owner is not None else ""


def _read(path: Path) -> _Found | None:
    """Opened, and not only asked for its state: that is when a network file system looks at the server."""
    try:
        with path.open(encoding="utf-8") as file:
            text, touched = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        return _Found(Owner(**json.loads(text)), touched)
    except (ValueError, TypeError):
        return _Found(None, touched)


def _link(part: Path, path: Path) -> bool:
    """Give a whole file its name, unless somebody has it. False when it is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        return part.stat().st_nlink == 2  # the answer to an earlier try of the same request was lost on the way
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(part.read_bytes())
    return True


def _me(token: str) -> Owner:
    host, boot, pids = _machine()
    return Owner(host=host, boot=boot, pids=pids, pid=os.getpid(), started=_started(os.getpid()) or "", token=token)


@cache
def _machine() -> tuple[str, str, str]:
    """Host name, boot and pid namespace: equal where pids can be compared."""
    boot, pids = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        pids = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return socket.gethostname(), boot, pids


def _is_running(pid: int, started: str) -> bool:
    """Whether that process is still there; a pid that was given to another process since does not count."""
    now = _started(pid)
    if now is not None:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _started(pid: int) -> str | None:
    """When a process began; "" for one that has ended and was not fetched yet, None for one that cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return "" if fields[0] in "ZX" else fields[19]
