"""The share of gradient energy: known subspaces, isotropic gradients, and the formula for its spread."""

import math

import cases
import oracle
import pytest
import torch
from torch import nn

from paperlib.energy import effective_rank, energy_fraction, output_gradients, relative_sd


@pytest.mark.parametrize(
    ("d", "c", "k", "stride"), [(8, 3, 1, 1), (8, 3, 3, 1), (8, 3, 1, 2), (12, 2, 3, 2), (3, 8, 3, 1)]
)
def test_against_the_dense_adjoint(d, c, k, stride):
    """The norm of the part outside of the adjoint's null space, by the operator's own singular vectors."""
    weight = cases.kernel(d, c, k)
    matrix = oracle.operator(weight, (4, 5), stride)
    u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    gradient = cases.kernel(6, d, 4, 5, seed=1)
    flat = gradient.flatten(1)
    expected = (flat @ basis).square().sum(1) / flat.square().sum(1)
    assert torch.allclose(energy_fraction(weight, gradient, stride), expected, atol=1e-10)


def test_what_is_passed_and_what_is_lost():
    weight = cases.kernel(6, 2, 1)
    inside = torch.einsum("dc,nchw->ndhw", weight[:, :, 0, 0], cases.kernel(3, 2, 4))
    assert torch.allclose(energy_fraction(weight, inside), torch.ones(3, dtype=torch.float64))
    null = torch.linalg.svd(weight[:, :, 0, 0]).U[:, 2:]
    outside = torch.einsum("dr,nrhw->ndhw", null, cases.kernel(3, 4, 4))
    assert torch.allclose(energy_fraction(weight, outside), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert energy_fraction(weight, torch.zeros(1, 6, 4, 4)).isnan().all()


@pytest.mark.parametrize("c", [2, 3])
@pytest.mark.parametrize("side", [1, 3])
def test_a_square_or_wide_kernel_that_lost_its_rank_loses_gradients(c, side):
    weight = torch.zeros(2, c, side, side)
    weight[0, 0, side // 2, side // 2] = 1  # nothing goes to the second channel
    first, second = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    first[:, 0] = second[:, 1] = 1
    for gradient, share in ((first, 1.0), (second, 0.0), (first + second, 0.5)):
        assert energy_fraction(weight, gradient).item() == pytest.approx(share, abs=1e-12)


def test_isotropic_gradients_have_r_of_d():
    for d, c, k, stride, expected in ((64, 3, 3, 1, 3 / 64), (32, 16, 1, 2, 0.5), (16, 2, 3, 2, 0.5)):
        gradient = cases.kernel(200, d, 6)
        assert energy_fraction(cases.kernel(d, c, k), gradient, stride).mean().item() == pytest.approx(
            expected, rel=0.03
        )


@pytest.mark.parametrize(("d", "r", "values"), [(16, 3, [1.0]), (16, 3, [1.0] * 4), (16, 8, [4.0, 2.0, 1.0, 1.0])])
def test_the_spread_over_random_subspaces(d, r, values):
    """Any second moment with that participation ratio, not only flat ones."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor(values, dtype=torch.float64)
    m = (values.sum() ** 2 / values.square().sum()).item()
    bases = torch.linalg.qr(torch.randn(20_000, d, r, generator=generator, dtype=torch.float64)).Q
    shares = (bases[:, : len(values)].square().sum(2) * values).sum(1) / values.sum()
    assert (shares.std() / shares.mean()).item() == pytest.approx(relative_sd(d, r, m), rel=0.03)


def test_spread_at_its_ends():
    assert relative_sd(64, 3) == pytest.approx(0.78, abs=0.01)  # Known values
    assert relative_sd(128, 64) == pytest.approx(0.12, abs=0.01)
    assert relative_sd(8, 8) == relative_sd(8, 3, 8) == relative_sd(1, 1) == 0
    for bad in ((8, 0), (8, 9), (8, 3, 0.5), (8, 3, 9)):
        with pytest.raises(ValueError, match="between 1 and d"):
            relative_sd(*bad)


def test_effective_rank():
    assert effective_rank(torch.ones(2, 5, 3, 3)) == pytest.approx(1)
    two = torch.zeros(2, 4, 1, 1)
    two[0, 0], two[1, 1] = 1, 1
    assert effective_rank(two) == pytest.approx(2)
    with pytest.raises(ValueError, match="shape"):
        effective_rank(torch.ones(3, 4))


def test_output_gradients_are_autograds_own():
    torch.manual_seed(0)
    # The second ReLU changes its input in place.
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(20, 3)
    )
    images, labels = torch.randn(6, 3, 2, 2), torch.arange(6) % 3
    found = output_gradients(model, images, labels, ["0", "2"])
    for name in ("0", "2"):
        value = model[: int(name) + 1](images).detach().requires_grad_()
        loss = nn.functional.cross_entropy(model[int(name) + 1 :](value.clone()), labels)
        assert torch.allclose(found[name], torch.autograd.grad(loss, value)[0], atol=1e-7)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match="no submodule 'x'"):
        output_gradients(model, images, labels, ["x"])


def test_bad_shapes():
    with pytest.raises(ValueError, match="gradient must be"):
        energy_fraction(torch.ones(4, 2, 1, 1), torch.ones(1, 3, 2, 2))
    assert math.isclose(
        energy_fraction(torch.ones(2, 4, 1, 1) + cases.kernel(2, 4, 1), torch.ones(1, 2, 2, 2)).item(), 1
    )


def test_the_effective_rank_stays_in_its_range():
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(4, 1, 3, 3, generator=generator) * torch.randn(1, 5, 1, 1, generator=generator)
        assert 1 <= effective_rank(g) <= 1 + 1e-6
    assert math.isnan(effective_rank(torch.zeros(2, 3, 4, 4)))


def test_a_complex_gradient_and_a_broken_weight_are_refused():
    weight, gradient = torch.randn(4, 2, 3, 3), torch.randn(2, 4, 5, 5)
    with pytest.raises(ValueError, match="gradient must be real"):
        energy_fraction(weight, gradient + 1j)
    weight[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        energy_fraction(weight, gradient)
