"""Test error against norm preservation, run by run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paperlib.figures._style import ARCHITECTURES, panels
from paperlib.figures.section4._common import DEPTHS, TITLES, WIDTH, factor_axis, nothing

MARKERS = dict(zip(DEPTHS, "osD", strict=True))
KINDS = {"residual": "Blocks of constant width", "transition": "Transitions"}


def explanation(table: pd.DataFrame, title: str = "") -> Figure:
    """Final test error against how far the median block was from 1, as a factor; a point a run.

    The left panel has the blocks of constant width, the right one the transitions.  Colours are architectures, shapes
    depths; hollow points are runs that diverged or stayed at the error of guessing.  Columns: ``arch``, ``depth``,
    ``test_error`` in per cent, ``residual``, ``transition`` (sizes of log ratios), ``status``, ``stuck``.
    """
    with panels(1, 2, (WIDTH, 3.6), title, sharey=True) as (figure, axes):
        for ax, (column, words) in zip(axes[0], KINDS.items(), strict=True):
            for row in table.dropna(subset=[column, "test_error"]).itertuples():
                colour = ARCHITECTURES[row.arch]
                failed = bool(row.stuck) or row.status == "diverged"
                marker, fill = MARKERS.get(row.depth, "^"), "none" if failed else colour
                ax.plot(np.exp(getattr(row, column)), row.test_error, marker, mec=colour, mfc=fill, ms=6, alpha=0.85)
            ax.set_title(words, loc="left", fontsize=10)
            ax.set_xscale("log", base=2)
            factor_axis(ax.xaxis, 1.25)
            ax.set_xlim(left=1)
            ax.set_xlabel("factor away from 1")
            if not ax.lines:
                nothing(ax)
        axes[0][0].set_ylabel("test error of the last epoch, %")
        colours = [Line2D([], [], color=c, marker="o", ls="none", label=TITLES[a]) for a, c in ARCHITECTURES.items()]
        shapes = [Line2D([], [], color=".4", marker=m, ls="none", label=f"depth {d}") for d, m in MARKERS.items()]
        figure.legend(handles=[*colours, *shapes], loc="outside lower center", ncols=3, fontsize=9)
    return figure
