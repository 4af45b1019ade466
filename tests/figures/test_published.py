"""Appendix A's figures draw what their tables say."""

import math

import numpy as np
import pandas as pd
import pytest
from drawing import drawn, lines

from paperlib.figures import published


def taps():
    """Two kernels: all energy in the corner of ``b``, evenly spread in ``a``; nothing left ``after``."""
    return pd.DataFrame(
        {"kernel": k, "stage": s, "row": i, "column": j, "energy": e * (1.0 if k == "a" else float(i == j == 0))}
        for k in "ab"
        for s, e in (("before", 1.0), ("after", 0.0))
        for i in range(3)
        for j in range(3)
    )


def test_tap_energy_shows_shares():
    axes = drawn(published.tap_energy(taps(), "title")).axes
    assert [ax.get_title() for ax in axes] == ["before", "after", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["a", "", "b", ""]
    assert [ax.get_xlabel() for ax in axes] == ["energy 9.0", "nothing left", "energy 1.0", "nothing left"]
    shares = [ax.images[0].get_array() for ax in axes]
    assert np.allclose(shares[0], 1 / 9) and shares[1].max() == 0
    assert shares[2][0, 0] == 1 and shares[2].sum() == 1
    assert [t.get_text() for t in axes[0].texts] == ["11"] * 9
    assert [t.get_text() for t in axes[2].texts] == ["100"] + ["0"] * 8


def test_a_small_share_is_not_called_nothing():
    table = taps()
    table.loc[(table.kernel == "b") & (table.row == 2), "energy"] = 0.003
    assert "<1" in [t.get_text() for t in drawn(published.tap_energy(table)).axes[2].texts]


def test_singular_value_shares_add_up_to_one():
    values = pd.DataFrame({"kernel": ["a"] * 50 + ["b"] * 20, "ratio": np.linspace(0.3, 1.2, 70)})
    figure = drawn(published.singular_value_shares(values))
    assert [ax.get_title("left") for ax in figure.axes] == ["a", "b"]
    for name, ax in zip("ab", figure.axes, strict=True):
        bars = [(b.get_x(), b.get_height()) for b in ax.patches if b.get_height()]
        assert sum(height for _, height in bars) == pytest.approx(1)
        assert min(x for x, _ in bars) == pytest.approx(values.ratio[values.kernel == name].min(), abs=0.01)


def test_in_training_marks_the_steps_with_a_projection():
    steps = pd.DataFrame(
        {"step": [1, 2, 3], "projected": [False, True, True], "lowest": 0.3, "highest": 1.1, "corner": [0.1, 0.9, 1.0]}
    )
    figure = drawn(published.in_training(steps))
    found = {name: y.tolist() for name, (_, y) in lines(figure).items()}
    assert found == {"largest": [1.1] * 3, "smallest": [0.3] * 3}
    for ax in figure.axes:
        marked = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2 and line.get_lw() == 1]
        assert [x for x in marked if x] == [2, 3]
    assert [0.1, 0.9, 1.0] in [line.get_ydata().tolist() for line in figure.axes[1].lines if len(line.get_xdata()) == 3]


def test_gram_sides_ends_a_lost_line_with_a_cross():
    errors = pd.DataFrame(
        {"side": s, "precision": p, "steps": n, "error": e if s == "output side" else 1e-3 / n}
        for s in ("input side", "output side")
        for p in ("float32", "float64")
        for n, e in ((1, 1.0), (2, 1e-5), (3, math.inf))
    )
    figure = drawn(published.gram_sides(errors, taken=2, title="title"))
    found = lines(figure)
    assert list(found) == [f"{s} side, {p}" for s in ("input", "output") for p in ("float32", "float64")]
    assert found["input side, float32"][1] == pytest.approx([1e-3, 5e-4, 1e-3 / 3])
    assert found["output side, float64"][0].tolist() == [1, 2]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [(c.get_xdata()[0], c.get_ydata()[0]) for c in crosses] == [(3, published.CEILING)] * 2
    assert [t.get_text() for t in figure.axes[0].texts] == ["2 steps"]


def test_waiting_times_draws_shares_and_what_is_expected():
    waits = pd.DataFrame(
        {"schedule": ["a", "a", "b"], "wait": [0, 1, 1], "share": [0.6, 0.4, 1.0], "expected": [0.5, 0.25, None]}
    )
    figure = drawn(published.waiting_times(waits))
    found = lines(figure)
    assert {name: y.tolist() for name, (_, y) in found.items()} == {"a": [0.6, 0.4], "b": [1.0]}
    assert found["b"][0].tolist() == [1]
    expected = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert expected == [[0.5, 0.25], []]
    assert "100 %" in [t.get_text() for t in figure.axes[0].get_yticklabels()]
