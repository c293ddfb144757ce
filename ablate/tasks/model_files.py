"""The digest of the local files that a model is made from: weights that were trained again under the same name are others."""

from __future__ import annotations

from functools import lru_cache
from hashlib import file_digest
from pathlib import Path

from ablate.config import ModelConfig
from ablate.record.digest import digest_of

_SETTINGS = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors",)


def model_digest(config: ModelConfig, place: str) -> str:
    """sha256 over names and contents of the settings, the vocabulary and, unless they are drawn, the weights.

    place: of `locate_model`. '' for what does not lie here: of a hub model the manifest has the commit.
    """
    folder = Path(place)
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
