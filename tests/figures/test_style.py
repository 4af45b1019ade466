"""The book's style: set within a figure only; groups are drawn in their order, each in its own colour and marker."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawing import drawn

from paperlib.figures import _style
from paperlib.figures._style import MARKERS, PALETTE, lines, look, panel, panels


@pytest.mark.parametrize("end", [None, ZeroDivisionError])
def test_settings_are_as_before(end):
    before = dict(mpl.rcParams)
    try:
        with panel((3, 2), "title"):
            assert dict(mpl.rcParams) != before
            if end:
                raise end
    except ZeroDivisionError:
        pass
    assert dict(mpl.rcParams) == before


def test_panels_come_as_rows_and_columns_under_one_title():
    with panels(2, 3, (6, 4), "over all") as (figure, axes):
        assert axes.shape == (2, 3)
    assert drawn(figure).get_suptitle() == "over all"
    with panels(1, 1, (6, 4)) as (figure, axes):
        assert axes.shape == (1, 1)
    assert figure.get_suptitle() == ""


def test_looks_repeat_late():
    looks = [(look(i)["color"], look(i)["marker"]) for i in range(40)]
    assert len(set(looks)) == 40
    assert look(0)["color"] == PALETTE[0] and look(11)["color"] == PALETTE[1] and look(9)["marker"] == MARKERS[1]


def test_lines_keep_the_order_of_the_table():
    table = pd.DataFrame({"run": ["b", "a", "b"], "y": [1, 2, 3]})
    found = list(lines(table, "run"))
    assert [name for name, _, _ in found] == [style["label"] for _, _, style in found] == ["b", "a"]
    assert [rows.y.tolist() for _, rows, _ in found] == [[1, 3], [2]]
    assert [style["color"] for _, _, style in found] == list(PALETTE[:2])


def test_a_logarithmic_axis_in_plain_numbers():
    with panel((4, 3)) as (figure, ax):
        ax.plot([2, 4, 16], [1, 2, 3])
        ax.set_xscale("log", base=2)
        ax.set_xticks([2, 4, 16])
        _style.plain_numbers(ax.xaxis)
        _style.line_at_one(ax)
        _style.marked_line(ax, 1, [2, 4], [1, 1], "one", lw=3)
    drawn(figure)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "4", "16"]
    assert np.asarray(ax.lines[1].get_ydata()).tolist() == [1, 1]
    assert (ax.lines[2].get_color(), ax.lines[2].get_marker(), ax.lines[2].get_linewidth()) == (PALETTE[1], "s", 3)
