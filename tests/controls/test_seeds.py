"""Two seeds of an arm that end alike are one run, counted twice."""

from __future__ import annotations

from ablate.controls.took_effect import seeds_differ
from ablate.records.metadata import Fingerprint


def prints(**items: str) -> Fingerprint:
    return Fingerprint(items={name: {"x": value} for name, value in items.items()})


def test_other_weights_in_every_seed() -> None:
    control = seeds_differ("a", fingerprints={}, weights={0: "x", 1: "y", 2: "z"})
    assert control is not None
    assert (control.status, control.sentence) == ("checked", "3 seeds, as many different final weights")


def test_equal_weights_name_the_seeds_and_what_else_is_equal() -> None:
    same = {0: prints(init="i", order="o"), 1: prints(init="j", order="p"), 2: prints(init="i", order="o")}
    control = seeds_differ("a", fingerprints=same, weights={0: "x", 1: "y", 2: "x"})
    assert control is not None
    assert control.status == "failed"
    assert control.sentence == (
        "seed ignored: a, seeds 0 and 2 end with the same weights, bit for bit; equal too: init, order"
    )


def test_equal_weights_after_other_draws_mean_that_training_does_nothing() -> None:
    other = {0: prints(init="i", order="o"), 1: prints(init="i", order="p")}
    control = seeds_differ("a", fingerprints=other, weights={0: "x", 1: "x"})
    assert control is not None
    assert control.sentence.endswith("equal too: init; other order than each other, so training itself changed nothing")


def test_one_finished_seed_says_nothing() -> None:
    assert seeds_differ("a", fingerprints={}, weights={0: "x", 1: None}) is None
