"""Chapter 3: the Conv-ReLU channel grid, as heat maps on one colour scale, and what explains its failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullLocator

from paperlib.figures._style import DIVERGING, PALETTE, line_at_one, marked_line, mpl, panel, panels

# The logarithm of a ratio, to base 2: white is 1, the ends are 4 times and a quarter.  All heat maps share it.
SCALE = Normalize(-2, 2)
CELL = ["c", "d"]
TITLE_INCHES = 0.075  # what a character of a panel's title takes at its size


def _heat_map(ax: Axes, cells: pd.DataFrame, small: bool = False) -> AxesImage:
    """One panel: the ratio of each cell as a colour and a number; below it the spread, and how many runs have died."""
    rows, columns = sorted(cells.c.unique()), sorted(cells.d.unique())
    colours = mpl.colormaps[DIVERGING].with_extremes(bad=".88")
    table = cells.pivot(index="c", columns="d", values="ratio").loc[rows, columns]
    with np.errstate(invalid="ignore"):
        image = ax.imshow(np.ma.masked_invalid(np.log2(table.to_numpy())), cmap=colours, norm=SCALE, aspect="auto")
    for cell in cells.itertuples():
        _label(ax, columns.index(cell.d), rows.index(cell.c), cell, 8.5 - small)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image


def _label(ax: Axes, x: float, y: float, cell: Any, size: float) -> None:
    """What is written into one cell, given as a named tuple of its row."""
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    if not np.isfinite(cell.ratio):
        ax.text(x, y, "dead", fontsize=8, color=".3", **centred)
        return
    notes = []
    if hasattr(cell, "spread") and np.isfinite(cell.spread):
        notes.append(f"×{cell.spread:.2f}" if cell.spread < 10 else f"×{cell.spread:.0f}")
    if getattr(cell, "dead", 0):
        notes.append(f"†{cell.dead}")
    ink = "white" if abs(np.log2(cell.ratio)) > 1.35 else "black"
    number = f"{cell.ratio:.2f}" if cell.ratio < 10 else f"{cell.ratio:.0f}"
    ax.text(x, y - 0.16 * bool(notes), number, fontsize=size, color=ink, **centred)
    if notes:
        ax.text(x, y + 0.22, " ".join(notes), fontsize=6, color=ink, **centred)


def _factor_axis(ax: Axes) -> None:
    """A logarithmic axis of factors, with ticks at round ones."""
    ax.set_yscale("log", base=2)
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticks([t for t in (0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 16, 32) if low <= t <= high])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.set_ylim(low, high)


def _colour_bar(figure: Figure, image: AxesImage, axes: np.ndarray, label: str) -> None:
    """A colour bar as high as the panels, and as wide for one line of them as for several."""
    bar = figure.colorbar(image, ax=axes, extend="both", ticks=[-2, -1, 0, 1, 2], aspect=18 * len(axes), pad=0.02)
    bar.ax.set_yticklabels(["¼", "½", "1", "2", "4"])
    bar.set_label(label)
    bar.outline.set_visible(False)


def _nothing(title: str) -> Figure:
    with panels(1, 1, (6, 1.2), title) as (figure, axes):
        axes[0][0].text(0.5, 0.5, "not measured in this grid", ha="center", va="center", color=".4")
        axes[0][0].set_axis_off()
    return figure


def heat_maps(ratios: pd.DataFrame, titles: dict[str, str], columns: int = 3, title: str = "") -> Figure:
    """The gradient-norm ratio over the numbers of channels, one panel per variant, on one scale: white keeps the norm.

    Columns: ``variant``, ``c``, ``d``, ``ratio``, ``spread``, ``dead``.  ``titles`` names the variants, in the order of
    the panels; those that were not measured are left out.  ``columns`` is the largest number of panels side by side.
    """
    titles = {v: name for v, name in titles.items() if v in set(ratios.variant)}
    n = len(titles)
    if not n:
        return _nothing(title)
    columns = min(columns, n)
    lines = -(-n // columns)
    side = 0.55 * max(ratios.d.nunique(), 3)
    width = max(side, max(TITLE_INCHES * len(name) for name in titles.values()))
    size = (columns * (width + 0.25) + 0.9, lines * (side * 0.78 + 0.65) + 0.4)
    with panels(lines, columns, size, title, sharex=True, sharey=True) as (figure, axes):
        for ax, (variant, name) in zip(axes.flat, titles.items(), strict=False):
            image = _heat_map(ax, ratios[ratios.variant == variant])
            ax.set_title(name, fontsize=9, loc="left")
        for ax in axes.flat[n:]:
            ax.set_visible(False)
        for i, ax in enumerate(axes.flat[:n]):
            ax.label_outer()
            if i + columns >= n:
                ax.set_xlabel("output channels d")
                ax.tick_params(labelbottom=True)
        for line in axes:
            line[0].set_ylabel("input channels c")
        _colour_bar(figure, image, axes, "‖∂E/∂y‖ / ‖∂E/∂x‖")
    return figure


def factor_maps(factors: dict[str, pd.DataFrame], title: str = "") -> Figure:
    """By how much each assumption is off: one row of heat maps per stage, one column per assumption.

    ``factors`` maps a stage's name to a table with the columns ``c``, ``d``, ``assumption`` and ``ratio``.
    """
    factors = {stage: table for stage, table in factors.items() if len(table)}
    if not factors:
        return _nothing(title)
    names = list(next(iter(factors.values())).assumption.drop_duplicates())
    side = 0.5 * max(next(iter(factors.values())).d.nunique(), 3)
    size = (len(names) * (side + 0.15) + 0.9, len(factors) * (side * 0.8 + 0.55) + 0.6)
    with panels(len(factors), len(names), size, title, sharex=True, sharey=True) as (figure, axes):
        for line, (stage, table) in zip(axes, factors.items(), strict=True):
            for ax, name in zip(line, names, strict=True):
                image = _heat_map(ax, table[table.assumption == name], small=True)
            line[0].set_ylabel(f"{stage}\ninput channels c")
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name, fontsize=9, loc="left")
        for ax in axes[-1]:
            ax.set_xlabel("output channels d")
        _colour_bar(figure, image, axes, "factor of the ratio")
    return figure


def over_time(distances: pd.DataFrame, titles: dict[str, str], title: str = "") -> Figure:
    """How far from 1 the ratios are while the networks train, one line per variant.

    Columns: ``variant``, ``step``, ``distance`` (a factor).  ``titles`` names the variants; those that were not
    measured are left out.
    """
    with panel((7.5, 3.9), title) as (figure, ax):
        for i, (variant, name) in enumerate(titles.items()):
            part = distances[distances.variant == variant]
            if len(part):
                marked_line(ax, i, part.step, part.distance, name, ls="-" if i < 3 else "--")
        ax.set_ylim(bottom=1)
        _factor_axis(ax)
        ax.set(xticks=sorted(distances.step.unique()), xlabel="steps", ylabel="median factor from 1")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def explanations(shares: pd.DataFrame, stages: dict[int, str], title: str = "") -> Figure:
    """The share of energy in the row space over c/d, seed by seed, beside what two explanations predict.

    Columns: ``c``, ``d``, ``step``, ``share``, ``white``, ``correlated``, ``small space``.  ``stages`` names the steps
    to show.
    """
    if shares.empty:
        return _nothing(title)
    cells = sorted(set(zip(shares.c, shares.d, strict=True)))
    jitter = np.random.default_rng(0)
    size = (max(5.0, 0.45 * len(cells) + 0.6) * len(stages) * 0.9, 3.9)
    with panels(1, len(stages), size, title, sharey=True) as (figure, axes):
        for ax, (step, name) in zip(axes[0], stages.items(), strict=True):
            line_at_one(ax, zorder=1)
            part = shares[shares.step == step].dropna(subset="share")
            for n, (cell, rows) in enumerate(part.groupby(CELL)):
                _explained(ax, cells.index(cell), rows, jitter, labelled=n == 0)
            ax.set_xticks(range(len(cells)), [f"{c}→{d}" for c, d in cells], fontsize=8)
            ax.grid(False, axis="x")
            ax.set_title(name, loc="left")
        first = axes[0][0]
        _factor_axis(first)
        first.set_ylabel("energy in the row space\nover c/d")
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _explained(ax: Axes, x: int, rows: pd.DataFrame, jitter: np.random.Generator, labelled: bool) -> None:
    """One cell: the two predictions as bars, the runs as dots, and white noise as dashes."""

    def label(text: str) -> str | None:
        return text if labelled else None

    edges, shift = [x - 0.4, x + 0.4], jitter.uniform(-0.25, 0.25, len(rows))
    wide, narrow = rows.correlated.mean(), rows["small space"].mean()
    ax.fill_between(edges, max(1 - wide, 0.02), 1 + wide, color=PALETTE[1], alpha=0.35, lw=0, zorder=2,
                    label=label("± sd if gradients are correlated as measured"))  # fmt: skip
    ax.fill_between(edges, 1 - narrow, 1 + narrow, color=PALETTE[4], lw=0, zorder=3,
                    label=label("± sd if the space were small (one image)"))  # fmt: skip
    ax.plot(x + shift, rows.share, "o", color=PALETTE[0], ms=4, zorder=5, mec="white", mew=0.4,
            label=label("measured, a dot per seed"))  # fmt: skip
    ax.plot(x + shift, rows.white, "_", color="black", ms=4, mew=1.2, zorder=4,
            label=label("white noise through the same layers"))  # fmt: skip
