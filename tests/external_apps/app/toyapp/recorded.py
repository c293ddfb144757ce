"""The same regression in PyTorch, with the two lines that keep a record: `python -m toyapp.recorded`."""

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ablate import Recorder
from toyapp.data import make


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    """One run."""
    import numpy as np

    torch.manual_seed(config.random.seed)
    rng = np.random.default_rng(config.random.seed)
    inputs, targets = (torch.from_numpy(each).float() for each in make(config.data.size, rng))
    unseen, wanted = (torch.from_numpy(each).float() for each in make(200, np.random.default_rng(0)))
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)

    def looked() -> torch.Tensor:
        with torch.no_grad():
            return (model(unseen)[:, 0] - wanted) ** 2

    settings = OmegaConf.to_container(config, resolve=True)
    with Recorder(HydraConfig.get().runtime.output_dir, model, config=settings) as run:
        run.log_eval({"loss": looked()})
        for _ in range(config.steps):
            ids = rng.integers(0, len(inputs), size=config.batch_size)
            loss = ((model(inputs[ids])[:, 0] - targets[ids]) ** 2).mean()
            loss.backward()
            run.log_step(loss, samples=len(ids), sample_ids=ids, learning_rate=config.lr)
            optimizer.step()
            optimizer.zero_grad()
        run.log_eval({"loss": looked()})
    return float(looked().mean())


if __name__ == "__main__":
    main()
