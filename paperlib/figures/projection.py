"""Chapter 2: spectra of convolutions, the polar factor, alternating projections, the gradient's energy, the cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from paperlib.figures._style import (
    ARCHITECTURES,
    DIVERGING,
    PALETTE,
    WIDTH,
    line_at_one,
    lines,
    panel,
    panels,
    plain_numbers,
)

NAMES = {
    "newton-schulz": "Newton–Schulz (the paper's)",
    "scaled-newton-schulz": "optimally scaled Newton–Schulz",
    "quintic": "minimax quintic",
    "qdwh": "QDWH (solves a linear system)",
}

TARGET = "σ"
VISIBLE = 0.05  # of a colour scale's half: less is not told from white


def spectra(values: pd.DataFrame, title: str = "", unit: str = TARGET) -> Figure:
    """All singular values of some kernels, from the largest to the smallest, over ``unit``.

    Columns: ``kernel``, ``share`` (0 to 1), ``value``.
    """
    with panel((WIDTH, 3.4), title) as (figure, ax):
        line_at_one(ax, zorder=1)
        for _, rows, style in lines(values, "kernel"):
            marked = np.linspace(0, len(rows) - 1, 9).astype(int).tolist()
            ax.plot(rows.share, rows.value, markevery=marked, **style)
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.set(xlabel="singular values, largest first", ylabel=f"singular value / {unit}")
        ax.legend()
    return figure


def spectrum_maps(values: dict[str, np.ndarray], title: str = "") -> Figure:
    """One value for each frequency, one panel per kernel, on one colour scale centred at 1.

    ``values`` maps a panel's name to an array ``(h, w)``, frequencies in the order of the discrete Fourier transform.
    The plot has frequency 0 in the middle.  A panel that is white all over says how near to 1 it is.
    """
    distance = max(float(np.abs(v - 1).max()) for v in values.values())
    norm = TwoSlopeNorm(1, 1 - distance, 1 + distance)
    extent = (-0.5, 0.5, -0.5, 0.5)
    with panels(1, len(values), (WIDTH, 0.8 + WIDTH / (len(values) + 0.3)), title, sharey=True) as (figure, axes):
        for ax, (name, array) in zip(axes[0], values.items(), strict=True):
            ax.grid(False)
            image = ax.imshow(np.fft.fftshift(array), cmap=DIVERGING, norm=norm, extent=extent, origin="lower")
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("frequency, cycles per pixel")
            off = float(np.abs(array - 1).max())
            if off < VISIBLE * distance:
                ax.text(0, 0, f"1 at every frequency,\nto within {off:.1g}", ha="center", va="center", color=".3")
        axes[0][0].set_ylabel("frequency, cycles per pixel")
        bar = figure.colorbar(image, ax=axes[0], shrink=0.75, pad=0.02, label="singular value / σ")
        bar.outline.set_visible(False)
    return figure


def polar_convergence(errors: pd.DataFrame, title: str = "") -> Figure:
    """The distance from orthogonality after each step of some iterations.

    Columns: ``method``, ``step``, ``error``.  A line ends where only rounding is left.
    """
    with panel((WIDTH, 3.9), title) as (figure, ax):
        for method, rows, style in lines(errors, "method"):
            exact = rows.error.to_numpy() < 1e-14
            rows = rows.iloc[: exact.argmax() + 1] if exact.any() else rows
            ax.plot(rows.step, rows.error.clip(lower=1e-16), **style | {"label": NAMES.get(method, method)})
        ax.set_yscale("log")
        ax.set_xlim(left=0)
        ax.set(xlabel="steps", ylabel="largest |singular value − 1|")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def alternating(ranges: pd.DataFrame, title: str = "") -> Figure:
    """The largest distance of a singular value from the target against the number of projections.

    Columns: ``kernel``, ``passes``, ``lowest``, ``highest``.
    """
    with panel((WIDTH, 3.7), title) as (figure, ax):
        for _, rows, style in lines(ranges, "kernel"):
            ax.plot(rows.passes, np.maximum(1 - rows.lowest, rows.highest - 1), **style)
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_yscale("log")
        ax.set_xlim(left=0)
        plain_numbers(ax.xaxis)
        ax.set(xlabel="projections", ylabel="largest |singular value / σ − 1|")
        ax.legend(loc="lower left")
    return figure


def transition_ratios(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The gradient-norm ratio of the transitions over the epochs: a panel for each, a line for each way to train.

    A line is the median over the seeds, with all of them in the band around it.  What is held has the colour of its
    network, what is free is grey.

    Columns: ``held`` (a truth value), ``seed``, ``epoch``, ``block``, ``kind``, ``log_ratio``.
    """
    transitions = blocks[blocks.kind == "transition"]
    places = sorted(transitions.block.unique())
    with panels(1, len(places), (WIDTH, 3.2), title, sharey=True) as (figure, axes):
        for ax, place, name in zip(axes[0], places, ("first", "second", "third"), strict=False):
            line_at_one(ax)
            for held, rows in transitions[transitions.block == place].groupby("held"):
                ratios = np.exp(rows.groupby("epoch").log_ratio.agg(["min", "median", "max"]))
                colour, marker = (ARCHITECTURES["procresnet"], "o") if held else (".45", "s")
                ax.fill_between(ratios.index, ratios["min"], ratios["max"], color=colour, alpha=0.25, lw=0)
                ax.plot(ratios["median"], color=colour, marker=marker, ms=5, label="held" if held else "free")
            ax.set_yscale("log", base=2)
            ax.set_yticks([0.5, 0.7, 1, 1.4, 2])
            plain_numbers(ax.yaxis)
            ax.set_title(f"{name} transition", loc="left", fontsize=10)
            ax.set(xticks=sorted(transitions.epoch.unique()), xlabel="epoch")
        axes[0][0].set_ylabel("gradient-norm ratio")
        axes[0][-1].legend()
    return figure


def energy_spread(table: pd.DataFrame, title: str = "") -> Figure:
    """How much the share of gradient energy in a random row space varies with the number of input channels.

    Columns: ``gradients``, ``channels``, ``effective_rank``, ``sd``, ``predicted``.
    """
    with panel((WIDTH, 3.7), title) as (figure, ax):
        for name, rows, style in lines(table, "gradients"):
            label = f"{name} (effective rank {rows.effective_rank.iloc[0]:.1f})"
            ax.plot(rows.channels, rows.sd, ls="none", **style | {"label": label, "ms": 6})
            shown = rows[rows.predicted > 0.001]
            ax.plot(shown.channels, shown.predicted, color=style["color"], lw=1.2)
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(table.channels.unique()))
        plain_numbers(ax.xaxis)
        ax.set_ylim(bottom=0)
        ax.set(xlabel="input channels c", ylabel="standard deviation over kernels,\nrelative to c/d")
        ax.legend()
    return figure


def overhead(table: pd.DataFrame, limit: float | None = None, title: str = "") -> Figure:
    """What some projections add to the training time, in per cent: one dot each, on a logarithmic scale.

    Columns: ``variant``, ``percent``.  A dashed line marks ``limit``, the paper's number.
    """
    # Dots, since a bar's length means nothing on an axis that has no zero.
    with panel((WIDTH, 0.45 * len(table) + 1.3), title) as (figure, ax):
        rows = range(len(table))
        ax.plot(table.percent, rows, "o", color=PALETTE[0], ms=8)
        for row, value in zip(rows, table.percent, strict=True):
            number = f"{value:.2g}%" if value < 100 else f"{value:.0f}%"
            ax.annotate(number, (value, row), (9, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_xscale("log")
        ax.set_xlim(table.percent.min() / 3, table.percent.max() * 6)
        ax.set_yticks(rows, table.variant)
        ax.set_ylim(len(table) - 0.5, -0.5)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        if limit is not None:
            ax.axvline(limit, color=PALETTE[3], ls="--", lw=1.3, zorder=1)
            ax.annotate(f"the paper's {limit:g}%", (limit, -0.5), (4, 2), textcoords="offset points",
                        color=PALETTE[3], fontsize=9, va="bottom")  # fmt: skip
        ax.set_xlabel("per cent of the training time")
    return figure
