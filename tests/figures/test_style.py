"""The book's style: set within a figure only; groups in their order, each in its own look; pictures are sharp."""

import io
import struct

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawing import drawn
from IPython.core.pylabtools import print_figure
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from paperlib.figures import _style
from paperlib.figures._style import MARKERS, PALETTE, WIDTH, lines, look, panel, panels


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


def stored(figure) -> bytes:
    """The PNG that a notebook keeps, made by IPython's own function."""
    return print_figure(figure, fmt="png", bbox_inches="tight")


def test_a_notebook_s_png_has_two_dots_a_pixel_and_says_so():
    with panel((WIDTH, 3)) as (figure, ax):
        ax.set_ylabel("words")
    data = stored(figure)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["dpi"] == pytest.approx((192, 192), abs=0.1)
        assert picture.width == pytest.approx(2 * 672, abs=2 * 96 * 0.2)  # it is cropped, and given a margin
    at = data.index(b"pHYs") + 4
    dots, _, unit = struct.unpack(">IIB", data[at : at + 9])
    assert unit == 1 and round(dots * 0.0254) == 192  # by metre


@pytest.mark.parametrize("begin", [panel, lambda size: panels(1, 2, size)])
def test_a_figure_wider_than_the_column_is_refused(begin):
    with begin((WIDTH, 3)) as (figure, _):
        assert figure.get_figwidth() == WIDTH
    with pytest.raises(ValueError, match="at most 7 inches wide, as the book's column is, and is 7.5: stack"):
        begin((7.5, 3)).__enter__()


def test_nothing_lies_behind_a_figure():
    with panel((3, 2), "title") as (figure, ax):
        ax.plot([0, 1], [0, 1], label="one")
        ax.legend()
    with Image.open(io.BytesIO(stored(figure))) as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and np.mean(alpha == 0) > 0.7  # outside the axes, and between the lines inside
    written = io.BytesIO()
    figure.savefig(written)
    with Image.open(written) as picture:
        assert np.asarray(picture.convert("RGBA"))[0, 0, 3] == 0


def test_text_is_dark_and_large_enough():
    with panel((4, 3), "title") as (figure, ax):
        ax.plot([0, 1], [0, 1], label="one")
        ax.set(xlabel="x", ylabel="y")
        ax.legend()
    texts = [t for t in drawn(figure).findobj(Text) if t.get_text()]
    assert {t.get_text() for t in texts} >= {"title", "x", "y", "one"}
    assert min(t.get_fontsize() for t in texts) >= 9
    assert max(max(to_rgb(t.get_color())) for t in texts) <= 0.3
