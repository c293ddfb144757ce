"""Five loops that do the same work: ours, raw PyTorch, transformers Trainer, Lightning, Accelerate.

Each gets the same initial weights, the same samples in the same order, the same fused AdamW and the same clipping, and keeps
the loss and the gradient norm of every step as is usual there. Each is set up as well as its users would: padding to the
longest of the batch, no progress bar, no checkpoint, no evaluation, no worker processes.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import _shared as shared


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The work of every loop; stored as `work.json` next to the samples and the model."""

    batch_size: int
    num_steps: int
    """Every one of them, warm-up included."""
    wait_at: list[int]
    """Steps before which a GPU is waited for: the first and the last stamp that are timed."""
    device: str
    threads: int
    unpad: bool
    precision: str = "fp32"
    """Each child is given its own."""
    seed: int = 0

    def save(self, folder: Path) -> None:
        (folder / "work.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Work:
        return Work(**json.loads((folder / "work.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What a loop kept of each step, read back from where it keeps it. note: what was on or off."""

    losses: list[float]
    grad_norms: list[float]
    note: str = ""


class Ready:
    """A child's model, optimizer and samples, loaded before any clock starts."""

    def __init__(self, folder: Path, precision: str) -> None:
        self.work = replace(Work.load(folder), precision=precision)
        shared.set_threads(self.work.threads)
        # `fp32` is that for everybody, and `tf32` as well; `ablate` sets it inside `train` on its own account.
        torch.backends.cuda.matmul.allow_tf32 = self.work.precision == "tf32"
        self.device = torch.device(self.work.device)
        self.samples = shared.load_samples(folder / "samples.npz")
        self.model = shared.load_model(folder / "model").to(self.device)
        self.model.train()
        self.optimizer = shared.fused_adamw(self.model)
        self.clock = shared.StepClock(self.model, self.device, self.work.wait_at)

    def in_order(self) -> list[shared.Sample]:
        """The samples in the order in which `ablate` takes them."""
        from ablate.training.random_streams import RandomStreams, SampleOrder

        order = SampleOrder(RandomStreams(seed=self.work.seed), np.arange(len(self.samples)))
        return [self.samples[k] for k in order.take(0, len(self.samples))]

    def loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.in_order(),  # type: ignore[arg-type]
            batch_size=self.work.batch_size,
            shuffle=False,
            collate_fn=shared.pad_batch,
            num_workers=0,
            pin_memory=self.device.type == "cuda",
        )


def run(name: str, precision: str, folder: Path) -> dict[str, Any]:
    """One loop over the work in `folder`, in this process: stamps, losses, norms, and the seconds of the whole call."""
    shared.be_quiet()
    ready = Ready(folder, precision)
    began = time.perf_counter()
    kept = LOOPS[name](ready)
    shared.wait_for(ready.device)
    seconds = time.perf_counter() - began
    return asdict(kept) | {
        "stamps": [round(stamp - ready.clock.stamps[0], 7) for stamp in ready.clock.stamps],
        "call_seconds": seconds,
        "device": shared.setting(ready.device),
        "peak_rss_bytes": shared.peak_rss_bytes(),
    }


# ---- ours -------------------------------------------------------------------------------------------------------------


def ours(ready: Ready) -> Kept:
    """`ablate.train`, which writes every step, its group norms included, to disk."""
    from ablate import Loader, RandomStreams, train

    note = turn_on_unpad(ready.model) if ready.work.unpad else "unpadding off"
    ready.clock.stamps.clear()  # of the forward passes with which it was tried out, should there be any
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            ready.model,
            ready.samples,
            shared.text_loss,
            optimizer=ready.optimizer,
            budget=f"{len(ready.samples)} samples",
            batch_size=ready.work.batch_size,
            max_grad_norm=shared.MAX_GRAD_NORM,
            precision=ready.work.precision,
            device=ready.work.device,
            loader=Loader(
                collate=with_spans,
                count_items=lambda batch: len(batch["labels"]),
                count_tokens=lambda batch: int(batch["attention_mask"].sum()),
            ),
            random_streams=RandomStreams(seed=ready.work.seed),
            run_dir=folder,
        )
        return Kept(losses=result.trace["loss"].tolist(), grad_norms=result.trace["grad_norm"].tolist(), note=note)


def with_spans(samples: list[shared.Sample]) -> dict[str, Any]:
    """The batch of every loop, and where its texts stand: an unpadded model asks for it, and a GPU would be waited for."""
    return shared.pad_batch(samples) | {"spans": [(0, len(tokens)) for tokens, _ in samples]}


def turn_on_unpad(model: nn.Module) -> str:
    """Drop padding inside the encoder where `ablate` can; says in words whether it does."""
    if find_spec("ablate.models.unpadding") is None:
        return "unpadding not available"
    reason = import_module("ablate.models.unpadding").unpad(model)
    if reason is not None:
        return f"unpadding off: {reason}"
    reason = import_module("ablate.models.unpadding").leave_unread(model)
    return "unpadding on, last layer for first tokens only" if reason is None else f"unpadding on ({reason})"


# ---- raw PyTorch ------------------------------------------------------------------------------------------------------


def plain_steps(
    model: nn.Module,
    batches: Iterable[Any],
    mean_loss: Callable[[nn.Module, Any], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[list[float], list[float]]:
    """The loop as one would write it by hand. Loss and norm stay on the device until the end: nothing waits in between."""
    losses, norms = [], []
    for batch in batches:
        with autocast():
            loss = mean_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), shared.MAX_GRAD_NORM))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    return torch.stack(losses).tolist(), torch.stack(norms).tolist()


def raw(ready: Ready) -> Kept:
    """PyTorch and nothing else."""

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(ready.device.type, torch.bfloat16) if ready.work.precision == "bf16" else nullcontext()

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for batch in ready.loader():
            yield {key: value.to(ready.device, non_blocking=True) for key, value in batch.items()}

    losses, norms = plain_steps(ready.model, batches(), _own_loss, ready.optimizer, autocast=autocast)
    return Kept(losses=losses, grad_norms=norms)


def _own_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    loss: torch.Tensor = model(**batch).loss
    return loss


# ---- transformers -----------------------------------------------------------------------------------------------------


def transformers_trainer(ready: Ready) -> Kept:
    """`Trainer` with `logging_steps=1`; loss and norm from its log history."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    constant = torch.optim.lr_scheduler.LambdaLR(ready.optimizer, lambda _: 1.0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=ready.work.batch_size,
            max_steps=ready.work.num_steps,
            max_grad_norm=shared.MAX_GRAD_NORM,
            logging_steps=1,
            logging_strategy="steps",
            eval_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_num_workers=0,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            bf16=ready.work.precision == "bf16",
            use_cpu=ready.device.type == "cpu",
            seed=ready.work.seed,
        )
        trainer = Trainer(
            model=ready.model,
            args=arguments,
            train_dataset=ready.in_order(),
            data_collator=shared.pad_batch,
            optimizers=(ready.optimizer, constant),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return Kept(losses=[row["loss"] for row in rows], grad_norms=[row["grad_norm"] for row in rows])


# ---- Lightning --------------------------------------------------------------------------------------------------------


def lightning(ready: Ready) -> Kept:
    """`Trainer` with automatic optimization and `CSVLogger`; loss and norm logged every step, read back from its file."""
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import CSVLogger

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = ready.model

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            loss = _own_loss(self.model, batch)
            self.log("loss", loss)
            return loss

        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
        ) -> None:
            # Its own hook for it: the norm is measured once, where `on_before_optimizer_step` would measure it again.
            del optimizer, gradient_clip_algorithm
            self.log("grad_norm", nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return ready.optimizer

    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder)
        trainer = pl.Trainer(
            accelerator="gpu" if ready.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if ready.work.precision == "bf16" else "32-true",
            max_epochs=1,
            max_steps=ready.work.num_steps,
            gradient_clip_val=shared.MAX_GRAD_NORM,
            log_every_n_steps=1,
            logger=logger,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        trainer.fit(Classifier(), ready.loader())
        return _from_csv(Path(logger.log_dir) / "metrics.csv")


def _from_csv(path: Path) -> Kept:
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("loss")]
    return Kept(losses=[float(row["loss"]) for row in rows], grad_norms=[float(row["grad_norm"]) for row in rows])


# ---- Accelerate -------------------------------------------------------------------------------------------------------


def accelerate(ready: Ready) -> Kept:
    """The loop of its own examples: `prepare`, `backward`, `clip_grad_norm_`; loss and norm kept on the device."""
    from accelerate import Accelerator  # type: ignore[import-untyped]

    accelerator = Accelerator(
        mixed_precision="bf16" if ready.work.precision == "bf16" else "no", cpu=ready.device.type == "cpu"
    )
    model, optimizer, loader = accelerator.prepare(ready.model, ready.optimizer, ready.loader())
    losses, norms = [], []
    for batch in loader:
        loss = _own_loss(model, batch)
        accelerator.backward(loss)
        norms.append(accelerator.clip_grad_norm_(model.parameters(), shared.MAX_GRAD_NORM))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return Kept(losses=torch.stack(losses).tolist(), grad_norms=torch.stack(norms).tolist())


LOOPS: dict[str, Callable[[Ready], Kept]] = {
    "ablate": ours,
    "raw": raw,
    "transformers": transformers_trainer,
    "lightning": lightning,
    "accelerate": accelerate,
}
PACKAGES = ("transformers", "lightning", "accelerate", "torch-ablate")
