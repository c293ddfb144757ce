"""`ablate power` in a terminal of 80 columns and for a program, and that `ablate plan` says the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ablate import cli
from ablate.analysis.power import EarlierSpread, PowerOptions, power
from ablate.report.plan import detectable, seeds_for
from ablate.report.power import print_power
from tests.synthetic import make_plan, write_study


def shown(wanted: PowerOptions, folder: Path | None = None, width: int = 80) -> str:
    text = io.StringIO()
    print_power(power(folder, wanted), Console(file=text, width=width))
    return text.getvalue()


def test_the_plan_says_the_same_figures() -> None:
    plan = make_plan("x", arms=("batch_size=64", "max_grad_norm=10"), seeds=5, metric="eval_loss", smallest_effect=0.01)
    spread = EarlierSpread(sd=0.006, rho=0.5, num_contrasts=2, studies=("x",))
    found = power(None, PowerOptions(sd=0.006, rho=0.0, variants=2, effect=0.01, seeds=(3, 5, 8)))
    assert detectable(plan, spread) == {row.seeds: row.detectable for row in found.rows}
    assert seeds_for(plan, spread) == found.needed


@pytest.mark.parametrize("metric", [None, "grad_norm_p95_p5"])
def test_the_table_fits_80_columns(tmp_path: Path, metric: str | None) -> None:
    write_study(tmp_path / "pilot")
    text = shown(PowerOptions(metric=metric), tmp_path / "pilot")
    assert max(map(len, text.splitlines())) <= 80
    assert "degrees of freedom the true residual sd is between" in " ".join(text.split())


def test_what_is_assumed_has_no_uncertainty_to_speak_of() -> None:
    text = " ".join(shown(PowerOptions(sd=0.02, rho=0.5, variants=4, effect=0.01)).split())
    assert "decides 51 seeds" in text
    assert "range" not in text
    assert "without a smallest effect of interest" in " ".join(shown(PowerOptions(sd=0.02)).split())
    assert "more than 1,000 seeds" in " ".join(shown(PowerOptions(sd=0.02, effect=1e-5)).split())


def test_a_program_reads_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["power", "--sd", "0.02", "--rho", "0.5", "--variants", "4", "--smallest-effect", "0.01", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["needed"] == 51
    assert [row["seeds"] for row in found["rows"]] == [3, 5, 8, 10, 15, 20]


@pytest.mark.parametrize("typed", [["--seeds", "5,x"], ["--sd", "much"], ["--variants", "1.5"]])
def test_what_is_no_number_is_quoted(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["power", *typed]) == 2
    assert repr(typed[1].split(",")[-1]) in capsys.readouterr().err


def test_a_refusal_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["power"]) == 2
    assert "fix: ablate power runs/<study>, or ablate power --sd 0.02" in capsys.readouterr().err
