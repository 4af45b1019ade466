"""Figure 3, each block's gradient-norm ratio while networks train, and how it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paperlib.figures._style import ARCHITECTURES, line_at_one, panels, whole_numbers
from paperlib.figures.section4._common import (
    DEPTHS,
    LIMIT,
    TITLES,
    TRANSITIONS,
    WIDTH,
    clipped,
    factor_axis,
    few_whole_numbers,
    name,
    nothing,
    of,
    ratio_axis,
)

RATIO = "ratio, output / input"  # short: a figure of one row has no room for more
KINDS = {"residual": "Blocks of constant width", "transition": "Transitions"}


def _remark(ax: Axes, text: str) -> None:
    ax.text(0.97, 0.1, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=9, color=".2")


def _lines(ax: Axes, rows: pd.DataFrame, colour: object) -> None:
    """One line a block over the epochs, transitions on top."""
    transitions = list(rows[rows.kind == "transition"].sort_values("block").block.unique())
    for block, part in rows.sort_values("epoch").groupby("block"):
        y = clipped(part.log_ratio)
        if block in transitions:
            style = TRANSITIONS[transitions.index(block) % 3]
            every = max(1, len(part) // 5)
            ax.plot(part.epoch, y, lw=1.4, ms=3.5, markevery=every, zorder=3, **style)
        else:
            ax.plot(part.epoch, y, color=colour, lw=0.7, alpha=0.5)
    _beyond(ax, rows, "epoch")


def _beyond(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Triangles at the edge for ratios that lie beyond it."""
    beyond = rows[rows.log_ratio.abs() > math.log(LIMIT)]
    for edge, marker, part in (
        (1 / LIMIT, "v", beyond[beyond.log_ratio < 0]),
        (LIMIT, "^", beyond[beyond.log_ratio > 0]),
    ):
        if len(part):
            ax.plot(part[x], [edge] * len(part), marker, color="k", ms=3, ls="none", clip_on=False, zorder=4)


def _legend(figure: Figure) -> None:
    handles = [Line2D([], [], lw=1.4, ms=4, label=f"transition {i}", **style) for i, style in enumerate(TRANSITIONS, 1)]
    handles.append(Line2D([], [], color=".5", lw=1, alpha=0.7, label="other blocks"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)


def ratio_grid(
    table: pd.DataFrame,
    remarks: dict[tuple[str, int], str] | None = None,
    title: str = "",
    archs: Sequence[str] = tuple(TITLES),
    depths: Sequence[int] = DEPTHS,
) -> Figure:
    """Every block's ratio over the epochs: one row per architecture, one column per depth, one scale.

    Columns: ``arch``, ``depth``, ``epoch`` (0 is before the first update), ``block``, ``kind``, ``log_ratio``; one run
    a network.  Ratios beyond an eighth and eight are drawn at the edge, as triangles.  ``remarks`` are written into
    the panels of (arch, depth).
    """
    size = (WIDTH, max(1.9 * len(archs) + 0.9, 3.4))  # the axis' words need their room
    with panels(len(archs), len(depths), size, title, sharey=True, sharex=True) as (figure, axes):
        for row, arch in zip(axes, archs, strict=True):
            for ax, depth in zip(row, depths, strict=True):
                rows = of(table, arch, depth)
                line_at_one(ax)
                ratio_axis(ax)
                ax.set_title(name(arch, depth), loc="left", fontsize=10, color=ARCHITECTURES[arch])
                _lines(ax, rows, ARCHITECTURES[arch]) if len(rows) else nothing(ax)
                if remark := (remarks or {}).get((arch, depth)):
                    _remark(ax, remark)
        for ax in axes[-1]:
            few_whole_numbers(ax, "epoch")
        figure.supylabel(RATIO, fontsize=10)
        _legend(figure)
    return figure


def distances(table: pd.DataFrame, title: str = "", depths: Sequence[int] = DEPTHS) -> Figure:
    """How far the median block is from 1, as a factor, over the epochs; a column a depth, a line an architecture.

    The upper row has the blocks of constant width, the lower one the transitions.  Lines are means over the seeds,
    bands their standard deviation where there are several.  Columns: ``arch``, ``depth``, ``seed``, ``epoch``,
    ``kind``, ``log_ratio``.
    """
    with panels(2, len(depths), (WIDTH, 4.8), title, sharex=True, sharey=True) as (figure, axes):
        for row, (kind, words) in zip(axes, KINDS.items(), strict=True):
            row[0].set_ylabel(f"{words}:\nfactor away from 1", fontsize=9)
            for ax, depth in zip(row, depths, strict=True):
                for arch, colour in ARCHITECTURES.items():
                    _band(ax, of(table[table.kind == kind], arch, depth), arch, colour)
                ax.set_yscale("log", base=2)
                factor_axis(ax.yaxis)
                if not ax.lines:
                    nothing(ax)
        for ax, depth in zip(axes[0], depths, strict=True):
            ax.set_title(f"depth {depth}", loc="left", fontsize=10)
        for ax in axes[-1]:
            few_whole_numbers(ax, "epoch")
        handles = [Line2D([], [], color=colour, lw=2, label=TITLES[arch]) for arch, colour in ARCHITECTURES.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _band(ax: Axes, rows: pd.DataFrame, arch: str, colour: object) -> None:
    """The median over blocks of the size of the log ratio: its mean over seeds, and their spread."""
    if rows.empty:
        return
    dev = rows.assign(dev=rows.log_ratio.astype(float).abs()).groupby(["epoch", "seed"]).dev.median()
    found = dev.groupby("epoch").agg(["mean", "std"])
    ax.plot(found.index, np.exp(found["mean"]), color=colour, lw=1.5, label=TITLES[arch])
    low, high = np.exp(found["mean"] - found["std"]), np.exp(found["mean"] + found["std"])
    ax.fill_between(found.index, np.maximum(low, 1.0), high, color=colour, alpha=0.18, lw=0)


def beginnings(table: pd.DataFrame, title: str = "", depths: Sequence[int] = DEPTHS) -> Figure:
    """Each block's ratio before the first update, measured (points) and predicted (lines).

    Points are blocks, hollow squares transitions; each the geometric mean over the seeds.  The solid line is the theory
    with the measured variance of the block's input, crosses are its values at the transitions, and the dotted line is
    the theory without any measured number.  Columns: ``arch``, ``depth``, ``block``, ``kind``, ``log_ratio``,
    ``prediction``, ``unmeasured``.
    """
    logs = table[["log_ratio", "prediction", "unmeasured"]].astype(float)
    means = table.assign(**logs).groupby(["arch", "depth", "block", "kind"])[list(logs)].mean().reset_index()
    with panels(3, len(depths), (WIDTH, 6.2), title, sharey=True, sharex="col") as (figure, axes):
        for row, arch in zip(axes, TITLES, strict=True):
            for ax, depth in zip(row, depths, strict=True):
                rows = of(means, arch, depth)
                line_at_one(ax)
                ratio_axis(ax, 1 / 4, 2)
                ax.set_title(name(arch, depth), loc="left", fontsize=10, color=ARCHITECTURES[arch])
                _begun(ax, rows, ARCHITECTURES[arch]) if len(rows) else nothing(ax)
        for ax in axes[-1]:
            few_whole_numbers(ax, "block, input first")
        figure.supylabel(RATIO, fontsize=10)
        _begun_legend(figure)
    return figure


def _begun(ax: Axes, rows: pd.DataFrame, colour: object) -> None:
    residual = rows.kind == "residual"
    transitions, others = rows[~residual], rows[residual]
    ax.plot(others.block, np.exp(others.log_ratio), "o", color=colour, ms=3.5, alpha=0.8)
    ax.plot(transitions.block, np.exp(transitions.log_ratio), "s", mfc="none", mec=colour, ms=5.5, mew=1.4)
    ax.plot(transitions.block, np.exp(transitions.prediction), "x", color="k", ms=5.5, mew=1.4)
    # A gap at each transition: what lies between two stages is no line.  A mark where a stage has one block.
    for column, style in (("prediction", "-"), ("unmeasured", ":")):
        marker = "_" if column == "prediction" and len(rows) < 12 else ""
        ax.plot(rows.block, np.exp(rows[column].where(residual)), style, marker=marker, ms=7, color="k", lw=1.1)


def _begun_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=".45", marker="o", ls="none", ms=4, label="block, measured"),
        Line2D([], [], color=".45", marker="s", mfc="none", ls="none", ms=5.5, label="transition, measured"),
        Line2D([], [], color="k", marker="x", ls="-", ms=5.5, label="theory, with the variance"),
        Line2D([], [], color="k", ls=":", label="theory alone"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)


def profiles(table: pd.DataFrame, depth: int, epochs: Sequence[int], title: str = "") -> Figure:
    """Each block's ratio at some epochs, perhaps with the prediction for epoch 0: how training leaves it.

    One panel per architecture; the prediction is dashed, and lies on top.  Columns: ``arch``, ``depth``, ``epoch``,
    ``block``, ``kind``, ``log_ratio``, and perhaps ``prediction`` (of the rows with epoch 0; else NaN); the geometric
    mean over the seeds is drawn.
    """
    table = table[table.depth == depth]
    logs = table[[column for column in ("log_ratio", "prediction") if column in table]].astype(float)
    means = table.assign(**logs).groupby(["arch", "depth", "epoch", "block", "kind"])[list(logs)].mean().reset_index()
    with panels(3, 1, (WIDTH, 6.2), title, sharex=True) as (figure, axes):
        for ax, arch in zip(axes[:, 0], TITLES, strict=True):
            rows = of(means, arch, depth)
            line_at_one(ax)
            ratio_axis(ax)
            ax.set_title(name(arch, depth), loc="left", fontsize=10, color=ARCHITECTURES[arch])
            _profile(ax, rows, epochs, ARCHITECTURES[arch]) if len(rows) else nothing(ax)
        axes[-1][0].set_xlabel("block, input on the left (dashed: transitions)")
        whole_numbers(axes[-1][0].xaxis)
        figure.supylabel(RATIO, fontsize=10)
        labels = {label: line for ax in axes[:, 0] for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        if labels:
            legend = figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=5, fontsize=9)
            for line in legend.get_lines():  # each panel has the theory in its own colour
                if line.get_linestyle() == "--":
                    line.set_color(".4")
    return figure


def _profile(ax: Axes, rows: pd.DataFrame, epochs: Sequence[int], colour: object) -> None:
    shades = np.linspace(0.75, 0.0, max(len(epochs), 2))
    for epoch, shade in zip(epochs, shades, strict=False):
        part = rows[rows.epoch == epoch]
        label = "before training" if epoch == 0 else f"epoch {epoch}"
        ax.plot(part.block, clipped(part.log_ratio), color=str(shade), lw=1.3, marker=".", ms=4, label=label)
    _beyond(ax, rows[rows.epoch.isin(epochs)], "block")
    if "prediction" in rows:
        start = rows[rows.epoch == 0]
        if start.prediction.notna().any():
            label = "theory, before training"
            ax.plot(start.block, clipped(start.prediction), "--", color=colour, lw=1.8, zorder=3, label=label)
    for block in rows[rows.kind == "transition"].block.unique():
        ax.axvline(block, color=".6", lw=0.8, ls="--", zorder=0)
