"""Takes the pictures of the docs in a real browser: `python docs/make_pictures.py`.

docs/images/report.png is the first screen of the page of the gallery's reference case, made anew from its record.
Needs a chromium: Debian's package, or CHROMIUM=/path/to/it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import make_gallery

IMAGES = Path(__file__).parent / "images"
STUDY = "reference_case"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """Where a chromium is. Raises SystemExit with what to install."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and (path := shutil.which(name)):
            return path
    raise SystemExit(
        f"no chromium: none of {', '.join(NAMES)} is there\n  fix: apt-get install chromium, or CHROMIUM=/path/to/it"
    )


def take(page: Path, picture: Path, *, width: int, height: int) -> None:
    """The first screen of a page as PNG. Raises RuntimeError when the page asks the network for anything or complains."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-drawn]", timeout=60_000)
        tab.wait_for_timeout(500)
        picture.parent.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=str(picture))
        chromium.close()
    if complaints:
        raise RuntimeError(f"{page}: {complaints}")


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=800)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_gallery.build(Path(folder))
        picture = IMAGES / "report.png"
        take(Path(folder) / STUDY / "report.html", picture, width=asked.width, height=asked.height)
        print(f"{picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
