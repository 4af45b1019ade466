"""Chapter 6: a network's gradient-norm ratios before and after a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paperlib.figures._style import WIDTH, line_at_one, lines, panels, plain_numbers, whole_numbers


def before_and_after(layers: pd.DataFrame, title: str = "") -> Figure:
    """The gradient-norm ratio of each layer before a training and after it, a line for each kind of network.

    Columns: ``kind``, ``seed``, ``when`` ("before" or "after"), ``layer``, ``log_ratio``.  Lines are geometric means
    over the seeds, and bands reach one standard deviation to either side.
    """
    with panels(1, 2, (WIDTH, 4.3), title, sharey=True) as (figure, axes):
        for ax, when in zip(axes[0], ("before", "after"), strict=True):
            line_at_one(ax)
            for _, rows, style in lines(layers[layers.when == when], "kind"):
                by_layer = rows.groupby("layer").log_ratio
                mean, sd = by_layer.mean(), by_layer.std()
                ax.plot(mean.index, np.exp(mean), **style)
                ax.fill_between(mean.index, np.exp(mean - sd), np.exp(mean + sd), color=style["color"], alpha=0.2, lw=0)
            ax.set_yscale("log", base=2)
            plain_numbers(ax.yaxis)
            whole_numbers(ax.xaxis)
            ax.set_title(f"{when} training", loc="left")
            ax.set_xlabel("layer")
        axes[0][0].set_ylabel("gradient-norm ratio")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
