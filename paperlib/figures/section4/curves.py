"""Figure 4, loss and error over the epochs, and the final errors of Tables II and III."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paperlib.figures._style import ARCHITECTURES, panel, panels
from paperlib.figures.section4._common import DEPTHS, TITLES, WIDTH, few_whole_numbers, nothing, of

DASHES = dict(zip(DEPTHS, (":", "--", "-"), strict=True))
LEAST_WIDTH = 10.0  # points of error on an axis: what differs less must not look like much
WHAT = {"train_loss": "training loss", "test_error": "test error, %"}


def learning(table: pd.DataFrame, title: str = "", guessing: float | None = None) -> Figure:
    """Training loss and test error over the epochs: one column per architecture, one line per depth.

    Lines are means over the seeds, bands their standard deviation where there are several.  Losses above three times
    the first epoch's largest are cut off.  ``guessing`` draws a line at the test error of guessing, in per cent.
    Columns: ``arch``, ``depth``, ``seed``, ``epoch``, ``train_loss``, ``test_error``.
    """
    with panels(2, len(TITLES), (WIDTH, 4.8), title, sharex=True, sharey="row") as (figure, axes):
        for row, (column, words) in zip(axes, WHAT.items(), strict=True):
            row[0].set_ylabel(words)
            for ax, arch in zip(row, TITLES, strict=True):
                _curves(ax, table, arch, column)
        for ax, arch in zip(axes[0], TITLES, strict=True):
            ax.set_title(TITLES[arch], loc="left", fontsize=10, color=ARCHITECTURES[arch])
        if len(table):
            _cut(axes[0][0], table)
        for ax in axes[-1]:
            few_whole_numbers(ax, "epoch")
            if guessing is not None and len(table):
                ax.axhline(guessing, color=".5", lw=0.8)
        handles = [Line2D([], [], color=".2", ls=dash, label=f"depth {depth}") for depth, dash in DASHES.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _cut(ax: Axes, table: pd.DataFrame) -> None:
    """End the axis of losses where a loss that blew up would hide the others."""
    most = 3 * table[table.epoch == table.epoch.min()].train_loss.astype(float).max()
    if np.isfinite(most) and table.train_loss.astype(float).max() > most:
        ax.set_ylim(top=most)


def _curves(ax: Axes, table: pd.DataFrame, arch: str, column: str) -> None:
    for depth, dash in DASHES.items():
        rows = of(table, arch, depth)
        values = rows[column].astype(float).replace([np.inf, -np.inf], np.nan)
        if values.notna().any():
            found = values.groupby(rows.epoch).agg(["mean", "std"])
            colour = ARCHITECTURES[arch]
            ax.plot(found.index, found["mean"], dash, color=colour, lw=1.6, label=f"depth {depth}")
            low, high = found["mean"] - found["std"], found["mean"] + found["std"]
            ax.fill_between(found.index, low, high, color=colour, alpha=0.15, lw=0)
    if not ax.lines:
        nothing(ax)


def error_dots(table: pd.DataFrame, by: str, order: Sequence[object] = (), title: str = "", label: str = "") -> Figure:
    """Final test errors: a point a run, a bar at the mean of each group of several, groups from top to bottom.

    Columns: ``by``, ``arch`` (the colour) and ``test_error`` in per cent; hollow points are runs that diverged or
    stayed at the error of guessing (columns ``status``, ``stuck``).  The axis is at least ``LEAST_WIDTH`` points wide.
    Where no group has two runs, the title says that their order shows nothing.
    """
    groups = [group for group in (order or list(dict.fromkeys(table[by]))) if group in set(table[by])]
    alone = bool(groups) and table[table[by].isin(groups)][by].value_counts().max() == 1
    title = "\n".join(filter(None, (title, "one run each, so the order shows nothing" if alone else "")))
    with panel((WIDTH, 0.42 * max(len(groups), 2) + 1.1 + 0.2 * alone), title) as (figure, ax):
        for y, group in enumerate(groups):
            rows = table[table[by] == group]
            colour = ARCHITECTURES[rows.arch.iloc[0]]
            failed = rows.stuck.astype(bool) | (rows.status == "diverged")
            errors = rows.test_error.astype(float)
            ax.plot(errors[~failed], [y] * (~failed).sum(), "o", color=colour, ms=6, alpha=0.8)
            ax.plot(errors[failed], [y] * failed.sum(), "o", mec=colour, mfc="none", ms=6)
            if len(errors) > 1:
                ax.plot([errors.mean()] * 2, [y - 0.28, y + 0.28], color=colour, lw=2.2)
        ax.set_yticks(range(len(groups)), [str(group) for group in groups])
        ax.set_ylim(max(len(groups), 1) - 0.5, -0.5)
        ax.grid(False, axis="y")
        ax.set(xlabel="test error of the last epoch, %", ylabel=label)
        if groups:
            _widen(ax)
        else:
            nothing(ax)
    return figure


def _widen(ax: Axes) -> None:
    """Make an axis of errors at least ``LEAST_WIDTH`` points wide, about the same middle, within 0 to 100 per cent."""
    low, high = ax.get_xlim()
    more = max(LEAST_WIDTH - (high - low), 0) / 2
    low, high = low - more, high + more
    shift = max(-low, 0) - max(high - 100, 0)
    ax.set_xlim(low + shift, high + shift)
