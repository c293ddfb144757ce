"""The Trainer's own training, step by step, as a loop by hand has it; and the training as it is without us."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from ablate import cli, read_evals, read_trace
from ablate.analysis.infer_plan import PlanOptions, adopt
from ablate.errors import LoopError, RecordError
from ablate.integrations.transformers import TraceCallback, _settings
from ablate.records.layout import RunDir
from ablate.records.metadata import read_fingerprint, read_status
from ablate.serialization import read_json
from tests.integrations.toy import BATCH, RATE, Network, by_hand, examples

STEPS = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "baseline" / "seed=0"


def make(tmp_path: Path, model: nn.Module | None = None, *, num: int = 10 * BATCH, **settings: Any) -> Trainer:
    settings = {
        "max_steps": STEPS, "per_device_train_batch_size": BATCH, "learning_rate": RATE, "optim": "sgd",
        "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential", "use_cpu": True, "report_to": [],
        "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no", "dataloader_pin_memory": False,
    } | settings  # fmt: skip
    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), **settings)
    held_out: Any = examples(10, seed=9)
    return Trainer(
        model=Network() if model is None else model, args=arguments, train_dataset=examples(num),  # type: ignore[arg-type]
        eval_dataset=held_out,
    )  # fmt: skip


class TooLarge(Network):
    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(x) == BATCH and self.training:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(x, labels)


@pytest.mark.parametrize(("grad_accum_steps", "max_grad_norm", "bf16"), [
    (1, 0.0, False), (2, 0.2, True),
    *(pytest.param(*one, marks=pytest.mark.slow) for one in product([1, 2], [0.0, 0.2], [False, True])
      if one not in [(1, 0.0, False), (2, 0.2, True)]),
])  # fmt: skip
def test_every_step_is_what_a_loop_by_hand_measures(
    tmp_path: Path, folder: Path, grad_accum_steps: int, max_grad_norm: float, bf16: bool
) -> None:
    settings: dict[str, Any] = {
        "gradient_accumulation_steps": grad_accum_steps,
        "max_grad_norm": max_grad_norm,
        "bf16": bf16,
    }
    _, rows = by_hand(STEPS, grad_accum_steps=grad_accum_steps, max_grad_norm=max_grad_norm, autocast=bf16)
    without = make(tmp_path, **settings)
    without.train()
    trainer = make(tmp_path, **settings)
    TraceCallback(trainer, folder)
    trainer.train()
    for one, other in zip(without.model.parameters(), trainer.model.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(one, other)
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row.norm for row in rows], rtol=2e-6)
    np.testing.assert_allclose(trace["loss"], [row.loss for row in rows], rtol=2e-6)
    assert trace.groups == ["body.0", "head"]
    np.testing.assert_allclose(trace.group_norms(), [row.groups for row in rows], rtol=2e-6)
    wanted = np.minimum(1, max_grad_norm / (trace["grad_norm"] + 1e-6)) if max_grad_norm else np.ones(STEPS)
    np.testing.assert_allclose(trace["clip_coefficient"], wanted, rtol=1e-6)
    assert not max_grad_norm or (wanted < 1).any()
    assert trace["samples"].tolist() == [BATCH * grad_accum_steps * step for step in range(1, STEPS + 1)]
    assert trace["learning_rate"].tolist() == [RATE] * STEPS
    assert trace["applied"].all()


def test_the_folder_opens_as_a_dataset_and_says_how_it_ended(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, max_grad_norm=0.3)
    TraceCallback(trainer, folder, facts={"splits": {"train": "a"}})
    trainer.train()
    run = RunDir(folder)
    outcome, fingerprint = read_status(run), read_fingerprint(run)
    assert outcome is not None
    assert fingerprint is not None
    assert outcome.message == f"finished after {STEPS} steps"
    assert len(datasets.Dataset.from_file(str(run.trace))) == STEPS
    assert fingerprint.items["optimizer"]["name"] == "SGD"
    assert fingerprint.items["optimizer"]["group 0"]["lr"] == RATE
    assert fingerprint.items["max_grad_norm"] == {"max": pytest.approx(0.3)}
    assert fingerprint.items["splits"] == {"train": "a"}
    config = yaml.safe_load(run.config.read_text())
    assert config["trainer"]["learning_rate"] == RATE
    assert config["model"] == {"class": "Network"}
    assert str(tmp_path) not in run.config.read_text()


def test_the_trainer_is_as_before_and_a_second_training_is_not_recorded(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path)
    before = set(vars(trainer))
    callback = TraceCallback(trainer, folder)
    trainer.add_callback(callback)  # what people are used to do; it changes nothing
    trainer.train()
    assert callback not in trainer.callback_handler.callbacks
    assert {"train", "training_step"} & (set(vars(trainer)) - before) == set()
    assert "unscale_gradients" not in vars(trainer.accelerator)
    started = read_json(folder / "manifest.json")["started"]
    trainer.train()
    trainer.evaluate()
    assert read_json(folder / "manifest.json")["started"] == started
    assert len(read_trace(folder / "trace.arrow")) == STEPS


def test_evaluations_are_means_with_their_count(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, eval_strategy="steps", eval_steps=3, eval_on_start=True, per_device_eval_batch_size=4)
    trainer.compute_metrics = lambda seen: {"accuracy": float((seen.predictions.argmax(-1) == seen.label_ids).mean())}
    seen: list[dict[str, float]] = []
    log = trainer.log
    trainer.log = lambda logs, *rest: (seen.append(dict(logs)), log(logs, *rest))  # type: ignore[assignment,misc]
    TraceCallback(trainer, folder)
    trainer.train()
    evals = read_evals(folder / "evals.arrow")
    assert evals.metrics() == ["accuracy", "loss"]
    told = [logs for logs in seen if "eval_loss" in logs]
    assert evals.curve("loss").step.tolist() == [0, 3, 6]
    np.testing.assert_allclose(evals.curve("loss").value, [logs["eval_loss"] for logs in told])
    np.testing.assert_allclose(evals.curve("accuracy").value, [logs["eval_accuracy"] for logs in told])
    assert evals.curve("loss").count.tolist() == [10, 10, 10]
    assert np.isnan(evals.curve("loss").standard_error).all()
    fingerprint = read_fingerprint(RunDir(folder))
    assert fingerprint is not None
    assert set(fingerprint.items["loss_at_start"]) == {"loss", "accuracy"}


def test_several_evaluation_sets_are_several_splits(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, eval_strategy="steps", eval_steps=STEPS)
    trainer.eval_dataset = {"one": examples(6, seed=1), "two": examples(5, seed=2)}  # type: ignore[assignment]
    TraceCallback(trainer, folder)
    trainer.train()
    evals = read_evals(folder / "evals.arrow")
    assert [evals.curve("loss", split).count.tolist() for split in ("one", "two", "held_out")] == [[6], [5], []]


def test_tokens_are_counted_where_the_trainer_counts_them(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, include_num_input_tokens_seen="non_padding")
    trainer._track_num_input_tokens = lambda inputs: setattr(  # type: ignore[method-assign]
        trainer.state, "num_input_tokens_seen", trainer.state.num_input_tokens_seen + 7
    )
    TraceCallback(trainer, folder)
    trainer.train()
    assert read_trace(folder / "trace.arrow")["tokens"].tolist() == [7 * step for step in range(1, STEPS + 1)]


def test_a_failure_is_on_record_and_goes_on(tmp_path: Path, folder: Path) -> None:
    class Breaks(Network):
        passes = 0

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            self.passes += 1
            if self.passes == 4:
                raise ValueError("no more memory")
            return super().forward(x, labels)

    trainer = make(tmp_path, Breaks())
    TraceCallback(trainer, folder)
    with pytest.raises(ValueError, match="no more memory"):
        trainer.train()
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert (outcome.status, outcome.step, outcome.message) == ("failed", 3, "ValueError: no more memory")
    assert len(read_trace(folder / "trace.arrow")) == 3
    assert "training_step" not in vars(trainer)


def test_gradients_that_were_clipped_unseen_are_refused(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, max_grad_norm=0.2)
    trainer.accelerator.clip_grad_norm_ = lambda parameters, *rest: torch.tensor(1.0)  # as DeepSpeed's engine does it
    TraceCallback(trainer, folder)
    with pytest.raises(LoopError, match="clipped where they cannot be measured before"):
        trainer.train()
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert outcome.status == "failed"


def test_without_clipping_it_does_not_matter_who_measures(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, max_grad_norm=0.0)
    trainer.accelerator.clip_grad_norm_ = lambda parameters, *rest: torch.tensor(1.0)
    TraceCallback(trainer, folder)
    trainer.train()
    _, rows = by_hand(STEPS)
    np.testing.assert_allclose(read_trace(folder / "trace.arrow")["grad_norm"], [row.norm for row in rows], rtol=2e-6)


def test_a_run_that_goes_on_is_refused(tmp_path: Path, folder: Path) -> None:
    make(tmp_path, save_strategy="steps", save_steps=2, max_steps=2).train()
    trainer = make(tmp_path)
    TraceCallback(trainer, folder)
    with pytest.raises(LoopError, match="goes on at step 2, and a trace begins at step 1"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert not folder.exists()


def test_a_folder_without_arm_and_seed_is_refused_before_training(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    with pytest.raises(RecordError, match="expected a directory that ends in <arm>/seed=<n>"):
        TraceCallback(trainer, tmp_path)
    assert "train" not in vars(trainer)


def test_under_a_gradient_scaler_the_norms_are_unscaled(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 wants a GPU; the scaler alone works anywhere, and is what matters here."""
    trainer = make(tmp_path, max_grad_norm=0.2)
    accelerator = trainer.accelerator
    monkeypatch.setattr(type(accelerator), "mixed_precision", property(lambda self: "fp16"))
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    accelerator.prepare_model = lambda model, **rest: model  # type: ignore[method-assign]
    TraceCallback(trainer, folder)
    trainer.train()
    _, rows = by_hand(STEPS, max_grad_norm=0.2)
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row.norm for row in rows], rtol=2e-6)
    np.testing.assert_allclose(trace["loss"], [row.loss for row in rows], rtol=2e-6)
    assert trace["loss_scale"].tolist() == [1024.0] * STEPS


@pytest.mark.slow
def test_two_arms_and_three_seeds_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arm, rate in (("baseline", 0.1), ("lr=0.5", 0.5)):
        for seed in range(3):
            settings: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 5, "eval_on_start": True}
            trainer = make(tmp_path, Network(seed), max_steps=20, learning_rate=rate, seed=seed, **settings)
            TraceCallback(trainer, tmp_path / "mine", arm=arm, seed=seed)
            trainer.train()
    study = tmp_path / "mine"
    assert cli.main(["report", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "trainer.learning_rate" in printed
    analysis = read_json(study / "analysis.json")
    primary = next(one for one in analysis["contrasts"] if one["primary"])
    assert (primary["metric"], primary["value"], primary["baseline_value"]) == ("eval_loss", 0.5, 0.1)
    assert primary["seeds"] == [0, 1, 2]
    assert math.isfinite(primary["effect"])
    isolate, matched, took, *alone = (control for control in analysis["controls"] if control["arm"] == "lr=0.5")
    assert isolate["sentence"].startswith("only trainer.learning_rate (0.1 -> 0.5)")
    assert matched["status"] == "unverified"
    assert "order, splits, eval_set, which the fingerprints do not have" in matched["sentence"]
    assert "init" in matched["held"]
    assert took["status"] == "checked"
    assert [(one["name"], one["status"]) for one in alone] == [
        ("seeds_differ", "checked"),
        ("settings_applied", "checked"),
        ("learned", "checked"),
    ]
    assert (study / "report.html").exists()
    assert not (study / "plan.json").exists()


@pytest.mark.slow
def test_after_a_smaller_batch_size_was_found_the_record_begins_again(tmp_path: Path, folder: Path) -> None:
    trainer = make(tmp_path, TooLarge(), auto_find_batch_size=True)
    TraceCallback(trainer, folder)
    trainer.train()
    trace, outcome = read_trace(folder / "trace.arrow"), read_status(RunDir(folder))
    assert outcome is not None
    assert outcome.status == "finished"
    assert len(trace) == STEPS
    assert trace["samples"][0] < BATCH
    assert "training_step" not in vars(trainer)


def test_the_batch_size_in_force_is_on_record_and_a_second_variable(tmp_path: Path) -> None:
    """One arm runs out of memory at the batch size of its arguments and goes on with a smaller one."""

    for arm, rate, model in (("baseline", RATE, Network), ("learning_rate=2", 2.0, TooLarge)):
        for seed in (0, 1):
            trainer = make(tmp_path, model(seed), learning_rate=rate, seed=seed, auto_find_batch_size=True)
            TraceCallback(trainer, tmp_path / "study" / arm / f"seed={seed}")
            trainer.train()
    plan = adopt(tmp_path / "study", PlanOptions())
    changes = plan.arm("learning_rate=2").changes
    assert 0 < changes["trainer.per_device_train_batch_size"] < BATCH
    assert {key for key in changes if key.startswith("trainer.")} == {
        "trainer.per_device_train_batch_size", "trainer.learning_rate",
    }  # fmt: skip


def test_what_the_library_writes_into_a_config_by_itself_is_no_setting(tmp_path: Path) -> None:
    """`problem_type` is set in the first forward pass, which an evaluation before training makes."""
    model = BertForSequenceClassification(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                                     intermediate_size=8, vocab_size=8))  # fmt: skip
    before = _settings(SimpleNamespace(args=TrainingArguments(output_dir=str(tmp_path)), model=model), 8)
    model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([1]))
    assert model.config.problem_type == "single_label_classification"
    assert _settings(SimpleNamespace(args=TrainingArguments(output_dir=str(tmp_path)), model=model), 8) == before


def test_the_norm_is_the_one_that_the_trainer_logs_last(tmp_path: Path, folder: Path) -> None:
    """BERT drops `num_items_in_batch`: what the Trainer applies under accumulation is what is recorded."""
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    words = torch.randint(0, 30, (40, 5), generator=torch.Generator().manual_seed(0))
    trainer = make(tmp_path, BertForSequenceClassification(config), gradient_accumulation_steps=2, max_grad_norm=0.1,
                   logging_strategy="steps", logging_steps=1)  # fmt: skip
    trainer.train_dataset = [{"input_ids": row, "labels": k % 2} for k, row in enumerate(words)]  # type: ignore[assignment]
    TraceCallback(trainer, folder)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row["grad_norm"] for row in logged], rtol=1e-5)
    np.testing.assert_allclose(trace["loss"], [row["loss"] for row in logged], rtol=1e-5)
    assert trace.groups == ["embeddings", "layer.0", "layer.1", "pooler", "classifier"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["hidden_size"] == 16
