"""Appendix A: what the authors' published projection does, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from paperlib.figures._style import PALETTE, WIDTH, line_at_one, panel, panels, whole_numbers

BLUE, ORANGE, PURPLE = PALETTE[0], PALETTE[1], PALETTE[4]
CEILING = 1e2  # the largest relative error that is drawn


def _kernel(ax: Axes, energy: np.ndarray, negligible: float) -> None:
    """Draw one kernel: each tap's share of its energy, in per cent."""
    total = energy.sum()
    there = bool(total > negligible)
    share = energy / total if there else np.zeros_like(energy)
    ax.imshow(share, cmap=sns.light_palette(BLUE, as_cmap=True), vmin=0, vmax=1)
    ax.grid(False)
    ax.set(xticks=np.arange(energy.shape[1]), yticks=np.arange(energy.shape[0]))
    ax.tick_params(labelbottom=False, labelleft=False, length=0)
    for edge in np.arange(0.5, energy.shape[0] - 1):
        ax.axhline(edge, color="white", lw=2)
    for edge in np.arange(0.5, energy.shape[1] - 1):
        ax.axvline(edge, color="white", lw=2)
    for (i, j), value in np.ndenumerate(share):
        text = "0" if not there else f"{100 * value:.0f}" if value > 0.0095 or not value else "<1"
        ax.text(j, i, text, ha="center", va="center", color="white" if value > 0.55 else ".2")
    ax.set_xlabel(f"energy {total:.1f}" if there else "nothing left", fontsize=9)
    for spine in ax.spines.values():
        spine.set(visible=True, color=".7")


def tap_energy(taps: pd.DataFrame, title: str = "") -> Figure:
    """Where in a kernel its energy lies: one panel per kernel and stage, one cell per tap with its share in per cent.

    Columns: ``kernel`` (a row of panels), ``stage`` (a column of panels), ``row``, ``column``, ``energy``.
    A kernel with no energy to speak of, beside the others of its row, is empty.
    """
    kernels, stages = taps.kernel.unique(), taps.stage.unique()
    size = (WIDTH, 2.3 * len(kernels) + (0.4 if title else 0.1))
    with panels(len(kernels), len(stages), size, title) as (figure, axes):
        for kernel, line in zip(kernels, axes, strict=True):
            rows = taps[taps.kernel == kernel]
            negligible = 1e-9 * rows.groupby("stage").energy.sum().max()
            for stage, ax in zip(stages, line, strict=True):
                table = rows[rows.stage == stage].pivot(index="row", columns="column", values="energy")
                _kernel(ax, table.to_numpy(), negligible)
            line[0].set_ylabel(kernel, fontsize=10)
        for stage, ax in zip(stages, axes[0], strict=True):
            ax.set_title(stage, fontsize=10)
    return figure


def singular_value_shares(values: pd.DataFrame, title: str = "") -> Figure:
    """The distribution of the singular values of several kernels over their target, one under the other.

    Columns: ``kernel``, ``ratio`` (singular value / σ).  The dashed line at 1 is a kernel that keeps the norm.
    """
    kernels = values.kernel.unique()
    top = max(1.2, 1.03 * values.ratio.max())
    bins = np.arange(0, top + 0.01, 0.01).tolist()
    colours = (".55", BLUE, ORANGE, PURPLE, PALETTE[2])
    with panels(len(kernels), 1, (WIDTH, 1.25 * len(kernels) + 0.9), title, sharex=True) as (figure, axes):
        for kernel, colour, ax in zip(kernels, colours, axes[:, 0], strict=False):
            ratios = values.ratio[values.kernel == kernel]
            share = np.full(len(ratios), 1 / len(ratios))
            ax.hist(ratios, bins, weights=share, color=colour, edgecolor="white", lw=0.3)
            ax.axvline(1, color=".25", lw=1.2, ls="--")
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            ax.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
            ax.set_title(kernel, loc="left", fontsize=10)
            ax.set_ylabel("share")
        axes[-1, 0].set(xlim=(0, top), xlabel="singular value over the target, in bins of 0.01")
    return figure


def in_training(steps: pd.DataFrame, title: str = "") -> Figure:
    """A kernel while it is trained: its extreme singular values over the target, and the share of its corner tap.

    Columns: ``step``, ``projected`` (whether a projection followed, marked by a thin line), ``lowest``, ``highest``,
    ``corner``.
    """
    with panels(2, 1, (WIDTH, 4.6), title, sharex=True) as (figure, (above, below)):
        values, share = above[0], below[0]
        for ax in (values, share):
            for step in steps.step[steps.projected]:
                ax.axvline(step, color=".75", lw=1, zorder=0)
            ax.grid(False, axis="x")
        line_at_one(values, ls="--")
        values.plot(steps.step, steps.highest, "o-", color=ORANGE, ms=5, label="largest")
        values.plot(steps.step, steps.lowest, "o-", color=BLUE, ms=5, mfc="white", label="smallest")
        values.set(ylabel="singular value\nover the target", ylim=(0, None))
        values.legend(loc="center right")
        share.plot(steps.step, steps.corner, "o-", color=PURPLE, ms=5)
        share.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        share.set(ylabel="corner tap's share\nof the energy", ylim=(0, 1.05))
        share.set_xlabel("steps of training (a thin line: with a projection)")
        whole_numbers(share.xaxis)
    return figure


def gram_sides(errors: pd.DataFrame, taken: int, title: str = "") -> Figure:
    """The error of the Newton–Schulz iteration over its steps, with the Gram matrix on either side.

    Columns: ``side``, ``precision``, ``steps``, ``error`` (relative).  A dotted line marks ``taken``, the number of
    steps that the published code takes.  A cross ends a line that leaves the figure on its way to values that are not
    finite.
    """
    styles = dict(zip(errors.precision.unique(), ("-", (0, (4, 2))), strict=False))
    colours = dict(zip(errors.side.unique(), (BLUE, ORANGE), strict=False))
    with panel((WIDTH, 4), title) as (figure, ax):
        for (side, precision), rows in errors.groupby(["side", "precision"], sort=False):
            rows = rows.sort_values("steps")
            lost = np.flatnonzero(~(rows.error.to_numpy() < CEILING))
            shown = rows[: lost[0]] if len(lost) else rows
            line = {"ls": styles[precision], "color": colours[side], "lw": 2}
            ax.plot(shown.steps, shown.error, label=f"{side}, {precision}", **line)
            if len(lost) and len(shown):
                last = shown.iloc[-1]
                ax.plot([last.steps, last.steps + 1], [last.error, CEILING], **line)
                ax.plot(last.steps + 1, CEILING, "x", color=colours[side], ms=9, mew=2.5, clip_on=False, zorder=5)
        ax.axvline(taken, color=".35", lw=1, ls=":")
        ax.text(taken + 0.6, CEILING / 2, f"{taken} steps", color=".25", fontsize=9, va="top")
        ax.set(yscale="log", ylim=(1e-16, CEILING), xlim=(0, errors.steps.max()))
        ax.set(xlabel="Newton-Schulz steps", ylabel="relative error")
        whole_numbers(ax.xaxis)
        ax.legend(loc="upper left", bbox_to_anchor=(0.5, 1.0))
    return figure


def waiting_times(waits: pd.DataFrame, title: str = "") -> Figure:
    """How many steps pass without a projection between two steps with one, on a logarithmic axis.

    Columns: ``schedule``, ``wait`` (0, 1, 2, …), ``share``, and ``expected``, the share that a grey line shows (NaN for
    none).
    """
    with panel((WIDTH, 3.2), title) as (figure, ax):
        looks = zip((BLUE, ORANGE, PURPLE), "oD^", strict=True)
        for (schedule, rows), (colour, marker) in zip(waits.groupby("schedule", sort=False), looks, strict=False):
            expected = rows[rows.expected.notna()]
            ax.plot(expected.wait, expected.expected, color=".6", lw=1.2, zorder=1)
            ax.plot(rows.wait, rows.share, marker, color=colour, ms=8, label=schedule)
        ax.set_yscale("log")
        ax.set_ylim(top=1.6)
        whole_numbers(ax.xaxis)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        ax.set(xlabel="steps between two projections", ylabel="share of the waits")
        ax.legend()
    return figure
