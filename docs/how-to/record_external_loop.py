"""Three arms by three seeds in a loop of one's own, with two lines of `ablate` in it; then `ablate report FOLDER`."""

import sys

import torch
from torch import nn

from ablate import Recorder

BASE = {"lr": 0.1, "momentum": 0.0}
ARMS = {"baseline": BASE, "momentum=0.9": BASE | {"momentum": 0.9}, "both": BASE | {"lr": 0.3, "momentum": 0.9}}


def train(arm: str, seed: int, config: dict[str, float]) -> None:
    """One run. What is random comes from the seed alone, so that every arm starts from the same weights."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(800, 2, generator=chance)
    y = (x.prod(dim=1) > 0).long()  # which points lie in opposite quadrants
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    each = nn.CrossEntropyLoss(reduction="none")
    with Recorder(f"{sys.argv[1]}/{arm}/seed={seed}", model, config=config, samples_per_epoch=400) as run:
        for step in range(200):
            if step % 20 == 0:
                run.look({"loss": each(model(x[400:]), y[400:])})
            ids = [(8 * step + k) % 400 for k in range(8)]
            loss = each(model(x[ids]), y[ids]).mean()
            loss.backward()
            run.step(loss, samples=8, learning_rate=config["lr"], max_grad_norm=1.0, ids=ids)
            optimizer.step()
            optimizer.zero_grad()
        run.look({"loss": each(model(x[400:]), y[400:])})


for arm, config in ARMS.items():
    for seed in range(3):
        train(arm, seed, config)
