"""What works on this machine: devices, precision, determinism, packages, W&B, models and data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ablate.config.schema import TrackerConfig, make_config
from ablate.errors import AblateError
from ablate.planning.compose import Composer

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGES = ("torch", "transformers", "datasets", "hydra-core", "omegaconf", "numpy", "pyarrow", "wandb")
_OFFLINE = ("model=minilm data=movie_snippets", "model=minilm data=imdb_reviews")


@dataclass(frozen=True, slots=True)
class Check:
    """works: False is no error, only something that one cannot do here; the sentence says how to change that."""

    name: str
    works: bool
    sentence: str


def examine(composer: Composer) -> list[Check]:
    """Every check, in reading order. Reads and computes little; asks nothing of the network."""
    return [*_machine(), *_versions(), _wandb(), *_texts(composer)]


def _machine() -> Iterator[Check]:
    import torch

    from ablate.training.precision import Precision, pick_device

    device = pick_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores, no GPU"
    yield Check("device", True, f"{device}: {name}")
    yield Check("precision", True, f"train.precision=auto means {Precision('auto', device).name} here")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator).to(device)
    w = torch.randn(256, 256, generator=generator).to(device)
    same = torch.equal(_gradient(x, w), _gradient(x, w))
    yield Check(
        "determinism",
        same,
        "the same step twice is bit-equal" if same else "the same step twice differs in its last bits",
    )


def _gradient(x: Tensor, w: Tensor) -> Tensor:
    """Of one matrix product and one activation, shape of `w`."""
    import torch

    leaf = w.clone().requires_grad_()
    return torch.autograd.grad(torch.nn.functional.gelu(x @ leaf).square().mean(), leaf)[0]


def _versions() -> Iterator[Check]:
    yield Check("python", True, sys.version.split()[0])
    for package in _PACKAGES:
        try:
            yield Check(package, True, version(package))
        except PackageNotFoundError:
            yield Check(package, False, f"not installed: pip install {package}")


def _wandb() -> Check:
    from ablate.tracking import notice

    line = notice(TrackerConfig(name="wandb"))
    return Check("W&B", line is None, line or "logged in: tracker=wandb sends runs live")


def _texts(composer: Composer) -> Iterator[Check]:
    from ablate.tasks.sizes import data_facts

    for overrides in _OFFLINE:
        config = make_config(composer.compose(overrides.split()))
        try:
            sizes = data_facts(config)
            sentence = f"{overrides}: {sizes.num_train} to train on, {sizes.num_held_out} held out"
            yield Check("offline", True, sentence)
        except AblateError as error:
            yield Check("offline", False, str(error).replace("\n  fix:", ";"))
    yield Check("hub", True, "model=bert data=imdb are fetched from the hub at the first run; not tried here")
