"""Reading numbers that the page holds in few characters, as its script does."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray


def unpacked(text: str) -> NDArray[np.float64]:
    """What the page reads out of it. Shape [points]."""
    octets = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(-1, 3).astype(np.uint32)
    bits = (octets[:, 0] << 24) | (octets[:, 1] << 16) | (octets[:, 2] << 8)
    return bits.view(np.float32).astype(np.float64)
