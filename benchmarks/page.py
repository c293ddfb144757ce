"""The page of a study in a real browser: how large it is, how soon it is drawn, how soon it answers to a slider.

Made-up records (no training): 3 arms x 3 seeds x 1,000 steps, and 10 arms x 10 seeds x 10,000 steps. `ablate report` makes
the page; headless Chromium opens it from disk, several times, each in a context of its own. Open: from the navigation until the
first screen's text is laid out, and until the last picture is drawn. Slider: from the event until every picture that depends on
it has been drawn and the browser has painted a frame, and until the first of them; each slider is moved to many positions.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import _shared
from benchmarks._records import write_records

EXAMPLES = """\
  python -m benchmarks.page
  python -m benchmarks.page --opens 10 --moves 40
  python -m benchmarks.page --quick
"""
STUDIES = {"9 runs x 1,000 steps": (3, 3, 1000), "100 runs x 10,000 steps": (10, 10, 10_000)}
QUICK = {"2 runs x 50 steps": (2, 1, 50)}
SLIDERS = {
    "smoothing": ("#smoothing", '[data-panel="grad_norm"]'),
    "evaluation cadence": ("#cadence-eval", '[data-cadence="eval"]'),
    "row every": ("#cadence-log", '[data-cadence="log"]'),
}
"""name: (the slider, the pictures that depend on it)."""

_MOVE = """
async ([slider, pictures, value]) => {
  const input = document.querySelector(slider), due = [...document.querySelectorAll(pictures)];
  due[0].scrollIntoView({ block: "center" });
  await new Promise((go) => requestAnimationFrame(() => setTimeout(go, 50)));
  const drawn = due.map((element) => new Promise((go) => element.once("plotly_afterplot", go)));
  const began = performance.now();
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  const painted = async () => {
    await new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
    return performance.now() - began;
  };
  const first = Promise.race(drawn).then(() => performance.now() - began);
  await Promise.all(drawn);
  return [await first, await painted()];
}
"""
_STANDS = """
() => new Promise((go) => {
  const root = document.documentElement, paint = () => performance.getEntriesByName("first-contentful-paint")[0];
  const poll = () => root.dataset.drawn ? go([paint() ? paint().startTime : null, performance.now()]) : setTimeout(poll, 5);
  poll();
})
"""


def main(argv: list[str] | None = None) -> int:
    """Make, open, turn, print."""
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--opens", type=int, default=5, help="of each page")
    parser.add_argument("--moves", type=int, default=20, help="of each slider")
    arguments = parser.parse_args(argv)
    device = _shared.pick_device(arguments.device)
    if arguments.quick:
        arguments.opens, arguments.moves = 1, 2
    studies = QUICK if arguments.quick else STUDIES
    with tempfile.TemporaryDirectory() as name:
        found = {
            label: _study(Path(name) / str(place), shape, arguments)
            for place, (label, shape) in enumerate(studies.items())
        }
    figures = {
        "benchmark": "page",
        "device": _shared.setting(device),
        "versions": _shared.versions("plotly", "playwright", "torch-ablate"),
        "arguments": {key: value for key, value in vars(arguments).items() if key != "json"},
        "studies": found,
    }
    _shared.finish(arguments, _report(found, _shared.setting(device)), figures)
    return 0


def browser_path() -> str | None:
    """Chromium of this machine."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def _study(folder: Path, shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, Any]:
    from ablate.report import build_report

    arms, seeds, steps = shape
    write_records(folder, arms=arms, seeds=seeds, steps=steps)
    began = time.perf_counter()
    build_report(folder)
    seconds = time.perf_counter() - began
    page = folder / "report.html"
    return {"build_seconds": seconds, "bytes": page.stat().st_size} | _in_browser(page, arguments)


def _in_browser(page: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    path = browser_path()
    if path is None:
        raise SystemExit("no chromium on this machine: apt-get install chromium")
    opened: list[list[float | None]] = []
    moved: dict[str, list[list[float]]] = {name: [] for name in SLIDERS}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for turn in range(arguments.opens):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            tab = context.new_page()
            used = _clock(context, tab)
            tab.goto(page.as_uri(), wait_until="commit")
            opened.append([*tab.evaluate(_STANDS), used()])
            if turn == arguments.opens - 1:
                for name, (slider, pictures) in SLIDERS.items():
                    most = int(tab.get_attribute(slider, "max") or 1)
                    tab.evaluate(_MOVE, [slider, pictures, most])  # the first one unpacks
                    for k in range(arguments.moves):
                        used()
                        wall = tab.evaluate(_MOVE, [slider, pictures, round(k * most / arguments.moves)])
                        moved[name].append([*wall, used()])
            context.close()
        version = browser.version
        browser.close()
    return {"chromium": version, "opened_ms": opened, "slider_ms": moved}


def _clock(context: Any, tab: Any) -> Callable[[], float]:
    """Milliseconds of processor time that the page's main thread has used since the last call: a shared machine adds none."""
    session = context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = 0.0

    def used() -> float:
        nonlocal before
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        since, before = 1000 * (metrics["TaskDuration"] - before), metrics["TaskDuration"]
        return float(since)

    return used


def _report(found: dict[str, dict[str, Any]], device: str) -> str:
    rows = [
        [
            label,
            f"{one['build_seconds']:.1f}",
            f"{one['bytes'] / 1e6:.1f}",
            _middle(one["opened_ms"], 0),
            _middle(one["opened_ms"], 1),
            _middle(one["opened_ms"], 2),
        ]
        for label, one in found.items()
    ]
    moves = [
        [f"{label}: {name}", *(_middle(one["slider_ms"][name], place) for place in range(3))]
        for label, one in found.items()
        for name in SLIDERS
    ]
    chromium = next(iter(found.values()))["chromium"]
    head = ["study", "`ablate report`, s", "page, MB", "first paint, ms", "all drawn, ms", "processor, ms"]
    return "\n".join(
        [
            "## The page in headless Chromium",
            "",
            f"On {device}, Chromium {chromium}, 1440 x 900, from disk. Median, least and most in brackets. Of the page, "
            f"plotly is {_plotly_bytes() / 1e6:.1f} MB. Processor: time that the page's main thread was at work, which a busy "
            "machine adds little to.",
            "",
            _shared.table(head, rows),
            "",
            _shared.table(["slider", "first picture, ms", "all pictures, ms", "processor, ms"], moves),
            "",
        ]
    )


def _plotly_bytes() -> int:
    from plotly.offline import get_plotlyjs

    return len(get_plotlyjs().encode())


def _middle(found: list[list[float | None]], place: int) -> str:
    values = [value for one in found if (value := one[place]) is not None]
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})" if values else ""


if __name__ == "__main__":
    raise SystemExit(main())
