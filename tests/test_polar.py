"""The polar factor: every method against the SVD, and the steps each iteration is known to need."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperlib.polar import PREPARED_FOR, coefficients, inverse_sqrt, polar_factor, polar_iterates, steps_needed

METHODS = ("eigh", "newton-schulz", "scaled-newton-schulz", "quintic")


def matrix(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    p=st.integers(1, 9),
    q=st.integers(1, 9),
    seed=st.integers(0, 999),
    is_complex=st.booleans(),
    method=st.sampled_from(METHODS),
)
def test_agrees_with_the_svd(p, q, seed, is_complex, method):
    m = matrix(3, p, q, seed=seed, dtype=torch.complex128 if is_complex else torch.float64)
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    if (s[:, -1] / s[:, 0]).min() < 1e-3:
        return
    assert torch.allclose(polar_factor(m, method), u @ vh, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e150])
def test_the_scale_does_not_matter(method, scale):
    m = matrix(7, 4)
    assert torch.allclose(polar_factor(scale * m, method), polar_factor(m, method), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fill", [0.0, math.nan, math.inf])
def test_what_has_no_polar_factor_is_refused(method, fill):
    with pytest.raises(ValueError, match="matrix"):
        polar_factor(torch.full((4, 3), fill), method)
    with pytest.raises(ValueError, match="rank-deficient"):
        polar_factor(torch.ones(4, 3), method)


@pytest.mark.parametrize("method", METHODS)
def test_the_condition_that_each_method_is_prepared_for(method):
    u, v = torch.linalg.qr(matrix(12, 6)).Q, torch.linalg.qr(matrix(6, 6, seed=1)).Q
    for smallest in (1e-2, 10 * PREPARED_FOR):
        m = u * torch.logspace(0, math.log10(smallest), 6, dtype=torch.float64) @ v.T
        assert torch.allclose(polar_factor(m, method), u @ v.T, atol=1e-6)


def test_products_that_do_not_converge_say_so():
    gram = torch.diag(torch.tensor([1.0, 1e-13], dtype=torch.float64))
    root, ok = inverse_sqrt(gram, "quintic")
    assert not ok
    assert inverse_sqrt(gram, "eigh")[1]
    assert not inverse_sqrt(torch.full((2, 2), math.nan, dtype=torch.float64), "quintic")[1]


@pytest.mark.parametrize(
    ("method", "steps", "error"),
    [("newton-schulz", 10, 5e-4), ("scaled-newton-schulz", 6, 2.5e-6), ("quintic", 4, 2e-7), ("qdwh", 3, 5e-13)],
)
def test_worst_cases_from_a_twentieth(method, steps, error):
    """Values known from an independent computation."""
    x = torch.diag(torch.linspace(0.05, 1, 500, dtype=torch.float64))
    found = (torch.linalg.svdvals(polar_iterates(x, method, steps, 0.05)[-1]) - 1).abs().max().item()
    assert error / 2 < found < 1.1 * error


def test_newton_schulz_is_quadratic_in_the_end():
    x = torch.diag(torch.linspace(0.5, 1, 20, dtype=torch.float64))
    errors = [(torch.linalg.svdvals(y) - 1).abs().max().item() for y in polar_iterates(x, "newton-schulz", 6, 0.5)]
    assert [b / a**2 for a, b in zip(errors[3:5], errors[4:6], strict=True)] == pytest.approx([1.5, 1.5], abs=0.02)


@pytest.mark.parametrize("lower", [0.5, 0.05, 1e-3, 1e-5])
def test_the_quintic_is_minimax(lower):
    """Its error takes its largest value, with alternating signs, at four points: no odd quintic does better."""
    a, b, c = coefficients("quintic", lower, 1)[0]
    x = torch.logspace(math.log10(lower), 0, 200_001, dtype=torch.float64)
    e = a * x + b * x**3 + c * x**5 - 1
    largest = e.abs().max()
    extremes = e[(e.abs() > largest * (1 - 1e-6))].sign()
    assert 1 + (extremes[1:] != extremes[:-1]).sum().item() == 4


def test_steps_needed():
    assert steps_needed("quintic", PREPARED_FOR) < steps_needed("scaled-newton-schulz", PREPARED_FOR)
    assert steps_needed("newton-schulz", 0.05) == 13


@pytest.mark.parametrize("bad", [("halley", 0.1, 3), ("quintic", 0.0, 3), ("quintic", 2.0, 3), ("quintic", 0.1, -1)])
def test_bad_input(bad):
    with pytest.raises(ValueError):
        coefficients(*bad)
