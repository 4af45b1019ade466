"""The maps of Theorem 1: inverses, derivatives and the constants of Assumption 1."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.maps import Monotone, SmoothMap, Twist, features, linear_map
from paperlib.theorems import ball


class Formula(SmoothMap):
    """Another map's formula alone: inverse and derivative by the general ways."""

    def __init__(self, f):
        self.f, self.dim = f, f.dim

    def __call__(self, x):
        return self.f(x)


class Shifted(SmoothMap):
    """No symmetry, moves the origin; general inverse and derivative, constants by hand."""

    dim, alpha, beta = 3, 0.4, 1 / (1.5 - 0.4)

    def __call__(self, x):
        return 1.5 * x + 0.4 * torch.sin(x.roll(1, -1) + torch.tensor([0.3, 1.0, -0.7])) + 0.3


MAPS = {
    "shifted": Shifted(),
    "twist": Twist(linear_map(8, 0.7)),
    "fast twist": Twist(linear_map(4, 1.5, angle=3.0, seed=1), omega=-1.3),
    "tanh": Monotone(linear_map(8, 0.5), features(8, 16)),
    "tanh, fewer features than axes": Monotone(linear_map(5, 0.2), features(5, 2), epsilon=0.3),
    "tanh, no bend": Monotone(linear_map(3, 0.4), features(3, 3), epsilon=0.0),
}


@pytest.fixture(params=MAPS)
def f(request):
    return MAPS[request.param]


def test_derivatives_are_autograd_s(f):
    x = ball(f.dim, 20)
    assert (f.jacobian(x) - Formula(f).jacobian(x)).abs().max() < 1e-10
    kappa = f.normalised()
    assert (kappa.jacobian(x) - Formula(kappa).jacobian(x)).abs().max() < 1e-10


def test_inverses(f):
    x = ball(f.dim, 50)
    for g in (f, Formula(f), f.normalised()):
        assert (g.inverse(g(x)) - x).abs().max() < 1e-12


def test_normalised_maps_start_as_the_identity(f):
    kappa, origin = f.normalised(), torch.zeros(f.dim, dtype=torch.float64)
    eye = torch.eye(f.dim, dtype=torch.float64)
    assert kappa(origin).abs().max() < 1e-15
    assert (kappa.jacobian(origin) - eye).abs().max() < 1e-12
    x = ball(f.dim, 20)
    assert (f.jacobian(origin) @ kappa(x).unsqueeze(-1) - (f(x) - f(origin)).unsqueeze(-1)).abs().max() < 1e-12


def test_the_constants_of_assumption_1_hold(f):
    """On pairs near each other and far apart, and within a factor of ten of what is seen there."""
    x = ball(f.dim, 3000)
    near = x + 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    for g in (f, f.normalised()):
        seen = []
        for y in (x.roll(1, 0), 0.99999 * near):
            slopes = torch.linalg.matrix_norm(g.jacobian(x) - g.jacobian(y), 2) / (x - y).norm(dim=-1)
            assert slopes.max() <= g.alpha * (1 + 1e-9) + 1e-9
            seen.append(slopes.max().item())
        assert g.alpha <= 10 * max(seen)
        back = torch.linalg.matrix_norm(torch.linalg.inv(g.jacobian(x)), 2)
        assert back.max() <= g.beta * (1 + 1e-9)


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
    """Known figures: α = 6.37 and β = 3.26 for the twist as measured, 4.99 and 1.65 for the monotone map."""
    twist, tanh = MAPS["twist"], MAPS["tanh"]
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


def test_a_map_of_one_s_own_needs_its_formula_alone():
    class Cubic(SmoothMap):
        dim = 3

        def __call__(self, x):
            return x + 0.2 * x.roll(1, -1) ** 3 + 1

    f, x = Cubic(), ball(3, 100)
    assert (f.inverse(f(x)) - x).abs().max() < 1e-12
    zero = torch.zeros(1, 3, dtype=torch.float64)
    assert f(f.inverse(zero)).abs().max() < 1e-15  # not relative to y alone
    assert f.alpha == f.beta == math.inf


def test_newton_s_method_says_when_it_fails():
    class Exponential(SmoothMap):
        dim = 1

        def __call__(self, x):
            return x.exp()

    with pytest.raises(RuntimeError, match="Exponential could not be inverted"):
        Exponential().inverse(torch.tensor([[-1.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Twist(torch.eye(3)), "even"),
        (lambda: Twist(torch.ones(4, 4)), "singular"),
        (lambda: Twist(torch.full((2, 2), math.nan)), "finite"),
        (lambda: Twist(torch.ones(2, 4)), "square"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 4)), r"\(M, 3\)"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 3), epsilon=-0.1), "negative"),
        (lambda: Monotone(torch.eye(3), torch.ones(2, 3), epsilon=math.nan), "negative"),
    ],
)
def test_bad_input(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_map_without_a_derivative_at_0_cannot_be_normalised():
    class Flat(SmoothMap):
        dim = 2

        def __call__(self, x):
            return x**3

    with pytest.raises(ValueError, match="derivative at 0"):
        Flat().normalised()
