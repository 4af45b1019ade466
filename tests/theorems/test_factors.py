"""Theorem 2: the factors of a matrix multiply to it, and none are nearer to norm-preserving."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.studies.norm_preservation import gaussian_matrix
from paperlib.theorems import (
    compose,
    gaussian,
    gradient_delta,
    linear_factors,
    linear_map,
    lower_bound,
    theorem2_bound,
    theorem2_delta,
)


def matrix(n, log_condition, seed, kind):
    """A matrix of the given condition and positive determinant, of a kind that a decomposition may stumble over."""
    u, v = (torch.linalg.qr(gaussian(n, n, seed=seed + i)).Q for i in (0, 1000))
    values = torch.logspace(log_condition / 2, -log_condition / 2, n, dtype=torch.float64)
    if kind == "clustered":
        values = values[[0] * (n // 2) + [n - 1] * (n - n // 2)]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    R = {
        "rotation": u,
        "symmetric": u * values @ u.T,
        "permutation": torch.eye(n, dtype=torch.float64)[order],
        "reversal": u * torch.where(torch.arange(n) < n // 2 * 2, -1.0, 1.0) @ u.T,
    }.get(kind, u * values @ v.T)
    if torch.linalg.det(R) < 0:
        R = R.clone()
        R[0] *= -1
    return R


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(1, 32),
    log_condition=st.floats(0, 6),
    seed=st.integers(0, 999),
    kind=st.sampled_from(["general", "clustered", "rotation", "symmetric", "permutation", "reversal"]),
    L=st.integers(1, 64),
)
def test_linear_factors(n, log_condition, seed, kind, L):
    R = matrix(n, log_condition, seed, kind)
    values = torch.linalg.svdvals(R)
    condition = (values[0] / values[-1]).item()
    A = linear_factors(R, L)
    assert A.shape == (L, n, n)
    assert (compose(A) - R).abs().max() <= 1e-13 * values[0]
    assert 1 <= condition < 1e7
    norm = torch.linalg.matrix_norm(A, 2).max().item()
    assert norm <= theorem2_bound(R, L) + 1e-9
    gamma = values.log().abs().max().item()
    assert theorem2_bound(R, L) <= (math.pi + (math.e - 1) * gamma) / L + 1e-9 or L < gamma
    # The singular values of every layer are σ(R)^{1/L}: rotation costs nothing, and no layers are better.
    eye = torch.eye(n, dtype=torch.float64)
    assert torch.allclose(torch.linalg.svdvals(eye + A), values ** (1 / L), rtol=1e-8)
    assert gradient_delta(eye + A).max().item() == pytest.approx(theorem2_delta(R, L), rel=1e-6, abs=1e-7)
    assert theorem2_delta(R, L) == pytest.approx(lower_bound(R, L), rel=1e-6, abs=1e-7)
    if L >= 3 * gamma:
        assert theorem2_bound(R, L, "published") == pytest.approx(2 * (math.pi**0.5 + (3 * gamma) ** 0.5) ** 2 / L)
        assert norm <= theorem2_bound(R, L, "published")
    else:
        with pytest.raises(ValueError, match="3γ.*use more blocks, or the sharp form"):
            theorem2_bound(R, L, "published")


def test_many_layers_stay_exact():
    R = gaussian_matrix(16)
    for L in (1, 1024, 4096):
        assert (compose(linear_factors(R, L)) - R).abs().max() <= 1e-13 * torch.linalg.matrix_norm(R, 2)


def test_layers_that_would_have_to_lose_their_digits_are_refused():
    R = 1e-12 * linear_map(5, 0.8, 2.5)
    for L in (1, 2):
        with pytest.raises(ValueError, match="use more layers"):
            linear_factors(R if L == 1 else 1e-18 * R, L)
    assert torch.allclose(compose(linear_factors(R, 20)), R, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="float16"):
        linear_factors((1e-3 * linear_map(3, 0.1)).half(), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_factors_have_the_matrix_s_type(dtype):
    R = torch.tensor([[2, -1], [1, 1]]).to(dtype)
    A = linear_factors(R, 4)
    assert A.dtype == (dtype if dtype.is_floating_point else torch.float64)
    assert torch.allclose(compose(A.double()), R.double(), atol=1e-12 if A.dtype == torch.float64 else 0.05)


def test_factors_take_lists():
    assert torch.allclose(compose(linear_factors([[2.0, 0.0], [0.0, 3.0]], 3)), torch.tensor([[2.0, 0], [0, 3]]))


@pytest.mark.parametrize("use", [linear_factors, theorem2_bound, theorem2_delta])
@pytest.mark.parametrize(
    ("R", "said"),
    [
        (torch.diag(torch.tensor([-1.0, 1.0])), "negative determinant.*Flip the sign of one row"),
        (torch.tensor([[-2.0]]), "negative determinant"),
        (torch.ones(2, 3), "square.*identity skip"),
        (torch.ones(3), "square"),
        (torch.ones(0, 0), "empty"),
        (torch.ones(2, 2), "singular"),
        (torch.zeros(2, 2), "singular"),
        (torch.tensor([[1.0, math.nan], [0.0, 1.0]]), "NaN"),
        (torch.tensor([[math.inf, 0.0], [0.0, 1.0]]), "infinite"),
        (torch.eye(2, dtype=torch.complex128), "real"),
    ],
)
def test_what_cannot_be_factored_is_explained(use, R, said):
    with pytest.raises(ValueError, match=said):
        use(R, 8)


def test_other_bad_input_of_theorem_2():
    for L in (0, -3, 1.5, "8", True):
        with pytest.raises(ValueError, match="whole number"):
            linear_factors(torch.eye(2), L)
    with pytest.raises(ValueError, match="choose one of sharp, published"):
        theorem2_bound(torch.eye(2), 4, "loose")
    with pytest.raises(ValueError, match="no factors"):
        compose([])
