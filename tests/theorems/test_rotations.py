"""Powers of a rotation and a stretch."""

import math

import pytest
import torch

from paperlib.theorems import RotationStretch


def test_half_turns_and_powers():
    R = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 2.0], dtype=torch.float64))
    powers = RotationStretch(R)
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
