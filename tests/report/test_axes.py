"""The list of axes is short and the page of one is whole, both within 80 columns."""

from __future__ import annotations

import io
from typing import get_args

import pytest
from rich.console import Console

from ablate.design.axis import Axis, Kind
from ablate.planning.compose import opened
from ablate.report import print_axes, print_axis
from ablate.report.axes import KINDS, grouped, plain


@pytest.fixture(scope="module")
def axes() -> list[Axis]:
    with opened() as composer:
        return composer.axes()


def shown(call: object, what: object) -> list[str]:
    file = io.StringIO()
    call(what, Console(file=file, width=80))  # type: ignore[operator]
    return file.getvalue().splitlines()


def test_each_axis_has_one_line_of_at_most_80_columns_under_its_kind(axes: list[Axis]) -> None:
    lines = shown(print_axes, axes)
    assert max(map(len, lines)) <= 80
    heads = [line.split()[0] for line, before in zip(lines, ["", *lines], strict=False) if not before]
    assert heads[:-1] == list(KINDS)
    for axis in axes:
        (line,) = (line for line in lines if line.split()[:1] == [axis.name] and axis.question in line)
        assert line.endswith(axis.question) or line.rstrip().endswith(axis.question)


def test_every_kind_has_words_and_no_axis_is_lost(axes: list[Axis]) -> None:
    assert set(KINDS) == set(get_args(Kind))
    assert sorted(axis.name for _, mine in grouped(axes) for axis in mine) == [axis.name for axis in axes]


def test_one_axis_is_shown_with_all_that_it_declares(axes: list[Axis]) -> None:
    for axis in axes:
        lines = shown(print_axis, axis)
        text = " ".join(" ".join(lines).split())
        assert axis.question in text
        assert all(word in text for word in (*axis.keys, *axis.must_match, *axis.may_change))
        assert " ".join(plain(axis.notes).split()) in text
        assert lines[-1] == axis.command
        assert max(map(len, lines[:-1])) <= 80
        assert "`" not in text
