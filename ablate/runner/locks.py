"""Locks that say who is running a run: one file per run, owned by one process, across machines that share a directory."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from ablate.records.layout import check_own_folder
from ablate.serialization import fits, read_text

BEAT_SECONDS = 10.0
STALE_SECONDS = 120.0
"""Age of a lock, by the file server's clock, after which its owner on another machine counts as gone."""

_FOLDER = ".locks"
_TRIES = 20
_MAX_BYTES = 4096
_TOKEN = re.compile(r"[\w -]{1,64}")
"""Of a token, which becomes part of the name of a file: ours are 32 digits of a uuid."""
_LARGEST_PID = 2**22
"""Of Linux. `kill` does not take a larger one."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A process. pids: its pid namespace, because two containers of one machine number their processes separately."""

    host: str
    boot: str
    pids: str
    pid: int
    started: str
    """Clock ticks after boot at which the process began: a pid that was given to another process differs here."""
    token: str

    def is_near(self) -> bool:
        """Return whether this process could see that one if it were alive."""
        return (self.host, self.boot, self.pids) == _machine()


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that was acquired. It is passed to the run's own process, which ends when the lock no longer holds."""

    path: Path
    token: str

    def is_lost(self) -> bool:
        """Return whether another process holds it. A missing file is not a lost lock: its owner writes it again."""
        file = _read(self.path)
        return file is not None and file.token != self.token


class Locks:
    """The locks under a study root, by name. A run's lock is named by its digest, so that studies of one root share it.

        with Locks(root) as locks:
            lock = locks.acquire(digest)     # None: a living process holds it

    As a context manager it refreshes its own locks from a thread and releases them at the end. A process that changes or
    removes the file of a lock first acquires the turn to do so, which is a lock of its own, named by the token that it ends,
    and then reads the file again: two processes cannot both take over, and no lock of a living process is touched.
    """

    def __init__(self, root: Path, *, beat_seconds: float = BEAT_SECONDS, stale_seconds: float = STALE_SECONDS) -> None:
        self.folder = root / _FOLDER
        check_own_folder(self.folder)
        self.beat_seconds, self.stale_seconds = beat_seconds, stale_seconds
        self._mine: dict[str, Lock] = {}
        self._lost: set[str] = set()
        self._guard = threading.Lock()  # between releasing a lock and refreshing it
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="locks", daemon=True)

    def acquire(self, name: str) -> Lock | None:
        """Lock a run. Returns None where a living process holds it. Raises OSError where nothing can be written."""
        lock = self._acquire(name)
        if lock is not None:
            self._mine[lock.token] = lock
        return lock

    def release(self, lock: Lock) -> None:
        """Release a lock. One that another process has taken over is left alone."""
        with self._guard:
            self._mine.pop(lock.token, None)
        with self._turn(lock.path.name, lock.token) as mine:
            if mine:
                lock.path.unlink(missing_ok=True)

    def is_lost(self, lock: Lock) -> bool:
        """Return whether another process has taken the lock over: its owner was silent for too long and must end its run."""
        return lock.token in self._lost

    def holder(self, name: str) -> Owner | None:
        """Return the living process that holds a lock."""
        file = _read(self._path(name))
        return file.owner if file is not None and self._is_alive(file) else None

    def remove_dead(self, pattern: str) -> None:
        """Remove the locks that match a pattern and whose owners are gone."""
        for path in self.folder.glob(pattern):
            lock = self.acquire(path.name)
            if lock is not None:
                self.release(lock)

    def remove_litter(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote a lock, or took one over."""
        for path in self.folder.glob(".*"):
            file = _read(path)
            if file is not None and not self._is_alive(file):
                path.unlink(missing_ok=True)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Wait for a lock and hold it, for a short action that two processes must not do simultaneously."""
        while (lock := self.acquire(name)) is None:
            time.sleep(0.05)
        try:
            yield
        finally:
            self.release(lock)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for lock in list(self._mine.values()):
            with suppress(OSError):
                self.release(lock)

    def _acquire(self, name: str) -> Lock | None:
        lock = Lock(self._path(name), uuid4().hex)
        for _ in range(_TRIES):  # locks come and go meanwhile
            if self._create(lock):
                return lock
            file = _read(lock.path)
            if file is None:
                continue
            if self._is_alive(file):
                return None
            with self._turn(name, file.token) as mine:
                if mine:
                    self._written(lock).replace(lock.path)
                    return lock
        return None

    @contextmanager
    def _turn(self, name: str, token: str) -> Iterator[bool]:
        """Yield whether the lock with this token exists and is ours to end: no other process replaces its file meanwhile.

        A turn whose owner died is taken over like any other lock.
        """
        turn = self._acquire(f".{name}.{token or 'torn'}")
        try:
            file = _read(self._path(name)) if turn is not None else None
            yield file is not None and file.token == token
        finally:
            if turn is not None:
                turn.path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        """Return the file of a lock. Raises ValueError for a name that leads out of the folder, which no caller may pass on."""
        if not name or "/" in name or "\0" in name:
            raise ValueError(f"expected the name of a lock, got {name!r}")
        return self.folder / name

    def _create(self, lock: Lock) -> bool:
        """Write the file whole, and only where there is none: a hard link is atomic on network file systems too."""
        part = self._written(lock)
        try:
            return _link(part, lock.path)
        finally:
            part.unlink()

    def _written(self, lock: Lock) -> Path:
        """Write the lock into a file under a temporary name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{lock.token}"
        part.write_text(json.dumps(asdict(_me(lock.token))), encoding="utf-8")
        return part

    def _is_alive(self, file: _LockFile) -> bool:
        if file.owner is not None and file.owner.is_near():
            return is_running(file.owner.pid, file.owner.started)
        return self._server_time() - file.touched < self.stale_seconds

    def _server_time(self) -> float:
        """Return the time by the file server's clock: clocks of two machines need not agree."""
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
            for lock in list(self._mine.values()):
                with suppress(OSError), self._guard:  # a file server that is away for a moment: the next beat decides
                    if lock.token in self._mine:
                        self._beat(lock)

    def _beat(self, lock: Lock) -> None:
        file = _read(lock.path)
        if (file is None and not self._create(lock)) or (file is not None and file.token != lock.token):
            self._lost.add(lock.token)
            self._mine.pop(lock.token, None)
        elif file is not None:
            os.utime(lock.path)


@dataclass(frozen=True, slots=True)
class _LockFile:
    """The file of a lock. owner: None where it is incomplete, which only happens without hard links; its age then decides."""

    owner: Owner | None
    touched: float

    @property
    def token(self) -> str:
        return self.owner.token if self.owner is not None else ""


def _read(path: Path) -> _LockFile | None:
    """Read a lock file. It is opened, not only stat-ed: a network file system then asks the server.

    Anything else (a pipe, a link, a device, other text) counts as incomplete: nothing in it is used.
    """
    try:
        state = path.lstat()
        text = read_text(path, _MAX_BYTES) if stat.S_ISREG(state.st_mode) else ""
        touched = path.lstat().st_mtime
    except FileNotFoundError:
        return None
    except ValueError:
        return _LockFile(None, state.st_mtime)
    try:
        return _LockFile(_owner(json.loads(text)), touched)
    except (ValueError, TypeError, RecursionError):
        return _LockFile(None, touched)


def _owner(value: Any) -> Owner:
    """Return the owner that a file names. Raises ValueError or TypeError where no process has written it."""
    owner = Owner(**value)
    texts = (owner.host, owner.boot, owner.pids, owner.started, owner.token)
    if not all(isinstance(text, str) for text in texts) or not _TOKEN.fullmatch(owner.token):
        raise ValueError("not a lock: its token becomes the name of a file")
    if not fits(owner.pid, int) or not 0 < owner.pid <= _LARGEST_PID:
        raise ValueError("not a lock: there is no such process")
    return owner


def _link(part: Path, path: Path) -> bool:
    """Give a file its name. Returns False where the name is in use."""
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
    return Owner(host=host, boot=boot, pids=pids, pid=os.getpid(), started=started_at(os.getpid()) or "", token=token)


@cache
def _machine() -> tuple[str, str, str]:
    """Return host name, boot id and pid namespace: equal where pids can be compared."""
    boot, pids = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        pids = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return socket.gethostname(), boot, pids


def is_running(pid: int, started: str) -> bool:
    """Return whether that process still exists. A pid that was given to another process since does not count."""
    now = started_at(pid)
    if now is not None:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def started_at(pid: int) -> str | None:
    """Return when a process began: "" for one that has ended but was not reaped, None for one that does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return "" if fields[0] in "ZX" else fields[19]
