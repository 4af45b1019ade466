"""The Euclidean norm of a gradient, accurate and quick for any dtype and size."""

from __future__ import annotations

import torch
from torch import Tensor

from paperlib import _checks, fused


def norm(x: Tensor) -> Tensor:
    """The Euclidean norm of all entries.

    On a CPU it is taken by rows, because torch's single reduction over millions of entries runs on one thread, adds in
    one float32 (7e-5 off at 8 million entries) and has no fast path from bfloat16 to float32.  Where squares would
    leave float32's range, as the gradients of a Plain network do, the sum is made in float64.

    The row norms of a bfloat16 tensor above a million entries are rounded to bfloat16, each independently.  With 65,536
    rows or more that is a relative error of about 5e-6 (standard deviation).  Below a million entries it is 1e-7.

    Parameters
    ----------
    x : Tensor
        Any shape and floating dtype, or complex.

    Returns
    -------
    Tensor, ()
        float64 for a float64 ``x``, else float32, on its device.

    Examples
    --------
    >>> norm(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    tensor(5.)
    """
    _checks.instance("x", x, Tensor, "a torch.Tensor")
    if x.layout != torch.strided or x.is_quantized or x.is_nested or not (x.dtype in _checks.REAL or x.is_complex()):
        raise ValueError(f"x must be an ordinary floating-point or complex tensor, not {_checks.shown(x)}")
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    dense = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    if dense and 0 < x.numel() < 2**31 and x.is_floating_point() and fused.available(x.device):
        return fused.euclidean_norm(x)
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or not dense or x.numel() < 1 << 12:
        total = torch.linalg.vector_norm(x, dtype=torch.float64)
        return total if x.dtype == torch.float64 else total.float()
    flat = torch.as_strided(x, (x.numel(),), (1,))
    if x.dtype == torch.bfloat16 and x.numel() <= 1 << 20:
        flat = flat.float()  # too few rows for their rounding errors to average out
    width = 1024 if flat.dtype == torch.float32 else min(128, 1 << ((x.numel() >> 16).bit_length() - 1))
    body = x.numel() // width * width
    total = torch.linalg.vector_norm(torch.linalg.vector_norm(flat[:body].view(-1, width), dim=1).double())
    if body < x.numel():
        total = torch.hypot(total, torch.linalg.vector_norm(flat[body:], dtype=torch.float64))
    if not 1e-14 * x.numel() ** 0.5 < total.item() < 1e17:  # an entry's square below 1e-28 or above 1e34
        total = torch.linalg.vector_norm(x, dtype=torch.float64)
    return total.float()
