"""A name is a name, whatever it holds, also in what the script draws; and a broken study has a page that opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablate.report import build_report
from ablate.report.html import page
from ablate.report.view_model import make_view
from tests.report import browser as chrome
from tests.report.browser import Tab
from tests.report.conftest import Study
from tests.report.test_tables import renamed
from tests.synthetic import write_study

pytestmark = pytest.mark.skipif(chrome.PATH is None, reason="no chromium on this machine")

HOSTILE = (
    '</script><script>document.title="taken"</script><img src=x onerror=\'document.title="taken"\'><b>bold</b>$title'
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chrome.chromium() as found:
        yield found


def test_a_name_that_is_a_script_stays_a_name(browser: Any, study: Study, tmp_path: Path) -> None:
    named = renamed(study.analysis, "batch_size=64", HOSTILE)
    first, *rest = named.runs
    named = replace(
        named,
        study=HOSTILE,
        question=HOSTILE,
        command=HOSTILE,
        conclusions=(HOSTILE,),
        notes=(HOSTILE,),
        runs=(replace(first, status="failed", sentence=HOSTILE), *rest),
    )
    file = tmp_path / "page.html"
    file.write_text(page(make_view(named), study.folder), encoding="utf-8")
    tab = Tab(browser, file, viewport={"width": 390, "height": 844})
    assert tab.complaints == []
    assert tab.page.title() == f"{HOSTILE}: {HOSTILE}"
    assert tab.page.inner_text(".question") == HOSTILE
    assert HOSTILE in tab.page.inner_text("h1")
    assert tab.page.locator("img").count() == 0
    assert HOSTILE in (tab.page.locator(".legend button").nth(1).text_content() or "")
    drawn = "".join(tab.page.locator('[data-panel="eval_loss"] .annotation-text').all_text_contents())
    assert "</script><scr" in drawn
    assert "</script><script>" in "".join(tab.page.locator("svg.forest .name").all_text_contents())
    assert tab.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert [url for url in tab.requests if not url.startswith(("data:", "blob:", "file:"))] == []
    tab.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        {"diverged": [("batch_size=64", 0)], "failed": [("placebo", 1)], "seeds": 2},
        {"arms": ("eval_every=128 samples",), "seeds": 1},
        {"arms": ("placebo",), "seeds": 1, "missing": [("placebo", 0), ("baseline", 0)]},
        {"arms": ("placebo",), "seeds": 2, "diverged": [("baseline", 0), ("baseline", 1)]},
    ],
)
def test_a_study_that_lacks_parts_has_a_page_that_opens(browser: Any, tmp_path: Path, kinds: dict[str, Any]) -> None:
    folder = tmp_path / "study"
    write_study(folder, **kinds)
    build_report(folder)
    tab = Tab(browser, folder / "report.html")
    for slider in ("#smoothing", "#cadence-eval", "#cadence-log"):
        if tab.page.locator(slider).count():
            tab.slide(slider, 1)
    assert tab.complaints == []
    tab.close()
