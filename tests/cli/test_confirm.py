"""A long study asks before it starts; without a terminal it refuses, with the text to type."""

from __future__ import annotations

import pytest

from ablate.runner.forecast import Pace


class Timed:
    """Stands in for the timed steps. rate: steps per second of training, and evaluated examples per second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.calls = 0

    def __call__(self, config, *, num_parallel):
        self.calls += 1
        return Pace(step_seconds=1 / self.rate, example_seconds=1 / self.rate, startup_seconds=2.0)


@pytest.fixture
def timed(monkeypatch):
    made = Timed(0.01)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", made)
    return made


@pytest.fixture
def terminal(monkeypatch):
    """terminal(answer): somebody sits there and types it. Returns what was asked."""

    def sit(answer):
        asked = []

        def ask(question):
            asked.append(question)
            if answer is None:
                raise EOFError
            return answer

        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("builtins.input", ask)
        return asked

    return sit


LONG = ("-m", "axis=batch_size", "study.seeds=8", "study.workers=1")


def test_without_a_terminal_a_long_study_is_refused_and_nothing_is_left(ablate, runs, here, timed):
    code, _, err = ablate(*LONG)
    assert code == 2
    assert "batch_size takes about " in err
    assert "hours (16 runs to do, 1 at a time)" in err
    assert "there is no terminal to ask on, and nothing was started" in err
    assert "study.confirm_above_hours=null never to ask" in err
    assert not runs.jobs
    assert not list(here.iterdir())


@pytest.mark.slow
def test_the_text_to_type_lets_it_start(ablate, runs, here, timed):
    _, _, err = ablate(*LONG)
    larger = err.split("fix: ")[1].split(",")[0]
    assert ablate(*LONG, larger)[0] == 0
    assert len(runs.jobs) == 16
    assert ablate(*LONG, "study.name=other", "study.confirm_above_hours=null")[0] == 0


@pytest.mark.parametrize("answer", ["y", "YES", " yes "])
def test_on_a_terminal_it_asks_once_with_the_estimate_and_times_once(ablate, runs, here, timed, terminal, answer):
    asked = terminal(answer)
    assert ablate(*LONG)[0] == 0
    assert len(asked) == 1
    assert "takes about" in asked[0]
    assert "[y/N]" in asked[0]
    assert timed.calls == 2  # batch size 8, and 64
    assert len(runs.jobs) == 16


@pytest.mark.parametrize("answer", ["", "n", "what?", None])
def test_anything_but_yes_starts_nothing(ablate, runs, here, timed, terminal, answer):
    terminal(answer)
    code, _, err = ablate(*LONG)
    assert code == 130
    assert "not started; nothing was run" in err
    assert not runs.jobs


def test_an_obviously_small_study_is_neither_timed_nor_asked_about(ablate, runs, here, timed):
    assert ablate("-m", "axis=batch_size", "study.seeds=2")[0] == 0
    assert timed.calls == 0
    assert len(runs.jobs) == 4


def test_the_reference_study_is_obviously_small(ablate, runs, here, timed):
    code, out, err = ablate("-m", "study=reference", "study.workers=2")
    assert code == 0, out + err
    assert timed.calls == 0


def test_a_long_study_that_is_quick_here_is_timed_and_started(ablate, runs, here, timed):
    timed.rate = 1e6
    assert ablate(*LONG)[0] == 0
    assert timed.calls == 2
    assert len(runs.jobs) == 16


@pytest.mark.slow
def test_runs_on_another_machine_are_not_timed_here(ablate, runs, here, timed, monkeypatch):
    monkeypatch.setattr("ablate.runner.worker.execute", lambda *_, **__: None)
    ablate(*LONG, "hydra/launcher=basic")
    assert timed.calls == 0


def test_what_is_done_already_is_not_counted(ablate, runs, here, timed):
    assert ablate(*LONG, "study.confirm_above_hours=null")[0] == 0
    runs.forget()
    assert ablate(*LONG)[0] == 0
    assert not runs.jobs
    assert timed.calls == 0


def test_plan_says_that_it_will_ask_and_runs_nothing(ablate, runs, here, timed):
    code, out, _ = ablate("plan", *LONG[1:])
    assert code == 0
    assert "`ablate -m` asks for confirmation before it starts" in " ".join(out.split())
    assert not list(here.iterdir())


def test_steps_that_fail_do_not_keep_a_study_from_saying_so_itself(ablate, runs, here, monkeypatch):
    from ablate.errors import AblateError

    def fails(config, *, num_parallel):
        raise AblateError("the first steps fail: out of memory")

    monkeypatch.setattr("ablate.runner.forecast.time_steps", fails)
    assert ablate(*LONG)[0] == 0
    code, _, err = ablate("plan", *LONG[1:], "study.name=other")
    assert code == 2
    assert "batch_size=64: the first steps fail: out of memory" in err
