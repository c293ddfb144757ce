"""One process per run: whatever two of them do at the same moment, and whatever becomes of the one that has it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ablate.runner import locks as module
from ablate.runner.locks import Lock, Locks


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    """Without a heartbeat, so that a test may say how old a file is."""
    return Locks(tmp_path, stale_seconds=5.0)


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Locks]:
    with Locks(tmp_path, beat_seconds=0.05) as found:
        yield found


def at_once(number: int, act: Callable[[int], None]) -> None:
    """Call act(0), act(1), ... in threads that begin together."""
    ready = threading.Barrier(number)

    def run(k: int) -> None:
        ready.wait()
        act(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rewrite(lock: Lock, **changes: object) -> None:
    value = json.loads(lock.path.read_text())
    lock.path.write_text(json.dumps(value | changes))


def left_by_a_dead_process(root: Path, name: str) -> None:
    code = (
        "import os; from pathlib import Path; from ablate.runner.locks import Locks;"
        f"Locks(Path({str(root)!r})).acquire({name!r}); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_many_that_ask_at_once_one_gets_it(tmp_path: Path) -> None:
    names, got = [f"run{k}" for k in range(50)], Counter[str]()

    def take_all(_: int) -> None:
        mine = Locks(tmp_path)
        got.update(name for name in names if mine.acquire(name) is not None)

    at_once(8, take_all)
    assert got == Counter(names)


def test_what_was_given_back_can_be_taken_again(locks: Locks) -> None:
    first = locks.acquire("run")
    assert first is not None
    assert locks.acquire("run") is None
    owner = locks.holder("run")
    assert owner is not None
    assert owner.pid == os.getpid()
    locks.release(first)
    assert locks.holder("run") is None
    assert locks.acquire("run") is not None


def test_the_end_gives_everything_back_and_leaves_no_file(tmp_path: Path) -> None:
    with Locks(tmp_path) as locks:
        locks.acquire("run")
    assert not list((tmp_path / ".locks").iterdir())


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path: Path, locks: Locks) -> None:
    left_by_a_dead_process(tmp_path, "run")
    assert locks.acquire("run") is not None


def test_a_pid_that_another_process_has_now_is_a_dead_process(locks: Locks) -> None:
    lock = locks.acquire("run")
    assert lock is not None
    rewrite(lock, started="1", token="of the earlier process")
    assert locks.acquire("run") is not None


def test_of_many_that_find_a_dead_process_one_takes_over(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, "run")
    dead = (tmp_path / ".locks/run").read_text()
    for k in range(40):
        (tmp_path / f".locks/run{k}").write_text(dead)
        got: list[Lock | None] = []
        at_once(8, lambda _, k=k, got=got: got.append(Locks(tmp_path).acquire(f"run{k}")))
        assert sum(lock is not None for lock in got) == 1


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"boot": "another"}, {"pids": "pid:[1]"}])
def test_another_machine_is_judged_by_its_heartbeat_alone(locks: Locks, changes: dict[str, str]) -> None:
    lock = locks.acquire("run")
    assert lock is not None
    rewrite(lock, **changes, pid=2**30, token="theirs")
    assert locks.acquire("run") is None
    an_hour_ago = time.time() - 3600
    os.utime(lock.path, (an_hour_ago, an_hour_ago))
    assert locks.acquire("run") is not None


def test_the_age_is_by_the_clock_of_the_file_server(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local clock that is a day ahead makes nobody's heartbeat old."""
    lock = locks.acquire("run")
    assert lock is not None
    rewrite(lock, host="elsewhere", token="theirs")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert locks.acquire("run") is None


def test_a_heartbeat_keeps_a_claim_fresh(beating: Locks) -> None:
    lock = beating.acquire("run")
    assert lock is not None
    os.utime(lock.path, (0, 0))
    until(lambda: lock.path.stat().st_mtime > 1e9)


def test_an_owner_that_lost_its_claim_is_told_and_leaves_the_other_alone(beating: Locks) -> None:
    lock = beating.acquire("run")
    assert lock is not None
    assert not lock.is_lost()
    rewrite(lock, token="theirs", host="elsewhere")
    assert lock.is_lost()
    until(lambda: beating.is_lost(lock))
    beating.release(lock)
    assert json.loads(lock.path.read_text())["token"] == "theirs"


def test_a_claim_whose_file_was_removed_is_put_back(beating: Locks) -> None:
    lock = beating.acquire("run")
    assert lock is not None
    lock.path.unlink()
    assert not lock.is_lost()
    until(lock.path.exists)
    assert not beating.is_lost(lock)


def test_claims_of_the_dead_are_removed_and_others_are_not(tmp_path: Path, locks: Locks) -> None:
    left_by_a_dead_process(tmp_path, "open.study.1")
    left_by_a_dead_process(tmp_path, "other")
    locks.acquire("open.study.2")
    locks.remove_dead("open.*")
    assert sorted(path.name for path in locks.folder.glob("[!.]*")) == ["open.study.2", "other"]


def test_a_claim_that_another_one_has_taken_over_is_not_given_back_by_the_first(locks: Locks) -> None:
    lock = locks.acquire("run")
    assert lock is not None
    rewrite(lock, token="of the one who took over")
    locks.release(lock)
    assert json.loads(lock.path.read_text())["token"] == "of the one who took over"


def test_who_looked_before_another_took_over_leaves_the_new_claim_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen the dead one; the second acts when the first is done."""
    left_by_a_dead_process(tmp_path, "run")
    first, second = Locks(tmp_path), Locks(tmp_path)
    taken: list[Lock | None] = []
    alive = second._is_alive

    def looks_and_then_the_first_acts(found: module._Found) -> bool:
        answer = alive(found)
        if not taken:
            taken.append(first.acquire("run"))
        return answer

    monkeypatch.setattr(second, "_is_alive", looks_and_then_the_first_acts)
    assert second.acquire("run") is None
    assert taken[0] is not None
    assert json.loads(taken[0].path.read_text())["token"] == taken[0].token
    assert not [path for path in (tmp_path / ".locks").iterdir() if path.name != "run"]


def test_a_turn_whose_owner_died_in_it_is_taken_over_too(tmp_path: Path, locks: Locks) -> None:
    left_by_a_dead_process(tmp_path, "run")
    token = json.loads((locks.folder / "run").read_text())["token"]
    left_by_a_dead_process(tmp_path, f".run.{token}")
    assert locks.acquire("run") is not None
    assert [path.name for path in locks.folder.iterdir()] == ["run"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(module.os, "link", link)
    test_of_many_that_ask_at_once_one_gets_it(tmp_path)


def test_a_torn_claim_is_somebodys_until_it_is_old(locks: Locks) -> None:
    locks.folder.mkdir(exist_ok=True)
    path = locks.folder / "run"
    path.write_text('{"host": "els')
    assert locks.acquire("run") is None
    os.utime(path, (0, 0))
    assert locks.acquire("run") is not None


def test_what_must_not_happen_twice_at_once_does_not(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        with ExitStack() as stack:
            stack.enter_context(Locks(tmp_path).held("plan"))
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    at_once(6, work)
    assert most == [1]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
