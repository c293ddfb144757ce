"""`ablate attribute`: from two configs to the corners between them, run once and resumed like any study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablate.data.datasets import DataFacts
from ablate.design.plan import Plan, config_digest
from ablate.errors import AblateError
from ablate.planning.attribution import AttributionRequest, OneKey, ask, prepare
from ablate.planning.planner import Prepared
from ablate.records.metadata import RunStatus
from ablate.serialization import built, read_json

TWO = ("", "data.batch_size=64 data.train_test_ratio=4")
SIZES = DataFacts(num_train=1000, num_held_out=1000, num_eval=256, num_classes=2)


def plan_in(folder: Path) -> Plan:
    return Plan.from_json(read_json(folder / "plan.json"))


@pytest.fixture
def planned(here: Path) -> Any:
    """planned(first, second, *both, **options): what `ablate attribute` would run, without Hydra's application around it."""
    from ablate.planning.compose import opened

    def plan(first: str, second: str, *both: str, **options: Any) -> Prepared | OneKey:
        with opened() as composer:
            arguments, asked = ask(composer, first, second, both, **options)
            return prepare(composer, arguments, asked, facts=lambda config: SIZES)

    return plan


@pytest.mark.slow
def test_every_corner_is_an_arm_at_every_seed(ablate, runs, here):
    assert ablate("attribute", *TWO, "study.seeds=2", "study.metric=eval_loss_irregularity")[0] == 0
    plan = plan_in(here / "runs" / "attribute-batch_size+train_test_ratio")
    assert [(arm.name, arm.changes) for arm in plan.arms] == [
        ("baseline", {}),
        ("batch_size", {"data.batch_size": 64}),
        ("train_test_ratio", {"data.train_test_ratio": 4.0}),
        ("batch_size+train_test_ratio", {"data.batch_size": 64, "data.train_test_ratio": 4.0}),
    ]
    assert len(runs.jobs) == 4 * 2
    assert {job.config["data"]["eval_test_ratio"] for job in runs.jobs} == {4.0}
    assert plan.bundle(plan.arms[3]) == "bundle: batch_size + train_test_ratio"
    assert plan.metric == "eval_loss_irregularity"
    assert plan.question.startswith(
        "How much of the difference in eval_loss_irregularity does each of data.batch_size (8 -> 64)"
    )
    assert plan.command == (
        "ablate attribute '' 'data.batch_size=64 data.train_test_ratio=4' study.seeds=2 study.metric=eval_loss_irregularity"
    )


@pytest.mark.slow
def test_the_same_command_goes_on_and_retry_knows_it(ablate, runs, here):
    ablate("attribute", *TWO, "study.seeds=2")
    runs.forget()
    assert ablate("attribute", *TWO, "study.seeds=2")[0] == 0
    assert runs.names == []
    (here / "runs/attribute-batch_size+train_test_ratio/train_test_ratio/seed=1/status.json").unlink()
    code, out, _ = ablate("retry", "runs/attribute-batch_size+train_test_ratio")
    assert code == 0
    assert runs.names == ["train_test_ratio/1"]
    assert "with: ablate attribute '' " in out


@pytest.mark.slow
def test_another_question_in_the_same_folder_is_refused(ablate, runs, here):
    ablate("attribute", *TWO, "study.seeds=2")
    code, _, err = ablate("attribute", "", "data.batch_size=32 data.train_test_ratio=4", "study.seeds=2")
    assert code == 2
    assert "runs/attribute-batch_size+train_test_ratio holds another study" in err
    assert "study.name=attribute-batch_size+train_test_ratio_2" in err


def test_plan_says_what_would_run_and_runs_nothing(ablate, runs, here):
    code, out, _ = ablate("attribute", *TWO, "study.seeds=3", "--plan", "hydra/launcher=basic")
    assert code == 0
    assert "4 arms × 3 seeds" in out
    assert "12 to do" in out
    assert "total_steps 128 → 16" in " ".join(out.split())
    assert not runs.jobs
    assert not list(here.iterdir())


def test_json_is_all_that_stands_on_the_output(ablate, runs, here, monkeypatch):
    def conclude(folder: Path, *, show: str = "") -> int:
        print(json.dumps({"folder": str(folder), "show": show}))
        return 0

    monkeypatch.setattr("ablate.study_command.conclude", conclude)
    runs.fate = lambda job: print("how far it is") or RunStatus(status="finished", step=1)
    code, out, err = ablate("attribute", *TWO, "study.seeds=1", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"folder": "runs/attribute-batch_size+train_test_ratio", "show": "print_shares_json"},
    )
    assert "how far it is" in err


def test_one_key_explains_everything_and_nothing_is_run(ablate, runs, here):
    code, out, _ = ablate("attribute", "seed=1", "data.batch_size=64 seed=2", "study.seeds=5")
    assert code == 0
    assert "differ in one key, data.batch_size (8 -> 64): whatever difference there is, it makes all of it" in out
    assert "ablate -m data.batch_size=8,64 study.seeds=5" in out
    assert "seed is 1 in the first config and 2 in the second, which does not count" in out
    code, out, _ = ablate("attribute", "", "data.batch_size=64", "--json")
    assert (code, json.loads(out)["key"]) == (0, "data.batch_size")
    assert not runs.jobs


@pytest.mark.slow
def test_files_run_folders_and_overrides_are_one_and_the_same(ablate, runs, here, planned):
    ablate("-m", "data.batch_size=8,64", "study.seeds=1", "study.name=s", "optim.lr=1e-4")
    for job in runs.jobs:
        written = {**job.config, "seed": job.seed, "arm": job.arm}
        (here / job.folder / "config.yaml").write_text(yaml.safe_dump(written))
    (here / "b.yaml").write_text("data:\n  batch_size: 64\noptim: {lr: 2.0e-4}\n")
    by_file = planned("runs/s/baseline/seed=0", "b.yaml")
    by_text = planned("optim.lr=1e-4", "data.batch_size=64 optim.lr=2e-4")
    assert [config_digest(arm.config) for arm in by_file.plan.arms] == [
        config_digest(arm.config) for arm in by_text.plan.arms
    ]
    assert by_file.plan.corners.names == ("batch_size", "lr")
    assert by_file.plan.corners.first == "runs/s/baseline/seed=0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "c.yaml: there is no file c.yaml"),
        ("", "c.yaml is empty, expected keys of a config"),
        ("- 1\n", "c.yaml holds a list"),
        ("data: [\n", "c.yaml is not YAML"),
        ("data: {batch: 3}\n", "there is no key 'data.batch'"),
        ("data: {batch_size: many}\n", "expected a whole number"),
        ("defaults: [a]\n", "has a defaults list"),
        ("a: &x {b: 1}\nc: *x\n", "it holds an alias"),
    ],
)
def test_a_file_that_is_no_config(ablate, runs, here, content, words):
    (here / "b.yaml").write_text("data: {batch_size: 64}\n")
    if content is not None:
        (here / "c.yaml").write_text(content)
    code, _, err = ablate("attribute", "b.yaml", "c.yaml")
    assert code == 2
    assert words in err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "words", "fix"),
    [
        (("", ""), "the two configs are equal in every key that counts", ""),
        (
            ("", "tracker.log_every='10 steps' train.num_workers=2"),
            "They differ in tracker.log_every, train.num_workers",
            "",
        ),
        (("", "eval.every='128 samples'"), "cannot change what a run computes", "ablate resample"),
        (("this", "that"), "'this' is not a file, a run directory or a list of overrides", "a.yaml"),
        (("", "x='"), "No closing quotation", "quotes come in pairs"),
        (("", "data.batchsize=3"), "there is no key 'data.batchsize'", "data.batch_size"),
        ((*TWO, "optim.lr=1e-4,1e-3"), "so it takes one value", "optim.lr=0.0001"),
        ((*TWO, "axis=dropout"), "axis=dropout: the arms are the corners", "axis=placebo"),
        ((*TWO, "study.metric=roughly"), "'roughly' is not a valid metric", "eval_loss"),
        ((*TWO, "--group", "optim.lr,data.batch_size"), "do not differ in 'optim.lr'", "data.batch_size"),
        ((*TWO, "--group", "data.batch_size,data.batch_size"), "it is named twice", "once"),
        ((*TWO, "--group", "data.batch_size,data.train_test_ratio"), "every key in which the two differ", "leave out"),
        ((*TWO, "--config-dir", "nowhere"), "there is no such folder", ""),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_in_our_words(ablate, runs, here, typed, words, fix):
    code, out, err = ablate("attribute", *typed)
    assert code == 2, out
    assert words in err
    assert fix in err
    assert not runs.jobs
    assert not list(here.iterdir())


def test_a_study_is_no_run(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=s")
    code, _, err = ablate("attribute", "runs/s", "")
    assert code == 2
    assert "runs/s is a study of many runs, expected one run\n  fix: runs/s/ba" in err
    assert "runs is not a run directory: it has no config.yaml" in ablate("attribute", "runs", "")[2]


@pytest.mark.parametrize("option", ["--permutations=0", "--full-factorial-up-to=many", "--plan --json"])
def test_options_that_make_no_sense(ablate, runs, here, option):
    assert ablate("attribute", *TWO, *option.split())[0] == 2


@pytest.mark.slow
def test_a_corner_that_cannot_be_says_which_keys_belong_together(planned):
    shape = "model.init=random model.config_overrides.num_hidden_layers=2 data.batch_size=16"
    with pytest.raises(AblateError) as refused:
        planned("", shape)
    assert "the corner that has only model.config_overrides.num_hidden_layers" in str(refused.value)
    assert refused.value.fix is not None
    assert refused.value.fix.startswith("--group model.config_overrides.num_hidden_layers,")
    together = planned("", shape, groups=["model.init,model.config_overrides.num_hidden_layers"])
    assert together.plan.corners.names == ("batch_size", "init&num_hidden_layers")
    assert len(together.plan.arms) == 4
    assert together.plan.arm("init&num_hidden_layers").changes == {
        "model.init": "random", "model.config_overrides.num_hidden_layers": 2,
    }  # fmt: skip


def test_a_key_that_only_the_first_has_cannot_be_taken_away(planned):
    own = "task.name=custom task.entry_point=some_module:task"
    with pytest.raises(AblateError, match=r"task.options.width is set in the first config and absent from the second"):
        planned(f"{own} task.options.width=3", f"{own} data.batch_size=64")


def test_what_only_looks_is_left_as_in_the_first_and_said(planned):
    prepared = planned("", f"{TWO[1]} eval.every='128 samples' tracker.log_every='10 steps' rerun=1")
    assert prepared.plan.corners.names == ("batch_size", "train_test_ratio")
    notes = " ".join(prepared.plan.notes)
    assert (
        "eval.every differs as well (64 samples and 128 samples), "
        "which changes how often the curve is evaluated and never the training" in notes
    )
    assert "tracker.log_every differs as well (1 steps and 10 steps), which changes no result" in notes
    assert {arm.config["eval"]["every"] for arm in prepared.plan.arms} == {"64 samples"}


def test_all_corners_are_evaluated_on_the_same_examples(planned):
    prepared = planned("data.eval_test_ratio=4", "data.batch_size=64 optim.lr=1e-4")
    assert prepared.plan.corners.names == ("batch_size", "lr")
    assert {arm.config["data"]["eval_test_ratio"] for arm in prepared.plan.arms} == {4.0}
    assert any("data.eval_test_ratio differs as well (4 and null)" in note for note in prepared.plan.notes)


def test_what_follows_the_two_holds_for_both_and_takes_a_key_out(planned):
    prepared = planned("", f"{TWO[1]} optim.lr=1e-4", "optim.lr=2e-5")
    assert prepared.plan.corners.names == ("batch_size", "train_test_ratio")
    assert {arm.config["optim"]["lr"] for arm in prepared.plan.arms} == {2e-5}


def test_a_placebo_may_stand_beside_the_corners(planned):
    prepared = planned(*TWO, "axis=placebo,rerun")
    assert {arm.kind for arm in prepared.plan.arms} == {None, "placebo", "rerun", "training"}
    assert len(prepared.plan.arms) == 6


def test_keys_that_end_alike_keep_their_whole_name(planned):
    prepared = planned("", "data.name=imdb_reviews optim.name=sgd optim.lr=1e-4")
    assert prepared.plan.corners.names == ("data.name", "lr", "optim.name")


@pytest.mark.slow
def test_many_keys_take_paths_and_are_the_same_every_time(planned):
    six = (
        "data.batch_size=64 data.train_test_ratio=4 optim.lr=1e-4 optim.warmup_ratio=0.1 train.max_grad_norm=10 "
        "model.dropout=0"
    )
    prepared, again = planned("", six), planned("", six)
    corners = prepared.plan.corners
    assert len(corners.paths) == 6
    assert len(prepared.plan.arms) == len(corners.numbers) < 2**6
    assert set(corners.names) < {arm.name for arm in prepared.plan.arms}, "each key by itself as well"
    assert prepared.plan.digest == again.plan.digest
    assert len(planned("", six, full_factorial_up_to=6).plan.arms) == 2**6
    assert len(planned("", six, permutations=1).plan.arms) < len(prepared.plan.arms)
    thirteen = six + " optim.beta1=0.8 optim.beta2=0.9 optim.eps=1e-6 optim.weight_decay=0 train.grad_accum_steps=2"
    thirteen += " data.max_length=64 random_streams.init=1"
    with pytest.raises(AblateError, match=r"--full-factorial-up-to 20: 13 keys have 8,192 corners"):
        planned("", thirteen, full_factorial_up_to=20)


@pytest.mark.slow
def test_however_the_two_were_typed_it_is_the_same_study(planned):
    assert planned(*TWO).plan.digest == planned("data.batch_size=8", TWO[1]).plan.digest
    assert planned(*TWO).plan.digest != planned("", "data.batch_size=64 data.train_test_ratio=3").plan.digest


def test_a_sweepers_option_reads_back(here):
    asked = AttributionRequest(
        second=("a=1",), names=("x", "y"), groups=(("a", "b"),), notes=("n",), command="ablate attribute"
    )
    values = {
        "second": ["a=1"],
        "names": ["x", "y"],
        "groups": [["a", "b"]],
        "notes": ["n"],
        "command": "ablate attribute",
    }
    assert built(AttributionRequest, values) == asked


@pytest.mark.slow
def test_for_real(here, ablate):
    code, out, err = ablate(
        "attribute", "", "data.batch_size=16 optim.lr=1e-3", "debug=quick", "study.seeds=2", "study.name=b"
    )
    assert code == 0, out + err
    found = read_json(here / "runs/b/analysis.json")["attribution"]
    parts = [*found["alone"], found["interaction"]]
    assert sum(part["effect"] for part in parts) == pytest.approx(found["total"]["effect"], rel=1e-9)
    assert "divided evenly" in out
    assert max(map(len, out[out.index("b  4 arms") :].splitlines())) <= 80
    code, out, err = ablate("attribute", "", "data.batch_size=16 optim.lr=1e-3", "debug=quick", "study.seeds=2",
                            "study.name=b", "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["sentence"] == found["sentence"]
    code, out, err = ablate("attribute", "", "data.batch_size=16 optim.lr=1e-3", "debug=quick", "study.seeds=2",
                            "study.name=other", "study.metric=grad_norm_median")  # fmt: skip
    assert code == 0, err
    assert "8 of 8 runs are taken from b (8)" in out
