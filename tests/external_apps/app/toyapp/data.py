"""Noisy observations of a fixed line."""

import numpy as np


def make(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [size, 4] and what is to be predicted [size]."""
    inputs = rng.normal(size=(size, 4))
    return inputs, inputs @ np.array([1.0, -2.0, 0.5, 3.0]) + rng.normal(scale=0.3, size=size)
