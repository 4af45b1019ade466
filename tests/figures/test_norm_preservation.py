"""Chapter 1's figures draw what their tables say."""

import numpy as np
import pandas as pd
import pytest
from drawing import drawn

from paperlib.figures import norm_preservation as draw
from paperlib.figures._style import ARCHITECTURES


def lines(figure, panel=0):
    """The labelled lines of one panel: label -> (x, y)."""
    return {
        line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in figure.axes[panel].get_lines()
        if not line.get_label().startswith("_")
    }


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(ax):
    return [tick.get_text() for tick in ax.get_xticklabels()]


def rates():
    depth = [2, 4, 8]
    return pd.concat(
        pd.DataFrame(
            {"map": name, "schedule": s, "L": depth, "delta": [k / n for n in depth], "lower": [0.5 / n for n in depth]}
        )
        for name in ("twist", "tanh")
        for k, s in enumerate(draw.SCHEDULES, 1)
    )


def test_gradients_multiply_from_the_loss_to_the_input():
    table = pd.DataFrame({"run": "a", "arch": "resnet", "block": [0, 1, 2], "log_ratio": np.log([2.0, 4.0, 0.5])})
    figure = drawn(draw.real_gradients(table, "title"))
    x, y = lines(figure)["a"]
    at = dict(zip(x, y, strict=True))
    assert at == pytest.approx({2: 2.0, 1: 0.5, 0: 0.25})
    ax = figure.axes[0]
    assert (ax.get_title("left"), ax.get_yscale(), legend(ax)) == ("title", "log", ["a"])
    assert labels(ax)[0].startswith("block l: the input is on the left")
    assert [line.get_color() for line in ax.get_lines() if line.get_label() == "a"] == [ARCHITECTURES["resnet"]]


def test_rates_has_a_line_for_each_schedule_and_the_envelope_through_the_last_point():
    figure = drawn(draw.rates(rates()))
    assert [ax.get_title("left") for ax in figure.axes] == ["twist", "tanh"]
    found = lines(figure)
    assert found[draw.SCHEDULES["arc"]][1] == pytest.approx([3 / 2, 3 / 4, 3 / 8])
    x, y = found["∝ log(2L)/L"]
    assert y == pytest.approx(1 / 8 * (np.log(2 * x) / x) / (np.log(16) / 8))
    for ax in figure.axes:
        assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", "number of blocks L")
        assert ticks(ax) == ["2", "4", "8"]
        edge = ax.collections[0].get_paths()[0].vertices  # of the grey region
        assert {tuple(v) for v in edge} >= {(2, 0.25), (4, 0.125), (8, 0.0625)}
    assert figure.axes[0].get_ylabel() == "δ: largest change of a gradient's norm"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "∝ log(2L)/L",
        *draw.SCHEDULES.values(),
        "impossible",
    ]


def test_block_spectra_draws_ranges():
    table = pd.DataFrame({"schedule": "arc", "block": [1, 2], "lowest": [0.9, 0.8], "highest": [1.1, 1.3]})
    ax = drawn(draw.block_spectra(table)).axes[0]
    assert (ax.get_title("left"), labels(ax)) == ("equal arcs", ("block", "singular values"))
    bars = ax.patches
    assert [round(b.get_x() + b.get_width() / 2, 9) for b in bars] == [1, 2]
    assert [(b.get_y(), b.get_y() + b.get_height()) for b in bars] == [
        pytest.approx((0.9, 1.1)),
        pytest.approx((0.8, 1.3)),
    ]


def test_carried_grid_names_its_times():
    t = np.repeat([0.0, 0.5, 1.0], 2)
    table = pd.DataFrame({"map": "m", "t": t, "line": 0, "direction": 0, "x": [0, 1] * 3, "y": [0, 1, 0, 2, 0, 3]})
    axes = drawn(draw.carried_grid(table)).axes
    assert [ax.get_title() for ax in axes] == ["t = 0 (identity)", "t = 0.5", "t = 1 (F)"]
    assert axes[0].get_ylabel() == "m"
    assert [ax.get_lines()[0].get_ydata().tolist() for ax in axes] == [[0, 1], [0, 2], [0, 3]]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1  # one scale, and all of the grid within it
    assert axes[0].get_ylim()[1] > 3


def test_tightness_draws_both_shares():
    table = pd.DataFrame(
        {"block": ["a", "dense, 16"], "ratio": [0.5, 0.6], "random": [0.1, 0.2], "bound": [0.25, 0.25]}
    )
    figure = drawn(draw.tightness(table))
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "dense, width 16"]
    assert ax.get_xlabel() == "measured, over the bound"
    found = lines(figure)
    assert {tuple(y) for _, y in found.values()} == {(0, 1)}
    assert len(figure.legends[0].get_texts()) == len(found) == 2
    assert found["‖J − I‖, the worst direction"][0].tolist() == [0.5, 0.6]
    assert found["change of a random gradient's norm"][0].tolist() == [0.4, 0.8]


def test_bounds_in_training_has_a_panel_for_each_decay_and_marks_the_paper_s():
    table = pd.DataFrame(
        [
            {"decay": decay, "step": step, "block": block, "bound": 0.1 * block, "delta": 0.05}
            for decay in (0.0, 1e-4, 0.1)
            for step in (0, 3000)
            for block in (1, 2)
        ]
    )
    figure = drawn(draw.bounds_in_training(table, paper=1e-4))
    titles = [ax.get_title("left") for ax in figure.axes]
    assert titles == ["weight decay\n0", "weight decay\n0.0001 (the paper’s)", "weight decay\n0.1"]
    assert lines(figure, 1)["bound, step 3,000"][1] == pytest.approx([0.1, 0.2])
    assert lines(figure, 1)["δ, step 0"][1] == pytest.approx([0.05, 0.05])
    names = ["bound, step 0", "δ, step 0", "bound, step 3,000", "δ, step 3,000"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert [ax.get_xlabel() for ax in figure.axes] == ["block"] * 3


def test_descents_marks_a_floor_where_there_is_one():
    table = pd.DataFrame(
        {"target": ["a", "a", "b", "b"], "step": [0, 1] * 2, "excess": [1, 0.1, 1, 0.4], "floor": [0, 0, 0.4, 0.4]}
    )
    figure = drawn(draw.descents(table))
    assert lines(figure)["b"][1].tolist() == [1, 0.4]
    flat = [line for line in figure.axes[0].get_lines() if set(line.get_ydata()) == {0.4}]
    assert len(flat) == 1
    ax = figure.axes[0]
    assert (labels(ax), ax.get_yscale(), legend(ax)) == (("step of gradient descent", "excess risk"), "log", ["a", "b"])
