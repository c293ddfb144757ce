"""Config files of the user's own, beside those of the library."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.errors import AxisError, ConfigError
from ablate.planning.compose import opened

BETA2 = """\
name: beta2
question: Does a longer memory help?
kind: training
keys: [optim.beta2]
values: [0.98]
may_change: [optimizer]
must_match: [init, order, splits, eval_set]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "axis").mkdir()
    return tmp_path


def write(own: Path, text: str, name: str = "beta2") -> None:
    (own / "axis" / f"{name}.yaml").write_text(text)


def test_an_axis_of_the_users_own_folder_stands_beside_ours(own: Path):
    write(own, BETA2)
    with opened(config_dir=own) as composer:
        assert {"beta2", "batch_size"} <= set(composer.axis_names())
        assert composer.axes(["beta2"])[0].values == (0.98,)


def test_a_choice_of_the_users_own_is_composed(own: Path):
    (own / "model").mkdir()
    (own / "model" / "mine.yaml").write_text("name: me/mine\n")
    with opened(config_dir=own) as composer:
        assert composer.compose(["model=mine"])["model"]["name"] == "me/mine"


TWO_KEYS = "[{optim.beta2: 0.98, optim.lr: 1.0}]"


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (BETA2, "", "axis/beta2.yaml is empty"),
        ("keys:", "key:", "there is no field 'key' in an axis\n  fix: did you mean 'keys'"),
        ("values: [0.98]\n", "", "axis/beta2.yaml lacks values"),
        ("[0.98]", "0.98", "axis/beta2.yaml: values is 0.98, expected a list\n  fix: [0.98]"),
        ("training", "traning", "kind 'traning' does not exist\n  fix: did you mean 'training'?"),
        (
            "[optimizer]",
            "[optimiser]",
            "'optimiser' is nothing that can be accepted or held\n  fix: did you mean 'optimizer'",
        ),
        ("[optimizer]", "[init]", "axis/beta2.yaml both accepts and holds init"),
        ("[0.98]", TWO_KEYS, "axis 'beta2' sets optim.lr, which its `keys` does not declare"),
        ("[optim.beta2]", "[optim.beta2, optim.lr]", "so a level must say which value each key takes"),
    ],
)
def test_a_file_that_is_no_axis_is_refused(own: Path, was: str, now: str, said: str):
    write(own, BETA2.replace(was, now))
    with opened(config_dir=own) as composer, pytest.raises(AxisError) as error:
        composer.axes(["beta2"])
    assert said in str(error.value)


def test_one_bad_axis_file_does_not_take_the_others_away(own: Path):
    write(own, "name: [broken", name="broken")
    with opened(config_dir=own) as composer:
        assert composer.axes(["batch_size"])[0].name == "batch_size"
        with pytest.raises(ConfigError, match=r"broken\.yaml, line 1 is not YAML"):
            composer.axes(["broken"])[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nam: x\n", "model/mine.yaml: there is no key 'model.nam'\n  fix: did you mean 'model.name'"),
        ("dropout: much\n", "model/mine.yaml, model.dropout: much is text, expected a number or null"),
        ("name: null\n", "model/mine.yaml, model.name: null is no value, expected text"),
    ],
)
def test_a_config_file_with_a_mistake_is_named(own: Path, text: str, said: str):
    (own / "model").mkdir()
    (own / "model" / "mine.yaml").write_text(text)
    with opened(config_dir=own) as composer, pytest.raises(ConfigError) as error:
        composer.compose(["model=mine"])
    assert said in str(error.value)


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no such folder"), opened(config_dir=tmp_path / "nope"):
        pass
