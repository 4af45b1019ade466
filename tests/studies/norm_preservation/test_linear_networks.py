"""What gradient descent finds in linear residual networks, and the landscape in which it moves."""

import pytest

from paperlib.studies import norm_preservation as studies
from paperlib.theorems import linear_map


def test_descent_from_zero_finds_the_best_factors():
    """Known numbers: L‖A‖ within some per cent of the explicit optimum's, balanced layers."""
    table = studies.descent_rates(linear_map(8, 0.5, seed=1), (4, 16, 64)).set_index("L")
    assert (table.excess < 1e-18).all()
    assert (table.descent / table.explicit - 1).abs().max() < 0.06
    assert (table.delta / table["best delta"] - 1).abs().max() < 0.1
    assert (table.balance.loc[[16, 64]] < 1e-3).all()
    assert table.balance.is_monotonic_decreasing


def test_a_negative_determinant_is_not_reached():
    table = studies.descents(steps=1500)
    end = table.groupby("target").last()
    assert end.excess["det R > 0"] < 1e-18
    assert end.excess["det R < 0"] == pytest.approx(end.floor["det R < 0"], rel=0.01)
    assert end.floor["det R < 0"] == pytest.approx(0.3679, abs=5e-5)
    assert end.excess["half turn, from zero"] > 1.9


def test_the_symmetric_saddle_is_left_from_beside_it():
    end = studies.descents(steps=3000).groupby("target").last()
    assert end.excess["half turn, from 0.001 beside it"] < 1e-18
    assert end.excess["half turn, from zero"] == pytest.approx(2.0, abs=0.01)


def test_critical_points_near_the_identity_are_global():
    table = studies.critical_points(samples=100)
    assert (table.smallest >= 1).all()
    assert table["at worst"].tolist() == pytest.approx([1.0] * len(table))
