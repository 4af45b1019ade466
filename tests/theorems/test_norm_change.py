"""Lemma 1: the change of a gradient's norm, the distance from the identity, and the bound from below."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.theorems import gaussian, gradient_delta, identity_distance, lower_bound


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 9), size=st.floats(0, 3), seed=st.integers(0, 999), singular=st.booleans())
def test_lemma_1(n, size, seed, singular):
    m = gaussian(n, n, seed=seed)
    if singular:  # the paper asks for a non-singular M; it is not needed
        m[:, 0] = 0
    m = size * m / torch.linalg.matrix_norm(m, 2).clamp_min(1e-9)
    j = torch.eye(n, dtype=torch.float64) + m
    values, top = torch.linalg.svdvals(j), torch.linalg.matrix_norm(m, 2)
    assert 1 - top - 1e-12 <= values[-1] <= values[0] <= 1 + top + 1e-12
    assert identity_distance(j).item() == pytest.approx(top.item(), abs=1e-7)
    assert gradient_delta(j).item() == pytest.approx((values - 1).abs().max().item(), abs=1e-7)
    assert gradient_delta(j) <= identity_distance(j) + 1e-7


def test_lower_bound_is_that_of_the_worst_direction():
    jacobians = torch.stack([torch.diag(torch.tensor(v)) for v in ([8.0, 1.0], [1.0, 1 / 27])])
    assert lower_bound(jacobians[:1], 3) == pytest.approx(1.0)
    assert lower_bound(jacobians[1:], 3) == pytest.approx(2 / 3)
    assert lower_bound(jacobians, 3) == pytest.approx(1.0)
