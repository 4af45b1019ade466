"""Does norm preservation explain the accuracy?  What the runs of Section 4 say together.

Each run has a final test error, and a distance of its blocks from keeping the gradient's norm.  The two are compared by
ranks.  That shows an association among these runs; what causes it has to be shown by changing one thing at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from paperlib.models import TITLES
from paperlib.records import Record
from paperlib.studies.section4 import RUN, failed, final_errors

MEASURES = {"residual": "blocks of constant width", "transition": "transitions"}
PERMUTATIONS = 9_999
LEAST = 4  # runs, for a rank correlation to be given


def deviations(records: Iterable[Record]) -> pd.DataFrame:
    """One row per run: its final test error, and how far its blocks were from keeping the gradient's norm.

    Returns
    -------
    DataFrame
        Columns: those of :func:`paperlib.studies.section4.final_errors`, ``residual`` and ``transition``: the median
        dev of the blocks of that kind, each block's being its mean over the epochs from 1 on.  Runs whose ratios were
        not recorded are left out.
    """
    records = list(records)
    errors = final_errors(records)
    found = pd.DataFrame([_medians(record) for record in records], columns=list(MEASURES), index=errors.index)
    return errors.join(found.astype(float)).dropna(subset=list(MEASURES), how="all").reset_index(drop=True)


def _medians(record: Record) -> dict[str, float]:
    """The median dev of a run's blocks, by kind; NaN where there is none."""
    if record.blocks.empty:
        return dict.fromkeys(MEASURES, math.nan)
    blocks = record.blocks.assign(dev=record.blocks.log_ratio.astype(float).abs())
    median = blocks.groupby(["kind", "block"]).dev.mean().groupby("kind").median()
    return {kind: float(median.get(kind, math.nan)) for kind in MEASURES}


def left(ratios: pd.DataFrame, start: pd.DataFrame) -> pd.DataFrame:
    """How training leaves the prediction for the first ratios.

    Parameters
    ----------
    ratios : DataFrame
        As ``section4.ratios`` makes it, epoch 0 included.
    start : DataFrame
        As ``beginning.beginnings`` makes it.

    Returns
    -------
    DataFrame
        One row per network and precision: the median over the blocks of constant width of the size of the log of the
        ratio over its prediction, mean over the seeds, in a column for each of the epochs 0, 1, 5 and the last one.
    """
    both = ratios.drop(columns="prediction", errors="ignore").merge(
        start[[*RUN, "block", "prediction"]], on=[*RUN, "block"]
    )
    both = both[both.kind == "residual"].dropna(subset=["log_ratio", "prediction"])
    if both.empty:
        return pd.DataFrame(columns=["network", "precision"])
    both = both.assign(off=(both.log_ratio.astype(float) - both.prediction.astype(float)).abs())
    shown = sorted({0, 1, 5, int(both.epoch.max())} & set(both.epoch))
    by_run = both[both.epoch.isin(shown)].groupby(["network", "precision", "seed", "epoch"], sort=False).off.median()
    found = by_run.groupby(["network", "precision", "epoch"], sort=False).mean().unstack("epoch")
    return found.rename(columns=lambda epoch: f"epoch {epoch}").rename_axis(columns=None).reset_index()


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of the final test error with the deviations, in groups of the runs.

    Parameters
    ----------
    table : DataFrame
        As :func:`deviations` makes it.

    Returns
    -------
    DataFrame
        One row per group and kind of block.  Columns: ``runs`` (the group in words), ``blocks``, ``n``, ``rho``, and
        ``p``: the share of random reassignments of the errors, the one that was found included, with a correlation at
        least as large in size.  In the group within networks the errors are reassigned among the seeds of each network
        only.  Groups of fewer than ``LEAST`` runs, or in which nothing varies, are left out.
    """
    columns = ["runs", "blocks", "n", "rho", "p"]
    rows: list[dict[str, Any]] = []
    for name, part, strata in _groups(table):
        for kind, blocks in MEASURES.items():
            whole = part.dropna(subset=[kind, "test_error"])
            x, y = whole[kind].to_numpy(float), whole.test_error.to_numpy(float)
            if len(whole) >= LEAST and np.ptp(x) > 0 and np.ptp(y) > 0:
                rho, p = spearman(x, y, strata[whole.index].to_numpy())
                rows.append({"runs": name, "blocks": blocks, "n": len(whole), "rho": rho, "p": p})
    return pd.DataFrame(rows, columns=columns)


def _groups(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.Series]]:
    """The groups of runs, with what their errors may be reassigned within."""
    one = pd.Series(0, index=table.index)
    return [
        ("all", table, one),
        ("those that learnt", table[~failed(table)], one),
        *((title, table[table.arch == arch], one) for arch, title in TITLES.items()),
        ("within networks: seeds only", *_centred(table)),
    ]


def _centred(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Each run less the mean of its network's, and which network that is; networks with one run left out."""
    key = [column for column in ("network", "dataset", "schedule", "project_every", "precision") if column in table]
    table = table[~failed(table)]
    groups = table.groupby(key)
    cells = groups.ngroup()
    several = cells.map(cells.value_counts()) > 1
    columns = [*MEASURES, "test_error"]
    means = groups[columns].transform("mean")
    return table.assign(**{column: table[column] - means[column] for column in columns})[several], cells


def spearman(x: np.ndarray, y: np.ndarray, strata: np.ndarray | None = None, seed: int = 0) -> tuple[float, float]:
    """Spearman's rank correlation and the p-value of a permutation test on both sides.

    Parameters
    ----------
    x, y : array (n,)
        The two quantities.
    strata : array (n,), optional
        Values of ``y`` change places within equal strata only; by default with all others.
    seed : int
        Of the ``PERMUTATIONS`` random permutations.

    Returns
    -------
    rho, p : float
        The correlation, and the share of permutations, the given order included, with one at least as large in size.

    Examples
    --------
    >>> rho, p = spearman(np.arange(8.0), np.arange(8.0) ** 3)
    >>> round(rho, 12), p < 0.01
    (1.0, True)
    """
    a, b = (ranks - ranks.mean() for ranks in (pd.Series(v).rank().to_numpy() for v in (x, y)))
    scale = math.sqrt((a @ a) * (b @ b))
    strata = np.zeros(len(a)) if strata is None else strata
    places = np.argsort(strata, kind="stable")
    draws = np.random.default_rng(seed).random((PERMUTATIONS, len(a)))
    # Sorted by stratum, then at random: each row has every stratum's members in its places, in a random order.
    shuffled = np.lexsort((draws, np.broadcast_to(strata, draws.shape)), axis=1)
    found = (b[shuffled] @ a[places]) / scale
    rho = float(a @ b / scale)
    # Rounding must not tell two equal sums apart.
    return rho, float((1 + (np.abs(found) >= abs(rho) - 1e-12).sum()) / (1 + PERMUTATIONS))
