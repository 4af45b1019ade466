"""Chapter 4: what a training run leaves, drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from paperlib.figures._style import DIVERGING, PALETTE, headline, page_style, subplots

TRAIN, TEST, TRANSITION = PALETTE[0], PALETTE[3], PALETTE[1]
STAGES = (PALETTE[0], PALETTE[2], PALETTE[4])


def _whole_epochs(ax) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")


def learning_curves(epochs: pd.DataFrame, title: str = "") -> Figure:
    """Loss and classification error, training and test, over the epochs; dotted lines where the learning rate falls.

    Columns: ``epoch``, ``lr``, ``train_loss``, ``test_loss``, ``train_error``, ``test_error`` (per cent).
    """
    with page_style():
        figure, axes = subplots(1, 2, (9.5, 3.4))
        for ax, what, label in zip(axes, ("loss", "error"), ("cross-entropy", "error, %"), strict=True):
            for part, colour, style in (("train", TRAIN, "--"), ("test", TEST, "-")):
                ax.plot(epochs.epoch, epochs[f"{part}_{what}"], style, color=colour, marker="o", ms=3.5, label=part)
            for epoch in epochs.epoch[epochs.lr.diff() < 0]:
                ax.axvline(epoch - 0.5, color=".5", lw=1, ls=":")
            if what == "loss" and epochs[["train_loss", "test_loss"]].max(axis=None) > 100:
                ax.set_yscale("log")
            ax.set_ylabel(label)
            ax.set_title({"loss": "Loss", "error": "Classification error"}[what], loc="left")
            _whole_epochs(ax)
        axes[0].legend()
        headline(figure, title)
    return figure


def _range(values: pd.Series) -> float:
    """A symmetric range for ratios: [1/r, r], at least a factor 1.25, at most 32."""
    finite = values[np.isfinite(values) & (values > 0)]
    r = math.exp(np.log(finite).abs().max()) if len(finite) else 1.25
    return min(max(r, 1.25), 32.0)


def _ratio_axis(axis, r: float) -> None:
    steps = [s for s in (1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 30) if s <= r * 1.001]
    steps = steps if len(steps) <= 3 else [steps[len(steps) // 2], steps[-1]]
    axis.set_major_locator(FixedLocator(sorted([1 / s for s in steps] + [1.0] + steps)))
    axis.set_major_formatter(
        FuncFormatter(lambda v, _: "1" if abs(v - 1) < 1e-9 else f"{v:g}" if v > 1 else f"1/{1 / v:g}")
    )
    axis.set_minor_formatter(NullFormatter())


def ratio_heatmap(blocks: pd.DataFrame, title: str = "", limit: float | None = None) -> Figure:
    """The gradient-norm ratio of every block (rows, input on top) in every epoch; white is 1.

    Columns: ``epoch``, ``block``, ``name``, ``kind``, ``log_ratio``.  Transition blocks are named; thin lines separate the stages.
    ``limit`` fixes the colour scale at [1/limit, limit], to compare figures.
    """
    table = np.exp(blocks.pivot(index="block", columns="epoch", values="log_ratio"))
    named = blocks.drop_duplicates("block").set_index("block").loc[table.index]
    r = limit or _range(table.stack())
    with page_style():
        height = min(7.5, max(2.6, 0.115 * len(table) + 1.2))
        figure, ax = subplots(1, 1, (8.2, height))
        ax.grid(False)
        norm = LogNorm(1 / r, r)
        image = ax.imshow(table, aspect="auto", cmap=DIVERGING, norm=norm, interpolation="nearest",
                          extent=(table.columns[0] - 0.5, table.columns[-1] + 0.5, len(table) + 0.5, 0.5))  # fmt: skip
        rows = [i for i, kind in enumerate(named.kind, 1) if kind == "transition"]
        ticks = sorted({1, len(table), *rows})
        ax.set_yticks(ticks, [f"{named.name.iloc[i - 1].replace('_', ' ')}  ({i})" for i in ticks], fontsize=8)
        for i in rows[1:]:
            ax.axhline(i - 0.5, color=".35", lw=0.8)
        ax.set_ylabel("block")
        _whole_epochs(ax)
        low, high = (table < 1 / r * 0.999).any(axis=None), (table > r * 1.001).any(axis=None)
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
            (bool(low), bool(high)), "neither"
        )
        bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=30, extend=extend)
        bar.set_label("‖∂E/∂x$_{l+1}$‖ / ‖∂E/∂x$_l$‖   (geometric mean)")
        _ratio_axis(bar.ax.yaxis, r)
        bar.outline.set_visible(False)
        if title:
            ax.set_title(title, loc="left")
    return figure


def ratio_lines(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The same ratios as lines over the epochs, the form of the paper's Figure 3: residual blocks by stage, transitions dashed.

    Columns: ``epoch``, ``block``, ``name``, ``kind``, ``log_ratio``.
    """
    with page_style():
        figure, axes = subplots(1, 2, (9.5, 3.8))
        stage = blocks.drop_duplicates("block").set_index("block").name.str.extract(r"(\d)", expand=False).astype(float)
        for ax, kind in zip(axes, ("residual", "transition"), strict=True):
            part = blocks[blocks.kind == kind]
            r = _range(np.exp(part.log_ratio))
            ax.axhline(1, color=".35", lw=1)
            for block, rows in part.groupby("block"):
                s = int(stage.get(block, 1)) - 1 if not math.isnan(stage.get(block, 1)) else 0
                style = (
                    {"lw": 1, "alpha": 0.55} if kind == "residual" else {"lw": 2, "marker": "s", "ms": 4, "ls": "--"}
                )
                label = rows.name.iloc[0].replace("_", " ") if kind == "transition" else f"stage {s + 1}"
                seen = label in ax.get_legend_handles_labels()[1]
                ax.plot(rows.epoch, np.exp(rows.log_ratio), color=STAGES[s % 3], label=None if seen else label, **style)
            ax.set_yscale("log")
            ax.set_ylim(1 / r / 1.03, r * 1.03)
            _ratio_axis(ax.yaxis, r)
            ax.set_title(
                {"residual": "Blocks with a constant width", "transition": "Transition blocks"}[kind], loc="left"
            )
            _whole_epochs(ax)
            if ax.get_legend_handles_labels()[0]:
                ax.legend()
            else:
                ax.text(0.5, 0.6, "this network has none", transform=ax.transAxes, ha="center", color=".4")
        axes[0].set_ylabel("‖∂E/∂x$_{l+1}$‖ / ‖∂E/∂x$_l$‖")
        headline(figure, title)
    return figure


def gradient_profile(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The gradient's norm on its way back: ‖∂E/∂x_l‖ at the input of every block, in the first and the last epoch, over the norm at
    the last block's output.

    Columns: ``epoch``, ``block``, ``kind``, ``log_ratio``.
    """
    with page_style():
        figure, ax = subplots(1, 1, (9.5, 3.2))
        epochs = sorted(blocks.epoch.unique())
        for epoch, colour in dict(zip((epochs[0], epochs[-1]), (".6", TRAIN), strict=True)).items():
            rows = blocks[blocks.epoch == epoch].sort_values("block", ascending=False)
            # The product of 1/ratio from the output down to block l is ‖∂E/∂x_l‖ / ‖∂E/∂x_{L+1}‖.
            ax.plot(
                rows.block,
                np.exp(-rows.log_ratio.cumsum()),
                color=colour,
                lw=2,
                marker=".",
                ms=4,
                label=f"epoch {epoch}",
            )
        for block in blocks[blocks.kind == "transition"].block.unique():
            ax.axvline(block, color=TRANSITION, lw=1, ls="--", zorder=0)
        ax.axhline(1, color=".35", lw=1)
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("block l (input on the left; dashed: transitions)")
        ax.set_ylabel("‖∂E/∂x$_l$‖ / ‖∂E/∂x$_{L+1}$‖")
        ax.legend()
        if title:
            ax.set_title(title, loc="left")
    return figure


def network(blocks: pd.DataFrame, title: str = "") -> Figure:
    """A drawing of the chain of blocks, one row a stage, with its skips.

    Columns: ``name``, ``kind``, ``stage``, ``skip`` (``identity``, ``projection``, ``none``, or ``convolution`` for a transition that
    is a convolution alone), ``channels``, ``size``.
    """
    stages = list(blocks.groupby("stage", sort=True))
    columns = max(len(rows) for _, rows in stages)
    with page_style():
        # Long chains are drawn by their first and last blocks.
        shown = columns if columns <= 20 else 20
        figure, ax = subplots(1, 1, (9.5, 0.95 * len(stages) + 0.9), layout=None)
        figure.subplots_adjust(0.01, 0.02, 0.99, 0.9)
        ax.set_axis_off()
        width = max(shown, 12)  # short chains keep the shape of their boxes
        ax.set_xlim(-0.16 * (width + 2), width + 0.9)
        ax.set_ylim(-0.75, len(stages) - 0.45)
        for (stage, rows), colour in zip(stages, STAGES, strict=False):
            y = len(stages) - 1 - (stage - 1)
            rows = list(rows.itertuples())
            gap = len(rows) > shown
            kept = rows[: shown // 2] + rows[-(shown // 2 - 1) :] if gap else rows
            tone = sns.light_palette(colour, 4)[2]
            last = kept[-1]
            ax.text(
                -0.158 * (width + 2),
                y,
                f"stage {stage}\n{last.channels} × {last.size} × {last.size}",
                va="center",
                fontsize=9,
                linespacing=1.4,
            )
            ax.annotate(
                "", (len(kept) + gap + 0.45, y), (-0.75, y), arrowprops={"arrowstyle": "-|>", "color": ".45", "lw": 1}
            )
            for i, row in enumerate(kept):
                x = i + (gap and i >= shown // 2)
                transition = row.kind == "transition"
                face = TRANSITION if transition else tone
                box = FancyBboxPatch((x - 0.27, y - 0.18), 0.54, 0.36, boxstyle="round,pad=0.02,rounding_size=0.08",
                                     fc=face, ec=".25", lw=0.8, zorder=3)  # fmt: skip
                ax.add_patch(box)
                if row.skip in ("identity", "projection"):
                    arc = Path([(x - 0.45, y), (x - 0.42, y + 0.62), (x + 0.42, y + 0.62), (x + 0.45, y)], [1, 4, 4, 4])
                    dashes = "-" if row.skip == "identity" else (0, (2, 1.5))
                    ax.add_patch(PathPatch(arc, fc="none", ec=".25", lw=1.1, ls=dashes, zorder=2))
            if gap:
                ax.text(shown // 2, y, f"+{len(rows) - len(kept)}", ha="center", va="center", fontsize=8, zorder=4,
                        bbox={"fc": "white", "ec": "none", "pad": 1.5})  # fmt: skip
        kinds = set(blocks.skip)
        words = [
            ("■ transition (changes the width)", TRANSITION, True),
            ("— identity skip", ".25", "identity" in kinds),
            ("- - projection skip", ".25", "projection" in kinds),
            ("no skips", ".25", kinds == {"none"}),
        ]
        x = 0.0
        for text, colour, wanted in words:
            if wanted:
                ax.text(x - 0.3, -0.62, text, color=colour, fontsize=9, va="center")
                x += 0.19 * len(text) * (width + 5) / 25 + 0.8
        headline(figure, title)
    return figure


def compare_runs(epochs: pd.DataFrame, title: str = "") -> Figure:
    """Test error over the epochs of several runs.

    Columns: ``run`` (its label), ``epoch``, ``test_error``; the lines keep the order of first appearance.
    """
    with page_style():
        figure, ax = subplots(1, 1, (8.2, 3.4))
        markers = "osD^vPX*"
        for i, (label, rows) in enumerate(epochs.groupby("run", sort=False)):
            colour = sns.color_palette("colorblind")[i % 10]
            ax.plot(rows.epoch, rows.test_error, marker=markers[i % 8], ms=5, lw=1.6, color=colour, label=label)
        ax.set_ylabel("test error, %")
        _whole_epochs(ax)
        ax.legend()
        if title:
            ax.set_title(title, loc="left")
    return figure


def compare_ratios(blocks: pd.DataFrame, title: str = "") -> Figure:
    """How far the blocks of several runs are from preserving the norm: the size of the log ratio, for the residual and of the transition blocks.

    Columns: ``run``, ``epoch``, ``kind``, ``log_ratio``.  Lines are medians over blocks, bands the range from the 10th to the 90th percentile.
    """
    with page_style():
        figure, axes = subplots(1, 2, (9.5, 3.6), sharey=True)
        for ax, kind in zip(axes, ("residual", "transition"), strict=True):
            for i, (label, rows) in enumerate(blocks[blocks.kind == kind].groupby("run", sort=False)):
                colour = sns.color_palette("colorblind")[i % 10]
                by = rows.assign(distance=rows.log_ratio.abs()).groupby("epoch").distance
                middle = by.median()
                ax.plot(middle.index, middle, color=colour, marker="osD^vPX*"[i % 8], ms=4, label=label)
                ax.fill_between(middle.index, by.quantile(0.1), by.quantile(0.9), color=colour, alpha=0.15, lw=0)
            ax.set_title(
                {"residual": "Blocks with a constant width", "transition": "Transition blocks"}[kind], loc="left"
            )
            ax.set_yscale("log")
            _whole_epochs(ax)
        axes[0].set_ylabel("|log ratio|  (0: norm kept)")
        axes[0].legend()
        headline(figure, title)
    return figure
