"""What mkdocs is told beside mkdocs.yml: folders in the nav, links that leave docs/, the gallery's pages."""

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
    """A folder in the nav stands for its pages."""
    config["nav"] = unfolded(config["nav"])
    return config


def unfolded(nav: list[Any], docs: Path = DOCS) -> list[Any]:
    """`decisions/` -> every page of that folder, its index first, the others in name order."""
    found: list[Any] = []
    for entry in nav:
        ((title, inside),) = entry.items() if isinstance(entry, dict) else [(None, entry)]
        if isinstance(inside, list):
            found.append({title: unfolded(inside, docs)})
        elif inside.endswith("/"):
            files = sorted((docs / inside).glob("*.md"), key=lambda path: (path.name not in _FIRST, path.name))
            pages = [path.relative_to(docs).as_posix() for path in files]
            if not pages:
                raise FileNotFoundError(f"mkdocs.yml: nav names {inside}, and docs/{inside} holds no page")
            found.append({title: pages})
        else:
            found.append(entry)
    return found


def on_files(files: Files, config: Any) -> Files:
    """The gallery's pages are made anew from the records that are kept; once, also while `make docs-serve` watches."""
    global _built
    if _built is None:
        _built = tempfile.TemporaryDirectory(prefix="gallery-")
        make_gallery.build(Path(_built.name))
    for page in sorted(Path(_built.name).glob("*/report.html")):
        name = page.relative_to(_built.name).as_posix()
        files.append(File.generated(config, f"gallery/{name}", abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to what the site does not hold become words, and links to a folder lead to its first page."""
    here = DOCS / Path(page.file.src_uri).parent
    parts = _FENCE.split(markdown)  # what stands in a fence is nobody's link
    return "".join(part if part.startswith("```") else inward(part, here) for part in parts)


def inward(text: str, here: Path, docs: Path = DOCS) -> str:
    """text: of a page that lies in the folder `here`."""

    def one(found: re.Match[str]) -> str:
        target, _, _ = found["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = (here / target).resolve()
        if not path.is_relative_to(docs):
            name = path.relative_to(docs.parent).as_posix() if path.is_relative_to(docs.parent) else target
            return found["text"] if name in found["text"] else f"{found['text']} (`{name}`)"
        if path.is_dir():
            pages = [*path.glob("README.md"), *path.glob("index.md"), *sorted(path.glob("*.md"))]
            return f"[{found['text']}]({target.rstrip('/')}/{pages[0].name})" if pages else found["text"]
        return found[0]

    return _LINK.sub(one, text)
