"""Figure 2 and equation 7's assumption (chapter 3): how they are measured and judged.

Both read one run of the channel grid, which is trained if it is not there yet.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from paperlib import grid_runs
from paperlib.claims.claim import Claim, Outcome
from paperlib.claims.finding import Tables
from paperlib.records import Provenance
from paperlib.studies import channel_grid as studies

NEAR = 1.25  # a factor; what counts as near 1
SMALL = 4  # channels; what counts as very few


def _grid(preset: str, seeds: list[int]) -> grid_runs.GridRecord:
    return grid_runs.run(grid_runs.GridConfig(preset=preset, seeds=len(seeds)))


# -- Figure 2 ----------------------------------------------------------------------------------------------------
def _figure2(preset: str, seeds: list[int]) -> tuple[Tables, Provenance]:
    record = _grid(preset, seeds)
    return {"ratios": record.measurements[["c", "d", "variant", "seed", "step", "log_ratio"]]}, record


def _figure2_figures(tables: Tables) -> dict[str, pd.Series]:
    table = tables["ratios"]
    alive = table[np.isfinite(table.log_ratio)].assign(distance=lambda t: np.exp(t.log_ratio.abs()))
    found = {}
    for name, variant in (("projected", "conv-relu"), ("not projected", "free"), ("He, fan in", "free-he-fan-in")):
        for when, step in (("at the start", table.step.min()), ("at the end", table.step.max())):
            part = alive[(alive.variant == variant) & (alive.step == step)]
            found[f"median factor from 1, {name}, {when}"] = part.groupby("seed").distance.median()
    return found


def _holds(table: pd.DataFrame, step: int) -> bool:
    cells = studies.ratios(table, step).set_index(["c", "d"])
    projected, free = (cells[cells.variant == v] for v in ("conv-relu", "free"))
    ours, others = (
        np.log(t.ratio).abs().fillna(math.inf).where(t.dead <= t.alive, math.inf) for t in (projected, free)
    )
    few = np.array([d > c and c <= SMALL for c, d in ours.index])
    return bool(((ours <= math.log(NEAR)) & (ours < others.loc[ours.index]) | few).all()) and len(ours) > 0


def _figure2_verdict(tables: Tables) -> Outcome:
    table = tables["ratios"]
    if _holds(table, table.step.max()):
        return "reproduced"
    return "reproduced with a correction" if _holds(table, table.step.min()) else "not reproduced"


# -- equation 7 --------------------------------------------------------------------------------------------------
def _equation7(preset: str, seeds: list[int]) -> tuple[Tables, Provenance]:
    record = _grid(preset, seeds)
    return {"energy": studies.energy(record.measurements)}, record


def _equation7_figures(tables: Tables) -> dict[str, pd.Series]:
    table, found = tables["energy"], {}
    for when, step in (("at the start", table.step.min()), ("at the end", table.step.max())):
        part = table[table.step == step]
        found[f"share over c/d, {when}"] = part.groupby("seed").share.mean()
        found[f"share over c/d, white noise, {when}"] = part.groupby("seed").white.mean()
        found[f"effective rank of the gradients, {when}"] = part.groupby("seed").effective_rank.mean()
    return found


def _within(table: pd.DataFrame, step: int) -> bool:
    shares = table[table.step == step].groupby(["c", "d"]).share.mean()
    return bool(shares.between(1 / NEAR, NEAR).all()) and len(shares) > 0


def _equation7_verdict(tables: Tables) -> Outcome:
    table = tables["energy"]
    if _within(table, table.step.max()):
        return "reproduced"
    return "reproduced with a correction" if _within(table, table.step.min()) else "not reproduced"


CLAIMS: dict[str, Claim] = {
    "P3": Claim(
        "equation 7",
        "the row space holds about min(d, c)/d of the gradient's energy",
        f"in every cell with d > c of the projected grid, the share over c/d, averaged over the seeds, is within a factor {NEAR} of 1 after the last "
        "stage; with a correction if only before the first step",
        _equation7,
        _equation7_figures,
        _equation7_verdict,
        accelerated=True,
        scaled=True,
    ),
    "F2": Claim(
        "Figure 2",
        "the projection moves the Conv-ReLU's gradient-norm ratio to 1, and fails only for very small c with d > c",
        f"in every cell but those with d > c and c ≤ {SMALL}: with σ = √(2d/min(d, c)) the geometric mean over the runs that are alive is within a "
        f"factor {NEAR} of 1 after the last stage, nearer than without a projection (PyTorch's start), and at least half of the runs are "
        "alive; with a correction if this holds only before the first step",
        _figure2,
        _figure2_figures,
        _figure2_verdict,
        accelerated=True,
        scaled=True,
    ),
}
