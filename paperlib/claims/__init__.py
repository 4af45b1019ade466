"""The paper's claims: what was measured for each, on record, and the verdict that a stated rule draws from it.

A :class:`paperlib.claims.finding.Finding` is to a claim what a :class:`paperlib.records.Record` is to a training run: a folder
``<root>/claims/<claim>/`` with ``finding.json`` (the summary and where it was made) and one Parquet table for each
measurement.  ``python -m paperlib measure T1 C1 T2`` makes some of them.

One module a chapter says what its claims are: ``theorems`` (chapter 1), ``projection`` (2) and ``channel_grid`` (3).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import torch

from paperlib import records
from paperlib.claims import channel_grid, projection, theorems
from paperlib.claims.claim import UNTESTED, Claim, Outcome
from paperlib.claims.finding import Finding, Quantity as Figure, read, save
from paperlib.errors import ConfigError, RecordError

__all__ = [
    "CLAIMS",
    "Claim",
    "Figure",
    "Finding",
    "check",
    "measure",
    "outcome",
    "overview",
    "read",
    "read_all",
    "report",
    "save",
    "spoken",
    "verdict",
]

CLAIMS: dict[str, Claim] = theorems.CLAIMS | projection.CLAIMS | channel_grid.CLAIMS


def check(claim: str, preset: str | None = None, seeds: int | None = None) -> None:
    """Raise ``ConfigError`` unless ``claim`` is a key of ``CLAIMS`` that has this preset, and ``seeds`` a number of seeds."""
    if claim not in CLAIMS:
        raise ConfigError(f"claim {claim!r} is not one of {', '.join(CLAIMS)}")
    presets = CLAIMS[claim].presets
    if preset is not None and preset not in presets:
        why = "" if "paper" in presets else f": {claim} needs no GPU and no data"
        raise ConfigError(f"preset {preset!r} is not one of {', '.join(presets)}{why}")
    if seeds is not None and (not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1):
        raise ConfigError(f"seeds must be a whole number of at least 1, not {seeds!r}")


def measure(claim: str, preset: str = "desk", seeds: int | None = None) -> Finding:
    """Measure one claim, here and now.

    Parameters
    ----------
    claim : a key of ``CLAIMS``.
    preset : ``"desk"``, ``"smoke"`` for a few seconds' worth of it, or, for claims about trained networks, ``"paper"``.
    seeds : how many: 0, 1, …; by default 5, or for claims about trained networks as many as the preset has.

    Raises
    ------
    ConfigError : an unknown claim or preset, or no seeds.

    Examples
    --------
    >>> finding = measure("C1", preset="smoke", seeds=2)
    >>> verdict(finding), finding.seeds
    ('reproduced', [0, 1])
    """
    check(claim, preset, seeds)
    seeds = seeds or CLAIMS[claim].seeds(preset)
    chosen, started, began = list(range(seeds)), datetime.now(timezone.utc), time.monotonic()
    device = torch.device("cuda" if CLAIMS[claim].accelerated and torch.cuda.is_available() else "cpu")
    made = CLAIMS[claim].measure(preset, chosen)
    tables, source = made if isinstance(made, tuple) else (made, None)
    figures = {
        name: Figure(mean=values.mean(), sd=values.std() if len(values) > 1 else None, n=len(values))
        for name, values in CLAIMS[claim].figures(tables).items()
    }
    return Finding(
        claim=claim,
        preset=preset,
        seeds=chosen,
        command=f"python -m paperlib measure {claim} --preset {preset} --seeds {seeds}",
        git=source.git if source else records.git_state(),
        versions=source.versions if source else records.versions(),
        device=source.device if source else {"type": device.type, "name": records.device_name(device)},
        threads=source.threads if source else torch.get_num_threads(),
        started=source.started if source else started.isoformat(timespec="seconds"),
        wall_seconds=source.wall_seconds if source else time.monotonic() - began,
        figures=figures,
        frames=tables,
    )


def outcome(finding: Finding) -> Outcome:
    """What the claim's rule says of the finding's tables, at whatever scale they were measured.

    Raises ``RecordError`` for a claim that is not known, and where a table or a column is missing.
    """
    if finding.claim not in CLAIMS:
        raise RecordError(f"there is a finding about a claim {finding.claim!r}, which this paperlib does not know")
    try:
        return CLAIMS[finding.claim].judge(finding.frames)
    except KeyError as e:
        raise RecordError(f"the finding of {finding.claim} has no {e}: measure the claim again") from e


def verdict(finding: Finding) -> str:
    """The finding's :func:`outcome`, if it was made at a scale that decides the claim; else ``UNTESTED``.  Raises as that."""
    found = outcome(finding)
    return UNTESTED if CLAIMS[finding.claim].scaled and finding.preset != "paper" else found


def read_all(root: str | Path, only: Iterable[str] | None = None) -> list[Finding]:
    """The findings below ``<root>/claims``, all or ``only`` those of some claims, in the order of ``CLAIMS``.

    Raises as :func:`paperlib.claims.finding.read`.
    """
    folders = {path.parent.name: path.parent for path in (Path(root) / "claims").glob(f"*/{FILE}")}
    if only is not None:
        folders = {name: folders[name] for name in only if name in folders}
    order = {claim: i for i, claim in enumerate(CLAIMS)}
    return [read(folders[name]) for name in sorted(folders, key=lambda n: (order.get(n, len(order)), n))]


def overview(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a figure: claim, what was measured, mean ± sd, number of seeds, preset, device, commit, and the claim's verdict."""
    rows = []
    for f in findings:
        for name, figure in f.figures.items():
            rows.append(
                {
                    "claim": f.claim,
                    "measured": name,
                    "mean ± sd": str(figure),
                    "seeds": figure.n,
                    "preset": f.preset,
                    "device": f.device["name"],
                    "commit": f.short_commit,
                    "verdict": verdict(f),
                }
            )
    return pd.DataFrame(rows)


def spoken(finding: Finding) -> str:
    """The verdict; where the scale does not decide the claim, with the outcome at this one."""
    found = verdict(finding)
    return f"{found} (at the {finding.preset} preset: {outcome(finding)})" if found == UNTESTED else found


def report(findings: Iterable[Finding]) -> str:
    """Two lines a finding: its verdict with the rule behind it, and the command, device and commit that it comes from."""
    return "\n".join(
        f"{f.claim}  {spoken(f)}: {CLAIMS[f.claim].rule}\n"
        f"    {f.command}  ({f.device['name']}, {f.threads} threads, commit {(f.git.get('commit') or 'none')[:7]})"
        for f in findings
    )
