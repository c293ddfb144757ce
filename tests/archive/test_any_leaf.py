"""Any value of any JSON file replaced by anything, hashes made to agree: a finding, never a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate.archive.verify import verify
from tests.archive.tampering import Files, pack, relisted
from tests.safety.test_received_folder import VALUES

FREE = {
    "reason",
    "padding",
    "started",
    "ended",
    "hub",
    "shared_from",
    "attempts",
    "imported",
    "first_step",
    "tokens_seen",
    "loss_at_start",
    "best",
}
"""Values of a finished run from which nothing else in an archive is computed."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, item in inner for leaf in leaves(item, (*path, key))]
    yield from found or [path]


@pytest.mark.slow
def test_any_leaf_that_is_replaced_is_noticed_unless_nothing_follows_from_it(sent: Files, tmp_path: Path) -> None:
    rng = random.Random(3)
    names = sorted(name for name in sent if name.endswith(".json") and name != "bundle.json")
    for number in range(40):
        name = names[number % len(names)]
        value = json.loads(sent[name])
        *way, last = rng.choice(list(leaves(value)))
        place = value
        for key in way:
            place = place[key]
        before, place[last] = place[last], rng.choice(VALUES)
        if repr(before) == repr(place[last]):
            continue
        files = {**sent, name: (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()}
        noticed = not verify(pack(relisted(files), tmp_path / "a.tar")).verified
        assert noticed or FREE & {*way, last}, (name, *way, last)
