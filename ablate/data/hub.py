"""Commit of a model or data set from a hub, read from the loaded files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.config.schema import Config
from ablate.models.hf_config import revision
from ablate.models.hub import ARCHITECTURE

COMMIT = re.compile(r"[0-9a-f]{40}")


def data_commit(parts: Mapping[str, Any]) -> str:
    """The commit that the parts of a hub data set were read from; '' where they do not say. parts: datasets by name.

    The commit is part of the URLs of the loaded files, and of the path of the table made from them.
    """
    for rows in parts.values():
        addresses = list((rows.info.download_checksums or {}).keys())
        places = [str(file["filename"]) for file in rows.cache_files]
        for text in (*addresses, *places):
            if commits := COMMIT.findall(str(text)):
                return str(commits[0])
    return ""


# Which commits of a hub a run's model and data came from, whatever branch or tag was asked for.


def hub_revisions(config: Config, data_commit: str) -> dict[str, dict[str, str]]:
    """{"model", "tokenizer" or "data": {"name", "revision"}}; what comes from a folder or a package is missing.

    Call it after loading: a commit is identified by its directory in the hub's cache.
    data_commit: the result of `data_commit`.
    """
    found = {}
    model = config.model
    if commit := _cached_commit(model.name, "config.json", revision(model)):
        found["model"] = {"name": model.name, "revision": commit}
    if model.tokenizer and (commit := _cached_commit(model.tokenizer, "tokenizer_config.json", "main")):
        found["tokenizer"] = {"name": model.tokenizer, "revision": commit}
    if data_commit:
        found["data"] = {"name": config.data.name, "revision": data_commit}
    return found


def _cached_commit(name: str, file: str, asked: str) -> str:
    """Return the cached commit of `name` at this revision; '' for a name that is not a hub id."""
    if name.startswith((ARCHITECTURE, "package:")) or Path(name).expanduser().exists() or name.count("/") > 1:
        return ""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=asked)
    commits = COMMIT.findall(str(path)) if isinstance(path, str) else []
    return str(commits[-1]) if commits else ""
