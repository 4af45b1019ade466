"""Interventions on a ProcResNet's transitions, drawn: what becomes of the error, seed by seed."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from paperlib.figures._style import PALETTE, WIDTH, look, panels

SIDE = 0.13  # how far beside a mean its seeds are drawn, of the distance between two places


def _row(ax: Axes, places: dict[str, float], pairs: pd.DataFrame, means: pd.DataFrame, step: float, i: int) -> None:
    """One setting's interventions: a faint mark for each seed, and beside it the mean with its interval."""
    style = look(i) | {"ls": "", "zorder": 3}
    shift = 2.5 * SIDE * i
    for label, rows in pairs.groupby("label", sort=False):
        at = [_beside(places[label], SIDE + shift, step)] * len(rows)
        ax.plot(at, rows["error"], **style | {"ms": 4, "alpha": 0.45, "mew": 0})
    for row in means.itertuples():
        x = _beside(places[row.label], shift, step)
        if row.low == row.low:
            ax.plot([x, x], [row.low, row.high], color=style["color"], lw=2, solid_capstyle="round")
        ax.plot([x], [row.mean], **style | {"ms": 7})


def _beside(x: float, shift: float, step: float) -> float:
    """A place a little to the right of ``x``: on a logarithmic axis, where ``step`` is a factor, or on a plain one."""
    return x * step**shift if step != 1 else x + shift


def paired_differences(pairs: pd.DataFrame, means: pd.DataFrame, title: str = "") -> Figure:
    """By how much interventions change the test error, against the same seed's network that is held at the target.

    Above all three transitions are held at a factor of the target; below is everything else.  Small marks
    are seeds, large ones means with their interval.  Above 0 the intervention does harm.  Each setting has a colour.

    Parameters
    ----------
    pairs : DataFrame
        One row per run and columns ``setting``, ``label``, ``way``, ``at``, ``factor``, ``error`` (points).
    means : DataFrame
        One row per setting and intervention and columns ``setting``, ``label``, ``way``, ``at``, ``factor``, ``mean``,
        ``low``, ``high`` (points; NaN: no interval).
    title : str
        Stands over the plot.

    Returns
    -------
    Figure
        Two panels.
    """
    settings = list(dict.fromkeys(pairs["setting"]))
    dosed = {name: (table["way"] == "held") & (table["at"] == "all") for name, table in (("p", pairs), ("m", means))}
    rest = list(dict.fromkeys(pairs[~dosed["p"]]["label"]))
    with panels(2, 1, (WIDTH, 5.6), title, sharey=True) as (figure, axes):
        dose, other = axes[:, 0]
        factors = {row.label: float(row.factor) for row in pairs[dosed["p"]].itertuples()}
        places = {label: float(i) for i, label in enumerate(rest)}
        for i, setting in enumerate(settings):
            ours, theirs = pairs["setting"] == setting, means["setting"] == setting
            _row(dose, factors, pairs[ours & dosed["p"]], means[theirs & dosed["m"]], 2**0.5, i)
            _row(other, places, pairs[ours & ~dosed["p"]], means[theirs & ~dosed["m"]], 1, i)
            dose.plot([], [], **look(i) | {"ls": "", "label": setting})
        _dress(dose, other, sorted({1.0, *factors.values()}), rest)
        if len(settings) > 1:
            figure.legend(*dose.get_legend_handles_labels(), loc="outside lower left", fontsize=9)
    return figure


def _dress(dose: Axes, other: Axes, factors: list[float], labels: list[str]) -> None:
    """Axes, ticks and the line at 0."""
    for ax in (dose, other):
        ax.axhline(0, color=".35", lw=1, zorder=1)
    dose.plot([1], [0], marker="D", color=PALETTE[7], ms=6, zorder=4)
    dose.set_xscale("log")
    dose.set_xlim(factors[0] / 1.35, factors[-1] * 1.5)
    dose.xaxis.set_major_locator(FixedLocator(factors))
    dose.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    dose.xaxis.set_minor_locator(NullLocator())
    dose.set_xlabel("factor on the target (diamond: the baseline)")
    for ax in (dose, other):
        ax.set_ylabel("test error minus\nthe baseline's, points")
    dose.set_title("All three transitions at a factor", loc="left")
    other.set_xlim(-0.5, max(len(labels), 1) - 0.3)
    other.set_xticks(range(len(labels)), [_broken(label) for label in labels], fontsize=9)
    other.set_title("Other interventions", loc="left")
    if not labels:
        other.text(0.5, 0.6, "none on record", transform=other.transAxes, ha="center", color=".4")


def _broken(label: str) -> str:
    """A label in two lines where its factor, or its last word, goes into a second one."""
    first, _, factor = label.partition(" × ")
    return f"{first}\n× {factor}" if factor else label.replace(" ", "\n", 1)
