"""Chapter 4: what training runs show, as tables made from their records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pandas as pd

from paperlib.records import Record
from paperlib.store import Session

NEAR = 1.25
"""The factor within which a ratio is called close to 1, as in the rules of the claims."""


def overview(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: network, data set, preset, seed, epochs, images, errors, time, device, commit."""
    return pd.DataFrame([record.summary() for record in records])


def provenance(record: Record) -> pd.DataFrame:
    """How a run was made: one column, one row per fact."""
    p, c, data = record.provenance, record.config, record.data

    def each(tell: Callable[[Session], str]) -> str:
        """What all sessions say, each thing once."""
        return "; ".join(dict.fromkeys(map(tell, p.sessions)))

    sessions = len(p.sessions)
    facts = {
        "command": p.command,
        "started (UTC)": p.started,
        "wall time": f"{p.seconds:.0f} s in {sessions} session{'s' if sessions > 1 else ''}",
        "device": each(lambda s: f"{s.device.name} ({s.device.type}), {s.threads} CPU threads{_processes(s)}"),
        "precision, format": f"{c.precision}, {c.memory_format}",
        "deterministic kernels": "yes" if c.deterministic else "no",
        "peak memory": f"{record.peak_memory_bytes / 2**30:.1f} GiB",
        "data": f"{data.dataset} from {data.source}, SHA-256 {data.checksum[:16]}…",
        "commit": each(lambda s: (s.commit or "not from a checkout") + " with uncommitted changes" * bool(s.dirty)),
        "versions": each(lambda s: ", ".join(f"{name} {version}" for name, version in s.versions.items())),
        "configuration": f"SHA-256 {c.digest()[:16]}…",
    }
    return pd.DataFrame({"": facts})


def _processes(session: Session) -> str:
    """What to say of a session's processes; nothing for one."""
    number = session.settings.get("processes")
    return f" in each of {number} processes" if number else ""


def norm_preservation(record: Record) -> pd.DataFrame:
    """How far the blocks are from keeping the gradient's norm, in the first and the last epoch, by kind of block.

    Returns
    -------
    DataFrame
        Columns: ``epoch``, ``kind``, ``blocks`` (their number), ``smallest``, ``median`` and ``largest`` geometric-mean
        ratio of a block, ``distance`` (median over blocks of the size of the log ratio; 0 is norm-preserving).  Empty
        if the run was not watched.
    """
    if record.blocks.empty:
        return pd.DataFrame()
    table = record.blocks[record.blocks.epoch.isin([record.blocks.epoch.min(), record.blocks.epoch.max()])]
    table = table.assign(ratio=table.log_ratio.map(math.exp), distance=table.log_ratio.abs())
    ratio = table.groupby(["epoch", "kind"]).ratio.agg(blocks="count", smallest="min", median="median", largest="max")
    return ratio.join(table.groupby(["epoch", "kind"]).distance.median()).reset_index()


def close(records: Iterable[Record], factor: float = NEAR) -> pd.DataFrame:
    """How many blocks of each run keep the gradient's norm within a factor, in its last epoch.

    Parameters
    ----------
    records : iterable of Record
        The runs; those that were not watched are left out.
    factor : float
        A ratio between 1/factor and factor is close to 1.

    Returns
    -------
    DataFrame
        One row per run.  Columns: ``run`` (its label), ``blocks`` and ``close`` (those that do not change the width),
        ``transitions`` and ``close transitions``, ``first transition`` (its geometric-mean ratio),
        ``lowest test error`` (per cent, of all epochs).
    """
    rows = []
    for record in records:
        if record.blocks.empty:
            continue
        last = record.blocks[record.blocks.epoch == record.blocks.epoch.max()]
        near = last.log_ratio.astype(float).abs() <= math.log(factor)
        inner, transitions = last.kind == "residual", last.kind == "transition"
        first = last[transitions].sort_values("block").log_ratio.astype(float)
        rows.append(
            {
                "run": record.label,
                "blocks": int(inner.sum()),
                "close": int((inner & near).sum()),
                "transitions": int(transitions.sum()),
                "close transitions": int((transitions & near).sum()),
                "first transition": math.exp(first.iloc[0]) if len(first) else math.nan,
                "lowest test error": record.epochs.test_error.min(),
            }
        )
    return pd.DataFrame(rows)
