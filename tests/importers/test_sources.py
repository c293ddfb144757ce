"""Logs that the real libraries wrote: what is imported equals, row by row, what they logged."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ablate.errors import AblateError
from ablate.importers.hyperparameters import read_settings
from ablate.importers.import_runs import ImportRequest, import_runs
from ablate.records.layout import RunDir
from ablate.records.metadata import Origin, origin_of, read_manifest, read_status
from ablate.records.reader import read_evals, read_trace
from tests.importers import made


def brought(tmp_path: Path, *arms: str, **options: Any) -> RunDir:
    """Import into runs/mine; the first run of the baseline."""
    import_runs(ImportRequest(arms=arms, output=tmp_path / "runs" / "mine", **options))
    return RunDir(sorted((tmp_path / "runs" / "mine" / "baseline").iterdir())[0])


def origin(run: RunDir) -> Origin:
    found = origin_of(read_manifest(run).origin)
    assert found is not None
    return found


def same_rows(run: RunDir, rows: list[dict[str, Any]], columns: Mapping[str, str], shift: int = 0) -> None:
    """columns: {name in the log: column of the trace}. fp32 columns hold a double's nearest."""
    trace = read_trace(run.trace)
    logged = [row for row in rows if any(name in row for name in columns)]
    assert trace["step"].tolist() == [row["step"] + shift for row in logged]
    for name, column in columns.items():
        kind = np.float32 if column in ("loss", "grad_norm") else np.float64
        np.testing.assert_array_equal(trace[column], [np.float64(kind(row.get(name, math.nan))) for row in logged])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("trainer") / "out"
    return folder, made.trainer(folder, eval_on_start=True)


def test_a_trainer_state_is_what_the_trainer_logged(tmp_path: Path, trained: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = trained
    run = brought(tmp_path, f"baseline={folder}")
    train = [row for row in rows if "loss" in row]
    assert len(train) == 6
    same_rows(
        run, train, {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "epoch": "epoch"}
    )
    curve = read_evals(run.evals).curve("loss")
    looks = [row for row in rows if "eval_loss" in row]
    assert curve.step.tolist() == [row["step"] for row in looks] == [0, 4, 8, 12]
    np.testing.assert_array_equal(curve.value, [row["eval_loss"] for row in looks])
    np.testing.assert_array_equal(curve.samples, 4 * curve.step)
    outcome = read_status(run)
    assert outcome is not None
    assert (outcome.status, outcome.step) == ("finished", 12)
    assert origin(run).samples == "train_batch_size 4 x 1, from the speeds in the last row"
    # The row at the end is the mean over the whole run: no step's loss.
    assert any("train_loss" in row for row in rows)
    assert read_trace(run.trace)["loss"][-1] == np.float32(train[-1]["loss"])


def test_accumulation_is_told_by_the_speeds_of_the_last_row(tmp_path: Path) -> None:
    made.trainer(tmp_path / "out", batch=4, gradient_accumulation_steps=2, steps=10)
    assert origin(brought(tmp_path, f"baseline={tmp_path / 'out'}")).samples_per_step == 8


def test_a_checkpoint_is_read_as_far_as_it_goes_and_its_pickle_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made.trainer(tmp_path / "out", save_strategy="steps", save_steps=4, save=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "checkpoint-12",
        "checkpoint-4",
        "checkpoint-8",
    ]
    pickles = list((tmp_path / "out").glob("*/training_args.bin"))
    assert len(pickles) == 3
    for pickle in pickles:
        pickle.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    run = brought(tmp_path, f"baseline={tmp_path / 'out'}")
    same_rows(run, [row for row in rows if "loss" in row], {"loss": "loss"})
    assert any("is a pickle and is not opened" in note for note in origin(run).notes)
    assert (
        origin(run).samples
        == "trainer.train_batch_size 4; the number of processes and accumulation steps is not recorded"
    )
    early = brought(tmp_path / "early", f"baseline={tmp_path / 'out' / 'checkpoint-4'}")
    outcome = read_status(early)
    assert outcome is not None
    assert (outcome.status, outcome.message) == ("interrupted", "the Trainer's state is of step 4 of 12")


def test_the_models_own_config_is_among_the_settings(tmp_path: Path) -> None:
    made.state(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(
        json.dumps({"dropout": 0.1, "_name_or_path": "x", "transformers_version": "5"})
    )
    run = brought(tmp_path, f"baseline={tmp_path / 'a'}")
    assert yaml.safe_load(run.config.read_text()) == {"trainer": {"train_batch_size": 8}, "model": {"dropout": 0.1}}


def test_an_evaluation_after_training_does_not_count_and_is_named(tmp_path: Path) -> None:
    """`trainer.evaluate()` after `load_best_model_at_end`: a second row at the last step, of other weights."""
    path = made.state(tmp_path / "a", steps=20, eval_steps=10, last=True)
    state = json.loads(path.read_text())
    during = [row["eval_loss"] for row in state["log_history"] if "eval_loss" in row]
    state["log_history"].append({"eval_loss": 0.01, "eval_runtime": 9.0, "epoch": 0.01, "step": 20})
    path.write_text(json.dumps(state))
    run = brought(tmp_path, f"baseline={tmp_path / 'a'}")
    assert read_evals(run.evals).curve("loss").value.tolist() == during
    assert any("eval_loss, eval_runtime: evaluated again at the last step" in note for note in origin(run).notes)
    rows = [(step, {"train/loss": 1 / step, "eval/loss": 0.5 / step}) for step in (1, 2, 3)]
    made.tensorboard(tmp_path / "tb", [*rows, (3, {"eval/loss": 0.9})])
    run = brought(tmp_path / "b", f"baseline={tmp_path / 'tb'}")
    assert read_evals(run.evals).curve("loss").value[-1] == np.float32(0.5 / 3)
    made.tensorboard(tmp_path / "two", [*rows, (2, {"eval/loss": 0.9})])
    with pytest.raises(AblateError, match="two values of eval/loss at step 2"):
        brought(tmp_path / "c", f"baseline={tmp_path / 'two'}")


def test_other_evaluation_sets_are_other_splits(tmp_path: Path) -> None:
    path = made.state(tmp_path / "a", steps=20, eval_steps=10)
    state = json.loads(path.read_text())
    state["log_history"].append({"eval_far_loss": 0.9, "eval_far_runtime": 1.0, "epoch": 0.01, "step": 20})
    path.write_text(json.dumps(state))
    evals = read_evals(brought(tmp_path, f"baseline={tmp_path / 'a'}").evals)
    assert evals.curve("loss", "far").value.tolist() == [0.9]
    assert evals.curve("loss").step.tolist() == [10, 20]


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers:Warning")
@pytest.mark.filterwarnings("ignore:The `srun` command is available:Warning")
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_lightnings_metrics_are_what_the_module_logged(tmp_path: Path) -> None:
    rows = made.lightning(tmp_path / "out", seed=5)
    logged = [row for row in rows if "train_loss" in row][1::2]  # log_every_n_steps=2
    run = brought(tmp_path, f"baseline={tmp_path / 'out'}")
    same_rows(run, logged, {"train_loss": "loss"})
    curve = read_evals(run.evals).curve("loss")
    looks = [row for row in rows if "val_loss" in row]
    assert curve.step.tolist() == [row["step"] for row in looks] == [5, 10]
    np.testing.assert_array_equal(curve.value, [row["val_loss"] for row in looks])
    assert yaml.safe_load(run.config.read_text()) == {"lr": 0.1}
    assert (run.path.name, origin(run).seed) == ("seed=5", "seed")


@pytest.mark.slow
def test_a_trainers_run_is_the_same_by_wandb_by_tensorboard_and_by_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
    with made.inside(tmp_path):
        made.trainer(tmp_path / "out", seed=7, report_to=["wandb", "tensorboard"], per_device_eval_batch_size=16)
        import wandb

        wandb.finish()
        (offline,) = tmp_path.glob("wandb/offline-run-*")
        runs = {
            kind: brought(tmp_path / kind, f"baseline={source}")
            for kind, source in {"state": tmp_path / "out", "wandb": offline, "tensorboard": tmp_path / "tb"}.items()
        }
    traces = {kind: read_trace(run.trace) for kind, run in runs.items()}
    for kind in ("wandb", "tensorboard"):
        for column in ("step", "loss", "grad_norm"):
            np.testing.assert_array_equal(traces[kind][column], traces["state"][column], err_msg=f"{kind} {column}")
        curve, wanted = (read_evals(runs[one].evals).curve("loss") for one in (kind, "state"))
        np.testing.assert_array_equal(curve.step, wanted.step)
        np.testing.assert_allclose(curve.value, wanted.value, rtol=1e-7)  # event files hold fp32
        assert runs[kind].path.name == "seed=7"
        settings = yaml.safe_load(runs[kind].config.read_text())
        found = settings.get("trainer", settings)
        assert (found["per_device_train_batch_size"], found["learning_rate"]) == (4, 0.1)
        assert not {"output_dir", "run_name", "eval_steps", "seed"} & set(found)


LONG = "long " * 20_000
"""A message of more than one block of the file."""

ROWS = [
    {"train/global_step": 10 * k, "train/loss": 1 / (k + 1), "eval/acc": k / 10, "odd": "text"} for k in range(1, 5)
]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"seed": 3, "batch_size": 16, "optim": {"lr": 0.1}, "output_dir": "somewhere", "notes": LONG}
    return made.wandb_run(tmp_path_factory.mktemp("wandb"), ROWS, config)


def test_an_offline_run_of_wandb_is_what_was_logged(tmp_path: Path, offline: Path) -> None:
    run = brought(tmp_path, f"baseline={offline}")
    same_rows(run, [{"step": row["train/global_step"], **row} for row in ROWS], {"train/loss": "loss"})
    curve = read_evals(run.evals).curve("accuracy")
    np.testing.assert_array_equal(curve.value, [row["eval/acc"] for row in ROWS])
    np.testing.assert_array_equal(curve.samples, [160, 320, 480, 640])
    assert run.path.name == "seed=3"
    assert yaml.safe_load(run.config.read_text()) == {"batch_size": 16, "optim": {"lr": 0.1}, "notes": LONG}
    outcome = read_status(run)
    assert outcome is not None
    assert (outcome.status, outcome.message) == ("finished", "it ended with code 0")


def test_wandbs_own_steps_give_no_samples(tmp_path: Path) -> None:
    """They count calls of `log`, here one every 25 updates."""
    rows = [{"train/loss": 1 / (k + 1), "eval/loss": 0.5 / (k + 1)} for k in range(4)]
    folder = made.wandb_run(tmp_path, rows, {"batch_size": 8})
    run = brought(tmp_path, f"baseline={folder}")
    assert read_trace(run.trace).table["samples"].null_count == 4
    assert (origin(run).step, origin(run).samples_per_step) == ("_step", 0)
    assert any("samples are not counted from it" in note for note in origin(run).notes)
    asked = brought(tmp_path / "asked", f"baseline={folder}", samples_per_step=["200"])
    assert read_trace(asked.trace)["samples"].tolist() == [200, 400, 600, 800]


def test_a_file_of_wandb_that_breaks_off_is_read_as_far_as_it_is_whole(tmp_path: Path, offline: Path) -> None:
    (whole,) = offline.glob("*.wandb")
    data = whole.read_bytes()
    seen = set()
    for part in range(data.index(b"eval/acc") - 200, len(data), 97):
        folder = tmp_path / str(part)
        folder.mkdir()
        (folder / "run-x.wandb").write_bytes(data[:part])
        try:
            run = brought(folder, f"baseline={folder / 'run-x.wandb'}")
        except AblateError as error:
            assert "expected rows of history, got none" in error.problem  # noqa: PT017
            continue
        seen.add(len(read_trace(run.trace)))
        outcome = read_status(run)
        assert outcome is not None
        assert outcome.status == ("finished" if "it ended" in outcome.message else "interrupted")
    assert {1, 2, 3, 4} <= seen


def test_a_flipped_bit_in_a_file_of_wandb_ends_what_is_read(tmp_path: Path, offline: Path) -> None:
    (whole,) = offline.glob("*.wandb")
    data = bytearray(whole.read_bytes())
    at = data.rindex(b"eval/acc")
    data[at] ^= 1
    (tmp_path / "x.wandb").write_bytes(bytes(data))
    run = brought(tmp_path, f"baseline={tmp_path / 'x.wandb'}")
    assert len(read_trace(run.trace)) < len(ROWS) or read_status(run).status == "interrupted"  # type: ignore[union-attr]
    assert "the file is truncated; its complete part was read" in origin(run).notes


SCALARS = [
    (10 * k, {"Loss/train": 1 / (k + 1), "lr": 0.1 / k, "Loss/val": 0.5 / k, "weights": 3.0}) for k in range(1, 6)
]


def test_event_files_are_what_the_writer_was_given(tmp_path: Path) -> None:
    made.tensorboard(tmp_path / "tb", SCALARS)
    run = brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    trace = read_trace(run.trace)
    assert trace["step"].tolist() == [10, 20, 30, 40, 50]
    np.testing.assert_array_equal(trace["loss"], [np.float32(values["Loss/train"]) for _, values in SCALARS])
    np.testing.assert_array_equal(trace["learning_rate"], [np.float32(values["lr"]) for _, values in SCALARS])
    np.testing.assert_array_equal(
        read_evals(run.evals).curve("loss").value, [np.float32(values["Loss/val"]) for _, values in SCALARS]
    )
    assert origin(run).left_out == ("weights",)
    assert trace.table["samples"].null_count == 5


def test_an_event_file_that_breaks_off_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    made.tensorboard(tmp_path / "tb", SCALARS)
    (file,) = (tmp_path / "tb").iterdir()
    file.write_bytes(file.read_bytes()[:-30])
    run = brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    assert len(read_trace(run.trace)) == 5
    assert len(read_evals(run.evals).curve("loss")) == 5
    assert any("is truncated; its complete part was read" in note for note in origin(run).notes)


def test_two_runs_in_one_folder_are_not_put_together(tmp_path: Path) -> None:
    made.tensorboard(tmp_path / "tb", SCALARS)
    made.tensorboard(tmp_path / "tb", [(step, {"Loss/train": 9.0}) for step, _ in SCALARS])
    with pytest.raises(AblateError, match=r"two values of Loss/train at step 10: .* and"):
        brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    made.tensorboard(tmp_path / "tb2" / "a", SCALARS)
    made.tensorboard(tmp_path / "tb2" / "b", SCALARS)
    with pytest.raises(AblateError, match="expected the log of one run, got 2 runs"):
        brought(tmp_path, f"baseline={tmp_path / 'tb2'}")


def test_a_run_that_was_resumed_is_read_as_tensorboard_shows_it(tmp_path: Path) -> None:
    """Killed at step 5, resumed from step 3: the second file purges steps 4 and 5 of the first."""
    import time

    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "tb")) as writer:
        for step in range(1, 6):
            writer.add_scalar("train/loss", 1.0 / step, step)
    time.sleep(1.1)  # a file's name holds the second in which it was made
    with SummaryWriter(str(tmp_path / "tb"), purge_step=4) as writer:
        for step in range(4, 8):
            writer.add_scalar("train/loss", 2.0 / step, step)
    trace = read_trace(brought(tmp_path, f"baseline={tmp_path / 'tb'}").trace)
    assert trace["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(trace["loss"], np.float32([1, 1 / 2, 1 / 3, 2 / 4, 2 / 5, 2 / 6, 2 / 7]))


def test_a_folder_below_the_runs_own_is_named_and_left_out(tmp_path: Path) -> None:
    """`add_hparams` writes its metrics there."""
    made.tensorboard(tmp_path / "tb", SCALARS)
    made.tensorboard(tmp_path / "tb" / "1700000000.1", [(0, {"hparam/accuracy": 0.9})])
    run = brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    assert read_trace(run.trace)["step"].tolist() == [10, 20, 30, 40, 50]
    assert any("1700000000.1 is another run to TensorBoard and is left out" in note for note in origin(run).notes)


@pytest.mark.parametrize(
    "text",
    ['{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n', '[{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}]'],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_json_file_holds_a_list_or_lines_with_or_without_a_byte_order_mark(
    tmp_path: Path, text: str, mark: str
) -> None:
    (tmp_path / "log.json").write_text(mark + text, encoding="utf-8")
    assert read_trace(brought(tmp_path, f"baseline={tmp_path / 'log.json'}").trace)["step"].tolist() == [1, 2]


def test_a_trainer_state_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = made.state(tmp_path / "a", steps=20)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert read_trace(brought(tmp_path, f"baseline={tmp_path / 'a'}").trace)["step"].tolist() == [10, 20]


def test_without_tensorboard_the_line_to_type_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    made.tensorboard(tmp_path / "tb", SCALARS)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(AblateError) as caught:
        brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    assert caught.value.fix == "pip install 'torch-ablate[tensorboard]'"


def export(path: Path, metric: str, runs: Mapping[str, list[float]], *, apart: float = 0.0) -> Path:
    """As W&B exports a chart: every run has the value, __MIN and __MAX."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        ends = ("", "__MIN", "__MAX")
        table.writerow(["Step", *(f"{run} - {metric}{end}" for run in runs for end in ends)])
        for k in range(len(next(iter(runs.values())))):
            cells = [(values[k], values[k] - apart, values[k] + apart) for values in runs.values()]
            table.writerow([10 * (k + 1), *(one for cell in cells for one in cell)])
    return path


def test_wandbs_exports_hold_several_runs_and_a_run_lies_in_several_exports(tmp_path: Path) -> None:
    runs = {"run - a": [3.0, 2.0, 1.0], "run, b=2": [4.0, 3.0, 2.0]}
    loss = export(tmp_path / "loss.csv", "eval/loss", runs)
    norm = export(tmp_path / "norm.csv", "train/grad_norm", runs)
    run = brought(tmp_path, "baseline=run - a", "x=run, b=2", tables=[loss, norm])
    assert read_evals(run.evals).curve("loss").value.tolist() == [3.0, 2.0, 1.0]
    assert read_trace(run.trace)["grad_norm"].tolist() == [3.0, 2.0, 1.0]
    other = RunDir(tmp_path / "runs" / "mine" / "x" / "seed=0")
    assert read_evals(other.evals).curve("loss").value.tolist() == [4.0, 3.0, 2.0]
    with pytest.raises(AblateError, match="expected one run, got 2 runs: run - a, run, b=2") as caught:
        brought(tmp_path / "again", f"baseline={loss}")
    assert "--table" in (caught.value.fix or "")


def test_an_export_of_means_is_said_to_be_one(tmp_path: Path) -> None:
    table = export(tmp_path / "loss.csv", "train/loss", {"a": [3.0, 2.0]}, apart=0.5)
    run = brought(tmp_path, f"baseline={table}")
    assert origin(run).averaged
    assert origin(run).loss == "means over stretches of a chart"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "rows.json", "columns.json"])
def test_plain_tables_are_all_read_alike(tmp_path: Path, kind: str) -> None:
    rows = [{"step": 5, "train_loss": 0.5, "val_loss": None}, {"step": 10, "train_loss": 0.25, "val_loss": 0.75}]
    path = tmp_path / f"log.{kind}"
    if kind in ("csv", "tsv"):
        lines = [list(rows[0]), *([("" if value is None else value) for value in row.values()] for row in rows)]
        path.write_text("\n".join(("," if kind == "csv" else "\t").join(map(str, line)) for line in lines) + "\n")
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        path.write_text(json.dumps(rows if kind == "rows.json" else columns))
    run = brought(tmp_path, f"baseline={path}", samples_per_step=["8"])
    trace = read_trace(run.trace)
    assert (trace["step"].tolist(), trace["loss"].tolist(), trace["samples"].tolist()) == (
        [5, 10],
        [0.5, 0.25],
        [40, 80],
    )
    curve = read_evals(run.evals).curve("loss")
    assert (curve.step.tolist(), curve.value.tolist()) == ([10], [0.75])
    # What a table does not say is null, not a number that looks like one.
    assert all(
        trace.table[name].null_count == 2 for name in ("tokens", "clip_coefficient", "step_seconds", "applied", "epoch")
    )


# ---- logs as people have them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_that_a_callback_stopped_has_ended(tmp_path: Path, stopped: bool) -> None:
    """Early stopping at step 60 of 1200: the newest checkpoint is the only state that the Trainer writes."""
    path = made.state(tmp_path / "out" / "checkpoint-60", steps=60, eval_steps=20)
    control = {"TrainerControl": {"args": {"should_training_stop": stopped}, "attributes": {}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_steps": 1200, "stateful_callbacks": control}))
    outcome = read_status(brought(tmp_path, f"baseline={tmp_path / 'out'}"))
    assert outcome is not None
    assert outcome.status == ("finished" if stopped else "interrupted")
    assert ("says that training was stopped there" in outcome.message) == stopped


HPARAMS = {
    "tuple": ("betas: !!python/tuple\n- 0.9\n- 0.999\nbatch_size: 8\n", {"betas": [0.9, 0.999], "batch_size": 8}, ""),
    "function": ("loss: !!python/name:torch.nn.functional.mse_loss ''\nbatch_size: 8\n", {"batch_size": 8}, "loss in"),
    "object": ("opt:\n  kind: !!python/object:x.Y\n    a: 1\n  lr: 0.1\n", {"opt": {"lr": 0.1}}, "opt.kind in"),
    "call": ("x: !!python/object/apply:os.system ['touch ran']\nbatch_size: 8\n", {"batch_size": 8}, "x in hparams"),
    "tag": ("net: !Net {width: 3}\nseed: 1\n", {}, "net in hparams.yaml: a Python object"),
    "alias": ("a: &id001\n- x\nb: *id001\n", {"a": ["x"], "b": ["x"]}, ""),
    "malformed": ("a: [1\nb: 2", {}, "cannot read settings from"),
}


@pytest.mark.parametrize("kind", HPARAMS)
def test_settings_that_cannot_be_read_are_named_and_the_metrics_count(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, config, note = HPARAMS[kind]
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "hparams.yaml").write_text(text)
    (tmp_path / "v" / "metrics.csv").write_text(
        "epoch,step,train_loss,val_loss\n0,9,2.0,\n0,9,,1.9\n0,19,1.8,\n0,19,,1.7\n"
    )
    run = brought(tmp_path, "baseline=v")
    assert read_evals(run.evals).curve("loss").value.tolist() == [1.9, 1.7]
    assert yaml.safe_load(run.config.read_text()) == config
    assert any(note in one for one in origin(run).notes) or not note
    assert not (tmp_path / "ran").exists()
    chosen = tmp_path / "s.yaml"
    chosen.write_text("batch_size: 4\n")
    other = brought(tmp_path / "other", "baseline=v", config_files=[f"baseline={chosen}"])
    assert yaml.safe_load(other.config.read_text()) == {"batch_size": 4}


def test_many_aliases_are_not_followed(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 20)}]" for k in range(1, 9)]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    with pytest.raises(AblateError, match="more than 20 aliases"):
        read_settings(tmp_path / "s.yaml")


def test_curves_of_add_scalars_are_one_run(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "tb")) as writer:
        for step in range(1, 4):
            writer.add_scalars("loss", {"train": 1.0 / step, "val": 2.0 / step}, step)
            writer.add_scalars("Metrics/acc", {"val": 0.1 * step}, step)
            writer.add_scalar("lr", 0.1, step)
    run = brought(tmp_path, f"baseline={tmp_path / 'tb'}")
    trace, evals = read_trace(run.trace), read_evals(run.evals)
    np.testing.assert_array_equal(trace["loss"], np.float32([1, 1 / 2, 1 / 3]))
    np.testing.assert_array_equal(trace["learning_rate"], np.float32([0.1, 0.1, 0.1]))
    np.testing.assert_array_equal(evals.curve("loss").value, np.float32([2, 1, 2 / 3]))
    assert any("loss_train" in note for note in origin(run).notes)


@pytest.mark.parametrize(
    "text",
    [
        '"Name","State","lr","eval/loss","_step"\n"run-1","finished","0.1","0.5","1000"\n"run-2","crashed","0.2","0.6","1000"\n',
        "run_id,status,start_time,eval_loss,step\na1,FINISHED,2026,0.5,10\nb2,FINISHED,2026,0.6,10\n",
        "ID,Created,step,loss\nx,2026-01-01,10,0.5\ny,2026-01-02,20,0.4\n",
    ],
)
def test_a_table_of_runs_holds_no_curve(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(AblateError, match="expected the curve of one run, got a table of 2 runs, a row each") as caught:
        brought(tmp_path, f"baseline={tmp_path / 'runs.csv'}")
    assert "--table" in (caught.value.fix or "")


def test_a_long_text_in_a_table_of_metrics_is_no_obstacle(tmp_path: Path) -> None:
    long = '"' + "word " * 40_000 + '"'
    (tmp_path / "log.csv").write_text(f"step,loss,eval_loss,sample\n10,0.5,0.6,{long}\n20,0.4,0.5,x\n")
    run = brought(tmp_path, f"baseline={tmp_path / 'log.csv'}")
    assert read_evals(run.evals).curve("loss").value.tolist() == [0.6, 0.5]


def test_a_grouped_chart_holds_means_over_runs(tmp_path: Path) -> None:
    chart = export(tmp_path / "chart.csv", "eval/loss", {"algo: adam": [3.0, 2.0], "algo: sgd": [4.0, 3.0]}, apart=0.5)
    run = brought(tmp_path, "baseline=algo: adam", "sgd=algo: sgd", tables=[chart])
    notes = " ".join(origin(run).notes)
    assert "algo: adam is a group of runs: its values are means over runs, which the export does not count" in notes
    assert "stretches" not in notes
    assert origin(run).loss == "means over runs"


def test_a_model_config_that_is_no_json_is_noted(tmp_path: Path) -> None:
    made.state(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text("{")
    run = brought(tmp_path, f"baseline={tmp_path / 'out'}")
    assert "config.json is malformed JSON: the model's settings are not recorded" in origin(run).notes


def test_a_speed_of_infinity_tells_nothing(tmp_path: Path) -> None:
    path = made.state(tmp_path / "out")
    state = json.loads(path.read_text())
    state["log_history"].append({"train_runtime": 0.0, "train_samples_per_second": math.inf, "train_steps_per_second": math.inf,
                                 "step": state["log_history"][-1]["step"]})  # fmt: skip
    path.write_text(json.dumps(state))
    assert read_status(brought(tmp_path, f"baseline={tmp_path / 'out'}")).status == "finished"  # type: ignore[union-attr]


@pytest.mark.parametrize("output", ["blocked/mine", "x" * 300])
def test_an_output_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path, output: str) -> None:
    made.state(tmp_path / "out")
    (tmp_path / "blocked").write_text("a file, where a directory would be needed")
    with pytest.raises(AblateError, match="cannot be written: ") as caught:
        import_runs(ImportRequest(arms=[f"baseline={tmp_path / 'out'}"], output=tmp_path / output))
    assert "--output" in (caught.value.fix or "")


@pytest.mark.parametrize("separator", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_tables_with_other_separators_and_encodings_are_read(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "step,loss,val_loss\n1,1.0,0.9\n2,0.5,0.4\n".replace(",", separator)
    (tmp_path / "log.csv").write_text(text, encoding=encoding)
    run = brought(tmp_path, f"baseline={tmp_path / 'log.csv'}")
    assert read_evals(run.evals).curve("loss").value.tolist() == [0.9, 0.4]


def test_epochs_are_no_steps_that_a_batch_size_makes_samples_of(tmp_path: Path) -> None:
    (tmp_path / "keras.csv").write_text("epoch,loss,val_loss\n1,1.0,0.9\n2,0.5,0.4\n")
    (tmp_path / "s.yaml").write_text("batch_size: 8\n")
    with pytest.raises(AblateError, match="expected a column of steps") as caught:
        brought(tmp_path, f"baseline={tmp_path / 'keras.csv'}")
    assert caught.value.fix == "--step-column epoch, where steps are epochs"
    run = brought(
        tmp_path, f"baseline={tmp_path / 'keras.csv'}", step_column="epoch", config_files=[str(tmp_path / "s.yaml")]
    )
    assert read_trace(run.trace).table["samples"].null_count == 2
    assert "steps are epochs, and samples are not counted from them" in origin(run).notes


@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        ("loss,val_loss", "a column with the number of updates, such as step"),
        ("epoch,my_updates,loss", "--step-column my_updates"),
    ],
)
def test_a_column_that_counts_nothing_is_not_offered_for_the_steps(tmp_path: Path, columns: str, fix: str) -> None:
    (tmp_path / "log.csv").write_text(f"{columns}\n" + ",".join("1" for _ in columns.split(",")) + "\n")
    with pytest.raises(AblateError, match="expected a column of steps") as caught:
        brought(tmp_path, f"baseline={tmp_path / 'log.csv'}")
    assert caught.value.fix == fix
