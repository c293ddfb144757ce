"""Train a plain nn.Module on tensors with the loop of `ablate`, and read what it recorded."""

import sys

import torch
from torch import nn, utils

from ablate import Evaluation, Streams, read_trace, train

streams = Streams(seed=0)
points = torch.from_numpy(streams.generator("augment").normal(size=(600, 2))).float()
labels = (points.prod(dim=1) > 0).long()  # which points lie in opposite quadrants
examples, held_out = (utils.data.TensorDataset(points[k], labels[k]) for k in (slice(400), slice(400, 600)))
with streams.scope("init"):  # the weights are those of this seed, whatever was drawn before
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
each = nn.CrossEntropyLoss(reduction="none")
result = train(
    model, examples, lambda model, batch: (each(model(batch[0]), batch[1]).sum(), len(batch[1])),
    optimizer=optimizer, budget="10 epochs", batch_size=8, max_grad_norm=1.0, streams=streams, folder=sys.argv[1],
    evaluation=Evaluation(examples=held_out, measure=lambda m, b: {"loss": each(m(b[0]), b[1])}, every="1 epochs"),
)  # fmt: skip
norm = read_trace(f"{sys.argv[1]}/trace.arrow")["grad_norm"]  # one value per optimizer step, before clipping
loss = result.evals.curve("loss").value  # one value per look, the first before training
print(f"{result.outcome.message}: held-out loss {loss[0]:.3f} -> {loss[-1]:.3f}; largest norm {norm.max():.2f}")
