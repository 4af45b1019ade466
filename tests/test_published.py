"""The published projection: an independent, literal version of its description, and what it does to known kernels."""

import math

import cases
import pytest
import torch

from paperlib import models
from paperlib.holding import NormPreserving
from paperlib.projection import spread
from paperlib.published import STEPS, Projector, project


def literal(weight, n):
    """By the formulas: real blocks, the Gram matrix on the output's side, ten steps, conjugated on the way back."""
    d, c, k = weight.shape[:3]
    p = torch.fft.fft2(weight, s=(n, n)).permute(2, 3, 1, 0).reshape(n * n, c, d)  # maps from outputs to inputs
    blocks = torch.cat([torch.cat([p.real, p.imag], 2), torch.cat([-p.imag, p.real], 2)], 1)
    gram = blocks.mT @ blocks  # 2d x 2d
    norm = torch.linalg.matrix_norm(gram)[:, None, None]
    scale = torch.where(norm > 1, norm, 1.0)
    y, one = gram / scale, torch.eye(2 * d, dtype=weight.dtype)
    z = one.expand_as(y)
    for _ in range(STEPS):
        t = 0.5 * (3 * one - z @ y)
        y, z = y @ t, t @ z
    out = blocks @ (z / scale.sqrt()) * math.sqrt(d / c)
    back = torch.complex(out[:, :c, :d], -out[:, :c, d:]).reshape(n, n, c, d)
    return torch.fft.ifft2(back.permute(3, 2, 0, 1)).real[..., :k, :k]


@pytest.mark.parametrize(("d", "c", "k", "n"), [(6, 3, 3, 5), (3, 6, 3, 4), (4, 4, 2, 4), (8, 4, 1, 3), (4, 8, 1, 3)])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_as_described(d, c, k, n, scale):
    weight = scale * cases.kernel(d, c, k)
    assert torch.allclose(project(weight, n), literal(weight, n), atol=1e-8)


def test_an_identity_kernel_vanishes_and_not_without_the_conjugation():
    w = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    w[:, :, 1, 1] = torch.eye(4)
    assert project(w, 8).abs().max() < 1e-12
    assert torch.allclose(project(w, 8, conjugated=False), w, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_he_kernel_goes_to_its_corner(seed):
    """Known values; they are one sample's."""
    w = cases.he(64, 3, 3, seed)
    out = project(w, 32)
    energy = out.square().sum((0, 1))
    assert energy[0, 0] / energy.sum() > 0.98
    low, high = spread(out, 32)
    assert 0.2 < low < high < 0.45
    low, high = spread(project(w, 32, conjugated=False), 32)
    assert 0.78 < low < high < 1.2
    for _ in range(5):  # again and again: a corner kernel is projected as it should be
        out = project(out, 32)
    low, high = spread(out, 32)
    assert 0.98 < low < high < 1.02


def test_1x1_kernels_are_right_and_wide_ones_have_the_other_target():
    w = cases.kernel(12, 6, 1, dtype=torch.float32)
    assert spread(project(w, 4), 4) == pytest.approx((1, 1), abs=1e-3)
    w = cases.kernel(4, 16, 1, dtype=torch.float32)
    assert spread(project(w, 4), 4) == pytest.approx((0.5, 0.5), abs=1e-3)


def test_steps_that_are_due_are_random_and_repeatable():
    due = [Projector().due(i, 2) for i in range(1, 4001)]
    assert due == [Projector().due(i, 2) for i in range(1, 4001)]
    assert sum(due) / 4000 == pytest.approx(0.5, abs=0.03)
    assert sum(a and b for a, b in zip(due, due[1:], strict=False)) / 3999 == pytest.approx(0.25, abs=0.03)
    assert sum(Projector().due(i, 5) for i in range(1, 4001)) / 4000 == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("fill", [0.0, math.nan])
def test_the_projector_does_not_trust_what_is_not_finite(fill):
    weight = cases.kernel(4, 2, 3)
    weight[0, 0, 0, 0] = fill
    kernel, ok = Projector()(weight, (8, 8), stride=1, relu=True)
    assert torch.equal(kernel.nan_to_num(7), project(weight, 8).nan_to_num(7))
    assert ok.item() == (fill == 0)


def test_networks_start_and_are_held_by_the_papers_projection_unless_told_otherwise():
    """A network knows nothing of the published projection, and no argument of ``build`` asks for it."""
    model = models.build("procresnet", 11)
    assert not isinstance(NormPreserving(model).projector, Projector)
    projector = Projector()
    assert NormPreserving(model, projector=projector).projector is projector
    for arguments in ({"arch": "resnet"}, {"arch": "procresnet"}, {"arch": "procresnet", "project": False}):
        with pytest.raises(TypeError, match="projector"):
            models.build(depth=11, projector=projector, **arguments)


@pytest.mark.parametrize(
    ("weight", "size", "said"), [(torch.ones(3, 2, 3, 3), 2, "does not fit"), (torch.ones(3), 4, "shape")]
)
def test_bad_input(weight, size, said):
    with pytest.raises(ValueError, match=said):
        project(weight, size)
