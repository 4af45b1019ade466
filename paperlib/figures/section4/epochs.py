"""Figure 3 as the authors animate it: each block's ratio at one epoch, and a slider through the epochs."""

from __future__ import annotations

import pandas as pd

ALONE = "The drawing that stands here in the book needs its script; the figure above shows the same numbers."
NOTHING = "There is no record to step through yet."


def stepper(table: pd.DataFrame, title: str = "") -> str:
    """Each block's ratio at an epoch, for a slider: :func:`paperlib.figures.interactive.ratios_over_epochs` as HTML.

    Columns: those that function reads.

    Examples
    --------
    >>> row = {"arch": "plain", "depth": 20, "seed": 0, "epoch": 0, "block": 1, "name": "a", "kind": "residual"}
    >>> "Plain-20" in stepper(pd.DataFrame([row | {"log_ratio": 0.0}]))
    True
    """
    from paperlib.figures import interactive  # late: it takes names of this package

    return interactive.html(
        interactive.ratios_over_epochs(table), title or "Ratio of each block", ALONE if len(table) else NOTHING
    )
