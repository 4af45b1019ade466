"""The iteration on diagonal matrices, whose eigenvalues are known."""

import pytest
import torch

from paperlib._lanczos import leading_vector


def largest(values, tolerance=1e-9, seed=0):
    diagonal = torch.as_tensor(values, dtype=torch.float64)
    start = torch.randn(2, len(diagonal), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    vector = leading_vector(lambda x: x * diagonal.to(x.dtype), start, tolerance)
    assert vector.dtype == torch.float64
    assert vector.norm().item() == pytest.approx(1)
    return (diagonal * vector.square()).sum().item()


@pytest.mark.parametrize("apart", [0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("seed", range(5))
def test_a_close_pair_is_told_apart(apart, seed):
    """One vector at a time stops at the wrong one of the two, or at a mixture."""
    values = torch.cat([torch.linspace(0, 0.995, 1000, dtype=torch.float64), torch.tensor([1 - apart, 1]).double()])
    assert 1 - 1e-9 <= largest(values, seed=seed) <= 1 + 1e-14


@pytest.mark.parametrize("rank", [1, 2, 3, 40])
@pytest.mark.parametrize("scale", [1e-12, 1, 1e12])
def test_a_space_that_is_soon_exhausted(rank, scale):
    values = torch.zeros(300, dtype=torch.float64)
    values[:rank] = scale * torch.linspace(1, 2, rank, dtype=torch.float64)
    assert largest(values) == pytest.approx(scale * (2 if rank > 1 else 1), rel=1e-9)


def test_equal_values_and_none():
    assert largest([3.0] * 200) == pytest.approx(3, rel=1e-12)
    assert largest([0.0] * 200) == 0


def test_a_finer_tolerance_is_kept_in_float64():
    values = torch.linspace(0, 1, 2000, dtype=torch.float64)
    assert abs(largest(values, 1e-14) - 1) < 1e-13
    assert largest(values, 1e-3) <= 1
