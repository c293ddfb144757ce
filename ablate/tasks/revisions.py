"""Which commits of a hub a run's model and data came from, whatever branch or tag was asked for."""

from __future__ import annotations

from pathlib import Path

from ablate.config import Config
from ablate.tasks.commits import COMMIT
from ablate.tasks.facts import ARCHITECTURE
from ablate.tasks.settings import revision


def hub_revisions(config: Config, data_commit: str) -> dict[str, dict[str, str]]:
    """{"model", "tokenizer" or "data": {"name", "revision"}}; what comes from a folder or a package is missing.

    Ask when all of it has been loaded: a commit is known by the folder of the hub's cache that it lies in. data_commit: of
    `data_commit`.
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
    """The commit of `name` that the cache holds under the revision that was asked for; '' for what is no hub id."""
    if name.startswith((ARCHITECTURE, "package:")) or Path(name).expanduser().exists() or name.count("/") > 1:
        return ""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=asked)
    commits = COMMIT.findall(str(path)) if isinstance(path, str) else []
    return str(commits[-1]) if commits else ""
