"""`ablate doctor`: check what works on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ablate.cli._parser import parser_of
from ablate.config.schema import TrackerConfig, make_config
from ablate.errors import AblateError
from ablate.planning.compose import Composer, opened

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGES = ("torch", "transformers", "datasets", "hydra-core", "omegaconf", "numpy", "pyarrow", "wandb")
_OFFLINE = ("model=minilm data=movie_snippets", "model=minilm data=imdb_reviews")


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check. works=False is not an error: the sentence says how to make it available."""

    name: str
    works: bool
    sentence: str


def run_doctor(argv: list[str]) -> int:
    parser = parser_of(
        "doctor",
        "Check what works on this machine: devices, precision, determinism, packages, W&B, models and data.",
        "ablate doctor",
        "ablate doctor --json",
        json=True,
    )
    args = parser.parse_args(argv)
    with opened() as composer:
        checks = examine(composer)
    if args.json:
        from ablate.report.json import print_object

        print_object({"checks": [asdict(check) for check in checks]})
        return 0
    for check in checks:
        print(f"{'ok  ' if check.works else '--  '}{check.name:<14}{check.sentence}")
    return 0


def examine(composer: Composer) -> list[Check]:
    """Run every check. Reads and computes little, and does not use the network."""
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
    """Return the gradient of one matrix product and one activation, with the shape of `w`."""
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
    from ablate.tasks.registry import data_facts

    for overrides in _OFFLINE:
        config = make_config(composer.compose(overrides.split()))
        try:
            sizes = data_facts(config)
            sentence = f"{overrides}: {sizes.num_train} to train on, {sizes.num_held_out} held out"
            yield Check("offline", True, sentence)
        except AblateError as error:
            yield Check("offline", False, str(error).replace("\n  fix:", ";"))
    yield Check("hub", True, "model=bert data=imdb are fetched from the hub at the first run; not tried here")
