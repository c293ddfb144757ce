"""Lightning's own training, step by step, as a loop by hand has it; and the training as it is without us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from ablate import cli, read_evals, read_trace
from ablate.errors import LoopError, RecordError
from ablate.integrations.lightning import TraceCallback
from ablate.records.layout import RunDir
from ablate.records.metadata import read_fingerprint, read_status
from ablate.serialization import read_json
from tests.integrations.toy import BATCH, RATE, Network, by_hand
from tests.training.toy import points

pytestmark = [
    # What Lightning itself warns of: few workers, few steps to log, and its own use of things that have grown old.
    pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers:Warning"),
    pytest.mark.filterwarnings("ignore:The `srun` command is available:Warning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

STEPS = 6


class Module(LightningModule):
    """Logs what its validation finds."""

    def __init__(self, seed: int = 0, rate: float = RATE, fused: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters("rate")
        self.net, self.fused = Network(seed), fused

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.net(*batch)["loss"]
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        out = self.net(*batch)
        self.log("val_loss", out["loss"])
        self.log("acc", (out["logits"].argmax(-1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"], fused=self.fused)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "baseline" / "seed=0"


def fit(module: LightningModule, *callbacks: TraceCallback, validate: bool = False, ckpt_path: Path | None = None,
        **settings: Any) -> Trainer:  # fmt: skip
    settings = {
        "max_steps": STEPS, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 1.0 if validate else 0,
    } | settings  # fmt: skip
    trainer = Trainer(callbacks=list(callbacks), **settings)
    train = DataLoader(points(10 * BATCH), batch_size=BATCH)
    held_out = DataLoader(points(10, seed=9), batch_size=4)
    trainer.fit(module, train, held_out, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("grad_accum_steps", [1, 2])
@pytest.mark.parametrize("max_grad_norm", [None, 0.2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_step_is_what_a_loop_by_hand_measures(
    folder: Path, grad_accum_steps: int, max_grad_norm: float | None, precision: str
) -> None:
    settings: dict[str, Any] = {
        "accumulate_grad_batches": grad_accum_steps, "gradient_clip_val": max_grad_norm, "precision": precision
    }  # fmt: skip
    _, rows = by_hand(
        STEPS, grad_accum_steps=grad_accum_steps, max_grad_norm=max_grad_norm, autocast=precision != "32-true"
    )
    without, module = Module(), Module()
    fit(without, **settings)
    fit(module, TraceCallback(folder), **settings)
    for one, other in zip(without.parameters(), module.parameters(), strict=True):
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
    assert trace["epoch"][0] == BATCH * grad_accum_steps / (10 * BATCH)
    assert trace["learning_rate"].tolist() == [RATE] * STEPS
    assert trace["applied"].all()


def test_under_a_gradient_scaler_the_norms_are_unscaled(folder: Path) -> None:
    """fp16 wants a GPU; the scaler alone works anywhere, and is what matters here."""

    class OnlyScaled(MixedPrecision):
        def autocast_context_manager(self) -> torch.autocast:
            return torch.autocast("cpu", enabled=False)

    plugin = OnlyScaled("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    fit(Module(), TraceCallback(folder), plugins=[plugin], gradient_clip_val=0.2)
    _, rows = by_hand(STEPS, max_grad_norm=0.2)
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row.norm for row in rows], rtol=2e-6)
    np.testing.assert_allclose(trace["loss"], [row.loss for row in rows], rtol=2e-6)
    assert trace["loss_scale"].tolist() == [1024.0] * STEPS
    with pytest.raises(LoopError, match="SGD unscales the gradients inside its own step"):
        fit(Module(fused=True), TraceCallback(folder), plugins=[plugin])


def test_clipping_that_is_no_factor_has_no_coefficient(folder: Path) -> None:
    fit(Module(), TraceCallback(folder), gradient_clip_val=0.01, gradient_clip_algorithm="value")
    trace = read_trace(folder / "trace.arrow")
    assert np.isnan(trace["clip_coefficient"]).all()
    assert trace["grad_norm"][0] == pytest.approx(by_hand(1)[1][0].norm, rel=2e-6)


@pytest.mark.parametrize("sanity", [0, 2, -1])
def test_validations_are_means_with_their_count(folder: Path, sanity: int) -> None:
    callback = TraceCallback(folder, metrics={"val_loss": "loss", "acc": "accuracy"})
    trainer = fit(Module(), callback, validate=True, val_check_interval=3, num_sanity_val_steps=sanity)
    evals = read_evals(folder / "evals.arrow")
    assert evals.metrics() == ["accuracy", "loss"]
    curve = evals.curve("loss")
    assert curve.step.tolist() == ([0, 3, 6] if sanity == -1 else [3, 6])
    assert set(curve.count.tolist()) == {10}
    assert np.isnan(curve.standard_error).all()
    assert curve.value[-1] == pytest.approx(float(trainer.callback_metrics["val_loss"]))
    fingerprint = read_fingerprint(RunDir(folder))
    assert fingerprint is not None
    assert ("loss_at_start" in fingerprint.items) == (sanity == -1)


def test_names_that_begin_with_val_are_the_validations(folder: Path) -> None:
    fit(Module(), TraceCallback(folder), validate=True, val_check_interval=3)
    assert read_evals(folder / "evals.arrow").metrics() == ["loss"]


def test_the_folder_says_what_was_set_and_how_it_ended(tmp_path: Path, folder: Path) -> None:
    fit(Module(), TraceCallback(folder), gradient_clip_val=0.25)
    run = RunDir(folder)
    outcome, fingerprint = read_status(run), read_fingerprint(run)
    assert outcome is not None
    assert fingerprint is not None
    assert outcome.message == f"finished after {STEPS} steps"
    assert fingerprint.items["optimizer"]["name"] == "SGD"
    assert fingerprint.items["max_grad_norm"] == {"max": 0.25}
    config = yaml.safe_load(run.config.read_text())
    assert config["model"] == {"rate": RATE, "class": "Module"}
    assert config["trainer"]["gradient_clip_val"] == 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_is_on_record_and_goes_on(folder: Path) -> None:
    class Breaks(Module):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if batch_idx == 3:
                raise ValueError("no more memory")
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match="no more memory"):
        fit(Breaks(), TraceCallback(folder))
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert (outcome.status, outcome.step, outcome.message) == ("failed", 3, "ValueError: no more memory")


def test_a_batch_that_is_left_out_is_no_step(folder: Path) -> None:
    class Skips(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="returned `None`"):
        fit(Skips(), TraceCallback(folder), max_steps=4)
    trace = read_trace(folder / "trace.arrow")
    assert trace["samples"].tolist() == [BATCH * count for count in (1, 3, 4)]


def test_manual_optimization_is_refused(folder: Path) -> None:
    class Manual(Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    with pytest.raises(LoopError, match="Manual optimizes manually"):
        fit(Manual(), TraceCallback(folder))
    assert not folder.exists()


def test_a_run_that_goes_on_is_refused(tmp_path: Path, folder: Path) -> None:
    first = fit(Module(), max_steps=2)
    first.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(LoopError, match="goes on at step 2, and a trace begins at step 1"):
        fit(Module(), TraceCallback(folder), ckpt_path=tmp_path / "two.ckpt")


def test_a_folder_without_arm_and_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="expected a directory that ends in <arm>/seed=<n>"):
        TraceCallback(tmp_path)


def test_two_arms_and_three_seeds_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "mine"
    for arm, rate in (("baseline", 0.1), ("fast", 0.5)):
        for seed in range(3):
            callback = TraceCallback(study, arm=arm, seed=seed)
            fit(
                Module(seed, rate), callback, validate=True, val_check_interval=5, max_steps=20, num_sanity_val_steps=-1
            )
    assert cli.main(["report", str(study), "--smallest-effect", "0.005"]) == 0
    assert "model.rate 0.1" in capsys.readouterr().out
    analysis = read_json(study / "analysis.json")
    primary = next(one for one in analysis["contrasts"] if one["primary"])
    assert (primary["axis"], primary["value"], primary["seeds"]) == ("model.rate", 0.5, [0, 1, 2])
    assert analysis["smallest_effect"] == 0.005


@pytest.mark.slow
def test_without_lightning_it_says_how_to_get_it(repo: Path) -> None:
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "from ablate.errors import LoopError\n"
        "try:\n    import ablate.integrations.lightning\n"
        "except LoopError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=repo)
    assert "needs the package lightning" in done.stdout
    assert "fix: pip install lightning" in done.stdout
