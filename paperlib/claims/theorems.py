"""Theorems 1 and 2 and Corollary 1 (chapter 1): how they are measured and judged."""

from __future__ import annotations

import pandas as pd

from paperlib.claims.claim import Claim, Outcome, seeded
from paperlib.claims.finding import Tables
from paperlib.studies import norm_preservation as studies
from paperlib.theorems import linear_map

_ROUNDING = 1e-9  # relative: what rounding may add to either side of an inequality
_DEPTHS = {"smoke": tuple(2**i for i in range(1, 7)), "desk": studies.DEPTHS}


def _theorem1(preset: str, seeds: list[int]) -> Tables:
    points, deepest = (16, [16]) if preset == "smoke" else (256, [1024])
    return {
        "rates": seeded(seeds, lambda s: studies.theorem1_rates(studies.example_maps(seed=s), _DEPTHS[preset], points=points, seed=s)),
        # One map of each kind: at full depth its chains of Newton's methods take longer than all the rest.
        "errors": studies.theorem1_errors(studies.example_maps(), deepest),
    }  # fmt: skip


def _theorem1_figures(tables: Tables) -> dict[str, pd.Series]:
    fits = studies.slopes(tables["rates"], "delta", ["map", "schedule", "seed"])
    of = dict(list(fits.groupby(["map", "schedule"])))
    named = {f"slope of δ in log(2L)/L, {m}, geometric": of[m, "geometric"]["in log(2L)/L"] for m in ("twist", "tanh")}
    return named | {f"slope of δ in L, {m}, arc": of[m, "arc"]["in L"] for m in ("twist", "tanh")}


def _theorem1_verdict(tables: Tables) -> Outcome:
    rates, errors = tables["rates"], tables["errors"]
    published = rates[rates.schedule == "geometric"]
    slope = studies.slopes(published, "delta", ["map", "seed"])["in log(2L)/L"]
    below = (rates.distance <= rates.bound * (1 + _ROUNDING)).all()
    above = (rates.delta >= rates.lower * (1 - _ROUNDING)).all()
    composed = errors[["forward", "backward"]].to_numpy().max() <= 1e-12
    return "reproduced" if below and above and composed and slope.min() >= 0.85 else "not reproduced"


def _corollary1(preset: str, seeds: list[int]) -> Tables:
    return {"tightness": studies.corollary_tightness(seeds, inputs=1 if preset == "smoke" else 8)}


def _corollary1_figures(tables: Tables) -> dict[str, pd.Series]:
    parts = tables["tightness"].groupby("block", sort=False).ratio
    return {f"‖J − I‖ over the bound, {name}": part for name, part in parts}


def _corollary1_verdict(tables: Tables) -> Outcome:
    table = tables["tightness"]
    holds = len(table) > 0 and (table.measured <= table.bound * (1 + _ROUNDING)).all()
    return "reproduced" if holds else "not reproduced"


def _theorem2(preset: str, seeds: list[int]) -> Tables:
    depths = (4, 8, 16) if preset == "smoke" else (4, 8, 16, 32, 64, 128)
    # The rate is asymptotic, and a matrix costs little: full depth at any preset.
    return {
        "rates": seeded(seeds, lambda s: studies.theorem2_rates(studies.gaussian_matrix(seed=s))),
        "descent": seeded(seeds, lambda s: studies.descent_rates(linear_map(8, 0.5, seed=s), depths, seed=s)),
        "targets": studies.descents(steps=1500 if preset == "smoke" else 3000),
    }


def _theorem2_figures(tables: Tables) -> dict[str, pd.Series]:
    slope = studies.slopes(tables["rates"], "distance", ["seed"], start=128)["in L"]
    last = tables["rates"].query("L == L.max()")
    descent = tables["descent"].query("L == L.max()")
    return {
        "slope of ‖A‖ in L, L ≥ 128": slope,
        "published bound over ‖A‖, deepest": last.published / last.distance,
        "gradient descent's ‖A‖ over the explicit one's, deepest": descent.descent / descent.explicit,
    }


def _theorem2_verdict(tables: Tables) -> Outcome:
    rates = tables["rates"]
    slope = studies.slopes(rates, "distance", ["seed"], start=128)["in L"]
    bounded = rates[rates.published.notna()]
    holds = len(bounded) > 0 and (bounded.distance <= bounded.published).all()
    if not (holds and (slope + 1).abs().max() <= 0.03 and rates.error.max() <= 1e-12):
        return "not reproduced"
    end = tables["targets"].groupby("target").last().loc["det R < 0"]
    if end.excess <= 1e-6:  # reached, so that nothing needs correction
        return "reproduced"
    return "reproduced with a correction" if abs(end.excess / end.floor - 1) <= 0.01 else "not reproduced"


CLAIMS: dict[str, Claim] = {
    "T1": Claim(
        "Theorem 1",
        "blocks near the identity that represent F exist, with δ = c log(2L)/L",
        "with each schedule, ‖J − I‖ ≤ the explicit bound and δ ≥ the lower bound at every L, and composition there and back to 1e-12; with the one of "
        "the paper's proof, slope of δ in log(2L)/L at least 0.85 for L ≥ 16",
        _theorem1,
        _theorem1_figures,
        _theorem1_verdict,
    ),
    "C1": Claim(
        "Corollary 1",
        "δ of a two-layer block is bounded by its weights' spectral norms",
        "‖J − I‖ ≤ the bound for every block, seed and input",
        _corollary1,
        _corollary1_figures,
        _corollary1_verdict,
    ),
    "T2": Claim(
        "Theorem 2",
        "linear residual blocks reach δ = c/L at a global optimum",
        "‖A‖ ≤ the published bound for L ≥ 3γ, slope within 0.03 of −1 for L ≥ 128, product exact to 1e-12 of the condition number; with a "
        "correction (det R > 0) if gradient descent on a target with det R < 0 ends within 1 % of the excess risk σ_min² that theory gives",
        _theorem2,
        _theorem2_figures,
        _theorem2_verdict,
    ),
}  # fmt: skip
