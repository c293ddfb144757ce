"""report.html in a browser: it draws, it answers to its switches, and the console stays silent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ablate.report.html import page
from ablate.report.view import make_view
from tests.report.conftest import Study

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
    "--dump-dom",
)
SEEDS, ARMS, PANELS = 3, 4, 3


def opened(html: str, folder: Path, *, width: int = 1280) -> str:
    """The document after its scripts have run."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    assert BROWSER
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [BROWSER, *SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},900", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    return done.stdout


def with_script(html: str, script: str) -> str:
    """The page with something that happens to it once it is drawn; `report(name, value)` writes a root attribute."""
    wrapped = (
        "<script>(async () => { const root = document.documentElement;"
        "const report = (name, value) => root.setAttribute('data-' + name, value);"
        "const pause = () => new Promise((go) => setTimeout(go, 300));"
        "while (!root.hasAttribute('data-drawn')) await pause();"
        + script
        + "report('asked', 'true'); })();</script></body>"
    )
    return html.replace("</body>", wrapped)


@pytest.fixture(scope="module")
def html(study: Study) -> str:
    return page(make_view(study.analysis), study.folder)


def test_every_curve_is_drawn(html: str, tmp_path: Path) -> None:
    document = opened(html, tmp_path)
    assert re.search(r'<html[^>]*data-drawn="true"', document)
    lines = len(re.findall(r'class="trace scatter', document))
    replayed = SEEDS + 1 + 3
    assert lines == PANELS * ARMS * (SEEDS + 1) + replayed


def test_hiding_an_arm_and_changing_the_unit_redraws(html: str, tmp_path: Path) -> None:
    script = """
      document.querySelector('[data-unit="steps"]').click();
      document.querySelector('[data-log="loss"]').click();
      document.querySelectorAll('.legend button')[1].click();
      await pause();
      const norms = document.querySelector('[data-panel="grad_norm"]');
      report('lines', norms.querySelectorAll('.trace.scatter').length);
      report('last', Math.max(...norms.data.flatMap((trace) => trace.x)));
      report('title', norms.layout.xaxis.title.text);
      report('loss', document.querySelector('[data-panel="loss"]').layout.yaxis.type);
      report('baseline', document.querySelector('.legend button').disabled);
    """
    root = opened(with_script(html, script), tmp_path)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', root[: root.index("<head")]))
    assert found["asked"] == "true"
    assert int(found["lines"]) == (ARMS - 1) * (SEEDS + 1)
    assert (found["last"], found["title"], found["loss"], found["baseline"]) == ("128", "steps", "log", "true")


def test_a_narrow_screen_does_not_scroll_sideways(html: str, tmp_path: Path) -> None:
    script = """
      await pause();
      report('over', root.scrollWidth - root.clientWidth);
      report('wide', root.clientWidth);
    """
    root = opened(with_script(html, script), tmp_path, width=500)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', root[: root.index("<head")]))
    assert int(found["wide"]) <= 500
    assert int(found["over"]) == 0
