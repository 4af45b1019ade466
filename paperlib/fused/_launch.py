"""Where and how kernels are launched."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch brings it on Linux with CUDA
    triton = tl = None

PROGRAMS = 264  # two for each multiprocessor of a large device
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # by Triton itself, without a device: for tests


def available(device: torch.device | str) -> bool:
    """Whether there are fused kernels for a device.

    Examples
    --------
    >>> available("cpu")
    False
    """
    return triton is not None and torch.device(device).type == "cuda"


def runs(x: Tensor) -> bool:
    """Whether there are kernels for where a tensor is, and whether it has entries that 32 bits can count."""
    return triton is not None and (x.is_cuda or INTERPRETED) and 0 < x.numel() < 2**31


def on_device(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Within it kernels are launched where the tensor is."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def stretches(tiles: int, most: int = PROGRAMS) -> tuple[int, int]:
    """How many tiles each program has, one below the other, and how many programs, at most ``most``, there then are."""
    stretch = triton.cdiv(tiles, most)
    return stretch, triton.cdiv(tiles, stretch)
