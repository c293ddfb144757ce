"""Every file of conf/ composes, says how it is used, and every axis varies one thing against its baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from ablate.config import conf_dir
from ablate.config.flatten import changed
from ablate.config.schema import Config, make_config
from ablate.design.axis import Axis
from ablate.errors import AblateError
from ablate.planning.compose import Composer, Request, opened, override_text
from ablate.planning.planner import make_plan

FILES = sorted(conf_dir().rglob("*.yaml"))
OPTIONS = [file.relative_to(conf_dir()) for file in FILES if file.parent != conf_dir() and file.parent.name != "axis"]
VARIED = ("batch_size", "drop_layer", "placebo", "schedule", "train_test_ratio")
"""Axes of several kinds, whose arms are compared with composed ones at every change; those of the others less often."""
AXES = sorted(file.stem for file in (conf_dir() / "axis").glob("*.yaml"))


@dataclass(frozen=True)
class Sizes:
    num_train: int = 1000
    num_eval: int = 256
    num_classes: int = 2
    data: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def composer():
    with opened() as found:
        yield found


def plan_of(composer: Composer, *fixed: str, axes: tuple[str, ...] | None = None):
    return make_plan(composer, Request(axes=axes, fixed=fixed), command="", facts=lambda config: Sizes()).plan


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_of_every_group_composes(composer: Composer, option: Path):
    make_config(composer.compose([f"{option.parent}={option.stem}"]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(conf_dir())))
def test_every_file_opens_with_the_command_that_uses_it(file: Path):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ablate")
    if file.parent.name not in ("conf", "study"):
        assert f"{file.parent.name}={file.stem}" in lines[0]


def test_the_files_choose_what_the_schema_defaults_to(composer: Composer):
    """`Config()` by hand and `ablate` on the command line are the same run, sizes of text and evaluation apart."""
    differing = set(changed(asdict(Config()), composer.compose()))
    assert differing == {"model.dropout", "data.max_examples", "eval.max_examples"}


@pytest.mark.parametrize("name", AXES)
def test_every_axis_is_checked_to_vary_one_thing(composer: Composer, name: str):
    """Planning isolates every arm; an axis that failed it would raise."""
    plan = plan_of(composer, *composer.axes([name])[0].requires, axes=(name,))
    axis = plan.axis(name)  # with what `each` stands for
    assert axis.name == name
    assert [arm.name for arm in plan.arms[1:]] == [axis.label(level) for level in axis.values]
    assert all(set(arm.changes) <= set(axis.keys) for arm in plan.arms[1:])


@pytest.mark.parametrize("name", AXES)
def test_an_axis_file_answers_a_question_and_says_what_it_holds(composer: Composer, name: str):
    axis = composer.axes([name])[0]
    assert axis.question.endswith("?")
    assert {"init", "eval_set", "splits", "order"} <= {
        word.partition(".")[0] for word in (*axis.may_change, *axis.must_match)
    }
    assert axis.hypothesis
    assert axis.reference


@pytest.mark.parametrize("name", AXES)
def test_an_axis_file_opens_with_its_own_command(composer: Composer, name: str):
    first = (conf_dir() / "axis" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# {composer.axes([name])[0].command}")


@pytest.mark.parametrize(
    ("study", "controls", "runs"),
    [
        ("reference", [], 3 * 5),
        ("reference_imdb", ["random_streams.order", "rerun"], 4 * 3 + 1),  # a GPU may have a floor of nondeterminism
    ],
)
def test_the_reference_studies_plan_the_suspects(composer: Composer, study: str, controls: list[str], runs: int):
    plan = plan_of(composer, f"study={study}")
    assert plan.study == study
    assert [axis.keys[0] for axis in plan.axes] == [
        "data.batch_size", "data.train_test_ratio", "eval.every", "tracker.log_every", *controls,
    ]  # fmt: skip
    assert {arm.config["data"]["eval_test_ratio"] for arm in plan.arms} == {4.0}
    assert len(plan.runs) == runs
    assert [run.seed for run in plan.runs if run.arm == "rerun"] == [0] * ("rerun" in controls)


def test_the_published_run_is_what_reference_imdb_asks_for(composer: Composer):
    config = make_config(composer.compose(["study=reference_imdb"]))
    assert (config.model.name, config.data.name) == ("google-bert/bert-base-uncased", "stanfordnlp/imdb")
    assert (config.optim.lr, config.optim.weight_decay, config.train.budget) == (2e-5, 0.01, "3 epochs")
    assert (config.data.batch_size, config.data.max_length, config.data.split) == (8, 512, "shuffled")


def test_what_is_typed_wins_over_a_study_and_a_debug_file(composer: Composer):
    config = make_config(
        composer.compose(["study=reference_imdb", "optim.lr=1e-3", "debug=quick", "data.max_length=16"])
    )
    assert (config.optim.lr, config.data.max_length, config.model.init) == (1e-3, 16, "random")


@pytest.mark.parametrize(
    "value", [None, True, 8, 1e-5, 0.1, "64 samples", "it's", 'a "b"', "a=b,c", "null", "8", "a\\b", "~/my file.csv"]
)
def test_a_value_survives_hydras_grammar(composer: Composer, value: object):
    key = {int: "data.batch_size", float: "optim.lr", bool: "study.fail_fast"}.get(type(value), "data.path")
    config = composer.compose([override_text(key, value)])
    section, name = key.split(".")
    assert config[section][name] == value
    assert type(config[section][name]) is type(value)


def test_axes_are_values(composer: Composer):
    assert all(isinstance(axis, Axis) for axis in composer.axes())
    assert [axis.name for axis in composer.axes()] == AXES


@pytest.mark.parametrize(
    "name",
    [name if name in VARIED else pytest.param(name, marks=pytest.mark.slow) for name in AXES],
)
def test_a_config_that_is_varied_is_the_one_that_is_composed(composer: Composer, name: str):
    """Arms are not composed anew, which takes long; the shortcut must not be seen."""
    axis = composer.axes([name])[0]
    fixed = axis.requires
    for level in axis.values:
        changes = axis.changes(level, composer.compose(fixed)) if "each" not in str(level) else {}
        texts = [override_text(key, value) for key, value in changes.items()]
        assert composer.vary(fixed, changes) == composer.compose([*fixed, *texts])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.batch_size", "eight"),
        ("data.batch_siz", 8),
        ("optim.lr", -1.0),
        ("task.options.width", 3),
        ("data.path", "~/my file.csv"),
        ("data.path", "${data.name}"),
        ("model.freeze", ["embeddings", "layers.0"]),
        ("model", "bert"),
    ],
)
def test_what_is_varied_is_refused_or_taken_as_typed(composer: Composer, key: str, value: object):
    def outcome(call):
        try:
            return call()
        except AblateError as error:
            return str(error)

    varied = outcome(lambda: composer.vary([], {key: value}))
    assert varied == outcome(lambda: composer.compose([override_text(key, value)]))
