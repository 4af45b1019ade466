"""The twist, the monotone map and the matrices that they are made of."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.theorems import Monotone, Twist, features, linear_map


def test_the_constants_of_the_twist_are_attained():
    f = Twist(torch.eye(2, dtype=torch.float64), 0.5)
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    assert torch.linalg.matrix_norm(torch.linalg.inv(f.jacobian(circle)), 2).max().item() == pytest.approx(f.beta)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    step = 1e-6 * circle
    slopes = torch.linalg.matrix_norm(f.jacobian(x + step) - f.jacobian(x), 2) / 1e-6
    assert slopes.max().item() == pytest.approx(f.alpha, rel=1e-3)


def test_the_chapter_s_constants():
    """Known numbers: α = 6.37 and β = 3.26 for the twist as measured, 4.99 and 1.65 for the monotone map."""
    twist, tanh = Twist(linear_map(8, 0.7)), Monotone(linear_map(8, 0.5), features(8, 16))
    assert 6.37 <= twist.alpha < 6.5
    assert twist.beta == pytest.approx(3.26, abs=0.005)
    assert tanh.beta == pytest.approx(1.65, abs=0.005)
    norm = torch.linalg.matrix_norm
    b = tanh.features
    assert tanh.alpha == pytest.approx(
        4 / 27**0.5 * (norm(tanh.linear, 2) * norm(b, 2) ** 2 * b.norm(dim=1).max()).item()
    )


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 16), stretch=st.floats(0, 3), angle=st.floats(0, math.pi), seed=st.integers(0, 99))
def test_linear_maps_are_what_was_asked_for(n, stretch, angle, seed):
    matrix = linear_map(n, stretch, angle, seed)
    assert torch.det(matrix) > 0
    values = torch.linalg.svdvals(matrix)
    assert values[-1].log().item() == pytest.approx(-stretch, abs=1e-9)
    if n > 1:
        assert values[0].log().item() == pytest.approx(stretch, abs=1e-9)
        left, _, right = torch.linalg.svd(matrix)
        turned = torch.linalg.eigvals(left @ right).angle().abs().max().item()
        assert turned == pytest.approx(angle, abs=1e-7)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Twist(torch.eye(3)), "even"),
        (lambda: Twist(torch.ones(4, 4)), "singular"),
        (lambda: Twist(torch.full((2, 2), math.nan)), "finite"),
        (lambda: Twist(torch.ones(2, 4)), "square"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 4)), r"\(M, 3\)"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 3), epsilon=-0.1), "epsilon must be a number of at least 0"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 3), epsilon=math.nan), "epsilon must be a number of at least 0"),
    ],
)
def test_bad_input(make, said):
    with pytest.raises(ValueError, match=said):
        make()
