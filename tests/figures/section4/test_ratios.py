"""Figure 3 and the first ratios: what is in the tables is drawn, nothing is drawn where there is nothing."""

import math

import numpy as np
import pytest
import section4_tables as tables
from drawing import drawn, lines

from paperlib.figures import section4 as draw


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_each_network_has_its_panel():
    table = tables.ratios(archs=("plain", "resnet"), depths=(20, 164), seeds=(0,))
    figure = drawn(draw.ratio_grid(table, {("plain", 20): "diverged in epoch 3"}, "title"))
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes}
    assert list(panels) == [
        "Plain-20", "Plain-83", "Plain-164", "ResNet-20", "ResNet-83", "ResNet-164",
        "ProcResNet-22", "ProcResNet-85", "ProcResNet-166",
    ]  # fmt: skip
    assert texts(panels["Plain-20"]) == ["diverged in epoch 3"]
    assert texts(panels["ProcResNet-22"]) == ["no record yet"] == texts(panels["Plain-83"])
    drawn_lines = [line for line in panels["ResNet-164"].lines if len(line.get_xdata()) == 4]
    assert len(drawn_lines) == len(tables.BLOCKS)
    assert drawn_lines[0].get_ydata() == pytest.approx([math.exp(-0.1)] * 4)
    limits = {ax.get_ylim() for ax in figure.axes}
    assert len(limits) == 1  # one scale


def test_what_is_off_the_scale_stands_at_its_edge():
    table = tables.ratios(archs=("plain",), depths=(20,), seeds=(0,), value=20.0)
    figure = drawn(draw.ratio_grid(table, archs=["plain"], depths=[20]))
    marks = {
        line.get_marker(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines if line.get_ls() == "None"
    }
    assert set(marks) == {"v", "^"}
    assert set(marks["v"]) == {1 / 8} and set(marks["^"]) == {8.0}


def test_distances_are_means_over_seeds_with_a_band():
    table = tables.ratios(depths=(20,))
    table.loc[table.seed == 1, "log_ratio"] *= 3
    figure = drawn(draw.distances(table[table.epoch > 0], "title"))
    found = lines(figure, 0)
    assert list(found) == ["Plain", "ResNet", "ProcResNet"]
    assert found["Plain"][1] == pytest.approx([math.exp(0.2)] * 3)
    low, high = figure.axes[0].collections[0].get_paths()[0].get_extents().intervaly
    sd = 0.1 * math.sqrt(2)
    assert (low, high) == pytest.approx((math.exp(0.2 - sd), math.exp(0.2 + sd)))
    assert texts(figure.axes[1]) == ["no record yet"]


def test_one_seed_has_no_band():
    figure = drawn(draw.distances(tables.ratios(seeds=(0,)).query("epoch > 0")))
    heights = [path.get_extents().height for c in figure.axes[0].collections for path in c.get_paths()]
    assert not any(height > 0 for height in heights)


def test_beginnings_show_what_was_measured_and_what_was_predicted():
    figure = drawn(draw.beginnings(tables.beginnings(archs=("resnet",)), "title"))
    ax = next(ax for ax in figure.axes if ax.get_title(loc="left") == "ResNet-83")
    by_marker = {line.get_marker(): np.asarray(line.get_ydata()) for line in ax.lines if line.get_ls() == "None"}
    assert by_marker["o"] == pytest.approx(np.exp([0.1, -0.1, -0.1]))  # three residual blocks
    assert by_marker["x"] == pytest.approx(np.exp([-0.2, -0.2]))  # the prediction at two transitions
    dotted = next(line for line in ax.lines if line.get_ls() == ":")
    assert np.nanmax(dotted.get_ydata()) == pytest.approx(math.exp(-0.3))


def test_profiles_show_the_epochs_that_are_there():
    figure = drawn(draw.profiles(tables.ratios(archs=("plain", "resnet")), 164, (0, 1, 3), "title"))
    assert list(lines(figure, 0)) == ["before training", "epoch 1", "epoch 3", "theory, before training"]
    assert texts(figure.axes[2]) == ["no record yet"]


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        (draw.ratio_grid, tables.ratios()),
        (draw.distances, tables.ratios()),
        (draw.beginnings, tables.beginnings()),
        (lambda table: draw.profiles(table, 164, (0,)), tables.ratios()),
    ],
)
def test_an_empty_table_draws_empty_panels(figure, table):
    axes = drawn(figure(table.iloc[:0])).axes
    assert all("no record yet" in texts(ax) for ax in axes)


def test_figures_fit_the_page():
    for figure in (draw.ratio_grid(tables.ratios()), draw.distances(tables.ratios())):
        assert figure.get_figwidth() * 96 <= 672
