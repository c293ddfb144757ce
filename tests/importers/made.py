"""Logs as the real libraries write them, of trainings that take a moment; and made-up ones in the same form."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.integrations.toy import Network, examples

SOON = 40.0
"""Steps in which a made-up training loss falls to 1/e of its height."""


def trainer(
    folder: Path, *, seed: int = 1, batch: int = 4, steps: int = 12, save: bool = True, **given: Any
) -> list[dict[str, Any]]:
    """Hugging Face's Trainer on a tiny network. Returns what it logged, row by row, as its own callback saw it."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Seen(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows: list[dict[str, Any]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.rows.append({**logs, "step": state.global_step})

    seen = Seen()
    wanted: dict[str, Any] = {
        "per_device_train_batch_size": batch, "max_steps": steps, "eval_strategy": "steps", "eval_steps": 4,
        "logging_steps": 2, "save_strategy": "no", "report_to": [], "seed": seed,
        "disable_tqdm": True, "use_cpu": True, "learning_rate": 0.1,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(folder), **(wanted | given))
    made = Trainer(
        model=Network(seed), args=args, train_dataset=examples(40), eval_dataset=examples(16, 1), callbacks=[seen]
    )
    made.train()
    if save:
        made.save_state()
    return seen.rows


def lightning(folder: Path, *, seed: int = 0, lr: float = 0.1) -> list[dict[str, Any]]:
    """Lightning with its CSVLogger. Returns the loss of every step as the module computed it, and of every validation."""
    import lightning as pl
    from lightning.pytorch.loggers import CSVLogger

    rows: list[dict[str, Any]] = []

    class Module(pl.LightningModule):
        def __init__(self, lr: float, seed: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = Network(seed)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.net(*batch)["loss"]
            self.log("train_loss", loss)
            rows.append({"step": self.global_step + 1, "train_loss": loss.item()})
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.net(*batch)["loss"])

        def on_validation_epoch_end(self) -> None:
            rows.append({"step": self.global_step, "val_loss": float(self.trainer.callback_metrics["val_loss"])})

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    def loader(num: int, start: int) -> Any:
        some = examples(num, start)
        return torch.utils.data.DataLoader([(one["x"], torch.tensor(one["labels"])) for one in some], 4)

    pl.Trainer(
        max_epochs=1, logger=CSVLogger(folder, name="", version=""), log_every_n_steps=2, accelerator="cpu",
        val_check_interval=5, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(Module(lr, seed), loader(40, 0), loader(16, 1))  # fmt: skip
    return rows


def wandb_run(folder: Path, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Path:
    """W&B offline. Returns the run's folder."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(mode="offline", silent=True, console="off", disable_git=True, x_disable_stats=True)
    run = wandb.init(
        project="imports", dir=str(folder), config=dict(config), settings=settings, reinit="finish_previous"
    )
    for row in rows:
        run.log(dict(row))
    run.finish()
    wandb.teardown()  # until then the file may not be written
    (found,) = folder.glob("wandb/offline-run-*")
    return found


def tensorboard(folder: Path, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    """Scalars by PyTorch's own writer."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, values in rows:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)


def fallen(step: float, seed: int = 0, floor: float = 0.3) -> float:
    """A loss that falls within the first steps, with a little chance in it."""
    return floor + 0.4 * math.exp(-step / SOON) + 0.005 * math.sin(37.0 * step + seed)


def state(
    folder: Path, *, seed: int = 0, batch: int = 8, steps: int = 2000, eval_steps: int = 500, logging_steps: int = 10,
    start: bool = False, floor: float = 0.3, done: bool = True, last: bool = False,
) -> Path:  # fmt: skip
    """A trainer_state.json as the Trainer writes it, of a made-up run whose loss falls at once. start: looked at first."""
    log: list[dict[str, Any]] = []
    for step in range(0, steps + 1):
        at = {"epoch": step * batch / 16000, "step": step}
        if step and step % logging_steps == 0:
            window = [fallen(one, seed, floor) for one in range(step - logging_steps, step)]
            mean = sum(window) / len(window)
            log.append({"grad_norm": 1.0 + step % 7, "learning_rate": 1e-4, "loss": mean, **at})
        if (step and step % eval_steps == 0) or (start and step == 0):
            log.append(
                {
                    "eval_loss": fallen(step, seed + 50, floor),
                    "eval_runtime": 1.5,
                    "eval_samples_per_second": 10.0,
                    **at,
                }
            )
    if last:
        speeds = {"train_samples_per_second": steps * batch / 100, "train_steps_per_second": steps / 100}
        log.append({"train_runtime": 100.0, **speeds, "train_loss": 0.9, "epoch": 1.0, "step": steps})
    value = {
        "best_metric": None, "epoch": 1.0, "eval_steps": eval_steps, "global_step": steps, "log_history": log,
        "logging_steps": logging_steps, "max_steps": steps if done else steps * 2, "num_train_epochs": 1, "save_steps": 500,
        "stateful_callbacks": {}, "total_flos": 1.0, "train_batch_size": batch, "trial_name": None, "trial_params": None,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(value, indent=2))
    return path


@contextmanager
def inside(folder: Path) -> Any:
    """As the current folder."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


__all__ = ["fallen", "inside", "lightning", "nn", "state", "tensorboard", "trainer", "wandb_run"]
