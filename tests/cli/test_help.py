"""What a person reads before the first study."""

from __future__ import annotations

import pytest

from ablate.cli import VERBS
from ablate.config import conf_dir


@pytest.mark.parametrize("typed", ["--help", "-h", "help"])
def test_help_is_short_and_names_every_verb(ablate, typed):
    code, out, _ = ablate(typed)
    assert code == 0
    assert all(f"ablate {verb}" in out for verb in VERBS)
    assert len(out.splitlines()) < 32
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_shows_an_example(ablate, verb):
    code, out, _ = ablate(verb, "--help")
    assert code == 0
    assert f"examples:\n  ablate {verb}" in out


def test_axes_lists_every_axis_file(ablate, here):
    code, out, _ = ablate("axes")
    assert code == 0
    assert all(file.stem in out for file in (conf_dir() / "axis").glob("*.yaml"))
    assert not list(here.iterdir())


def test_axes_with_a_name_shows_that_one_and_what_belongs_beside_it(ablate, here):
    code, out, _ = ablate("axes", "accumulation")
    assert code == 0
    assert "ablate -m axis=accumulation model.dropout=0.0 study.seeds=5" in out
    assert "batch_size_linear_lr" not in out
    assert ablate("axes", "accumulation", "--with-overrides")[:2] == (0, "model.dropout=0.0\n")
    assert ablate("axes", "eval_every_coarse", "--with-overrides")[1].splitlines()[1] == "train.budget='1 epochs'"
    assert ablate("axes", "batch_size", "--with-overrides")[:2] == (0, "")


def test_an_axis_that_there_is_not_and_beside_without_one_are_refused(ablate, here):
    code, _, err = ablate("axes", "acumulation")
    assert code == 2
    assert "there is no axis 'acumulation'" in err
    assert "did you mean 'accumulation'" in err
    code, _, err = ablate("axes", "--with-overrides")
    assert code == 2
    assert "ablate axes NAME --with-overrides" in err


def test_hydras_own_help_is_still_there(ablate, here):
    code, out, _ = ablate("--hydra-help")
    assert code == 0
    assert "--info" in out


def test_a_composed_config_can_be_printed(ablate, here):
    code, out, _ = ablate("--cfg", "job", "optim.lr=1e-3")
    assert code == 0
    assert "lr: 0.001" in out


def test_doctor_says_what_works(ablate, here):
    code, out, _ = ablate("doctor")
    assert code == 0
    for name in ("device", "precision", "determinism", "torch", "W&B", "offline"):
        assert name in out
