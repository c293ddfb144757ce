"""An arm that trained to the baseline's weights is a no-op, and the reason is given."""

from __future__ import annotations

from dataclasses import replace

from ablate.controls.took_effect import took_effect
from ablate.design.axis import Axis
from ablate.records.metadata import Fingerprint

CLIP = Axis(
    name="max_grad_norm",
    question="?",
    kind="training",
    keys=("train.max_grad_norm",),
    values=(10.0,),
    may_change=("max_grad_norm",),
)
PLACEBO = Axis(
    name="placebo", question="?", kind="placebo", keys=("random_streams.order",), values=(1000,), may_change=("order",)
)


def fingerprint(clip: float) -> Fingerprint:
    return Fingerprint(items={"max_grad_norm": {"max": clip}})


def test_other_weights_took_effect() -> None:
    control = took_effect(
        "max_grad_norm=10",
        CLIP,
        baseline={0: fingerprint(1.0)},
        fingerprints={0: fingerprint(10.0)},
        weights=({0: "a", 1: "b"}, {0: "c", 1: "d"}),
    )
    assert (control.status, control.name) == ("checked", "took_effect")
    assert "2 seeds" in control.sentence


def test_a_setting_that_never_reached_the_run_is_a_no_op() -> None:
    control = took_effect(
        "max_grad_norm=10",
        CLIP,
        baseline={0: fingerprint(1.0)},
        fingerprints={0: fingerprint(1.0)},
        weights=({0: "a"}, {0: "a"}),
    )
    assert control.status == "failed"
    assert "no-op: max_grad_norm=10" in control.sentence
    assert "train.max_grad_norm never reached the run" in control.sentence


def test_an_option_of_a_custom_task_may_have_the_default_of_its_code() -> None:
    control = took_effect(
        "width=8",
        replace(CLIP, name="width", keys=("task.options.width",)),
        baseline={0: fingerprint(1.0)},
        fingerprints={0: fingerprint(1.0)},
        weights=({0: "a"}, {0: "a"}),
    )
    assert control.status == "failed"
    assert "task.options.width has the default of the task's code, or never reached the run" in control.sentence


def test_a_clip_that_never_bound_is_a_no_op_and_says_so() -> None:
    control = took_effect(
        "max_grad_norm=10",
        CLIP,
        baseline={0: fingerprint(1.0), 1: fingerprint(1.0)},
        fingerprints={0: fingerprint(10.0), 1: fingerprint(10.0)},
        weights=({0: "a", 1: "b"}, {0: "a", 1: "b"}),
    )
    assert control.status == "failed"
    assert "max_grad_norm.max (1.0 -> 10.0)" in control.sentence
    assert "no gradient norm was large enough" in control.sentence


def test_effect_in_some_seeds_only_is_counted() -> None:
    control = took_effect(
        "a", CLIP, baseline={}, fingerprints={}, weights=({0: "a", 1: "b", 2: "c"}, {0: "a", 1: "x", 2: "y"})
    )
    assert control.status == "checked"
    assert "2 of 3 seeds; bit-equal in seed 0" in control.sentence


def test_a_placebo_must_have_another_trajectory_too() -> None:
    control = took_effect("placebo", PLACEBO, baseline={}, fingerprints={}, weights=({0: "a"}, {0: "a"}))
    assert control.status == "failed"


def test_unfinished_runs_prove_nothing() -> None:
    control = took_effect("a", CLIP, baseline={}, fingerprints={}, weights=({0: "a", 1: None}, {1: "a"}))
    assert control.status == "unverified"


def on(device: str, clip: float) -> Fingerprint:
    return Fingerprint(items={"environment": {"device": device}, "max_grad_norm": {"max": clip}})


def test_on_a_gpu_other_weights_alone_prove_nothing() -> None:
    """There two equal runs may end with other weights, so something else has to show that the setting reached the run."""
    weights = ({0: "a"}, {0: "b"})
    for device, clip, status in (
        ("x86_64 cpu", 1.0, "checked"),
        ("NVIDIA H100", 2.0, "checked"),
        ("NVIDIA H100", 1.0, "unverified"),
    ):
        control = took_effect(
            "max_grad_norm=2", CLIP, baseline={0: on(device, 1.0)}, fingerprints={0: on(device, clip)}, weights=weights
        )
        assert control.status == status
    assert "nothing shows that train.max_grad_norm reached the run" in control.sentence
