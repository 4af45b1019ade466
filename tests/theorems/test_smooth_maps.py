"""Smooth maps: inverses, derivatives and the constants of Assumption 1, by the general ways and by closed forms."""

import math

import pytest
import torch
from smooth_map_cases import Shifted

from paperlib.theorems import Monotone, SmoothMap, Twist, ball, features, gaussian, linear_map


class Formula(SmoothMap):
    """Another map's formula alone: inverse and derivative by the general ways."""

    def __init__(self, f):
        self.f, self.dim = f, f.dim

    def __call__(self, x):
        return self.f(x)


MAPS = {
    "shifted": Shifted(known=True),
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
    near = x + 1e-5 * gaussian(*x.shape, seed=1)
    for g in (f, f.normalised()):
        seen = []
        for y in (x.roll(1, 0), 0.99999 * near):
            slopes = torch.linalg.matrix_norm(g.jacobian(x) - g.jacobian(y), 2) / (x - y).norm(dim=-1)
            assert slopes.max() <= g.alpha * (1 + 1e-9) + 1e-9
            seen.append(slopes.max().item())
        assert g.alpha <= 10 * max(seen)
        back = torch.linalg.matrix_norm(torch.linalg.inv(g.jacobian(x)), 2)
        assert back.max() <= g.beta * (1 + 1e-9)


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


def test_a_map_without_a_derivative_at_0_cannot_be_normalised():
    class Flat(SmoothMap):
        dim = 2

        def __call__(self, x):
            return x**3

    with pytest.raises(ValueError, match="derivative at 0"):
        Flat().normalised()
