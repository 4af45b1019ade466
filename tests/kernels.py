"""What the tests of the fused kernels share.  Without CUDA they run in Triton's interpreter, in another process."""

import pytest
import torch

from paperlib import fused

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def RUNS(test):
    """Marks what runs kernels: it needs a device, but in the interpreter."""
    return test if fused.INTERPRETED else pytest.mark.cuda(test)


def like(shape, dtype, offset=0.0):
    """Random numbers in the channels-last format."""
    return (torch.randn(shape, device=DEVICE) * 2 + offset).to(dtype).contiguous(memory_format=torch.channels_last)


def near(found, right, tolerance):
    """Whether a tensor is near another, which is in float64, by its norm."""
    return (found.double() - right.double()).norm() <= tolerance * right.double().norm()
