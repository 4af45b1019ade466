"""The channel grid's figures: one scale, numbers in the cells, dead cells said, any size of grid."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from drawing import drawn, lines

from paperlib.figures import channel_grid as draw


def texts(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def grid(channels, variants=("a", "b"), ratio=1.5, dead=0):
    rows = [
        {"variant": v, "c": c, "d": d, "ratio": ratio, "spread": 1.1, "alive": 3 - dead, "dead": dead}
        for v, c, d in itertools.product(variants, channels, channels)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("channels", [(2,), (2, 8), (2, 4, 8, 16, 32), (2, 4, 8, 16, 32, 64, 128)])
@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_heat_maps(channels, n):
    titles = {chr(97 + i): f"title {i}" for i in range(n)}
    figure = drawn(draw.heat_maps(grid(channels, titles), titles, title="all"))
    shown = texts(figure)
    assert shown.count("1.50") == n * len(channels) ** 2
    assert figure.get_figwidth() == 7
    # One scale for all panels, and white is 1.
    images = [image for ax in figure.axes for image in ax.images]
    assert len(images) == n
    assert {(image.norm.vmin, image.norm.vmax) for image in images} == {(-2, 2)}
    assert images[0].cmap(images[0].norm(0.0))[:3] == pytest.approx((0.965, 0.965, 0.965), abs=0.02)
    assert all(np.allclose(image.get_array(), math.log2(1.5)) for image in images)


@pytest.mark.parametrize("channels", [(2, 4, 8, 16, 32), (2, 4, 8, 16, 32, 64, 128)])
def test_numbers_fit_their_cells(channels):
    """However many channels, and however many panels were asked for: then fewer stand side by side."""
    figure = drawn(draw.heat_maps(grid(channels, "abc"), {v: v for v in "abc"}, columns=3))
    ax = figure.axes[0]
    cell = ax.get_window_extent().width / len(channels)
    assert max(t.get_window_extent().width for t in ax.texts) < cell
    assert min(t.get_fontsize() for ax in figure.axes for t in ax.texts) >= 9


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("channels", [(2,), (2, 8, 32), (2, 4, 8, 16, 32)])
def test_titles_stand_apart_and_the_colour_bar_is_as_high_as_the_panels(channels, columns):
    titles = {name: f"all three kernels are free, start {name}" for name in "abcd"}
    figure = drawn(draw.heat_maps(grid(channels, titles), titles, columns=columns, title="all"))
    panels, bar = figure.axes[:4], figure.axes[-1]
    for left, right in itertools.pairwise(panels[:columns]):
        gap = right._left_title.get_window_extent().x0 - left._left_title.get_window_extent().x1
        assert gap > 10  # pixels
    height = max(ax.get_position().y1 for ax in panels) - min(ax.get_position().y0 for ax in panels)
    # The triangles at its ends, which stand for what is off the scale, belong to it.
    assert bar.get_position().height > 0.85 * height


def test_cells_lie_where_their_channels_are():
    table = grid((2, 4), ("a",))
    table.loc[(table.c == 4) & (table.d == 2), "ratio"] = 3.0
    ax = drawn(draw.heat_maps(table, {"a": "a"})).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["2", "4"] and ax.get_ylabel() == "input channels c"
    array = ax.images[0].get_array()
    assert array[1, 0] == pytest.approx(math.log2(3)) and array[0, 1] == pytest.approx(math.log2(1.5))
    (three,) = [t for t in ax.texts if t.get_text() == "3.00"]
    assert three.get_position()[0] == 0 and round(three.get_position()[1]) == 1


def test_extremes_and_the_dead():
    table = grid((2, 4), ("a",), dead=1)
    table.loc[0, ["ratio", "spread", "alive", "dead"]] = [math.nan, math.nan, 0, 3]
    table.loc[1, ["ratio", "spread"]] = [1e4, 20.0]
    table.loc[2, ["ratio", "spread"]] = [1e-3, math.nan]
    shown = texts(drawn(draw.heat_maps(table, {"a": "a"})))
    assert shown[0] == "dead"
    assert "10000\n†1" in shown and "0.00\n†1" in shown


def test_factor_maps():
    rows = [
        {"c": c, "d": d, "assumption": a, "ratio": 1.25}
        for a, c, d in itertools.product(("ReLU", "row space", "crop"), (2, 4, 8), (2, 4, 8))
    ]
    figure = drawn(draw.factor_maps(pd.DataFrame(rows), "title"))
    assert texts(figure).count("1.25") == 3 * 9
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["ReLU", "row space", "crop"]


def test_held_against_free():
    """A place for each pair, in groups by outputs; the line has the colour of what is nearer; the dead are marked."""
    table = pd.concat([grid((2, 4), ("free",), ratio=3.0), grid((2, 4), ("held",), ratio=0.5)])
    table.loc[(table.variant == "free") & (table.c == 4) & (table.d == 2), ["ratio", "dead"]] = [1.1, 2]
    figure = drawn(
        draw.against({"a rate": table, "another": table}, {"free": "it is free", "held": "it is held"}, 1.25)
    )
    ax = figure.axes[0]
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a rate", "another"]
    free, held = (lines(figure)[name] for name in ("it is free", "it is held"))
    assert sorted(zip(*free, strict=True)) == [(0, 3), (1, 1.1), (3, 3), (4, 3)]
    assert sorted(zip(*held, strict=True)) == [(0, 0.5), (1, 0.5), (3, 0.5), (4, 0.5)]
    marks = {line.get_label(): line for line in ax.lines}
    assert marks["it is free"].get_zorder() > marks["it is held"].get_zorder()  # a hollow mark on a filled one
    assert marks["it is free"].get_ms() > marks["it is held"].get_ms()
    assert marks["it is free"].get_mfc() == "none"
    bars = {line.get_xdata()[0]: line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_lw() == 2}
    colours = {line.get_label(): line.get_color() for line in ax.lines}
    # ln 3 is more than ln 2, and 1.1 is nearer to 1 than 0.5 is.
    nearer = {0: "it is held", 1: "it is free", 3: "it is held", 4: "it is held"}
    assert {x: bar.get_color() for x, bar in bars.items()} == {x: colours[name] for x, name in nearer.items()}
    assert [t.xy for t in ax.texts if t.get_text() == "†"] == [(1, 1.1)]
    assert [t.get_text() for t in ax.texts if t.get_text() != "†"] == ["d = 2", "d = 4"]
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["2", "4", "2", "4"]
    (band,) = [patch.get_extents() for patch in ax.patches]
    low, high = ax.transData.inverted().transform(band)[:, 1]
    assert (low, high) == pytest.approx((0.8, 1.25))


def test_courses():
    rows = [
        {"variant": v, "c": c, "d": 2, "epoch": e, "ratio": 1 + i + e}
        for (i, v), c, e in itertools.product(enumerate("ab"), (2, 4), (0, 3, 1))
        if (v, c) != ("b", 4)
    ]
    figure = drawn(draw.courses(pd.DataFrame(rows), {"a": "always", "b": "sometimes"}))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["2 → 2", "4 → 2"]
    assert {name: y.tolist() for name, (_, y) in lines(figure).items()} == {"always": [1, 2, 4], "sometimes": [2, 3, 5]}
    assert list(lines(figure, 1)) == ["always"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["always", "sometimes"]


def test_over_time():
    rows = [
        {"variant": v, "step": s, "distance": 1 + i + s / 100} for i, v in enumerate("abcdefg") for s in (0, 25, 100)
    ]
    figure = drawn(draw.over_time(pd.DataFrame(rows), {v: f"variant {v}" for v in "abcdefg"}, "title"))
    shown = figure.axes[0].lines
    assert len(shown) == 7 and list(shown[0].get_ydata()) == [1, 1.25, 2]


def test_explanations():
    rows = [
        {"c": c, "d": d, "seed": s, "step": step, "share": 0.8 + 0.1 * s, "white": 1.0, "effective_rank": 3.0,
         "correlated": 0.4, "small space": 0.01}
        for c, d in ((2, 4), (2, 8), (4, 8)) for s in range(4) for step in (0, 9)
    ]  # fmt: skip
    figure = drawn(draw.explanations(pd.DataFrame(rows), {0: "before", 9: "after"}, "title"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["before", "after"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(np.round(line.get_ydata(), 3)) for line in dots] == [[0.8, 0.9, 1.0, 1.1]] * 3
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["2 → 4", "2 → 8", "4 → 8"]
    assert len(figure.legends[0].get_texts()) == 4


def test_what_was_not_measured_is_left_out_or_said():
    titles = {"a": "measured", "z": "not measured"}
    assert len([ax for ax in drawn(draw.heat_maps(grid((2, 4), ("a",)), titles)).axes if ax.images]) == 1
    rows = [{"variant": "a", "step": s, "distance": 1.5} for s in (0, 5)]
    assert len(drawn(draw.over_time(pd.DataFrame(rows), titles)).axes[0].lines) == 1
    for figure in (
        draw.heat_maps(grid((2, 4), ("a",)), {"z": "not measured"}, title="t"),
        draw.factor_maps(pd.DataFrame(columns=["c", "d", "assumption", "ratio"]), "t"),
        draw.explanations(pd.DataFrame(columns=["c", "d", "step"]), {0: "start"}, "t"),
    ):
        assert texts(drawn(figure)) == ["not measured in this grid"]
