"""Training labels that are wrong on purpose. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ablate.training.random_streams import RandomStreams


def with_wrong_labels(
    label: NDArray[np.int64], num_classes: int, share: float, streams: RandomStreams
) -> NDArray[np.int64]:
    """The labels of a pool, about `share` of them replaced by another class. label: class numbers [pool].

    Each example has its own number, drawn from the `labels` stream at its index in the pool, and its label is wrong if the
    number is below the fraction: the wrong labels at 10% are a subset of those at 20%, with the same wrong values.
    """
    if not share or num_classes < 2:
        return label
    drawn = streams.generator("labels").random(len(label))
    other = 1 + np.floor(streams.generator("labels", "which").random(len(label)) * (num_classes - 1)).astype(np.int64)
    return np.where(drawn < share, (label + other) % num_classes, label)
