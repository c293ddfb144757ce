"""Take the screenshots of the docs in a real browser: `python docs/make_pictures.py`.

docs/images/report.png is the first screen of the report of the gallery's reference case, rebuilt from its record.
Requires Chromium: Debian's package, or CHROMIUM=/path/to/chromium.
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
    """Return the path of Chromium. Raises SystemExit with the package to install."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and (path := shutil.which(name)):
            return path
    raise SystemExit(
        f"Chromium is missing: none of {', '.join(NAMES)} is installed\n  fix: apt-get install chromium, or set CHROMIUM=/path"
    )


def take(page: Path, picture: Path, *, width: int, height: int) -> None:
    """Save the first screen of a page as PNG. Raises RuntimeError on a network request or a script error."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-drawn]", timeout=60_000)
        tab.wait_for_timeout(500)
        picture.parent.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=str(picture))
        chromium.close()
    if errors:
        raise RuntimeError(f"{page}: {errors}")


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=800)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_gallery.build(Path(folder))
        picture = IMAGES / "report.png"
        take(Path(folder) / STUDY / "report.html", picture, width=args.width, height=args.height)
        print(f"{picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
