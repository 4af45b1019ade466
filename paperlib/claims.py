"""The paper's claims: what was measured for each, on record, and the verdict that a stated rule draws from it.

A :class:`Finding` is to a claim what a :class:`paperlib.records.Record` is to a training run: a folder
``<root>/claims/<claim>/`` with ``finding.json`` (the summary and where it was made) and one Parquet table for each
measurement.  ``python -m paperlib measure T1 C1 T2`` makes the findings of the theorems.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from paperlib import records
from paperlib.errors import ConfigError, RecordError
from paperlib.maps import linear_map
from paperlib.studies import theorems as studies

FILE = "finding.json"
Verdict = Literal["reproduced", "reproduced with a correction", "not reproduced"]
Tables = dict[str, pd.DataFrame]


class Figure(BaseModel):
    """One measured number: mean and standard deviation over ``n`` seeds (``sd`` is None for one)."""

    mean: float
    sd: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.sd is None else f" ± {self.sd:.3f}")


class Finding(BaseModel):
    """What was measured for one claim: its figures, its tables, and where they were made."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    schema_version: Literal[1] = 1
    claim: str
    preset: str
    seeds: list[int]
    command: str
    git: dict[str, Any]
    versions: dict[str, str]
    device: dict[str, Any]
    threads: int
    started: str
    wall_seconds: float
    figures: dict[str, Figure]
    tables: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each table's file")

    _frames: Tables = PrivateAttr(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables.  Raises ``KeyError`` for a name that is not in ``tables``."""
        return self._frames[name]

    @property
    def verdict(self) -> Verdict:
        """The verdict of the claim's rule on this finding's tables."""
        return CLAIMS[self.claim].judge(self._frames)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, how it is measured, and the rule that judges it."""

    where: str
    statement: str
    rule: str
    measure: Callable[[str, list[int]], Tables]
    figures: Callable[[Tables], dict[str, pd.Series]]
    judge: Callable[[Tables], Verdict]


# -- the three claims of chapter 1 -----------------------------------------------------------------------------
_DEPTHS = {"smoke": tuple(2**i for i in range(1, 7)), "desk": studies.DEPTHS}


def _seeded(seeds: Iterable[int], study: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([study(seed).assign(seed=seed) for seed in seeds], ignore_index=True)


def _theorem1(preset: str, seeds: list[int]) -> Tables:
    points, deepest = (16, [16]) if preset == "smoke" else (256, [1024])
    return {
        "rates": _seeded(seeds, lambda s: studies.theorem1_rates(studies.example_maps(seed=s), _DEPTHS[preset], points=points, seed=s)),
        "errors": studies.theorem1_errors(studies.example_maps(), deepest),
    }  # fmt: skip


def _theorem1_figures(tables: Tables) -> dict[str, pd.Series]:
    fits = studies.slopes(tables["rates"], "delta", ["map", "schedule", "seed"])
    of = dict(list(fits.groupby(["map", "schedule"])))
    named = {f"slope of δ in log(2L)/L, {m}, geometric": of[m, "geometric"]["in log(2L)/L"] for m in ("twist", "tanh")}
    return named | {f"slope of δ in L, {m}, arc": of[m, "arc"]["in L"] for m in ("twist", "tanh")}


def _theorem1_verdict(tables: Tables) -> Verdict:
    rates = tables["rates"]
    published = rates[rates.schedule == "geometric"]
    slope = studies.slopes(published, "delta", ["map", "seed"])["in log(2L)/L"]
    bounded = (published.distance <= published.bound).all() and (rates.delta >= rates.lower * (1 - 1e-9)).all()
    composed = tables["errors"].forward.max() <= 1e-12
    return "reproduced" if bounded and composed and slope.min() >= 0.85 else "not reproduced"


def _corollary1(preset: str, seeds: list[int]) -> Tables:
    return {"tightness": studies.corollary_tightness(seeds, inputs=1 if preset == "smoke" else 8)}


def _corollary1_figures(tables: Tables) -> dict[str, pd.Series]:
    parts = tables["tightness"].groupby("block", sort=False).ratio
    return {f"‖J − I‖ over the bound, {name}": part for name, part in parts}


def _corollary1_verdict(tables: Tables) -> Verdict:
    table = tables["tightness"]
    return "reproduced" if (table.measured <= table.bound * (1 + 1e-6)).all() else "not reproduced"


def _theorem2(preset: str, seeds: list[int]) -> Tables:
    depths = (4, 8, 16) if preset == "smoke" else (4, 8, 16, 32, 64, 128)
    # The rate is asymptotic, and a matrix costs little: full depth at any preset.
    return {
        "rates": _seeded(seeds, lambda s: studies.theorem2_rates(studies.gaussian_matrix(seed=s))),
        "descent": _seeded(seeds, lambda s: studies.descent_rates(linear_map(8, 0.5, seed=s), depths, seed=s)),
        "targets": studies.descents(steps=300 if preset == "smoke" else 3000),
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


def _theorem2_verdict(tables: Tables) -> Verdict:
    rates = tables["rates"]
    slope = studies.slopes(rates, "distance", ["seed"], start=128)["in L"]
    holds = (
        (slope + 1).abs().max() <= 0.03 and not (rates.distance > rates.published).any() and rates.error.max() <= 1e-12
    )
    if not holds:
        return "not reproduced"
    end = tables["targets"].groupby("target").last().loc["det R < 0"]
    return "reproduced with a correction" if end.excess >= 0.99 * end.floor else "reproduced"


CLAIMS: dict[str, Claim] = {
    "T1": Claim(
        "Theorem 1",
        "blocks near the identity that represent F exist, with δ = c log(2L)/L",
        "with the schedule of the paper's proof: ‖J − I‖ ≤ the explicit bound at every L, no δ below the lower bound, slope of δ in "
        "log(2L)/L at least 0.85 for L ≥ 16, composition to 1e-12",
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
        "correction if gradient descent on a target with det R < 0 stays at the excess risk σ_min² that theory gives",
        _theorem2,
        _theorem2_figures,
        _theorem2_verdict,
    ),
}  # fmt: skip


def measure(claim: str, preset: str = "desk", seeds: int = 5) -> Finding:
    """Measure one claim, here and now.

    Parameters
    ----------
    claim : a key of ``CLAIMS``.
    preset : ``"desk"``, or ``"smoke"`` for a few seconds' worth of it.
    seeds : how many: 0, 1, …

    Raises
    ------
    ConfigError : an unknown claim or preset, or no seeds.

    Examples
    --------
    >>> finding = measure("C1", preset="smoke", seeds=2)
    >>> finding.verdict, finding.seeds
    ('reproduced', [0, 1])
    """
    if claim not in CLAIMS:
        raise ConfigError(f"claim {claim!r} is not one of {', '.join(CLAIMS)}")
    if preset not in _DEPTHS:
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(_DEPTHS)}: the theorems need no GPU and no data")
    if not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"seeds must be a whole number of at least 1, not {seeds!r}")
    chosen, started, began = list(range(seeds)), datetime.now(timezone.utc), time.monotonic()
    tables = CLAIMS[claim].measure(preset, chosen)
    figures = {
        name: Figure(mean=values.mean(), sd=values.std() if len(values) > 1 else None, n=len(values))
        for name, values in CLAIMS[claim].figures(tables).items()
    }
    finding = Finding(
        claim=claim,
        preset=preset,
        seeds=chosen,
        command=f"python -m paperlib measure {claim} --preset {preset} --seeds {seeds}",
        git=records.git_state(),
        versions=records.versions(),
        device={"type": "cpu", "name": records.device_name(torch.device("cpu"))},
        threads=torch.get_num_threads(),
        started=started.isoformat(timespec="seconds"),
        wall_seconds=time.monotonic() - began,
        figures=figures,
    )
    finding._frames = tables
    return finding


def save(finding: Finding, root: str | Path) -> Path:
    """Write a finding to ``<root>/claims/<claim>/`` and return that folder.  Raises ``RecordError`` if it cannot be."""
    folder = Path(root) / "claims" / finding.claim
    contents = {}
    for name, frame in finding._frames.items():
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        contents[name] = buffer.getvalue()
    finding.tables = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    try:
        for name, content in contents.items():
            records.write_atomically(folder / f"{name}.parquet", content)
        records.write_atomically(folder / FILE, (finding.model_dump_json(indent=2) + "\n").encode())
    except OSError as e:
        raise RecordError(f"the finding could not be written to {folder}: {e.strerror or e}") from e
    return folder


def read(folder: str | Path) -> Finding:
    """Read the finding in ``folder``.  Raises ``RecordError`` if it is missing, malformed, or a table is not the saved one."""
    path = Path(folder) / FILE
    try:
        finding = Finding.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise RecordError(f"there is no finding at {path}") from None
    except (OSError, ValueError, ValidationError) as e:
        reason = str(e).splitlines()[0]
        raise RecordError(f"{path} is not a readable finding ({reason}); measure the claim again") from e
    if finding.claim not in CLAIMS:
        raise RecordError(f"{path} is about a claim {finding.claim!r} that this paperlib does not know")
    for name, checksum in finding.tables.items():
        table = path.with_name(f"{name}.parquet")
        try:
            content = table.read_bytes()
        except OSError as e:
            raise RecordError(f"{table} cannot be read ({e.strerror or e}); measure the claim again") from e
        if hashlib.sha256(content).hexdigest() != checksum:
            raise RecordError(f"{table} is not the table of its finding: its checksum differs; measure the claim again")
        finding._frames[name] = pd.read_parquet(io.BytesIO(content))
    return finding


def read_all(root: str | Path) -> list[Finding]:
    """Every finding below ``<root>/claims``, in the order of ``CLAIMS``.  Raises as :func:`read`."""
    folders = {path.parent.name: path.parent for path in (Path(root) / "claims").glob(f"*/{FILE}")}
    order = {claim: i for i, claim in enumerate(CLAIMS)}
    return [read(folders[name]) for name in sorted(folders, key=lambda n: (order.get(n, len(order)), n))]


def overview(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a figure: claim, what was measured, mean ± sd, number of seeds, preset, device, commit, and the claim's verdict."""
    rows = []
    for f in findings:
        commit = (f.git.get("commit") or "none")[:8] + ("+" if f.git.get("dirty") else "")
        for name, figure in f.figures.items():
            rows.append(
                {
                    "claim": f.claim,
                    "measured": name,
                    "mean ± sd": str(figure),
                    "seeds": figure.n,
                    "preset": f.preset,
                    "device": f.device["name"],
                    "commit": commit,
                    "verdict": f.verdict,
                }
            )
    return pd.DataFrame(rows)
