"""A task of one's own: a small network that learns a function of eight numbers. `ablate task=custom ...` trains it."""

import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

import ablate

NUM_POINTS, NUM_HELD_OUT = 600, 200


def my_task(config: ablate.Config, streams: ablate.Streams) -> ablate.Task:  # noqa: ARG001
    """Called in each run's own process. Options are the keys of `task.options`, so an axis can move them."""
    options = {"hidden": 32, "noise": 0.1} | config.task.options
    data = points(noise=options["noise"])
    model = nn.Sequential(  # drawn from the `init` stream, because ablate calls this function inside of it
        nn.Linear(8, options["hidden"]),
        nn.Tanh(),
        nn.Dropout(config.model.dropout or 0.0),
        nn.Linear(options["hidden"], 1),
    )
    return ablate.Task(
        model=model,
        examples=Subset(data, range(NUM_HELD_OUT, NUM_POINTS)),
        objective=lambda model, batch: (errors(model, batch).sum(), len(batch[0])),
        evaluation=ablate.make_evaluation(
            config, Subset(data, range(NUM_HELD_OUT)), lambda model, batch: {"loss": errors(model, batch)}
        ),
    )


def facts(config: ablate.Config) -> dict[str, int | str]:
    """What a plan wants to know. `data` says which data they are: here their recipe, for a file its hash."""
    noise = config.task.options.get("noise", 0.1)
    return {"num_train": NUM_POINTS - NUM_HELD_OUT, "num_eval": NUM_HELD_OUT, "data": f"sines, noise {noise}"}


def points(*, noise: float) -> TensorDataset:
    """The same for every seed: what varies from run to run is drawn from `streams`, and the data are not."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(NUM_POINTS, 8, generator=draw)
    return TensorDataset(x, x.sin().sum(dim=1) + noise * torch.randn(NUM_POINTS, generator=draw))


def errors(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    """Squared error of each point, [batch]."""
    return (model(batch[0]).squeeze(1) - batch[1]).square()
