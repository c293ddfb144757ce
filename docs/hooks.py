"""Extend mkdocs.yml: folders in the nav, links that leave docs/, and the pages of the gallery."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import make_gallery

DOCS = Path(__file__).parent
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_FIRST = ("index.md", "README.md")
_built: tempfile.TemporaryDirectory[str] | None = None


def on_config(config: Any) -> Any:
    """Replace each folder in the nav by its pages."""
    config["nav"] = expand_folders(config["nav"])
    return config


def expand_folders(nav: list[Any], docs: Path = DOCS) -> list[Any]:
    """Replace an entry such as `decisions/` by every page of that folder: its index first, the others in name order."""
    expanded: list[Any] = []
    for entry in nav:
        ((title, inside),) = entry.items() if isinstance(entry, dict) else [(None, entry)]
        if isinstance(inside, list):
            expanded.append({title: expand_folders(inside, docs)})
        elif inside.endswith("/"):
            files = sorted((docs / inside).glob("*.md"), key=lambda path: (path.name not in _FIRST, path.name))
            pages = [path.relative_to(docs).as_posix() for path in files]
            if not pages:
                raise FileNotFoundError(f"mkdocs.yml: nav names {inside}, but docs/{inside} contains no page")
            expanded.append({title: pages})
        else:
            expanded.append(entry)
    return expanded


def on_files(files: Files, config: Any) -> Files:
    """Build the pages of the gallery from its records, once per process, also while `make docs-serve` watches."""
    global _built
    if _built is None:
        _built = tempfile.TemporaryDirectory(prefix="gallery-")
        make_gallery.build(Path(_built.name))
    for page in sorted(Path(_built.name).glob("*/report.html")):
        name = page.relative_to(_built.name).as_posix()
        files.append(File.generated(config, f"gallery/{name}", abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links that leave the site by their text, and links to a folder by links to its first page."""
    here = DOCS / Path(page.file.src_uri).parent
    parts = _FENCE.split(markdown)  # code blocks have no links
    return "".join(part if part.startswith("```") else resolve_links(part, here) for part in parts)


def resolve_links(text: str, here: Path, docs: Path = DOCS) -> str:
    """Resolve the links of a page that is stored in the folder `here`."""

    def resolve(match: re.Match[str]) -> str:
        target, _, _ = match["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = (here / target).resolve()
        if not path.is_relative_to(docs):
            name = path.relative_to(docs.parent).as_posix() if path.is_relative_to(docs.parent) else target
            return match["text"] if name in match["text"] else f"{match['text']} (`{name}`)"
        if path.is_dir():
            pages = [*path.glob("README.md"), *path.glob("index.md"), *sorted(path.glob("*.md"))]
            return f"[{match['text']}]({target.rstrip('/')}/{pages[0].name})" if pages else match["text"]
        return match[0]

    return _LINK.sub(resolve, text)
