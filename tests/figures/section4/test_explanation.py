"""Errors against norm preservation: a point a run."""

import math

import pytest
import section4_tables as tables
from drawing import drawn

from paperlib.figures import section4 as draw


def test_each_run_is_a_point():
    table = tables.errors().assign(residual=[0.1, 0.2, 1.0, 2.0], transition=[0.5, math.nan, 1.0, 2.0])
    figure = drawn(draw.explanation(table, "title"))
    left, right = figure.axes
    assert [line.get_xdata()[0] for line in left.lines] == pytest.approx([math.exp(v) for v in (0.1, 0.2, 1.0, 2.0)])
    assert [line.get_ydata()[0] for line in left.lines] == [50, 54, 90, 90]
    assert len(right.lines) == 3
    hollow = [line.get_markerfacecolor() == "none" for line in left.lines]
    assert hollow == [False, False, True, True]


def test_no_run_no_point():
    table = tables.errors().assign(residual=0.1, transition=0.1).iloc[:0]
    for ax in drawn(draw.explanation(table)).axes:
        assert [text.get_text() for text in ax.texts] == ["no record yet"]
