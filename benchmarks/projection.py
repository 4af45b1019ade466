"""The projection of ProcResNet-166's transitions: against textbook versions, in a training step, and its growth.

``iteration`` takes ten steps of the paper's (8) and (9) at each of the n² frequencies; ``svd`` a complex SVD at each.
``iteration, shortcuts`` and ``svd, shortcuts`` take one matrix for a 1×1 kernel, and half of the spectrum.
``newton-schulz`` is the iteration as the published code has it, on the real form of the Gram matrix on the output's
side.  With ``--published FOLDER``, a checkout of zaeemzadeh/ProcResNet_PyTorch, the authors' own function is measured
as well.

Every variant does the same work in each round: float32 kernels in, float32 kernels out.  Ours takes turns with a
training step.  Each of the slow ones takes turns with ten calls of ours, of which the median counts.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from paired import arguments, in_turns, ratios, report

from paperlib.holding import NormPreserving
from paperlib.polar import Method, inverse_sqrt
from paperlib.projection import project, spread
from paperlib.spectrum import transfer_matrices
from paperlib.studies.overhead import METHODS, as_published, disturb, random_batch, seconds
from paperlib.training import benchmark_step

Variant = Callable[[torch.Tensor, int, int], torch.Tensor]  # kernel, side of the output, stride -> projected kernel
# Channels in, channels out, kernel, stride, side of the output.
LAYERS = ((3, 64, 3, 1, 32), (64, 128, 1, 2, 16), (128, 256, 1, 2, 8))
CHANNELS = (4, 8, 16, 32, 64, 128, 256, 512)
Times = dict[str, list[float]]
LONGEST = 30.0  # seconds of one call; a variant is not taken to more channels than that


def he(c: int, d: int, k: int, device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(d, c, k, k, generator=generator) * math.sqrt(2 / (k * k * d))).to(device)


def published(folder: str) -> Variant:
    """The authors' function; SystemExit, in one sentence, if it is not there."""
    if not (Path(folder) / "models" / "procresnet.py").is_file():
        raise SystemExit(
            f"--published {folder}: no models/procresnet.py there; give a checkout of zaeemzadeh/ProcResNet_PyTorch"
        )
    sys.path.insert(0, str(Path(folder).resolve()))
    try:
        function = importlib.import_module("models.procresnet").regularize_conv
    except (ImportError, AttributeError) as e:
        raise SystemExit(f"--published {folder}: its regularize_conv cannot be loaded ({e})") from e
    return lambda weight, n, stride: function(weight, (n, n), math.sqrt(weight.shape[0] / weight.shape[1]))


def growth(device: str) -> list[dict[str, float | None]]:
    """Seconds of one projection of a c -> 2c 3x3 kernel at n = 16, by ours and by the SVD, at all frequencies and half.

    The best of three calls counts, or the first where one takes long.
    """
    rows, last = [], {"ours": 0.0, "svd": 0.0, "svd, half of the spectrum": 0.0}
    for c in CHANNELS:
        weight = he(c, 2 * c, 3, device)
        row: dict[str, float | None] = {"channels": c} | dict.fromkeys(last)
        both = ("ours", project), ("svd", METHODS["svd"]), ("svd, half of the spectrum", METHODS["svd, shortcuts"])
        for name, method in both:
            call = partial(method, weight, 16)
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


def in_a_step(step: Callable[[], float], held: NormPreserving, ours: Callable[[], object], rounds: int) -> Times:
    """Seconds of a training step and of ours, as the hook does it and on the full grid, in turns."""
    calls = {"step": step, "ours, as the hook does it": held.project, "ours, full grid": ours}
    taken: Times = {name: [] for name in calls}
    step()
    for _ in range(rounds):
        for name, call in calls.items():
            disturb(held)
            taken[name].append(seconds(call))
    return taken


def beside_ours(call: Callable[[], object], held: NormPreserving, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a slow variant, and of ours beside it.

    They take turns, ten calls of ours each time: one call of some milliseconds is at the mercy of the machine.
    """
    slow, ours = [], []
    call()
    for _ in range(rounds):
        few = []
        for _ in range(10):
            disturb(held)
            few.append(seconds(held.project))
        ours.append(statistics.median(few))
        slow.append(seconds(call))
    return slow, ours


def distance(variant: Variant, kernel: torch.Tensor) -> float:
    """How far a variant leaves the exact case, 64 -> 128 with a 1x1 kernel, from the target."""
    _, _, _, s, n = LAYERS[1]
    low, high = spread(variant(kernel, n, s), n, s)
    return float(f"{max(1 - low, high - 1):.1e}")


if __name__ == "__main__":
    a = arguments(
        __doc__, rounds=20, published={"metavar": "FOLDER"}, slow={"type": int, "default": 5, "metavar": "ROUNDS"}
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = benchmark_step("procresnet", a.depth, *random_batch(a.batch_size))
    held = NormPreserving(step.model)
    kernels = [he(c, d, k, device) for c, d, k, _, _ in LAYERS]

    variants: dict[str, Variant] = {
        "ours, full grid": lambda w, n, s: project(w, n, s),
        **{name: (lambda w, n, s, method=method: method(w, n)) for name, method in METHODS.items()},
        "newton-schulz": lambda w, n, s: as_published(w, n),
    }
    if a.published:
        variants["published"] = published(a.published)

    def all_three(name: str) -> Callable[[], object]:
        return lambda: [variants[name](w, n, s) for w, (_, _, _, s, n) in zip(kernels, LAYERS, strict=True)]

    taken = in_a_step(step, held, all_three("ours, full grid"), a.rounds)
    hook = taken["ours, as the hook does it"]
    over_ours = {"ours, full grid": ratios(taken["ours, full grid"], hook)}
    for name in [n for n in variants if n not in taken]:
        taken[name], ours = beside_ours(all_three(name), held, a.slow)
        over_ours[name] = ratios(taken[name], ours)
    step_time = statistics.median(taken["step"])
    rows = growth(device)
    measured = {
        "depth": a.depth,
        "batch_size": a.batch_size,
        "precision": step.config.precision,
        "rounds": {"ours": a.rounds, "others": a.slow},
        "best_seconds": {name: round(min(t), 6) for name, t in taken.items()},
        "median_seconds": {name: round(statistics.median(t), 6) for name, t in taken.items()},
        "over_ours": over_ours,
        "percent_of_a_step": round(100 * statistics.median(hook) / step_time, 3),
        "percent_when_every_second_step": {
            name: round(100 * statistics.median(t) / 2 / step_time, 3) for name, t in taken.items() if name != "step"
        },
        "distance_from_target": {name: distance(variant, kernels[1]) for name, variant in variants.items()},
        "inverse_sqrt_milliseconds": methods(device, a.rounds),
        "growth": rows,
        "growth_exponents": {name: exponents(rows, name) for name in ("ours", "svd", "svd, half of the spectrum")},
    }
    # Where the checkout lies on this machine is nobody's business.
    sys.argv = ["FOLDER" if word == a.published else word for word in sys.argv]
    report("projection", measured, a.save)
