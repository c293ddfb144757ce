"""report.html as a file: whole, safe, the same every time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from ablate.report.html import environment, page
from ablate.report.section import Cell
from ablate.report.view_model import make_view
from tests.report.conftest import Study
from tests.report.made_up import contrast
from tests.report.packed import unpacked
from tests.report.test_tables import renamed

HOSTILE = "</script><script>alert(1)</script>"


def own_part(text: str) -> str:
    """The page less plotly's bundle, which is not ours to judge."""
    from plotly.offline import get_plotlyjs

    return text.replace(get_plotlyjs(), "")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(study: Study) -> str:
    return page(make_view(study.analysis), study.folder)


def test_building_twice_gives_the_same_bytes(study: Study, text: str) -> None:
    assert page(make_view(study.analysis), study.folder) == text


def test_it_refers_to_nothing_outside_itself(text: str) -> None:
    tags = Tags()
    tags.feed(own_part(text))
    assert tags.open == []
    for tag, attributes in tags.seen:
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name) or ""
            assert not re.match(r"([a-z]+:)?//", value), (tag, value)
    assert "@import" not in own_part(text)
    assert "url(" not in own_part(text)
    assert "default-src 'none'" in text


def test_plotly_is_in_it_once(text: str) -> None:
    from plotly.offline import get_plotlyjs

    assert text.count(get_plotlyjs()) == 1


def test_a_hostile_name_stays_a_name(study: Study) -> None:
    hostile = replace(
        renamed(study.analysis, "batch_size=64", HOSTILE),
        question=HOSTILE,
        study=HOSTILE,
        command=HOSTILE,
        conclusions=(HOSTILE,),
        notes=(HOSTILE,),
    )
    text = own_part(page(make_view(hostile), study.folder))
    assert "<script>alert" not in text
    tags = Tags()
    tags.feed(text)
    assert sum(tag == "script" for tag, _ in tags.seen) == 3
    data = re.search(r'id="curves-data">(.*?)</script>', text)
    assert data
    assert HOSTILE in [arm["name"] for arm in json.loads(data[1])["arms"]]


def test_every_arm_and_seed_is_in_the_curves(study: Study, text: str) -> None:
    data = re.search(r'id="curves-data">(.*?)</script>', text)
    assert data
    curves = json.loads(data[1])
    assert [arm["name"] for arm in curves["arms"]] == ["baseline", "batch_size=64", "train_test_ratio=4", "placebo"]
    for arm in curves["arms"]:
        assert [run["seed"] for run in arm["runs"]] == [0, 1, 2]
        assert {run["status"] for run in arm["runs"]} == {"finished"}
    assert len(unpacked(curves["arms"][0]["runs"][0]["grad_norm"]["each"])) == 128
    assert curves["start"] == {"eval": 512, "log": 64.0}  # the coarsest cadence that the study asks about


def test_the_first_screen_has_question_answer_and_table_in_that_order(study: Study, text: str) -> None:
    body = own_part(text)
    marks = [
        study.analysis.question,
        "batch_size 8 → 64 hurts eval_loss (+0.178 nats)",
        'data-panel="eval_loss"',
        "Effect on eval_loss (nats)",
        '<th scope="col">arm</th>',
        study.analysis.conclusions[2],
        'id="cadence"',
        'data-panel="grad_norm"',
    ]
    places = [body.index(mark, body.index("<main>")) for mark in marks]
    assert places == sorted(places)


def test_a_row_has_mean_effect_interval_and_verdict_and_how_sure_is_folded_below(text: str) -> None:
    body = own_part(text)
    rows = [row[: row.index("</tr>")] for row in body.split("batch_size 8 → 64</th>")[1:]]
    marks = ["0.68", "± 0.00", "+0.178", "[0.160, 0.196]", "<b>hurts</b>"]
    places = [rows[0].index(mark) for mark in marks]
    assert places == sorted(places)
    assert all(mark in rows[1] for mark in ("0.171, 0.177, 0.186", "0%", "21", "0.00080"))
    assert "<summary>How sure</summary>" in body
    assert "Intervals: 95% simultaneous intervals over 2 variants (Dunnett), seed-blocked" in body


def test_every_metric_with_an_effect_has_one_forest_with_its_seeds(study: Study, text: str) -> None:
    body = own_part(text)
    drawn = dict(re.findall(r'<svg class="forest"[^>]*aria-label="Effects on (\w+)">(.*?)</svg>', body, re.S))
    assert set(drawn) == {"eval_loss", "grad_norm_p95_p5"}
    seeds = sum(len(one.differences) for one in study.analysis.contrasts if one.primary)
    assert drawn["eval_loss"].count("<circle") == seeds
    assert drawn["eval_loss"].count('class="range"') == 3
    assert 'class="band"' in drawn["eval_loss"]
    assert 'class="band"' not in drawn["grad_norm_p95_p5"]  # only the primary metric has a smallest effect
    assert list(re.findall(r'<g class="(\w+)">', drawn["eval_loss"])) == ["v1", "v2", "placebo"]


def test_every_entry_of_the_contents_leads_to_a_section_and_what_is_long_is_folded(text: str) -> None:
    body = own_part(text)
    targets = re.findall(r'<li><a href="#([\w-]+)">', body)
    assert len(targets) == len(set(targets))
    assert all(f'id="{target}"' in body for target in targets)
    open_until = body.index('<div class="record">')
    for folded in ("metrics", "controls", "configs", "throughput", "runs", "reproduce"):
        assert body.index(f'<div id="{folded}">') > open_until


def test_colour_belongs_to_arms_alone(text: str) -> None:
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    named = set(re.findall(r"--([\w]+): #", style[1]))
    assert named == {
        "paper",
        "ink",
        "soft",
        "line",
        "edge",
        "shade",
        "band",
        "baseline",
        "placebo",
        *(f"v{k}" for k in range(1, 7)),
    }


def test_an_outcome_without_a_better_side_is_above_and_does_not_beat(study: Study) -> None:
    spread = replace(contrast("batch_size=64"), metric="grad_norm_p95_p5", verdict="lowers")
    text = own_part(
        page(make_view(replace(study.analysis, metric="grad_norm_p95_p5", contrasts=(spread,))), study.folder)
    )
    assert "above baseline" in text
    assert "beats baseline" not in text


def test_a_failed_run_and_control_are_named(study: Study) -> None:
    first, *rest = study.analysis.runs
    broken = replace(first, status="failed", sentence="ValueError at step 64: made up to fail")
    control = replace(study.analysis.controls[1], status="failed", sentence="init differs at seed 1: layer.1")
    text = page(make_view(replace(study.analysis, runs=(broken, *rest), controls=(control,))), study.folder)
    assert "ValueError at step 64: made up to fail" in text
    assert "init differs at seed 1: layer.1" in text
    assert "Runs: 11 of 12 finished" in text


def test_missing_parts_leave_no_hole(study: Study) -> None:
    bare = replace(study.analysis, contrasts=(), replays=(), controls=(), conclusions=(), runs=(), notes=(), command="")
    tags = Tags()
    tags.feed(own_part(page(make_view(bare), study.folder)))
    assert tags.open == []


def test_cells_escape_text_and_attributes() -> None:
    parts: Any = environment().get_template("parts.html").module
    made = str(parts.cell(Cell(text="<i>", href='"<&', detail="<b>")))
    assert made == '<a href="&#34;&lt;&amp;">&lt;i&gt;</a> <small>&lt;b&gt;</small>'


def test_embedded_json_reads_back_and_cannot_end_its_element() -> None:
    value = {"name": "</script><!--", "y": [1.5, None]}
    text = environment().from_string("{{ value|tojson }}").render(value=value)
    assert "<" not in text
    assert json.loads(text) == value
