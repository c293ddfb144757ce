"""Digest of a data set in memory: tensors, arrays, numbers and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from ablate.training.fingerprint import weights_hash


class _UnknownError(Exception):
    """A value whose bytes say nothing of what it holds."""


def content_digest(data_sets: Iterable[Any]) -> str:
    """sha256 over all of them; '' where one is neither of tensors, arrays, numbers and texts nor made of such.

    A data set that reads or draws its examples on demand is not hashed: its task states what it reads.
    """
    total = sha256()
    try:
        for data_set in data_sets:
            _add(total, data_set)
    except _UnknownError:
        return ""
    return total.hexdigest()


def _add(total: Any, value: Any) -> None:
    total.update(f"{type(value).__name__}(".encode())
    if isinstance(value, torch.Tensor):
        total.update(weights_hash([("", value)]).encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        total.update(f"{value.dtype.str}{value.shape}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, TensorDataset):
        _add(total, value.tensors)
    elif isinstance(value, Subset):
        _add(total, [value.dataset, list(value.indices)])
    elif isinstance(value, ConcatDataset):
        _add(total, value.datasets)
    elif isinstance(value, list | tuple):
        for item in value:
            _add(total, item)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(total, (str(key), value[key]))
    elif isinstance(value, str | int | float | bool | bytes | np.generic) or value is None:
        total.update(repr(value).encode())
    else:
        raise _UnknownError
    total.update(b")")
