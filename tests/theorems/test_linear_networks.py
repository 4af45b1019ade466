"""Linear residual networks: risk, gradient and descent, against autograd and against data."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.theorems import compose, gaussian, linear_factors, linear_map, linear_networks


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), L=st.integers(1, 20), seed=st.integers(0, 999))
def test_products_risk_and_gradient(n, L, seed):
    A, R, root = 0.3 * gaussian(L, n, n, seed=seed), *gaussian(2, n, n, seed=seed + 1)
    Sigma = root @ root.T
    partial = linear_networks.products(A)
    for i in range(L):
        assert torch.allclose(partial[i], compose(A[: i + 1]), rtol=1e-9, atol=1e-9)
    W = compose(A)
    assert torch.allclose(linear_networks.excess_risk(A, R, Sigma), ((W - R) @ root).square().sum(), rtol=1e-8)
    A.requires_grad_()
    linear_networks.excess_risk(A, R, Sigma).backward()
    assert torch.allclose(linear_networks.gradient(A.detach(), R, Sigma), A.grad, rtol=1e-8, atol=1e-10)


def test_the_statistics_stand_for_the_data():
    """f over the data is f* plus the excess risk, with the same gradient: descent on R̂ and Σ is descent on the data."""
    x, R = gaussian(200, 4), linear_map(4, 0.5)
    y = x @ R.T + 0.3 * gaussian(200, 4, seed=1)
    fitted, Sigma = linear_networks.statistics(x, y)
    A = (0.2 * gaussian(5, 4, 4, seed=2)).requires_grad_()

    def on_the_data(W):
        return (x @ W.T - y).square().sum(1).mean()

    risk = on_the_data(compose(A))
    assert (risk - on_the_data(fitted)).item() == pytest.approx(
        linear_networks.excess_risk(A.detach(), fitted, Sigma).item()
    )
    risk.backward()
    assert torch.allclose(linear_networks.gradient(A.detach(), fitted, Sigma), A.grad, atol=1e-10)


def test_the_infimum_for_a_negative_determinant_is_the_smallest_singular_value_s_square():
    """Approached, not attained: the reachable R with a tiny positive value in place of the reflected one."""
    R = torch.diag(torch.tensor([-0.6, 1.0, 1.4], dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    for tiny, within in ((1e-1, 0.15), (1e-4, 2e-4)):
        A = linear_factors(torch.diag(torch.tensor([tiny, 1.0, 1.4], dtype=torch.float64)), 50)
        excess = linear_networks.excess_risk(A, R, eye).item()
        assert 0.36 < excess < 0.36 + within


def test_descent_stops_at_its_tolerance_and_starts_where_told():
    R, eye = linear_map(3, 0.2), torch.eye(3, dtype=torch.float64)
    start = linear_factors(R, 4)
    found, risk = linear_networks.descend(R, eye, 4, 0.1, 50, start, tolerance=1e-20)
    assert len(risk) == 1 and torch.equal(found, start)
    _, risk = linear_networks.descend(R, eye, 4, 0.02, 50)
    assert len(risk) == 51
    assert (risk[1:] < risk[:-1]).all()


def test_balance_of_equal_layers_is_zero():
    R = linear_map(5, 0.4)
    values, vectors = torch.linalg.eigh(R @ R.T)
    root = vectors * values.sqrt() @ vectors.T  # symmetric: its factors are equal
    assert linear_networks.balance(linear_factors(root, 6)) < 1e-13
    assert linear_networks.balance(gaussian(3, 4, 4)) > 0.1


def test_divergence_is_said():
    with pytest.raises(ValueError, match="rate of 50 is too large"):
        linear_networks.descend(linear_map(3, 1.0), torch.eye(3, dtype=torch.float64), 8, 50.0, 100)
    with pytest.raises(ValueError, match="R holds NaN or infinite values"):
        linear_networks.descend(torch.full((2, 2), math.nan), torch.eye(2), 2, 0.1, 3)
