"""Chapter 4: what a training run leaves, drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from paperlib import _checks
from paperlib.figures._style import (
    ARCHITECTURES,
    DIVERGING,
    PALETTE,
    WIDTH,
    factor_axis,
    headline,
    line_at_one,
    lines,
    page_style,
    panel,
    panels,
    subplots,
    verbatim,
    whole_numbers,
)

# No network's own colour, since these tell apart what is in one run.
EARLY, LATE, TRANSITION = ".6", ".15", PALETTE[1]
STAGES = (PALETTE[9], PALETTE[5], PALETTE[4])
APART = 10
KINDS = {"residual": "Blocks of constant width", "transition": "Transitions"}
RATIO = "‖∂E/∂x$_{l+1}$‖ / ‖∂E/∂x$_l$‖"


def _epochs(ax: Axes) -> None:
    whole_numbers(ax.xaxis)
    ax.set_xlabel("epoch")


def learning_curves(epochs: pd.DataFrame, title: str = "") -> Figure:
    """Loss and classification error, training and test, over the epochs; dotted lines where the learning rate falls.

    Columns: ``epoch``, ``lr``, ``train_loss``, ``test_loss``, ``train_error``, ``test_error`` (errors in per cent).
    The axis of the loss is logarithmic where the largest is more than ``APART`` times the smallest, which would
    otherwise flatten all the rest.
    """
    _checks.table("epochs", epochs, "epoch lr train_loss test_loss train_error test_error")
    parts = (("train", EARLY, "--"), ("test", LATE, "-"))
    with panels(1, 2, (WIDTH, 3.0), title) as (figure, axes):
        loss, error = axes[0]
        for ax, what in ((loss, "loss"), (error, "error")):
            for part, colour, style in parts:
                ax.plot(epochs.epoch, epochs[f"{part}_{what}"], style, color=colour, marker="o", ms=3.5, label=part)
            for epoch in epochs.epoch[epochs.lr.diff() < 0]:
                ax.axvline(epoch - 0.5, color=".5", lw=1, ls=":")
            _epochs(ax)
        losses = epochs[["train_loss", "test_loss"]].stack()
        losses = losses[np.isfinite(losses) & (losses > 0)]
        if len(losses) and losses.max() > APART * losses.min():
            loss.set_yscale("log")
            loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            loss.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            loss.yaxis.set_minor_formatter(NullFormatter())
        loss.set_ylabel("cross-entropy")
        loss.set_title("Loss", loc="left")
        loss.legend()
        error.set_ylabel("error, %")
        error.set_title("Classification error", loc="left")
    return figure


def _range(ratios: pd.Series) -> float:
    """The r of a symmetric range [1/r, r] for ratios: at least a factor 1.25, at most 32."""
    finite = ratios[np.isfinite(ratios) & (ratios > 0)]
    r = math.exp(np.log(finite).abs().max()) if len(finite) else 1.25
    return min(max(r, 1.25), 32.0)


def _ratio_axis(axis: Axis, r: float) -> None:
    """Put ticks at a few round ratios and their inverses."""
    steps = [s for s in (1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 30) if s <= r * 1.001]
    steps = steps if len(steps) <= 3 else [steps[len(steps) // 2], steps[-1]]

    def text(v: float, _: Any) -> str:
        return "1" if abs(v - 1) < 1e-9 else f"{v:g}" if v > 1 else f"1/{1 / v:g}"

    axis.set_major_locator(FixedLocator(sorted([1 / s for s in steps] + [1.0] + steps)))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def ratio_heatmap(blocks: pd.DataFrame, title: str = "", limit: float | None = None) -> Figure:
    """The gradient-norm ratio of every block (rows, input on top) in every epoch; white is 1.

    Columns: ``epoch``, ``block``, ``name``, ``kind``, ``log_ratio``.  Transition blocks are named; thin lines separate
    the stages.  ``limit`` fixes the colour scale at [1/limit, limit], so that several heat maps can be compared.
    """
    _checks.table("blocks", blocks, "epoch block log_ratio", "name kind")
    if limit is not None:
        _checks.number("limit", limit, above=1)
    if blocks.duplicated(["epoch", "block"]).any():
        raise ValueError("blocks has a block twice in one epoch: give the rows of one run")
    table = np.exp(blocks.pivot(index="block", columns="epoch", values="log_ratio"))
    named = blocks.drop_duplicates("block").set_index("block").loc[table.index]
    r = limit or _range(table.stack())
    extent = (table.columns[0] - 0.5, table.columns[-1] + 0.5, len(table) + 0.5, 0.5)
    with panel((WIDTH, min(6.5, max(2.6, 0.1 * len(table) + 1.2))), title) as (figure, ax):
        ax.grid(False)
        norm = LogNorm(1 / r, r)
        image = ax.imshow(table, aspect="auto", cmap=DIVERGING, norm=norm, interpolation="nearest", extent=extent)
        transitions = [i for i, kind in enumerate(named.kind, 1) if kind == "transition"]
        ticks = sorted({1, len(table), *transitions})
        ax.set_yticks(ticks, [f"{verbatim(named.name.iloc[i - 1])}  ({i})" for i in ticks], fontsize=9)
        for i in transitions[1:]:
            ax.axhline(i - 0.5, color=".35", lw=0.8)
        ax.set_ylabel("block")
        _epochs(ax)
        low, high = (table < 1 / r * 0.999).any(axis=None), (table > r * 1.001).any(axis=None)
        extend = "both" if low and high else "min" if low else "max" if high else "neither"
        bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=30, extend=extend)
        bar.set_label(f"{RATIO}   (geometric mean)")
        _ratio_axis(bar.ax.yaxis, r)
        bar.outline.set_visible(False)
    return figure


def _stages(blocks: pd.DataFrame) -> dict[int, int]:
    """The stage of each block, from its name; 1 where the name has none."""
    first = blocks.drop_duplicates("block").set_index("block")
    return first.name.str.extract(r"(\d)", expand=False).fillna(1).astype(int).to_dict()


def ratio_lines(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The same ratios as lines over the epochs, the form of the paper's Figure 3.

    Columns: ``epoch``, ``block``, ``name``, ``kind``, ``log_ratio``.  Residual blocks have the colour of their stage,
    transitions are dashed.
    """
    _checks.table("blocks", blocks, "epoch block log_ratio", "name kind")
    stages = _stages(blocks)
    styles: dict[str, dict[str, Any]] = {
        "residual": {"lw": 1, "alpha": 0.55},
        "transition": {"lw": 2, "marker": "s", "ms": 4, "ls": "--"},
    }
    with panels(1, 2, (WIDTH, 3.4), title) as (figure, axes):
        for ax, (kind, name) in zip(axes[0], KINDS.items(), strict=True):
            part = blocks[blocks.kind == kind]
            r = _range(np.exp(part.log_ratio))
            line_at_one(ax)
            seen = set()
            for block, rows in part.groupby("block"):
                stage = stages[block]
                label = verbatim(rows.name.iloc[0]) if kind == "transition" else f"stage {stage}"
                once = {} if label in seen else {"label": label}
                seen.add(label)
                colour = STAGES[(stage - 1) % 3]
                ax.plot(rows.epoch, np.exp(rows.log_ratio), color=colour, **styles[kind], **once)
            ax.set_yscale("log")
            ax.set_ylim(1 / r / 1.03, r * 1.03)
            _ratio_axis(ax.yaxis, r)
            ax.set_title(name, loc="left")
            _epochs(ax)
            if seen:
                ax.legend()
            else:
                ax.text(0.5, 0.6, "this network has none", transform=ax.transAxes, ha="center", color=".4")
        axes[0][0].set_ylabel(RATIO)
    return figure


def gradient_profile(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The gradient's norm on its way back, in the first and the last epoch.

    Drawn is ‖∂E/∂x_l‖ at the input of every block, over the norm at the last block's output.

    Columns: ``epoch``, ``block``, ``kind``, ``log_ratio``.
    """
    _checks.table("blocks", blocks, "epoch block log_ratio", "kind")
    epochs = sorted(blocks.epoch.unique())
    with panel((WIDTH, 3.0), title) as (figure, ax):
        for epoch, colour in {epochs[0]: EARLY, epochs[-1]: LATE}.items():
            rows = blocks[blocks.epoch == epoch].sort_values("block", ascending=False)
            # The product of 1/ratio from the output down to block l is ‖∂E/∂x_l‖ / ‖∂E/∂x_{L+1}‖.
            norm = np.exp(-rows.log_ratio.cumsum())
            ax.plot(rows.block, norm, color=colour, lw=2, marker=".", ms=4, label=f"epoch {epoch}")
        for block in blocks[blocks.kind == "transition"].block.unique():
            ax.axvline(block, color=TRANSITION, lw=1, ls="--", zorder=0)
        line_at_one(ax)
        ax.set_yscale("log")
        whole_numbers(ax.xaxis)
        ax.set(xlabel="block l (input on the left; dashed: transitions)", ylabel="‖∂E/∂x$_l$‖ / ‖∂E/∂x$_{L+1}$‖")
        ax.legend()
    return figure


def _box(ax: Axes, x: float, y: float, skip: str, colour: Any) -> None:
    """Draw one block, with its skip as an arc over it."""
    shape = "round,pad=0.02,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch((x - 0.27, y - 0.18), 0.54, 0.36, boxstyle=shape, fc=colour, ec=".25", lw=0.8, zorder=3)
    )
    dashes: dict[str, Any] = {"identity": "-", "projection": (0, (2, 1.5))}
    if skip in dashes:
        arc = Path([(x - 0.45, y), (x - 0.42, y + 0.62), (x + 0.42, y + 0.62), (x + 0.45, y)], [1, 4, 4, 4])
        ax.add_patch(PathPatch(arc, fc="none", ec=".25", lw=1.1, ls=dashes[skip], zorder=2))


def _chain(ax: Axes, y: float, rows: Sequence[Any], shown: int, colour: Any) -> None:
    """Draw one stage; of a long one only its first and last blocks, ``shown`` places in all."""
    gap = len(rows) > shown
    kept = [*rows[: shown // 2], *rows[-(shown // 2 - 1) :]] if gap else rows
    start = -0.75
    if gap:
        ax.plot([start, shown // 2 - 0.45], [y, y], color=".45", lw=1, zorder=1)
        start = shown // 2 + 0.4
    ends = ((len(kept) + gap + 0.45, y), (start, y))
    ax.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": ".45", "lw": 1, "shrinkA": 0})
    for i, row in enumerate(kept):
        _box(ax, i + (gap and i >= shown // 2), y, row.skip, TRANSITION if row.kind == "transition" else colour)
    if gap:
        ax.text(shown // 2, y, f"+{len(rows) - len(kept)}", ha="center", va="center", fontsize=9)


def _words(ax: Axes, skips: set[str], width: int) -> None:
    """Write what the boxes and arcs mean, below them."""
    words = [
        ("■ transition (changes the width)", TRANSITION, True),
        ("— identity skip", ".25", "identity" in skips),
        ("- - convolution", ".25", "projection" in skips),
        ("no skips", ".25", skips == {"none"}),
    ]
    x = 0.0
    for text, colour, wanted in words:
        if wanted:
            ax.text(x - 0.3, -0.62, text, color=colour, fontsize=9, va="center")
            x += 0.28 * len(text) * (width + 5) / 25 + 0.8


def network(blocks: pd.DataFrame, title: str = "") -> Figure:
    """A drawing of the chain of blocks, one row per stage, with its skips.

    Columns: ``name``, ``kind``, ``stage``, ``skip`` (``identity``, ``projection``, ``none``, or ``convolution`` for a
    transition that is a convolution alone), ``channels``, ``size``.
    """
    _checks.table("blocks", blocks, "stage channels size", "name kind skip")
    stages = list(blocks.groupby("stage", sort=True))
    shown = min(max(len(rows) for _, rows in stages), 14)
    width = max(shown, 12)  # short chains keep the shape of their boxes
    with page_style():
        figure, ax = subplots(1, 1, (WIDTH, 0.85 * len(stages) + 0.8), layout=None)
        figure.subplots_adjust(0.01, 0.02, 0.99, 0.9)
        headline(figure, title)
        ax.set_axis_off()
        ax.set_xlim(-0.22 * (width + 2), width + 0.9)
        ax.set_ylim(-0.75, len(stages) - 0.45)
        for (stage, table), colour in zip(stages, STAGES, strict=False):
            y, last = len(stages) - stage, table.iloc[-1]
            text = f"stage {stage}\n{last.channels} × {last['size']} × {last['size']}"
            ax.text(-0.217 * (width + 2), y, text, va="center", fontsize=9, linespacing=1.4)
            _chain(ax, y, list(table.itertuples()), shown, sns.light_palette(colour, 4)[2])
        _words(ax, set(blocks.skip), width)
    return figure


def _runs(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The rows of each run and how to draw them: in its architecture's colour, where the table knows that."""
    for _, rows, style in lines(table, "run"):
        yield rows, style | ({"color": ARCHITECTURES[rows.arch.iloc[0]]} if "arch" in rows else {})


def compare_runs(epochs: pd.DataFrame, title: str = "") -> Figure:
    """Test error over the epochs of several runs.

    Columns: ``run`` (its label), ``epoch``, ``test_error``, and ``arch``, if the runs are to have the colours of their
    architectures; the lines keep the order of first appearance.
    """
    _checks.table("epochs", epochs, "epoch test_error", "run")
    with panel((WIDTH, 3.4), title) as (figure, ax):
        for rows, style in _runs(epochs):
            ax.plot(rows.epoch, rows.test_error, lw=1.6, **style)
        ax.set_ylabel("test error, %")
        _epochs(ax)
        ax.legend()
    return figure


def compare_ratios(blocks: pd.DataFrame, title: str = "") -> Figure:
    """How far the blocks of several runs are from 1, as a factor, residual and transition blocks apart.

    Columns: ``run``, ``epoch``, ``kind``, ``log_ratio``, and ``arch`` as :func:`compare_runs` takes it.  Lines are
    medians over the blocks of the ratio or its inverse, whichever is above 1.  Bands are the range from the 10th to the
    90th percentile; transitions have none, since a network has three of them.
    """
    _checks.table("blocks", blocks, "epoch log_ratio", "run kind")
    with panels(1, 2, (WIDTH, 3.8), title, sharey=True) as (figure, axes):
        for ax, (kind, name) in zip(axes[0], KINDS.items(), strict=True):
            for rows, style in _runs(blocks[blocks.kind == kind]):
                by = rows.log_ratio.abs().groupby(rows.epoch)
                middle, colour = np.exp(by.median()), style["color"]
                ax.plot(middle.index, middle, **style | {"ms": 4})
                if kind == "residual":
                    low, high = np.exp(by.quantile(0.1)), np.exp(by.quantile(0.9))
                    ax.fill_between(middle.index, low, high, color=colour, alpha=0.15, lw=0)
            ax.set_title(name, loc="left")
            ax.set_yscale("log", base=2)
            factor_axis(ax.yaxis)
            _epochs(ax)
        axes[0][0].set_ylabel("factor away from 1")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
