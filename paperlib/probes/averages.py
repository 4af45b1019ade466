"""Averages of ratios and norms over steps, kept as sums on the gradients' device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NAN = float("nan")
COLUMNS = 10


def added(sums: Tensor | None, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The sums, and what they are after a step with the norms ``pairs`` (blocks, 2).

    The row of a block, float64 (10,), has these columns.  0, 1: the steps with finite values, all steps; 2 to 5: the
    ratio, its logarithm, the norms at input and output; 6, 7: the squares of the ratio and of its logarithm; 8, 9: the
    smallest and the largest ratio.

    Parameters
    ----------
    sums : Tensor, (blocks, 10), optional
        Those of the steps before; None before the first one.
    pairs : Tensor, (blocks, 2)
        The norms at each block's input and output.

    Returns
    -------
    tuple of Tensor
        The sums before, made where there were none, and those after the step: on the device of ``pairs``.
    """
    ratios = pairs[:, 1] / pairs[:, 0]
    values = torch.cat([torch.stack([ratios, ratios.log()], dim=1), pairs], dim=1).double()
    finite = torch.isfinite(values).all(dim=1)
    kept = torch.where(finite[:, None], values, 0.0)
    if sums is None:
        sums = values.new_zeros(len(values), COLUMNS)
        empty(sums)
    before = sums.to(values.device)
    sums = before.clone()
    sums[:, 0] += finite
    sums[:, 1] += 1
    sums[:, 2:6] += kept
    sums[:, 6:8] += kept[:, :2].square()
    sums[:, 8] = torch.where(finite, torch.minimum(sums[:, 8], values[:, 0]), sums[:, 8])
    sums[:, 9] = torch.where(finite, torch.maximum(sums[:, 9], values[:, 0]), sums[:, 9])
    return before, sums


def empty(sums: Tensor) -> None:
    """Make the sums those of no step."""
    sums.zero_()
    sums[:, 8], sums[:, 9] = float("inf"), -float("inf")


def means(sums: list[float]) -> dict[str, Any]:
    """The averages of one block, from its row of sums; the keys are those of ``GradientNorms.averages``."""
    steps, total, *added, low, high = sums
    mean = [x / steps if steps else _NAN for x in added]
    ratio, log_ratio, grad_in, grad_out, ratio_square, log_square = mean
    return {
        "steps": int(steps),
        "lost": int(total - steps),
        "ratio": ratio,
        "ratio_sd": _deviation(ratio, ratio_square),
        "ratio_min": low if steps else _NAN,
        "ratio_max": high if steps else _NAN,
        "log_ratio": log_ratio,
        "log_ratio_sd": _deviation(log_ratio, log_square),
        "grad_in": grad_in,
        "grad_out": grad_out,
    }


def _deviation(mean: float, mean_square: float) -> float:
    """The standard deviation; NaN where the mean is."""
    return max(mean_square - mean * mean, 0.0) ** 0.5
