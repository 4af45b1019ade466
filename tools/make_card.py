"""Draw the picture that other sites show with a link to the book: python tools/make_card.py

It is book/_static/card.png, 1200 by 630 pixels: the title, and how the gradient's norm changes on its way back through
three trained networks, from the committed records that chapter 1 begins with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from paperlib.figures._style import ARCHITECTURES
from paperlib.records import Record, read_all
from paperlib.store import results_root

CARD = Path(__file__).resolve().parent.parent / "book" / "_static" / "card.png"
SIZE, DOTS = (12.0, 6.3), 100  # inches, and pixels an inch
NAMES = {"plain-164": "Plain-164", "resnet-164": "ResNet-164", "procresnet-166": "ProcResNet-166"}
INK, GROUND = "#1d2b33", "#fbfaf7"


def runs() -> list[Record]:
    """The first seed of each of the three networks, at the `desk` preset."""
    wanted = ("desk", "steps", 0)
    found = [r for r in read_all(results_root()) if r.network in NAMES and r.status == "finished"]
    return [r for r in found if (r.config.preset, r.config.schedule, r.config.seed) == wanted]


def norms(record: Record) -> pd.Series:
    """The gradient's norm before each block in the last epoch, over that behind the last block."""
    last = record.blocks[record.blocks.epoch == record.blocks.epoch.max()].sort_values("block", ascending=False)
    return pd.Series(np.exp(-last.log_ratio.cumsum().to_numpy()), index=last.block.to_numpy())


def draw() -> Figure:
    """The picture."""
    figure = Figure(figsize=SIZE, facecolor=GROUND)
    figure.text(0.055, 0.83, "Why residual networks can\nbecome extremely deep", size=38, weight="bold", color=INK,
                va="center", linespacing=1.25)  # fmt: skip
    figure.text(0.055, 0.655, "A book that runs, on norm preservation", size=21, color=INK, va="center")
    ax = figure.add_axes((0.11, 0.11, 0.835, 0.47), facecolor=GROUND)
    for record in runs():
        line = norms(record)
        ax.plot(line.index, line, color=ARCHITECTURES[record.config.arch], lw=4, label=NAMES[record.network])
    ax.set(yscale="log", xticks=[])
    ax.legend(loc="lower right", frameon=False, fontsize=17, labelcolor=INK)
    ax.set_xlabel("from the input to the loss", size=15, color=INK)
    ax.set_ylabel("gradient's norm", size=15, color=INK)
    ax.tick_params(labelsize=12, colors=INK)
    sns.despine(ax=ax)
    return figure


if __name__ == "__main__":
    draw().savefig(CARD, dpi=DOTS)
    print(f"{CARD.name} is drawn")
