"""What is shown, before it is drawn."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ablate.analysis.analyse import analyse
from ablate.analysis.contrasts import PLACEBO_DIFFERS
from ablate.controls.control import Control
from ablate.report import print_report
from ablate.report.html import page
from ablate.report.latex import latex
from ablate.report.markdown import markdown
from ablate.report.sections import build
from ablate.report.view_model import make_view, resampled
from tests.report.conftest import Study
from tests.report.made_up import contrast
from tests.synthetic import write_study


def test_the_headline_says_every_verdict_once(study: Study) -> None:
    headline = make_view(study.analysis).headline
    assert headline == (
        "batch_size 8 → 64 hurts eval_loss (+0.178 nats); train_test_ratio 1 → 4 is inconclusive; "
        "eval_every only changes how often the runs are evaluated."
    )


def test_a_refused_arm_is_in_the_headline_without_its_effect(study: Study) -> None:
    refused = (contrast("batch_size=64", verdict="none"), contrast("train_test_ratio=4", verdict="equivalent", value=4))
    headline = make_view(replace(study.analysis, contrasts=refused, replays=())).headline
    assert headline == "train_test_ratio 8 → 4 is equivalent; batch_size 8 → 64 gets no verdict."


def test_held_is_what_every_trained_variant_proved_equal(study: Study) -> None:
    observed = Control(
        arm="eval_every=128 samples", name="matched", status="checked", sentence="same runs", held=("all",)
    )
    view = make_view(replace(study.analysis, controls=(*study.analysis.controls, observed)))
    assert view.held == ("init", "splits", "eval_set")
    assert dict(view.controls)["matched"] == "4/4 checked"


def test_a_failed_control_names_its_arm_once(study: Study) -> None:
    controls = (
        Control(arm="placebo", name="matched", status="failed", sentence="init differs (aa -> bb)"),
        Control(arm="placebo", name="took_effect", status="unverified", sentence="placebo has no fingerprint"),
    )
    assert make_view(replace(study.analysis, controls=controls)).control_failures == (
        "placebo: matched failed: init differs (aa → bb)",
        "took effect unverified: placebo has no fingerprint",
    )


def test_runs_that_ended_alike_are_one_line(study: Study) -> None:
    first, second, third, *rest = study.analysis.runs
    waiting = [replace(run, status="missing", sentence="has not been started") for run in (first, second)]
    failed = replace(third, status="failed", sentence="ValueError at step 3")
    troubles = make_view(replace(study.analysis, runs=(*waiting, failed, *rest))).troubles
    assert [status for status, _ in troubles] == ["missing", "failed"]
    assert troubles[0][1] == f"{first.arm}, seed 0; {second.arm}, seed 0: has not been started"


def test_a_placebo_that_moves_keeps_its_verdict(study: Study) -> None:
    moved = contrast("placebo", verdict="hurts")
    (row,) = make_view(replace(study.analysis, contrasts=(moved,))).primary
    assert (row.verdict, row.significant) == ("hurts", True)


def test_a_trajectory_that_was_not_the_same_is_said_first(study: Study) -> None:
    level = replace(study.analysis.replays[0], same_trajectory=False)
    assert resampled([level]).startswith("NOT the same trajectory")


def test_colours_belong_to_arms_and_the_baseline_has_its_own(study: Study) -> None:
    view = make_view(study.analysis)
    assert [view.style(arm) for arm in view.trained] == ["baseline", "v1", "v2", "placebo"]


def test_the_primary_outcome_leads_the_narrow_table(study: Study) -> None:
    view = make_view(replace(study.analysis, metric="grad_norm_median"))
    (table, *_) = build(view, study.folder, "answer")["answer"][0].tables
    assert table.head[1] == "grad_norm_median"
    assert table.head[-1] == "eval_loss"
    assert [outcome.info.name for outcome in view.gradient] == ["grad_norm_p95_p5", "grad_norm_max"]


def test_both_floors_are_shown_on_every_outcome_and_the_repeat_is_no_row_of_means(study: Study, tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["learning_rate=0.0001", "placebo", "rerun"], seeds=3)
    view = make_view(analyse(tmp_path / "s"))
    assert [floor.name for floor in view.floors] == ["noise floor", "nondeterminism floor"]
    assert view.floors[1].of("grad_norm_max") == "0"
    assert view.repeated == {"rerun": "same seed twice, same weights bit for bit: nondeterminism floor 0"}
    assert "rerun" not in [arm.name for arm in view.trained]
    assert view.heading == "2 arms + placebo × 3 seeds"
    assert dict(view.controls)["rerun identical"] == "1/1 checked"
    sections = build(view, tmp_path / "s")
    for text in (markdown(view, tmp_path / "s", sections), latex(view, sections), page(view, tmp_path / "s", sections)):
        assert "nondeterminism floor 0" in text
        assert f"oise floor {view.floors[0].value}" in text
    file = io.StringIO()
    print_report(view.analysis, tmp_path / "s", Console(file=file, width=80))
    assert "nondeterminism floor 0" in " ".join(file.getvalue().split())
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert max(len(line) for line in lines if not line.startswith(("page", "          ablate"))) <= 80


def test_a_placebo_that_differs_is_marked(study: Study) -> None:
    moved = contrast("placebo", labels=(PLACEBO_DIFFERS, "LOW POWER"))
    (row,) = make_view(replace(study.analysis, contrasts=(moved,))).primary
    assert (row.verdict, row.remark) == ("hurts", "PLACEBO DIFFERS, LOW POWER")


def test_a_placebo_that_differs_is_the_first_caution(study: Study) -> None:
    said = f"{PLACEBO_DIFFERS}: the placebo differs."
    moved = (contrast("batch_size=64"), contrast("placebo", labels=(PLACEBO_DIFFERS,)))
    view = make_view(replace(study.analysis, contrasts=moved, conclusions=(said, "Another.")))
    assert view.cautions[0] == said


def test_a_label_of_every_contrast_is_said_once_among_the_cautions(study: Study) -> None:
    view = make_view(replace(study.analysis, conclusions=("LOW POWER: 3 seeds. Few.", "Something else.")))
    assert [row.remark for row in view.primary] == ["", "", "0.012"]
    assert view.cautions == ("LOW POWER: 3 seeds. Few.",)
    assert make_view(study.analysis).cautions == ("LOW POWER.",)


def test_how_many_seeds_says_what_each_number_is_for(study: Study) -> None:
    view = make_view(study.analysis)
    hurts, undecided, placebo = view.primary
    assert (view.seeds_needed(hurts), view.seeds_needed(placebo)) == ("", "")
    said = view.seeds_needed(undecided)
    assert re.fullmatch(
        r"seeds to find a true effect of 0\.0032: \d+ \(\d+ to [\w, ]+\); "
        r"to settle whether eval_loss \(nats\) moves by 0\.01: \d+ \(\d+ to \d+\)",
        said,
    )
