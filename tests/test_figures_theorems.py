"""Chapter 1's figures draw what their tables say."""

import numpy as np
import pandas as pd
import pytest

from paperlib.figures import theorems as draw


def lines(figure, panel=0):
    """The labelled lines of one panel: label -> (x, y)."""
    return {
        line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in figure.axes[panel].get_lines()
        if not line.get_label().startswith("_")
    }


def rates():
    depth = [2, 4, 8]
    return pd.concat(
        pd.DataFrame({"map": name, "schedule": s, "L": depth, "delta": [k / n for n in depth], "lower": [0.5 / n for n in depth]})
        for name in ("twist", "tanh")
        for k, s in enumerate(draw.SCHEDULES, 1)
    )  # fmt: skip


def test_gradients_multiply_from_the_loss_to_the_input():
    table = pd.DataFrame({"run": "a", "block": [0, 1, 2], "log_ratio": np.log([2.0, 4.0, 0.5])})
    x, y = lines(draw.real_gradients(table))["a"]
    at = dict(zip(x, y, strict=True))
    assert at == pytest.approx({2: 2.0, 1: 0.5, 0: 0.25})


def test_rates_has_a_line_for_each_schedule_and_the_envelope_through_the_last_point():
    figure = draw.rates(rates())
    assert [ax.get_title("left") for ax in figure.axes] == ["twist", "tanh"]
    found = lines(figure)
    assert found[draw.SCHEDULES["arc"]][1] == pytest.approx([3 / 2, 3 / 4, 3 / 8])
    x, y = found["∝ log(2L)/L"]
    assert y == pytest.approx(1 / 8 * (np.log(2 * x) / x) / (np.log(16) / 8))


def test_both_rates_draws_the_scaled_values():
    table = pd.DataFrame({"what": ["a", "a", "b", "b"], "L": [2, 4, 2, 4], "scaled": [1.0, 2.0, 3.0, 3.0]})
    assert lines(draw.both_rates(table))["b"][1].tolist() == [3, 3]


def test_block_spectra_draws_ranges():
    table = pd.DataFrame({"schedule": "arc", "block": [1, 2], "lowest": [0.9, 0.8], "highest": [1.1, 1.3]})
    bars = draw.block_spectra(table).axes[0].patches
    assert [(b.get_y(), b.get_y() + b.get_height()) for b in bars] == [
        pytest.approx((0.9, 1.1)),
        pytest.approx((0.8, 1.3)),
    ]


def test_backward_norms_draws_the_median():
    table = pd.DataFrame({"network": "n", "layer": [2, 1, 0], "lowest": 0.1, "median": [1.0, 0.5, 0.2], "highest": 2.0})
    assert lines(draw.backward_norms(table))["n"][1].tolist() == [1.0, 0.5, 0.2]


def test_carried_grid_names_its_times():
    t = np.repeat([0.0, 0.5, 1.0], 2)
    table = pd.DataFrame({"map": "m", "t": t, "line": 0, "direction": 0, "x": [0, 1] * 3, "y": [0, 1] * 3})
    titles = [ax.get_title() for ax in draw.carried_grid(table).axes]
    assert titles == ["t = 0 (identity)", "t = 0.5", "t = 1 (F)"]


def test_tightness_draws_both_shares():
    table = pd.DataFrame({"block": ["a", "b"], "ratio": [0.5, 0.6], "random": [0.1, 0.2], "bound": [0.25, 0.25]})
    found = lines(draw.tightness(table))
    assert found["‖J − I‖, the worst direction"][0].tolist() == [0.5]
    assert found["change of a random gradient's norm"][0].tolist() == [0.4]


def test_bounds_in_training_has_a_panel_for_each_decay():
    table = pd.DataFrame(
        [
            {"decay": decay, "when": when, "block": block, "bound": 0.1 * block, "delta": 0.05}
            for decay in (0.0, 0.1)
            for when in ("before", "after")
            for block in (1, 2)
        ]
    )
    figure = draw.bounds_in_training(table)
    assert [ax.get_title("left") for ax in figure.axes] == ["weight decay 0", "weight decay 0.1"]
    assert lines(figure, 1)["bound, after training"][1] == pytest.approx([0.1, 0.2])


def test_linear_rates_draws_four_lines_and_gaps():
    table = pd.DataFrame(
        {"L": [2, 4], "distance": [1.0, 0.5], "delta": [0.5, 0.2], "sharp": [2.0, 1.0], "published": [np.nan, 9.0]}
    )
    found = lines(draw.linear_rates(table))
    assert len(found) == 4
    assert found["largest ‖A‖"][1].tolist() == [1.0, 0.5]


def test_descents_marks_a_floor_where_there_is_one():
    table = pd.DataFrame(
        {"target": ["a", "a", "b", "b"], "step": [0, 1] * 2, "excess": [1, 0.1, 1, 0.4], "floor": [0, 0, 0.4, 0.4]}
    )
    figure = draw.descents(table)
    assert lines(figure)["b"][1].tolist() == [1, 0.4]
    flat = [line for line in figure.axes[0].get_lines() if set(line.get_ydata()) == {0.4}]
    assert len(flat) == 1


def test_landscape_marks_the_saddle():
    a = np.linspace(-2, 1, 31)
    first, second = np.meshgrid(a, a)
    table = pd.DataFrame(
        {"a1": first.ravel(), "a2": second.ravel(), "f": ((2 - (1 + first) * (1 + second)) ** 2).ravel()}
    )
    points = [tuple(map(float, line.get_xydata()[0])) for line in draw.landscape(table).axes[0].get_lines()]
    assert (-1.0, -1.0) in points
