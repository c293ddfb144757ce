"""Digests of values, of data sets and of the local files of a model: equal digests mean equal content."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from ablate.config.schema import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a run's digest was made of when its study was planned, so that its process can tell what has changed since.

    request: the digest less the code. data: digest of the pool. code: {file: sha256}. An empty part is not checked.
    """

    request: str = ""
    data: str = ""
    code: Mapping[str, str] = field(default_factory=dict)


def digest_of(value: Any) -> str:
    """sha256 of the value as canonical JSON; 1, 1.0 and True are different values."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()).hexdigest()


_SETTINGS = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors",)


def model_digest(config: ModelConfig, location: str) -> str:
    """sha256 over names and contents of the settings, the vocabulary and, unless they are drawn, the weights.

    location: path of `locate_model`. '' for a model that is not local: the manifest has the commit of a hub model.
    """
    folder = Path(location)
    if not folder.is_dir():
        return ""
    kinds = (*_SETTINGS, *(_WEIGHTS if config.init == "pretrained" else ()))
    files = sorted({file for kind in kinds for file in folder.glob(kind) if file.is_file()})
    return digest_of({file.name: _contents(str(file), *_stamp(file)) for file in files})


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _contents(path: str, size: int, changed_ns: int) -> str:  # noqa: ARG001
    """sha256 of a file, read once for each state that it is in."""
    with Path(path).open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def pool_digest(parts: Mapping[str, pa.Table]) -> str:
    """sha256 over the tables by name, however they are cut into chunks. 25,000 reviews (33 MB) take about 60 ms."""
    total = sha256()
    for name, table in sorted(parts.items()):
        # Taken row by row, because a slice keeps offsets of the table that it was cut from. No view of texts can be taken.
        for k, column in enumerate(table.schema):
            if pa.types.is_string_view(column.type):
                table = table.set_column(k, column.name, table[k].cast(pa.string()))
        whole = table.take(np.arange(table.num_rows)).combine_chunks().replace_schema_metadata(None)
        total.update(f"{name} {whole.num_rows} {whole.schema.to_string()}\n".encode())
        with pa.ipc.new_stream(pa.PythonFile(_Hashing(total), mode="w"), whole.schema) as stream:
            stream.write_table(whole)
    return total.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that only hashes what is written to it."""

    def __init__(self, total: Any) -> None:
        self._total = total

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._total.update(data)
        return len(data)
