"""What trainings cost, drawn: time and memory over the depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from paperlib._text import plain
from paperlib.figures._style import WIDTH, look, panels


def costs(taken: pd.DataFrame, times: pd.DataFrame, memory: pd.DataFrame) -> Figure:
    """Time per image and memory over the depth: marks are runs on record, lines are predictions.

    Parameters
    ----------
    taken : DataFrame
        One row per run and columns ``kind`` (device and precision), ``depth``, ``milliseconds``, ``memory`` (GiB).
    times : DataFrame
        Columns ``kind``, ``depth``, ``milliseconds``.
    memory : DataFrame
        Columns ``kind``, ``batch``, ``depth``, ``memory`` (GiB).

    Returns
    -------
    Figure
        Two panels, both axes logarithmic.
    """
    kinds = list(dict.fromkeys([*times["kind"], *taken["kind"]]))
    depths = sorted({*taken["depth"], *times["depth"]})
    with panels(1, 2, (WIDTH, 3.9)) as (figure, axes):
        time, space = axes[0]
        for i, kind in enumerate(kinds):
            runs, line = taken[taken["kind"] == kind], times[times["kind"] == kind]
            style = look(i)
            time.plot(line["depth"], line["milliseconds"], color=style["color"], lw=1.2)
            for ax, column in ((time, "milliseconds"), (space, "memory")):
                label = plain(kind) if ax is time else None
                ax.plot(runs["depth"], runs[column], ls="", alpha=0.5, mew=0, label=label, **style)
        for (kind, batch), rows in memory.groupby(["kind", "batch"]):
            space.plot(rows["depth"], rows["memory"], color=look(kinds.index(kind))["color"], lw=1.2, zorder=1)
            end = (rows["depth"].iloc[-1], rows["memory"].iloc[-1])
            space.annotate(f"batch {batch}", end, (3, 0), textcoords="offset points", va="center", fontsize=8)
        _dress(time, "milliseconds per image", depths)
        _dress(space, "memory, GiB", depths)
        space.set_xlim(right=2.4 * depths[-1])  # room for the batches
        figure.legend(loc="outside lower left", fontsize=9, ncols=2)
    return figure


def _dress(ax: Axes, what: str, depths: list[int]) -> None:
    """Logarithmic axes with the depths that there are as ticks."""
    ax.set(xscale="log", yscale="log", xlabel="depth", ylabel=what)
    ax.xaxis.set_major_locator(FixedLocator(depths))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda depth, _: f"{depth:g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
