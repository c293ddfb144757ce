"""Names and units of everything that a tracker gets."""

from __future__ import annotations

AXES = {
    "step": ("optimizer steps", "taken, this one included"),
    "samples": ("samples", "that training has seen"),
    "tokens": ("tokens", "real ones that training has seen"),
    "epoch": ("epochs", "passes over the training set"),
    "seconds": ("seconds", "of training, evaluation apart"),
}
"""Possible x-axes of a chart; every row has all that are known."""

TRAIN = {
    "train/loss": ("the loss's own", "mean of the steps since the row before"),
    "train/grad_norm": ("L2 norm", "of the row's last step: fp32, unscaled, before clipping"),
    "train/grad_norm_max": ("L2 norm", "largest since the row before; only where rows are further apart than a step"),
    "train/clip_coefficient": ("factor", "by which clipping multiplied the last step's gradient"),
    "train/learning_rate": ("rate", "of the last step, first parameter group"),
    "train/loss_scale": ("factor", "of the gradient scaler"),
    "train/skipped_steps": ("steps", "since the row before whose gradient was not finite"),
    "train/step_seconds": ("seconds", "of a step, mean since the row before"),
    "train/group_norm/<group>": ("L2 norm", "of the last step, per parameter group"),
    "train/update_ratio/<group>": ("ratio", "of the weights' change to the weights; with record.update_ratio"),
    "train/micro_samples": ("samples", "of the first forward pass; with record.grad_noise_scale"),
    "train/micro_grad_norm": ("L2 norm", "of the first forward pass alone; with record.grad_noise_scale"),
}

EVAL = {
    "eval/<metric>": ("the metric's own", "mean over the held-out examples"),
    "eval/<split>/<metric>": ("the metric's own", "the same over another split"),
    "eval/seconds": ("seconds", "wall time of the evaluation"),
}

STUDY = {
    "contrasts": ("table", "every contrast: effect, interval, p, seeds, verdict, sentence"),
    "conclusions": ("text", "the verdict sentences, most important first"),
    "effect/<arm>": ("the metric's own", "of the primary metric, with `low/<arm>` and `high/<arm>`, its 95% interval"),
    "verdict/<arm>": ("word", "`helps`, `hurts`, `equivalent`, `inconclusive`, ..."),
    "report": ("page", "report.html"),
}
"""Conclusions of a study, in a run of its own."""
