"""Figure 4 and the final errors, drawn."""

import numpy as np
import pytest
import section4_tables as tables
from drawing import drawn, lines

from paperlib.figures import section4 as draw


def test_curves_are_means_over_seeds():
    figure = drawn(draw.learning(tables.curves(), "title", guessing=90))
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["Plain", "ResNet", "ProcResNet"]
    assert list(lines(figure, 0)) == ["depth 20", "depth 83", "depth 164"]
    assert lines(figure, 0)["depth 83"][1].tolist() == pytest.approx([2, 1, 2 / 3])
    assert lines(figure, 4)["depth 20"][1].tolist() == [81, 71, 61]
    assert [line.get_ydata()[0] for line in figure.axes[3].lines][-1] == 90


def test_a_loss_that_blew_up_is_cut_off():
    table = tables.curves(archs=("plain",), depths=(20,))
    table.loc[table.epoch == 3, "train_loss"] = 1e6
    table.loc[table.epoch == 2, "train_loss"] = np.inf
    figure = drawn(draw.learning(table))
    assert figure.axes[0].get_ylim()[1] == pytest.approx(6)
    assert [text.get_text() for text in figure.axes[1].texts] == ["no record yet"]


def test_no_record_no_curve():
    figure = drawn(draw.learning(tables.curves().iloc[:0], guessing=90))
    assert all([text.get_text() for text in ax.texts] == ["no record yet"] for ax in figure.axes)


def test_each_run_is_a_point_and_each_mean_a_bar():
    figure = drawn(draw.error_dots(tables.errors(), "network", ["resnet-20", "none", "plain-164"], "title"))
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["resnet-20", "plain-164"]
    points = [line for line in ax.lines if line.get_ls() == "None"]
    assert sorted(points[0].get_xdata()) == [50, 54]
    assert points[3].get_xdata().tolist() == [90] and points[3].get_markerfacecolor() == "none"
    bars = [line.get_xdata()[0] for line in ax.lines if line.get_ls() == "-"]
    assert bars == [52]  # one run has no mean
    assert ax.get_title(loc="left") == "title"


@pytest.mark.parametrize("error", [1.0, 50.0, 99.5])
def test_one_run_each_shows_no_order_on_a_wide_axis(error):
    table = tables.errors().drop_duplicates("network").assign(test_error=[error, error + 0.1, error + 0.2])
    ax = drawn(draw.error_dots(table, "network", title="title")).axes[0]
    assert ax.get_title(loc="left").splitlines() == ["title", "one run each, so the order shows nothing"]
    assert not [line for line in ax.lines if line.get_ls() == "-"]
    low, high = ax.get_xlim()
    assert high - low == pytest.approx(10) and low >= 0 and high <= 100 and low < error < error + 0.2 < high


def test_what_is_wide_already_stays():
    low, high = drawn(draw.error_dots(tables.errors(), "network")).axes[0].get_xlim()
    assert low == pytest.approx(48) and high == pytest.approx(92)


def test_no_run_no_point():
    figure = drawn(draw.error_dots(tables.errors().iloc[:0], "network", ["resnet-20"]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no record yet"]
