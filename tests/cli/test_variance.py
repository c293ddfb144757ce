"""`study.design=variance_components` as it is typed."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("typed", "says", "fix"),
    [
        (
            "study.streams=[init]",
            "study.streams=[init]: expected exactly 2 streams, got 1",
            "study.streams=[init,order]",
        ),
        ("study.streams=[order]", "expected exactly 2 streams, got 1", "study.streams=[order,init]"),
        (
            "study.streams=[init,order,dropout]",
            "expected exactly 2 streams, got 3",
            "study.streams=[init,order+dropout]",
        ),
        ("study.streams=[init,ordr]", "unknown random stream 'ordr'", "did you mean 'order'?"),
        ("study.streams=[init,init]", "'init' is named twice", "study.streams=[init,order]"),
        ("study.draws=1", "study.draws=1 is out of range: expected at least 2 and at most 30", "study.draws=2"),
        (
            "axis=batch_size",
            "study.design=variance_components with batch_size: all its runs are of one config",
            "leave out",
        ),
        ("optim.lr=1e-3,1e-4", "study.design=variance_components with optim.lr", "leave out"),
        (
            "study.stopping=sequential",
            "study.stopping=sequential with study.design=variance_components",
            "study.stopping=fixed",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(ablate, runs, typed, says, fix):
    code, _, err = ablate("-m", "study.design=variance_components", typed)
    assert code == 2
    assert says in err
    assert fix in err.partition("fix:")[2]
    assert runs.jobs == []


@pytest.mark.slow
def test_every_pair_of_draws_is_run_once(ablate, runs, here):
    code, _, _ = ablate("-m", "study.design=variance_components", "study.draws=3", "study.seeds=4")
    assert code == 0
    assert sorted(runs.names) == sorted(
        ["baseline/0", *(f"init{i}_order{j}/0" for i in range(3) for j in range(3) if i or j)]
    )
    moved = {job.arm: job.changes for job in runs.jobs}
    assert moved["init2_order1"] == {"random_streams.init": 2000, "random_streams.order": 1000}
    assert moved["baseline"] == {}
    assert (here / "runs" / "variance" / "plan.json").exists()
    runs.forget()
    ablate("-m", "study.design=variance_components", "study.draws=3", "study.seeds=4")
    assert runs.names == [], "the same command again has nothing to do"
