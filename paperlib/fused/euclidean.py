"""The Euclidean norm of a tensor in one reading of it."""

from __future__ import annotations

import torch
from torch import Tensor

from paperlib.fused._launch import PROGRAMS, on_device, stretches, tl, triton


def euclidean_norm(x: Tensor) -> Tensor:
    """The Euclidean norm of all entries, added in float64, in one reading of ``x``.

    torch's own would write a copy of ``x`` in float64 first.

    Parameters
    ----------
    x : Tensor
        On CUDA, of any floating dtype, without gaps in memory, and not empty.

    Returns
    -------
    Tensor, ()
        float64 for a float64 ``x``, else float32.
    """
    stretch, programs = stretches(triton.cdiv(x.numel(), 2048), 4 * PROGRAMS)
    sums = torch.empty(programs, dtype=torch.float64, device=x.device)
    out = torch.empty((), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32, device=x.device)
    with on_device(x):
        _square_sums[(programs,)](x, sums, x.numel(), stretch, 2048, num_warps=4)
        _finish_norm[(1,)](sums, out, programs, triton.next_power_of_2(4 * PROGRAMS))
    return out


if triton is not None:

    @triton.jit
    def _square_sums(x, out, number, stretch, SIZE: tl.constexpr):
        program = tl.program_id(0).to(tl.int64)  # the last stretch may end beyond what 32 bits count
        total = tl.zeros((SIZE,), tl.float64)
        for tile in range(stretch):
            place = (program * stretch + tile) * SIZE + tl.arange(0, SIZE)
            value = tl.load(x + place, mask=place < number, other=0.0).to(tl.float64)
            total += value * value
        tl.store(out + program, tl.sum(total, 0))

    @triton.jit
    def _finish_norm(sums, out, programs, SLOTS: tl.constexpr):
        slot = tl.arange(0, SLOTS)
        total = tl.sum(tl.load(sums + slot, mask=slot < programs, other=0.0), 0)
        tl.store(out, tl.sqrt(total).to(out.dtype.element_ty))
