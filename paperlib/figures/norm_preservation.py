"""Chapter 1: gradients on their way back, the path from the identity to a smooth map, rates, bounds and descents.

A table's column ``map`` names a smooth map.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paperlib.figures._style import (
    ARCHITECTURES,
    PALETTE,
    WIDTH,
    line_at_one,
    lines,
    panel,
    panels,
    plain_numbers,
    whole_numbers,
)

SCHEDULES = {"geometric": "geometric (the paper's)", "uniform": "uniform", "arc": "equal arcs"}
BLOCKS = {
    "dense, 16": "dense, width 16",
    "dense, 64": "dense, width 64",
    "dense, 256": "dense, width 256",
    "dense, 64, tied": "dense, width 64, W₂ = W₁ᵀ",
    "conv, 6 channels, circular": "3×3, 6 channels, wrapped around",
    "conv, 6 channels, zeros": "3×3, 6 channels, zero padding",
}
COLOURS = dict(zip(SCHEDULES, (PALETTE[1], PALETTE[4], PALETTE[0]), strict=True))


def _depth_axis(ax: Axes, depths: Iterable[int]) -> None:
    """A horizontal axis of numbers of blocks, with a tick at each that was measured, or every second of many."""
    ticks = sorted(set(depths))
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks[:: 1 + len(ticks) // 6])
    plain_numbers(ax.xaxis)
    ax.set_xlabel("number of blocks L")


def _chain_axis(ax: Axes, label: str) -> None:
    """A horizontal axis along a network, and the line at 1, where a norm is kept."""
    line_at_one(ax)
    whole_numbers(ax.xaxis)
    ax.set_xlabel(label)


def real_gradients(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The gradient's norm at the input of every block of some trained networks, over its norm behind the last block.

    Columns: ``run``, ``arch``, ``block`` (0 at the input), ``log_ratio``; one epoch of each run.
    """
    with panel((WIDTH, 3.6), title) as (figure, ax):
        _chain_axis(ax, "block l: the input is on the left, the loss on the right")
        for _, rows, style in lines(blocks, "run"):
            rows = rows.sort_values("block", ascending=False)
            norm = np.exp(-rows.log_ratio.cumsum())
            colour = ARCHITECTURES[rows.arch.iloc[0]]
            ax.plot(rows.block, norm, markevery=max(1, len(rows) // 9), **style | {"color": colour})
        ax.set(yscale="log", ylabel="‖∂E/∂x$_l$‖, over the last block's")
        ax.legend()
    return figure


def carried_grid(lines: pd.DataFrame, title: str = "") -> Figure:
    """A grid on the unit disk on its way from the identity to some smooth maps: a row for each, a column for each time.

    Columns: ``map``, ``t``, ``line``, ``direction``, ``x``, ``y``.
    """
    maps, at = lines.groupby("map", sort=False), sorted(lines.t.unique())
    ends = {at[0]: " (identity)", at[-1]: " (F)"} if (at[0], at[-1]) == (0, 1) else {}
    with panels(len(maps), len(at), (WIDTH, 1.08 * WIDTH * len(maps) / len(at)), title) as (figure, axes):
        for row, (name, part) in zip(axes, maps, strict=True):
            reach = 1.08 * float(part[["x", "y"]].abs().to_numpy().max())
            for ax, t in zip(row, at, strict=True):
                for (_, direction), line in part[part.t == t].groupby(["line", "direction"]):
                    ax.plot(line.x, line.y, color=PALETTE[0] if direction == 0 else PALETTE[1], lw=1)
                ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
                for spine in ax.spines.values():
                    spine.set_visible(False)
            row[0].set_ylabel(name)
        for ax, t in zip(axes[0], at, strict=True):
            ax.set_title(f"t = {t:g}{ends.get(t, '')}", fontsize=10, fontweight="normal")
    return figure


def rates(table: pd.DataFrame, title: str = "") -> Figure:
    """δ of the blocks against their number, in a panel for each smooth map.

    The dashed line is log(2L)/L, drawn through the last point of the paper's schedule; the grey region is below the
    lower bound.

    Columns: ``map``, ``schedule``, ``L``, ``delta``, ``lower``.
    """
    with panels(1, table["map"].nunique(), (WIDTH, 3.9), title, sharey=True) as (figure, axes):
        for ax, (name, part) in zip(axes[0], table.groupby("map", sort=False), strict=True):
            depth = np.array(sorted(part.L.unique()), float)
            last = part[(part.schedule == "geometric") & (part.L == depth[-1])].delta.item()
            shape = np.log(2 * depth) / depth
            ax.plot(depth, last * shape / shape[-1], color=".45", ls="--", lw=1.3, label="∝ log(2L)/L")
            for schedule, rows, style in lines(part, "schedule"):
                ax.plot(rows.L, rows.delta, **style | {"color": COLOURS[schedule], "label": SCHEDULES[schedule]})
            lower = part.drop_duplicates("L")
            ax.fill_between(lower.L, lower.lower, 1e-9, color=".5", alpha=0.18, lw=0, label="impossible")
            _depth_axis(ax, part.L)
            ax.set_yscale("log")
            ax.set_ylim(0.5 * part.lower.min(), 2 * table.delta.max())
            ax.set_title(name, loc="left")
        axes[0][0].set_ylabel("δ: largest change of a gradient's norm")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def block_spectra(spectra: pd.DataFrame, title: str = "") -> Figure:
    """The range of each block's singular values, in a column for each schedule.

    Columns: ``schedule``, ``block``, ``lowest``, ``highest``, and perhaps ``L``: then there is a row for each number of
    blocks.
    """
    chains = list(spectra.groupby("L")) if "L" in spectra else [(None, spectra)]
    size = (WIDTH, 0.8 + 2 * len(chains))
    with panels(len(chains), spectra.schedule.nunique(), size, title, sharex="row", sharey=True) as (figure, axes):
        for row, (i, (L, chain)) in zip(axes, enumerate(chains, 1), strict=True):
            for ax, (name, part) in zip(row, chain.groupby("schedule", sort=False), strict=True):
                ax.bar(part.block, part.highest - part.lowest, bottom=part.lowest, width=0.7, lw=0, color=COLOURS[name])
                _chain_axis(ax, "block" if i == len(chains) else "")
                ax.grid(False, axis="x")
                ax.set_title(SCHEDULES[name] if i == 1 else "", loc="left", fontsize=10)
            row[0].set_ylabel(f"{L} blocks" if L else "singular values")
        if len(chains) > 1:
            figure.supylabel("singular values", fontsize=10)
    return figure


def tightness(table: pd.DataFrame, title: str = "") -> Figure:
    """How much of Corollary 1's bound random blocks use, with a dot for each seed.

    Columns: ``block``, ``ratio``, ``random``, ``bound``.
    """
    names = list(table.block.drop_duplicates())
    with panel((WIDTH, 0.42 * len(names) + 1.3), title) as (figure, ax):
        row = table.block.map(names.index)
        ax.plot(table.ratio, row, "o", color=PALETTE[0], ms=6, alpha=0.8, label="‖J − I‖, the worst direction")
        random = table.random / table.bound
        ax.plot(random, row, "D", color=PALETTE[1], ms=5, alpha=0.8, label="change of a random gradient's norm")
        ax.axvline(1, color=".35", lw=1.3)
        ax.set_yticks(range(len(names)), [BLOCKS.get(name, name) for name in names])
        ax.invert_yaxis()
        ax.set(xlim=(0, 1.05), xlabel="measured, over the bound")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def bounds_in_training(table: pd.DataFrame, title: str = "", paper: float | None = None) -> Figure:
    """Corollary 1's bound of each block and its δ, after some numbers of steps, in a panel for each weight decay.

    The panel whose weight decay is ``paper`` says that it is the paper's.

    Columns: ``decay``, ``step``, ``block``, ``bound``, ``delta``.
    """
    with panels(1, table.decay.nunique(), (WIDTH, 3.7), title, sharey=True) as (figure, axes):
        for ax, (decay, part) in zip(axes[0], table.groupby("decay", sort=False), strict=True):
            for (step, rows), marker, colour in zip(part.groupby("step"), "os^D", (".55", *PALETTE), strict=False):
                style = {"color": colour, "marker": marker, "ms": 5}
                ax.plot(rows.block, rows.bound, label=f"bound, step {step:,}", **style)
                ax.plot(rows.block, rows.delta, ls=":", mfc="white", label=f"δ, step {step:,}", **style)
            line_at_one(ax, color=PALETTE[3], lw=1.2, ls="--")
            ax.set_ylim(bottom=0)
            ax.set_xlabel("block")
            whose = " (the paper’s)" if decay == paper else ""
            ax.set_title(f"weight decay\n{decay:g}{whose}", loc="left", fontsize=10)
        axes[0][0].set_ylabel("bound, δ")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def descents(table: pd.DataFrame, title: str = "") -> Figure:
    """The excess risk along gradient descent, a line for each target; its floor is dotted.

    Columns: ``target``, ``step``, ``excess``, ``floor``.
    """
    with panel((WIDTH, 3.7), title) as (figure, ax):
        for _, rows, style in lines(table, "target"):
            ax.plot(rows.step, rows.excess, markevery=max(1, len(rows) // 8), **style)
            if rows.floor.iloc[0] > 0:
                ax.axhline(rows.floor.iloc[0], color=style["color"], ls=":", lw=1.3)
        ax.set(yscale="log", ylim=(1e-12, 20), xlabel="step of gradient descent", ylabel="excess risk")
        ax.set_xlim(left=0)
        ax.legend(loc="center")
    return figure
