"""What a run asks of the machine: threads, determinism, memory that is kept, full float32 on CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import sys
from collections.abc import Iterator

import torch


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step instead of giving it back to the system (glibc only).

    Activations of tens of megabytes are otherwise mapped and unmapped anew in every step, and each page is zeroed
    by the kernel when it is first touched: 10 to 15 % of a ResNet-164 step on two cores.  It holds for the whole process.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)


def memory() -> float:
    """The machine's memory in bytes; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


@contextlib.contextmanager
def settings(device: str, threads: int | None = None, deterministic: bool = True) -> Iterator[None]:
    """Within it: so many CPU threads, and deterministic kernels only; as before afterwards.

    Examples
    --------
    >>> with settings("cpu", threads=1):
    ...     torch.get_num_threads()
    1
    """
    before_threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for deterministic matrix products
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs memory traffic
        torch.backends.cudnn.benchmark = not deterministic
        yield
    finally:
        torch.set_num_threads(before_threads)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Within it CUDA's convolutions multiply in float32, not in TF32's 11 bits, whatever was chosen for the process.

    Examples
    --------
    >>> with full_float32():
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "ieee"
        yield
    finally:
        conv.fp32_precision = before


def peak_memory(device: torch.device) -> int:
    """The most memory that was in use, in bytes: of the CUDA device, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
