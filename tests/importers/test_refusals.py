"""What is typed wrongly, what lies there wrongly, and that nothing is left behind then."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ablate import cli
from ablate.errors import AblateError, ConfigError
from ablate.importers.arguments import assign_seeds, parse_arms, parse_by_arm
from ablate.importers.hyperparameters import settings_of
from ablate.importers.import_runs import ImportRequest, import_runs
from ablate.importers.metric_names import column_name, map_columns, parse_renames
from ablate.records.layout import RunDir
from tests.importers import made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# ---- whole or not at all ----------------------------------------------------------------------------------------------


def test_the_same_command_again_leaves_every_byte_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.state(here / "a")
    typed = ["import", "baseline=a", "--output", "runs/mine"]
    assert cli.main(typed) == 0
    before = bytes_of(here / "runs")
    assert "already existed" not in capsys.readouterr().out
    assert cli.main(typed) == 0
    assert bytes_of(here / "runs") == before
    assert "the same import already existed" in capsys.readouterr().out
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["mine"]


def test_another_import_is_not_overwritten(here: Path) -> None:
    made.state(here / "a")
    import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/mine")))
    before = bytes_of(here / "runs")
    made.state(here / "b", seed=1)
    for arms, said in (
        (["baseline=b"], "baseline/seed=0/evals.arrow has other contents"),
        (["baseline=a", "x=b"], "x/seed=0/config.yaml is missing"),
    ):
        with pytest.raises(
            AblateError, match="expected an empty directory or the same import, got runs/mine: "
        ) as caught:
            import_runs(ImportRequest(arms=arms, output=Path("runs/mine")))
        assert said in caught.value.problem
        assert "--output runs/mine-2" in (caught.value.fix or "")
    (here / "notes").mkdir()
    (here / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(AblateError, match="expected an empty directory or the same import, got notes"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("notes")))
    with pytest.raises(AblateError, match="expected a directory, got another file"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("notes/mine.txt")))
    assert bytes_of(here / "runs") == before


def test_a_source_that_fails_leaves_nothing_behind(here: Path) -> None:
    made.state(here / "a")
    (here / "bad.csv").write_text("step,what\n1,2\n")
    with pytest.raises(AblateError, match=r"bad\.csv: expected a known metric, got what") as caught:
        import_runs(ImportRequest(arms=["baseline=a", "x=bad.csv"], output=Path("runs/mine")))
    assert "--rename" in (caught.value.fix or "")
    assert not list(here.glob("runs/*"))
    assert not list(here.glob("runs/.*"))


def test_an_outcome_that_cannot_be_read_is_refused_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.state(here / "a")
    for metric, said in (
        ("grad_norm_p95_p5", "baseline seed 0 logged 200 of 2000"), ("eval_los", "did you mean 'eval_loss'"),
        ("eval_f1", "no run has evaluated 'f1'"),
    ):  # fmt: skip
        assert cli.main(["import", "baseline=a", "--output", "runs/mine", "--metric", metric]) == 2
        assert said in capsys.readouterr().err
        assert not list(here.glob("runs/*"))
        assert not list(here.glob("runs/.*"))


def test_an_empty_folder_may_be_filled(here: Path) -> None:
    made.state(here / "a")
    (here / "runs" / "mine").mkdir(parents=True)
    assert import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/mine"))).fresh


# ---- what was typed ---------------------------------------------------------------------------------------------------


def test_names_and_paths_may_hold_equals_and_commas(here: Path) -> None:
    for name in ("a", "b", "out/lr=0.1,wd=0", "out/lr=0.2"):
        (here / name).mkdir(parents=True)
    assert parse_arms(["baseline=a,b", "batch_size=64=out/lr=0.1,wd=0,out/lr=0.2"]) == {
        "baseline": ["a", "b"], "batch_size=64": ["out/lr=0.1,wd=0", "out/lr=0.2"],
    }  # fmt: skip
    assert parse_arms(["x=a", "baseline=out/*"]) == {"baseline": ["out/lr=0.1,wd=0", "out/lr=0.2"], "x": ["a"]}
    assert parse_arms(["baseline=a", "baseline=b"]) == {"baseline": ["a", "b"]}
    (here / "wd=0").mkdir()
    (here / "out/lr=0.1").mkdir()
    with pytest.raises(ConfigError, match="is ambiguous: arm"):
        parse_arms(["baseline=out/lr=0.1,wd=0"])


@pytest.mark.parametrize(
    ("typed", "said", "fix"),
    [
        (["a"], "expected ARM=SOURCE,SOURCE, got 'a'", "ablate import baseline="),
        (["x=a"], "expected an arm 'baseline' to compare with, got x", "ablate import"),
        (["baseline=nowhere"], "'baseline=nowhere': 'nowhere' does not exist", "baseline=DIRECTORY"),
        (["baseline=a,nowhere"], "'nowhere' does not exist", "baseline=DIRECTORY"),
        (["baseline=a", "x=a"], "'a' is named twice", "name each source once"),
        (["baseline="], "'' does not exist", "baseline=DIRECTORY"),
        (["=a"], "'a' does not exist", "DIRECTORY"),
        (["baseline=" + "x" * 5000], "'baseline=xxx", "DIRECTORY"),
    ],
)  # fmt: skip
def test_arms_that_cannot_be_read(here: Path, typed: list[str], said: str, fix: str) -> None:
    (here / "a").mkdir()
    with pytest.raises(ConfigError) as caught:
        parse_arms(typed)
    assert said in caught.value.problem
    assert fix in (caught.value.fix or "")


def test_seeds_are_the_sources_own_or_numbered_and_never_one_twice() -> None:
    assert assign_seeds({"baseline": [42, 7], "x": [7, 42]}, renumber=False) == {
        "baseline": ([42, 7], True),
        "x": ([7, 42], True),
    }
    assert assign_seeds({"baseline": [None, None]}, renumber=False) == {"baseline": ([0, 1], False)}
    assert assign_seeds({"baseline": [42, None]}, renumber=False) == {"baseline": ([0, 1], False)}
    assert assign_seeds({"baseline": [42, 42]}, renumber=True) == {"baseline": ([0, 1], False)}
    with pytest.raises(
        ConfigError, match="expected different seeds, got two runs of baseline with seed 42: confidence intervals need"
    ):
        assign_seeds({"baseline": [42, 42]}, renumber=False)
    with pytest.raises(ConfigError, match="expected a common seed of all arms, got baseline 1; x 2"):
        assign_seeds({"baseline": [1], "x": [2]}, renumber=False)


def test_options_for_one_arm_or_for_all(here: Path) -> None:
    arms = ("baseline", "batch_size", "batch_size=64")
    assert parse_by_arm(["batch_size=64=8"], arms, "--samples-per-step") == {"batch_size=64": "8"}
    assert parse_by_arm(["8"], arms, "--samples-per-step") == dict.fromkeys(arms, "8")
    with pytest.raises(ConfigError, match="--samples-per-step 'bach=8': expected an arm, got 'bach'"):
        parse_by_arm(["bach=8"], arms, "--samples-per-step")
    made.state(here / "a")
    for size in ("0", "-1", "1.5", "x", "9" * 30):
        with pytest.raises(ConfigError, match="expected a whole number of at least 1, got"):
            import_runs(
                ImportRequest(arms=["baseline=a"], output=Path("runs/x"), samples_per_step=[f"baseline={size}"])
            )


@pytest.mark.parametrize(
    ("logged", "ours"),
    [("loss", "loss"), ("train/loss", "loss"), ("Loss/train", "loss"), ("train_loss_step", "loss"), ("train_loss_epoch", None),
     ("train/train_loss", None), ("eval_loss", "eval_loss"), ("val/loss", "eval_loss"), ("valid_acc", "eval_accuracy"),
     ("validation/F1", "eval_F1"), ("Loss/val", "eval_loss"), ("val_loss_epoch", "eval_loss"), ("eval_runtime", "eval_seconds"),
     ("eval/samples_per_second", None), ("lr-AdamW", "learning_rate"), ("grad_2.0_norm_total", "grad_norm"), ("_runtime", None),
     ("train/epoch", "epoch"), ("test_loss", None), ("evaluation", None), ("eval_loss::far", "eval_loss::far")],
)  # fmt: skip
def test_names_of_loggers(logged: str, ours: str | None) -> None:
    assert column_name(logged) == ours


def test_two_names_for_one_column_are_chosen_between() -> None:
    with pytest.raises(
        ConfigError, match=r"x: expected one name for the column loss, got 'loss' and 'train/loss'"
    ) as caught:
        map_columns(["loss", "train/loss"], {}, "x")
    assert caught.value.fix == "--rename loss=loss, or train/loss=loss"
    assert map_columns(["loss", "train/loss"], {"train/loss": "loss"}, "x") == {"train/loss": "loss"}
    assert parse_renames(["a=b=eval_nll"]) == {"a=b": "eval_nll"}
    for typed in ("x", "x=los", "=loss", "x=eval_", "x=samples"):
        with pytest.raises(ConfigError, match="expected NAME=COLUMN with a column of loss"):
            parse_renames([typed])
    with pytest.raises(ConfigError, match="loss is already the target of another name"):
        parse_renames(["a=loss", "b=loss"])


def test_a_rename_that_hits_nothing_is_said(here: Path) -> None:
    made.state(here / "a")
    with pytest.raises(ConfigError, match=r"--rename val_nll=\.\.\.: expected a logged name, one of grad_norm"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x"), renames=["val_nll=eval_loss"]))


def test_settings_are_taken_apart() -> None:
    found = settings_of({
        "trainer": {"seed": 3, "output_dir": "x", "eval_steps": 5, "per_device_train_batch_size": 8, "lr": 0.1,
                    "gradient_accumulation_steps": 4, "hub_token": "secret"},
        "model": {"dropout": 0.1}, "_wandb": {"x": 1},
    })  # fmt: skip
    assert found.config["trainer"] == {"per_device_train_batch_size": 8, "lr": 0.1, "gradient_accumulation_steps": 4}
    assert found.config["model"] == {"dropout": 0.1}
    assert (found.cadence, found.seed, found.seed_from, found.batch) == ({"eval_steps": 5}, 3, "trainer.seed", 32)
    assert settings_of({"a": {"seed": 1}, "b": {"seed": 2}}).seed is None
    assert settings_of({"a": {"batch_size": 1}, "b": {"batch_size": 2}}).batch is None


# ---- what lies there ----------------------------------------------------------------------------------------------------


def test_what_is_no_log_is_refused_and_what_was_looked_for_is_said(here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "weights.bin").write_bytes(b"0")
    with pytest.raises(AblateError) as caught:
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x")))
    assert "expected one of: trainer_state.json" in caught.value.problem
    assert "; got a with weights.bin" in caught.value.problem
    assert all(word in caught.value.problem for word in ("tfevents", ".wandb", "metrics.csv", ".jsonl"))


def test_two_kinds_of_log_in_one_folder_are_both_named(here: Path) -> None:
    made.state(here / "a")
    (here / "a" / "metrics.csv").write_text("epoch,step,train_loss\n0,1,0.5\n")
    with pytest.raises(
        AblateError, match=r"expected the log of one logger, got 2: trainer_state\.json .*; metrics\.csv"
    ) as caught:
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x")))
    assert caught.value.fix == "--format trainer_state, or --format lightning"
    import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x"), format="lightning"))
    with pytest.raises(AblateError, match=r"expected run-\*\.wandb of W&B, got trainer_state"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/y"), format="wandb"))
    with pytest.raises(ConfigError, match=r"--format: expected one of .*, got 'lightening'; did you mean 'lightning'"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/y"), format="lightening"))


def test_a_trainers_folder_that_holds_two_runs_is_refused(here: Path) -> None:
    made.state(here / "a", steps=200)
    made.state(here / "a" / "checkpoint-100", steps=100, seed=5)
    with pytest.raises(AblateError, match="expected one run, got two"):
        import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x")))


def test_links_that_lead_out_are_not_followed(here: Path) -> None:
    made.state(here / "mine")
    (here / "sent").mkdir()
    (here / "sent" / "trainer_state.json").symlink_to(here / "mine" / "trainer_state.json")
    with pytest.raises(AblateError, match="is a link that leads out of sent, and is not followed"):
        import_runs(ImportRequest(arms=["baseline=sent"], output=Path("runs/x")))
    (here / "sent" / "trainer_state.json").unlink()
    made.state(here / "sent")
    (here / "mine" / "config.json").write_text('{"secret": "of mine"}')
    (here / "sent" / "config.json").symlink_to(here / "mine" / "config.json")
    with pytest.raises(AblateError, match="is a link that leads out"):
        import_runs(ImportRequest(arms=["baseline=sent"], output=Path("runs/x")))


def row(**values: Any) -> str:
    return json.dumps({"log_history": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4, **values}], "global_step": 2})


HOSTILE = {
    "cut": ("trainer_state.json", json.dumps({"log_history": [{"step": 1, "loss": 0.5}]})[:-9]),
    "deep": ("trainer_state.json", "[" * 100_000),
    "no state": ("trainer_state.json", "{}"),
    "a list": ("trainer_state.json", "[1]"),
    "rows of numbers": ("trainer_state.json", '{"log_history": [1, 2]}'),
    "empty": ("trainer_state.json", '{"log_history": []}'),
    "no step": ("trainer_state.json", '{"log_history": [{"loss": 0.5}]}'),
    "huge step": ("trainer_state.json", row(step=10**400)),
    "large step": ("trainer_state.json", row(step=2**64)),
    "step below 0": ("trainer_state.json", row(step=-1)),
    "half a step": ("trainer_state.json", row(step=1.5)),
    "step as text": ("trainer_state.json", row(step="two")),
    "true step": ("trainer_state.json", row(step=True)),
    "samples beyond": ("trainer_state.json", json.dumps(json.loads(row(step=2**62)) | {"train_batch_size": 8})),
    "zeros": ("trainer_state.json", "\0" * 100),
    "no wandb": ("run-x.wandb", "not one"),
    "wandb of zeros": ("run-x.wandb", ":W&B" + "\0" * 1000),
    "no events": ("events.out.tfevents.1", "not one"),
    "csv of zeros": ("log.csv", "\0\0\0"),
    "csv without lines": ("log.csv", ""),
    "csv without steps": ("log.csv", "loss\n1\n"),
    "csv with two names": ("log.csv", "step,loss,loss\n1,2,3\n"),
    "csv with a short line": ("log.csv", "step,loss\n1\n2,3\n"),
    "csv with a long field": ("log.csv", "step,loss\n1," + "9" * 200_000 + "\n"),
    "csv with a bad step": ("log.csv", "step,loss\nx,1\n"),
    "csv with nan as step": ("log.csv", "step,loss\nnan,1\n"),
    "jsonl of text": ("log.jsonl", "hello\n{}\n"),
    "jsonl deep": ("log.jsonl", "[" * 100_000 + "\n{}"),
    "json number": ("log.json", "5"),
    "json unequal": ("log.json", '{"step": [1, 2], "loss": [1]}'),
    "hparams that run": ("hparams.yaml", "a: !!python/object/apply:os.system ['touch ran']"),
    "hparams with aliases": ("hparams.yaml", "a: &a [x, x]\nb: [*a, *a]"),
    "hparams with many aliases": (
        "hparams.yaml",
        "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 99)),
    ),
}
_READ = ("csv with a long field", "hparams that run", "hparams with aliases", "hparams with many aliases")
"""Cases whose metrics are read; nothing is run, and no alias is followed for ever."""


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_sent_is_read_or_refused_in_a_sentence(
    here: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    file, text = HOSTILE[name]
    (here / "sent").mkdir()
    (here / "sent" / file).write_text(text)
    if file == "hparams.yaml":
        (here / "sent" / "metrics.csv").write_text("epoch,step,train_loss\n0,1,0.5\n")
    source = "sent" if not file.startswith("log.") else f"sent/{file}"
    monkeypatch.setattr(os, "system", started)
    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    code = cli.main(["import", f"baseline={source}", "--output", "runs/x"])
    said = capsys.readouterr()
    assert not (here / "ran").exists()
    if name in _READ:
        assert code < 2
        assert not said.err
        return
    assert code == 2
    assert said.err.startswith("ablate: ")
    assert len(said.err) < 2000
    assert "Traceback" not in said.err + said.out
    assert not list(here.glob("runs/*"))


def test_a_table_whose_last_line_breaks_off_is_read_without_it(here: Path) -> None:
    (here / "a.csv").write_text("step,loss,val_loss\n1,0.5,\n2,0.4,0.3\n3,0.")
    (here / "b.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    lines = import_runs(ImportRequest(arms=["baseline=a.csv,b.jsonl"], output=Path("runs/x"))).lines
    assert all("the last line is truncated and left out" in line for line in lines)


def test_numbers_that_are_none_are_kept_as_what_they_are(here: Path) -> None:
    from ablate.analysis.analyse import analyse
    from ablate.records.reader import read_trace

    state = {"log_history": [{"step": 1, "loss": float("nan"), "grad_norm": float("inf")}, {"step": 2, "loss": 1e300},
                             {"step": 2, "eval_loss": float("nan")}, {"step": 3, "loss": 10**400},
                             {"step": 3, "eval_loss": 1.0}]}  # fmt: skip
    (here / "a").mkdir()
    (here / "a" / "trainer_state.json").write_text(json.dumps(state))
    import_runs(ImportRequest(arms=["baseline=a"], output=Path("runs/x")))
    trace = read_trace(RunDir(here / "runs/x/baseline/seed=0").trace)
    assert trace["applied"].tolist()[0] == 0
    assert str(trace["loss"].tolist()) == "[nan, inf]"
    assert analyse(here / "runs" / "x").runs[0].values["eval_loss"] == 1.0


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([(0.5, 0.6), (math.nan, math.nan), (math.nan, math.nan)], "diverged"),
        ([(0.5, 0.6), (math.nan, None), (math.inf, None), (math.nan, None)], "diverged"),
        ([(0.5, 0.6), (math.nan, None), (0.4, None)], "finished"),
        ([(math.nan, math.nan), (0.5, 0.6)], "finished"),
        ([(None, 0.6), (None, math.nan)], "diverged"),
    ],
    ids=["evaluation", "losses after it", "one step", "it recovered", "no losses"],
)
def test_a_run_that_is_no_number_at_its_end_has_diverged(
    here: Path, rows: list[tuple[float | None, float | None]], status: str
) -> None:
    from ablate.records.metadata import read_status

    lines = [{"step": step, "loss": loss, "val_loss": value} for step, (loss, value) in enumerate(rows, start=1)]
    (here / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_runs(ImportRequest(arms=["baseline=a.jsonl"], output=Path("runs/x")))
    read = read_status(RunDir(here / "runs/x/baseline/seed=0"))
    assert read is not None
    assert read.status == status
    assert ("at step" in read.message and " is " in read.message.partition(";")[0]) == (status == "diverged")


def test_a_manifest_whose_origin_is_none_is_an_unreadable_run(here: Path) -> None:
    from ablate.analysis.analyse import analyse

    made.state(here / "a")
    made.state(here / "b", seed=1)
    import_runs(ImportRequest(arms=["baseline=a,b"], output=Path("runs/x")))
    for value in (
        {"format": 1},
        {"format": "x"},
        {"files": {}, "format": "x", "more": 1},
        {"format": "x", "files": {"a": 1}},
    ):
        path = here / "runs/x/baseline/seed=1/manifest.json"
        manifest = json.loads(path.read_text()) | {"origin": value}
        path.write_text(json.dumps(manifest))
        assert [run.status for run in analyse(here / "runs" / "x").runs] == ["finished", "unreadable"]


def test_a_name_in_a_log_cannot_write_on_the_terminal_or_the_page(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.csv").write_text("step,loss,\x1b[2Jgone,<script>alert(1)</script>\n1,0.5,1,1\n2,0.4,1,1\n")
    assert cli.main(["import", "baseline=a.csv", "--output", "runs/x"]) == 0
    said = capsys.readouterr().out
    assert "left out: ?[2Jgone, <script>alert(1)</script>" in said
    assert "\x1b" not in said
    page = (here / "runs/x/report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_values_that_cannot_be_read_are_read_where_they_can_be_else_named(here: Path) -> None:
    from ablate.records.reader import read_evals

    rows = [
        {"step": k, "loss": 0.5, "eval_accuracy": {"accuracy": k / 10}, "eval_f1": "0,5", "odd": "x"} for k in (1, 2)
    ]
    (here / "a").mkdir()
    (here / "a" / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    (here / "b.csv").write_text("step,loss,val_loss\n1,\"tensor(0.5, device='cuda:0')\",0.5\n2,0.4,0.3\n")
    lines = import_runs(ImportRequest(arms=["baseline=a,b.csv"], output=Path("runs/x"))).lines
    evals = read_evals(RunDir(here / "runs/x/baseline/seed=0").evals)
    assert evals.curve("accuracy/accuracy").value.tolist() == [0.1, 0.2]
    assert "2 values of eval_f1 are not numbers and are left out, such as '0,5'" in lines[0]
    assert "odd" not in lines[0]
    assert '1 values of loss are not numbers and are left out, such as "tensor(0.5' in lines[1]


def test_training_steps_that_are_counted_from_0_are_moved_and_said(here: Path) -> None:
    from ablate.records.reader import read_evals, read_trace

    (here / "a.csv").write_text("step,loss,val_loss\n0,0.5,0.9\n10,0.4,0.3\n")
    (line,) = import_runs(ImportRequest(arms=["baseline=a.csv"], output=Path("runs/x"))).lines
    assert "training steps are counted from 0, so one was added to them" in line
    run = RunDir(here / "runs/x/baseline/seed=0")
    assert read_trace(run.trace)["step"].tolist() == [1, 11]
    assert read_evals(run.evals).curve("loss").step.tolist() == [0, 10]
