"""Theorem 3 from one dimension up, each rung against dense linear algebra in float64."""

import math

import cases
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings

from paperlib import _lanczos, projection
from paperlib.spectrum import (
    dense,
    from_polyphase,
    operator_norm,
    operator_norm_bound,
    polyphase,
    singular_values,
    transfer_matrices,
)


def ordered(values):
    return values.flatten().sort(descending=True).values


def agrees(weight, size, stride=1, tolerance=1e-10):
    exact = oracle.singular_values(weight, size, stride)
    ours = singular_values(weight, size, stride)
    assert ours.shape == (*size, min(weight.shape[0], stride**2 * weight.shape[1]))
    assert torch.allclose(ordered(ours).double(), exact, rtol=0, atol=tolerance * max(1.0, exact[0].item()))


def test_one_dimension_is_a_circulant_matrix():
    taps = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    n = 7
    circulant = torch.stack([torch.cat([taps, torch.zeros(n - 3)]).roll(i) for i in range(n)])
    ours = ordered(singular_values(taps.reshape(1, 1, 1, 3), (1, n)))
    assert torch.allclose(ours, torch.linalg.svdvals(circulant.double()), atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(5, 5), (6, 6), (4, 7), (1, 3), (2, 2)])
@pytest.mark.parametrize(("d", "c"), [(1, 1), (4, 2), (2, 5)])
def test_two_dimensions(k, size, d, c):
    agrees(cases.kernel(d, c, k), size)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_strides(stride, k, size):
    agrees(cases.kernel(3, 2, k), size, stride)
    agrees(cases.kernel(9, 2, k), size, stride)


@settings(max_examples=60, deadline=None)
@given(**cases.up_to(d=5, c=5, kh=5, kw=5, h=5, w=5, stride=3))
def test_any_shape(d, c, kh, kw, h, w, stride, seed):
    weight = cases.kernel(d, c, kh, kw, seed)
    agrees(weight, (h, w), stride)
    assert torch.equal(from_polyphase(polyphase(weight, stride), tuple(weight.shape), stride), weight)
    assert torch.allclose(
        torch.linalg.svdvals(dense(weight, (h, w), stride)), oracle.singular_values(weight, (h, w), stride), atol=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precisions_are_computed_in_float32(dtype):
    weight = cases.kernel(6, 4, 3, dtype=dtype)
    assert singular_values(weight, 5).dtype == torch.float32
    agrees(weight, (5, 5), tolerance=1e-5)


def test_transfer_matrices_are_the_fft():
    weight = cases.kernel(4, 3, 3, 5)
    fft = torch.fft.rfft2(weight, s=(8, 6)).permute(2, 3, 0, 1)
    assert torch.allclose(transfer_matrices(weight, (8, 6)), fft, atol=1e-12)


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 1), (3, 2), (1, 2)])
def test_gradients(k, stride):
    weight = cases.kernel(3, 2, k).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: singular_values(w, (3, 4), stride), weight)
    assert torch.autograd.gradcheck(lambda w: operator_norm(w, 3, "circular", stride), weight)
    assert torch.autograd.gradcheck(lambda w: operator_norm(w, 3, "zeros", stride), weight, atol=1e-5)
    assert torch.autograd.gradcheck(lambda w: operator_norm_bound(w, 3, stride), weight)


@settings(max_examples=40, deadline=None)
@given(**cases.up_to(d=4, c=4, k=5, h=5, w=5, stride=2))
def test_norms_with_zero_padding(d, c, k, h, w, stride, seed):
    weight = cases.kernel(d, c, k, seed=seed)
    exact = oracle.singular_values(weight, (h, w), stride, "zeros")[0].item()
    assert operator_norm(weight, (h, w), "zeros", stride).item() == pytest.approx(exact, rel=1e-9, abs=1e-12)
    assert operator_norm_bound(weight, (h, w), stride).item() >= exact * (1 - 1e-12)


def test_the_reshaped_norm_is_no_bound_but_k_times_it_is():
    weight = cases.kernel(6, 6, 3)
    reshaped = torch.linalg.matrix_norm(weight.flatten(1), 2).item()
    exact = operator_norm(weight, 8, "zeros").item()
    assert reshaped < exact < 3 * reshaped


def test_an_exact_kernel_padded_with_zeros():
    """Known values: sv/σ in [.593, 1.000], and as many equal to 1 as there are inner pixels."""
    weight = cases.he(64, 3, 3)
    weight = projection.project(weight, 16, passes=1000) / projection.target(weight.shape)
    matrix = oracle.operator(weight, (16, 16), padding="zeros")
    values = torch.linalg.eigvalsh(matrix.T @ matrix).sqrt()
    assert 0.55 < values.min() < 0.65
    assert values.max() < 1 + 1e-9
    assert ((values - 1).abs() < 1e-6).double().mean().item() == pytest.approx((14 / 16) ** 2)


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e200])
def test_norms_of_kernels_of_any_size(scale):
    weight = cases.kernel(4, 4, 3)
    for padding in ("circular", "zeros"):
        exact = operator_norm(weight, 6, padding).item()
        assert operator_norm(scale * weight, 6, padding).item() / scale == pytest.approx(exact, rel=1e-9)


def test_the_iteration_is_repeatable_and_never_above_the_exact_norm():
    for seed, (d, c) in enumerate([(24, 3), (3, 24), (8, 8)]):
        weight = cases.kernel(d, c, 3, seed=seed)
        exact = oracle.singular_values(weight, (8, 8), padding="zeros")[0].item()
        norms = [operator_norm(weight, 8, "zeros", tolerance=t).item() for t in (1e-9, 1e-9, 1e-3)]
        assert norms[0] == norms[1]
        assert max(norms) <= exact * (1 + 1e-14)
        assert norms == pytest.approx([exact, exact, exact], rel=2e-3)
        with torch.inference_mode():
            assert operator_norm(weight, 8, "zeros").item() == norms[0]


def test_a_kernel_that_the_border_hides_has_norm_zero():
    weight = torch.zeros(16, 16, 7, 7)
    weight[:, :, 0, 0] = 1  # three pixels away from the one it is for
    assert operator_norm(weight, 3, "zeros").item() == 0
    assert operator_norm(weight, 4, "zeros").item() == pytest.approx(16)


def test_an_iteration_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(_lanczos, "_STEPS", 2)
    with pytest.raises(RuntimeError, match="did not converge to 1e-09: ask for a larger tolerance"):
        operator_norm(cases.kernel(8, 8, 3), 8, "zeros")


def test_numpy_integers_are_integers():
    weight = cases.kernel(3, 2, 3)
    assert torch.equal(singular_values(weight, np.int64(4), np.int64(2)), singular_values(weight, 4, 2))


def test_a_zero_kernel_has_norm_zero():
    weight = torch.zeros(3, 2, 3, 3)
    assert operator_norm(weight, 4).item() == operator_norm(weight, 4, "zeros").item() == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: singular_values(torch.ones(3, 2, 3), 4), "shape"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3, dtype=torch.int64), 4), "floating-point"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3, dtype=torch.complex64), 4), "real"),
        (lambda: singular_values([[1.0]], 4), "list"),
        (lambda: singular_values(torch.ones(0, 2, 3, 3), 4), "empty"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3), 0), "size"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3), 4.0), "size"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3), (4, 4, 4)), "size"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3), 4, stride=0), "stride"),
        (lambda: singular_values(torch.ones(3, 2, 3, 3), 4, stride=(2, 1)), "stride must be the same both ways"),
        (lambda: singular_values(torch.ones(3, 2, 3), 4), "a Conv1d or a Conv3d as the layer itself"),
        (lambda: operator_norm(torch.ones(3, 2, 3, 3), 4, "reflect"), "padding"),
        (lambda: operator_norm(torch.full((3, 2, 3, 3), math.nan), 4, "zeros"), "NaN"),
        (lambda: operator_norm(torch.full((3, 2, 3, 3), math.nan), 4), "NaN"),
        (lambda: operator_norm_bound(torch.full((3, 2, 3, 3), math.inf), 4), "infinite"),
        (lambda: singular_values(torch.full((3, 2, 1, 1), math.nan), 4), "NaN"),
        (lambda: singular_values(torch.full((3, 2, 3, 3), 5e37), 4), "too large for sums of them in float32"),
        (lambda: operator_norm(torch.full((3, 2, 3, 3), 5e37), 20, "zeros"), "too large for sums of them in float32"),
        (lambda: projection.spread([[1]], 4), "list"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.cuda
def test_cuda_agrees():
    weight = cases.kernel(8, 4, 3)
    assert torch.allclose(singular_values(weight.cuda(), 6, 2).cpu(), singular_values(weight, 6, 2), atol=1e-10)
    assert operator_norm(weight.cuda(), 6, "zeros").item() == pytest.approx(operator_norm(weight, 6, "zeros").item())


@pytest.mark.parametrize(("d", "c", "k", "size"), [(48, 2, 3, 12), (40, 16, 1, 5), (30, 3, 3, 9), (12, 6, 3, 8)])
def test_a_kernel_with_many_outputs_is_narrowed_without_a_change(d, c, k, size):
    w = torch.randn(d, c, k, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact = torch.linalg.matrix_norm(dense(w, size, padding="zeros"), 2)
    found = operator_norm(w, size, "zeros")
    assert found.item() == pytest.approx(exact.item(), rel=1e-9)
    (wanted,), (got,) = (torch.autograd.grad(x, w) for x in (exact, found))
    assert torch.allclose(got, wanted, atol=1e-4 * wanted.abs().max())


@pytest.mark.parametrize("tolerance", [0, -1, 10, float("nan"), True, "small"])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number above 0 and at most 0.1"):
        operator_norm(torch.ones(1, 1, 3, 3), 4, "zeros", tolerance=tolerance)


def zero_padded(w):
    return operator_norm(w, 8, "zeros")


@pytest.mark.parametrize(
    "loss",
    [zero_padded, lambda w: zero_padded(w).square(), lambda w: zero_padded(w) + w.square().sum()],
    ids=["the norm", "its square", "a sum, whose derivative in the norm is a constant"],
)
def test_no_second_derivative_is_without_the_norms_part(loss):
    w = torch.randn(4, 8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (first,) = torch.autograd.grad(loss(w), w, create_graph=True)
    with pytest.raises(RuntimeError, match="operator_norm has no second derivative"):
        torch.autograd.grad(first.square().sum(), w)
    with pytest.raises(RuntimeError, match="operator_norm has no second derivative"):
        torch.func.grad(lambda v: torch.func.grad(loss)(v).square().sum())(w.detach())


@pytest.mark.parametrize("function", [zero_padded, lambda w: singular_values(w, 8).sum()])
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_transforms_of_torch_func_agree_with_autograd(function, transform):
    w = torch.randn(4, 8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (expected,) = torch.autograd.grad(function(w), w)
    assert torch.allclose(transform(function)(w.detach()), expected, rtol=1e-12)


@pytest.mark.parametrize("function", [singular_values, operator_norm, operator_norm_bound, projection.project])
@pytest.mark.parametrize("outer", [lambda f: f, lambda f: torch.func.grad(lambda w: f(w).sum())])
def test_within_vmap_one_sentence_says_what_to_do(function, outer):
    weights = torch.randn(2, 4, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        ValueError, match=r"is a batch of torch\.vmap.*: call the function for one kernel after the other"
    ):
        torch.vmap(outer(lambda w: function(w, 8)))(weights)


def test_a_second_derivative_is_right_or_refused():
    w = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for padding in ("circular", "zeros"):
        (first,) = torch.autograd.grad((operator_norm(w, 8, padding) - 1).square(), w, create_graph=True)
        if padding == "zeros":
            with pytest.raises(RuntimeError, match="operator_norm has no second derivative"):
                first.square().sum().backward()
        else:
            first.square().sum().backward()

    def penalty(x):
        return (operator_norm_bound(x, 8) - 1).square()

    assert torch.autograd.gradgradcheck(penalty, (w,), atol=1e-4)
