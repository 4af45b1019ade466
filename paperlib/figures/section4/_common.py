"""What chapter 5's figures share: names, the axis of ratios, and panels without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from paperlib.figures._style import WIDTH as WIDTH
from paperlib.figures._style import factor_axis as factor_axis

TITLES = {"plain": "Plain", "resnet": "ResNet", "procresnet": "ProcResNet"}
DEPTHS = (20, 83, 164)
LIMIT = 8.0  # ratios beyond [1/LIMIT, LIMIT] are drawn at the edge
# One grey and marker for each of the three transitions.
TRANSITIONS: tuple[dict[str, Any], ...] = (
    {"color": ".1", "marker": "o", "ls": "-"},
    {"color": ".1", "marker": "s", "ls": "--"},
    {"color": ".1", "marker": "^", "ls": ":"},
)


def name(arch: str, depth: int) -> str:
    """``ProcResNet-166`` for ``"procresnet"`` and 164: it has two layers more than its base network."""
    return f"{TITLES[arch]}-{depth + 2 * (arch == 'procresnet')}"


def clipped(log_ratio: pd.Series) -> np.ndarray:
    """The ratios, those beyond the limits at the limits."""
    return np.clip(np.exp(log_ratio.astype(float)), 1 / LIMIT, LIMIT)


def ratio_axis(ax: Axes, low: float = 1 / LIMIT, high: float = LIMIT) -> None:
    """A logarithmic axis of ratios, with 1 in the middle of its labels."""
    ax.set_yscale("log", base=2)
    ax.set_ylim(low / 1.08, high * 1.08)
    ticks = [tick for tick in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if low / 1.01 <= tick <= high * 1.01]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def few_whole_numbers(ax: Axes, label: str) -> None:
    """A few whole numbers below a narrow panel."""
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel(label)


def nothing(ax: Axes, text: str = "no record yet") -> None:
    """Say in a panel that it has no data."""
    ax.text(0.5, 0.35, text, transform=ax.transAxes, ha="center", va="center", color=".4", fontsize=9)


def of(table: pd.DataFrame, arch: str, depth: int) -> pd.DataFrame:
    """The rows of one network."""
    return table[(table.arch == arch) & (table.depth == depth)]
