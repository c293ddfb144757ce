"""A browser for the tests of the page, and what they read out of a picture that it has drawn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATH = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)

SHOTS = os.environ.get("ABLATE_SCREENSHOTS")
"""Folder that the screenshots are kept in; without it they go with the test's own temporary folder."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser, one for all tests of a module."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=PATH, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


_AS_OPENED = """() => {
  const click = (selector) => document.querySelectorAll(selector).forEach((one) => one.click());
  click('[data-unit="samples"], [data-curve="loss"], [data-how="mean"], [data-spacing-eval="even"], [data-spacing-log="even"]');
  click('[data-log-x][aria-pressed="true"]');
  click('[data-log="loss"][aria-pressed="true"], [data-log="eval_loss"][aria-pressed="true"]');
  click('[data-log="grad_norm"][aria-pressed="false"], .legend button[aria-pressed="false"]');
  const opened = { "#smoothing": window.smoothingAsOpened, "#cadence-eval": 0, "#cadence-log": 0 };
  for (const [selector, value] of Object.entries(opened)) {
    const slider = document.querySelector(selector);
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  }
  const fold = document.querySelector('[data-panel="loss"]').closest("details");
  if (!fold.open) fold.querySelector("summary").click();
}"""


class Tab:
    """A page that stands. complaints: what the console said. requests: what was asked for beside the file itself."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn=true]", timeout=60_000)

    def reset(self) -> None:
        """Every control as it was when the page was opened: to open it anew takes the browser a second."""
        self.page.evaluate("() => { window.smoothingAsOpened ??= document.querySelector('#smoothing').value; }")
        self.page.evaluate(_AS_OPENED)
        self.page.mouse.move(0, 0)
        self.settle()

    def settle(self) -> None:
        """Wait until a change is drawn: a picture a frame, and there are five at most."""
        self.page.evaluate(
            "async () => { for (let k = 0; k < 10; k++) "
            "await new Promise((go) => requestAnimationFrame(() => setTimeout(go))); }"
        )

    def click(self, selector: str) -> None:
        self.page.click(selector)
        self.settle()

    def slide(self, selector: str, value: int) -> None:
        """Move a slider as a mouse does."""
        self.page.eval_on_selector(
            selector,
            "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }",
            value,
        )
        self.settle()

    def drawn(self, picture: str, group: str | None = None) -> list[dict[str, Any]]:
        """The traces of a picture, as [{arm, x, y, group, type}]; those of one group."""
        found: list[dict[str, Any]] = self.page.eval_on_selector(
            picture,
            "(one) => one.data.map(({ meta, x, y, z, legendgroup, type, text, name }) => "
            "({ arm: meta, x, y, z, group: legendgroup, type, text, name }))",
        )
        return [one for one in found if group is None or one["group"] == group]

    def layout(self, picture: str, key: str) -> Any:
        return self.page.eval_on_selector(picture, f"(one) => one.layout.{key}")

    def shares(self, which: str) -> dict[str, float]:
        """What stands beside a slider, by arm, not rounded."""
        found: dict[str, float] = self.page.eval_on_selector_all(
            f'[data-shares="{which}"] li',
            "(all) => Object.fromEntries(all.map((one) => [one.dataset.arm, Number(one.dataset.value)]))",
        )
        return found

    def close(self) -> None:
        self.context.close()
