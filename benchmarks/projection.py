"""The projection of ProcResNet-166's three transitions, against textbook versions; its share of a training step; its growth.

``svd``: all n² frequencies by FFT, a complex SVD at each, crop.  ``newton-schulz``: all n² frequencies, ten Newton-Schulz steps on the
real form of the Gram matrix on the output's side, which is how the paper's formulas read when they are taken literally.  With
``--reference FOLDER``, a checkout of zaeemzadeh/ProcResNet_PyTorch, the authors' own function as well.

Every variant does the same work in each round, float32 kernels in, float32 kernels out.  Ours take turns with a training step; the slow ones
with ten calls of ours, of which the median counts.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
from pathlib import Path
from typing import get_args

import torch
from paired import arguments, in_turns, ratios, report

from paperlib.polar import Method, inverse_sqrt
from paperlib.projection import NormPreserving, project, spread
from paperlib.spectrum import transfer_matrices
from paperlib.studies.overhead import disturb, newton_schulz_textbook, random_batch, seconds, svd_textbook
from paperlib.training import benchmark_step

LAYERS = ((3, 64, 3, 1, 32), (64, 128, 1, 2, 16), (128, 256, 1, 2, 8))
CHANNELS = (4, 8, 16, 32, 64, 128, 256, 512)
LONGEST = 30.0  # seconds of one call; a variant is not taken to more channels than that


def he(c: int, d: int, k: int, device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(d, c, k, k, generator=generator) * math.sqrt(2 / (k * k * d))).to(device)


def reference(folder: str):
    """The authors' function; SystemExit, in one sentence, if it is not there."""
    if not (Path(folder) / "models" / "procresnet.py").is_file():
        raise SystemExit(
            f"--reference {folder}: no models/procresnet.py there; give a checkout of zaeemzadeh/ProcResNet_PyTorch"
        )
    sys.path.insert(0, str(Path(folder).resolve()))
    try:
        function = importlib.import_module("models.procresnet").regularize_conv
    except (ImportError, AttributeError) as e:
        raise SystemExit(f"--reference {folder}: its regularize_conv cannot be loaded ({e})") from e
    return lambda weight, n: function(weight, (n, n), math.sqrt(weight.shape[0] / weight.shape[1]))


def growth(device: str) -> list[dict[str, float | None]]:
    """Seconds of one projection of a c -> 2c 3x3 kernel at n = 16, by ours and by the SVD: best of three, where one takes long the first."""
    rows, last = [], {"ours": 0.0, "svd": 0.0}
    for c in CHANNELS:
        weight = he(c, 2 * c, 3, device)
        row: dict[str, float | None] = {"channels": c, "ours": None, "svd": None}
        for name, call in (("ours", lambda w=weight: project(w, 16)), ("svd", lambda w=weight: svd_textbook(w, 16))):
            if 8 * last[name] > LONGEST:  # cubic
                continue
            taken = []
            while len(taken) < 3 and sum(taken) < 1:
                taken.append(seconds(call))
            last[name] = min(taken)
            row[name] = round(last[name], 6)
        rows.append(row)
    return rows


def methods(device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds, best of ``rounds``, of the inverse square root by each method: what ``default_method`` rests on."""
    out = {}
    for c, d, k, _, n in LAYERS:
        p = transfer_matrices(he(c, d, k, device).double(), 1 if k == 1 else n)
        gram = p.mH @ p if k > 1 else (p.mH @ p).real
        calls = {m: (lambda g=gram, m=m: inverse_sqrt(g, m)) for m in get_args(Method)}
        taken = in_turns(calls, rounds)
        label = f"{gram.shape[0] * gram.shape[1]} of {c}x{c}"
        out[label] = {m: round(1e3 * min(t), 3) for m, t in taken.items()}
    return out


def exponents(rows: list[dict], name: str) -> list[float]:
    """The slope of log seconds over log channels from one number of channels to the next."""
    t = [r[name] for r in rows if r[name]]
    return [round(math.log2(b / a), 2) for a, b in zip(t, t[1:], strict=False)]


if __name__ == "__main__":
    a = arguments(
        __doc__, rounds=20, reference={"metavar": "FOLDER"}, slow={"type": int, "default": 5, "metavar": "ROUNDS"}
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = benchmark_step("procresnet", a.depth, *random_batch(a.batch_size))
    held = NormPreserving(step.model)
    kernels = [he(c, d, k, device) for c, d, k, _, _ in LAYERS]

    variants = {
        "ours, full grid": lambda w, n, s: project(w, n, s),
        "svd": lambda w, n, s: svd_textbook(w, n),
        "newton-schulz": lambda w, n, s: newton_schulz_textbook(w, n),
    }
    if a.reference:
        published = reference(a.reference)
        variants["reference"] = lambda w, n, s: published(w, n)

    def all_three(name: str):
        return lambda: [variants[name](w, n, s) for w, (_, _, _, s, n) in zip(kernels, LAYERS, strict=True)]

    step()
    taken: dict[str, list[float]] = {"step": [], "ours, as the hook does it": [], "ours, full grid": []}
    for _ in range(a.rounds):
        for name, call in (
            ("step", step),
            ("ours, as the hook does it", held.project),
            ("ours, full grid", all_three("ours, full grid")),
        ):
            disturb(held)
            taken[name].append(seconds(call))
    # A slow variant and ours take turns, ten of ours a time: one call of some milliseconds is at the mercy of the machine.
    beside: dict[str, list[float]] = {"ours, full grid": taken["ours, as the hook does it"]}
    for name in [n for n in variants if n not in taken]:
        call = all_three(name)
        call()
        taken[name], beside[name] = [], []
        for _ in range(a.slow):
            few = []
            for _ in range(10):
                disturb(held)
                few.append(seconds(held.project))
            beside[name].append(statistics.median(few))
            taken[name].append(seconds(call))

    # The exact case, 64 -> 128 with a 1x1 kernel: how far from the target each variant leaves it.
    c, d, k, s, n = LAYERS[1]
    accuracy = {}
    for name, variant in variants.items():
        low, high = spread(variant(kernels[1], n, s), n, s)
        accuracy[name] = float(f"{max(1 - low, high - 1):.1e}")
    ours, step_time = taken["ours, as the hook does it"], statistics.median(taken["step"])
    every_second = {
        name: round(100 * statistics.median(t) / 2 / step_time, 3) for name, t in taken.items() if name != "step"
    }
    rows = growth(device)
    figures = {
        "depth": a.depth,
        "batch_size": a.batch_size,
        "precision": step.config.precision,
        "rounds": {"ours": a.rounds, "others": a.slow},
        "best_seconds": {name: round(min(t), 6) for name, t in taken.items()},
        "median_seconds": {name: round(statistics.median(t), 6) for name, t in taken.items()},
        "over_ours": {name: ratios(taken[name], t) for name, t in beside.items()},
        "percent_of_a_step": round(100 * statistics.median(ours) / step_time, 3),
        "percent_when_every_second_step": every_second,
        "distance_from_target": accuracy,
        "inverse_sqrt_milliseconds": methods(device, a.rounds),
        "growth": rows,
        "growth_exponents": {name: exponents(rows, name) for name in ("ours", "svd")},
    }
    # Where the checkout lies on this machine is nobody's business.
    sys.argv = ["FOLDER" if word == a.reference else word for word in sys.argv]
    report("projection", figures, a.save)
