"""Training and evaluation samples as views into the tokens of a pool, and padding them to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.data.tokenization import Tokens

Sample = tuple[NDArray[np.integer[Any]], int]
"""(token numbers, label)"""
Spans = list[tuple[int, int]]
"""(first token, number of tokens) of each row of a padded batch."""


class Samples:
    """A map-style data set. Nothing is copied before a batch is made.

    start, length: int64 [samples], of each sample in `tokens.values`. label: int64 [samples].
    """

    def __init__(
        self, tokens: Tokens, start: NDArray[np.int64], length: NDArray[np.int64], label: NDArray[np.int64]
    ) -> None:
        self._values, self._start, self._label = tokens.values, start, label
        self.lengths = length

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, k: int) -> Sample:
        start = self._start[k]
        return self._values[start : start + self.lengths[k]], int(self._label[k])

    def by_length(self) -> list[int]:
        """Positions from short to long, so that a batch of neighbours needs little padding."""
        order: list[int] = np.argsort(self.lengths, kind="stable").tolist()
        return order


def pad_rows(sequences: Sequence[Any], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill up to the longest: (token numbers, 1 where they are real and 0 elsewhere), each int64 [batch, longest]."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    numbers = np.full((len(sequences), lengths.max()), value, dtype=np.int64)
    for row, own in zip(numbers, sequences, strict=True):
        row[: len(own)] = own
    real = (np.arange(numbers.shape[1]) < lengths[:, None]).astype(np.int64)
    return torch.from_numpy(numbers), torch.from_numpy(real)


def padded(samples: Sequence[Sample], pad: int) -> dict[str, Any]:
    """Pad to the longest of the batch: input_ids and attention_mask, int64 [batch, longest], and the spans of the rows."""
    input_ids, attention_mask = pad_rows([tokens for tokens, _ in samples], pad)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "spans": [(0, len(tokens)) for tokens, _ in samples],
    }


def with_spans(attention_mask: torch.Tensor, spans: Spans | None) -> torch.Tensor:
    """The same mask, with the spans of its rows written on it: layers that leave padding out need not ask a GPU for them.

    spans: known where the batch was padded, on the host. They are believed.
    """
    attention_mask._spans = spans  # type: ignore[attr-defined]
    return attention_mask


def token_positions(
    starts: Sequence[int] | NDArray[np.int64], lengths: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return start, start + 1, ... of each of several stretches, one after the other, int64 [sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(np.asarray(starts) - (ends - lengths), lengths)


def send(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy numbers to a device; from pinned memory, so that the host need not wait for a GPU."""
    made = torch.from_numpy(values)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)
