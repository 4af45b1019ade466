"""The projection of one kernel: against the formulas taken literally, and the values known for it."""

import math

import cases
import oracle
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode

from paperlib.projection import delta_orthogonal, project, project_unchecked, rank, spread, target
from paperlib.spectrum import singular_values


def literally(weight, size):
    """Equation 8 and Algorithm 1 as they are written: every frequency, the SVD's polar factor, crop."""
    kh, kw = weight.shape[2:]
    p = torch.fft.fft2(weight, s=size).permute(2, 3, 0, 1)
    u, _, vh = torch.linalg.svd(p, full_matrices=False)
    full = torch.fft.ifft2((u @ vh).permute(2, 3, 0, 1)).real
    return target(tuple(weight.shape)) * full[..., :kh, :kw]


def test_target():
    assert target((64, 3, 3, 3)) == pytest.approx(math.sqrt(64 / 3))
    assert target((16, 64, 1, 1)) == 1
    assert target((16, 64, 1, 1), relu=True) == pytest.approx(math.sqrt(2))
    assert target((64, 16, 1, 1), stride=2) == 2  # a stride only drops pixels of a 1x1 convolution
    assert target((64, 16, 3, 3), stride=2) == 1  # min(64, 4 * 16)
    assert target((64, 2, 3, 3), stride=2) == pytest.approx(math.sqrt(8))
    assert target((64, 2, 2, 2), stride=3) == pytest.approx(math.sqrt(8))  # four of nine phases are read
    assert rank((64, 3, 7, 7), stride=2) == 12
    layer = torch.nn.Conv2d(3, 64, 7, stride=2)  # its stride is a pair
    assert rank(layer.weight.shape, layer.stride) == 12
    assert spread(delta_orthogonal((8, 4, 3, 3), layer.stride), 4, layer.stride) == pytest.approx((1, 1))
    for bad in (((4, 2, 3), 1), ((0, 2, 3, 3), 1), ((4, 2, 3, 3), 0)):
        with pytest.raises(ValueError, match=r"weight_shape must be|stride must be"):
            target(*bad)
    for stride in (1.5, (2, 1), (2, 2, 2), (True, True), "2", None, True):
        with pytest.raises(ValueError, match="stride must be"):
            target((4, 2, 3, 3), stride)
    with pytest.raises(ValueError, match="weight_shape must be"):
        target((8.5, 4, 3, 3))
    with pytest.raises(ValueError, match="floating-point"):
        delta_orthogonal((8, 4, 3, 3), dtype=torch.int32)


@settings(max_examples=60, deadline=None)
@given(**cases.up_to(d=7, c=7, kh=4, kw=4, h=6, w=6))
def test_as_the_formulas_say(d, c, kh, kw, h, w, seed):
    assume(kh <= h and kw <= w)
    weight = cases.kernel(d, c, kh, kw, seed)
    s = torch.linalg.svdvals(torch.fft.fft2(weight, s=(h, w)).permute(2, 3, 0, 1))
    assume((s[..., -1] / s.max()).min() > 1e-2)
    assert torch.allclose(project(weight, (h, w)), literally(weight, (h, w)), atol=1e-10)
    assert torch.allclose(project(weight, (h, w), method="quintic"), literally(weight, (h, w)), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(**cases.up_to(d=9, c=5, k=4, stride=4, h=4), relu=st.booleans())
def test_one_matrix_kernels_are_exact(d, c, k, stride, h, seed, relu):
    """k <= stride: 1x1 kernels and patch embeddings; also a kernel as large as the map, where nothing is cropped."""
    if k > stride:
        k = stride
    weight = cases.kernel(d, c, k, seed=seed)
    assume((lambda s: s[-1] / s[0] > 1e-3)(torch.linalg.svdvals(weight.flatten(1))))
    values = oracle.singular_values(project(weight, h, stride, relu), (h, h), stride)
    r, sigma = rank(weight.shape, stride) * h * h, target(weight.shape, stride, relu)
    assert torch.allclose(values[:r], torch.full_like(values[:r], sigma), atol=1e-9)
    assert (values[r:] < 1e-9).all()


@pytest.mark.parametrize(("d", "c"), [(8, 3), (3, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_before_the_crop_every_value_is_on_target(d, c, dtype):
    weight = cases.kernel(d, c, 5, dtype=dtype)
    low, high = spread(project(weight, 5), 5)
    assert max(1 - low, high - 1) < (1e-5 if dtype == torch.float32 else 1e-12)


def test_a_tap_that_is_zero_may_be_filled():
    """Equation 8 knows the kernel's shape alone: a zero tap is a tap."""
    weight = cases.he(8, 3, 3)
    weight[:, 0, 0, 0] = 0
    weight[:, :, 2, 1] = 0
    assert torch.allclose(project(weight, 6), literally(weight, (6, 6)), atol=1e-10)
    assert literally(weight, (6, 6))[:, 0, 0, 0].abs().max() > 0.01


@pytest.mark.parametrize(("d", "c"), [(5, 2), (3, 7), (20, 2)])
@pytest.mark.parametrize("k", [3, 5])
def test_the_unread_taps_of_a_strided_kernel_stay_unread(d, c, k):
    """Its polyphase form is larger than the kernel; what lies beyond the edge must not come back between two passes."""
    weight = cases.kernel(d, c, k)
    once = project(project(weight, 5, stride=2), 5, stride=2)
    # Two passes by hand on the small grid are the same as two at once, if the support is the kernel's in between.
    two, _ = project_unchecked(weight, (5, 5), 2, False, 2, "eigh")
    by_hand, _ = project_unchecked(weight, (5, 5), 2, False, 1, "eigh", "small")
    by_hand, _ = project_unchecked(by_hand, (5, 5), 2, False, 1, "eigh", "small")
    assert torch.allclose(two, by_hand, atol=1e-10)
    assert once.shape == weight.shape


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 32])
def test_many_passes_are_for_every_map_whatever_the_size_given(size):
    low, high = spread(project(cases.he(64, 3, 3), size, passes=100), 32)
    assert max(1 - low, high - 1) < 1e-4


def off(weight, size):
    low, high = spread(weight, size)
    return max(1 - low, high - 1)


@pytest.mark.parametrize("seed", range(10))
def test_he_kernel_after_one_ten_and_fifty_passes(seed):
    """3 -> 64, 3x3, n = 32: the known ±2.5 % and ±0.1 %, which is for one kernel and without relaxation, and closer."""
    weight = cases.he(64, 3, 3, seed, torch.float32)
    for passes, least, most in ((1, 0.05, 0.25), (10, 0.003, 0.0125), (50, 0.0, 1e-4)):
        assert least < off(project(weight, 32, passes=passes), 32) < most


@pytest.mark.parametrize("shape", [(64, 3), (32, 16), (3, 64), (24, 20)])
def test_over_relaxation_is_ahead_of_the_plain_iteration(shape):
    weight = plain = cases.he(*shape, 3)
    for passes in range(1, 21):
        plain = project(plain, 16)
        if passes in (10, 20):
            assert off(project(weight, 16, passes=passes), 16) < off(plain, 16)


def test_plain_alternation_gives_the_known_values():
    """Known values: 16 -> 32 at n = 32, [.963, 1.037] after 50 projections; over-relaxed, closer."""
    plain = cases.he(32, 16, 3)
    for _ in range(50):
        plain = project(plain, 32)
    assert spread(plain, 32) == pytest.approx((0.963, 1.037), abs=0.01)
    assert spread(project(cases.he(32, 16, 3), 32, passes=50), 32) == pytest.approx((0.975, 1.025), abs=0.006)


def test_square_kernels_stall_unless_they_start_right():
    low, _ = spread(project(cases.he(16, 16, 3), 32, passes=200), 32)
    assert low < 0.3
    start = delta_orthogonal((16, 16, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = cases.kernel(16, 16, 3)
    low, high = spread(project(start + 0.05 * start.norm() / noise.norm() * noise, 32), 32)
    assert low > 0.998
    assert high < 1.002


@pytest.mark.parametrize(("shape", "bounds"), [((64, 3), (0.994, 1.006)), ((16, 16), (0.990, 1.010))])
@pytest.mark.parametrize("grid", ["small", "map"])
def test_four_hundred_noisy_steps(shape, bounds, grid):
    generator = torch.Generator().manual_seed(1)
    size = 8
    square = shape[0] == shape[1]
    weight = (
        delta_orthogonal((*shape, 3, 3), generator=generator, dtype=torch.float64)
        if square
        else project(cases.he(*shape, 3), size, passes=100)
    )
    for step in range(400):
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight = weight + 0.01 * weight.norm() / noise.norm() * noise
        weight, ok = project_unchecked(weight, (size, size), 1, False, 1, "eigh", grid)
        assert ok
        if step % 40 == 39:
            low, high = spread(weight, 32)
            assert bounds[0] < low <= high < bounds[1]


@pytest.mark.parametrize(("d", "c", "off"), [(32, 2, 1e-4), (16, 2, 1e-3), (6, 4, 0.4)])
def test_strided_3x3_kernels(d, c, off):
    """The folded formula: tall ones (d > 4c) converge, wide ones come closer and stall."""
    weight = cases.kernel(d, c, 3)
    values = oracle.singular_values(project(weight, 4, 2, passes=100), (4, 4), 2)[: rank(weight.shape, 2) * 16]
    assert (values / target(weight.shape, 2) - 1).abs().max() < off


@pytest.mark.parametrize(
    ("d", "c", "k", "stride"), [(8, 3, 3, 1), (3, 8, 3, 1), (6, 6, 1, 1), (16, 3, 3, 2), (5, 2, 4, 2)]
)
def test_delta_orthogonal_kernels_are_exact_and_projecting_leaves_them(d, c, k, stride):
    weight = delta_orthogonal((d, c, k, k), stride, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = oracle.singular_values(weight, (5, 5), stride)
    r = rank(weight.shape, stride) * 25
    assert torch.allclose(values[:r], torch.full_like(values[:r], target(weight.shape, stride)), atol=1e-10)
    assert (values[r:] < 1e-10).all()
    again = project(weight, 5, stride)
    assert torch.allclose(again, weight, atol=1e-9)
    assert torch.allclose(project(again, 5, stride), again, atol=1e-9)


def test_spatial_orientation_is_kept():
    """A centre tap is already orthogonal: it must come back, where a conjugated transform gives zero."""
    w = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    w[:, :, 1, 1] = torch.eye(4)
    assert torch.allclose(project(w, 8), w, atol=1e-12)
    shifted = torch.roll(w, (-1, 1), dims=(2, 3))
    assert torch.allclose(project(shifted, 8), shifted, atol=1e-12)


@pytest.mark.parametrize(("d", "c"), [(7, 4), (4, 7)])
def test_changes_of_channel_basis_commute(d, c):
    weight = cases.kernel(d, c, 3)
    u = torch.linalg.qr(cases.kernel(d, d, 1)[:, :, 0, 0]).Q
    v = torch.linalg.qr(cases.kernel(c, c, 1, seed=1)[:, :, 0, 0]).Q

    def turned(w):
        return torch.einsum("ed,dcij,cb->ebij", u, w, v)

    assert torch.allclose(project(turned(weight), 6), turned(project(weight, 6)), atol=1e-10)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_the_scale_does_not_matter(scale):
    weight = cases.kernel(6, 3, 3, dtype=torch.float32)
    assert torch.allclose(project(scale * weight, 5), project(weight, 5), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_layout_and_input_are_kept(dtype):
    weight = cases.kernel(6, 3, 3, dtype=dtype).permute(0, 1, 3, 2).requires_grad_()
    before = weight.detach().clone()
    out = project(weight, 5)
    assert (out.dtype, out.shape, out.requires_grad) == (dtype, weight.shape, False)
    assert torch.equal(weight, before)
    assert out.isfinite().all()


def test_products_that_do_not_converge_are_done_again():
    weight = torch.zeros(3, 2, 1, 1, dtype=torch.float64)
    weight[0, 0] = 1
    weight[1, 1] = 3e-7  # beyond what the products are prepared for, not beyond float64
    kernel, ok = project_unchecked(weight, (4, 4), 1, False, 1, "quintic")
    assert not ok
    assert torch.allclose(project(weight, 4, method="quintic"), project(weight, 4), atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("shape", "stride"), [((64, 3, 3, 3), 1), ((128, 64, 1, 1), 2), ((8, 32, 3, 3), 1), ((64, 3, 7, 7), 2)]
)
def test_the_products_ask_nothing_of_the_device(shape, stride, device):
    """Fake tensors have no values: whatever the host wanted to read would raise.

    They stand in for CUDA where there is none.
    """
    with FakeTensorMode():
        kernel, ok = project_unchecked(torch.empty(shape, device=device), (8, 8), stride, False, 1, "quintic", "small")
        assert (kernel.shape, kernel.device.type, ok.shape) == (shape, device, ())


@pytest.mark.parametrize("fill", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("method", ["eigh", "quintic"])
def test_zero_nan_and_inf_kernels_are_refused(fill, method):
    for k in (1, 3):
        with pytest.raises(ValueError, match="kernel"):
            project(torch.full((4, 2, k, k), fill), 8, method=method)


def test_rank_deficient_kernels_are_refused():
    with pytest.raises(ValueError, match="rank-deficient"):
        project(torch.randn(8, 1, 1, 1) * torch.ones(1, 3, 1, 1), 8)
    with pytest.raises(ValueError, match="rank-deficient"):  # its transform vanishes at the highest frequency
        project(torch.ones(1, 1, 2, 2), 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.randn(4, 2, 3), 8), "shape"),
        ((torch.randn(4, 2, 3, 3, dtype=torch.complex64), 8), "real"),
        ((torch.randn(4, 2, 3, 3), 2.5), "size"),
        ((torch.randn(4, 2, 3, 3), 8, 0), "stride"),
        ((torch.randn(4, 2, 3, 3), 8, 1, False, 0), "passes"),
        ((torch.randn(4, 2, 3, 3), 8, 1, False, 1, "svd"), "choose one of eigh, newton-schulz"),
        ((torch.randn(4, 2, 3, 3), 8, 1, False, True), "passes"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ValueError, match=said):
        project(*arguments)


@pytest.mark.cuda
@pytest.mark.parametrize(("shape", "stride"), [((64, 3, 3, 3), 1), ((128, 64, 1, 1), 2), ((16, 4, 3, 3), 2)])
def test_cuda_agrees(shape, stride):
    weight = cases.kernel(*shape[:3], dtype=torch.float32)
    assert torch.allclose(project(weight.cuda(), 8, stride).cpu(), project(weight, 8, stride), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups", "k", "stride"), [((16, 16), 16, 3, 1), ((4, 8), 2, 3, 2), ((8, 4), 4, 1, 1)]
)
def test_the_target_of_groups_is_that_of_one_of_them(channels, groups, k, stride):
    conv = nn.Conv2d(*channels, k, stride, padding="same" if stride == 1 else k // 2, groups=groups, bias=False)
    sigma = target(conv.weight.shape, conv.stride, groups=groups)
    assert sigma == target((conv.out_channels // groups, *conv.weight.shape[1:]), stride)
    # As spread takes it: its values are singular values over the target.
    values = singular_values(conv, input_size=8, padding="circular")
    assert spread(conv, input_size=8, padding="circular")[1] == pytest.approx(values.max().item() / sigma)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="groups must divide the 16 output channels of weight_shape, not be 3"):
        target((16, 2, 3, 3), groups=3)


@pytest.mark.parametrize("value", [nn.Conv2d(3, 4, 3), torch.ones(4, 3, 3, 3), (4, 3, 3)])
def test_a_shape_is_asked_for_by_its_name(value):
    with pytest.raises(
        ValueError, match=r"weight_shape must be \(d, c, kh, kw\), such as a Conv2d's weight.shape, not "
    ):
        target(value)


def test_a_layer_that_reads_nothing_has_no_spread():
    with pytest.raises(ValueError, match="weight has no tap that meets an input of these sides"):
        spread(nn.Conv2d(2, 2, 1, stride=3, padding=1), input_size=(2, 2))
