"""Figure 2 and equation 7's assumption (chapter 3): how they are measured and judged.

Both read one run of the channel grid, which is trained if it is not there yet.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from paperlib.channel_grid import GridConfig, GridRecord, run
from paperlib.claims._wording import percent
from paperlib.claims.claim import Claim, Measured, Outcome
from paperlib.store import Frames
from paperlib.studies import channel_grid as studies

Cell = tuple[int, int]


class GridClaim(Claim):
    """What the two claims have in common: a run of the grid, and when a number counts as near 1."""

    accelerated = True
    scaled = True
    table: ClassVar[str]
    """The name of the table that is judged, with the columns ``c``, ``d`` and ``step``."""
    NEAR = 1.25  # a factor
    CONFIDENCE = 0.95
    ENOUGH = 5  # runs; fewer do not give an interval to speak of

    @property
    def near_one(self) -> str:
        """The part of the rule that both claims share."""
        return (
            f"near 1: at least half of the runs are alive, and the {percent(self.CONFIDENCE)} interval of their "
            f"geometric mean reaches into 1/{self.NEAR} to {self.NEAR} (the mean itself lies in it, of fewer than "
            f"{self.ENOUGH}). After the last stage; with a correction if it holds only before the first step"
        )

    def seeds(self, preset: str) -> int:
        return GridConfig(preset=preset, device="cpu").resolve().seeds

    def near(self, logs: pd.Series) -> bool:
        """Whether the runs of one cell count as near 1, from the logarithms of their numbers.

        The interval of the mean need only reach into the range, so that a cell fails only if the seeds show it.
        """
        alive = logs[np.isfinite(logs)]
        if len(alive) == 0 or 2 * len(alive) < len(logs):
            return False
        margin = 0.0
        if len(alive) >= self.ENOUGH:
            quantile = stdtrit(len(alive) - 1, (1 + self.CONFIDENCE) / 2)  # of Student's t
            margin = quantile * alive.std() / math.sqrt(len(alive))
        return abs(alive.mean()) - margin <= math.log(self.NEAR)

    @abstractmethod
    def failures(self, table: pd.DataFrame, step: int) -> list[Cell]:
        """The cells (c, d) that do not do after ``step`` steps what is claimed of them."""

    def judge(self, tables: Frames) -> Outcome:
        table = tables[self.table]
        if table.empty:
            return "not reproduced"
        if not self.failures(table, table.step.max()):
            return "reproduced"
        return "not reproduced" if self.failures(table, table.step.min()) else "reproduced with a correction"


class Equation7(GridClaim):
    """Equation 7's assumption: the energy that a convolution with more outputs than inputs passes back."""

    name = "P3"
    where = "equation 7"
    statement = "the row space holds about min(d, c)/d of the gradient's energy"
    table = "energy"

    @property
    def rule(self) -> str:
        return f"in every cell with d > c, held at σ = √(2d/min(d, c)), the share over c/d is {self.near_one}"

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        record = _grid(preset, seeds)
        return Measured({self.table: studies.energy_shares(record.measurements)}, source=record.provenance)

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        found = {}
        for when, part in _ends(tables[self.table]).items():
            by_seed = part.groupby("seed")
            found[f"share over c/d, {when}"] = by_seed.share.mean()
            found[f"share over c/d, white noise, {when}"] = by_seed.white.mean()
            found[f"effective rank of the gradients, {when}"] = by_seed.effective_rank.mean()
        return found

    def failures(self, table: pd.DataFrame, step: int) -> list[Cell]:
        cells = table[table.step == step].groupby(["c", "d"])
        return [cell for cell, rows in cells if not self.near(np.log(rows.share))]


class Figure2(GridClaim):
    """Figure 2: the gradient-norm ratio of a Conv-ReLU layer over the numbers of its channels."""

    name = "F2"
    where = "Figure 2"
    statement = (
        "the projection moves the Conv-ReLU's gradient-norm ratio to 1, and fails only for very small c with d > c"
    )
    table = "ratios"
    SMALL = 4  # channels; what counts as very few
    VARIANTS = {"projected": "conv-relu", "not projected": "free", "He, fan in": "free-he-fan-in"}

    @property
    def rule(self) -> str:
        return (
            f"in every cell but those with d > c and c ≤ {self.SMALL}, with σ = √(2d/min(d, c)), the mean ratio is "
            f"nearer to 1 than without a projection (PyTorch's start) and {self.near_one}"
        )

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        record = _grid(preset, seeds)
        columns = ["c", "d", "variant", "seed", "step", "log_ratio"]
        return Measured({self.table: record.measurements[columns]}, source=record.provenance)

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        table = tables[self.table]
        # A dead run is as far from 1 as can be.
        table = table.assign(distance=np.exp(table.log_ratio.abs().fillna(math.inf)))
        return {
            f"single runs, median factor from 1, {title}, {when}": (
                part[part.variant == variant].groupby("seed").distance.median()
            )
            for title, variant in self.VARIANTS.items()
            for when, part in _ends(table).items()
        }

    def failures(self, table: pd.DataFrame, step: int) -> list[Cell]:
        """The cells (c, d) that do not do after ``step`` steps what is claimed of them; the exceptions do not count."""
        part = table[table.step == step]
        projected, free = (
            dict(list(part[part.variant == variant].groupby(["c", "d"]).log_ratio)) for variant in ("conv-relu", "free")
        )

        def nearer(cell: Cell) -> bool:
            ours, theirs = (abs(logs[cell][np.isfinite(logs[cell])].mean()) for logs in (projected, free))
            return not ours >= theirs  # where all of theirs are dead, their mean is NaN, and ours is nearer

        asked = [(c, d) for c, d in projected if not (d > c and c <= self.SMALL)]
        return [cell for cell in asked if not (self.near(projected[cell]) and nearer(cell))]


def _grid(preset: str, seeds: list[int]) -> GridRecord:
    return run(GridConfig(preset=preset, seeds=len(seeds)))


def _ends(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the first and of the last stage."""
    stages = {"at the start": table.step.min(), "at the end": table.step.max()}
    return {when: table[table.step == step] for when, step in stages.items()}


CLAIMS = (Equation7(), Figure2())
