"""Numbers in few characters, for a page that holds every step of every run."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR = 2.0**-16
"""Largest relative error of a value that was packed."""


def packed(values: NDArray[np.float64]) -> str:
    """Four characters each: the upper 24 bits of a float32, rounded, in base64. What is not finite comes back as no number.

    values: shape [points].
    """
    with np.errstate(over="ignore"):
        narrow = np.asarray(values, dtype=np.float32)
    bits = narrow.view(np.uint32)
    # Half a unit of the last kept bit, to nearest; it carries into the exponent as it should.
    upper = ((bits.astype(np.uint64) + 0x80) >> 8).astype(np.uint32)
    upper[~np.isfinite(narrow)] = 0x7FC000
    octets = np.stack([upper >> 16, upper >> 8, upper], axis=-1).astype(np.uint8)
    return base64.b64encode(octets.tobytes()).decode("ascii")


def unpacked(text: str) -> NDArray[np.float64]:
    """What the page reads out of it. Shape [points]."""
    octets = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(-1, 3).astype(np.uint32)
    bits = (octets[:, 0] << 24) | (octets[:, 1] << 16) | (octets[:, 2] << 8)
    return bits.view(np.float32).astype(np.float64)


def flags(marked: NDArray[np.bool_]) -> str:
    """One bit per step, the first one highest, in base64; '' where none is set."""
    return base64.b64encode(np.packbits(marked).tobytes()).decode("ascii") if marked.any() else ""
