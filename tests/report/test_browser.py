"""report.html in a real browser: what is drawn is what was recorded, every control changes it, and nothing else happens.

Screenshots of the page, light, dark, on a phone and on paper, are kept where ABLATE_SCREENSHOTS says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ablate.analysis.resample import Reduction, budget_of, reduce_windows, resample, window_ends
from ablate.design.plan import Plan
from ablate.metrics.curves import decrease_before, train_loss_decrease
from ablate.records.gradient_health import spikes
from ablate.records.layout import StudyDir
from ablate.records.reader import EvalCurve, Trace, read_evals, read_trace
from ablate.report import build_report
from ablate.report.chart_data import RELATIVE_ERROR
from ablate.report.html import static
from tests.report import browser as chrome
from tests.report.browser import Tab
from tests.synthetic import write_study

pytestmark = pytest.mark.skipif(chrome.PATH is None, reason="no chromium on this machine")

SEEDS = 3
TRAINED = ("baseline", "batch_size=64", "train_test_ratio=4", "placebo")
PANELS = ("grad_norm", "eval_loss", "loss")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chrome.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    folder = tmp_path_factory.mktemp("runs") / "reference"
    plan = write_study(folder, seeds=SEEDS)
    build_report(folder)
    return folder, plan


@pytest.fixture(scope="module")
def study(made: tuple[Path, Plan]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def opened(browser: Any, study: Path) -> Iterator[Tab]:
    found = Tab(browser, study / "report.html")
    yield found
    found.close()


@pytest.fixture
def tab(opened: Tab) -> Iterator[Tab]:
    opened.reset()
    yield opened
    assert opened.complaints == []


def traces(study: Path, arm: str) -> list[Trace]:
    return [read_trace(StudyDir(study).run(arm, seed).trace) for seed in range(SEEDS)]


def curves(study: Path, arm: str) -> list[EvalCurve]:
    return [read_evals(StudyDir(study).run(arm, seed).evals).curve("loss") for seed in range(SEEDS)]


def panel(name: str) -> str:
    return f'[data-panel="{name}"]'


def of_arm(found: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    return next(one for one in found if one["arm"] == arm)


def test_it_opens_without_a_complaint_and_asks_for_nothing(tab: Tab, study: Path) -> None:
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith(("data:", "blob:"))] == [(study / "report.html").as_uri()]
    empty = tab.page.eval_on_selector_all(
        ".plot", "(all) => all.filter((one) => !one.querySelector('.main-svg')).length"
    )
    assert empty == 0


@pytest.mark.parametrize("name", PANELS)
def test_every_step_of_every_seed_is_drawn_with_mean_and_band(tab: Tab, study: Path, name: str) -> None:
    lines = tab.drawn(panel(name), "seeds")
    assert [one["arm"] for one in lines] == list(reversed(TRAINED))  # the baseline on top
    for arm in TRAINED:
        y = [value for value in of_arm(lines, arm)["y"] if value is not None]
        recorded = (
            [c.value for c in curves(study, arm)] if name == "eval_loss" else [t[name] for t in traces(study, arm)]
        )
        np.testing.assert_allclose(y, np.concatenate(recorded), rtol=RELATIVE_ERROR)
    for group in ("mean", "band"):
        assert [one["arm"] for one in tab.drawn(panel(name), group)] == list(reversed(TRAINED))
    if name == "eval_loss":
        mean = np.mean([c.value for c in curves(study, "baseline")], axis=0)
        np.testing.assert_allclose(of_arm(tab.drawn(panel(name), "mean"), "baseline")["y"], mean)


def test_the_smoothing_slider_averages_the_bold_line_and_leaves_the_seeds(tab: Tab, study: Path) -> None:
    before = tab.drawn(panel("grad_norm"), "seeds")
    norms = np.stack([trace["grad_norm"] for trace in traces(study, "baseline")])
    tab.slide("#smoothing", 0)
    raw = of_arm(tab.drawn(panel("grad_norm"), "mean"), "baseline")
    np.testing.assert_allclose(raw["y"], norms.mean(axis=0), rtol=2 * RELATIVE_ERROR)
    tab.slide("#smoothing", 9)
    span = int(tab.page.inner_text("#smoothing-words").split()[2]) // 8
    assert span == 10
    smooth = of_arm(tab.drawn(panel("grad_norm"), "mean"), "baseline")
    at = [round(x) // 8 - 1 for x in smooth["x"]]
    expected = [norms[:, max(0, i - span + 1) : i + 1].mean() for i in at]
    np.testing.assert_allclose(smooth["y"], expected, rtol=2 * RELATIVE_ERROR)
    assert tab.drawn(panel("grad_norm"), "seeds") == before


@pytest.mark.parametrize(
    ("unit", "last"), [("steps", 128), ("samples", 1024), ("tokens", 25_600), ("epochs", 1.024), ("seconds", 66.56)]
)
def test_the_horizontal_axis_switches(tab: Tab, unit: str, last: float) -> None:
    tab.click(f'[data-unit="{unit}"]')
    for name in PANELS:
        assert tab.layout(panel(name), "xaxis.title.text") == unit
        x = of_arm(tab.drawn(panel(name), "mean"), "baseline")["x"]
        assert max(x) == pytest.approx(last)
    assert tab.page.get_attribute('[data-unit][aria-pressed="true"]', "data-unit") == unit


def test_both_axes_can_be_logarithmic(tab: Tab) -> None:
    assert [tab.layout(panel(name), "yaxis.type") for name in PANELS] == ["log", "linear", "linear"]
    tab.click('[data-log="loss"]')
    tab.click("[data-log-x]")
    assert tab.layout(panel("loss"), "yaxis.type") == "log"
    assert [tab.layout(panel(name), "xaxis.type") for name in PANELS] == ["log"] * 3


def test_an_arm_can_be_hidden_everywhere_and_the_baseline_cannot(tab: Tab) -> None:
    buttons = tab.page.locator(".legend button")
    assert [text.split(" n = ")[-1] for text in buttons.all_inner_texts()] == [str(SEEDS)] * len(TRAINED)
    assert buttons.nth(0).is_disabled()
    buttons.nth(1).click()
    tab.settle()
    pictures = [*map(panel, PANELS), '[data-cadence="eval"]', '[data-cadence="log"]']
    for picture in pictures:
        left = {one["arm"] for one in tab.drawn(picture) if isinstance(one["arm"], str)}
        assert left == set(TRAINED) - {"batch_size=64"}


@pytest.mark.slow
def test_the_share_before_the_first_look_is_the_analysis_s_at_every_place_of_the_slider(
    tab: Tab, made: tuple[Path, Plan]
) -> None:
    study, plan = made
    most = int(tab.page.get_attribute("#cadence-eval", "max") or 0)
    seen = set()
    for place in range(most + 1):
        tab.slide("#cadence-eval", place)
        level = f"{tab.page.input_value('#cadence-eval-number')} samples"
        (found,) = resample(study, "eval.every", [level])
        shown = tab.shares("eval")
        assert shown["baseline"] == pytest.approx(found.share_decrease_before_first_eval, rel=1e-12)
        other = plan.arm("batch_size=64")
        first = int(budget_of(other).due("eval.every", level)[0])
        shares = [decrease_before(curve, "loss", first) for curve in curves(study, other.name)]
        assert shown[other.name] == pytest.approx(np.mean([one for one in shares if one is not None]), rel=1e-12)
        bold = of_arm(tab.drawn('[data-cadence="eval"]', "resampled"), "baseline")
        mean = np.mean([[point[2] for point in curve] for curve in found.curve], axis=0)
        np.testing.assert_allclose(bold["y"], mean, rtol=1e-12)
        seen.add(level)
    assert {"64 samples", "128 samples", "256 samples", "512 samples"} <= seen


def shown_by_rows(trace: Trace, due: NDArray[np.int64], column: str, how: Reduction) -> NDArray[np.float64]:
    return reduce_windows(trace[column], window_ends(trace, due), how)


@pytest.mark.parametrize("how", ["mean", "last", "max"])
@pytest.mark.parametrize("curve", ["loss", "grad_norm"])
def test_a_log_with_fewer_rows_keeps_what_a_logger_would_have(
    tab: Tab, made: tuple[Path, Plan], curve: str, how: Any
) -> None:
    study, plan = made
    tab.click(f'[data-curve="{curve}"]')
    tab.click(f'[data-how="{how}"]')
    budget = budget_of(plan.baseline)
    for place in (0, 6, 20):
        tab.slide("#cadence-log", place)
        level = f"{tab.page.input_value('#cadence-log-number')} samples"
        due = budget.due("tracker.log_every", level)
        expected = np.mean([shown_by_rows(trace, due, curve, how) for trace in traces(study, "baseline")], axis=0)
        bold = of_arm(tab.drawn('[data-cadence="log"]', "resampled"), "baseline")
        np.testing.assert_allclose(bold["y"], expected, rtol=2 * RELATIVE_ERROR)
        if curve == "loss":
            (found,) = resample(study, "tracker.log_every", [level])
            assert tab.shares("log")["baseline"] == pytest.approx(found.share_decrease_before_first_eval, rel=1e-12)
        else:
            peaks = [shown_by_rows(t, due, curve, how).max() / t["grad_norm"].max() for t in traces(study, "baseline")]
            assert tab.shares("log")["baseline"] == pytest.approx(np.mean(peaks), rel=1e-4)


def test_log_spaced_rows_and_looks_lie_where_the_loop_would_have_put_them(tab: Tab, made: tuple[Path, Plan]) -> None:
    study, plan = made
    budget = budget_of(plan.baseline)
    tab.click('[data-spacing-log="log"]')
    for place in (0, 5, 12):
        tab.slide("#cadence-log", place)
        count = int(tab.page.input_value("#cadence-log-number"))
        budget.evaluation.num_evaluations = count
        due = budget.due("eval.spacing", "log")
        trace = traces(study, "baseline")[0]
        ends = window_ends(trace, due)
        assert (
            of_arm(tab.drawn('[data-cadence="log"]', "resampled"), "baseline")["x"] == trace["samples"][ends].tolist()
        )
        shares = [
            shares[ends[0]] for trace in traces(study, "baseline") if (shares := train_loss_decrease(trace)) is not None
        ]
        assert tab.shares("log")["baseline"] == pytest.approx(np.mean(shares))
    tab.click('[data-spacing-eval="log"]')
    x = of_arm(tab.drawn('[data-cadence="eval"]', "resampled"), "baseline")["x"]
    recorded = curves(study, "baseline")[0].samples.tolist()
    assert set(x) <= set(recorded)
    assert (x[0], x[-1]) == (0, 1024)


def test_an_interval_can_be_typed_and_goes_to_the_nearest_on_record(tab: Tab) -> None:
    for typed, shown in (("300", "320"), ("520", "512"), ("-3", "512"), ("", "512"), ("1e9", "1024")):
        tab.page.fill("#cadence-eval-number", typed)
        tab.page.press("#cadence-eval-number", "Enter")
        tab.settle()
        assert tab.page.input_value("#cadence-eval-number") == shown


def test_spikes_are_marked_and_the_clipping_limit_is_drawn(tab: Tab, study: Path) -> None:
    (marks,) = tab.drawn(panel("grad_norm"), "spikes")
    expected = [
        value for arm in TRAINED for t in traces(study, arm) for value in t["grad_norm"][spikes(t["grad_norm"])]
    ]
    assert len(expected) > 0
    np.testing.assert_allclose(sorted(marks["y"]), sorted(expected), rtol=RELATIVE_ERROR)
    (limit,) = tab.layout(panel("grad_norm"), "shapes")
    trace = traces(study, "baseline")[0]
    clipped = trace["clip_coefficient"] < 1
    assert limit["y0"] == pytest.approx((trace["clip_coefficient"] * trace["grad_norm"])[clipped][0], rel=1e-3)


def test_every_arm_is_named_at_the_end_of_its_curve_and_no_name_touches_another(tab: Tab) -> None:
    texts = tab.page.locator(f"{panel('eval_loss')} .annotation-text")
    assert sorted(texts.all_text_contents()) == sorted(
        ["baseline", "batch_size 8 → 64", "train_test_ratio 1 → 4", "placebo"]
    )
    boxes = sorted((box["y"], box["height"]) for box in (text.bounding_box() for text in texts.all()))
    assert all(low + height <= high + 3 for (low, height), (high, _) in itertools.pairwise(boxes))


@pytest.mark.slow
def test_the_cadence_is_at_first_the_coarsest_that_the_study_asks_about(browser: Any, study: Path) -> None:
    tab = Tab(browser, study / "report.html")
    assert tab.page.input_value("#cadence-eval-number") == "512"
    x = of_arm(tab.drawn('[data-cadence="eval"]', "resampled"), "baseline")["x"]
    assert x == [0, 512, 1024]
    tab.close()


@pytest.mark.slow
def test_the_contents_lead_to_what_is_folded_and_open_it(browser: Any, study: Path) -> None:
    tab = Tab(browser, study / "report.html")
    assert not tab.page.locator("#runs table").is_visible()
    tab.page.click('nav a[href="#runs"]')
    tab.page.wait_for_timeout(200)
    assert tab.page.locator("#runs table").is_visible()
    tab.close()


def test_hovering_one_panel_shows_the_same_place_in_the_others(tab: Tab) -> None:
    tab.page.locator(panel("loss")).scroll_into_view_if_needed()
    box = tab.page.locator(f"{panel('loss')} .nsewdrag").first.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    tab.page.wait_for_timeout(200)
    for name in PANELS:
        assert "baseline" in (tab.page.text_content(f"{panel(name)} .hoverlayer") or "")


def test_zooming_one_panel_zooms_the_others(tab: Tab) -> None:
    tab.page.evaluate(
        "() => Plotly.relayout(document.querySelector('[data-panel=\"loss\"]'), {'xaxis.range': [100, 400]})"
    )
    tab.page.wait_for_timeout(200)
    assert [tab.layout(panel(name), "xaxis.range") for name in PANELS] == [[100, 400]] * 3
    tab.page.evaluate(
        "() => Plotly.relayout(document.querySelector('[data-panel=\"loss\"]'), {'xaxis.autorange': true})"
    )
    tab.page.wait_for_timeout(200)


def test_every_control_has_a_name_and_answers_to_keys(tab: Tab) -> None:
    tab.page.focus("#cadence-eval")
    before = tab.shares("eval")
    for _ in range(3):
        tab.page.keyboard.press("ArrowRight")
    tab.settle()
    assert tab.shares("eval") != before
    assert "evaluation every" in (tab.page.get_attribute("#cadence-eval", "aria-valuetext") or "")
    tab.page.focus('[data-unit="steps"]')
    tab.page.keyboard.press("Tab")
    outline = tab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert (outline, tab.page.evaluate("() => document.activeElement.dataset.unit")) == ("solid", "samples")
    tab.page.keyboard.press("Enter")
    controls = tab.page.locator("button, input, select")
    names = controls.evaluate_all(
        "(all) => all.map((one) => one.getAttribute('aria-label') || (one.labels && one.labels.length && "
        "one.labels[0].textContent) || one.textContent)"
    )
    assert all(name.strip() for name in names)


@pytest.fixture(scope="module")
def examined(browser: Any, study: Path) -> Iterator[Tab]:
    found = Tab(browser, study / "report.html", bypass_csp=True)  # axe is put into the page
    yield found
    found.close()


def grave(tab: Tab) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab.page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(examined: Tab, scheme: str) -> None:
    examined.page.emulate_media(color_scheme=scheme)
    examined.page.wait_for_timeout(300)
    assert grave(examined) == []


@pytest.mark.slow
def test_axe_would_find_a_slider_without_a_name(examined: Tab) -> None:
    examined.page.eval_on_selector('label[for="smoothing"]', "(one) => one.remove()")
    assert any(text.startswith("label:") for text in grave(examined))


def test_the_first_screen_answers_and_nothing_scrolls_sideways(opened: Tab) -> None:
    for width, height in ((390, 844), (1440, 900)):
        opened.page.set_viewport_size({"width": width, "height": height})
        opened.page.evaluate("() => window.scrollTo(0, 0)")
        opened.page.wait_for_timeout(300)
        over = opened.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over == 0
        parts = ("h1", panel("eval_loss")) if width < 500 else ("h1", panel("eval_loss"), "svg.forest", "#result tbody")
        for part in parts:
            box = opened.page.locator(part).first.bounding_box()
            assert box["y"] + (box["height"] if width > 500 else 150) < height, part


@pytest.mark.slow
def test_what_is_not_folded_is_six_screens_at_most_and_no_table_is_cut(browser: Any, study: Path) -> None:
    tab = Tab(browser, study / "report.html")
    top = "() => document.querySelector('.record').getBoundingClientRect().top + window.scrollY"
    assert tab.page.evaluate(top) <= 6 * 900
    tab.page.eval_on_selector_all("details", "(all) => all.forEach((one) => { one.open = true; })")
    cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.getAttribute('aria-label'))"
    for width in (1440, 390):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.wait_for_timeout(200)
        assert tab.page.eval_on_selector_all(".wide", cut) == []
    tab.close()


@pytest.mark.parametrize("name", ["light", "dark", "phone", "print"])
@pytest.mark.slow
def test_screenshots_are_kept(browser: Any, study: Path, opened: Tab, tmp_path: Path, name: str) -> None:
    folder = Path(chrome.SHOTS) if chrome.SHOTS else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    opened.reset()
    tab = opened
    if name == "phone":
        phone = {
            "viewport": {"width": 390, "height": 844},
            "device_scale_factor": 2,
            "is_mobile": True,
            "has_touch": True,
        }
        tab = Tab(browser, study / "report.html", **phone)
    if name == "dark":
        tab.page.emulate_media(color_scheme="dark")
    if name == "print":
        tab.page.set_viewport_size({"width": 794, "height": 1123})
        tab.page.emulate_media(media="print")
    tab.page.wait_for_timeout(500)
    paper = tab.page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
    line = of_arm(
        tab.page.eval_on_selector(
            panel("eval_loss"),
            "(one) => one.data.map(({meta, line, legendgroup}) => "
            "({arm: meta, color: line && line.color, group: legendgroup})).filter((one) => one.group === 'mean')",
        ),
        "baseline",
    )["color"]
    expected = {"dark": ("rgb(23, 22, 20)", "#d9d5cb"), "print": ("rgb(255, 255, 255)", "#333333")}
    assert (paper, line) == expected.get(name, ("rgb(252, 251, 248)", "#45433e"))
    if name == "print":
        wide = (
            "() => Math.max(...[...document.querySelectorAll('main *')].filter((one) => !one.parentElement.closest('svg'))"
            ".map((one) => one.getBoundingClientRect().right))"
        )
        assert tab.page.evaluate(wide) <= 794
        tab.page.pdf(path=folder / "print.pdf", format="A4")
    tab.page.screenshot(path=folder / f"{name}.png", full_page=True)
    tab.page.emulate_media(media="screen", color_scheme="light")
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    assert tab.complaints == []


@pytest.mark.slow
def test_thinning_in_the_browser_keeps_every_spike_and_gap_as_in_python(browser: Any) -> None:
    values = np.ones(100_000)
    spiked = np.arange(500, 100_000, 1000)
    values[spiked] = 50.0
    listed = [None if place == 777 else value for place, value in enumerate(values.tolist())]
    page = browser.new_page()
    kept = page.evaluate(f"(values) => {{ {static('downsample.js')} return thin(values, 1500); }}", listed)
    page.close()
    assert len(kept) <= 1500
    assert kept == sorted(set(kept))
    assert {0, 777, len(values) - 1, *spiked.tolist()} <= set(kept)
