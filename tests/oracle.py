"""A convolution as one matrix, made without this project: unit vectors pushed through torch's own convolution."""

import torch
import torch.nn.functional as F


def operator(weight, size, stride=1, padding="circular"):
    """``(d·h·w, c·s·h·s·w)``, float64; ``size`` is (h, w) at the output."""
    d, c, kh, kw = weight.shape
    h, w = size
    basis = torch.eye(c * h * w * stride * stride, dtype=torch.float64).reshape(-1, c, h * stride, w * stride)
    for axis, k, n in ((2, kh, h * stride), (3, kw, w * stride)):
        before, after = (k - 1) // 2, max(0, k - stride - (k - 1) // 2)
        if padding == "circular":
            copies = torch.cat([basis] * (3 + (before + after) // n), axis)
            basis = copies.narrow(axis, -before % n, n + before + after)
        else:
            pad = [0, 0, before, after] if axis == 2 else [before, after, 0, 0]
            basis = F.pad(basis, pad)
    out = F.conv2d(basis, weight.double(), stride=stride)[:, :, :h, :w]
    return out.flatten(1).T


def singular_values(weight, size, stride=1, padding="circular"):
    """All of them, largest first."""
    return torch.linalg.svdvals(operator(weight, size, stride, padding))
