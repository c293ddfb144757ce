"""Every verb that reads: one JSON object on standard output, no colour where none is wanted, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "x"
    write_study(folder, arms=("batch_size=64", "eval_every=256 samples", "rerun"), seeds=3)
    return folder


def strict(text: str) -> dict[str, object]:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


VERBS = {
    "report": ["{x}"],
    "resample": ["{x}"],
    "resample ": ["{x}", "eval.every=256", "tracker.log_every=10 steps"],
    "power": ["{x}"],
    "status": ["{x}"],
    "axes": [],
    "doctor": [],
    "compare": ["{x}/baseline/seed=0", "{x}/batch_size=64/seed=1"],
    "diff": ["{x}/baseline/seed=0", "{x}/batch_size=64/seed=1"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_one_object_and_nothing_beside_it(ablate, here: Path, study: Path, verb: str) -> None:
    code, out, _ = ablate(verb.strip(), *(text.format(x=study) for text in VERBS[verb]), "--json")
    assert code == (verb == "diff")
    assert strict(out)


def test_a_plan_as_json_says_what_the_printed_one_says(ablate, runs, here: Path) -> None:
    typed = ("data.batch_size=8,64", "study.seeds=2", "study.name=y", "hydra/launcher=basic")
    code, out, _ = ablate("plan", *typed, "--json")
    assert code == 0
    found = strict(out)
    assert [arm["name"] for arm in found["arms"]] == ["baseline", "batch_size=64"]  # type: ignore[index, union-attr]
    assert len(found["runs"]["to_do"]) == 4  # type: ignore[index, call-overload]
    assert found["variants"] == 1
    assert not (here / "runs").exists()
    assert "4 to do" in ablate("plan", *typed)[1]


def test_a_refusal_leaves_standard_output_empty(ablate, here: Path) -> None:
    for verb in ("report", "status", "resample", "power"):
        code, out, err = ablate(verb, "nowhere", "--json")
        assert (code, out) == (2, "")
        assert "nowhere" in err


def test_diff_ends_with_0_where_runs_are_equal_and_1_where_they_are_not(ablate, study: Path) -> None:
    same = ablate("diff", f"{study}/baseline/seed=0", f"{study}/rerun/seed=0")
    assert same[0] == 0
    assert "equal: config, seed, data, environment, code and fingerprint" in " ".join(same[1].split())
    other = ablate("diff", f"{study}/baseline/seed=0", f"{study}/batch_size=64/seed=0")
    assert other[0] == 1
    assert "data.batch_size  8  64" in other[1]
    assert ablate("diff", f"{study}/baseline/seed=0", "nowhere")[0] == 2


def test_compare_fits_80_columns_and_says_what_it_shows(ablate, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(study)
    code, out, _ = ablate("compare", "baseline/seed=0", "batch_size=64/seed=1", "--all")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "two single runs show nothing about a cause" in " ".join(out.split())
    assert "grad norm   first" in out
    assert any(block in out for block in "▃▄▅▆▇")


@pytest.mark.slow
def test_tables_methods_and_figures_are_written_from_the_shell(ablate, study: Path) -> None:
    assert ablate("table", str(study))[1].count("| batch\\_size 8 → 64 |") == 1
    assert "\\begin{table}" in ablate("table", str(study), "--format", "latex")[1]
    assert ablate("table", str(study), "--format", "csv")[1].startswith("study,metric,unit,primary,arm")
    assert "One change was made to one baseline" in ablate("methods", str(study))[1]
    assert "@article{lakens2017," in ablate("methods", str(study), "--format", "bibtex")[1]
    assert (study / "references.bib").exists()
    code, out, _ = ablate("figures", str(study), "--only", "forest", "--format", "png,svg")
    assert code == 0
    assert out.splitlines() == [f"{study}/figures/forest.svg", f"{study}/figures/forest.png"]
    for wrong, fix in ((("--format", "jpg"), "png"), (("--only", "forst"), "forest"), (("--width", "x"), "8.5cm")):
        code, _, err = ablate("figures", str(study), *wrong)
        assert code == 2
        assert fix in err


def equal(study: Path) -> list[str]:
    """A verb that ends with a green line."""
    return ["diff", f"{study}/baseline/seed=0", f"{study}/rerun/seed=0"]


def coloured(study: Path, **more: str) -> str:
    """What a terminal gets."""
    inside, outside = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ablate.cli", *equal(study)],
        stdout=outside, stderr=outside, env=kept | {"TERM": "xterm-256color", "COLUMNS": "80"} | more,
    )  # fmt: skip
    os.close(outside)
    shown = b""
    while True:
        try:
            block = os.read(inside, 65536)
        except OSError:
            break
        if not block:
            break
        shown += block
    process.wait()
    os.close(inside)
    return shown.decode(errors="replace")


@pytest.mark.slow
def test_colours_are_off_where_nobody_wants_them(study: Path) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
    assert colour.search(coloured(study))
    assert not colour.search(coloured(study, NO_COLOR="1"))
    plain = subprocess.run(
        [sys.executable, "-m", "ablate.cli", *equal(study)], capture_output=True, text=True, check=True
    )
    assert "\x1b" not in plain.stdout


def test_a_reader_that_has_seen_enough_is_no_error(study: Path) -> None:
    command = f"{sys.executable} -m ablate.cli table {study} --format csv | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("study,")
    assert done.stderr == ""
