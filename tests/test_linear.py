"""Linear residual networks: risk, gradient and descent, against autograd and against data."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib import linear
from paperlib.maps import linear_map
from paperlib.studies import theorems as studies
from paperlib.theorems import compose, linear_factors


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), L=st.integers(1, 20), seed=st.integers(0, 999))
def test_products_risk_and_gradient(n, L, seed):
    A, R, root = 0.3 * gaussian(L, n, n, seed=seed), *gaussian(2, n, n, seed=seed + 1)
    Sigma = root @ root.T
    partial = linear.products(A)
    for i in range(L):
        assert torch.allclose(partial[i], compose(A[: i + 1]), rtol=1e-9, atol=1e-9)
    W = compose(A)
    assert torch.allclose(linear.excess_risk(A, R, Sigma), ((W - R) @ root).square().sum(), rtol=1e-8)
    A.requires_grad_()
    linear.excess_risk(A, R, Sigma).backward()
    assert torch.allclose(linear.gradient(A.detach(), R, Sigma), A.grad, rtol=1e-8, atol=1e-10)


def test_the_statistics_stand_for_the_data():
    """f over the data is f* plus the excess risk, and so are the gradients: descent on R̂ and Σ is descent on the data."""
    x, R = gaussian(200, 4), linear_map(4, 0.5)
    y = x @ R.T + 0.3 * gaussian(200, 4, seed=1)
    fitted, Sigma = linear.statistics(x, y)
    A = (0.2 * gaussian(5, 4, 4, seed=2)).requires_grad_()

    def on_the_data(W):
        return (x @ W.T - y).square().sum(1).mean()

    risk = on_the_data(compose(A))
    assert (risk - on_the_data(fitted)).item() == pytest.approx(linear.excess_risk(A.detach(), fitted, Sigma).item())
    risk.backward()
    assert torch.allclose(linear.gradient(A.detach(), fitted, Sigma), A.grad, atol=1e-10)


def test_descent_from_zero_finds_the_best_factors():
    """Known figures: L‖A‖ within some per cent of the explicit optimum's, balanced layers."""
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


def test_the_infimum_for_a_negative_determinant_is_the_smallest_singular_value_s_square():
    """Approached, not attained: the reachable R with a tiny positive value in place of the reflected one."""
    R = torch.diag(torch.tensor([-0.6, 1.0, 1.4], dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    for tiny, within in ((1e-1, 0.15), (1e-4, 2e-4)):
        A = linear_factors(torch.diag(torch.tensor([tiny, 1.0, 1.4], dtype=torch.float64)), 50)
        excess = linear.excess_risk(A, R, eye).item()
        assert 0.36 < excess < 0.36 + within


def test_critical_points_near_the_identity_are_global():
    table = studies.critical_points(samples=100)
    assert (table.smallest >= 1).all()
    assert table["at worst"].tolist() == pytest.approx([1.0] * len(table))


def test_at_a_singular_layer_they_are_not():
    assert studies.bad_critical_point() == {"gradient": 0.0, "excess": 4.0}
    assert studies.bad_critical_point(7)["excess"] == pytest.approx(4.0)


def test_descent_stops_at_its_tolerance_and_starts_where_told():
    R, eye = linear_map(3, 0.2), torch.eye(3, dtype=torch.float64)
    start = linear_factors(R, 4)
    found, risk = linear.descend(R, eye, 4, 0.1, 50, start, tolerance=1e-20)
    assert len(risk) == 1 and torch.equal(found, start)
    _, risk = linear.descend(R, eye, 4, 0.02, 50)
    assert len(risk) == 51
    assert (risk[1:] < risk[:-1]).all()


def test_balance_of_equal_layers_is_zero():
    R = linear_map(5, 0.4)
    values, vectors = torch.linalg.eigh(R @ R.T)
    root = vectors * values.sqrt() @ vectors.T  # symmetric: its factors are equal
    assert linear.balance(linear_factors(root, 6)) < 1e-13
    assert linear.balance(gaussian(3, 4, 4)) > 0.1


def test_divergence_is_said():
    with pytest.raises(ValueError, match="rate of 50 is too large"):
        linear.descend(linear_map(3, 1.0), torch.eye(3, dtype=torch.float64), 8, 50.0, 100)
    with pytest.raises(ValueError, match="diverged at step 1"):
        linear.descend(torch.full((2, 2), math.nan), torch.eye(2), 2, 0.1, 3)
