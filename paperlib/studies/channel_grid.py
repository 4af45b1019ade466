"""Chapter 3: the channel grid's measurements, summed up over seeds.

Everything takes the table of a grid (:attr:`paperlib.grid_runs.GridRecord.measurements`) and trains nothing.  Ratios and
factors are averaged as logarithms, so that twice and half cancel; a spread is exp of the standard deviation of
the logarithm, to be read as "times or over".
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from paperlib.channel_grid import VARIANTS
from paperlib.energy import relative_sd

CELL = ["c", "d"]


STARTS = {
    "default": "PyTorch's: uniform, variance 1 / 27c",
    "he-fan-in": "normal, variance 2 / 9c",
    "he-fan-out": "normal, variance 2 / 9d",
    "orthogonal": "delta-orthogonal, at √(2d / min(d, c))",
}


def variants(cells: Iterable[tuple[int, int]] = ((2, 32), (16, 16), (32, 2))) -> pd.DataFrame:
    """One row a variant: ``held at`` (the formula of σ), ``start``, and the value of σ for some cells (c, d), empty where there is none.

    Examples
    --------
    >>> variants([(32, 2)]).loc["published"].tolist()[::2]
    ['√(d / c)', '0.25']
    """
    rows = []
    for v in VARIANTS.values():
        held = v.title.split("σ = ")[-1] if v.sigma else "not held"
        values = {f"σ, {c} → {d}": f"{v.sigma(c, d):.2f}" if v.sigma else "" for c, d in cells}
        rows.append({"held at": held, "start": STARTS[v.start]} | values)
    return pd.DataFrame(rows, index=pd.Index(VARIANTS, name="variant"))


def ratios(measurements: pd.DataFrame, step: int | None = None) -> pd.DataFrame:
    """The gradient-norm ratio of each cell and variant after ``step`` steps (by default the last stage).

    Columns: ``variant``, ``c``, ``d``, ``ratio`` (geometric mean over the runs that are alive), ``spread``, ``alive`` and ``dead``
    (numbers of runs; dead: no gradient gets through the ReLU, or the weights are not finite).
    """
    last = measurements.step.max() if step is None else step
    part = measurements[measurements.step == last]
    part = part.assign(log=part.log_ratio.where(np.isfinite(part.log_ratio)))
    found = part.groupby(["variant", *CELL], sort=False).log.agg(["mean", "std", "count", "size"]).reset_index()
    return pd.DataFrame(
        {
            "variant": found.variant,
            "c": found.c,
            "d": found.d,
            "ratio": np.exp(found["mean"]),
            "spread": np.exp(found["std"]),
            "alive": found["count"],
            "dead": found["size"] - found["count"],
        }
    )


def by_stage(
    measurements: pd.DataFrame, variants: Iterable[str], steps: Iterable[int]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The ratios of some variants at several stages, for one figure: a table as :func:`ratios` returns it, whose ``variant`` names
    the stage as well, and a title for each of these names."""
    steps, parts, titles = list(steps), [], {}
    for variant in variants:
        for step in steps:
            table, name = ratios(measurements, step), f"{variant}, {step}"
            parts.append(table[table.variant == variant].assign(variant=name))
            titles[name] = f"{'projected' if VARIANTS[variant].sigma else 'no projection'}, {step} steps"
    return pd.concat(parts, ignore_index=True), titles


def distances(measurements: pd.DataFrame) -> pd.DataFrame:
    """How far from 1 each variant's ratio is at each stage, over the whole grid.

    Columns: ``variant``, ``step``, ``distance``, a factor: the median over the cells of max(ratio, 1/ratio), infinite for a cell
    without a living run; ``dead``: the share of runs that are dead.
    """
    rows = []
    for step in sorted(measurements.step.unique()):
        for variant, cells in ratios(measurements, step).groupby("variant", sort=False):
            distance = float(np.exp(np.log(cells.ratio).abs().fillna(math.inf).median()))
            dead = cells.dead.sum() / (cells.dead + cells.alive).sum()
            rows.append({"variant": variant, "step": step, "distance": distance, "dead": dead})
    return pd.DataFrame(rows)


def factors(measurements: pd.DataFrame, variant: str, step: int | None = None) -> pd.DataFrame:
    """What each assumption behind σ is off by, cell by cell, for a projected variant.

    Columns: ``c``, ``d``, ``assumption``, ``ratio``: by how much the Conv-ReLU's ratio is away from what it should be (with
    σ = √(2d/r): from 1) because of the ReLU (ρ is not 1/2), the row space (φ is not r/d) or the crop and the border (γ is not
    σ²).  Above 1: the gradient shrinks.  The three multiply to the ratio, but for σ's own error.  Over the runs that are alive.

    Raises ``ValueError`` for a variant that is not projected.
    """
    if VARIANTS[variant].sigma is None:
        raise ValueError(f"variant {variant!r} is not projected: it has no σ to compare with")
    last = measurements.step.max() if step is None else step
    part = measurements[(measurements.step == last) & (measurements.variant == variant)]
    part = part[np.isfinite(part.log_ratio)]
    r = part[CELL].min(axis=1)
    sigma = pd.Series([VARIANTS[variant].sigma(c, d) for c, d in zip(part.c, part.d, strict=True)], part.index)
    logs = {
        "ReLU": np.log(0.5 / part.relu_share) / 2,
        "row space": np.log(r / part.d / part.energy_fraction) / 2,
        "crop and border": np.log(sigma**2 / part.gain) / 2,
    }
    frames = [part[CELL].assign(assumption=name, ratio=log) for name, log in logs.items()]
    table = pd.concat(frames).groupby(["assumption", *CELL], sort=False).ratio.mean().reset_index()
    return table.assign(ratio=np.exp(table.ratio))


def energy(measurements: pd.DataFrame, variant: str = "conv-relu", size: int = 32) -> pd.DataFrame:
    """The share of the gradient's energy in the row space, over c/d, for the cells with d > c, and what two explanations
    predict for its spread.

    Columns: ``c``, ``d``, ``seed``, ``step``; ``share`` (φ over c/d), ``white`` (the same for white noise behind the same ReLU),
    ``fresh`` (for the same gradient and a kernel that knows nothing of it; NaN in the first records) and ``effective_rank``, all NaN for
    a run that is dead;
    ``correlated``: the standard deviation of ``share`` for a random row space and gradients of that effective rank
    (:func:`paperlib.energy.relative_sd`). That takes the row space to be one for all frequencies; a 3×3 kernel has another at each, which
    matters unless the gradient is nearly constant over the map;
    ``small space``: the same for one image's gradient if it had no correlation at all, in a row space of c·size² of
    d·size² dimensions, which is the space that the paper's explanation calls small; over a batch it would be smaller still.
    """
    part = measurements[(measurements.variant == variant) & (measurements.d > measurements.c)]
    alive = np.isfinite(part.log_ratio)
    rows = zip(part.c, part.d, part.effective_rank, strict=True)
    return pd.DataFrame(
        {
            "c": part.c,
            "d": part.d,
            "seed": part.seed,
            "step": part.step,
            "share": (part.energy_fraction * part.d / part.c).where(alive),
            "white": (part.white_fraction * part.d / part.c).where(alive),
            "fresh": (part.get("fresh_fraction", pd.Series(math.nan, part.index)) * part.d / part.c).where(alive),
            "effective_rank": part.effective_rank.where(alive),
            "correlated": [relative_sd(d, c, m) if math.isfinite(m) else math.nan for c, d, m in rows],
            "small space": [relative_sd(d * size**2, c * size**2, 1) for c, d in zip(part.c, part.d, strict=True)],
        }
    ).reset_index(drop=True)


def energy_summary(energy: pd.DataFrame, step: int) -> pd.DataFrame:
    """One row a cell of :func:`energy` after ``step`` steps: ``c``, ``d``, mean ``share``, its ``sd`` over the seeds, the means of
    ``correlated`` and ``small space`` (the predictions for that sd), of ``white`` and of ``effective_rank``."""
    cells = energy[energy.step == step].groupby(CELL)
    means = cells[["share", "correlated", "small space", "white", "effective_rank"]].mean()
    means.insert(1, "sd", cells.share.std())
    return means.reset_index()


def energy_means(energy: pd.DataFrame) -> pd.DataFrame:
    """The means over the seeds of ``share``, ``fresh`` and ``white``, one row a cell and one column a stage of each."""
    return energy.pivot_table(["share", "fresh", "white"], CELL, "step")[["share", "fresh", "white"]]


def misfit(energy: pd.DataFrame) -> pd.DataFrame:
    """How many predicted standard deviations the shares are from 1, as a root mean square over cells and seeds, at each stage.

    Columns: ``step``, ``correlated``, ``small space``.  About 1 where the prediction is right.
    """
    rows = []
    for step, part in energy.groupby("step"):
        rms = {name: math.sqrt((((part.share - 1) / part[name]) ** 2).mean()) for name in ("correlated", "small space")}
        rows.append({"step": step} | rms)
    return pd.DataFrame(rows, columns=["step", "correlated", "small space"])


def activity(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How much of the middle layer is active at the end of some grids, in the mean over cells and seeds.

    ``grids`` maps a name to measurements.  Columns: ``grid``, ``variant``, ``active`` (the share of y that is not zero),
    ``relu_share`` (of the gradient's energy, ρ), both over the runs that are alive, and ``dead``, the share of runs that are not.
    """
    rows = []
    for name, table in grids.items():
        last = table[table.step == table.step.max()]
        for variant, part in last.groupby("variant", sort=False):
            alive = part[np.isfinite(part.log_ratio)]
            rows.append(
                {"grid": name, "variant": variant, "active": alive.active.mean(), "relu_share": alive.relu_share.mean(),
                 "dead": 1 - len(alive) / len(part)}
            )  # fmt: skip
    return pd.DataFrame(rows)
