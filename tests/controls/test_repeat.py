"""The same seed twice: equal weights show it, other weights are told apart from a failure."""

from __future__ import annotations

from ablate.controls.took_effect import repeats


def test_equal_weights_are_the_proof() -> None:
    control = repeats("rerun", weights=({0: "a", 1: "b"}, {0: "a"}))
    assert (control.name, control.status) == ("rerun_identical", "checked")
    assert control.sentence == "seed 0 twice: same weights bit for bit"


def test_other_weights_are_said_and_are_no_failure() -> None:
    control = repeats("rerun", weights=({0: "a", 1: "b"}, {0: "a", 1: "c"}))
    assert control.status == "unverified"
    assert "seeds 0, 1 twice: other weights in 1 of 2" in control.sentence
    assert "nondeterminism floor" in control.sentence


def test_without_a_finished_pair_nothing_is_checked() -> None:
    control = repeats("rerun", weights=({0: None, 1: "b"}, {0: "a"}))
    assert control.status == "unverified"
    assert "no seed in which both" in control.sentence
