"""A run of several sessions is one run only where code and environment stayed as they were."""

from __future__ import annotations

from ablate.controls.fingerprint_match import Sessions, sessions_alike

OLD, NEW = "a" * 64, "b" * 64


def test_runs_in_one_piece_say_nothing() -> None:
    assert sessions_alike("a", {0: Sessions([OLD], [{"torch": "2"}]), 1: Sessions()}) is None


def test_the_same_code_in_the_same_environment() -> None:
    control = sessions_alike("a", {0: Sessions([OLD, OLD], [{"torch": "2"}] * 2), 1: Sessions([OLD])})
    assert control is not None
    assert control.status == "checked"
    assert control.sentence.startswith("1 of 2 runs were interrupted")


def test_other_code_is_named_unless_it_was_accepted() -> None:
    runs = {3: Sessions([OLD, OLD, NEW])}
    control = sessions_alike("a", runs)
    assert control is not None
    assert control.status == "failed"
    assert control.sentence == (
        "contaminated: a, seed 3: session 3 of the run is by other code (aaaaaaaaaaaa -> bbbbbbbbbbbb) than the one before"
    )
    accepted = sessions_alike("a", runs, accepted=(OLD, NEW))
    assert accepted is not None
    assert accepted.status == "checked"
    assert accepted.sentence == "seed 3 continued by other code, which was accepted when the study was run"


def test_another_environment_is_named_by_its_first_leaf() -> None:
    control = sessions_alike(
        "a", {0: Sessions([], [{"torch": "2", "num_threads": 1}, {}, {"torch": "2", "num_threads": 4}])}
    )
    assert control is not None
    assert "session 3 of the run has another environment.num_threads (1 -> 4) than the one before" in control.sentence
