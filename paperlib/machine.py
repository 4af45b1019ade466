"""What a run asks of the machine: threads, deterministic kernels, memory that is kept, full float32 on CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

import torch

from paperlib import _checks
from paperlib.interrupts import delayed


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step instead of giving it back to the system (glibc only).

    Activations of tens of megabytes are otherwise mapped and unmapped anew in every step, and each page is zeroed
    by the operating system when it is first touched: 10 to 15 % of a ResNet-164 step on two cores.  The choice
    stands for the whole process.
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


def device_memory(device: str) -> float:
    """How many bytes of memory a device has here: a CUDA device its own, a CPU the machine's."""
    on_gpu = device.startswith("cuda")
    return torch.cuda.get_device_properties(device).total_memory if on_gpu else memory()


@contextlib.contextmanager
def _changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within it, an attribute has another value."""
    before = getattr(owner, name)
    try:
        setattr(owner, name, value)
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def settings(device: str, threads: int | None = None, deterministic: bool = True) -> Iterator[None]:
    """Choose the number of CPU threads and the kind of kernels for what runs within; afterwards both are as before.

    For CUDA the environment variable ``CUBLAS_WORKSPACE_CONFIG`` is set, if it was not, and stays so.

    Parameters
    ----------
    device : str
        What will be used, as torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    threads : int, optional
        The number of CPU threads; None leaves it.
    deterministic : bool
        Whether only deterministic kernels may run.  Without it, cuDNN chooses the fastest by trying.

    Examples
    --------
    >>> with settings("cpu", threads=1):
    ...     torch.get_num_threads()
    1
    """
    if threads is not None:
        _checks.whole_number("threads", threads, most=1024)
    _checks.flag("deterministic", deterministic)
    _checks.instance("device", device, str, "a device's name")
    before_threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for deterministic matrix products
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        with delayed():  # torch imports its compiler here
            torch.use_deterministic_algorithms(deterministic)
        with (
            # A debugging aid that costs memory traffic.
            _changed(torch.utils.deterministic, "fill_uninitialized_memory", False),
            _changed(torch.backends.cudnn, "benchmark", not deterministic),
        ):
            yield
    finally:
        torch.set_num_threads(before_threads)
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def in_force(device: torch.device | str) -> dict[str, str]:
    """What was chosen of torch's arithmetic, in words for a record.

    Parameters
    ----------
    device : torch.device or str
        Where something is computed.

    Returns
    -------
    dict of str to str
        ``deterministic``; on CUDA also what convolutions and matrix products of float32 numbers are computed in,
        ``ieee`` or ``tf32``, and whether cuDNN chooses its kernels by trying.

    Examples
    --------
    >>> in_force("cpu")
    {'deterministic': 'no'}
    """
    found = {"deterministic": "yes" if torch.are_deterministic_algorithms_enabled() else "no"}
    if torch.device(device).type == "cuda":
        cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
        conv: Any = cudnn
        found["float32 convolutions"] = str(conv.conv.fp32_precision)
        found["float32 matrix products"] = str(cuda.matmul.fp32_precision)
        found["cudnn benchmark"] = "yes" if cudnn.benchmark else "no"
    return found


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Within it CUDA multiplies float32 numbers as such, not in TF32's 11 bits, whatever was chosen for the process.

    It is about convolutions, for which torch chooses TF32 by default, and about matrix products.

    Examples
    --------
    >>> with full_float32():
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    cudnn: Any = torch.backends.cudnn  # its types do not know ``conv``
    matmul: Any = torch.backends.cuda.matmul
    with _changed(cudnn.conv, "fp32_precision", "ieee"), _changed(matmul, "fp32_precision", "ieee"):
        yield


@contextlib.contextmanager
def aside(stream: torch.cuda.Stream) -> Iterator[None]:
    """Within it CUDA works on another stream, after what is under way; then the current stream goes on.

    What will be a CUDA graph is warmed up for and captured on a stream of its own: what libraries keep for each stream
    would otherwise be shared with the graphs of a run beside it.
    """
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


def peak_memory(device: torch.device) -> int:
    """The most memory that was ever in use at once, in bytes: on the CUDA device, else in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
