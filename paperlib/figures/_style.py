"""What the book's plots have in common: colours, type, axes, and figures without pyplot's global state.

Colours are seaborn's colour-blind palette and one diverging map (purple below 1, white at 1, orange above).  A figure
is as wide as the book's column at most and has two dots for each of a page's pixels.  Nothing is drawn behind it: its
text is dark, and the book inverts its lightness on a dark page.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, ScalarFormatter

from paperlib import _checks
from paperlib._text import plain

DIVERGING = "PuOr_r"
PALETTE = sns.color_palette("colorblind", 10)
MARKERS = "osD^vPX*"
ARCHITECTURES = {"plain": PALETTE[3], "resnet": PALETTE[0], "procresnet": PALETTE[2]}
"""The colour of each architecture, the same wherever they are compared."""
WIDTH = 7.0
"""How wide a figure may be, in inches: at 96 dots an inch, that of the book's column."""
_DOTS = 192
_RC: dict[Any, Any] = {
    "figure.dpi": _DOTS,
    "savefig.dpi": "figure",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_GRID = {"grid.color": "#80808033"}  # of a grey and translucent: as faint on a dark page as on a light one


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """Within it, matplotlib draws in the book's style."""
    with mpl.rc_context(), sns.axes_style("whitegrid", _GRID), mpl.rc_context(_RC):
        yield


def subplots(
    rows: int, columns: int, size: tuple[float, float], layout: Any = "constrained", **options: Any
) -> tuple[Figure, Any]:
    """As pyplot's, without its global list of figures: nothing to close, and a notebook shows a figure once.

    Raises ``ValueError`` for a figure that is wider than the book's column.
    """
    if size[0] > WIDTH:
        raise ValueError(
            f"size must be at most {WIDTH:g} inches wide, as the book's column is, and is {size[0]:g}: stack the panels"
        )
    figure = Figure(figsize=size, layout=layout)
    return figure, figure.subplots(rows, columns, **options)


def headline(figure: Figure, title: str) -> None:
    """Write a title over several panels, as an axes' own title looks; nothing if it is empty."""
    if _checks.instance("title", title, str, "a text"):
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


@contextlib.contextmanager
def panel(size: tuple[float, float], title: str = "") -> Iterator[tuple[Figure, Axes]]:
    """Begin a figure of one panel in the book's style.  ``size`` is in inches."""
    with page_style():
        figure, ax = subplots(1, 1, size)
        ax.set_title(_checks.instance("title", title, str, "a text"), loc="left")
        yield figure, ax


@contextlib.contextmanager
def panels(
    rows: int, columns: int, size: tuple[float, float], title: str = "", **options: Any
) -> Iterator[tuple[Figure, Any]]:
    """Begin a figure of several panels in the book's style; their axes come as an array ``(rows, columns)``."""
    with page_style():
        figure, axes = subplots(rows, columns, size, squeeze=False, **options)
        headline(figure, title)
        yield figure, axes


def look(i: int) -> dict[str, Any]:
    """The colour and the marker of the i-th line."""
    return {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "ms": 5}


def marked_line(ax: Axes, i: int, x: Any, y: Any, label: str, **options: Any) -> None:
    """Draw the i-th line of a panel, told apart by its colour and by its marker."""
    ax.plot(x, y, **look(i) | {"label": label} | options)


def lines(table: pd.DataFrame, by: str) -> Iterator[tuple[Any, pd.DataFrame, dict[str, Any]]]:
    """The groups of a table in their order, each with its name and with how to draw it, label included."""
    for i, (name, rows) in enumerate(table.groupby(by, sort=False)):
        yield name, rows, look(i) | {"label": name}


def verbatim(name: str) -> str:
    """A block's name as text: in one line, with spaces for underscores, and without mathematics."""
    return plain(name).replace("_", " ").replace("$", r"\$")


def line_at_one(ax: Axes, **options: Any) -> None:
    """Draw a horizontal line at 1, where a norm is kept."""
    ax.axhline(1, **{"color": ".35", "lw": 1, **options})


def whole_numbers(axis: Axis) -> None:
    """Put ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True))


def plain_numbers(axis: Axis) -> None:
    """Write 16 rather than 2⁴ at the ticks of a logarithmic axis."""
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def factor_axis(axis: Axis, *further: float) -> None:
    """A logarithmic axis of factors from 1 on, with ticks at ``further`` ones."""
    axis.set_major_locator(FixedLocator(sorted([1, 1.5, 2, 3, 4, 6, 8, 16, 64, *further])))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())
