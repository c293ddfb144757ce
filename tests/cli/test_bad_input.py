"""Requests that cannot be met: exit code 2, a message that quotes and helps, no traceback, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

OWN_AXIS = """\
name: two
question: What if two keys move?
kind: training
keys: [data.batch_size]
values: [{data.batch_size: 64, optim.lr: 1.0e-4}]
may_change: [steps_per_epoch, total_steps, schedule_steps, effective_batch, evaluations]
"""


@pytest.fixture
def refused(ablate, runs, here):
    """refused(*arguments) -> what was said; asserts all that holds for every refusal."""

    def run(*arguments: str) -> str:
        before = sorted(here.rglob("*"))
        code, out, err = ablate(*arguments)
        assert code == 2
        assert "Traceback" not in err
        assert not out
        assert err.startswith("ablate: ")
        assert sorted(here.rglob("*")) == before
        assert not runs.jobs
        return err

    return run


@pytest.mark.parametrize("verb", [("-m",), ("plan",)])
def test_an_axis_that_does_not_exist(refused, verb):
    for axes in ("axis=batchsize", "axis=placebo,batchsize"):
        said = refused(*verb, axes)
        assert "axis=batchsize: there is no axis 'batchsize'" in said
        assert "did you mean 'batch_size'" in said


def test_an_axis_file_that_moves_a_second_key(refused, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    (tmp_path / "custom" / "axis" / "two.yaml").write_text(OWN_AXIS)
    said = refused("-m", "--config-dir", str(tmp_path / "custom"), "axis=two")
    assert "axis 'two' sets optim.lr, which its `keys` does not declare" in said
    assert "add it to `keys` of two.yaml" in said


def test_an_axis_file_that_moves_a_key_which_does_not_exist(refused, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    text = OWN_AXIS.replace("[data.batch_size]", "[data.batchsize]").replace(
        "{data.batch_size: 64, optim.lr: 1.0e-4}", "64"
    )
    (tmp_path / "custom" / "axis" / "two.yaml").write_text(text)
    said = refused("-m", "--config-dir", str(tmp_path / "custom"), "axis=two")
    assert "axis/two.yaml moves 'data.batchsize', which is not a config key" in said
    assert "'data.batch_size'" in said


def test_a_level_of_the_wrong_type(refused, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    (tmp_path / "custom" / "axis" / "two.yaml").write_text(
        OWN_AXIS.replace("{data.batch_size: 64, optim.lr: 1.0e-4}", "many")
    )
    said = refused("-m", "--config-dir", str(tmp_path / "custom"), "axis=two")
    assert "axis 'two', level many: data.batch_size='many'" in said
    assert "expected a whole number" in said


def test_a_level_that_is_the_baselines_own(refused):
    said = refused("-m", "axis=batch_size", "data.batch_size=64")
    assert "axis 'batch_size': the level 64 equals the baseline's own value" in said
    assert "take it out of `values` of axis/batch_size.yaml" in said


@pytest.mark.parametrize("more", [(), ("-m",), ("-m", "axis=batch_size")])
def test_a_key_that_does_not_exist(refused, more):
    said = refused(*more, "data.batchsize=16")
    assert "data.batchsize=16: there is no key 'data.batchsize'" in said
    assert "did you mean 'data.batch_size'" in said


def test_a_swept_key_that_does_not_exist(refused):
    assert "there is no key 'data.batchsize'" in refused("-m", "data.batchsize=8,64")


def test_a_key_that_is_added(refused):
    assert "there is no key 'data.colour'" in refused("+data.colour=red")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("data.batch_size=many", "data.batch_size=many: many is text, expected a whole number"),
        ("data.batch_size=8.5", "8.5 is a fraction, expected a whole number"),
        ("optim.lr=null", "null is no value, expected a number"),
        ("train.max_grad_norm=never", "never is text, expected a number or null"),
        ("study.fail_fast=maybe", "maybe is text, expected true or false"),
        ("study.axes=batch_size", "batch_size is text, expected a list"),
    ],
)
def test_a_value_of_the_wrong_type(refused, typed, said):
    assert said in refused(typed)
    assert said in refused("-m", "axis=batch_size", typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("study.seeds=0", "study.seeds=0 is out of range: expected at least 1"),
        ("study.smallest_effect=-1", "study.smallest_effect=-1.0 is out of range: expected above 0"),
        ("optim.lr=0", "optim.lr=0.0 is out of range: expected above 0"),
        ("train.budget='20 stesp'", "train.budget='20 stesp' is not an interval"),
        (
            "study.design=factor",
            "study.design='factor' is not one of one_at_a_time, factorial, fractional, pairwise, variance_components",
        ),
        ("study.metric=eval_los", "study.metric='eval_los' is not a valid metric"),
    ],
)
def test_a_value_out_of_range(refused, typed, said):
    assert said in refused("-m", "axis=batch_size", typed)


def test_a_choice_that_does_not_exist(refused):
    said = refused("model=brt")
    assert "model=brt: there is no file 'brt' in the group 'model'" in said
    assert "did you mean 'bert'" in said


def test_a_study_without_m(refused):
    for typed in ("axis=batch_size", "axis=batch_size,dropout", "study=reference", "data.batch_size=8,64"):
        assert f"fix: ablate -m {typed}" in refused(typed)


def test_a_word_that_is_no_verb(refused):
    assert "expected a verb or key=value, got 'plam'" in refused("plam")
    assert "not in the grammar of overrides" in refused("seed=1", "data.batch_size")


def test_a_sweep_over_a_group_or_over_what_is_no_part_of_a_run(refused):
    assert "a choice of 'model' sets many keys" in refused("-m", "model=minilm,bert")
    assert "study.seeds=5 runs seeds 0 to 4" in refused("-m", "study.seeds=3,5")
    assert "study.seeds=5 runs seeds 0 to 4" in refused("-m", "seed=0,1,2")
    assert "an interval has no levels" in refused("-m", "optim.lr=interval(0,1)")


def test_a_key_that_is_swept_and_moved_by_a_named_axis(refused):
    assert "moved by axis=batch_size and swept as well" in refused("-m", "axis=batch_size", "data.batch_size=8,16")


def test_a_cadence_that_the_record_cannot_show(refused):
    said = refused("-m", "eval.every='96 samples','32 samples'")
    assert "eval.every=96 samples cannot be read from evaluations every 64 samples" in said
    assert "levels that work: 128 samples, 256 samples" in said
    assert "log-spaced evaluations" in refused("-m", "axis=eval_every", "eval=log")


def test_an_observation_axis_that_would_change_the_run(refused, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    text = OWN_AXIS.replace("kind: training", "kind: observation").replace(
        "{data.batch_size: 64, optim.lr: 1.0e-4}", "64"
    )
    (tmp_path / "custom" / "axis" / "two.yaml").write_text(text)
    said = refused("-m", "--config-dir", str(tmp_path / "custom"), "axis=two")
    assert "is an observation axis and moves data.batch_size, which cannot be read from a record" in said


def test_a_config_folder_that_does_not_exist(refused):
    assert "'/nowhere' not found" in refused("--config-dir", "/nowhere", "-m", "axis=batch_size")


def test_a_root_that_is_a_file(refused, here):
    (here / "runs").write_text("")
    assert "runs/batch_size cannot be made: runs is a file" in refused("-m", "axis=batch_size")
    assert "cannot be made: runs is a file" in refused("optim.lr=1e-4")


def test_a_root_that_cannot_be_written(refused, here, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "no permission to write" in refused("-m", "axis=batch_size")
    assert "study.output_dir=<a folder>" in refused("optim.lr=1e-4")


@pytest.mark.slow
def test_a_study_folder_of_another_plan(ablate, runs, refused, here):
    assert ablate("-m", "axis=batch_size", "study.seeds=2")[0] == 0
    runs.forget()
    for more, differs in {
        "study.seeds=3": "study.seeds is 2 there and 3 now",
        "study.metric=eval_accuracy": "study.metric is eval_loss there and eval_accuracy now",
        "optim.lr=1e-3": "the baseline's optim.lr is 5e-05 there and 0.001 now",
        "study.arm_order_seed=1": "`runs` of its plan.json differs",
    }.items():
        seeds = [] if more.startswith("study.seeds") else ["study.seeds=2"]
        said = refused("-m", "axis=batch_size", *seeds, more)
        assert f"runs/batch_size holds another study: {differs}" in said
        assert "fix: study.name=batch_size_2" in said
    said = refused("-m", "axis=dropout", "study.name=batch_size", "study.seeds=2")
    assert "its arms are baseline, batch_size=64 there and baseline, dropout=0 now" in said


def test_a_study_folder_of_other_code(ablate, runs, refused, monkeypatch):
    files = {"ablate/training/train.py": "a" * 64, "ablate/data/datasets.py": "b" * 64}
    monkeypatch.setattr("ablate.planning.planner.code_files", lambda targets: files)
    assert ablate("-m", "axis=batch_size", "study.seeds=1")[0] == 0
    runs.forget()
    files["ablate/data/datasets.py"] = "c" * 64
    said = refused("-m", "axis=batch_size", "study.seeds=1")
    assert "runs/batch_size: 2 of its runs were made by other code: ablate/data/datasets.py changed" in said
    assert "fix: --accept-code-change keeps them" in said
    assert "study.name=batch_size_2 for a new study" in said


def test_data_and_models_are_refused_before_a_folder_is_made(refused, monkeypatch, here):
    from ablate.errors import DataError

    def facts(config):
        raise DataError("data.path=reviews.csv: the file is empty", "data.path=<a file with rows>")

    monkeypatch.setattr("ablate.tasks.registry.data_facts", facts)
    for typed in (("-m", "axis=batch_size"), ("plan", "axis=batch_size"), ("optim.lr=1e-4",)):
        assert "data.path=reviews.csv: the file is empty\n  fix: data.path=<a file with rows>" in refused(*typed)


def test_the_folder_of_report_and_replay(refused, here):
    assert "has no plan.json" in refused("resample", "nowhere", "eval.every=200")
    assert "'optim.lr' cannot be read from a record" in refused("resample", "nowhere", "optim.lr=200")


def test_a_damaged_plan_is_named_to_any_command_but_its_own(ablate, runs, refused, here):
    assert ablate("-m", "axis=batch_size", "study.seeds=1")[0] == 0
    runs.forget()
    (here / "runs/batch_size/plan.json").write_text("{")
    other = ("-m", "axis=dropout", "study.seeds=1", "study.name=batch_size")
    assert "runs/batch_size/plan.json cannot be read" in refused(*other)
    code, out, _ = ablate("-m", "axis=batch_size", "study.seeds=1")
    assert code == 0
    assert "plan.json was damaged; all runs there are of this command" in " ".join(out.split())


def test_a_verb_without_its_argument(ablate):
    code, _, err = ablate("report")
    assert code == 2
    assert "folder" in err


def test_nothing_here_depends_on_the_current_folder(refused, here):
    assert not list(Path(here).iterdir())
    assert "did you mean" in refused("axis=batchsize")


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m",),
        ("plan",),
        ("-m", "study.seeds=3"),
        ("-m", "data.batch_size=8"),
        ("-m", "data.batch_size=8,8"),
        ("plan", "optim.lr=5e-5,0.00005"),
    ],
)
def test_a_study_without_a_variant(refused, arguments):
    said = refused(*arguments)
    assert "expected a variant to compare with the baseline, got " in said
    assert "fix: ablate -m axis=batch_size" in said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr=1e-3", "optim.lr"),
        ("optim.learning_rate=1", "optim.lr"),
        ("bs=4", "data.batch_size"),
        ("weight_decay=0", "optim.weight_decay"),
        ("train.max_seq_length=8", "data.max_length"),
    ],
)
def test_a_key_of_another_group_or_library_is_recognized(refused, typed, meant):
    assert f"did you mean '{meant}'" in refused("-m", typed, "axis=batch_size")


def test_an_unknown_metric_lists_the_known_ones_once(refused):
    assert refused("-m", "axis=batch_size", "study.metric=f1_weighted").count("clip_fraction") == 1


def test_a_name_that_is_too_long(refused):
    said = refused("-m", "axis=batch_size", f"study.output_dir={'x' * 300}")
    assert "File name too long" in said
