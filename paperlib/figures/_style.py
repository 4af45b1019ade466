"""What the book's plots have in common: colours, type, and figures without pyplot's global state.

Colours are seaborn's colour-blind palette and one diverging map (purple below 1, white at 1, orange above); text is
dark on an opaque white ground, so that a figure reads the same on a light and on a dark page.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

DIVERGING = "PuOr_r"
PALETTE = sns.color_palette("colorblind", 10)
MARKERS = "osD^vPX"
_RC = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 110,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def subplots(rows: int, columns: int, size: tuple[float, float], layout: str | None = "constrained", **options):
    """As pyplot's, without its global list of figures: nothing to close, and a notebook shows a figure once."""
    figure = Figure(figsize=size, layout=layout)
    return figure, figure.subplots(rows, columns, **options)


def headline(figure: Figure, title: str) -> None:
    """A title over several panels, as an axes' own title looks; nothing if it is empty."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def marked_line(ax: Axes, i: int, x: Any, y: Any, label: str, **options: Any) -> None:
    """The i-th line of a panel, told apart by its colour and by its marker."""
    ax.plot(x, y, **{"color": PALETTE[i], "marker": MARKERS[i], "ms": 5, "label": label} | options)


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis at its major ticks only, with numbers rather than powers."""
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    with mpl.rc_context(), sns.axes_style("whitegrid", {"grid.color": ".92"}), mpl.rc_context(_RC):
        yield
