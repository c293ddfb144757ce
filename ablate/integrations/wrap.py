"""A method of somebody else's object, wrapped for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any


@contextmanager
def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Inside, `owner.name(...)` is `around(original, ...)`; afterwards it is as it was. Other objects of its class are not
    touched."""
    original, own = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, wraps(original)(partial(around, original)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
