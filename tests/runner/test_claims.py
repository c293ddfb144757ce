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
from ablate.runner.locks import Claim, Claims


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    """Without a heartbeat, so that a test may say how old a file is."""
    return Claims(tmp_path, stale_seconds=5.0)


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Claims]:
    with Claims(tmp_path, beat_seconds=0.05) as found:
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


def rewrite(claim: Claim, **changes: object) -> None:
    value = json.loads(claim.path.read_text())
    claim.path.write_text(json.dumps(value | changes))


def left_by_a_dead_process(root: Path, name: str) -> None:
    code = (
        "import os; from pathlib import Path; from ablate.runner.locks import Claims;"
        f"Claims(Path({str(root)!r})).take({name!r}); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_many_that_ask_at_once_one_gets_it(tmp_path: Path) -> None:
    names, got = [f"run{k}" for k in range(50)], Counter[str]()

    def take_all(_: int) -> None:
        mine = Claims(tmp_path)
        got.update(name for name in names if mine.take(name) is not None)

    at_once(8, take_all)
    assert got == Counter(names)


def test_what_was_given_back_can_be_taken_again(claims: Claims) -> None:
    first = claims.take("run")
    assert first is not None
    assert claims.take("run") is None
    owner = claims.holder("run")
    assert owner is not None
    assert owner.pid == os.getpid()
    claims.release(first)
    assert claims.holder("run") is None
    assert claims.take("run") is not None


def test_the_end_gives_everything_back_and_leaves_no_file(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        claims.take("run")
    assert not list((tmp_path / ".claims").iterdir())


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path: Path, claims: Claims) -> None:
    left_by_a_dead_process(tmp_path, "run")
    assert claims.take("run") is not None


def test_a_pid_that_another_process_has_now_is_a_dead_process(claims: Claims) -> None:
    claim = claims.take("run")
    assert claim is not None
    rewrite(claim, started="1", token="of the earlier process")
    assert claims.take("run") is not None


def test_of_many_that_find_a_dead_process_one_takes_over(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path, "run")
    dead = (tmp_path / ".claims/run").read_text()
    for k in range(40):
        (tmp_path / f".claims/run{k}").write_text(dead)
        got: list[Claim | None] = []
        at_once(8, lambda _, k=k, got=got: got.append(Claims(tmp_path).take(f"run{k}")))
        assert sum(claim is not None for claim in got) == 1


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"boot": "another"}, {"pids": "pid:[1]"}])
def test_another_machine_is_judged_by_its_heartbeat_alone(claims: Claims, changes: dict[str, str]) -> None:
    claim = claims.take("run")
    assert claim is not None
    rewrite(claim, **changes, pid=2**30, token="theirs")
    assert claims.take("run") is None
    an_hour_ago = time.time() - 3600
    os.utime(claim.path, (an_hour_ago, an_hour_ago))
    assert claims.take("run") is not None


def test_the_age_is_by_the_clock_of_the_file_server(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local clock that is a day ahead makes nobody's heartbeat old."""
    claim = claims.take("run")
    assert claim is not None
    rewrite(claim, host="elsewhere", token="theirs")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert claims.take("run") is None


def test_a_heartbeat_keeps_a_claim_fresh(beating: Claims) -> None:
    claim = beating.take("run")
    assert claim is not None
    os.utime(claim.path, (0, 0))
    until(lambda: claim.path.stat().st_mtime > 1e9)


def test_an_owner_that_lost_its_claim_is_told_and_leaves_the_other_alone(beating: Claims) -> None:
    claim = beating.take("run")
    assert claim is not None
    assert not claim.is_lost()
    rewrite(claim, token="theirs", host="elsewhere")
    assert claim.is_lost()
    until(lambda: beating.is_lost(claim))
    beating.release(claim)
    assert json.loads(claim.path.read_text())["token"] == "theirs"


def test_a_claim_whose_file_was_removed_is_put_back(beating: Claims) -> None:
    claim = beating.take("run")
    assert claim is not None
    claim.path.unlink()
    assert not claim.is_lost()
    until(claim.path.exists)
    assert not beating.is_lost(claim)


def test_claims_of_the_dead_are_removed_and_others_are_not(tmp_path: Path, claims: Claims) -> None:
    left_by_a_dead_process(tmp_path, "open.study.1")
    left_by_a_dead_process(tmp_path, "other")
    claims.take("open.study.2")
    claims.forget_dead("open.*")
    assert sorted(path.name for path in claims.folder.glob("[!.]*")) == ["open.study.2", "other"]


def test_a_claim_that_another_one_has_taken_over_is_not_given_back_by_the_first(claims: Claims) -> None:
    claim = claims.take("run")
    assert claim is not None
    rewrite(claim, token="of the one who took over")
    claims.release(claim)
    assert json.loads(claim.path.read_text())["token"] == "of the one who took over"


def test_who_looked_before_another_took_over_leaves_the_new_claim_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen the dead one; the second acts when the first is done."""
    left_by_a_dead_process(tmp_path, "run")
    first, second = Claims(tmp_path), Claims(tmp_path)
    taken: list[Claim | None] = []
    alive = second._is_alive

    def looks_and_then_the_first_acts(found: module._Found) -> bool:
        answer = alive(found)
        if not taken:
            taken.append(first.take("run"))
        return answer

    monkeypatch.setattr(second, "_is_alive", looks_and_then_the_first_acts)
    assert second.take("run") is None
    assert taken[0] is not None
    assert json.loads(taken[0].path.read_text())["token"] == taken[0].token
    assert not [path for path in (tmp_path / ".claims").iterdir() if path.name != "run"]


def test_a_turn_whose_owner_died_in_it_is_taken_over_too(tmp_path: Path, claims: Claims) -> None:
    left_by_a_dead_process(tmp_path, "run")
    token = json.loads((claims.folder / "run").read_text())["token"]
    left_by_a_dead_process(tmp_path, f".run.{token}")
    assert claims.take("run") is not None
    assert [path.name for path in claims.folder.iterdir()] == ["run"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(module.os, "link", link)
    test_of_many_that_ask_at_once_one_gets_it(tmp_path)


def test_a_torn_claim_is_somebodys_until_it_is_old(claims: Claims) -> None:
    claims.folder.mkdir(exist_ok=True)
    path = claims.folder / "run"
    path.write_text('{"host": "els')
    assert claims.take("run") is None
    os.utime(path, (0, 0))
    assert claims.take("run") is not None


def test_what_must_not_happen_twice_at_once_does_not(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        with ExitStack() as stack:
            stack.enter_context(Claims(tmp_path).alone("plan"))
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
