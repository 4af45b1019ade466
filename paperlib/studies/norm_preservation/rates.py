"""By which power of the depth something falls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

DEPTHS = tuple(2**i for i in range(1, 11))


def slopes(table: pd.DataFrame, value: str, by: Sequence[str], start: int = 16) -> pd.DataFrame:
    """Least-squares slopes of log ``value`` for L ≥ ``start``: in log L, and in log of log(2L)/L.

    Columns: those of ``by`` (one row for all if it is empty), ``in L``, ``in log(2L)/L``.  (log(2L)/L itself has a
    slope of about −0.81 in L.)

    Examples
    --------
    >>> t = pd.DataFrame({"L": [16, 32, 64], "delta": [3 / 16, 3 / 32, 3 / 64], "map": "a"})
    >>> slopes(t, "delta", ["map"])["in L"].round(6).tolist()
    [-1.0]
    """
    rows = []
    deep = table[table.L >= start]
    for key, part in deep.groupby(list(by), sort=False) if by else [((), deep)]:
        depth, y = part.L.to_numpy(float), np.log(part[value].to_numpy())
        fits = [float(np.polyfit(np.log(x), y, 1)[0]) for x in (depth, np.log(2 * depth) / depth)]
        rows.append(dict(zip([*by, "in L", "in log(2L)/L"], [*key, *fits], strict=True)))
    return pd.DataFrame(rows)
