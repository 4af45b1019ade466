"""Chapter 2: spectra of convolutions, the polar factor, alternating projections, the gradient's energy, the cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter

from paperlib.figures._style import DIVERGING, PALETTE, headline, page_style, subplots

MARKERS = "osD^vPX"
NAMES = {
    "newton-schulz": "Newton–Schulz (the paper's)",
    "scaled-newton-schulz": "optimally scaled Newton–Schulz",
    "quintic": "minimax quintic",
    "qdwh": "QDWH (solves a linear system)",
}


def _plain_numbers(axis) -> None:
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def spectra(values: pd.DataFrame, title: str = "", unit: str = "σ") -> Figure:
    """All singular values of some kernels, from the largest to the smallest, over ``unit``.

    Columns: ``kernel``, ``share`` (0 to 1), ``value``.
    """
    with page_style():
        figure, ax = subplots(1, 1, (7.5, 3.6))
        ax.axhline(1, color=".35", lw=1, zorder=1)
        for i, (name, part) in enumerate(values.groupby("kernel", sort=False)):
            marked = np.linspace(0, len(part) - 1, 9).astype(int).tolist()
            ax.plot(part.share, part.value, color=PALETTE[i], marker=MARKERS[i], markevery=marked, ms=5, label=name)
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.set_xlabel("singular values, largest first")
        ax.set_ylabel(f"singular value / {unit}")
        ax.set_title(title, loc="left")
        ax.legend()
    return figure


def spectrum_maps(values: dict[str, np.ndarray], title: str = "") -> Figure:
    """One value for each frequency, a panel a kernel, on one colour scale centred at 1; frequency 0 is in the middle.

    ``values`` maps a panel's name to an array ``(h, w)``, frequencies in the order of the discrete Fourier transform.
    """
    with page_style():
        figure, axes = subplots(1, len(values), (3.1 * len(values), 3.4), squeeze=False, sharey=True)
        distance = max(float(np.abs(v - 1).max()) for v in values.values())
        norm = TwoSlopeNorm(1, 1 - distance, 1 + distance)
        for ax, (name, array) in zip(axes[0], values.items(), strict=True):
            image = ax.imshow(
                np.fft.fftshift(array), cmap=DIVERGING, norm=norm, extent=(-0.5, 0.5, -0.5, 0.5), origin="lower"
            )
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("frequency, cycles a pixel")
            ax.grid(False)
        axes[0][0].set_ylabel("frequency, cycles a pixel")
        bar = figure.colorbar(image, ax=axes[0], shrink=0.75, pad=0.02)
        bar.set_label("singular value / σ")
        bar.outline.set_visible(False)
        headline(figure, title)
    return figure


def zero_padding(sizes: pd.DataFrame, title: str = "") -> Figure:
    """How many singular values zero padding leaves, and how far the others fall, against the map's side.

    Columns: ``size``, ``lowest``, ``kept``, ``interior``.
    """
    with page_style():
        figure, ax = subplots(1, 1, (6.5, 3.4))
        ax.plot(sizes["size"], sizes.interior, color=".45", ls="--", label="pixels that no border touches")
        ax.plot(sizes["size"], sizes.kept, "o", color=PALETTE[0], label="singular values still equal to σ")
        ax.plot(sizes["size"], sizes.lowest, "s-", color=PALETTE[1], ms=5, label="smallest singular value / σ")
        ax.set_ylim(0, 1.02)
        ax.set_xticks(sizes["size"])
        ax.set_xlabel("side of the feature map")
        ax.set_title(title, loc="left")
        ax.legend(loc="lower right")
    return figure


def polar_convergence(errors: pd.DataFrame, title: str = "") -> Figure:
    """The distance from orthogonality after each step of some iterations, by steps and by matrix products.

    Columns: ``method``, ``step``, ``products``, ``error``.
    """
    with page_style():
        figure, axes = subplots(1, 2, (9.5, 3.7), sharey=True)
        for ax, what, label in zip(axes, ("step", "products"), ("steps", "matrix products"), strict=True):
            for i, (method, part) in enumerate(errors.groupby("method", sort=False)):
                done = part.error.to_numpy() < 1e-14  # beyond it is rounding
                part = part.iloc[: done.argmax() + 1] if done.any() else part
                ax.plot(
                    part[what],
                    part.error.clip(lower=1e-16),
                    color=PALETTE[i],
                    marker=MARKERS[i],
                    ms=5,
                    label=NAMES.get(method, method),
                )
            ax.set_yscale("log")
            ax.set_xlim(left=0)
            ax.set_xlabel(label)
        axes[0].set_ylabel("largest |singular value − 1|")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        headline(figure, title)
    return figure


def alternating(ranges: pd.DataFrame, title: str = "") -> Figure:
    """The largest distance of a singular value from the target against the number of projections.

    Columns: ``kernel``, ``passes``, ``lowest``, ``highest``.
    """
    with page_style():
        figure, ax = subplots(1, 1, (7.5, 4.0))
        for i, (name, part) in enumerate(ranges.groupby("kernel", sort=False)):
            distance = np.maximum(1 - part.lowest, part.highest - 1)
            ax.plot(part.passes, distance, color=PALETTE[i], marker=MARKERS[i], ms=5, label=name)
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_yscale("log")
        ax.set_xlim(left=0)
        _plain_numbers(ax.xaxis)
        ax.set_xlabel("projections")
        ax.set_ylabel("largest |singular value / σ − 1|")
        ax.set_title(title, loc="left")
        ax.legend(loc="lower left")
    return figure


def held(ranges: pd.DataFrame, title: str = "") -> Figure:
    """The range of the singular values over many steps of noise and projection, one band a kernel.

    Columns: ``kernel``, ``step``, ``lowest``, ``highest``.
    """
    with page_style():
        names = list(ranges.kernel.drop_duplicates())
        figure, axes = subplots(1, len(names), (9.5, 3.0), sharey=True, squeeze=False)
        for i, (ax, name) in enumerate(zip(axes[0], names, strict=True)):
            part = ranges[ranges.kernel == name]
            ax.fill_between(part.step, part.lowest, part.highest, color=PALETTE[i], alpha=0.35, lw=0)
            ax.plot(part.step, part.lowest, color=PALETTE[i], lw=1.2)
            ax.plot(part.step, part.highest, color=PALETTE[i], lw=1.2)
            ax.axhline(1, color=".35", lw=1)
            ax.set_title(name, loc="left")
            ax.set_xlabel("steps")
        axes[0][0].set_ylabel("singular value / σ")
        headline(figure, title)
    return figure


def transition_ratios(blocks: pd.DataFrame, title: str = "") -> Figure:
    """The gradient-norm ratio of the transitions over the epochs, one panel a transition, one line a run.

    Columns: ``run``, ``epoch``, ``block``, ``name``, ``kind``, ``log_ratio``.
    """
    with page_style():
        part = blocks[blocks.kind == "transition"]
        names = list(part.sort_values("block").name.drop_duplicates())
        figure, axes = subplots(1, len(names), (9.5, 3.1), sharey=True, squeeze=False)
        for ax, name in zip(axes[0], names, strict=True):
            ax.axhline(1, color=".35", lw=1)
            for i, (run, lines) in enumerate(part[part.name == name].groupby("run", sort=False)):
                ax.plot(lines.epoch, np.exp(lines.log_ratio), color=PALETTE[i], marker=MARKERS[i], ms=5, label=run)
            ax.set_yscale("log", base=2)
            _plain_numbers(ax.yaxis)
            ax.set_title(name, loc="left")
            ax.set_xticks(sorted(part.epoch.unique()))
            ax.set_xlabel("epoch")
        axes[0][0].set_ylabel("gradient-norm ratio")
        axes[0][-1].legend()
        headline(figure, title)
    return figure


def energy_spread(table: pd.DataFrame, title: str = "") -> Figure:
    """How much the share of gradient energy in a random row space varies with the number of input channels.

    Columns: ``gradients``, ``channels``, ``effective_rank``, ``sd``, ``predicted``.
    """
    with page_style():
        figure, ax = subplots(1, 1, (7.5, 3.9))
        for i, (name, part) in enumerate(table.groupby("gradients", sort=False)):
            label = f"{name} (effective rank {part.effective_rank.iloc[0]:.1f})"
            ax.plot(part.channels, part.sd, MARKERS[i], color=PALETTE[i], ms=6, label=label)
            shown = part[part.predicted > 0.001]
            ax.plot(shown.channels, shown.predicted, "-", color=PALETTE[i], lw=1.2)
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(table.channels.unique()))
        _plain_numbers(ax.xaxis)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("input channels c")
        ax.set_ylabel("standard deviation over kernels,\nrelative to c/d")
        ax.set_title(title, loc="left")
        ax.legend()
    return figure


def cost(table: pd.DataFrame, title: str = "") -> Figure:
    """Seconds of one projection against the number of channels, with a cubic for the eye.

    Columns: ``channels``, and one column of seconds for each variant; empty where it was not measured.
    """
    with page_style():
        figure, ax = subplots(1, 1, (6.8, 3.8))
        for i, name in enumerate(c for c in table.columns if c != "channels"):
            part = table[["channels", name]].dropna()
            ax.plot(part.channels, part[name], color=PALETTE[i], marker=MARKERS[i], ms=5, label=name)
            end = part.iloc[-1]
            x = np.array([end.channels / 4, end.channels])
            ax.plot(x, end[name] * (x / end.channels) ** 3, color=".45", ls=":", lw=1.4, zorder=1)
        ax.plot([], [], color=".45", ls=":", label="slope 3")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sorted(table.channels))
        _plain_numbers(ax.xaxis)
        ax.set_xlabel("input channels c, of a 3×3 kernel with 2c outputs")
        ax.set_ylabel("seconds")
        ax.set_title(title, loc="left")
        ax.legend()
    return figure


def overhead(table: pd.DataFrame, limit: float | None = None, title: str = "") -> Figure:
    """What some projections add to a training step, per cent, on a logarithmic scale.

    Columns: ``variant``, ``percent``.  ``limit`` draws a line, the paper's figure.
    """
    with page_style():
        figure, ax = subplots(1, 1, (7.5, 0.55 * len(table) + 1.2))
        rows = np.arange(len(table))
        ax.barh(rows, table.percent, color=PALETTE[0], height=0.6)
        for row, value in zip(rows, table.percent, strict=True):
            ax.text(value * 1.15, row, f"{value:.2g} %" if value < 100 else f"{value:.0f} %", va="center", fontsize=9)
        ax.set_xscale("log")
        ax.set_xlim(table.percent.min() / 3, table.percent.max() * 6)
        ax.set_yticks(rows, table.variant)
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        if limit is not None:
            ax.axvline(limit, color=PALETTE[3], ls="--", lw=1.3)
            ax.text(limit * 1.1, -0.55, f"the paper's {limit:g} %", color=PALETTE[3], fontsize=9, va="bottom")
        ax.set_xlabel("per cent of a training step")
        ax.set_title(title, loc="left")
    return figure
