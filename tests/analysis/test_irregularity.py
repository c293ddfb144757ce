"""Planted studies of an irregular eval curve: the answer names who removes it, and whether the training or the cadence does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ablate.analysis.analyse import analyse
from ablate.analysis.answer_results import Irregularity, Suspect
from ablate.analysis.irregularity import IRREGULAR
from ablate.analysis.results import Analysis
from ablate.records.layout import StudyDir
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from tests.synthetic import write_study

LARGE, RATIO, COARSE = "batch_size=64", "train_test_ratio=4", "eval_every=128 samples"
Curve = Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


def steep(rng: np.random.Generator, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """A decrease that is over before the first evaluation of a coarse cadence, and noise."""
    return 0.5 + 0.2 * np.exp(-samples / 40) + 0.006 * rng.standard_normal(len(samples))


def slow(rng: np.random.Generator, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """A decrease that every cadence shows."""
    return 0.5 + 0.2 * np.exp(-samples / 400) + 0.002 * rng.standard_normal(len(samples))


def restless(rng: np.random.Generator, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Irregular at every cadence."""
    return 0.6 + 0.05 * rng.standard_normal(len(samples))


def study(folder: Path, curves: dict[str, Curve], *, metric: str = "eval_loss", seeds: int = 10) -> Analysis:
    """A study whose eval losses are planted, arm by arm; every run is evaluated at each of its steps."""
    write_study(folder, arms=(LARGE, RATIO, COARSE), seeds=seeds, metric=metric)
    plan = folder / "plan.json"
    plan.write_text(plan.read_text().replace('"every": "64 samples"', '"every": "8 samples"'))
    for number, (arm, curve) in enumerate(curves.items()):
        for seed in range(seeds):
            batch = 64 if arm == LARGE else 8
            steps = np.arange(0, 1024 // batch + 1)
            values = curve(np.random.default_rng([number, seed]), batch * steps.astype(np.float64))
            values[0] = 0.7
            count = np.full(len(steps), 256)
            columns = {
                "split": ["held_out"] * len(steps), "metric": ["loss"] * len(steps), "step": steps, "samples": batch * steps,
                "tokens": 20 * batch * steps, "epoch": batch * steps / 1000, "train_seconds": steps / 10,
                "eval_seconds": np.full(len(steps), 0.1), "sum": values * count, "count": count,
                "sum_squares": (values**2 + 0.01) * count,
            }  # fmt: skip
            with TableWriter(StudyDir(folder).run(arm, seed).evals, EVALS) as table:
                table.write(columns)
    return analyse(folder)


def answer(analysis: Analysis) -> Irregularity:
    assert analysis.irregularity is not None
    return analysis.irregularity


def suspects(analysis: Analysis) -> dict[str, Suspect]:
    return {one.arm: one for one in answer(analysis).suspects}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = tmp_path_factory.mktemp("runs") / "artefact"
    return study(folder, {"baseline": steep, LARGE: slow, RATIO: steep})


def test_the_symptom_is_read_at_the_coarse_cadence_and_the_record_does_not_have_it(artefact: Analysis) -> None:
    found = answer(artefact)
    assert (found.cadence, found.record, found.present) == ("128 samples", "8 samples", True)
    assert found.baseline is not None
    assert found.at_record is not None
    assert found.baseline > 0.5
    assert found.at_record < IRREGULAR


def test_the_training_and_the_cadence_both_remove_it_and_explain_one_thing(artefact: Analysis) -> None:
    found = suspects(artefact)
    assert (found[LARGE].kind, found[LARGE].outcome) == ("training", "removes")
    assert (found[COARSE].kind, found[COARSE].outcome) == ("observation", "removes")
    assert found[RATIO].outcome == "not shown"
    assert (found[LARGE].removed or 0) > 0.8
    assert answer(artefact).one_cause is True
    said = answer(artefact).answer
    assert said.startswith("Evaluated every 128 samples, the baseline's eval loss is irregular (")
    assert "batch_size 8 -> 64 (to " in said
    assert "removes it by changing the training" in said
    assert "eval_every 128 samples -> 8 samples (to " in said
    assert "removes it only by showing the decrease" in said
    assert "not shown to change it: train_test_ratio 1 -> 4" in said
    assert "two explanations of one thing" in said
    assert artefact.conclusions[0] == said


def test_the_gradient_norm_of_each_suspect_follows(artefact: Analysis) -> None:
    said = answer(artefact).sentences[-1]
    assert said.startswith("Gradient-norm spread (p95 - p5), ")
    assert "batch_size 8 -> 64 lowers it to " in said
    assert said.endswith("No cadence changes it.")
    assert suspects(artefact)[LARGE].grad_norm_verdict == "lowers"
    assert suspects(artefact)[COARSE].grad_norm_before is None


def test_the_cadence_has_an_effect_with_an_interval_and_a_verdict(artefact: Analysis) -> None:
    one = next(one for one in artefact.observed if one.metric == "eval_loss_irregularity")
    assert (one.arm, one.verdict, len(one.seeds)) == (COARSE, "raises", 10)
    assert one.low is not None
    assert one.low > 0
    shown = suspects(artefact)[COARSE]
    assert shown.effect == pytest.approx(-(one.effect or 0))
    assert (shown.low, shown.verdict) == (pytest.approx(-(one.high or 0)), "lowers")
    assert {other.metric for other in artefact.observed} >= {"best_eval_loss", "eval_loss_auc"}
    assert "eval_loss" not in {other.metric for other in artefact.observed}  # the final evaluation is the same


def test_what_dense_evaluation_shows_as_well_is_not_a_matter_of_the_cadence(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", {"baseline": restless, LARGE: slow, RATIO: restless})
    found = suspects(analysis)
    assert (found[LARGE].outcome, found[COARSE].outcome) == ("removes", "not shown")
    assert answer(analysis).one_cause is None
    assert "It is not only a matter of the cadence" in answer(analysis).answer


def test_without_the_symptom_nothing_is_judged(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", {"baseline": slow, LARGE: slow, RATIO: slow})
    found = answer(analysis)
    assert (found.present, found.suspects, found.sentences) == (False, (), ())
    assert found.answer.endswith("the symptom is absent, and no suspect is judged.")


def test_a_study_about_something_else_has_no_answer_about_irregularity(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATIO], seeds=2)
    assert analyse(tmp_path / "s").irregularity is None
    write_study(tmp_path / "t", arms=[RATIO], seeds=2, metric="eval_loss_irregularity")
    assert answer(analyse(tmp_path / "t")).cadence == "64 samples"


def test_a_curve_of_few_evaluations_is_not_called_regular(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[LARGE], seeds=1, missing=[("baseline", 0)], metric="eval_loss_irregularity")
    found = answer(analyse(tmp_path / "s"))
    assert found.present is None
    assert "needs 8 evaluations after training began" in found.answer


def test_a_cadence_that_hides_the_irregularity_is_named(tmp_path: Path) -> None:
    """A zigzag of which the coarse cadence meets one side alone."""

    def hidden(rng: np.random.Generator, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        return (
            0.5
            + 0.1 * np.exp(-samples / 400)
            + 0.05 * np.cos(2 * np.pi * samples / 16)
            + 1e-4 * rng.standard_normal(len(samples))
        )

    analysis = study(tmp_path / "s", {"baseline": hidden, LARGE: slow, RATIO: hidden}, seeds=3)
    found = answer(analysis)
    assert (found.cadence, found.record, found.present) == ("8 samples", "8 samples", True)
    assert "Evaluated every 128 samples, it would appear regular" in found.answer
    assert {one.kind for one in found.suspects} == {"training"}
