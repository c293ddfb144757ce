"""Train, and return what a sweep is to look at."""

from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig

from toyapp.data import make


def train(config: DictConfig) -> dict[str, float]:
    """Losses on data that training did not see."""
    rng = np.random.default_rng(config.random.seed)
    inputs, targets = make(config.data.size, rng)
    unseen_inputs, unseen_targets = make(200, np.random.default_rng(0))
    weights = rng.normal(size=4) * config.model.init_scale
    for step in range(config.steps):
        picked = rng.integers(0, len(inputs), size=config.batch_size)
        error = inputs[picked] @ weights - targets[picked]
        weights -= config.lr * (inputs[picked].T @ error / config.batch_size + config.model.decay * weights)
        if config.fail_at is not None and step == config.fail_at:
            raise FloatingPointError(f"made to fail at step {step}")
    error = unseen_inputs @ weights - unseen_targets
    print(f"loss {np.mean(error**2):.4f} after {config.steps} steps")
    return {"loss": float(np.mean(error**2)), "worst": float(np.max(np.abs(error)))}


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> Any:
    """One run."""
    losses = train(config)
    return {"loss": losses["loss"], "both": losses, "none": None, "text": "done"}[config.returns]


if __name__ == "__main__":
    main()
