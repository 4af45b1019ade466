"""Theorems 1 and 2 and Corollary 1 (chapter 1): how they are measured and judged."""

from __future__ import annotations

import pandas as pd

from paperlib.claims._wording import percent, power
from paperlib.claims.claim import Claim, Measured, Outcome, seeded
from paperlib.store import Frames
from paperlib.studies import norm_preservation as studies
from paperlib.theorems import linear_map

ROUNDING = 1e-9  # relative: what rounding may add to either side of an inequality


class Theorem1(Claim):
    """Theorem 1: the explicit construction's distances and rates, for two maps, two schedules and many depths."""

    name = "T1"
    where = "Theorem 1"
    statement = "blocks near the identity that represent F exist, with δ = c log(2L)/L"
    COMPOSITION = 1e-12
    SLOPE = 0.85
    START = 16

    @property
    def rule(self) -> str:
        return (
            "with each schedule, ‖J − I‖ ≤ the explicit bound and δ ≥ the lower bound at every L, and composition "
            f"there and back to {power(self.COMPOSITION)}; with the one of the paper's proof, slope of δ in log(2L)/L "
            f"at least {self.SLOPE} for L ≥ {self.START}"
        )

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        if preset == "smoke":
            depths, points, deepest = tuple(2**i for i in range(1, 7)), 16, [16]
        else:
            depths, points, deepest = studies.DEPTHS, 256, [1024]

        def rates(seed: int) -> pd.DataFrame:
            return studies.theorem1_rates(studies.example_maps(seed=seed), depths, points=points, seed=seed)

        # The errors take one map of each kind: at full depth the chains of Newton's methods take longer than all else.
        errors = studies.theorem1_errors(studies.example_maps(), deepest)
        return Measured({"rates": seeded(seeds, rates), "errors": errors})

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        fits = studies.slopes(tables["rates"], "delta", ["map", "schedule", "seed"], start=self.START)
        of = dict(list(fits.groupby(["map", "schedule"])))
        maps = ("twist", "tanh")
        geometric = {f"slope of δ in log(2L)/L, {m}, geometric": of[m, "geometric"]["in log(2L)/L"] for m in maps}
        return geometric | {f"slope of δ in L, {m}, arc": of[m, "arc"]["in L"] for m in maps}

    def judge(self, tables: Frames) -> Outcome:
        rates, errors = tables["rates"], tables["errors"]
        proof = rates[rates.schedule == "geometric"]
        slope = studies.slopes(proof, "delta", ["map", "seed"], start=self.START)["in log(2L)/L"]
        below = (rates.distance <= rates.bound * (1 + ROUNDING)).all()
        above = (rates.delta >= rates.lower * (1 - ROUNDING)).all()
        composed = errors[["forward", "backward"]].to_numpy().max() <= self.COMPOSITION
        return "reproduced" if below and above and composed and slope.min() >= self.SLOPE else "not reproduced"


class Corollary1(Claim):
    """Corollary 1: the bound beside what is measured, for blocks of several kinds."""

    name = "C1"
    where = "Corollary 1"
    statement = "δ of a two-layer block is bounded by its weights' spectral norms"
    rule = "‖J − I‖ ≤ the bound for every block, seed and input"

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        return Measured({"tightness": studies.corollary_tightness(seeds, inputs=1 if preset == "smoke" else 8)})

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        blocks = tables["tightness"].groupby("block", sort=False).ratio
        return {f"‖J − I‖ over the bound, {name}": ratios for name, ratios in blocks}

    def judge(self, tables: Frames) -> Outcome:
        table = tables["tightness"]
        bounded = len(table) > 0 and (table.measured <= table.bound * (1 + ROUNDING)).all()
        return "reproduced" if bounded else "not reproduced"


class Theorem2(Claim):
    """Theorem 2: the explicit optimum of a linear network by depth, and what gradient descent finds."""

    name = "T2"
    where = "Theorem 2"
    statement = "linear residual blocks reach δ = c/L at a global optimum"
    SLOPE_MARGIN = 0.03
    START = 128
    PRODUCT = 1e-12
    EXCESS_MARGIN = 0.01
    REACHED = 1e-6  # an excess risk below it counts as none: nothing then needs a correction

    @property
    def rule(self) -> str:
        return (
            f"‖A‖ ≤ the published bound for L ≥ 3γ, slope within {self.SLOPE_MARGIN} of −1 for L ≥ {self.START}, "
            f"product exact to {power(self.PRODUCT)} of the condition number; with a correction (det R > 0) if "
            f"gradient descent on a target with det R < 0 ends within {percent(self.EXCESS_MARGIN)} of the excess risk "
            "σ_min² that theory gives"
        )

    def measure(self, preset: str, seeds: list[int]) -> Measured:
        depths = (4, 8, 16) if preset == "smoke" else (4, 8, 16, 32, 64, 128)
        # The rate is asymptotic, and a matrix costs little: full depth at any preset.
        rates = seeded(seeds, lambda seed: studies.theorem2_rates(studies.gaussian_matrix(seed=seed)))
        descent = seeded(seeds, lambda seed: studies.descent_rates(linear_map(8, 0.5, seed=seed), depths, seed=seed))
        targets = studies.descents(steps=1500 if preset == "smoke" else 3000)
        return Measured({"rates": rates, "descent": descent, "targets": targets})

    def quantities(self, tables: Frames) -> dict[str, pd.Series]:
        last = tables["rates"].query("L == L.max()")
        descent = tables["descent"].query("L == L.max()")
        return {
            f"slope of ‖A‖ in L, L ≥ {self.START}": self._slope(tables),
            "published bound over ‖A‖, deepest": last.published / last.distance,
            "gradient descent's ‖A‖ over the explicit one's, deepest": descent.descent / descent.explicit,
        }

    def judge(self, tables: Frames) -> Outcome:
        rates = tables["rates"]
        with_bound = rates[rates.published.notna()]
        bounded = len(with_bound) > 0 and (with_bound.distance <= with_bound.published).all()
        steep = (self._slope(tables) + 1).abs().max() <= self.SLOPE_MARGIN
        if not (bounded and steep and rates.error.max() <= self.PRODUCT):
            return "not reproduced"
        end = tables["targets"].groupby("target").last().loc["det R < 0"]
        if end.excess <= self.REACHED:
            return "reproduced"
        as_in_theory = abs(end.excess / end.floor - 1) <= self.EXCESS_MARGIN
        return "reproduced with a correction" if as_in_theory else "not reproduced"

    def _slope(self, tables: Frames) -> pd.Series:
        return studies.slopes(tables["rates"], "distance", ["seed"], start=self.START)["in L"]


CLAIMS = (Theorem1(), Corollary1(), Theorem2())
