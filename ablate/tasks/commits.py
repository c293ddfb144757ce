"""Which commit of a hub a data set came from, told by what was loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")


def data_commit(parts: Mapping[str, Any]) -> str:
    """The commit that the parts of a hub data set were read from; '' where they do not say. parts: datasets by name.

    It stands in the addresses of the files that were loaded, and in the path of the table that was made of them.
    """
    for rows in parts.values():
        addresses = list((rows.info.download_checksums or {}).keys())
        places = [str(file["filename"]) for file in rows.cache_files]
        for text in (*addresses, *places):
            if commits := COMMIT.findall(str(text)):
                return str(commits[0])
    return ""
