"""The site: every page is in the nav, no link is broken, nothing is loaded from a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
NO_PAGE: tuple[str, ...] = ()
"""Pages of docs/ that are left out of the nav on purpose."""


def config() -> dict[str, Any]:
    return dict(yaml.safe_load((REPO / "mkdocs.yml").read_text(encoding="utf-8")))


def targets(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        inside = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(inside, list):
            yield from targets(inside)
        elif inside.endswith("/"):
            yield from (path.relative_to(DOCS).as_posix() for path in (DOCS / inside).glob("*.md"))
        else:
            yield inside


@pytest.mark.slow
def test_every_page_is_in_the_nav() -> None:
    named = set(targets(config()["nav"]))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - set(NO_PAGE)
    missing = sorted(there - named)
    assert missing == [], "add to the nav of mkdocs.yml:\n" + "\n".join(f"      - {page}" for page in missing)
    assert sorted(named - there) == [], "the nav of mkdocs.yml names pages that do not exist"


def test_every_page_begins_with_its_title() -> None:
    for page in targets(config()["nav"]):
        assert (DOCS / page).read_text(encoding="utf-8").startswith("# "), page


def test_nothing_is_loaded_from_a_network() -> None:
    made = config()
    assert made["theme"]["font"] is False
    assert made["plugins"] == ["search"]
    assert made["use_directory_urls"] is False
    assert not {"extra_javascript", "extra_css", "repo_url", "site_url"} & set(made)


def test_every_warning_is_an_error() -> None:
    assert config()["strict"] is True
    assert set(config()["validation"]["links"].values()) == {"warn"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("[how](slurm.md)", "[how](slurm.md)"),
        ("[how](slurm.md#then)", "[how](slurm.md#then)"),
        ("[out](https://hydra.cc)", "[out](https://hydra.cc)"),
        ("[here](#there)", "[here](#there)"),
        ("[measured](../../benchmarks/README.md)", "measured (`benchmarks/README.md`)"),
        ("[`conf/axis/a.yaml`](../../conf/axis/a.yaml)", "`conf/axis/a.yaml`"),
        ("[figures](../benchmarks)", "[figures](../benchmarks/README.md)"),
        ("![picture](../../x.png)", "![picture](../../x.png)"),
    ],
)
def test_links_that_leave_the_docs_become_words(hooks: Any, text: str, becomes: str) -> None:
    assert hooks.resolve_links(text, DOCS / "how-to") == becomes


def test_a_folder_in_the_nav_is_its_pages(hooks: Any, tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "index.md", "picture.png"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).touch()
    nav = [{"Up": [{"Folder": "folder/"}, {"One": "one.md"}]}, "two.md"]
    made = [{"Up": [{"Folder": ["folder/index.md", "folder/a.md", "folder/b.md"]}, {"One": "one.md"}]}, "two.md"]
    assert hooks.expand_folders(nav, tmp_path) == made
    with pytest.raises(FileNotFoundError, match="docs/none/ contains no page"):
        hooks.expand_folders([{"None": "none/"}], tmp_path)


@pytest.fixture(scope="module")
def hooks(script: Any) -> Any:
    pytest.importorskip("mkdocs", reason="pip install 'torch-ablate[docs]'")
    return script("hooks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="pip install 'torch-ablate[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(REPO), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_and_holds_every_page_and_the_gallery(site: Path) -> None:
    for page in targets(config()["nav"]):
        name = page.replace("README.md", "index.md").removesuffix(".md")
        assert (site / f"{name}.html").exists(), page
    for study in DOCS.glob("gallery/*/plan.json"):
        assert (site / "gallery" / study.parent.name / "report.html").stat().st_size > 100_000
    assert not list(site.rglob("*.arrow"))
    assert not list(site.glob("*.py"))


@pytest.mark.slow
def test_the_built_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "report.html"]
    assert len(pages) > 50
    for page in pages:
        wanted = Wanted()
        wanted.feed(page.read_text(encoding="utf-8"))
        assert [one for one in wanted.found if re.match(r"(https?:)?//", one)] == [], page
        absent = [one for one in wanted.found if one and not (page.parent / one.partition("?")[0]).exists()]
        assert absent == [] or page.name == "404.html", page


class Wanted(HTMLParser):
    """What a browser fetches for a page: scripts, styles, pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.found.append(given.get("href") or "")
