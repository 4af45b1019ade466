"""The projection, first form, against dense linear algebra in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paperlib import models
from paperlib.polar import polar_factor
from paperlib.projection import NormPreserving, project, target


def circular_operator(weight, size, stride=1):
    """The convolution's dense matrix: an identity basis pushed through the real torch convolution, circularly padded."""
    d, c, k, _ = weight.shape
    n = size * stride
    basis = torch.eye(c * n * n, dtype=weight.dtype).reshape(-1, c, n, n)
    p = k // 2
    padded = nn.functional.pad(basis, (p, k - 1 - p, p, k - 1 - p), mode="circular") if k > 1 else basis
    return nn.functional.conv2d(padded, weight, stride=stride).flatten(1).T


@settings(max_examples=30, deadline=None)
@given(p=st.integers(1, 9), q=st.integers(1, 9), seed=st.integers(0, 999), is_complex=st.booleans())
def test_polar_factor_agrees_with_the_svd(p, q, seed, is_complex):
    g = torch.Generator().manual_seed(seed)
    m = torch.randn(3, p, q, generator=g, dtype=torch.complex128 if is_complex else torch.float64)
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    if (s[:, -1] / s[:, 0]).min() < 1e-3:
        return
    assert torch.allclose(polar_factor(m), u @ vh, atol=1e-8)


@pytest.mark.parametrize(("d", "c", "size"), [(12, 5, 4), (5, 12, 4), (7, 7, 3)])
@pytest.mark.parametrize("relu", [False, True])
def test_a_1x1_kernel_is_exact_with_any_stride(d, c, size, relu):
    w = torch.randn(d, c, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for stride in (1, 2):
        out = project(w, size, stride, relu)
        s = torch.linalg.svdvals(circular_operator(out, size, stride))
        s = s[s > 1e-8]
        assert torch.allclose(s, torch.full_like(s, target(w.shape, stride, relu)), atol=1e-10)


def test_he_kernel_after_one_and_ten_passes():
    """theory.md, section 6: 3 -> 64, 3x3, n = 32: about [.864, 1.134] after one pass, [.979, 1.021] after ten."""
    w = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * math.sqrt(2 / 27)
    for passes, bound in ((1, 0.18), (10, 0.025)):
        out = project(w, 32, passes=passes)
        s = torch.linalg.svdvals(torch.fft.fft2(out, s=(32, 32)).permute(2, 3, 0, 1)) / target(w.shape)
        spread = max(s.max().item() - 1, 1 - s.min().item())
        assert bound / 3 < spread < bound


def test_spatial_orientation_is_kept():
    """A centre tap is already orthogonal: it must come back, where a conjugated transform gives zero."""
    w = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    w[:, :, 1, 1] = torch.eye(4)
    assert torch.allclose(project(w, 8), w, atol=1e-12)
    shifted = torch.roll(w, (-1, 1), dims=(2, 3))
    assert torch.allclose(project(shifted, 8), shifted, atol=1e-12)


def test_target():
    assert target((64, 3, 3, 3)) == pytest.approx(math.sqrt(64 / 3))
    assert target((16, 64, 1, 1)) == 1
    assert target((16, 64, 1, 1), relu=True) == pytest.approx(math.sqrt(2))
    assert target((64, 16, 1, 1), stride=2) == 2  # a stride only drops pixels of a 1x1 convolution
    assert target((64, 16, 3, 3), stride=2) == 1  # min(64, 4 * 16)


@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf")])
def test_zero_nan_and_inf_kernels_are_refused(fill):
    for k in (1, 3):
        with pytest.raises(ValueError, match="kernel"):
            project(torch.full((4, 2, k, k), fill), 8)


def test_rank_deficient_kernels_are_refused():
    w = torch.randn(8, 1, 1, 1) * torch.ones(1, 3, 1, 1)
    with pytest.raises(ValueError, match="rank-deficient"):
        project(w, 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.randn(4, 2, 3, 5), 8), "shape"),
        ((torch.randn(4, 2, 3, 3), 2), "does not fit"),
        ((torch.randn(4, 2, 3, 3), 8, 2), "stride"),
        ((torch.randn(4, 2, 3, 3), 8, 1, False, 0), "passes"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ValueError, match=said):
        project(*arguments)


def test_the_hook_projects_every_second_step_and_can_be_removed():
    model = models.build("procresnet", 11)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    conv = model.chain["transition2"]
    sigma = target(conv.weight.shape, 2)

    def off_target():
        s = torch.linalg.svdvals(conv.weight.detach()[:, :, 0, 0])
        return (s / sigma - 1).abs().max().item() > 1e-4

    def step():
        optimizer.zero_grad()
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
        return off_target()

    held = NormPreserving(model).attach(optimizer)
    assert [step() for _ in range(4)] == [True, False, True, False]
    state = held.state_dict()
    held.detach()
    assert [step() for _ in range(2)] == [True, True]
    again = NormPreserving(model)
    again.load_state_dict(state | {"steps": 5})
    again.attach(optimizer)
    assert [step() for _ in range(2)] == [False, True]


def test_networks_without_transition_convolutions_are_refused():
    with pytest.raises(ValueError, match="convs="):
        NormPreserving(models.build("resnet", 11))
    with pytest.raises(ValueError, match="every"):
        NormPreserving(models.build("procresnet", 11), every=0)


@pytest.mark.parametrize(
    ("conv", "size", "said"),
    [
        (nn.Conv2d(16, 32, 1, groups=4), 8, "one group"),
        (nn.ConvTranspose2d(16, 32, 1), 8, "only a Conv2d"),
        (nn.Linear(4, 4), 8, "only a Conv2d"),
        (nn.Conv2d(4, 4, (3, 1)), 8, "square"),
        (nn.Conv2d(4, 4, 1, stride=(1, 2)), 8, "stride"),
        (nn.Conv2d(4, 4, 3, stride=2), 8, "stride"),
        (nn.Conv2d(4, 4, 3), 2, "does not fit"),
        (nn.Conv2d(4, 4, 3), 8.0, "pairs"),
    ],
)
def test_what_cannot_be_held_is_refused_at_once(conv, size, said):
    with pytest.raises(ValueError, match=said):
        NormPreserving(nn.Sequential(conv), convs=[(conv, size)])


def test_convolutions_are_named_or_given_and_belong_to_the_model():
    model = nn.Sequential(nn.Conv2d(4, 8, 1))
    assert NormPreserving(model, convs=[("0", 8)]).convs == [(model[0], 8)]
    for wrong, said in (
        ([model[0]], "pairs"),
        ([("1", 8)], "no submodule"),
        ([(nn.Conv2d(4, 8, 1), 8)], "not a submodule"),
    ):
        with pytest.raises(ValueError, match=said):
            NormPreserving(model, convs=wrong)
