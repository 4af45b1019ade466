"""The norm of a tensor in one reading."""

import pytest
import torch
from kernels import DEVICE, RUNS

from paperlib import fused


@pytest.mark.cuda
def test_a_norm_of_as_many_entries_as_32_bits_count():
    x = torch.ones(2**31 - 1, dtype=torch.bfloat16, device="cuda")
    assert fused.euclidean_norm(x).item() == pytest.approx((2**31 - 1) ** 0.5, rel=1e-7)


@RUNS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_norm(dtype):
    x = torch.randn(3, 1_000_003 if DEVICE == "cuda" else 30_003, device=DEVICE).to(dtype)[1]
    assert fused.euclidean_norm(x).item() == pytest.approx(x.double().norm().item(), rel=1e-7)
    tiny = torch.full((5000,), 1e-30, device=DEVICE)
    assert fused.euclidean_norm(tiny).item() == pytest.approx(1e-30 * 5000**0.5, rel=1e-6)
    assert fused.euclidean_norm(torch.tensor([1.0, float("nan")], device=DEVICE)).isnan()
