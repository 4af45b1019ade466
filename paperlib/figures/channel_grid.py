"""Chapter 3: the Conv-ReLU channel grid, as heat maps on one colour scale, and what explains its failures."""

from __future__ import annotations

from itertools import product
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullLocator

from paperlib.figures._style import DIVERGING, PALETTE, WIDTH, line_at_one, marked_line, mpl, panel, panels

# The logarithm of a ratio, to base 2: white is 1, the ends are 4 times and a quarter.  All heat maps share it.
SCALE = Normalize(-2, 2)
CELL = ["c", "d"]
INPUTS, OUTPUTS = "input channels c", "output channels d"
RATIO = "‖∂E/∂y‖ / ‖∂E/∂x‖"
BAR = 0.95  # inches for the colour bar and the labels beside it
LEAST = 0.31  # inches that a number of four characters takes
TITLE_INCHES = 0.075  # what a character of a panel's title takes at its size
# Of the compared networks, in their order: colour, marker, and whether it is filled.
LOOKS = ((PALETTE[1], "o", False), (PALETTE[0], "o", True), (PALETTE[2], "D", True))


def _heat_map(ax: Axes, cells: pd.DataFrame) -> AxesImage:
    """One panel: the ratio of each cell as a colour and a number, and how many runs have died."""
    rows, columns = sorted(cells.c.unique()), sorted(cells.d.unique())
    colours = mpl.colormaps[DIVERGING].with_extremes(bad=".88")
    table = cells.pivot(index="c", columns="d", values="ratio").loc[rows, columns]
    with np.errstate(invalid="ignore"):
        image = ax.imshow(np.ma.masked_invalid(np.log2(table.to_numpy())), cmap=colours, norm=SCALE, aspect="auto")
    for cell in cells.itertuples():
        _label(ax, columns.index(cell.d), rows.index(cell.c), cell)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image


def _label(ax: Axes, x: float, y: float, cell: Any) -> None:
    """What is written into one cell, given as a named tuple of its row."""
    centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
    if not np.isfinite(cell.ratio):
        ax.text(x, y, "dead", color=".3", **centred)
        return
    ink = "white" if abs(np.log2(cell.ratio)) > 1.35 else "black"
    number = f"{cell.ratio:.2f}" if cell.ratio < 10 else f"{cell.ratio:.0f}"
    died = getattr(cell, "dead", 0)
    ax.text(x, y, f"{number}\n†{died}" if died else number, color=ink, linespacing=0.95, **centred)


def _factor_axis(ax: Axes) -> None:
    """A logarithmic axis of factors, with ticks at round ones."""
    ax.set_yscale("log", base=2)
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_locator(NullLocator())
    wide = high / low > 16
    round_ones = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if wide else (0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 6, 8)
    ax.set_yticks([t for t in round_ones if low <= t <= high])
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


def _side_by_side(wanted: int, cells: int) -> int:
    """How many heat maps of ``cells`` columns stand side by side, of those wanted, so that their numbers fit."""
    return max(1, min(wanted, int((WIDTH - BAR) / (LEAST * cells))))


def heat_maps(
    ratios: pd.DataFrame, titles: dict[str, str], columns: int = 2, title: str = "", label: str = RATIO
) -> Figure:
    """Ratios over the numbers of channels, one panel a variant, on one scale of colours: white is 1.

    Columns: ``variant``, ``c``, ``d``, ``ratio``, and ``dead`` where runs may have died, which is written after a †.
    ``titles`` names the variants, in the order of the panels; those that were not measured are left out.  ``columns``
    is the largest number of panels side by side.
    """
    titles = {v: name for v, name in titles.items() if v in set(ratios.variant)}
    n = len(titles)
    if not n:
        return _nothing(title)
    columns = _side_by_side(min(columns, n), ratios.d.nunique())
    lines = -(-n // columns)
    wide = (WIDTH - BAR) / columns
    names = [fill(name, int((wide - 0.1) / TITLE_INCHES)) for name in titles.values()]
    titled = 0.2 * (1 + max(name.count("\n") for name in names))
    high = min(0.78 * wide, max(0.45 * ratios.c.nunique(), 1.6))
    with panels(lines, columns, (WIDTH, lines * (high + titled + 0.1) + 0.75), title, sharex=True, sharey=True) as (
        figure, axes
    ):  # fmt: skip
        for ax, variant, name in zip(axes.flat, titles, names, strict=False):
            image = _heat_map(ax, ratios[ratios.variant == variant])
            ax.set_title(name, fontsize=10, loc="left")
        for ax in axes.flat[n:]:
            ax.set_visible(False)
        for i, ax in enumerate(axes.flat[:n]):
            ax.label_outer()
            if i + columns >= n:
                ax.set_xlabel(OUTPUTS)
                ax.tick_params(labelbottom=True)
        for line in axes:
            line[0].set_ylabel(INPUTS)
        _colour_bar(figure, image, axes, label)
    return figure


def factor_maps(factors: pd.DataFrame, title: str = "") -> Figure:
    """By how much each assumption is off: one heat map an assumption.

    Columns: ``c``, ``d``, ``assumption``, ``ratio``.
    """
    names = {name: name for name in factors.assumption.unique()}
    return heat_maps(factors.rename(columns={"assumption": "variant"}), names, 3, title, "factor of the ratio")


def against(
    ratios: dict[str, pd.DataFrame], titles: dict[str, str], near: float | None = None, title: str = ""
) -> Figure:
    """Two or three kinds of networks against each other, for every pair of channel numbers.

    Of each pair the marks show the ratios on a logarithmic axis.  The line between them has the colour of the mark that
    is nearest to 1; a † stands where runs have died, which the ratio leaves out.

    Parameters
    ----------
    ratios : dict of str to DataFrame
        One panel an entry, under its name.  Columns: ``variant``, ``c``, ``d``, ``ratio``, ``dead``.
    titles : dict of str to str
        What the legend calls the variants, at most three.
    near : float, optional
        A factor: the band from 1/``near`` to ``near`` is grey.
    title : str
        Over the panels.
    """
    size = (WIDTH, 2.7 * len(ratios) + 0.75)
    with panels(len(ratios), 1, size, title, sharex=True, sharey=True) as (figure, axes):
        for ax, (name, table) in zip(axes[:, 0], ratios.items(), strict=True):
            if near:
                ax.axhspan(1 / near, near, color=".5", alpha=0.18, lw=0, zorder=0)
            line_at_one(ax, zorder=1)
            _groups(ax, table[table.variant.isin(titles)], titles)
            ax.set_title(name, loc="left", pad=20)
            ax.set_ylabel(RATIO)
        _factor_axis(axes[0, 0])
        axes[-1, 0].set_xlabel(f"{INPUTS}, in groups of equal {OUTPUTS}")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(titles))
    return figure


def _groups(ax: Axes, table: pd.DataFrame, titles: dict[str, str]) -> None:
    """The pairs of one panel: one place each, pairs with the same number of outputs side by side."""
    inputs, outputs = sorted(table.c.unique()), sorted(table.d.unique())
    wide = len(inputs) + 1
    place = {(c, d): wide * j + i for j, d in enumerate(outputs) for i, c in enumerate(inputs)}
    for cell, rows in table.groupby(CELL):
        ratio = rows.set_index("variant").ratio.reindex(list(titles)).to_numpy(float)
        logs = np.abs(np.log(ratio))
        if np.isfinite(logs).sum() > 1:
            colour = LOOKS[int(np.nanargmin(logs))][0]
            ax.plot([place[cell]] * 2, [np.nanmin(ratio), np.nanmax(ratio)], color=colour, lw=2, zorder=2)
    for (variant, name), (colour, marker, filled) in zip(titles.items(), LOOKS, strict=False):
        rows = table[table.variant == variant]
        x = [place[cell] for cell in zip(rows.c, rows.d, strict=True)]
        if not filled:  # white under a hollow mark, lest the line shine through
            ax.plot(x, rows.ratio, marker, color="white", ms=6.5, zorder=3)
        # A hollow mark lies on top, and is the larger one: two marks at one place are both seen.
        look = {"zorder": 4} if filled else {"zorder": 5, "mfc": "none"}
        ax.plot(x, rows.ratio, marker, color=colour, mew=1.6, ms=6.0 if filled else 7.5, label=name, **look)
        for at, row in zip(x, rows.itertuples(), strict=True):
            if getattr(row, "dead", 0) and np.isfinite(row.ratio):
                ax.annotate("†", (at, row.ratio), (5, -3), textcoords="offset points", fontsize=11)
    for j, d in enumerate(outputs):
        ax.text(wide * j + (wide - 2) / 2, 1.03, f"d = {d}", transform=ax.get_xaxis_transform(), ha="center")
        if j:
            ax.axvline(wide * j - 1, color=".8", lw=0.8, zorder=0)
    ax.set_xticks(list(place.values()), [c for _ in outputs for c in inputs])
    ax.set_xlim(-1, wide * len(outputs) - 1)
    ax.grid(False, axis="x")


def over_time(distances: pd.DataFrame, titles: dict[str, str], title: str = "") -> Figure:
    """How far from 1 the ratios are while the networks train, one line per variant.

    Columns: ``variant``, ``step``, ``distance`` (a factor).  ``titles`` names the variants; those that were not
    measured are left out.
    """
    with panel((WIDTH, 4.4), title) as (figure, ax):
        for i, (variant, name) in enumerate(titles.items()):
            part = distances[distances.variant == variant]
            if len(part):
                marked_line(ax, i, part.step, part.distance, name, ls="-" if i < 3 else "--")
        ax.set_ylim(bottom=1)
        _factor_axis(ax)
        ax.set(xticks=sorted(distances.step.unique()), xlabel="steps of training", ylabel="median factor from 1")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def courses(ratios: pd.DataFrame, titles: dict[str, str], title: str = "") -> Figure:
    """The ratio while the networks train: a panel for each pair of channel numbers, a line for each variant.

    Columns: ``variant``, ``c``, ``d``, ``epoch``, ``ratio``.  ``titles`` names the variants, at most three.
    """
    inputs, outputs = sorted(ratios.c.unique()), sorted(ratios.d.unique())
    size = (WIDTH, 1.75 * len(inputs) + 0.7)
    with panels(len(inputs), len(outputs), size, title, sharex=True, sharey=True) as (figure, axes):
        for (i, c), (j, d) in product(enumerate(inputs), enumerate(outputs)):
            ax, cell = axes[i, j], ratios[(ratios.c == c) & (ratios.d == d)]
            line_at_one(ax)
            for (variant, name), (colour, marker, filled) in zip(titles.items(), LOOKS, strict=False):
                part = cell[cell.variant == variant].sort_values("epoch")
                if len(part):
                    ax.plot(part.epoch, part.ratio, marker=marker, color=colour, ms=5, label=name,
                            mfc=colour if filled else "white")  # fmt: skip
            ax.set_title(f"{c} → {d}", fontsize=10, loc="left")
        _factor_axis(axes[0, 0])
        for ax in axes[-1]:
            ax.set_xlabel("epochs")
        for ax in axes[:, 0]:
            ax.set_ylabel("ratio")
        shown = {
            label: handle
            for ax in axes.flat
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }  # fmt: skip
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3)
    return figure


def explanations(shares: pd.DataFrame, stages: dict[int, str], title: str = "") -> Figure:
    """The share of energy in the row space over c/d, seed by seed, beside what two explanations predict.

    Columns: ``c``, ``d``, ``step``, ``share``, ``white``, ``correlated``, ``small space``.  ``stages`` names the steps
    to show, one panel under the other.
    """
    if shares.empty:
        return _nothing(title)
    cells = sorted(set(zip(shares.c, shares.d, strict=True)))
    jitter = np.random.default_rng(0)
    size = (WIDTH, 2.3 * len(stages) + 0.9)
    with panels(len(stages), 1, size, title, sharex=True, sharey=True) as (figure, axes):
        for ax, (step, name) in zip(axes[:, 0], stages.items(), strict=True):
            line_at_one(ax, zorder=1)
            part = shares[shares.step == step].dropna(subset="share")
            for n, (cell, rows) in enumerate(part.groupby(CELL)):
                _explained(ax, cells.index(cell), rows, jitter, labelled=n == 0)
            ax.set_xticks(range(len(cells)), [f"{c} → {d}" for c, d in cells], fontsize=9)
            ax.grid(False, axis="x")
            ax.set_title(name, loc="left")
            ax.set_ylabel("share over c/d")
        first = axes[0][0]
        _factor_axis(first)
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=2)
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
