"""Theorems 1 and 2 and Corollary 1: what is built composes to what was asked for, and keeps within what is proven."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from paperlib import models
from paperlib.maps import Monotone, SmoothMap, Twist, features, linear_map
from paperlib.spectrum import dense, operator_norm, operator_norm_bound
from paperlib.studies import theorems as studies
from paperlib.theorems import (
    Block,
    Path,
    PolarPowers,
    ball,
    compose,
    corollary_bound,
    gradient_delta,
    identity_distance,
    linear_factors,
    lower_bound,
    near_identity_path,
    path_jacobians,
    theorem1_bound,
    theorem2_bound,
    theorem2_delta,
    times,
)

SCHEDULES = ("geometric", "uniform", "arc")
MAPS = studies.example_maps()


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- Lemma 1 -----------------------------------------------------------------------------------------------------
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


# -- Theorem 1 ---------------------------------------------------------------------------------------------------
def chained(blocks, x):
    for block in blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("L", [1, 2, 3, 5, 16, 100])
def test_the_blocks_compose_to_the_map(name, schedule, L):
    f, x = MAPS[name], ball(8, 24, seed=7)
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
@pytest.mark.parametrize("name", MAPS)
def test_derivatives_of_the_blocks_are_autograd_s(name, schedule):
    f, x = MAPS[name], ball(8, 6)
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


class Shifted(SmoothMap):
    """Moves the origin, no symmetry, inverse and derivative by the general ways; with or without its constants."""

    dim = 3

    def __init__(self, known):
        if known:
            self.alpha, self.beta = 0.4, 1 / (1.5 - 0.4)

    def __call__(self, x):
        return 1.5 * x + 0.4 * torch.sin(x.roll(1, -1) + torch.tensor([0.3, 1.0, -0.7])) + 0.3


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


@pytest.mark.parametrize("w", [0.01, 0.003])
def test_a_bend_that_the_points_do_not_see_is_still_cut_finely(w):
    f, path = Kink(w), Path(Kink(w))
    x = torch.linspace(-1, 1, 20_001, dtype=torch.float64).unsqueeze(-1)
    distances = []
    for L in (64, 1024, 4096):
        at = times(path, L, "arc")
        assert max(b[1] - a[1] for a, b in itertools.pairwise(at)) <= 10.001 / L
        distances.append(
            max(identity_distance(path_jacobians(path, at[i : i + 65], x)).max().item() for i in range(0, L, 64))
        )
        assert distances[-1] <= theorem1_bound(f, L)
    assert distances[2] < 0.35 * distances[1] or distances[1] < 0.1  # 1/L once the steps are finer than the bend


@pytest.mark.parametrize("name", MAPS)
def test_the_lemma_s_two_lipschitz_bounds(name):
    for scales in ([0.1, 0.3, 0.6, 1.0], [0.01, 1.0], [1.0]):
        table = studies.lemma_lipschitz(MAPS[name], scales, pairs=2000)
        assert (table.measured <= table.bound).all()
        assert table.measured.iloc[-1] > 0.04 * table.bound.iloc[-1]


# Known figures: slopes of ‖J − I‖ in L and in log(2L)/L, and of δ in L, over L = 16 … 1024.
SLOPES = {
    ("twist", "geometric"): (-0.741, 0.913, -0.754),
    ("twist", "uniform"): (-0.989, 1.216, -0.992),
    ("twist", "arc"): (-1.001, 1.232, -1.008),
    ("tanh", "geometric"): (-0.806, 0.991, -0.811),
    ("tanh", "uniform"): (-1.009, 1.241, -1.020),
    ("tanh", "arc"): (-1.005, 1.235, -1.009),
}


@pytest.fixture(scope="module")
def rates():
    return studies.theorem1_rates(MAPS, points=32)


def test_the_slopes_are_the_known_ones(rates):
    distance, delta = (
        studies.slopes(rates, value, ["map", "schedule"]).set_index(["map", "schedule"])
        for value in ("distance", "delta")
    )
    for which, (in_l, in_log, of_delta) in SLOPES.items():
        found = (distance["in L"][which], distance["in log(2L)/L"][which], delta["in L"][which])
        assert found == pytest.approx((in_l, in_log, of_delta), abs=0.03), which


def test_delta_halves_with_each_doubling(rates):
    deltas = rates[(rates.schedule == "arc") & (rates.L >= 64)].sort_values("L").groupby("map").delta
    for _, delta in deltas:
        assert (delta.to_numpy()[:-1] / delta.to_numpy()[1:]).tolist() == pytest.approx([2] * 4, abs=0.03)


def test_bounds_hold_at_every_depth(rates):
    assert (rates.distance <= rates.bound * (1 + 1e-9)).all()
    assert (rates.delta <= rates.distance * (1 + 1e-9)).all()
    assert (rates.delta >= rates.lower * (1 - 1e-9)).all()
    # The lower bound is not empty: equal arcs are within a factor of two of it.
    arcs = rates[(rates.schedule == "arc") & (rates.L >= 16)]
    assert (arcs.delta <= 2 * arcs.lower).all()


def test_the_two_constructions_differ_by_the_logarithm(rates):
    scaled = rates[rates.L.isin([16, 1024])].assign(scaled=rates.L * rates.delta)
    grown = scaled.pivot_table(index=["map", "schedule"], columns="L", values="scaled")
    grown = (grown[1024] / grown[16]).unstack()
    assert (grown["geometric"] > 2).all()
    assert grown[["uniform", "arc"]].to_numpy() == pytest.approx(1, abs=0.1)


def test_schedules():
    path = Path(MAPS["twist"])
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


def test_the_identity_needs_no_residuals():
    f = Twist(torch.eye(4, dtype=torch.float64), omega=0.0)
    x = ball(4, 5)
    for block in near_identity_path(f, 6):
        assert block.residual(x).abs().max() < 1e-15
    assert "Block((0, 0) → " in repr(near_identity_path(f, 6)[0])
    assert theorem1_bound(f, 6) == 0

    class Affine(SmoothMap):
        dim, alpha = 2, 0.0

        def __call__(self, x):
            return 2 * x + 1

    for schedule in SCHEDULES:  # nothing bends, whatever the inverse's constant
        assert 2 ** (1 / 8) - 1 <= theorem1_bound(Affine(), 8, schedule) < 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: near_identity_path(MAPS["twist"], 0), "at least 1"),
        (lambda: near_identity_path(MAPS["twist"], 2.0), "whole number"),
        (lambda: near_identity_path(MAPS["twist"], True), "whole number"),
        (lambda: near_identity_path(MAPS["twist"], 4, "cosine"), "geometric, uniform, arc"),
        (lambda: theorem1_bound(MAPS["twist"], 4, "cosine"), "geometric, uniform, arc"),
        (lambda: near_identity_path(Twist(torch.diag(torch.tensor([1.0, -1.0]).double())), 4), "negative determinant"),
        (lambda: lower_bound(torch.eye(2), 0), "at least 1"),
        (lambda: near_identity_path(MAPS["twist"], 4, points=0), "points"),
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
        (torch.eye(3), "must be a paperlib.maps.SmoothMap, not Tensor"),
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


def test_layers_that_would_have_to_lose_their_digits_are_refused():
    R = 1e-12 * linear_map(5, 0.8, 2.5)
    for L in (1, 2):
        with pytest.raises(ValueError, match="use more layers"):
            linear_factors(R if L == 1 else 1e-18 * R, L)
    assert torch.allclose(compose(linear_factors(R, 20)), R, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="float16"):
        linear_factors((1e-3 * linear_map(3, 0.1)).half(), 1)


def test_lower_bound_is_that_of_the_worst_direction():
    jacobians = torch.stack([torch.diag(torch.tensor(v)) for v in ([8.0, 1.0], [1.0, 1 / 27])])
    assert lower_bound(jacobians[:1], 3) == pytest.approx(1.0)
    assert lower_bound(jacobians[1:], 3) == pytest.approx(2 / 3)
    assert lower_bound(jacobians, 3) == pytest.approx(1.0)


# -- Theorem 2 ---------------------------------------------------------------------------------------------------
def matrix(n, log_condition, seed, kind):
    """A matrix of the given condition and positive determinant, of a kind that a decomposition may stumble over."""
    u, v = (torch.linalg.qr(gaussian(n, n, seed=seed + i)).Q for i in (0, 1000))
    values = torch.logspace(log_condition / 2, -log_condition / 2, n, dtype=torch.float64)
    if kind == "clustered":
        values = values[[0] * (n // 2) + [n - 1] * (n - n // 2)]
    R = {
        "rotation": u,
        "symmetric": u * values @ u.T,
        "permutation": torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=torch.Generator().manual_seed(seed))],
        "reversal": u * torch.where(torch.arange(n) < n // 2 * 2, -1.0, 1.0) @ u.T,
    }.get(kind, u * values @ v.T)  # fmt: skip
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
    R = studies.gaussian_matrix(16)
    for L in (1, 1024, 4096):
        assert (compose(linear_factors(R, L)) - R).abs().max() <= 1e-13 * torch.linalg.matrix_norm(R, 2)


def test_slope_of_theorem_2_is_minus_one_where_it_is_asymptotic():
    """Known figures: for a Gaussian R of 16 dimensions, −0.997 over L ≥ 128."""
    for seed in range(3):
        table = studies.theorem2_rates(studies.gaussian_matrix(16, seed))
        assert studies.slopes(table, "distance", [], start=128)["in L"].item() == pytest.approx(-1, abs=0.01)
        assert table.error.max() < 1e-12
        assert (table.distance <= table.sharp).all()
        assert ((table.distance <= table.published) | table.published.isna()).all()
        assert (table.published / table.distance).iloc[-1] > 5  # the published constant is loose


def test_half_turns_and_powers():
    R = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 2.0], dtype=torch.float64))
    powers = PolarPowers(R)
    assert powers.largest_angle == pytest.approx(math.pi)
    assert powers.gamma == pytest.approx(math.log(2))
    half = powers.rotation(0.5)
    assert torch.allclose(half @ half, powers.rotation(1.0), atol=1e-14)
    assert torch.allclose(powers.rotation(1.0) @ powers.stretch(1.0), R, atol=1e-14)
    tiny = powers.rotation(1e-12, minus_identity=True)
    assert torch.allclose(1e12 * tiny, 1e12 * (powers.rotation(1e-12) - torch.eye(4)), atol=1e-3)
    assert tiny.abs().max().item() == pytest.approx(math.pi * 1e-12)
    many = powers.stretch(torch.tensor([0.0, 1.0, -1.0]))
    assert torch.allclose(many[0], torch.eye(4, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(many[1] @ many[2], torch.eye(4, dtype=torch.float64), atol=1e-14)


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
        (torch.ones(0, 0), "square"),
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
    with pytest.raises(ValueError, match="'sharp' or 'published'"):
        theorem2_bound(torch.eye(2), 4, "loose")
    with pytest.raises(ValueError, match="no factors"):
        compose([])


# -- Corollary 1 -------------------------------------------------------------------------------------------------
def branch_jacobian(block, x):
    return torch.autograd.functional.jacobian(block, x).reshape(x.numel(), x.numel())


ACTIVATIONS = [
    nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Tanh(), nn.Softplus(), nn.Softsign(), nn.LogSigmoid(),
    nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.SELU(), nn.GELU(), nn.GELU("tanh"),
    nn.ELU(), nn.ELU(1.7), nn.CELU(), nn.CELU(0.3), nn.LeakyReLU(0.1), nn.LeakyReLU(3.0), nn.PReLU(init=-2.0), nn.PReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations_slopes_are_their_largest(activation):
    """Each bound is reached: it is the largest slope, neither less nor more."""
    linear = nn.Linear(1, 1, bias=False).double()
    linear.weight.data.fill_(1)
    c = corollary_bound([linear, activation.double()]).item()
    kinks = [a + b for a in (-3.0, 0.0, 3.0, -35.0, 35.0) for b in (-1e-9, 1e-9)]
    points = [torch.linspace(-8, 8, 160_002, dtype=torch.float64), torch.tensor(kinks, dtype=torch.float64)]
    z = torch.cat(points).requires_grad_()
    activation(z.reshape(-1, 1)).sum().backward()
    assert z.grad.abs().max().item() == pytest.approx(c, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 8),
    hidden=st.integers(1, 12),
    layers=st.integers(1, 3),
    seed=st.integers(0, 99),
    which=st.integers(0, len(ACTIVATIONS) - 1),
)
def test_the_bound_holds_for_dense_blocks(width, hidden, layers, seed, which):
    torch.manual_seed(seed)
    sizes = [width] + [hidden] * (layers - 1) + [width]
    block = nn.Sequential(
        *(m for a, b in itertools.pairwise(sizes) for m in (ACTIVATIONS[which], nn.Linear(a, b)))
    ).double()
    bound = corollary_bound(block).item()
    for _ in range(3):
        j = branch_jacobian(block, torch.randn(width, dtype=torch.float64))
        assert torch.linalg.matrix_norm(j, 2).item() <= bound * (1 + 1e-9)
        assert gradient_delta(torch.eye(width) + j).item() <= bound * (1 + 1e-9) + 1e-7


def test_every_activation_brings_its_slope_and_every_layer_its_norm():
    first, second = nn.Linear(5, 7).double(), nn.Linear(7, 5).double()
    norms = [torch.linalg.matrix_norm(m.weight, 2).item() for m in (first, second)]
    for modules, factor in (
        ([first, nn.ReLU(), second], 1.0),
        ([first, nn.SiLU(), second], 1.0998393201),
        ([nn.SiLU(), first, nn.SiLU(), second], 1.0998393201**2),
        ([nn.Sequential(first, nn.Sequential(nn.Sigmoid())), second], 0.25),
    ):
        assert corollary_bound(modules).item() == pytest.approx(factor * math.prod(norms))


@pytest.mark.parametrize("mode", ["circular", "zeros"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("size", [4, (3, 6)])
def test_convolutional_blocks_use_the_operators_norms(mode, k, size):
    torch.manual_seed(0)
    convs = [nn.Conv2d(a, b, k, padding=k // 2, padding_mode=mode, bias=False).double() for a, b in ((3, 5), (5, 3))]
    exact = math.prod(torch.linalg.matrix_norm(dense(c.weight, size, padding=mode), 2).item() for c in convs)
    block = nn.Sequential(convs[0], nn.ReLU(), convs[1])
    assert corollary_bound(block, size).item() == pytest.approx(exact, rel=1e-8)
    certified = corollary_bound(block, size, certified=True).item()
    assert certified >= exact * (1 - 1e-12)
    if mode == "zeros" and k > 1:
        assert certified == pytest.approx(math.prod(operator_norm_bound(c.weight, size).item() for c in convs))
    h, w = (size, size) if isinstance(size, int) else size
    j = branch_jacobian(lambda x: block(x[None])[0], torch.randn(3, h, w, dtype=torch.float64))
    assert torch.linalg.matrix_norm(j, 2).item() <= exact * (1 + 1e-9)


def test_batch_norm_counts_with_its_running_averages():
    torch.manual_seed(0)
    block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, bias=False)).double()
    block(3 * torch.randn(8, 4, 6, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match="block.eval"):
        corollary_bound(block, 6)
    norm = block[0].eval()
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).abs().max()
    expected = scale * operator_norm(block[2].weight, 6, "zeros")
    assert corollary_bound(block.eval(), 6).item() == pytest.approx(expected.item())
    j = branch_jacobian(lambda x: block(x[None])[0], torch.randn(4, 6, 6, dtype=torch.float64))
    assert torch.linalg.matrix_norm(j, 2) <= corollary_bound(block, 6)


def test_a_bottleneck_of_this_library():
    torch.manual_seed(0)
    model = models.build("resnet", 20).double()
    model(torch.randn(4, 3, 32, 32, dtype=torch.float64))  # running averages away from their start
    found = dict(model.eval().named_modules())
    blocks = [m for m in found.values() if isinstance(m, models.Bottleneck)]
    kept = [b for b in blocks if b.identity]
    for b in blocks:
        if not b.identity:
            with pytest.raises(ValueError, match="identity skip"):
                corollary_bound(b, 8)
    block, size = kept[0], 3
    c = next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels
    with torch.no_grad():
        for m in block.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.mul_(0.25)
    bound = corollary_bound(block, size)
    assert bound.requires_grad and bound < 1
    x = torch.randn(c, size, size, dtype=torch.float64)
    j = branch_jacobian(lambda z: block(z[None])[0], x)
    delta = gradient_delta(j).item()
    assert 0.05 * bound < delta <= bound


class Louder(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(x)


class Skipping(nn.Sequential):
    def forward(self, x):
        return 5 * x + super().forward(x)


def pruned():
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=0.3)


def test_what_computes_something_else_is_not_taken_for_its_base():
    for block in (nn.Sequential(Louder(4, 4)), [nn.Linear(4, 4), Louder(4, 4)], Skipping(nn.Linear(4, 4), nn.Tanh())):
        with pytest.raises(ValueError, match=r"no linear or convolutional layer|no bound for Louder"):
            corollary_bound(block)
    with pytest.raises(ValueError, match="made anew"):
        corollary_bound([pruned()])
    normed = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).eval()
    assert corollary_bound([normed]).item() == pytest.approx(torch.linalg.matrix_norm(normed.weight, 2).item())


def test_half_precision_and_what_has_no_norm():
    layer = nn.Linear(4, 4)
    expected = corollary_bound([layer]).item()
    assert corollary_bound([layer.half()]).item() == pytest.approx(expected, rel=1e-2)
    with torch.no_grad():
        layer.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        corollary_bound([layer])


def test_the_bound_can_be_trained():
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    corollary_bound(block).backward()
    assert block[0].weight.grad.norm() > 0 < block[2].weight.grad.norm()


@pytest.mark.parametrize(
    ("block", "size", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1)), None, "no bound for Softmax"),
        (nn.Sequential(nn.ReLU()), None, "no linear or convolutional layer"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)), None, "size"),
        (nn.Sequential(nn.Conv2d(2, 2, 3)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Conv2d(2, 2, 2, padding=1)), 8, "odd"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, groups=2)), 8, "ungrouped"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, stride=2)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, dilation=2)), 8, "keep the feature map's size"),
        (nn.Sequential(nn.Linear(4, 8), nn.Linear(3, 4)), None, "takes 3 .* the layer before it returns 8"),
        (nn.Sequential(nn.Linear(4, 6)), None, "takes 4 numbers .* and returns 6"),
        (nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 6, 1)), 8, "takes 4 numbers .* and returns 6"),
        (nn.Sequential(nn.Linear(2, 2), nn.CELU(-1.0)), None, "alpha must be positive"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), 8, "reflect"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval(), None, "batch"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), None, "Dropout"),
    ],
)
def test_bad_input_of_corollary_1(block, size, said):
    with pytest.raises(ValueError, match=said):
        corollary_bound(block, size)


# -- in the studies' frame ----------------------------------------------------------------------------------------
def test_one_block_of_a_path_is_what_its_parts_say():
    f = Monotone(linear_map(4, 0.3), features(4, 6))
    path = Path(f)
    block, x = Block(path, (0.2, 0.2), (0.5, 0.6)), ball(4, 9)
    assert torch.allclose(block(x), path((0.5, 0.6), path.inverse((0.2, 0.2), x)), atol=1e-14)
    assert torch.allclose(block(x) - x, block.residual(x), atol=1e-14)
