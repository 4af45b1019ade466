"""Theorem 1: the blocks compose to the map that was asked for, and keep within what is proven."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth_map_cases import EXAMPLES, SCHEDULES, Shifted

from paperlib.theorems import (
    Monotone,
    Path,
    PathStep,
    SmoothMap,
    Twist,
    ball,
    features,
    gaussian,
    gradient_delta,
    identity_distance,
    linear_map,
    lower_bound,
    near_identity_path,
    path_jacobians,
    theorem1_bound,
    times,
)


def chained(blocks, x):
    for block in blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("L", [1, 2, 3, 5, 16, 100])
def test_the_blocks_compose_to_the_map(name, schedule, L):
    f, x = EXAMPLES[name], ball(8, 24, seed=7)
    blocks = near_identity_path(f, L, schedule)
    assert len(blocks) == L
    y = chained(blocks, x)
    assert (y - f(x)).abs().max() < 1e-12
    for block in reversed(blocks):
        y = block.inverse(y)
    assert (y - x).abs().max() < 1e-12


@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from([2, 4, 6]),
    stretch=st.floats(0, 2),
    angle=st.floats(0, math.pi),
    omega=st.floats(-0.8, 0.8),
    L=st.integers(1, 40),
    schedule=st.sampled_from(SCHEDULES),
    seed=st.integers(0, 99),
)
def test_any_twist_and_any_depth(n, stretch, angle, omega, L, schedule, seed):
    f, x = Twist(linear_map(n, stretch, angle, seed), omega), ball(n, 12, seed)
    scale = math.exp(stretch)
    assert (chained(near_identity_path(f, L, schedule), x) - f(x)).abs().max() < 1e-12 * scale
    path = Path(f)
    jacobians = path_jacobians(path, times(path, L, schedule), x)
    delta, distance = gradient_delta(jacobians).max().item(), identity_distance(jacobians).max().item()
    assert lower_bound(f.jacobian(x), L) <= delta + 1e-9
    assert delta <= distance + 1e-9
    assert distance <= theorem1_bound(f, L, schedule) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_derivatives_of_the_blocks_are_autograd_s(name, schedule):
    f, x = EXAMPLES[name], ball(8, 6)
    blocks = near_identity_path(f, 7, schedule)
    path = Path(f)
    along = path_jacobians(path, times(path, 7, schedule), x)
    for i, block in enumerate(blocks):
        assert (block.jacobian(x) - along[i]).abs().max() < 1e-10
        if name == "twist":  # its inverse is a formula, which autograd can follow
            for point in range(2):
                exact = torch.autograd.functional.jacobian(block, x[point])
                assert (exact - along[i, point]).abs().max() < 1e-10
        h = 1e-6 * gaussian(*x.shape, seed=i)
        central = (block(x + h) - block(x - h)) / 2
        assert (central - (along[i] @ h.unsqueeze(-1)).squeeze(-1)).abs().max() < 1e-13
        x = block(x)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("L", [1, 2, 9])
def test_a_map_of_one_s_own(schedule, L):
    f, x = Shifted(known=True), ball(3, 400)
    assert (chained(near_identity_path(f, L, schedule), x[:16]) - f(x[:16])).abs().max() < 1e-12
    assert theorem1_bound(Shifted(known=False), L, schedule) == math.inf
    path = Path(f)
    distance = identity_distance(path_jacobians(path, times(path, L, schedule), x)).max().item()
    assert 0.05 * theorem1_bound(f, L, schedule) < distance <= theorem1_bound(f, L, schedule)


class Kink(SmoothMap):
    """F' rises from 1 to 2 within a width w of |x| = 0.1: a bend that random points hardly ever see."""

    dim = 1

    def __init__(self, w):
        self.w, self.alpha, self.beta = w, 1 / (4 * w), 1.0

    def __call__(self, x):
        soft = torch.nn.functional.softplus
        return x + x.sign() * self.w * (soft((x.abs() - 0.1) / self.w) - soft(torch.tensor(-0.1 / self.w).double()))

    def jacobian(self, x):
        return (1 + torch.sigmoid((x.abs() - 0.1) / self.w)).unsqueeze(-1)


@pytest.mark.slow
@pytest.mark.parametrize("w", [0.01, 0.003])
def test_a_bend_that_the_points_do_not_see_is_still_cut_finely(w):
    f, path = Kink(w), Path(Kink(w))
    x = torch.linspace(0, 1, 10_001, dtype=torch.float64).unsqueeze(-1)  # the map is odd: −x behaves like x
    distances = []
    for L in (64, 1024, 4096):
        at = times(path, L, "arc")
        assert max(b[1] - a[1] for a, b in itertools.pairwise(at)) <= 10.001 / L
        # In one dimension ‖J − I‖ is |J − 1|.
        distances.append(max((path_jacobians(path, at[i : i + 65], x) - 1).abs().max().item() for i in range(0, L, 64)))
        assert distances[-1] <= theorem1_bound(f, L)
    assert distances[2] < 0.35 * distances[1] or distances[1] < 0.1  # 1/L once the steps are finer than the bend


def test_schedules():
    path = Path(EXAMPLES["twist"])
    for schedule, L in itertools.product(SCHEDULES, (1, 2, 3, 8, 33)):
        at = times(path, L, schedule)
        assert (at[0], at[-1], len(at)) == ((0, 0), (1, 1), L + 1)
        assert all(a <= b and c <= d for (a, c), (b, d) in itertools.pairwise(at))
    geometric = [t for s, t in times(path, 32, "geometric") if s == 0][1:]
    ratio = 1 - math.log(32) / 16
    assert [a / b for a, b in itertools.pairwise(geometric)] == pytest.approx([ratio] * 15)
    # Equal arcs: the same distance in every step, on the points they were measured on.
    steps = identity_distance(path_jacobians(path, times(path, 64), ball(8, 64))).amax(1)
    assert steps.max() / steps.min() < 1.25


def test_a_large_map_is_cut_in_the_same_places_with_little_memory(monkeypatch):
    """The arc is measured some points at a time, as many as fit."""
    f, seen = Twist(linear_map(6, 0.7)), []
    monkeypatch.setattr(Path, "jacobian", recorded(Path.jacobian, seen))
    whole = times(Path(f), 32, grid=64)
    assert seen == [64]
    monkeypatch.setattr("paperlib.theorems.path.AT_ONCE", 7 * 65 * 36 + 5)
    assert times(Path(f), 32, grid=64) == whole
    assert seen[1:] == [7] * 9 + [1]


def recorded(jacobian, seen):
    """``jacobian``, which notes how many points it is given."""
    return lambda path, at, x: seen.append(len(x)) or jacobian(path, at, x)


def test_the_identity_needs_no_residuals():
    f = Twist(torch.eye(4, dtype=torch.float64), omega=0.0)
    x = ball(4, 5)
    for block in near_identity_path(f, 6):
        assert block.residual(x).abs().max() < 1e-15
    assert "PathStep((0, 0) → " in repr(near_identity_path(f, 6)[0])
    assert theorem1_bound(f, 6) == 0

    class Affine(SmoothMap):
        dim, alpha = 2, 0.0

        def __call__(self, x):
            return 2 * x + 1

    for schedule in SCHEDULES:  # nothing bends, whatever the inverse's constant
        assert 2 ** (1 / 8) - 1 <= theorem1_bound(Affine(), 8, schedule) < 0.5


def test_one_block_of_a_path_is_what_its_parts_say():
    f = Monotone(linear_map(4, 0.3), features(4, 6))
    path = Path(f)
    block, x = PathStep(path, (0.2, 0.2), (0.5, 0.6)), ball(4, 9)
    assert torch.allclose(block(x), path((0.5, 0.6), path.inverse((0.2, 0.2), x)), atol=1e-14)
    assert torch.allclose(block(x) - x, block.residual(x), atol=1e-14)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: near_identity_path(EXAMPLES["twist"], 0), "at least 1"),
        (lambda: near_identity_path(EXAMPLES["twist"], 2.0), "whole number"),
        (lambda: near_identity_path(EXAMPLES["twist"], True), "whole number"),
        (lambda: near_identity_path(EXAMPLES["twist"], 4, "cosine"), "geometric, uniform, arc"),
        (lambda: theorem1_bound(EXAMPLES["twist"], 4, "cosine"), "geometric, uniform, arc"),
        (lambda: near_identity_path(Twist(torch.diag(torch.tensor([1.0, -1.0]).double())), 4), "negative determinant"),
        (lambda: lower_bound(torch.eye(2), 0), "at least 1"),
        (lambda: near_identity_path(EXAMPLES["twist"], 4, points=0), "points"),
    ],
)
def test_bad_input_of_theorem_1(call, said):
    with pytest.raises(ValueError, match=said):
        call()


class Folding(SmoothMap):
    dim = 2

    def __call__(self, x):
        return x - x**3


class Made(SmoothMap):
    """A map with the attributes and the formula of a test."""

    def __init__(self, formula=lambda x: 2 * x, **attributes):
        self.formula = formula
        for name, value in attributes.items():
            setattr(self, name, value)

    def __call__(self, x):
        return self.formula(x)


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (Folding(), "folds or reflects"),
        (torch.eye(3), "must be a paperlib.theorems.SmoothMap, not Tensor"),
        (lambda x: x, "not function"),
        (Made(), "dim must be"),
        (Made(dim=0), "dim must be"),
        (Made(dim=2, alpha=-1.0), "alpha -1.0"),
        (Made(dim=2, beta=math.nan), "beta nan"),
        (Made(lambda x: x[..., :1], dim=2), r"not to torch.float64 of shape \(1,\)"),
        (Made(lambda x: x.float(), dim=2), "not to torch.float32"),
        (Made(lambda x: x @ torch.eye(3).double(), dim=2), "cannot be called"),
    ],
)
def test_what_is_no_map_for_theorem_1_is_explained(f, said):
    for use in (near_identity_path, theorem1_bound):
        with pytest.raises(ValueError, match=said):
            use(f, 4)
