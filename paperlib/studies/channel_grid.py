"""Chapter 3: the channel grid's measurements, summed up over seeds.

Everything takes the table of a grid (:attr:`paperlib.channel_grid.GridRecord.measurements`) and trains nothing.  Ratios
and factors are averaged as logarithms, so that twice and half cancel.  A spread is exp of the logarithm's standard
deviation, to be read as "times or over".
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
    "default": "PyTorch's, variance 1/27c",
    "he-fan-in": "He's, variance 2/9c",
    "he-fan-out": "He's, variance 2/9d",
    "orthogonal": "orthogonal, at √(2d / min(d, c))",
}
PREDICTIONS = ["correlated", "small space"]


def variants(cells: Iterable[tuple[int, int]] = ((2, 32), (16, 16), (32, 2))) -> pd.DataFrame:
    """What each variant does with its kernels, one row per variant.

    Columns: ``held`` (which of the three kernels), ``σ`` (of the middle one, as a formula), ``start``, and for each of
    the ``cells`` (c, d) the value of σ, which is empty where the kernel is not held.

    Examples
    --------
    >>> variants([(32, 2)]).loc["published"].tolist()[::3]
    ['the middle', '0.25']
    """
    rows = []
    for v in VARIANTS.values():
        held = "all three" if v.every_layer else "the middle"
        own = {"held": held, "σ": v.title.split("σ = ")[-1]} if v.sigma else {"held": "none", "σ": ""}
        values = {f"σ, {c} → {d}": f"{v.sigma(c, d):.2f}" if v.sigma else "" for c, d in cells}
        rows.append(own | {"start": STARTS[v.start]} | values)
    return pd.DataFrame(rows, index=pd.Index(VARIANTS, name="variant"))


def ratios(measurements: pd.DataFrame, step: int | None = None) -> pd.DataFrame:
    """The gradient-norm ratio of each cell and variant after ``step`` steps, by default at the last stage.

    Columns: ``variant``, ``c``, ``d``, ``ratio`` (the geometric mean over the runs that are alive), ``spread``,
    ``alive`` and ``dead`` (numbers of runs).  A run is dead if no gradient gets through the ReLU or if the weights are
    not finite.
    """
    part = _at(measurements, step)
    part = part.assign(log=part.log_ratio.where(np.isfinite(part.log_ratio)))
    found = part.groupby(["variant", *CELL], sort=False).log.agg(["mean", "std", "count", "size"]).reset_index()
    return found[["variant", *CELL]].assign(
        ratio=np.exp(found["mean"]),
        spread=np.exp(found["std"]),
        alive=found["count"],
        dead=found["size"] - found["count"],
    )


def over_rates(grids: dict[float, pd.DataFrame]) -> pd.DataFrame:
    """The ratios of some grids at every stage.

    ``grids`` maps a learning rate to a table of measurements.  Columns: ``lr``, ``step``, and those of :func:`ratios`.

    Examples
    --------
    >>> runs = pd.DataFrame({"variant": "free", "c": 2, "d": 4, "step": [0, 9], "log_ratio": np.log([1.0, 4.0])})
    >>> over_rates({0.1: runs})[["lr", "step", "ratio"]].round(6).values.tolist()
    [[0.1, 0.0, 1.0], [0.1, 9.0, 4.0]]
    """
    parts = [
        ratios(table, step).assign(lr=lr, step=step) for lr, table in grids.items() for step in sorted(set(table.step))
    ]
    found = pd.concat(parts, ignore_index=True)
    return found[["lr", "step", *found.columns.drop(["lr", "step"])]]


def by_cell(measurements: pd.DataFrame, variant: str, step: int | None = None) -> pd.Series:
    """The gradient-norm ratio of one variant after ``step`` steps (by default at the last stage), by cell (c, d).

    It is the geometric mean over the runs that are alive, as in :func:`ratios`, and NaN where none is.

    Examples
    --------
    >>> runs = pd.DataFrame({"variant": "free", "c": 2, "d": [4, 4], "step": 9, "log_ratio": np.log([1.0, 4.0])})
    >>> round(by_cell(runs, "free")[2, 4].item(), 6)
    2.0
    """
    found = ratios(measurements[measurements.variant == variant], step)
    return found.set_index(CELL).ratio


def all_alive(measurements: pd.DataFrame, step: int | None = None) -> pd.MultiIndex:
    """The cells (c, d) in which no run of any variant is dead after ``step`` steps (by default at the last stage).

    Only there is a mean over the runs that are alive a mean over the same seeds for each variant.

    Examples
    --------
    >>> runs = pd.DataFrame({"variant": "free", "c": 2, "d": [4, 4, 8], "step": 9, "log_ratio": [0.1, math.inf, 0.2]})
    >>> all_alive(runs).tolist()
    [(2, 8)]
    """
    dead = ratios(measurements, step).groupby(CELL).dead.sum()
    return dead.index[dead == 0]


def from_one(ratios: pd.Series) -> pd.Series:
    """How far ratios are from 1, as a factor of at least 1: the larger of the ratio and its inverse.

    Examples
    --------
    >>> from_one(pd.Series([0.5, 1.5])).tolist()
    [2.0, 1.5]
    """
    return np.exp(np.log(ratios).abs())


def beside(measurements: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """``others``, and before them those rows of ``measurements`` that have their cells, seeds and stages.

    So a small grid stands beside the same networks of a larger one.
    """
    keys = [*CELL, "seed", "step"]
    return pd.concat([measurements.merge(others[keys].drop_duplicates(), on=keys), others], ignore_index=True)


def compare(measurements: pd.DataFrame, variant: str = "conv-relu", step: int | None = None) -> pd.DataFrame:
    """A held variant against the free one, after ``step`` steps (by default at the last stage): one row a cell (c, d).

    Columns: ``free`` and ``held``, the ratios as in :func:`by_cell`; ``off_free`` and ``off_held``, how far they are
    from 1 (:func:`from_one`); ``nearer``, whether the held one is nearer to 1; ``whole``, whether no run of either is
    dead.

    Examples
    --------
    >>> runs = pd.DataFrame({"variant": ["free", "conv-relu"], "c": 2, "d": 4, "step": 9, "log_ratio": [1.4, -0.7]})
    >>> print(*compare(runs).round(1).iloc[0])
    4.1 0.5 4.1 2.0 True True
    """
    both = measurements[measurements.variant.isin(("free", variant))]
    free, held = (by_cell(both, name, step) for name in ("free", variant))
    cells = pd.DataFrame({"free": free, "held": held})
    cells = cells.assign(off_free=from_one(cells.free), off_held=from_one(cells.held))
    whole = cells.index.isin(all_alive(both, step))
    return cells.assign(nearer=cells.off_held < cells.off_free, whole=whole)


def courses(measurements: pd.DataFrame, batch_size: int, images: int = 50_000) -> pd.DataFrame:
    """The ratios of each cell and variant at every stage, as :func:`ratios` gives them, with ``step`` and ``epoch``.

    ``images`` is the number of training images, one epoch.
    """
    stages = sorted(measurements.step.unique())
    parts = [ratios(measurements, step).assign(step=step, epoch=step * batch_size / images) for step in stages]
    return pd.concat(parts, ignore_index=True)


def losses(measurements: pd.DataFrame, step: int | None = None) -> pd.DataFrame:
    """The mean loss by cell (c, d), one column a variant, after ``step`` steps (by default at the last stage).

    Examples
    --------
    >>> runs = pd.DataFrame({"variant": "free", "c": 2, "d": 4, "step": 9, "loss": [2.0, 1.0]})
    >>> losses(runs).free[2, 4].item()
    1.5
    """
    return _at(measurements, step).pivot_table("loss", CELL, "variant")


def distances(measurements: pd.DataFrame) -> pd.DataFrame:
    """How far from 1 each variant's ratio is at each stage, over the whole grid.

    Columns: ``variant``, ``step``, ``distance`` and ``dead``.  The distance is a factor, the median over the cells of
    max(ratio, 1/ratio), which is infinite for a cell without a living run; ``dead`` is the share of runs that are dead.
    """
    rows = []
    for step in sorted(measurements.step.unique()):
        for variant, cells in ratios(measurements, step).groupby("variant", sort=False):
            distance = float(np.exp(np.log(cells.ratio).abs().fillna(math.inf).median()))
            dead = cells.dead.sum() / (cells.dead + cells.alive).sum()
            rows.append({"variant": variant, "step": step, "distance": distance, "dead": dead})
    return pd.DataFrame(rows)


def factors(measurements: pd.DataFrame, variant: str, step: int | None = None) -> pd.DataFrame:
    """What each assumption behind σ is off by, cell by cell, for a projected variant, over the runs that are alive.

    Three assumptions make the Conv-ReLU's ratio what σ was chosen for (1 with σ = √(2d/r)): the ReLU passes half of the
    gradient's energy (s_ReLU = 1/2), the row space has its part of it (s_row = r/d), and all singular values are σ in
    spite of the crop and the border (s_conv = σ²).

    Parameters
    ----------
    measurements : DataFrame
        The table of a grid.
    variant : str
        A variant that is projected.
    step : int, optional
        The stage, by default the last one.

    Returns
    -------
    DataFrame
        The columns ``c``, ``d``, ``assumption`` and ``ratio``: the factor by which the ratio is off because of this
        assumption.  Above 1 the gradient shrinks.  The three multiply to the ratio, up to the error of σ itself.

    Raises
    ------
    ValueError
        For a variant that is not projected.
    """
    sigma = VARIANTS[variant].sigma
    if sigma is None:
        raise ValueError(f"variant {variant!r} is not projected: it has no σ to compare with")
    part = _at(measurements, step)
    part = part[(part.variant == variant) & np.isfinite(part.log_ratio)]
    r = part[CELL].min(axis=1)
    sigmas = pd.Series([sigma(c, d) for c, d in zip(part.c, part.d, strict=True)], part.index)
    logs = {
        "ReLU": np.log(0.5 / part.relu_share) / 2,
        "row space": np.log(r / part.d / part.energy_fraction) / 2,
        "crop and border": np.log(sigmas**2 / part.gain) / 2,
    }
    frames = [part[CELL].assign(assumption=name, ratio=log) for name, log in logs.items()]
    table = pd.concat(frames).groupby(["assumption", *CELL], sort=False).ratio.mean().reset_index()
    return table.assign(ratio=np.exp(table.ratio))


def energy_shares(measurements: pd.DataFrame, variant: str = "conv-relu", size: int = 32) -> pd.DataFrame:
    """The share of the gradient's energy in the row space, over c/d, and what two explanations predict for its spread.

    Parameters
    ----------
    measurements : DataFrame
        The table of a grid.  Only cells with d > c are taken.
    variant : str
        A key of ``paperlib.channel_grid.VARIANTS``.
    size : int
        The side of the feature map, in pixels.

    Returns
    -------
    DataFrame
        One row per cell, seed and stage, with the columns ``c``, ``d``, ``seed``, ``step`` and:

        * ``share``, the row space's share of the energy, over c/d;
        * ``white``, the same for white noise behind the same ReLU;
        * ``fresh``, the same for the same gradient and a kernel that knows nothing of it (NaN where the grid did not
          measure it);
        * ``effective_rank`` of the gradients;
        * ``correlated``, the standard deviation of ``share`` for a random row space and gradients of that effective
          rank (:func:`paperlib.energy.relative_sd`).  This takes the row space to be the same at all frequencies; a
          3×3 kernel has another one at each, which matters unless the gradient is nearly constant over the map;
        * ``small space``, the standard deviation for one image's gradient if it had no correlation at all, in a row
          space of c·size² of d·size² dimensions, which is the space that the paper's explanation calls small.  Over a
          batch it would be smaller still.

        The first four of these are NaN for a run that is dead.
    """
    part = measurements[(measurements.variant == variant) & (measurements.d > measurements.c)]
    fresh = part.get("fresh_fraction", pd.Series(math.nan, part.index))
    alive = np.isfinite(part.log_ratio)
    cells = list(zip(part.c, part.d, part.effective_rank, strict=True))
    return pd.DataFrame(
        {
            "c": part.c,
            "d": part.d,
            "seed": part.seed,
            "step": part.step,
            "share": (part.energy_fraction * part.d / part.c).where(alive),
            "white": (part.white_fraction * part.d / part.c).where(alive),
            "fresh": (fresh * part.d / part.c).where(alive),
            "effective_rank": part.effective_rank.where(alive),
            "correlated": [relative_sd(d, c, m) if math.isfinite(m) else math.nan for c, d, m in cells],
            "small space": [relative_sd(d * size**2, c * size**2, 1) for c, d, _ in cells],
        }
    ).reset_index(drop=True)


def energy_summary(shares: pd.DataFrame, step: int) -> pd.DataFrame:
    """The table of :func:`energy_shares` after ``step`` steps, one row per cell.

    Columns: ``c``, ``d``, the mean ``share``, its ``sd`` over the seeds, the means of ``correlated`` and
    ``small space`` (the predictions for that standard deviation), of ``white`` and of ``effective_rank``.
    """
    cells = shares[shares.step == step].groupby(CELL)
    means = cells[["share", *PREDICTIONS, "white", "effective_rank"]].mean()
    means.insert(1, "sd", cells.share.std())
    return means.reset_index()


def energy_means(shares: pd.DataFrame) -> pd.DataFrame:
    """The means of ``share``, ``fresh`` and ``white`` over the seeds: one row per cell, one column per stage."""
    return shares.pivot_table(["share", "fresh", "white"], CELL, "step")[["share", "fresh", "white"]]


def misfit(shares: pd.DataFrame) -> pd.DataFrame:
    """How many predicted standard deviations the shares are from 1: the root mean square over cells and seeds.

    Columns: ``step``, ``correlated``, ``small space``.  A prediction that is right gives about 1.
    """
    rows = []
    for step, part in shares.groupby("step"):
        rms = {name: math.sqrt((((part.share - 1) / part[name]) ** 2).mean()) for name in PREDICTIONS}
        rows.append({"step": step} | rms)
    return pd.DataFrame(rows, columns=["step", *PREDICTIONS])


def activity(grids: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How much of the middle layer is active at the end of some grids, in the mean over cells and seeds.

    ``grids`` maps a name to measurements.  Columns: ``grid``, ``variant``, ``active`` (the share of y that is not
    zero), ``relu_share`` (of the gradient's energy), both over the runs that are alive, and ``dead``, the share of
    runs that are not.
    """
    rows = []
    for name, table in grids.items():
        for variant, part in _at(table).groupby("variant", sort=False):
            alive = part[np.isfinite(part.log_ratio)]
            means = {column: alive[column].mean() for column in ("active", "relu_share")}
            rows.append({"grid": name, "variant": variant} | means | {"dead": 1 - len(alive) / len(part)})
    return pd.DataFrame(rows)


def _at(measurements: pd.DataFrame, step: int | None = None) -> pd.DataFrame:
    """The rows after ``step`` steps, by default those of the last stage."""
    return measurements[measurements.step == (measurements.step.max() if step is None else step)]
