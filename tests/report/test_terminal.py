"""What the terminal and a pipe show."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.analysis.analyse import analyse
from ablate.analysis.contrasts import PLACEBO_DIFFERS
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.controls.control import Control
from ablate.report import print_replay, print_report
from ablate.stats.verdicts import BY_STEPS, LOW_POWER
from tests.report.conftest import Study
from tests.report.made_up import contrast
from tests.report.test_tables import renamed
from tests.synthetic import write_study

MINUS = "\N{MINUS SIGN}"
PATHS = ("page", "          ablate")
"""How lines begin that hold a path or a command to copy, which is never wrapped."""


def shown(study: Study, *, width: int = 80, encoding: str = "utf-8", **changes: Any) -> str:
    return printed(replace(study.analysis, **changes), study, width=width, encoding=encoding)


def printed(analysis: Analysis, study: Study, *, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_report(analysis, study.folder, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 72, 80, 120])
def test_it_fits_the_width_and_cuts_no_number(study: Study, width: int) -> None:
    text = shown(study, width=width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines if not line.startswith(PATHS)) <= width
    for figure in ("0.178", "[0.160, 0.196]", f"{MINUS}0.003", f"[{MINUS}0.021, 0.015]", "0.508", "0.621", "8.03"):
        assert figure in text
    assert "…\n" not in text, "a cell was cut"


def test_a_row_says_arm_mean_sd_effect_interval_and_verdict_below_the_baseline(study: Study) -> None:
    baseline, row, *_ = [
        line
        for line in shown(study).splitlines()
        if line.startswith(("baseline ", "batch_size 8 → 64 ")) and "±" in line
    ]
    assert re.search(r"^baseline +0\.508\d+ ± 0\.000\d+ *$", baseline)
    assert re.search(r"0\.68\d+ ± 0\.000\d+ +\+0\.178 +\[0\.160, 0\.196\] +hurts", row)


def test_a_study_of_five_arms_fits_a_screen(tmp_path: Path) -> None:
    arms = ("batch_size=64", "train_test_ratio=4", "learning_rate=0.0001", "eval_every=256 samples", "placebo")
    write_study(tmp_path / "s", arms=arms, seeds=3)
    analysis = analyse(tmp_path / "s")
    text = printed(analysis, Study(tmp_path / "s", read_plan(tmp_path / "s"), analysis))
    assert len(text.splitlines()) <= 42


def test_header_placebo_observation_axis_controls_and_page(study: Study) -> None:
    text = shown(study)
    flat = " ".join(text.split())
    assert text.startswith("reference  ")
    assert "3 arms + placebo × 3 seeds" in flat
    assert "noise floor 0.012" in flat
    assert "eval_every same training runs, recorded less often" in flat
    assert "72% at 512 samples" in flat
    assert "controls 9 of 9 checked; equal in every arm: 3 items" in flat
    assert text.splitlines()[-1] == f"page      {study.folder / 'report.html'}"


def test_the_answer_comes_before_the_tables_and_what_to_run_next_after_them(study: Study) -> None:
    flat = " ".join(shown(study, command="ablate -m axis=batch_size study.seeds=3").split())
    marks = ("hurts eval_loss (+0.178 nats)", "95% interval", "gradient norm", "controls", "caution LOW POWER", "next")
    places = [flat.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "next 8 runs, about" in flat
    assert "detects effects from" in flat
    assert "ablate -m axis=batch_size study.seeds=5" in flat


def test_undecided_says_how_many_seeds(study: Study) -> None:
    flat = " ".join(shown(study, width=120).split())
    assert "train_test_ratio 1 → 4: seeds to find a true effect of 0.0032:" in flat
    assert "to settle whether eval_loss (nats) moves by 0.01:" in flat


@pytest.mark.parametrize("width", [60, 80])
def test_the_longest_labels_fit_too(study: Study, width: int) -> None:
    labels = (PLACEBO_DIFFERS, LOW_POWER, BY_STEPS, "3 of 5 seeds", "MISSING SEEDS")
    loud = contrast("batch_size=64", verdict="inconclusive", seeds_needed=120, labels=labels)
    text = shown(study, width=width, contrasts=(loud,))
    assert max(len(line.rstrip()) for line in text.splitlines() if not line.startswith(PATHS)) <= width
    assert all(word in text for label in labels for word in label.split())


def test_a_failed_run_and_a_failed_control_are_named_with_their_sentence(study: Study) -> None:
    first, *rest = study.analysis.runs
    broken = replace(
        first, status="diverged", sentence="10 consecutive steps had non-finite gradients, the last at step 70"
    )
    control = Control(arm="batch_size=64", name="matched", status="failed", sentence="init differs at seed 1: layer.1")
    refused = contrast("batch_size=64", verdict="none")
    flat = " ".join(shown(study, runs=(broken, *rest), controls=(control,), contrasts=(refused,)).split())
    assert "baseline, seed 0: 10 consecutive steps had non-finite gradients, the last at step 70" in flat
    assert "batch_size=64: matched failed: init differs at seed 1: layer.1" in flat
    assert "no verdict" in flat
    assert "controls 0 of 1 checked" in flat


def test_one_seed_has_no_interval_and_says_so_with_a_dash(study: Study) -> None:
    single = contrast(
        "batch_size=64",
        effect=None,
        low=None,
        high=None,
        seeds=(0,),
        differences=(0.17,),
        verdict="inconclusive",
        seeds_needed=None,
    )
    assert re.search(r"batch_size 8 → 64 +0\.\d+ ± 0\.\d+ +– +– +inconclusive", shown(study, contrasts=(single,)))


def test_an_incomplete_study_says_so(study: Study) -> None:
    assert "NOT COMPLETE" in shown(study, complete=False)


def test_a_name_in_brackets_stays_a_name(study: Study) -> None:
    assert "[bold red]x[/bold red]" in printed(replace(study.analysis, study="[bold red]x[/bold red]"), study)


def test_a_pipe_gets_plain_text_and_no_color_is_respected(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in shown(study)
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    print_report(study.analysis, study.folder, Console(file=file, width=80, force_terminal=True))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", file.getvalue())


def test_a_console_without_unicode_gets_the_same_in_ascii(study: Study) -> None:
    text = shown(study, encoding="ascii")
    assert "batch_size 8 -> 64" in text
    assert "[-0.021, 0.015]" in text
    assert "?" not in text.replace("irregular?", "")


def test_a_study_of_observation_axes_alone_needs_no_contrasts(study: Study) -> None:
    flat = " ".join(shown(study, contrasts=(), controls=(), floors=()).split())
    assert "same training runs, recorded less often" in flat
    assert "95% interval" not in flat


def test_replay_shows_each_look_of_each_level(study: Study) -> None:
    file = io.StringIO()
    print_replay(study.analysis.replays, Console(file=file, width=80))
    text = file.getvalue()
    assert "eval_every 512 samples: 3 evaluations" in text
    block = text[text.index("eval_every 512 samples") :]
    assert re.findall(r"^ +(\d+) +(\d+) +([\d.]+) +─+ *$", block, re.M) == [
        ("0", "0", "0.6920"),
        ("64", "512", "0.5567"),
        ("128", "1024", "0.5193"),
    ]


def test_a_long_name_is_broken_after_its_joints_and_not_inside_its_words(study: Study) -> None:
    long = "batch_size=64+train_test_ratio=4+learning_rate=0.0001"
    text = printed(renamed(study.analysis, "batch_size=64", long), study)
    assert max(len(line.rstrip()) for line in text.splitlines() if not line.startswith(PATHS)) <= 80
    means = text[text.index("gradient norm") :].split("\n\n")[0]
    first = [line.split("  ")[0].strip() for line in means.splitlines()]
    start = next(number for number, line in enumerate(first) if line.startswith("batch_size=64+"))
    whole = "".join(first[start:])
    assert whole.startswith(long)
    assert all(
        line.endswith(("+", "=", "_"))
        for line in first[start:]
        if line and long.find(line) + len(line) < len(long) and line in long
    )
