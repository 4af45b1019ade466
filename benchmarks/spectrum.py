"""The singular values of a convolution: ours against two lines of NumPy, the FFT and the SVD at every frequency.

Both take the same float32 kernel; they take turns in one process, and must agree before they are timed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from paired import arguments, in_turns, ratios, report

from paperlib.spectrum import singular_values

CASES = ((3, 64, 3, 32), (64, 64, 3, 32), (64, 128, 1, 16), (128, 256, 1, 8))


def textbook(kernel: np.ndarray, n: int) -> np.ndarray:
    return np.linalg.svd(np.fft.fft2(kernel, (n, n), axes=(0, 1)), compute_uv=False)


if __name__ == "__main__":
    a = arguments(__doc__, rounds=10)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    for c, d, k, n in CASES:
        weight = torch.randn(d, c, k, k, generator=torch.Generator().manual_seed(0)) * math.sqrt(2 / (k * k * d))
        kernel, weight = weight.permute(2, 3, 0, 1).numpy(), weight.to(device)
        ours = np.sort(singular_values(weight, n).flatten().cpu().numpy())
        exact = np.sort(textbook(kernel, n).ravel())
        difference = float(np.abs(ours - exact).max() / exact.max())
        if difference > 1e-5:
            raise SystemExit(f"{c}->{d}, {k}x{k}: the two differ by {difference:.1e}")
        t = in_turns(
            {"numpy": lambda k=kernel, n=n: textbook(k, n), "ours": lambda w=weight, n=n: singular_values(w, n)},
            a.rounds,
        )
        found[f"{c}->{d} {k}x{k} n={n}"] = {
            "numpy_over_ours": ratios(t["numpy"], t["ours"]),
            "best_milliseconds": {name: round(1e3 * min(seconds), 3) for name, seconds in t.items()},
            "largest_difference": float(f"{difference:.1e}"),
        }
    report("spectrum", {"rounds": a.rounds, "cases": found}, a.save)
